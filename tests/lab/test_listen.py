"""`netdiag listen` between two hosts, as two operators would use it."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from netdiag.errors import LabError
from netdiag.lab.host import end_group
from netdiag.lab.process import until

KILLS = int(os.environ.get("NETDIAG_KILLS", "12"))

ASKS = """
import json, os, sys, time
from netdiag.carrier.listen import open_listen
from netdiag.cli.key_input import read_key
from netdiag.host.collect import collect
from netdiag.model.wire import Request
requests = [Request(verb, params) for verb, params in json.loads(sys.argv[2])]
def show(line):
    print(line, flush=True)
def say(text):
    print(text, file=sys.stderr, flush=True)
with open_listen(sys.argv[1], read_key=read_key, confirm=lambda question: True, show=show, say=say, seconds=20) as carrier:
    start_s = time.monotonic()
    if requests:
        answers = carrier.ask(requests)
        print(json.dumps([answer.error.text if answer.error else "ok" for answer in answers]), flush=True)
        time.sleep(float(os.environ.get("STAY_S", "0")))
    else:
        facts = collect(carrier, now_s=0.0)
        print(json.dumps({
            "hostname": facts.identity.value.hostname, "root": carrier.is_root, "took_s": time.monotonic() - start_s,
            "addresses": [str(address) for address in facts.addresses.value["host"]],
            "firewall": facts.firewall.value is not None,
        }), flush=True)
