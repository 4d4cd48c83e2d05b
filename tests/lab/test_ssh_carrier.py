"""The way by ssh over a real sshd: whoever logs in, with whatever shell, and however it ends."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

CONNECT = """
import json, sys, time
from netdiag.carrier.ssh import connect
from netdiag.errors import NetdiagError
from netdiag.model.wire import Request, values_from_answer
asked = json.loads(sys.argv[1])
told, start_s = {}, time.monotonic()
try:
    carrier = connect(asked["to"], options=asked["options"], greet_s=asked["greet_s"])
    told = {"up_s": time.monotonic() - start_s, "is_root": carrier.is_root, "restriction": carrier.restriction}
    for round in asked["rounds"]:
        start_s = time.monotonic()
        answers = carrier.ask([Request(verb, params, timeout_s) for verb, params, timeout_s in round])
        told.setdefault("answers", []).append([values_from_answer(each) for each in answers])
        told.setdefault("round_s", []).append(time.monotonic() - start_s)
        print("round", flush=True)
    start_s = time.monotonic()
    carrier.close()
    told["close_s"] = time.monotonic() - start_s
    told["stdin"] = sys.stdin.read() if asked["read"] else ""
except NetdiagError as error:
    told |= {"error": type(error).__name__, "text": str(error), "up_s": time.monotonic() - start_s}
print(json.dumps(told))
"""


def command(to, *rounds, options=(), greet_s=15.0, read=False):
    asked = {"to": to, "rounds": rounds, "options": options, "greet_s": greet_s, "read": read}
    return [sys.executable, "-c", CONNECT, json.dumps(asked)]


def connect(host, to, *rounds, stdin="", **kwargs):
    """Connect from a host, ask rounds of (verb, params, timeout_s), close; what came of it."""
    done = host.exec(command(to, *rounds, read=bool(stdin), **kwargs), stdin=stdin, timeout_s=60)
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refused(host, to, **kwargs):
    told = connect(host, to, **kwargs)
    assert told.get("error") == "CarrierError", told
    assert told["text"].isprintable()
    return told["text"]


PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
IDENTITY = ["identity", {}, 5.0]
LINKS = ["netlink-dump", {"type": 18}, 5.0]
TRACE = ["firewall-trace", {}, 5.0]


def sessions(host):
    """What a log-in has started on a host: sshd's own children, shells and interpreters."""
    lines = host.exec(["ps", "-ww", "-e", "-o", "args="]).stdout.splitlines()
    return [
        line
        for line in lines
        if "netdiag-ready" in line or (line.startswith(("sshd: ", "ssh ")) and "listener" not in line)
    ]


def nobody_left(*hosts):
    until(lambda: not any(sessions(host) for host in hosts), 10.0, "the end of every session")


@pytest.fixture
def account(ssh_pair):
    """Makes accounts on the second host; they and their files go with the test."""
    _, two = ssh_pair
    made = []

    def make(name, shell="/bin/sh", files=None, sudo=""):
        two.exec(["useradd", "-m", "-s", shell, "-p", "*", name])
        made.append(name)
        for path, text in (files or {}).items():
            two.exec(["su", "-s", "/bin/sh", "-c", f"mkdir -p $(dirname ~/{path}) && cat >~/{path}", name], stdin=text)
        if sudo:
            two.exec(["tee", f"/etc/sudoers.d/{name}"], stdin=f"{name} {sudo}\n")
        return f"{name}@two"

    yield make
    for name in made:
        two.exec(["rm", "-f", f"/etc/sudoers.d/{name}"])
        two.exec(["userdel", "-f", "-r", name], check=False)


@pytest.mark.parametrize("to", ["two", "root@10.71.0.2", "ssh://root@two:22"])
def test_root_asks_everything_and_leaves_nothing(to, ssh_pair):
    one, two = ssh_pair
    files = ["find", "/", "-xdev", "-newer", "/tmp/before", "-not", "-path", "/proc/*"]
    two.exec(["touch", "/tmp/before"])
    before = two.exec(files, check=False).stdout
    told = connect(one, to, [IDENTITY, LINKS], stdin="typed by the operator\n")
    assert told["is_root"]
    assert told["restriction"] == ""
    identity, links = told["answers"][0]
    assert identity["data"]["hostname"] == "two"
    assert links["data"]["messages"]
    # What the operator has typed is still there to be read: ssh has not taken it.
    assert told["stdin"] == "typed by the operator\n"
    assert told["close_s"] < 1.0
    nobody_left(one, two)
    after = two.exec(files, check=False).stdout
    assert set(after.splitlines()) - set(before.splitlines()) <= {"/var/log/lastlog", "/var/log/wtmp", "/run/utmp"}


