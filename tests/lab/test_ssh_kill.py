"""A kill -9 of either side, or of what is between them, at any moment: nothing is left on any of the two hosts."""

import contextlib
import re
import subprocess
import sys

import pytest

from netdiag.errors import LabError
from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.kills import KILLS, dice, difference, picture

TIDY_S = 15.0
"""The longest until both hosts are as they were, with time for a busy machine."""
SPAN_S = 2.5
"""How long the work takes, more or less: a kill comes somewhere in it."""

WORK = """
import sys, time
from netdiag.carrier.ssh import connect
from netdiag.errors import NetdiagError
from netdiag.facts.context import Options
from netdiag.facts.level import Level
from netdiag.facts.trace_wanted import Wanted
from netdiag.host.collect import collect
from netdiag.host.trace import trace
from netdiag.model.trace import TracePath, TraceVerdict
wanted = Wanted(path=TracePath.IN, source="10.71.0.1", protocol="tcp", destination_port=9000)
try:
    with connect("two") as carrier:
        for level in (None, Level.SWEPT_TRACE, Level.COUNTERS):
            collect(carrier, now_s=time.time(), options=Options())
            found = trace(carrier, wanted, now_s=time.time(), options=Options(), forced=level)
            why = found.reason if found.verdict is TraceVerdict.UNKNOWN else ""
            print(found.verdict.value, why, flush=True)
except NetdiagError as error:
    print("error", error)
"""

SAID = re.compile("drop $|(unknown|error) (?!.*not root)")
"""What a line of the work may be where somebody else was killed: what was seen, or why nothing was."""

VICTIMS = {
    "netdiag": ("one", "netdiag.carrier.ssh"),
    "ssh": ("one", "^(/usr/bin/)?ssh "),
    "sshd": ("two", "^sshd: root"),
    "participant": ("two", "netdiag-ready"),
}
"""Who is killed: on which host, and what its command line has."""


@pytest.fixture
def hosts(ssh_pair):
    """Two hosts; the second has rules of both backends, so that a trace waits as long as it may."""
    one, two = ssh_pair
    lines = ("iptables -A INPUT -p udp -j ACCEPT", "iptables-legacy -A INPUT -p tcp --dport 9000 -j DROP")
    for line in lines:
        two.exec(line.split())
    # Whatever a first run makes once (an empty table of the tool's, a cache) is no residue of a kill.
    said = one.exec([sys.executable, "-c", WORK], timeout_s=60).stdout
    assert said.split() == ["drop"] * 3
    until(lambda: not any("netdiag-ready" in line for line in picture(two)), TIDY_S, "the participant's end")
    yield one, two
    for line in reversed(lines):
        two.exec(line.replace(" -A ", " -D ").split())


def traces(host):
    """Whether a table of ours is there."""
    return "netdiag" in host.exec(["nft", "-s", "list", "ruleset"]).stdout


@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_left_and_nothing_hangs(victim, hosts, pair_lab):
    thrown = dice(f"netdiag over ssh {victim}")
    where, command_line = VICTIMS[victim]
    before = picture(*hosts)
    hit = acting = 0
    for moment in range(-(-KILLS // len(VICTIMS))):
        process = hosts[0].popen([sys.executable, "-c", WORK])
        try:
            if moment % 2:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(thrown.uniform(0.2, SPAN_S))
            else:
                # As soon as its table is to be seen on the other host, or a little later.
                until(lambda running=process: running.poll() is not None or traces(hosts[1]), 20.0, "its table")
                acting += process.poll() is None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(thrown.uniform(0.0, 0.1))
            killed = pair_lab.host(where).exec(["pkill", "-9", "-f", "--", command_line], check=False)
            hit += killed.returncode == 0
            # Whoever is not killed ends by himself, and says what happened.
            out, err = process.communicate(timeout=40)
            assert "Traceback" not in err, err
            survived = killed.returncode == 0 and victim != "netdiag"
            assert not survived or all(SAID.match(line) for line in out.splitlines()), out
        finally:
            end_group(process)
        with contextlib.suppress(LabError):
            until(lambda: picture(*hosts) == before, TIDY_S, "both hosts as they were")
        assert difference(before, picture(*hosts)) == []
    assert hit, "no kill met anybody"
    assert acting, "no kill met it at work"