"""


class Listening:
    """`netdiag listen` on a host, until it has printed its line."""

    def __init__(self, host, *words):
        self.host = host
        self.process = host.popen(["netdiag", "listen", *words])
        self.line = self.process.stdout.readline()
        assert self.line, self.process.stderr.read()
        self.key = re.search(r"NETDIAG_KEY=(\S+)", self.line).group(1)
        self.where = self.line.split("listen:")[-1].strip()
        self.port = int(self.where.rpartition(":")[2])

    def interrupt(self):
        """Ctrl-C, for netdiag and not for the nsenter that waits for it."""
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGINT)

    def end(self):
        """Its exit code and what it said."""
        out, err = self.process.communicate(timeout=20)
        assert "Traceback" not in err
        assert self.key not in out + err
        return self.process.returncode, err


@pytest.fixture
def listening():
    running = []

    def start(*words):
        running.append(Listening(*words))
        return running[-1]

    yield start
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            end_group(one.process)


def asks(host, where, key="", requests=(), **env):
    """Ask from a host; what it prints."""
    return host.popen(
        [sys.executable, "-c", ASKS, where, json.dumps(list(requests))],
        env={**({"NETDIAG_KEY": key} if key else {}), **env},
    )


def outcome(process):
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def listeners(host):
    return host.exec(["ss", "-Htlnp"]).stdout


@pytest.fixture
def hosts(pair_lab):
    return pair_lab.host("one"), pair_lab.host("two")


def test_the_other_host_asks(hosts, listening):
    one, two = hosts
    server = listening(one, "--peer", two.address, "--port", "4444")
    assert server.line == (
        f"NETDIAG_KEY={server.key} netdiag diagnose SOURCE DESTINATION --via listen:{one.address}:4444\n"
    )
    assert "10.71.0.1:4444" in listeners(one)
    found = outcome(asks(two, server.where, server.key))
    assert found["hostname"] == "one"
    assert found["root"]
    assert found["firewall"]
    assert any(one.address in address for address in found["addresses"])
    assert found["took_s"] < 3
    code, said = server.end()
    assert code == 0
    assert f"{two.address} has proven that it knows the key" in said
    assert "ended: the peer has ended" in said
    assert listeners(one) == ""


def test_the_question_is_here_and_the_other_host_dials(hosts):
    """The line that one side prints is run on the other exactly as it is."""
    one, two = hosts
    asker = asks(one, two.address)
    line = asker.stdout.readline().strip()
    assert re.fullmatch(rf"NETDIAG_KEY=ndk1-\S+ netdiag listen --dial {one.address}:\d+", line)
    served = two.exec(["sh", "-c", line])
    assert outcome(asker)["hostname"] == "two"
    assert "it asks from now on" in served.stderr
    assert line.split()[0].partition("=")[2] not in served.stdout + served.stderr
    assert listeners(one) == ""


def test_the_key_may_come_from_a_file(hosts):
    one, two = hosts
    asker = asks(one, two.address)
    line = asker.stdout.readline().strip()
    key, where = line.split()[0].partition("=")[2], line.split()[-1]
    served = two.exec(["netdiag", "listen", "--dial", where, "--key-file", "-"], stdin=key + "\n")
    assert outcome(asker)["hostname"] == "two"
    assert key not in served.stdout + served.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give --peer ADDR (the other host) or --bind ADDR"),
        (["--peer", "10.71.0.2"], "unless asked: give --bind 10.71.0.1 (it leads to 10.71.0.2) or --port N"),
        (["--peer", "203.0.113.1"], "no route leads there"),
        (["--peer", "no.such.name.invalid"], "--peer no.such.name.invalid"),
        (["--bind", "10.71.0.99"], "listen on 10.71.0.99 port 0: Cannot assign requested address"),
        (["--bind", "here"], "--bind here: give an address of this host"),
        (["--bind", "0.0.0.0"], "give --peer ADDR as well"),
        (["--bind", "10.71.0.1", "--port", "70000"], "70000 is not in the range 1<=x<=65535"),
        (["--bind", "10.71.0.1", "--reach", "everywhere"], "--reach everywhere"),
        (["--dial", "10.71.0.2"], "--dial 10.71.0.2: give ADDR:PORT"),
        (["--dial", "10.71.0.2:99999"], "give ADDR:PORT"),
        (["--dial", "10.71.0.2:1", "--port", "5"], "either dials or listens"),
        (["--dial", "10.71.0.2:1"], "no key: set NETDIAG_KEY"),
        (["--dial", "10.71.0.2:1", "--key-file", "/no/such"], "--key-file /no/such: No such file or directory"),
        (["--dial", "10.71.0.2:1", "--key-file", "/etc/hostname"], "no key of netdiag listen"),
        (["--bind", "10.71.0.1", "--key-file", "x"], "who listens makes the key"),
        (["--bind", "10.71.0.1", "--for", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_listens_nowhere(hosts, words, says):
    one, _ = hosts
    result = one.exec(["netdiag", "listen", *words], check=False)
    assert result.returncode == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert listeners(one) == ""


@pytest.mark.parametrize(
    ("reason", "says"),
    [("nobody", "connect to port 4445: Connection refused"), ("key", "another certificate than the key says")],
)
def test_dialling_in_vain(hosts, listening, reason, says):
    one, two = hosts
    key = listening(one, "--bind", "127.0.0.1").key
    if reason == "key":
        listening(one, "--bind", one.address, "--port", "4445")
    result = two.exec(["netdiag", "listen", "--dial", f"{one.address}:4445"], env={"NETDIAG_KEY": key}, check=False)
    assert result.returncode == 1
    assert says in result.stderr
    assert key not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nobody_comes(hosts, listening):
    one, _ = hosts
    code, said = listening(one, "--bind", one.address, "--for", "1").end()
    assert code == 1
    assert "nobody came with the key within 1 s; if the other host could not connect, this port may be filtered" in said


def test_ctrl_c_ends_it(hosts, listening):
    one, two = hosts
    waiting = listening(one, "--bind", one.address, "--port", "4446")
    waiting.interrupt()
    code, said = waiting.end()
    assert code == 130
    assert said.endswith("netdiag: interrupted\n")
    serving = listening(one, "--bind", one.address, "--port", "4446")
    peer = asks(two, serving.where, serving.key, [("clock", {})], STAY_S="20")
    assert json.loads(peer.stdout.readline()) == ["ok"]
    serving.interrupt()
    assert serving.end()[0] == 130
    assert "4446" not in one.exec(["ss", "-Htanp", "state", "established"]).stdout
    end_group(peer)


def test_only_flows_of_this_host_and_of_its_containers_networks(hosts, listening):
    """A namespace of the host's with a network of its own stands for a container."""
    one, two = hosts
    one.exec(["sh", "-ec", "ip netns add box; ip link add nd0 type veth peer name nd1 netns box"])
    try:
        one.exec(["ip", "-n", "box", "addr", "add", "10.88.0.5/24", "dev", "nd1"])
        one.exec(["sh", "-ec", "ip -n box link set nd1 up; ip link set nd0 up"])
        box = "/run/netns/box"
        server = listening(one, "--peer", two.address, "--port", "4447")
        requests = [
            ("tcp-connect", {"address": "10.88.0.9", "port": 80, "netns": box}),
            ("tcp-connect", {"address": two.address, "port": 80}),
            ("capture-start", {"points": [flow("nd1", "10.88.0.5", "198.51.100.1", box)], "seconds": 1}),
            ("capture-start", {"points": [flow("eth0", "10.88.0.5", "198.51.100.1")], "seconds": 1}),
            ("tcp-connect", {"address": "10.71.0.99", "port": 80}),
            ("tcp-connect", {"address": "10.71.0.99", "port": 80, "netns": "/proc/1/ns/net"}),
            ("tcp-connect", {"address": "10.99.0.1", "port": 80, "netns": box}),
            ("capture-start", {"points": [flow("eth0", "10.71.0.2", "198.51.100.1")], "seconds": 1}),
            ("file", {"path": "/etc/shadow"}),
            ("file", {"path": "/proc/1/environ"}),
        ]
        answers = outcome(asks(two, server.where, server.key, requests))
        assert answers[:4] == ["ok"] * 4
        assert all("neither" in answer for answer in answers[4:8]), answers
        assert all("not among what is read" in answer for answer in answers[8:])
        code, said = server.end()
        assert code == 0
        assert "4 requests answered, 6 refused" in said
    finally:
        one.exec(["sh", "-c", "ip link del nd0; ip netns del box"])


