"""The packet of a trace: what the operator left out, and what does not go together."""

import pytest

from netdiag.errors import UsageError
from netdiag.facts.trace_plan import gather_packet
from netdiag.facts.trace_request import request_of
from netdiag.facts.trace_wanted import Wanted
from netdiag.model.facts import Address, Facts, Link, Neighbour, Section
from netdiag.model.trace import TracePath

FACTS = Facts(
    collected_s=1.0,
    links=Section(
        value={"host": (Link(index=1, name="lo", up=True, loopback=True), Link(index=2, name="eth0", up=True))}
    ),
    addresses=Section(
        value={
            "host": (
                Address(device="lo", cidr="127.0.0.1/8", scope="host"),
                Address(device="eth0", cidr="10.0.0.1/24"),
                Address(device="eth0", cidr="fd00::1/64"),
            )
        }
    ),
    neighbours=Section(value={"host": (Neighbour(device="eth0", address="10.0.0.2", mac="02:00:00:00:00:02"),)}),
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
        ({"source": "10.0.0.2", "in_device": "eth0", "destination": "10.0.0.7"}, "no address of this host for"),
    ],
)
def test_what_does_not_go_together(wanted, said):
    with pytest.raises(UsageError, match=said):
        planned(**wanted)
