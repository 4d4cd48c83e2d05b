"""The packet of a trace: what the operator left out, and what does not go together."""

import pytest

from netdiag.errors import UsageError
from netdiag.facts.trace_plan import at_port, gather_packet
from netdiag.facts.trace_request import request_of
from netdiag.facts.trace_wanted import Wanted
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Address, Backend, Facts, FdbEntry, Link, Neighbour, RuleSet, Section
from netdiag.model.trace import TracePath

FACTS = Facts(
    collected_s=1.0,
    links=Section(
        value={
            "host": (
                Link(index=1, name="lo", up=True, loopback=True),
                Link(index=2, name="eth0", up=True),
                Link(index=3, name="br0", up=True, kind="bridge", mac="02:00:00:00:00:b0"),
                Link(index=4, name="p1", up=True, master=3),
                Link(index=5, name="p2", up=True, master=3),
            )
        }
    ),
    addresses=Section(
        value={
            "host": (
                Address(device="lo", cidr="127.0.0.1/8", scope="host"),
                Address(device="eth0", cidr="10.0.0.1/24"),
                Address(device="eth0", cidr="fd00::1/64"),
                Address(device="eth0", cidr="fe80::1/64", scope="link"),
                Address(device="lo", cidr="10.55.0.1/32"),
                Address(device="br0", cidr="10.1.0.1/24"),
            )
        }
    ),
    neighbours=Section(
        value={
            "host": (
                Neighbour(device="eth0", address="10.0.0.2", mac="02:00:00:00:00:02"),
                Neighbour(device="br0", address="10.1.0.2", mac="02:00:00:00:01:02"),
            )
        }
    ),
    fdb=Section(value={"host": (FdbEntry(device="p2", mac="02:00:00:00:01:02", on_master=True),)}),
)


def planned(**wanted):
    gather = gather_packet(Wanted(**{"path": TracePath.IN, **wanted}), FACTS)
    try:
        next(gather)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it asked the host")


def test_what_is_not_said_comes_from_the_host():
    packet = planned(destination_port=2377)
    assert (packet.source, packet.destination, packet.in_device) == ("10.0.0.2", "10.0.0.1", "eth0")
    assert packet.protocol == "tcp"
    assert planned().protocol == "icmp"
    request = request_of(packet, FACTS, wait_ms=500)
    assert request.params["mac"] == "02:00:00:00:00:02"
    assert request.params["may_load"] is True
    assert "sport" not in request.params


def test_ipv6():
    packet = planned(source="fd00::9", in_device="eth0", destination="fd00::1")
    assert (packet.protocol, packet.destination) == ("icmpv6", "fd00::1")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"path": TracePath.OUT}, "--dst says where to"),
        ({"protocol": "udp"}, "--dport says"),
        ({"protocol": "icmp", "destination_port": 1}, "has no ports"),
        ({"protocol": "udp", "destination_port": 1, "tcp_flags": "syn"}, "--tcp-flags does not go"),
        ({"destination_port": 1, "icmp_type": 3}, "--icmp-type does not go"),
        ({"protocol": "tcp", "destination_port": 1, "length": 39}, "at least 40"),
        ({"source": "10.0.0.2", "destination": "fd00::1"}, "two families"),
        ({"in_device": "eth9"}, "--in eth9: no such device in this host; it has eth0"),
        ({"source": "10.0.0.2", "in_device": "eth0", "destination": "10.0.0.7"}, "10.0.0.7 is no address of this host"),
        ({"in_device": "eth0", "destination": "127.0.0.1"}, "127.0.0.1 never arrives from elsewhere"),
        ({"destination": "10.55.0.1"}, "10.55.0.1 is an address of lo: --in says"),
        ({"in_device": "br0", "destination": "::1"}, "::1 never arrives from elsewhere"),
        ({"source": "fe80::2"}, "fe80::2 is on every link of this host: --in says"),
        ({"destination": "10.0.0.255"}, "10.0.0.255 is on every link"),
        ({"in_device": "p1", "destination": "224.0.0.1"}, "by its other ports: --in names the bridge"),
        ({"path": TracePath.OUT, "destination": "fe80::2"}, "--out says which device"),
        ({"path": TracePath.OUT, "out_device": "br0", "destination": "fe80::2"}, "br0: it has no link-local address"),
    ],
)
def test_what_does_not_go_together(wanted, said):
    with pytest.raises(UsageError, match=said):
        planned(**wanted)


@pytest.mark.parametrize(
    ("wanted", "source", "frame_mac"),
    [
        ({"in_device": "eth0", "destination": "10.55.0.1"}, "10.0.0.2", None),
        ({"in_device": "eth0", "destination": "10.1.0.1"}, "10.0.0.2", None),
        ({"in_device": "br0", "source": "10.1.0.2", "destination": "10.0.0.1"}, "10.1.0.2", None),
        ({"in_device": "p1", "destination": "10.1.0.1"}, "10.1.0.2", "02:00:00:00:00:b0"),
        ({"in_device": "eth0", "destination": "10.0.0.255"}, "10.0.0.2", "ff:ff:ff:ff:ff:ff"),
        ({"in_device": "eth0", "destination": "224.1.129.3"}, "10.0.0.2", "01:00:5e:01:81:03"),
        ({"in_device": "eth0", "source": "fe80::2", "destination": "ff02::1:2"}, "fe80::2", "33:33:00:01:00:02"),
    ],
)
def test_any_address_of_the_namespace_is_taken_in_by_any_device(wanted, source, frame_mac):
    packet = planned(**wanted)
    assert (packet.in_device, packet.destination) == (wanted["in_device"], wanted["destination"])
    assert packet.source == source
    assert request_of(packet, FACTS, wait_ms=500).params.get("frame_mac") == frame_mac


def test_a_link_local_peer_is_answered_by_the_device_s_own_address():
    assert planned(source="fe80::2", in_device="eth0").destination == "fe80::1"
    assert planned(path=TracePath.OUT, destination="fe80::2", out_device="eth0").source == "fe80::1"


BRIDGE_CHAIN = "table bridge b { # handle 1\n\tchain i { # handle 1\n\t\ttype filter hook input priority 0; policy accept;\n\t}\n}\n"


def test_chains_of_the_bridge_meet_it_at_the_port_of_its_sender():
    chains = Rules([RuleSet(backend=Backend.NFT_NATIVE, family=0, text=BRIDGE_CHAIN, sha256="")], "host")
    packet = planned(in_device="br0", source="10.1.0.2", destination="10.1.0.1")
    assert at_port(packet, FACTS, Rules((), "host")) == (packet, "")
    assert at_port(packet, FACTS, chains)[0].in_device == "p2"
    unknown = planned(in_device="br0", source="10.1.0.9", destination="10.1.0.1")
    placed, why = at_port(unknown, FACTS, chains)
    assert placed == unknown
    assert "behind which port 10.1.0.9 is, is not known: --in p1, p2" in why