def flow(device, a, b, netns=""):
    return {"device": device, "netns": netns, "flow": {"a": a, "b": b, "proto": 6, "port": 80}}


def test_what_the_operator_named_may_be_reached(hosts, listening):
    one, two = hosts
    server = listening(one, "--peer", two.address, "--port", "4448", "--reach", "10.71.0.0/24")
    assert outcome(
        asks(two, server.where, server.key, [("echo-sizes", {"address": "10.71.0.99", "sizes": [100]})])
    ) == ["ok"]


def works(host):
    """Whether a trace has its table there."""
    return "netdiag" in host.exec(["nft", "list", "tables"]).stdout


def test_a_killed_side_leaves_nothing(hosts):
    """kill -9 of either side at random moments: no socket, rule, device, process or file is left on any host."""
    one, two = hosts
    until(lambda: all(len(processes(host)) == 1 for host in hosts), 10, "only the first process on each host")
    before = [state(host) for host in hosts]
    chance = random.Random(4)
    trace = {"path": "in", "src": two.address, "dst": one.address, "proto": "tcp", "dport": 9000, "in_device": "eth0"}
    requests = [
        ("firewall-trace", {**trace, "may_load": True, "level": "owned-trace"}),
        ("capture-start", {"points": [flow("eth0", one.address, two.address)], "seconds": 60}),
        (
            "firewall-watch",
            {
                "path": "in",
                "src": two.address,
                "dport": 9001,
                "wait_ms": 3000,
                "may_load": True,
                "devices": ["eth0"],
                "level": "owned-trace",
            },
        ),
    ]
    reached = set()
    for number in range(KILLS):
        server = Listening(one, "--peer", two.address, "--port", "4449", "--for", "60")
        peer = asks(two, server.where, server.key, requests, STAY_S="3")
        time.sleep(chance.uniform(0.0, 2.5))  # the moment is the point of the test
        if number % 3 == 0:  # at least some while it works, however slow the machine is
            with contextlib.suppress(LabError):
                until(lambda asked=peer: works(one) or asked.poll() is not None, 10, "a trace at work")
        reached.add(works(one))
        victim, other = (server.process, peer) if number % 2 else (peer, server.process)
        end_group(victim)
        if other is server.process and "has proven" not in stderr_so_far(other):
            end_group(other)  # it never had a peer, and rightly goes on waiting
        else:
            other.wait(25)
            end_group(other)
        with contextlib.suppress(LabError):
            until(lambda: [state(host) for host in hosts] == before, 5, f"nothing left after kill {number}")
        left = [
            (now, then)
            for host, was in zip(hosts, before, strict=True)
            for now, then in zip(state(host), was, strict=True)
            if now != then
        ]
        assert left == [], number
    assert True in reached


def stderr_so_far(process):
    os.set_blocking(process.stderr.fileno(), False)
    with contextlib.suppress(TypeError):
        return process.stderr.read() or ""
    return ""


def state(host):
    """Rules, devices, listening and packet sockets, processes and fresh files."""
    words = [
        "nft list ruleset",
        "ip -o link | cut -d: -f2",
        "ss -Hltunp",
        "ss -H0np",
        "ip netns",
        "ls -A /tmp /root /run /var/tmp",
    ]
    shown = [host.exec(["sh", "-c", each]).stdout for each in words]
    return [*shown, processes(host)]


def processes(host):
    """The names of a host's processes."""
    namespace = Path(f"/proc/{host.pid}/ns/pid").readlink()
    running = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "ns/pid").readlink() == namespace:
                running.append((entry / "comm").read_text())
    return sorted(running)


def test_a_stranger_who_knocks_is_named_and_nothing_is_served(hosts, listening):
    one, two = hosts
    server = listening(one, "--peer", two.address, "--port", "4450", "--for", "20")
    knock = f"import socket; s = socket.create_connection(('{one.address}', 4450)); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); print(s.recv(99))"
    answer = two.exec([sys.executable, "-c", knock]).stdout
    assert "HTTP" not in answer
    found = outcome(asks(two, server.where, server.key))
    assert found["hostname"] == "one"
    _, said = server.end()
    assert f"refused {two.address}: no TLS 1.3" in said
    assert socket.gethostname() not in said
