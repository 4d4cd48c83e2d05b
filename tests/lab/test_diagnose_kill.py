"""A kill -9 of either side of a diagnosis at any moment: no rule, socket, process or file is left on either host."""

import contextlib
import subprocess

import pytest

from netdiag.errors import LabError
from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.kills import KILLS, dice, difference, picture

TIDY_S = 15.0
"""The longest until both hosts are as they were, with time for a busy machine."""
SPAN_S = 4.0
"""How long a diagnosis takes, more or less: a kill comes somewhere in it."""
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
"""For each destination the rule that takes the flow, so that a trace is made on either host."""


@pytest.fixture
def hosts(ssh_pair):
    """Two hosts, with a rule on each, and one of the other backend so that a trace waits as long as it may."""
    one, two = ssh_pair
    for name, text in RULES.values():
        host = one if name == "one" else two
        host.exec(["iptables", "-A", *text.split()])
    for host in (one, two):
        host.exec(["iptables-legacy", "-A", "INPUT", "-p", "udp", "--dport", "9", "-j", "DROP"])
    try:
        # Whatever a first run makes once (an empty table of the tool's, a cache) is no residue of a kill.
        for destination, (name, _) in RULES.items():
            said = one.exec(argv(destination), check=False, timeout_s=60)
            assert f"a firewall rule drops the packet on {name}" in said.stdout, said.stdout + said.stderr
        until(lambda: not any("netdiag-ready" in line for line in picture(one, two)), TIDY_S, "the first runs' end")
        yield one, two
    finally:
        for host in (one, two):
            host.exec(["iptables-legacy", "-D", "INPUT", "-p", "udp", "--dport", "9", "-j", "DROP"])
        for name, text in RULES.values():
            host = one if name == "one" else two
            host.exec(["iptables", "-D", *text.split()])


def argv(destination):
    return ["netdiag", "diagnose", "one", destination, "--via", "ssh"]


def traces(host):
    """Whether a table of ours is there."""
    return "netdiag" in host.exec(["nft", "-s", "list", "ruleset"]).stdout


@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_left_and_nothing_hangs(victim, hosts, pair_lab):
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
                    process.wait(thrown.uniform(0.2, SPAN_S))
            else:
                # As soon as a table is to be seen where it traces, or a little later.
                until(lambda run=process, on=tracing: run.poll() is not None or traces(on), 20.0, "its table")
                acting += process.poll() is None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(thrown.uniform(0.0, 0.2))
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
    assert hit, "no kill met anybody"
    assert acting, "no kill met it at work"
