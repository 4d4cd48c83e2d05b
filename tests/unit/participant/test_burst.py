"""What a burst builds, and what it keeps on its host."""

import struct

import pytest

from netdiag.participant import packets
from netdiag.participant.burst import answers, stopped, with_signature

ADDRESSES = [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")]


def flow(source, destination, proto="tcp", **more):
    return packets.flow_of({"proto": proto, "src": source, "dst": destination, "sport": 40000, "dport": 2377, **more})


def drops(flow, frame, ahead):
    """What the program would say of a frame."""
    return any(all(frame[at : at + len(value)] == value for at, value in each) for each in stopped(flow, ahead))


def reversed_flow(flow, **fields):
    return flow._replace(source=flow.destination, destination=flow.source, sport=flow.dport, dport=flow.sport, **fields)


def frame(flow, raw, ahead):
    return (bytes(12) + struct.pack(">H", flow.ethertype))[:ahead].rjust(ahead, b"\0") + raw


@pytest.mark.parametrize(("source", "destination"), ADDRESSES)
def test_a_signature_keeps_the_segment_whole(source, destination):
    made = flow(source, destination)
    raw = with_signature(packets.packet(made), made)
    head = 40 if made.six else 20
    # 20 bytes of the header, 20 of the options that a kernel's own SYN has, 20 of the signature: all that TCP allows.
    assert len(raw) == head + 60
    assert raw[head + 4 : head + 8] == made.tag
    assert raw[head + 12] >> 4 == 15
    assert raw[head + 40 : head + 44] == b"\x01\x01\x13\x12"
    if made.six:
        assert struct.unpack(">H", raw[4:6])[0] == 60
        pseudo = made.addresses + struct.pack(">IHBB", 60, 0, 0, 6)
    else:
        assert struct.unpack(">H", raw[2:4])[0] == 80
        assert packets.checksum(raw[:20]) == 0
        pseudo = made.addresses + struct.pack(">BBH", 0, 6, 60)
    assert packets.checksum(pseudo + raw[head:]) == 0


@pytest.mark.parametrize("ahead", [14, 0])
@pytest.mark.parametrize(("source", "destination"), ADDRESSES)
@pytest.mark.parametrize("proto", ["tcp", "udp", "icmp"])
def test_the_packet_and_its_answers_stay_and_others_leave(source, destination, proto, ahead):
    made = flow(source, destination, "icmpv6" if proto == "icmp" and ":" in source else proto)
    raw = packets.packet(made)
    assert drops(made, frame(made, raw, ahead), ahead)
    back = reversed_flow(made, tag=packets.flow_of({"proto": proto, "src": source, "dst": destination}).tag)
    # An error quotes the packet whole.
    error = packets.icmp_message(back._replace(protocol=58 if made.six else 1))[:8] + raw
    ip = packets.packet(back._replace(protocol=58 if made.six else 1))[: 40 if made.six else 20]
    assert drops(made, frame(made, ip + error, ahead), ahead)
    assert not drops(made, frame(made, packets.packet(back), ahead), ahead)
    if proto == "tcp":
        number = (struct.unpack(">I", made.tag)[0] + 1) & 0xFFFFFFFF
        answer = bytearray(packets.packet(back))
        at = (40 if made.six else 20) + 8
        answer[at : at + 4] = struct.pack(">I", number)
        assert drops(made, frame(made, bytes(answer), ahead), ahead)
        answer[at : at + 4] = struct.pack(">I", (number + 1) & 0xFFFFFFFF)
        assert not drops(made, frame(made, bytes(answer), ahead), ahead)


@pytest.mark.parametrize("ahead", [14, 0])
@pytest.mark.parametrize(("source", "destination"), ADDRESSES)
@pytest.mark.parametrize(
    ("proto", "more"), [("tcp", {}), ("tcp", {"tcp_flags": "ack"}), ("udp", {}), ("icmp", {}), ("icmp", {"length": 60})]
)
def test_where_a_packet_comes_back_only_its_answers_stay(source, destination, proto, more, ahead):
    six = ":" in source
    made = flow(source, destination, "icmpv6" if proto == "icmp" and six else proto, **more)
    raw = packets.packet(made)

    def stays(packet):
        whole = frame(made, packet, ahead)
        return any(all(whole[at : at + len(value)] == value for at, value in each) for each in answers(made, ahead))

    assert not stays(raw)
    back = reversed_flow(made)
    error = back._replace(protocol=58 if six else 1)
    head = 40 if six else 20
    assert stays(packets.packet(error)[:head] + packets.icmp_message(error)[:8] + raw)
    if proto == "icmp":
        assert stays(packets.packet(back._replace(icmp_type=129 if six else 0)))
    if more.get("tcp_flags") == "ack":
        # A RST takes its number from the acknowledgement, which is the tag.
        assert stays(packets.packet(back._replace(flags=packets.TCP_FLAGS["rst"])))