def test_an_address_of_ipv6(ssh_pair):
    one, two = ssh_pair
    for host, number in ((one, 1), (two, 2)):
        host.exec(["ip", "addr", "add", f"fd71::{number}/64", "dev", "eth0", "nodad"])
    try:
        options = [
            "-o",
            "HostKeyAlias=two",
            "-i",
            "/root/.ssh/lab_two",
            "-o",
            "UserKnownHostsFile=/etc/ssh/lab_two.known_hosts",
        ]
        for to in ("root@fd71::2", "[fd71::2]:22"):
            assert connect(one, to, [IDENTITY], options=options)["answers"][0][0]["data"]["hostname"] == "two"
    finally:
        for host, number in ((one, 1), (two, 2)):
            host.exec(["ip", "addr", "del", f"fd71::{number}/64", "dev", "eth0"])


EVERYTHING = """
import json, sys, time
import msgspec
from netdiag.carrier.ssh import connect
from netdiag.facts.context import Options
from netdiag.facts.trace_wanted import Wanted
from netdiag.host.collect import collect
from netdiag.host.trace import trace
from netdiag.model.trace import TracePath
wanted = Wanted(path=TracePath.IN, source="10.71.0.1", protocol="tcp", destination_port=9000)
with connect("two") as carrier:
    facts = collect(carrier, now_s=time.time(), options=Options())
    found = trace(carrier, wanted, now_s=time.time(), options=Options())
sections = msgspec.to_builtins(facts)
absent = {name: each["absent"] for name, each in sections.items() if isinstance(each, dict) and each.get("absent")}
print(json.dumps({"host": facts.identity.value.hostname, "absent": absent, "trace": msgspec.to_builtins(found)}))
"""


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"])
def test_facts_and_the_deciding_rule_whatever_python_is_there(version, ssh_pair, pair_lab):
    one, two = ssh_pair
    found = sorted(PYENV.glob(f"{version}.*"))
    if not found or not two.path(str(PYENV)).is_dir():
        pytest.skip(f"no Python {version} below {PYENV} on this machine, or a lab host does not have that directory")
    pair_lab.break_("drop", host="two", proto="tcp", dport=9000)
    two.exec(["ln", "-s", f"{found[0]}/bin/python3", "/usr/local/bin/python3"])
    try:
        identity = connect(one, "two", [IDENTITY])["answers"][0][0]["data"]
        assert identity["python"] == found[0].name
        told = json.loads(one.exec([sys.executable, "-c", EVERYTHING], timeout_s=60).stdout)
    finally:
        two.exec(["rm", "/usr/local/bin/python3"])
    assert told["host"] == "two"
    # A host of this lab has no engine; whatever else is absent would be the interpreter's doing.
    assert {name for name, absent in told["absent"].items() if absent["kind"] in ("failed", "timeout")} == set()
    assert told["trace"]["verdict"] == "drop"
    assert "--dport 9000 -j DROP" in told["trace"]["rule"]["text"]
    nobody_left(one, two)


# ---- who logs in


def test_who_is_not_root_is_told_what_that_costs(ssh_pair, account):
    one, _ = ssh_pair
    told = connect(one, account("plain"), [IDENTITY, LINKS, TRACE])
    assert not told["is_root"]
    assert told["restriction"].startswith("plain@two: not root there: no rule is traced, and other namespaces are not")
    assert "ssh:root@two" in told["restriction"]
    identity, links, trace = told["answers"][0]
    assert identity["data"]["euid"] != 0
    assert links["data"]["messages"]
    assert trace["error"]


@pytest.mark.parametrize("rights", ["ALL=(ALL:ALL) NOPASSWD: ALL", "ALL=(root) NOPASSWD: /usr/bin/python3"])
def test_a_sudo_that_asks_nothing_makes_root(rights, ssh_pair, account):
    one, two = ssh_pair
    told = connect(one, account("free", sudo=rights), [IDENTITY])
    assert told["is_root"]
    assert told["answers"][0][0]["data"]["euid"] == 0
    nobody_left(one, two)


@pytest.mark.parametrize("rights", ["ALL=(ALL:ALL) ALL", "ALL=(root) NOPASSWD: /usr/bin/id"])
def test_a_sudo_that_would_ask_is_not_waited_for(rights, ssh_pair, account):
    one, _ = ssh_pair
    told = connect(one, account("asked", sudo=rights), [IDENTITY])
    assert not told["is_root"]
    assert "sudo" in told["restriction"]
    assert told["up_s"] < 5.0


