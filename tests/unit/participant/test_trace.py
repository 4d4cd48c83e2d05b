"""Which trace events are our packet's, and which of them ends its way."""

import struct

import pytest

from netdiag.participant import nftables, packets, trace_chains, trace_events
from netdiag.participant.deadline import Deadline
from netdiag.participant.netlink import attribute
from netdiag.participant.nftables import TRANSPORT
from netdiag.participant.trace import _Trace
from netdiag.participant.trace_events import Clones, Copies, Events

PARAMS = {"path": "out", "out_device": "eth0", "src": "10.0.0.1", "dst": "10.0.0.2", "proto": "tcp", "dport": 80}
DROP, ACCEPT = 0, 1


def event(identity, verdict, header=None, port=0):
    body = struct.pack(">BBH", 2, 0, 0) + attribute(6, identity)
    body += attribute(0x8005, attribute(1, struct.pack(">i", verdict)))
    if header is not None:
        body += attribute(8, bytes(20)) + attribute(9, header)
        body += attribute(12, struct.pack(">I", port)) if port else b""
    return struct.pack("=IHHII", 16 + len(body), 10 << 8 | 17, 0, 0, 0) + body


def test_an_id_that_the_kernel_uses_again_is_not_ours():
    trace = _Trace(PARAMS, Deadline(1))
    reader = Events(trace.claims)
    ours, foreign = bytes(4) + trace._flow.tag + bytes(12), bytes(20)
    assert not reader.take(event(b"aaaa", DROP, foreign))
    assert not reader.take(event(b"aaaa", ACCEPT, ours))
    assert not reader.take(event(b"aaaa", DROP, foreign))
    assert not reader.take(event(b"aaaa", DROP))
    # The id changed on the way; the tag did not.
    assert not reader.take(event(b"bbbb", ACCEPT, ours))
    assert reader.take(event(b"bbbb", DROP))
    assert (len(reader.messages), reader.foreign) == (3, 3)


def test_only_the_copy_that_matters_ends_the_listening():
    trace = _Trace(PARAMS, Deadline(1))
    ours = bytes(4) + trace._flow.tag + bytes(12)

    def ended(*events):
        reader = Events(trace.claims, Copies([2, 3], 3).ends)
        return [reader.take(each) for each in events]

    first = [event(b"aaaa", ACCEPT, ours), event(b"bbbb", ACCEPT, ours, port=2), event(b"bbbb", DROP)]
    assert ended(*first) == [False, False, False]
    # The id is the first copy's, and through the bridge's own device it stays the copy that it is.
    last = [event(b"bbbb", ACCEPT, ours, port=3), event(b"bbbb", ACCEPT, ours, port=9), event(b"bbbb", DROP)]
    assert ended(*first, *last) == [False] * 5 + [True]
    assert ended(event(b"aaaa", ACCEPT, ours), event(b"aaaa", DROP)) == [False, True]


@pytest.mark.parametrize(("outward", "chain"), [(False, b"answers"), (True, b"begin")])
def test_the_end_of_a_clone_does_not_end_the_listening(outward, chain):
    clones = Clones("netdiag-0", outward)

    def cloned(identity, name, verdict):
        found = {1: b"netdiag-0\0", 2: name + b"\0", 5: attribute(1, struct.pack(">i", verdict)), 6: identity}
        return clones.is_clone(nftables.NFPROTO_INET, found)

    if outward:
        assert not cloned(b"aaaa", chain, ACCEPT)
    assert [cloned(b"bbbb", name, verdict) for name, verdict in ((chain, ACCEPT), (b"end-postrouting", DROP))] == [
        True,
        True,
    ]
    assert not cloned(b"bbbb", b"end-input", DROP)
    assert not cloned(b"aaaa", b"end-input", DROP)


def test_behind_lost_events_an_id_proves_nothing_more():
    trace = _Trace(PARAMS, Deadline(1))
    reader = Events(trace.claims)
    ours = bytes(4) + trace._flow.tag + bytes(12)
    reader.take(event(b"aaaa", ACCEPT, ours))
    reader.miss()
    assert not reader.take(event(b"aaaa", DROP))
    assert (reader.lost, len(reader.messages), reader.foreign) == (True, 1, 1)
    reader.take(event(b"aaaa", ACCEPT, ours))
    assert reader.take(event(b"aaaa", DROP))


def test_what_is_kept_has_a_limit(monkeypatch):
    monkeypatch.setattr(trace_events, "LIMIT_BYTES", 100)
    reader = Events(lambda _: True)
    one = event(b"aaaa", ACCEPT)
    for _ in range(9):
        reader.take(one)
    assert (len(reader.messages), reader.lost) == (-(-100 // len(one)), True)


@pytest.mark.parametrize(("flags", "beyond"), [("syn", 1), ("ack", 0), ("syn,fin", 2)])
def test_the_answer_to_a_packet_is_known_by_its_number(flags, beyond):
    """RFC 9293, 3.10.7.1: a RST acknowledges what came, and SYN and FIN count."""
    flow = packets.flow_of({**PARAMS, "tcp_flags": flags})._replace(tag=b"\xff\xff\xff\xff")
    *_, acknowledging, numbered = trace_chains.match_answers(flow)
    assert nftables.payload_is(TRANSPORT, 8, struct.pack(">I", (0xFFFFFFFF + beyond) % 2**32)) in acknowledging
    assert nftables.payload_is(TRANSPORT, 4, flow.tag) in numbered


def test_nothing_answers_a_reset():
    """RFC 9293, 3.5.3: what is answered by a RST is anything but a RST."""
    resets = [
        reply for reply in packets.replies(packets.flow_of({**PARAMS, "tcp_flags": "rst"})) if reply.protocol == 6
    ]
    assert resets == []
