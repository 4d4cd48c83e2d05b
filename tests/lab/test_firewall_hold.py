"""Who is listened to as a running trace: root alone; and two traces beside what a killed one left."""

import contextlib
import json

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.ladder import LEGACY, LOGGER, SWEEP, TABLE, add, clear, logger, python, said, tables, trace

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
BOUND = """
import socket, sys, time
held = []
for name in sys.argv[1:]:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        held.append(socket.socket(socket.AF_UNIX, kind))
        held[-1].bind(b"\\0" + name.encode())
print("ready", flush=True)
time.sleep(120)
"""
OWNED = """
import time
from netdiag.participant import nftables
from netdiag.participant.deadline import Deadline
chain = nftables.Chain(nftables.NFPROTO_INET, "end", nftables.INPUT, nftables.LAST, "", ())
table = nftables.OwnedTable("netdiag-0badcafe", [chain], Deadline(5))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def host(pair_lab):
    """A host without rules, and with its logger as it was."""
    one = pair_lab.host("one")
    before = logger(one)
    yield one
    clear(one)
    assert logger(one) == before


@contextlib.contextmanager
def nobody_binds(host, *names):
    """An unprivileged user has abstract sockets of these names."""
    with host.popen([*NOBODY, "python3", "-c", BOUND, *names]) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            end_group(process)


def kill_with_its_guard(host, process):
    """Leave what only the next start, or ``netdiag clean``, can take away."""
    host.exec(["kill", "-KILL", process.stdout.readline().strip()])
    end_group(process)


def leave_a_logger(host):
    with python(host, LEGACY.replace("STAY_S", "60")) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["starting\n", "ready\n"]
        kill_with_its_guard(host, process)
    assert logger(host) == "nfnetlink_log"


def test_a_user_cannot_keep_traces_from_hearing_legacy_chains(host):
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j DROP")
    with nobody_binds(host, "netdiag-nf-log"):
        assert trace(host, "--dport", "2377", expect="drop")["rule"]["backend"] == "iptables-legacy"


def test_a_user_cannot_keep_what_a_killed_trace_left(host):
    before = logger(host)
    leave_a_logger(host)
    with python(host, TABLE, "stay") as process:
        kill_with_its_guard(host, process)
    names = [line.split()[-1] for line in tables(host).splitlines()]
    assert len(names) == 2
    with nobody_binds(host, *names):
        removed = json.loads(said(host, SWEEP))
    assert removed["living"] == []
    assert {f"nft table inet {name}" for name in names} < set(removed["removed"])
    assert (tables(host), logger(host)) == ("", before)


def test_a_trace_that_listens_is_not_made_deaf_by_a_sweep(host):
    before = logger(host)
    leave_a_logger(host)
    (left,) = [line.split()[-1] for line in tables(host).splitlines()]
    with python(host, LEGACY.replace("STAY_S", "60")) as listening:
        try:
            assert [listening.stdout.readline(), listening.stdout.readline()] == ["starting\n", "ready\n"]
            assert left in json.loads(said(host, SWEEP))["living"]
            assert logger(host) == "nfnetlink_log"
        finally:
            end_group(listening)
    until(lambda: json.loads(said(host, SWEEP))["living"] == [], 10, "the end of the trace")
    assert (tables(host), logger(host)) == ("", before)


CHANGED = """
import sys, time
print("ready", flush=True)
while True:
    with open(sys.argv[1], "w") as setting:
        setting.write(sys.argv[2])
"""


def test_a_logger_that_somebody_changes_meanwhile_leaves_legacy_among_the_suspects(host):
    before = logger(host)
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j DROP", "iptables-nft -A INPUT -p udp -j DROP")
    with python(host, CHANGED, LOGGER, before) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            reason = trace(host, "--dport", "2377", expect="unknown")["reason"]
            assert "legacy iptables, whose chains do not report (ip filter" in reason
            assert f"somebody has set net.netfilter.nf_log.2 to {before} meanwhile" in reason
            # What nft does is proven all the same.
            trace(host, "--proto", "udp", "--dport", "4789", expect="drop")
        finally:
            end_group(process)


def test_beside_another_trace_that_listens_nft_is_answered_with_the_reason(host):
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j DROP", "iptables-nft -A INPUT -p udp -j DROP")
    with python(host, LEGACY.replace("STAY_S", "60")) as listening:
        try:
            assert [listening.stdout.readline(), listening.stdout.readline()] == ["starting\n", "ready\n"]
            found = trace(host, "--proto", "udp", "--dport", "4789", expect="drop")
            assert found["rule"]["backend"] == "iptables-nft"
            reason = trace(host, "--dport", "2377", expect="unknown")["reason"]
            assert "another trace does so already" in reason
            assert "legacy iptables, whose chains do not report (ip filter" in reason
        finally:
            end_group(listening)
    until(lambda: logger(host) != "nfnetlink_log", 10, "the guard's work")


def test_an_owned_table_is_a_living_trace_s(host):
    with python(host, OWNED) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            assert said(host, SWEEP) == '{"removed": [], "living": []}\n'
            assert "netdiag-0badcafe" in tables(host)
        finally:
            end_group(process)
