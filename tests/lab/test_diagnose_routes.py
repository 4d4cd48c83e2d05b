"""The ways out of two hosts with two networks: routes, cards, neighbours, addresses; asked by the network that works."""

import contextlib
import json

import pytest

from netdiag.lab import Lab
from netdiag.lab.host import end_group
from netdiag.lab.process import until
from netdiag.lab.topology import HostPlan, Network, Topology

FAR = "10.71.0.2"
TOPOLOGY = Topology(
    name="routes",
    network=(Network(name="lan"), Network(name="side", subnet="10.72.0.0/24")),
    host=(
        HostPlan(name="one", networks=("lan", "side")),
        HostPlan(name="two", networks=("lan", "side")),
        HostPlan(name="three"),
    ),
)


@pytest.fixture(scope="module")
def hosts(lab_root, lab_names):
    with Lab.up(TOPOLOGY, name=lab_names()) as lab:
        lab.break_("sshd", host="two")
        with lab.host("two").popen(["busybox", "httpd", "-f", "-p", "0.0.0.0:7000"]) as process:
            until(lambda: lab.host("two").exec(["ss", "-Hltn", "sport = :7000"]).stdout, 5.0, "the web server")
            try:
                yield lab
            finally:
                end_group(process)


def diagnose(lab, destination=f"{FAR}:7000", code=1):
    """The report of a diagnosis on host one; host two is asked by its address in the other network."""
    via = ["--via", f"{FAR}=ssh:root@10.72.0.2"]
    words = ["netdiag", "diagnose", "one", destination, *via, "--output", "json"]
    result = lab.host("one").exec(words, check=False, timeout_s=60)
    assert "Traceback" not in result.stderr
    assert code in (None, result.returncode), result.stdout + result.stderr
    return json.loads(result.stdout)


def codes(report):
    return [cause["code"] for cause in report["causes"]]


def healed(lab, cause):
    (remedy,) = cause["remedy"]
    for command in remedy["commands"]:
        lab.host(remedy["host"]).exec(["sh", "-c", command])


def settled(lab):
    """Wait until the hosts know each other again: an entry that has failed is not asked for at once."""
    ping = ["ping", "-c", "1", "-W", "1", FAR]
    until(lambda: lab.host("one").exec(ping, check=False).returncode == 0, 15.0, "the way between the hosts")


def mac(lab, host, device="eth0"):
    return lab.host(host).path(f"/sys/class/net/{device}/address").read_text().strip()


@pytest.fixture
def broken(hosts):
    """Breaks something for one test."""
    with contextlib.ExitStack() as stack:

        def do(fault, **values):
            made = hosts.break_(fault, **values)
            stack.callback(lambda: hosts.heal(made) if made in hosts.faults() else None)
            return made

        yield do
    for name in ("one", "two"):
        hosts.host(name).exec(["ip", "neigh", "flush", "all"])


def test_healthy(hosts):
    assert codes(diagnose(hosts, code=0)) == []
    assert codes(diagnose(hosts, FAR, code=0)) == []


@pytest.mark.parametrize("host", ["one", "two"])
def test_a_route_that_leads_nowhere(hosts, broken, host):
    other = FAR if host == "one" else "10.71.0.1"
    broken("route", host=host, action="blackhole", to=f"{other}/32")
    (cause,) = diagnose(hosts)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.no-route", host, "proven")
    assert (cause["object"]["destination"], cause["object"]["type"]) == (f"{other}/32", "blackhole")
    healed(hosts, cause)
    assert codes(diagnose(hosts, code=0)) == []
    hosts.host(host).exec(["ip", "route", "add", "blackhole", f"{other}/32"])


def test_no_route_at_all(hosts, broken):
    fault = broken("route", host="one", action="delete", to="10.71.0.0/24")
    (cause,) = diagnose(hosts)["causes"]
    assert (cause["code"], cause["host"]) == ("underlay.no-route", "one")
    assert cause["object"]["destination"] == FAR
    hosts.heal(fault)
    assert codes(diagnose(hosts, code=0)) == []


