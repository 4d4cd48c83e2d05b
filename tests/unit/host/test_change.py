"""A change that is taken back unless it is kept, with a stand-in for iptables that keeps its rules in a file."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from netdiag.errors import UsageError
from netdiag.host.change import Change, ChangeError, State, confirm, pending
from netdiag.lab.process import until
from netdiag.model.fix import Command, Fix
from netdiag.participant.change_guard import SOCKET_PREFIX

IPTABLES = """#!{python} -IS
import os, sys, time
here, (verb, chain, *rest) = os.path.dirname(sys.argv[0]) + "/", sys.argv[1:]
rule = " ".join([chain] + rest[verb == "-I":])
with open(here + "log", "a") as log:
    log.write(verb + " " + rule + "\\n")
for seconds in open(here + "slow"):
    if verb == "-I":
        time.sleep(float(seconds))
rules = open(here + "rules").read().splitlines()
if "7777" in rest and verb == "-I":
    sys.exit("iptables: Index of insertion too big.")
if verb == "-I":
    rules.insert(0, rule)
elif rule not in rules:
    sys.exit(1)
elif verb == "-D":
    rules.remove(rule)
with open(here + "rules", "w") as file:
    file.writelines(each + "\\n" for each in rules)
"""
MARK = "netdiag-20251125-ab12"
OPERATORS = "INPUT -s 192.0.2.1 -p tcp --dport 1 -j ACCEPT"


class Host:
    """The directory of the stand-in: what it has, what it was asked, and how slow it is."""

    def __init__(self, path):
        self.path = path
        for name in ("rules", "log", "slow"):
            (path / name).write_text("")
        tool = path / "iptables"
        tool.write_text(IPTABLES.format(python=sys.executable))
        tool.chmod(0o755)

    def add(self, *rules):
        (self.path / "rules").write_text("".join(f"{rule}\n" for rule in rules))

    def slow(self, seconds):
        (self.path / "slow").write_text(str(seconds))

    def rules(self):
        return (self.path / "rules").read_text().splitlines()

    def did(self, *verbs):
        """What it was asked to do, by verb and port."""
        lines = (self.path / "log").read_text().splitlines()
        return [(line[:2], int(re.search(r"--dport (\d+)", line)[1])) for line in lines if line[:2] in verbs]


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Host(tmp_path)


def words(port):
    return ["-s", "192.0.2.1", "-p", "tcp", "--dport", str(port), *f"-m comment --comment {MARK} -j ACCEPT".split()]


def rule(port):
    return " ".join(["INPUT", *words(port)])


def command(*argv):
    return Command(argv=argv, text=" ".join(argv))


def fix(*ports, permanent=()):
    def add(port):
        return command("iptables", "-I", "INPUT", "1", *words(port))

    return Fix(
        host="",
        summary="",
        place="",
        covers="",
        commands=tuple(map(add, ports)),
        undo=tuple(command("iptables", "-D", "INPUT", *words(port)) for port in ports),
        permanent=tuple(map(add, permanent)),
    )


def change(*ports, change_id="unit", within_s=30, **more):
    return Change(fix(*ports, **more), change_id=f"{change_id}{os.getpid()}", within_s=within_s)


def test_what_nobody_keeps_is_taken_back_in_reverse(host):
    host.add(OPERATORS)
    with change(1, 2, 3) as one:
        one.apply()
        assert host.rules() == [rule(3), rule(2), rule(1), OPERATORS]
    assert (one.state, one.problems, host.rules()) == (State.UNDONE, (), [OPERATORS])
    assert host.did("-I", "-D") == [("-I", 1), ("-I", 2), ("-I", 3), ("-D", 3), ("-D", 2), ("-D", 1)]


def test_what_is_kept_stays_and_is_made_permanent(host):
    with change(1, permanent=(9,)) as one:
        one.apply()
        assert one.keep() is State.KEPT
    assert host.rules() == [rule(9), rule(1)]


def test_half_a_change_is_taken_back_and_nothing_that_was_not_done(host):
    host.add(OPERATORS)
    with change(1, 7777, 3) as one, pytest.raises(ChangeError, match="Index of insertion too big"):
        one.apply()
    assert host.rules() == [OPERATORS]
    assert host.did("-I", "-D") == [("-I", 1), ("-I", 7777), ("-D", 1)]


def test_what_is_in_place_already_is_neither_added_nor_taken_away(host):
    host.add(rule(2))
    with pytest.raises(ChangeError, match="it is in place already"):
        change(1, 2)
    assert (host.rules(), host.did("-I", "-D")) == ([rule(2)], [])


def test_what_cannot_be_asked_about_is_not_begun(host):
    (host.path / "iptables").write_text("#!/bin/sh\necho you must be root\nexit 3\n")
    with pytest.raises(ChangeError, match="whether it is in place already is not known: you must be root"):
        change(1)


def test_a_guard_that_was_killed_before_it_did_anything_takes_nothing_of_the_operators(host):
    host.add(OPERATORS)
    with change(1) as one:
        os.kill(one._process.pid, signal.SIGKILL)
        with pytest.raises(ChangeError, match="the guard process ended"):
            one.apply()
    assert (host.rules(), host.did("-I", "-D")) == ([OPERATORS], [])
    assert one.problems == ("the guard process ended early",)


def test_a_command_that_outlives_its_guard_is_waited_for(host):
    host.add(OPERATORS)
    host.slow(0.7)

    def kill(one):
        until(lambda: host.did("-I"), 10, "the command's start")
        os.kill(one._process.pid, signal.SIGKILL)

    with change(1) as one:
        killer = threading.Thread(target=kill, args=(one,))
        killer.start()
        with pytest.raises(ChangeError, match="was taken back"):
            one.apply()
        killer.join()
    assert (host.did("-I", "-D"), host.rules()) == ([("-I", 1), ("-D", 1)], [OPERATORS])


def test_a_guard_that_was_killed_while_it_waited(host):
    with change(1) as one:
        one.apply()
        os.kill(one._process.pid, signal.SIGKILL)
        assert one.settled() is State.UNDONE
    assert (host.rules(), one.problems) == ([], ("the guard process ended early",))


def test_a_guard_that_was_killed_while_it_kept_has_kept(host):
    with change(1, permanent=(9,)) as one:
        one.apply()
        host.slow(30)
        one._say("keep")
        until(lambda: ("-I", 9) in host.did("-I"), 10, "the permanent command")
        os.killpg(one._process.pid, signal.SIGKILL)
        assert one.settled() is State.KEPT
    assert host.rules() == [rule(1)]
    assert "whether it is permanent is not known" in one.problems[0]


def test_callers_who_come_and_go_do_not_put_the_end_off(host):
    with change(1, within_s=1) as one:
        one.apply()
        over = threading.Event()

        def call():
            held = []
            while not over.is_set():
                held.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                try:
                    # Behind those whom the guard has not listened to yet; and then nothing is said.
                    held[-1].connect(f"\0{SOCKET_PREFIX}unit{os.getpid()}")
                except OSError:
                    break
            for each in held:
                each.close()

        callers = [threading.Thread(target=call) for _ in range(8)]
        for each in callers:
            each.start()
        try:
            start_s = time.monotonic()
            assert one.settled() is State.UNDONE
            assert time.monotonic() - start_s < 10
        finally:
            over.set()
            for each in callers:
                each.join()
    assert host.rules() == []


# --- who confirms, and to whom ---------------------------------------------------------------------------------------

NOBODY = """
import os, socket, sys
from netdiag.host.change import confirm  # before: what another user may read is not known
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
"""Makes a process that of a user who is not root."""
CONFIRM = NOBODY + "confirm(sys.argv[1])"