NOISE = 'echo "Welcome to two"; printf "no line end"; echo "on the other stream" >&2\n'


@pytest.mark.parametrize(
    ("shell", "files"),
    [
        ("/bin/sh", {}),
        ("/bin/bash", {".bashrc": NOISE}),
        ("/usr/bin/bsd-csh", {".cshrc": 'echo "Welcome to two"; set history = 100\n'}),
        ("/usr/bin/fish", {".config/fish/config.fish": NOISE}),
    ],
)
def test_every_login_shell_and_whatever_it_prints(shell, files, ssh_pair, account):
    one, two = ssh_pair
    told = connect(one, account("shell", shell, files), [IDENTITY, LINKS])
    assert "data" in told["answers"][0][1], told
    nobody_left(one, two)


def test_start_up_files_that_wait_for_something(ssh_pair, account):
    one, two = ssh_pair
    to = account("waits", "/bin/bash", {".bashrc": 'echo "Your project?"; read project\n'})
    text = refused(one, to, greet_s=3.0)
    assert text == (
        "waits@two: nothing runs there yet (it says: Your project?): it is slow, or its login shell or ForceCommand waits"
        " for something"
    )
    nobody_left(one, two)


def test_shells_and_commands_that_run_nothing(ssh_pair, account):
    one, two = ssh_pair
    assert "not available" in refused(one, account("locked", "/usr/sbin/nologin"))
    to = account("restricted", "/bin/rbash")
    assert "restricted" in refused(one, to)
    key = one.path("/root/.ssh/lab_two.pub").read_text().strip()
    forced = {".ssh/authorized_keys": f'command="echo only backups here" {key}\n'}
    assert refused(one, account("forced", files=forced)) == (
        "forced@two: it does not run what it is asked: it says 'only backups here': its login shell or a ForceCommand may"
        " forbid it"
    )
    files = {".ssh/authorized_keys": f'command="internal-sftp" {key}\n'}
    refused(one, account("files", files=files), greet_s=3.0)
    passed_on = {".ssh/authorized_keys": f'command="exec sh -c \\"$SSH_ORIGINAL_COMMAND\\"" {key}\n'}
    assert connect(one, account("wrapped", files=passed_on), [IDENTITY])["answers"][0][0]["data"]["hostname"] == "two"
    nobody_left(one, two)


# ---- why it does not come about


def test_keys_of_the_host_that_are_unknown_or_changed(ssh_pair):
    one, two = ssh_pair
    known = one.path("/etc/ssh/lab_two.known_hosts")
    text = known.read_text()
    try:
        known.write_text("")
        assert "its host key is not known here: log in once by hand" in refused(one, "two")
        other = one.exec(["cat", "/root/.ssh/lab_two.pub"]).stdout.split()
        known.write_text(f"two,{two.address} {other[0]} {other[1]}\n")
        said = refused(one, "two")
        assert "Host key for 10.71.0.2 has changed" in said
        assert "ssh-keygen -R 10.71.0.2" in said
    finally:
        known.write_text(text)


def test_log_ins_that_are_refused(ssh_pair, pair_lab):
    one, _ = ssh_pair
    no_key = ["-o", "IdentitiesOnly=yes", "-o", "IdentityFile=/none"]
    assert "Permission denied (publickey" in refused(one, "stranger@two")
    assert "load the key (ssh-add)" in refused(
        one, "two", options=["-F", "none", *no_key, "-o", "StrictHostKeyChecking=no", "-o", "HostName=10.71.0.2"]
    )
    assert "no such name here" in refused(one, "no-such-host.invalid")
    assert "nothing takes connections at its ssh port" in refused(one, "two:2200")
    start_s = time.monotonic()
    pair_lab.break_("drop", host="two", proto="tcp", dport=22)
    assert "its ssh port cannot be reached from here" in refused(one, "two", options=["-o", "ConnectTimeout=2"])
    assert time.monotonic() - start_s < 8.0


def test_a_port_that_takes_connections_and_says_nothing(ssh_pair):
    one, two = ssh_pair
    silent = "import socket,time; s=socket.create_server(('', 2222)); print('up', flush=True); time.sleep(60)"
    listener = two.popen([sys.executable, "-c", silent])
    try:
        assert listener.stdout.readline() == "up\n"
        text = refused(one, "two:2222", options=["-o", "ConnectTimeout=2", "-o", "StrictHostKeyChecking=no"])
        assert "two:2222: " in text
        assert "timed out" in text
    finally:
        end_group(listener)


