"""Which trace events are our packet's, and which of them ends its way."""

import struct

from netdiag.participant.deadline import Deadline
from netdiag.participant.netlink import attribute
from netdiag.participant.trace import _Trace
from netdiag.participant.trace_events import Copies, Events

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
