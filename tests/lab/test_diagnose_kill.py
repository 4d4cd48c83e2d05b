"""A kill -9 of either side of a diagnosis at any moment: no rule, socket, process or file is left on either host."""

import contextlib
import subprocess
import time
from typing import NamedTuple

import pytest

from netdiag.errors import LabError
from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.kills import KILLS, dice, difference, picture

TIDY_S = 15.0
"""The longest until both hosts are as they were, with time for a busy machine."""
ENDS_S = 60.0
"""The longest until whoever is not killed has ended by himself."""

VICTIMS = {
    "netdiag": ("one", "netdiag diagnose"),
    "ssh": ("one", "^(/usr/bin/)?ssh "),
    "sshd": ("two", "^sshd: root"),
    "participant": ("two", "netdiag-ready"),
}
"""Who is killed: on which host, and what its command line has."""
RULES = {
    "two:9000": ("two", "INPUT -p tcp --dport 9000 -j DROP"),
    "two:9001": ("one", "OUTPUT -p tcp --dport 9001 -j DROP"),
}
"""For each destination the legacy rule that takes the flow: a trace is made on either host, and waits as long as it may."""


class Ground(NamedTuple):
    """Two hosts, and how long a diagnosis between them takes on this machine now: a kill comes somewhere in it."""

    hosts: tuple
    span_s: float


@pytest.fixture
def ground(ssh_pair):
    one, two = hosts = ssh_pair
    for name, text in RULES.values():
        (one if name == "one" else two).exec(["iptables-legacy", "-A", *text.split()])
    for host in hosts:  # a rule of the other backend as well
        host.exec(["iptables", "-A", "INPUT", "-p", "udp", "--dport", "9", "-j", "DROP"])
    try:
        # Whatever a first run makes once (an empty table of the tool's, a cache) is no residue of a kill.
        span_s = 0.0
        for destination, (name, _) in RULES.items():
            start_s = time.monotonic()
            said = one.exec(argv(destination), check=False, timeout_s=60)
            span_s = max(span_s, time.monotonic() - start_s)
            assert f"a firewall rule drops the packet on {name}" in said.stdout, said.stdout + said.stderr
        until(lambda: not any("netdiag-ready" in line for line in picture(*hosts)), TIDY_S, "the first runs' end")
        yield Ground(hosts, span_s)
    finally:
        for host in hosts:
            host.exec(["iptables", "-D", "INPUT", "-p", "udp", "--dport", "9", "-j", "DROP"])
        for name, text in RULES.values():
            (one if name == "one" else two).exec(["iptables-legacy", "-D", *text.split()])


def argv(destination):
    return ["netdiag", "diagnose", "one", destination, "--via", "ssh"]


def traces(host):
    """Whether a table of ours is there."""
    return "netdiag" in host.exec(["nft", "-s", "list", "ruleset"]).stdout


@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_left_and_nothing_hangs(victim, ground, pair_lab):
    hosts = ground.hosts
    thrown = dice(f"netdiag diagnose {victim}")
    where, command_line = VICTIMS[victim]
    before = picture(*hosts)
    hit = acting = 0
    for moment in range(-(-KILLS // len(VICTIMS))):
        destination = thrown.choice(list(RULES))
        tracing = pair_lab.host(RULES[destination][0])
        process = hosts[0].popen(argv(destination))
        try:
            if moment % 2:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(thrown.uniform(0.1, ground.span_s))
            else:
                # As soon as a table is to be seen where it traces, or a little later.
                until(lambda run=process, on=tracing: run.poll() is not None or traces(on), 20.0, "its table")
                acting += process.poll() is None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(thrown.uniform(0.0, 0.1))
            running = process.poll() is None
            killed = pair_lab.host(where).exec(["pkill", "-9", "-f", "--", command_line], check=False)
            hit += running and killed.returncode == 0
            out, err = process.communicate(timeout=ENDS_S)
            assert "Traceback" not in err, err
            assert "fault of netdiag itself" not in err, err
            if victim != "netdiag":
                # Whoever is not killed ends by himself: with a report, or with one line that says why there is none.
                assert process.returncode in (1, 2, 3), err
                assert (process.returncode == 2) == (not out), err
                assert process.returncode != 2 or len(err.splitlines()) == 1, err
        finally:
            end_group(process)
        with contextlib.suppress(LabError):
            until(lambda: picture(*hosts) == before, TIDY_S, "both hosts as they were")
        assert difference(before, picture(*hosts)) == []
    print(f"{victim}: {hit} of {moment + 1} kills met it, {acting} came while it traced")  # noqa: T201
    assert hit, "no kill met anybody"
    assert acting, "no kill met it at work"