@pytest.mark.parametrize("there", [None, "2.7.18"])
def test_a_host_without_a_python_that_will_do(there, ssh_pair):
    one, two = ssh_pair
    hidden = two.exec(["sh", "-c", "ls -d /usr/bin/python3* /usr/local/bin/python* 2>/dev/null; true"]).stdout.split()
    old = f"{PYENV}/{there}/bin/python2.7"
    if there and not two.path(old).exists():
        pytest.skip(f"no Python {there} on this machine")
    try:
        for path in hidden:
            two.exec(["mv", path, f"{path}.hidden"])
        if there:
            two.exec(["ln", "-s", old, "/usr/bin/python3"])
        text = refused(one, "two")
        only = f" (only Python {there})" if there else ""
        assert text.startswith(f"two: no Python 3.6 or newer{only}: install one there (python3)")
    finally:
        if there:
            two.exec(["rm", "-f", "/usr/bin/python3"])
        for path in hidden:
            two.exec(["mv", f"{path}.hidden", path])


# ---- how it ends


@pytest.fixture
def silent(ssh_pair):
    """Makes a request that takes its whole time: a connection to an address of which nothing comes back."""
    _, two = ssh_pair
    two.exec(["ip", "route", "add", "198.51.100.0/24", "dev", "eth0"])
    two.exec(["ip", "neigh", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
    yield lambda timeout_s: ["tcp-connect", {"address": "198.51.100.1", "port": 9}, timeout_s]
    two.exec(["ip", "neigh", "del", "198.51.100.1", "dev", "eth0"])
    two.exec(["ip", "route", "del", "198.51.100.0/24", "dev", "eth0"])


def test_a_session_that_is_killed_answers_with_errors_at_once(ssh_pair, silent):
    one, two = ssh_pair
    for victim in ("netdiag-ready", "sshd: root@notty"):
        asking = one.popen(command("two", [IDENTITY], [silent(20.0)] * 2, [IDENTITY]))
        try:
            assert asking.stdout.readline() == "round\n"
            start_s = time.monotonic()
            two.exec(["pkill", "-9", "-f", "--", victim])
            told = json.loads(asking.communicate(timeout=30)[0].splitlines()[-1])
        finally:
            end_group(asking)
        assert time.monotonic() - start_s < 8.0
        for answer in (*told["answers"][1], *told["answers"][2]):
            assert "connection" in answer["error"]["text"], answer
        assert told["close_s"] < 1.5
        nobody_left(one, two)


def test_a_network_that_is_cut_hangs_nobody_and_leaves_nobody(ssh_pair, silent, pair_lab):
    one, two = ssh_pair
    asking = one.popen(command("two", [IDENTITY], [silent(3.0)], [["clock", {}, 1.0]] * 3, [IDENTITY]))
    try:
        assert asking.stdout.readline() == "round\n"
        pair_lab.break_("link-down", host="two", side="fabric")
        told = json.loads(asking.communicate(timeout=60)[0].splitlines()[-1])
    finally:
        end_group(asking)
    assert all("error" in answer for answers in told["answers"][1:] for answer in answers), told
    assert told["close_s"] < 2.5
    until(lambda: not sessions(one), 5.0, "the end of ssh here")
    # Nobody can tell the other side: it ends by itself, as its requester pings no more.
    until(lambda: not any("netdiag-ready" in line for line in sessions(two)), 40.0, "the participant's end")


def test_masters_of_connections_are_used_and_never_made(ssh_pair):
    one, two = ssh_pair
    shared = ["-o", "ControlMaster=auto", "-o", "ControlPath=/tmp/master-%h", "-o", "ControlPersist=60"]
    configuration = one.path("/etc/ssh/ssh_config.d/shared.conf")
    configuration.write_text("ControlMaster auto\nControlPath /tmp/master-%h\nControlPersist 60\nForwardAgent yes\n")
    try:
        alone = connect(one, "two", [IDENTITY])
        assert alone["answers"][0][0]["data"]["hostname"] == "two"
        nobody_left(one, two)
        one.exec(["ssh", *shared, "-fN", "two"])
        with_master = connect(one, "two", [IDENTITY])
        assert with_master["answers"][0][0]["data"]["hostname"] == "two"
        assert len([line for line in sessions(two) if "notty" in line]) <= 1
        assert not any("netdiag-ready" in line for line in sessions(two))
    finally:
        configuration.unlink()
        one.exec(["ssh", *shared, "-O", "exit", "two"], check=False)
        with contextlib.suppress(OSError):
            one.path("/tmp/master-10.71.0.2").unlink()
    nobody_left(one, two)


def test_the_greeting_comes_soon(ssh_pair):
    one, _ = ssh_pair
    assert min(connect(one, "two")["up_s"] for _ in range(3)) < 2.0
