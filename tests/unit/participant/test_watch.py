"""Of packets that are traced at once, by us or by somebody else, one is followed."""

import struct

import pytest

from netdiag.participant import packets
from netdiag.participant.deadline import Deadline
from netdiag.participant.netlink import attribute
from netdiag.participant.trace_events import Events
from netdiag.participant.watch import _Watch

PARAMS = {"path": "in", "devices": ["eth0"], "wait_ms": 10}
HERE, THERE, NATTED = "10.0.0.1", "10.0.0.2", "172.17.0.9"


def headers(tag=b"11111111", source=THERE, destination=HERE, proto="udp", sport=1000, dport=80, checksum=True):
    """A packet's network and transport header; UDP and ICMP all with one length and identification."""
    flow = packets.flow_of({"proto": proto, "src": source, "dst": destination, "sport": sport, "dport": dport})
    raw = packets.packet(flow._replace(tag=tag if proto != "tcp" else tag[:4]))
    at = 40 if flow.six else 20
    head, body = bytearray(raw[:at]), bytearray(raw[at:])
    if not flow.six:
        head[4:6] = b"\0\0"
    if checksum is not True:
        body[6:8] = struct.pack(">H", checksum)
    return bytes(head), bytes(body[:20])


def event(table, chain, identity, network=b"", transport=b"", handle=None):
    body = struct.pack(">BBH", 2, 0, 0) + attribute(1, table.encode() + b"\0") + attribute(2, chain.encode() + b"\0")
    if handle is not None:
        body += attribute(3, struct.pack(">Q", handle))
    body += attribute(6, identity)
    if network:
        body += attribute(8, network) + attribute(9, transport)
    return struct.pack("=IHHII", 16 + len(body), 10 << 8 | 17, 0, 0, 0) + body


class Following:
    """Events as they come; the first chain of ours has seen the first packet."""

    def __init__(self, *first, identity=b"aaaa"):
        self.watch = _Watch(PARAMS, Deadline(1))
        self.reader = Events(self.watch.claims)
        if first:
            assert self.begins(*first, identity=identity, handle=3)

    def begins(self, *told, identity=b"aaaa", handle):
        """An event of our first chain: of its rule, or of none."""
        return self.of(*told, identity=identity, table=self.watch._table, chain="begin-0", handle=handle)

    def of(self, *told, identity=b"bbbb", table="filter", chain="INPUT", handle=None):
        """Whether an event is taken for the packet's."""
        before = len(self.reader.messages)
        self.reader.take(event(table, chain, identity, *told, handle=handle))
        return len(self.reader.messages) > before


def partial(source=THERE, destination=HERE):
    """What the field holds of a packet whose checksum the network card is to make."""
    whole = packets.checksum(bytes(map(int, f"{source}.{destination}".split("."))) + struct.pack(">HH", 17, 16))
    return ~whole & 0xFFFF


def test_udp_packets_of_one_length_and_identification_are_told_apart():
    following = Following(*headers())
    assert following.of(*headers())
    assert not following.of(*headers(tag=b"22222222"))
    assert not following.of(*headers(tag=b"22222222"), identity=b"aaaa")


@pytest.mark.parametrize("proto", ["udp", "tcp", "icmp"])
def test_address_translation_makes_no_other_packet(proto):
    following = Following(*headers(proto=proto))
    assert following.of(*headers(proto=proto, destination=NATTED, sport=2000, dport=8080))
    assert following.of(identity=b"bbbb")
    assert not following.of(identity=b"cccc")


def test_ipv6():
    following = Following(*headers(source="fd00::2", destination="fd00::1"))
    assert following.of(*headers(source="fd00::2", destination="fd00::9"))
    assert not following.of(*headers(source="fd00::2", destination="fd00::1", tag=b"22222222"))


@pytest.mark.parametrize("checksum", [0, partial()])
def test_without_a_checksum_its_ends_or_its_id_tell(checksum):
    following = Following(*headers(checksum=checksum))
    assert not following.of(*headers(source="10.0.0.3", checksum=checksum and partial("10.0.0.3")))
    natted = headers(destination=NATTED, checksum=checksum and partial(destination=NATTED))
    assert following.of(*natted, identity=b"aaaa")
    # Its id may change then: it is known by what it has become.
    assert following.of(*natted, identity=b"dddd")
    assert following.of(identity=b"dddd")


def test_nothing_is_followed_before_our_own_chain_has_seen_it():
    watch = _Watch(PARAMS, Deadline(1))
    reader = Events(watch.claims)
    reader.take(event("filter", "INPUT", b"aaaa", *headers()))
    reader.take(event(watch._table, "end-input", b"aaaa", *headers()))
    assert (reader.messages, reader.foreign) == ([], 2)


def test_what_somebody_else_traces_is_not_what_is_waited_for():
    """It passes our first chain too; only an event of the rule there says that the rule matched."""
    following = Following()
    other = headers(dport=9000)
    assert not following.begins(*other, handle=None)
    assert not following.of(*other, identity=b"aaaa")
    assert following.begins(*headers(), identity=b"bbbb", handle=3)
    assert not following.of(*headers(b"22222222", dport=9000), identity=b"aaaa")
