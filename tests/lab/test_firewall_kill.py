"""A kill -9 at any moment leaves the host as it was: rules, devices, processes, settings and files."""

import contextlib
import subprocess
from typing import NamedTuple

import pytest

from netdiag.errors import LabError
from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.kills import KILLS, dice, difference, picture

TIDY_S = 10.0
"""The longest until a rule that nobody confirmed is taken back, with time for a busy machine."""


class Run(NamedTuple):
    """A command, for how long it may work (seconds), and what shows in the rules while it does."""

    words: str
    span_s: float
    shows: str = "netdiag"


RUNS = {
    "in": Run("trace --src 10.71.0.2 --dport 9000", 1.2),
    "out": Run("trace --path out --dst 10.71.0.2 --proto udp --dport 9000", 1.2),
    "forward": Run("trace --path forward --in eth0 --out eth0 --src 10.71.0.2 --dst 198.51.100.7 --dport 9000", 1.2),
    "wait": Run("trace --src 10.71.0.2 --proto tcp --dport 9000 --wait 5", 2.0),
    "apply": Run("allow --src 10.71.0.2 --dport 2377 --apply --confirm-within 5", 3.0, "ip saddr 10.71.0.2"),
}


@pytest.fixture(scope="module")
def host(pair_lab):
    """A host that forwards, with rules of both backends: the legacy drops make a trace wait as long as it may."""
    one = pair_lab.host("one")
    for line in (
        "ip route add 198.51.100.0/24 via 10.71.0.2",
        "sysctl -qw net.ipv4.ip_forward=1",
        "iptables -A INPUT -p udp -j ACCEPT",
        "iptables -A INPUT -p tcp --dport 2377 -j DROP",
        "iptables-legacy -A INPUT -p tcp --dport 9000 -j DROP",
        "iptables-legacy -A OUTPUT -p udp -j DROP",
        "iptables-legacy -A FORWARD -p tcp -j DROP",
    ):
        one.exec(line.split())
    # Whatever a first run makes once (an empty table of the tool's, a cache) is no residue of a kill.
    for name in ("in", "out", "forward"):
        one.exec(["netdiag", "firewall", *RUNS[name].words.split()], check=False)
    return one


def glance(host):
    """The rules, quickly."""
    return host.exec(["nft", "-s", "list", "ruleset"]).stdout


@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_left(run, host):
    thrown = dice(f"netdiag {run}")
    words, span_s, shows = RUNS[run]
    before = picture(host)
    argv = ["netdiag", "firewall", *words.split()]
    hit = 0
    for moment in range(-(-KILLS // len(RUNS))):
        process = host.popen(argv)
        try:
            if moment % 2:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(thrown.uniform(0.05, span_s))
            else:
                # As soon as something of it is to be seen besides its process, or a little later.
                until(lambda running=process: running.poll() is not None or shows in glance(host), 15.0, "its acting")
                hit += process.poll() is None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(thrown.uniform(0.0, 0.1))
        finally:
            end_group(process)
        with contextlib.suppress(LabError):
            until(lambda: picture(host) == before, TIDY_S, "the host as it was")
        assert difference(before, picture(host)) == []
    assert hit, "no kill met it at work"