@pytest.mark.parametrize(("host", "side"), [("one", "host"), ("two", "host"), ("one", "fabric"), ("two", "fabric")])
def test_a_card_that_is_down(hosts, broken, host, side):
    fault = broken("link-down", host=host, side=side)
    (cause,) = diagnose(hosts)["causes"]
    assert (cause["code"], cause["host"], cause["object"]["name"]) == ("underlay.link-down", host, "eth0")
    hosts.heal(fault)
    settled(hosts)
    assert codes(diagnose(hosts, code=0)) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_next_hop_that_nobody_is(hosts, broken, known):
    """Whether the kernel still holds what it knew before, or asks anew."""
    one = hosts.host("one")
    broken("nft", host="fabric", family="bridge", hook="forward", rules="iifname p1n0 drop; oifname p1n0 drop")
    one.exec(["ip", "neigh", "flush", "all"])
    if known:
        one.exec(["ip", "neigh", "replace", FAR, "lladdr", mac(hosts, "two"), "dev", "eth0", "nud", "stale"])
    (cause,) = diagnose(hosts)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.neighbour", "one", "proven")
    assert (cause["object"]["address"], cause["object"]["device"]) == (FAR, "eth0")


@pytest.mark.parametrize(("host", "address"), [("one", FAR), ("two", "10.71.0.1")])
def test_a_neighbour_that_was_set_by_hand(hosts, broken, host, address):
    broken("neighbour", host=host, address=address)
    (cause,) = diagnose(hosts)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.neighbour", host, "proven")
    expected = mac(hosts, "two" if host == "one" else "one")
    assert (cause["object"]["mac"], cause["object"]["expected"]) == ("02:00:00:00:00:99", expected)
    healed(hosts, cause)
    assert codes(diagnose(hosts, code=0)) == []
    hosts.host(host).exec(["sh", "-c", cause["remedy"][0]["undo"][0]])


def test_the_right_neighbour_set_by_hand_is_no_cause(hosts, broken):
    broken("neighbour", host="one", address=FAR, lladdr=mac(hosts, "two"))
    broken("drop", host="fabric", proto="tcp", dport=7000)
    assert codes(diagnose(hosts)) == ["underlay.filtered"]


@pytest.mark.parametrize("destination", [f"{FAR}:7000", FAR])
def test_an_address_that_two_machines_have(hosts, broken, destination):
    """The other one was quicker; or the right one was, and the rest is asked as well."""
    fault = broken("address", host="three", address=f"{FAR}/24")
    one, with_port = hosts.host("one"), ":" in destination
    chosen = "three" if with_port else "two"
    for _ in range(4):
        one.exec(["ip", "neigh", "replace", FAR, "lladdr", mac(hosts, chosen), "dev", "eth0", "nud", "reachable"])
        report = diagnose(hosts, destination, code=None)
        if report["causes"]:
            break  # else the right one has spoken meanwhile, and the flow was its
    (cause,) = report["causes"]
    assert (cause["code"], cause["confidence"]) == ("underlay.duplicate-address", "proven")
    assert cause["object"]["address"] == FAR
    assert set(cause["object"]["macs"]) == {mac(hosts, "two"), mac(hosts, "three")}
    hosts.heal(fault)
    one.exec(["ip", "neigh", "flush", "all"])
    assert codes(diagnose(hosts, destination, code=0)) == []


def test_a_host_with_two_cards_in_a_network_is_no_second_machine(hosts):
    """It answers for its address from either card, each with its own hardware address."""
    two = hosts.host("two")
    two.exec(["ip", "link", "add", "second", "link", "eth0", "type", "macvlan", "mode", "bridge"])
    try:
        two.exec(["ip", "link", "set", "second", "up"])
        two.exec(["ip", "address", "add", "10.71.0.22/24", "dev", "second"])
        assert codes(diagnose(hosts, FAR, code=0)) == []
    finally:
        two.exec(["ip", "link", "del", "second"])
        hosts.host("one").exec(["ip", "neigh", "flush", "all"])


def test_answers_that_take_another_way(hosts, broken):
    """It works, which is said; that the ways differ is told."""
    broken("route", host="two", action="add", to="10.71.0.1/32", dev="eth1")
    assert codes(diagnose(hosts, code=0)) == []
    (cause,) = diagnose(hosts, FAR, code=0)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.asymmetric", "two", "proven")
    assert (cause["object"]["in_device"], cause["object"]["out_device"]) == ("eth0", "eth1")


def test_a_rule_where_answers_take_another_way(hosts, broken):
    """What takes the packet is the cause, not the way of the answers, and nothing between."""
    broken("route", host="two", action="add", to="10.71.0.1/32", dev="eth1")
    broken("drop", host="two", chain="INPUT", interface="eth0", proto="tcp", dport=7000)
    (cause,) = diagnose(hosts)["causes"]
    assert (cause["code"], cause["host"], cause["object"]["chain"]) == ("firewall.rule", "two", "INPUT")
