"""Frames of a run's probes by their bytes; whatever else a packet socket gave is nobody's."""

import struct

import pytest

from netdiag.facts.marked_frames import ANSWER, UNNUMBERED, of_connection, sights_of
from netdiag.participant.marks import Mark, mark_of
from netdiag.participant.packets import Flow, packet

RAW = bytes.fromhex("a1b2c3d4")
MARK = Mark(RAW)
ETHERNET = b"\x02" * 12


def flow(protocol, *, six=False, tag=b"", **fields):
    source, target = ("2001:db8::1", "2001:db8::2") if six else ("192.0.2.1", "192.0.2.2")
    values = {"sport": 40000, "dport": 4789, "icmp_type": 8, "flags": 2, "ttl": 64, "length": 0, **fields}
    return Flow(six=six, protocol=protocol, source=source, destination=target, tag=tag, **values)


def seen(made, *, out=False):
    frame = ETHERNET + (b"\x86\xdd" if made.six else b"\x08\x00") + packet(made)
    return list(sights_of({"name": "eth0", "frames": [{"out": out, "data": frame}]}, RAW))


@pytest.mark.parametrize("six", [False, True])
def test_a_datagram_by_its_tag(six):
    (one,) = seen(flow(17, six=six, tag=MARK.tag(77)), out=True)
    assert (one.number, one.answer, one.out, one.place) == (77, False, True, "eth0")
    assert (one.source_port, one.destination_port) == (40000, 4789)
    assert one.source == ("2001:db8::1" if six else "192.0.2.1")


def test_the_answer_to_one():
    (one,) = seen(flow(17, tag=MARK.tag(77 | ANSWER)))
    assert (one.number, one.answer) == (77, True)


@pytest.mark.parametrize("six", [False, True])
def test_a_syn_by_its_sequence_number_and_its_answer_by_what_it_acknowledges(six):
    sequence = MARK.sequence(77)
    (one,) = seen(flow(6, six=six, tag=struct.pack(">I", sequence)))
    assert (one.number, one.answer) == (77, False)
    # A segment with ACK acknowledges its own tag here, and the answer to a SYN one more than that.
    for flags in (0x12, 0x14):
        (answer,) = seen(flow(6, six=six, tag=struct.pack(">I", sequence + 1), flags=flags))
        assert (answer.number, answer.answer) == (77, True)


def test_a_reset_of_the_sender_is_not_taken_for_another_probe():
    assert seen(flow(6, tag=struct.pack(">I", MARK.sequence(78)), flags=4)) == []


def test_vxlan_by_its_network_and_its_inner_address():
    body = struct.pack(">II", 0x08000000, (0xE00000 | 77) << 8) + MARK.inner_mac + b"\0\0" + bytes(40)
    (one,) = seen(flow(17, tag=body))
    assert (one.number, one.answer) == (77, False)
    assert seen(flow(17, tag=body.replace(MARK.inner_mac, b"\x02\0\0\1"))) == []


def test_protocol_50_and_pings():
    (one,) = seen(flow(50, tag=b"ndia" + bytes(4) + MARK.tag(5)))
    assert (one.number, one.source_port) == (5, None)
    (one,) = seen(flow(1, tag=MARK.tag(6)))
    assert (one.number, one.answer) == (6, False)
    (one,) = seen(flow(1, tag=MARK.tag(6), icmp_type=0))
    assert (one.number, one.answer) == (6, True)


@pytest.mark.parametrize("data", [b"", b"\0" * 12, ETHERNET + b"\x08\x00", ETHERNET + b"\x08\x00\x45", bytes(60)])
def test_a_frame_that_is_cut_is_nobodys(data):
    assert list(sights_of({"name": "eth0", "frames": [{"out": False, "data": data}]}, RAW)) == []


def test_the_tag_of_another_run_is_nobodys():
    assert seen(flow(17, tag=bytes.fromhex("a1b2c3d5") + bytes(4))) == []


def test_a_segment_of_another_number_is_known_by_its_ends_alone():
    syn, answer = struct.pack(">I", 0x11220001), struct.pack(">I", 0x11220002)
    (begun,) = seen(flow(6, tag=syn, dport=7946))
    assert (begun.number, begun.answer) == (UNNUMBERED, False)
    back = flow(6, tag=answer, sport=7946, dport=40000, flags=0x12)
    (answered,) = seen(back._replace(source="192.0.2.2", destination="192.0.2.1"))
    both, ends = [begun, answered], {"sources": {"192.0.2.1"}, "port": 7946}
    assert of_connection(both, **ends, source_port=40000) == both
    assert of_connection(both, **ends, source_port=None) == both
    assert of_connection(both, **ends, source_port=40001) == []
    assert of_connection(both, sources={"192.0.2.3"}, port=7946, source_port=40000) == []
    assert of_connection(both, sources={"192.0.2.1"}, port=2377, source_port=40000) == []


@pytest.mark.parametrize("text", ["", "zz", "a1b2c3", "08000001", "0000ffff"])
def test_a_mark_that_could_be_taken_for_something_else_is_refused(text):
    with pytest.raises(Exception, match="mark"):
        mark_of(text)
