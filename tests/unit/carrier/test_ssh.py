"""The way by ssh, with a program in place of ssh that fails as the real one does."""

import os
import shlex
import shutil
import subprocess
import sys
import time

import pytest

from netdiag.carrier import ssh
from netdiag.carrier.payload import READY
from netdiag.carrier.ssh import Destination, connect, parse_destination, remote_command
from netdiag.errors import CarrierError, UsageError
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Request


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("manager", Destination("manager")),
        ("root@192.0.2.1", Destination("192.0.2.1", "root")),
        ("root@manager:2222", Destination("manager", "root", 2222)),
        ("2001:db8::1", Destination("2001:db8::1")),
        ("root@fe80::1%eth0", Destination("fe80::1%eth0", "root")),
        ("root@[2001:db8::1]", Destination("2001:db8::1", "root")),
        ("[2001:db8::1]:2222", Destination("2001:db8::1", "", 2222)),
        ("ssh://ops@manager.example.org:22/", Destination("manager.example.org", "ops", 22)),
        ("ssh://manager", Destination("manager")),
        ("ops@example.org@manager", Destination("manager", "ops@example.org")),
        ("EXAMPLE\\ops@manager", Destination("manager", "EXAMPLE\\ops")),
    ],
)
def test_destinations(text, where):
    assert parse_destination(text) == where
    assert parse_destination(str(where)) == where


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "root@", "@manager", "-oProxyCommand=reboot", "root@-oX=y", "a b", "a;b", "$(x)", "a\nb", "a'b"),
        *("manager:", "manager:0", "manager:65536", "manager:ssh", "manager:٣", "[manager]:22", "[::1", "[::1]22"),
        *("[::1]:", "ssh://", "http://manager", "manager/", "-root@manager", "1.2.3.4:22:33@x"),
    ],
)
def test_what_is_no_destination_is_named_with_what_is_accepted(text):
    with pytest.raises(UsageError, match="give HOST, USER@HOST or") as caught:
        parse_destination(text)
    assert str(caught.value).startswith("ssh:")
    assert "\n" not in str(caught.value)