def test_only_root_confirms(host):
    with change(1) as one:
        one.apply()
        name = f"unit{os.getpid()}"
        assert name in pending()
        asked = subprocess.run([sys.executable, "-c", CONFIRM, name], stderr=subprocess.PIPE, text=True, check=False)
        assert f"UsageError: change {name} was not kept" in asked.stderr
        assert host.rules() == [rule(1)]
        if os.geteuid() == 0:
            assert confirm(name) == ()
            assert one.settled() is State.KEPT
    assert (host.rules() != []) is (os.geteuid() == 0)


def test_nobody_else_to_confirm():
    with pytest.raises(UsageError, match=r"no change nonesuch waits to be confirmed here$"):
        confirm("nonesuch")


FAKE = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.bind("\\0" + sys.argv[1])
    server.listen()
    print("ready", flush=True)
    while True:
        with server.accept()[0] as caller:
            caller.recv(1000) and caller.send(sys.argv[2].encode())
"""


class Fake:
    """Something that listens at the name of a change, and answers with a text."""

    def __init__(self, change_id, said, program=FAKE):
        argv = [sys.executable, "-c", program, SOCKET_PREFIX + change_id, said]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self._process.stdout.readline() == "ready\n"

    def __exit__(self, *_):
        self._process.kill()
        self._process.stdout.close()
        self._process.wait()


@pytest.mark.parametrize(
    "said",
    ['{"state": "kept"}', "[]", "rubbish", '{"state": "undone", "problems": []}', '{"state": 1, "problems": [1]}'],
)
def test_an_answer_that_no_guard_gives(said):
    name = f"fake{os.getpid()}"
    with Fake(name, said), pytest.raises(UsageError, match=f"change {name} was not kept"):
        confirm(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else's name can be taken without root")
def test_somebody_else_is_not_believed():
    name = f"fake{os.getpid()}"
    with Fake(name, json.dumps({"state": "kept", "problems": []}), NOBODY + FAKE):
        assert name not in pending()
        with pytest.raises(UsageError, match="neither root nor you listen for it"):
            confirm(name)
