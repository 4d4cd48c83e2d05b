"""Two hosts with routers between them, of which the middle network carries less: what that does to whom, and is said."""

import contextlib

import pytest

from netdiag.lab import Lab
from netdiag.lab.topology import HostPlan, Network, Topology
from tests.lab.diagnosing import diagnose

IMAGE = "netdiag/busybox:lab"
TOPOLOGY = Topology(
    name="routers",
    network=(
        Network(name="lan"),
        Network(name="mid", subnet="10.72.0.0/24", mtu=1400),
        Network(name="far", subnet="10.73.0.0/24"),
    ),
    host=(
        HostPlan(name="manager", engine=True, images=(IMAGE,), networks=("lan",)),
        HostPlan(name="worker", engine=True, images=(IMAGE,), networks=("far",)),
        HostPlan(name="r1", networks=("lan", "mid")),
        HostPlan(name="r2", networks=("mid", "far")),
    ),
)
ROUTERS = ("r1", "r2")
HOSTS, OVERLAY = ("manager", "worker:22"), ("front", "worker/back:80")


@pytest.fixture(scope="module")
def hosts(lab_root, lab_names):
    """A swarm over two routers; TCP agrees on small segments, so that ssh works whatever the routers swallow."""
    with Lab.up(TOPOLOGY, name=lab_names()) as lab:
        manager, worker = lab.host("manager"), lab.host("worker")
        manager.exec(["ip", "route", "add", "default", "via", "10.71.0.3", "advmss", "1200"])
        worker.exec(["ip", "route", "add", "default", "via", "10.73.0.4", "advmss", "1200"])
        lab.host("r1").exec(["ip", "route", "add", "10.73.0.0/24", "via", "10.72.0.4"])
        lab.host("r2").exec(["ip", "route", "add", "10.71.0.0/24", "via", "10.72.0.3"])
        for name in ROUTERS:
            lab.host(name).exec(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        lab.break_("sshd", host="worker")
        manager.exec(["docker", "swarm", "init", "--advertise-addr", manager.address])
        token = manager.exec(["docker", "swarm", "join-token", "-q", "worker"]).stdout.strip()
        worker.exec(["docker", "swarm", "join", "--token", token, f"{manager.address}:2377"])
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        run = ["docker", "run", "-d", "--network", "app", "--name"]
        manager.exec([*run, "front", IMAGE, "sleep", "100000"])
        worker.exec([*run, "back", IMAGE, "httpd", "-f", "-p", "80"])
        yield lab


@pytest.fixture(autouse=True)
def _whole(hosts):
    """No rule of a test stays, and no host knows what an ICMP error told it."""
    before = len(hosts.faults())
    yield
    for fault in reversed(hosts.faults()[before:]):
        hosts.heal(fault)
    for host in hosts.hosts.values():
        host.exec(["ip", "route", "flush", "cache"])


def silent(lab):
    """The routers do not say that a packet is too large."""
    for name in ROUTERS:
        lab.break_("drop", host=name, chain="OUTPUT", extra="-p icmp --icmp-type fragmentation-needed")


def without_fragments(lab):
    """The routers pass no fragments on, as many filters do."""
    for name in ROUTERS:
        lab.break_("drop", host=name, chain="FORWARD", extra="-f")


@contextlib.contextmanager
def healed(lab, causes):
    """With what is proposed for both hosts run, and undone."""
    remedies = [remedy for cause in causes for remedy in cause["remedy"]]
    for remedy in remedies:
        lab.host(remedy["host"]).exec(["sh", "-c", remedy["commands"][0]])
    yield
    for remedy in remedies:
        lab.host(remedy["host"]).exec(["sh", "-c", remedy["undo"][0]])


def largest(causes):
    return [(cause["host"], cause["object"]["mtu_bytes"], cause["object"]["largest_bytes"]) for cause in causes]


def test_a_path_that_says_what_it_carries(hosts):
    """The hosts adapt: it works, and is told."""
    causes = diagnose(hosts, *HOSTS, code=0)["causes"]
    assert [(cause["code"], cause["confidence"]) for cause in causes] == [("underlay.mtu", "proven")] * 2
    assert sorted(largest(causes)) == [("manager", 1500, 1400), ("worker", 1500, 1400)]
    # Behind which the path is narrower.
    assert {cause["host"]: cause["object"]["router"] for cause in causes} == {
        "manager": "10.71.0.3",
        "worker": "10.73.0.4",
    }
    with healed(hosts, causes):
        assert diagnose(hosts, *HOSTS, code=0)["causes"] == []


def test_a_path_that_swallows_and_says_nothing(hosts):
    """A connection opens, and hangs at its first full segment."""
    silent(hosts)
    causes = diagnose(hosts, *HOSTS, code=1)["causes"]
    assert [(cause["code"], cause["confidence"]) for cause in causes] == [("underlay.mtu-blackhole", "proven")] * 2
    assert sorted(largest(causes)) == [("manager", 1500, 1400), ("worker", 1500, 1400)]
    with healed(hosts, causes):
        assert diagnose(hosts, *HOSTS, code=0)["causes"] == []
    # What an overlay sends may be cut into fragments on the way.
    assert diagnose(hosts, *OVERLAY, code=0)["causes"] == []


def test_an_overlay_whose_fragments_are_swallowed(hosts):
    silent(hosts)
    without_fragments(hosts)
    (cause,) = diagnose(hosts, *OVERLAY, code=1)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("overlay.mtu", None, "proven")
    assert (cause["object"]["path_mtu_bytes"], cause["object"]["needed_bytes"]) == (1400, 1500)


def test_an_overlay_whose_hosts_are_told_what_passes(hosts):
    """The first large packet is lost; from then on the inner ones are kept small enough."""
    without_fragments(hosts)
    (cause,) = diagnose(hosts, *OVERLAY, code=0)["causes"]
    assert (cause["code"], cause["confidence"]) == ("overlay.mtu", "likely")