def test_a_host_without_ssh(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no ssh on this host: install it"):
        connect("manager")


@pytest.fixture
def in_place_of_ssh(tmp_path, monkeypatch):
    """Makes a shell script the ssh that is found."""

    def make(script):
        program = tmp_path / "ssh"
        program.write_text(f"#!/bin/sh\nPATH={shlex.quote(os.environ['PATH'])}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return make


RUN_IT = 'for last; do :; done; exec sh -c "$last"'
"""As sshd does: the last word is what the login shell gets."""


def test_it_is_the_participant_that_answers(in_place_of_ssh, tmp_path):
    words = tmp_path / "words"
    in_place_of_ssh(f'printf "%s\\n" "$@" >{words}; {RUN_IT}')
    with connect("ops@manager:2222", name="manager", options=["-F", "none"]) as carrier:
        assert carrier.name == "manager"
        (answer,) = carrier.ask([Request("identity")])
        assert answer.data["euid"] == os.geteuid()
        assert carrier.is_root == (os.geteuid() == 0)
        (answer,) = carrier.ask([Request("no-such-verb")])
        assert answer.error.kind is AbsenceKind.UNSUPPORTED
    given = words.read_text().splitlines()
    assert given[:2] == ["-F", "none"]
    assert given[-7:-1] == ["-l", "ops", "-p", "2222", "--", "manager"]
    for option in ("BatchMode=yes", "ControlMaster=no", "ForwardAgent=no", "RemoteCommand=none", "RequestTTY=no"):
        assert option in given


FAILURES = {
    "unknown name": (
        "ssh: Could not resolve hostname manager: Name or service not known",
        "manager: Could not resolve hostname manager: Name or service not known: no such name here: give an address",
    ),
    "unknown key": (
        (
            "No ED25519 host key is known for 192.0.2.1 and you have requested strict checking.\n"
            "Host key verification failed."
        ),
        "manager: Host key verification failed: its host key is not known here: log in once by hand",
    ),
    "changed key": (
        (
            "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n"
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
            "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n"
            "Offending ED25519 key in /root/.ssh/known_hosts:1\nHost key verification failed."
        ),
        "manager: WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!: its host key is not the one that is known here",
    ),
    "no key": (
        "root@192.0.2.1: Permission denied (publickey).",
        "manager: root@192.0.2.1: Permission denied (publickey): ssh must log in without a question: load the key",
    ),
    "many keys": (
        "Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures",
        "too many keys were offered: say in ~/.ssh/config which one",
    ),
    "refused": (
        "ssh: connect to host manager port 22: Connection refused",
        "nothing takes connections at its ssh port",
    ),
    "filtered": (
        "ssh: connect to host manager port 22: Connection timed out",
        "manager: connect to host manager port 22: Connection timed out: its ssh port cannot be reached from here",
    ),
    "banned": (
        "kex_exchange_identification: Connection closed by remote host\nConnection closed by 192.0.2.1 port 22",
        "it closed the connection before the log-in: look for a ban",
    ),
    "old": (
        "Unable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-dss",
        "Their offer: ssh-dss: the two sides have no common algorithm",
    ),
    "own configuration": (
        (
            "/root/.ssh/config: line 3: Bad configuration option: nonsense\n"
            "/root/.ssh/config: terminating, 1 bad configuration options"
        ),
        "ssh's own configuration has to be mended",
    ),
    "something new": ("ssh: something that nobody knows", "manager: ssh: something that nobody knows"),
    "nothing": ("", "manager: ssh: it gave no reason: where small packets pass"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_log_in_is_one_line_with_the_reason_and_what_to_do(failure, in_place_of_ssh):
    said, told = FAILURES[failure]
    in_place_of_ssh(f"printf '%s\\n' {shlex.quote(said)} >&2; exit 255")
    with pytest.raises(CarrierError) as caught:
        connect("manager")
    assert told in str(caught.value)
    assert str(caught.value).startswith("manager: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "echo 'This account is currently not available.'; exit 1",
            "it says 'This account is currently not available.'",
        ),
        ("echo 'bash: line 1: exec: restricted' >&2; exit 126", "it says 'bash: line 1: exec: restricted'"),
        ("cat >/dev/null", "nothing runs there yet: it is slow, or its login shell or ForceCommand waits"),
        ("echo 'Choose a menu item:'; cat >/dev/null", "nothing runs there yet (it says: Choose a menu item:)"),
        (
            f"echo {READY}; read n; echo 'MemoryError' >&2; exit 1",
            "the Python there ended before it answered: MemoryError",
        ),
        (f"echo {READY}; cat >/dev/null", "the Python there does not answer: it is very slow, or the connection is"),
        (f"echo {READY}; read n; kill -9 $$", "the Python there ended before it answered"),
        ("yes endless", "it does not run what it is asked: it says 'endless'"),
        ("head -c 3000000 /dev/zero; exit 3", "it does not run what it is asked"),
    ],
)
def test_a_host_that_does_something_else(script, told, in_place_of_ssh):
    in_place_of_ssh(script)
    start_s = time.monotonic()
    with pytest.raises(CarrierError) as caught:
        connect("manager", greet_s=1.0 if "cat >" in script else 15.0)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()
    assert time.monotonic() - start_s < 10.0


def test_only_the_oldest_pythons_are_there(in_place_of_ssh, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for tool in ("sh", "id", "cat"):
        (bare / tool).symlink_to(shutil.which(tool))
    old = bare / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.5.2\nexit 2\n')
    old.chmod(0o755)
    # What is asked by its full path cannot be hidden from a shell: it is another path here.
    in_place_of_ssh(
        f'for last; do :; done; last=$(printf %s "$last" | sed "s,/usr/,/none/,g"); PATH={bare} exec sh -c "$last"'
    )
    with pytest.raises(CarrierError) as caught:
        connect("manager")
    assert str(caught.value).startswith(
        "manager: no Python 3.6 or newer (only Python 3.5.2): install one there (python3)"
    )


def running(pidfile):
    asked = ["ps", "-o", "pid=", "--pid", pidfile.read_text().strip()]
    return subprocess.run(asked, capture_output=True, check=False).stdout != b""


def test_closing_is_quick_and_leaves_no_process(in_place_of_ssh, tmp_path):
    in_place_of_ssh(f"echo $$ >{tmp_path}/pid; {RUN_IT}")
    carrier = connect("manager")
    assert running(tmp_path / "pid")
    start_s = time.monotonic()
    carrier.close()
    assert time.monotonic() - start_s < 0.5
    assert not running(tmp_path / "pid")


def test_closing_ends_what_does_not_end_by_itself(in_place_of_ssh, tmp_path):
    real = f"{sys.executable} -ISBuc {shlex.quote(ssh.BOOTSTRAP)} {READY}"
    in_place_of_ssh(f"trap '' TERM HUP; echo $$ >{tmp_path}/pid; {real}; sleep 60")
    carrier = connect("manager")
    start_s = time.monotonic()
    carrier.close()
    assert time.monotonic() - start_s < ssh.END_S + 1.0
    assert not running(tmp_path / "pid")


# ---- the command that a login shell has to pass on


def test_the_command_has_nothing_that_a_shell_could_take_for_its_own():
    command = remote_command()
    assert len(command) < 1024
    script = command.removeprefix("exec /bin/sh -c '").removesuffix("'")
    assert not set(script) & set("'\\!\n")


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_every_shell_of_this_machine_passes_it_on(shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} on this machine")
    done = subprocess.run([program, "-c", remote_command()], input=b"", capture_output=True, check=False, timeout=30)
    assert READY.encode() in done.stdout.splitlines()
