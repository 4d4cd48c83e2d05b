"""A host that sees one direction of a connection only: what it calls invalid is dropped by a rule, and both are named.

Two containers have a second card (macvlan) in another network, as one that is in two networks has; a route decides
whether requests or answers go by it, past the host's own stack.
"""

import contextlib
import json

import pytest

from netdiag.lab import Lab
from netdiag.lab.host import end_group
from netdiag.lab.process import until
from netdiag.lab.topology import HostPlan, Network, Topology
from tests.lab.diagnosing import diagnose, healed, inside, only_cause, said

IMAGE = "netdiag/busybox:lab"
INVALID = "-m conntrack --ctstate INVALID"
BOTH = ("lan", "side")
TOPOLOGY = Topology(
    name="halves",
    network=(Network(name="lan"), Network(name="side", subnet="10.72.0.0/24")),
    host=(
        HostPlan(name="manager", engine=True, images=(IMAGE,), networks=BOTH),
        HostPlan(name="worker", engine=True, images=(IMAGE,), networks=BOTH),
        HostPlan(name="router", networks=BOTH),
    ),
)
CLIENT, INNER = ("client", "10.71.0.2:7000"), ("manager", "worker/inner:80")


def routed(lab, name, subnet, container, *serve):
    """A network of a host that is routed and not translated, and a container with a second card beside it."""
    host = lab.host(name)
    host.exec(["docker", "network", "create", "--subnet", f"{subnet}.0/24", "routed"])
    host.exec(["docker", "run", "-d", "--name", container, "--network", "routed", "--ip", f"{subnet}.5", IMAGE, *serve])
    host.exec(
        ["iptables", "-t", "nat", "-I", "POSTROUTING", "-s", f"{subnet}.0/24", "-d", "10.0.0.0/8", "-j", "ACCEPT"]
    )
    host.exec(["iptables", "-I", "DOCKER-USER", "-j", "ACCEPT"])
    within = inside(lab, name, container)
    host.exec(["ip", "link", "add", "leg", "link", "eth1", "type", "macvlan", "mode", "bridge"])
    host.exec(["ip", "link", "set", "leg", "netns", within[-1]])
    host.exec([*within, "ip", "link", "set", "leg", "up"])


@pytest.fixture(scope="module")
def hosts(lab_root, lab_names):
    with Lab.up(TOPOLOGY, name=lab_names()) as lab:
        manager, worker = lab.host("manager"), lab.host("worker")
        lab.break_("sshd", host="worker")
        routed(lab, "manager", "172.31.0", "client", "sleep", "100000")
        routed(lab, "worker", "172.30.0", "inner", "httpd", "-f", "-p", "80")
        manager.exec(["ip", "route", "add", "172.30.0.0/24", "via", worker.address])
        worker.exec(["ip", "route", "add", "172.31.0.0/24", "via", manager.address])
        lab.host("router").exec(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0"])
        lab.host("router").exec(["sysctl", "-qw", "net.ipv4.conf.eth0.send_redirects=0"])
        with worker.popen(["busybox", "httpd", "-f", "-p", "0.0.0.0:7000"]) as process:
            until(lambda: worker.exec(["ss", "-Hltn", "sport = :7000"]).stdout, 5.0, "the web server")
            try:
                yield lab
            finally:
                end_group(process)


@pytest.fixture(autouse=True)
def _whole(hosts):
    before = len(hosts.faults())
    yield
    for fault in reversed(hosts.faults()[before:]):
        hosts.heal(fault)


@contextlib.contextmanager
def by_the_leg(lab, host, container, to, via):
    """What a container sends to an address goes by its second card."""
    asked = ["docker", "inspect", "-f", "{{.NetworkSettings.Networks.routed.IPAddress}}", container]
    own = lab.host(host).exec(asked).stdout.strip()
    within = inside(lab, host, container)
    lab.host(host).exec([*within, *f"ip route add {to}/32 via {via} dev leg onlink src {own}".split()])
    try:
        yield
    finally:
        lab.host(host).exec([*within, "ip", "route", "del", f"{to}/32"])


WAYS = {
    "answers only": (CLIENT, "manager", "client", "10.71.0.2", "10.72.0.2"),
    "requests only": (INNER, "worker", "inner", "10.71.0.1", "10.72.0.1"),
}


@pytest.mark.parametrize("row", WAYS.values(), ids=WAYS)
def test_a_rule_for_invalid_packets_on_half_of_a_way(hosts, row):
    """Of answers only, the first one is invalid already; of requests only, the connection opens and then hangs."""
    flow, host, container, to, via = row
    with by_the_leg(hosts, host, container, to, via):
        assert diagnose(hosts, *flow, code=0)["causes"] == []
        hosts.break_("drop", host=host, chain="FORWARD", extra=INVALID)
        cause = only_cause(diagnose(hosts, *flow, code=1))
        assert said(cause) == ("conntrack.invalid", host, "proven")
        assert (cause["parent"], cause["object"]["chain"], cause["object"]["number"]) == ("firewall.rule", "FORWARD", 1)
        seen = next(each["text"] for each in cause["evidence"] if each["kind"] == "capture")
        assert "at any device of this host on the way" in seen
        with healed(hosts, cause):
            assert diagnose(hosts, *flow, code=0)["causes"] == []
    # The same rule on a way that both directions take.
    assert diagnose(hosts, *flow, code=0)["causes"] == []


def test_a_rule_that_lets_a_connection_open_and_takes_the_rest(hosts):
    """On a way that both directions take."""
    hosts.break_("drop", host="worker", chain="FORWARD", extra="-p tcp --dport 80 ! --syn")
    cause = only_cause(diagnose(hosts, *INNER, code=1))
    assert said(cause) == ("firewall.rule", "worker", "proven")
    with healed(hosts, cause):
        assert diagnose(hosts, *INNER, code=0)["causes"] == []


def through_the_router(lab, *, code):
    """By the other network ssh comes to the worker whatever the router does."""
    via = ["--via", "10.71.0.2=ssh:root@10.72.0.2"]
    argv = ["netdiag", "diagnose", "manager", "10.71.0.2:7000", *via, "--output", "json"]
    result = lab.host("manager").exec(argv, check=False, timeout_s=60)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("host", "to"), [("worker", "10.71.0.1"), ("manager", "10.71.0.2")], ids=["answers", "requests"]
)
def test_a_router_between_that_sees_one_direction_only(hosts, host, to):
    """Nobody asks the router itself, so that no rule is named: only between which hosts it is, and of what kind."""
    hosts.break_("route", host=host, action="add", to=f"{to}/32", via="10.71.0.3")
    fault = hosts.break_("drop", host="router", chain="FORWARD", extra=INVALID)
    cause = only_cause(through_the_router(hosts, code=1))
    assert (cause["code"], cause["host"]) == ("underlay.filtered", None)
    assert cause["object"]["hosts"] == [host, "manager" if host == "worker" else "worker"]
    hosts.heal(fault)
    assert through_the_router(hosts, code=0)["causes"] == []
