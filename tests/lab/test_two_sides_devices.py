"""Devices on devices, devices without a link header, packets in by one and out by another: seen on whichever it is."""

import contextlib
import subprocess

import pytest

from netdiag.host.meet import Target
from tests.lab.relay import ADDRESSES, relay
from tests.lab.two_sides import examined, target

IN, OUT = "two-sides.inbound", "two-sides.outbound"


@pytest.fixture
def look(pair_lab, sides):
    def run(address=""):
        two = target(pair_lab.host("two"), sides[1], control_port=2377)
        named = Target(given="two", carrier=sides[1], address=address, control_port=2377) if address else two
        said, (view,), _ = examined(sides[0], [named], manager=True)
        assert view.why_not == ""
        return said

    return run


def run(host, script, *, check=True):
    return host.exec(["sh", "-c", script], check=check)


@contextlib.contextmanager
def bridged(host):
    """The host's address on a bridge, its device a port of it."""
    own = f"{host.address}/24"
    mac = run(host, "cat /sys/class/net/eth0/address").stdout.strip()
    run(host, f"ip link add br0 type bridge; ip link set br0 address {mac} up; ip addr del {own} dev eth0")
    run(host, f"ip link set eth0 master br0; ip addr add {own} dev br0")
    try:
        yield
    finally:
        run(host, f"ip link del br0; ip addr add {own} dev eth0")


# --- a host's own bridge ---


def test_a_host_on_a_bridge_of_its_own_is_healthy(pair_lab, look):
    with bridged(pair_lab.host("two")):
        said = look()
    assert said.document["causes"] == []
    assert said.states(IN) == said.states(OUT) == {"ok"}


@pytest.mark.parametrize(("hook", "check"), [("input", OUT), ("output", IN)])
def test_what_a_host_s_own_bridge_filters_is_lost_at_the_host(pair_lab, look, hook, check):
    with bridged(pair_lab.host("two")):
        pair_lab.break_("nft", host="two", family="bridge", hook=hook, rules="udp dport 7946 drop")
        said = look()
        pair_lab.heal_all()
    (cause,) = said.document["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "two", "proven")
    assert (cause["object"]["family"], cause["object"]["text"]) == ("bridge", "udp dport 7946 drop")
    (lost,) = [one for one in said.findings(check) if one["state"] != "ok"]
    assert "udp/7946" in lost["summary"]
    assert said.states(OUT if check == IN else IN) == {"ok"}


def test_what_is_filtered_in_front_of_a_host_s_bridge_is_not_the_host_s(pair_lab, look):
    with bridged(pair_lab.host("two")):
        pair_lab.break_("drop", host="fabric", proto="udp", dport=7946)
        said = look()
    assert {one["code"] for one in said.document["causes"]} == {"underlay.filtered"}
    assert {one["confidence"] for one in said.document["causes"]} == {"proven"}


# --- devices without a link header ---


def test_over_a_tunnel_without_a_link_header(pair_lab, look):
    with relay([pair_lab.host(name) for name in ("one", "two")], "tun"):
        said = look(ADDRESSES[1])
        assert said.document["causes"] == []
        assert said.states(IN) == said.states(OUT) == {"ok"}
        pair_lab.break_("drop", host="two", chain="INPUT", proto="udp", dport=7946)
        said = look(ADDRESSES[1])
    # A packet that arrives can be made on Ethernet devices only: the rule is read, and not proven.
    (cause,) = said.document["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "two", "likely")
    (lost,) = [one for one in said.findings(OUT) if one["state"] != "ok"]
    assert "udp/7946" in lost["summary"]
    assert said.states(IN) == {"ok"}


# --- in by one device and out by another ---


def test_in_by_one_device_and_out_by_another(pair_lab, look):
    """The address is on lo; what comes for it comes by eth0, and what leaves leaves by eth1."""
    one, two, fabric = (pair_lab.host(name) for name in ("one", "two", "fabric"))
    own, other = two.address, one.address
    mac = {host: run(host, "cat /sys/class/net/eth0/address").stdout.strip() for host in (one, two)}
    pair = ["ip", "link", "add", "fx", "type", "veth", "peer", "name", "eth1", "netns", str(two.pid)]
    try:
        # From outside: inside the fabric the number of another host's process means nothing.
        subprocess.run(["nsenter", "-t", str(fabric.pid), "-n", *pair], check=True)
        run(fabric, "ip link set fx master br-lan up")
        run(two, f"ip link set eth1 up; ip addr del {own}/24 dev eth0; ip addr add {own}/32 dev lo")
        run(two, "for i in all eth0 eth1; do sysctl -qw net.ipv4.conf.$i.rp_filter=0; done")
        run(two, f"ip route add {other} dev eth1 src {own}")
        run(two, f"ip neigh replace {other} lladdr {mac[one]} dev eth1 nud permanent")
        run(one, f"ip neigh replace {own} lladdr {mac[two]} dev eth0 nud permanent")
        said = look()
    finally:
        run(one, f"ip neigh del {own} dev eth0", check=False)
        run(two, f"ip link del eth1; ip addr del {own}/32 dev lo; ip addr add {own}/24 dev eth0", check=False)
    assert said.document["causes"] == []
    assert said.states(IN) == said.states(OUT) == {"ok"}


def test_over_a_device_that_stands_on_another(pair_lab, look):
    hosts = [pair_lab.host(name) for name in ("one", "two")]
    try:
        for host, own in zip(hosts, ADDRESSES, strict=True):
            run(host, f"ip link add mac0 link eth0 up type macvlan mode bridge; ip addr add {own}/30 dev mac0")
        said = look(ADDRESSES[1])
    finally:
        for host in hosts:
            run(host, "ip link del mac0", check=False)
    assert said.document["causes"] == []
    assert said.states(IN) == said.states(OUT) == {"ok"}
