"""Captured frames, what they say of a flow, and between which places a direction was lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN

from netdiag.model.path import Direction, Place, Side, Stage
from netdiag.path.frames import read_frame
from netdiag.path.sights import later_losses, losses, read_sights

A, B = "10.0.1.2", "10.0.1.4"
# With both addresses given scapy asks nobody for one.
FRAME = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def place(stage, side=Side.SOURCE, **fields):
    base = {"namespace": "host", "device": f"{stage.value}-{side.value}", "a": A, "b": B, "port": 80}
    return Place(side=side, stage=stage, where=f"{stage.value} of {side.value}", **{**base, **fields})


WAY = [
    place(Stage.END),
    place(Stage.TUNNEL),
    place(Stage.NIC, vxlan_port=4789),
    place(Stage.NIC, Side.DESTINATION, vxlan_port=4789),
    place(Stage.END, Side.DESTINATION),
]


def syn(source=A, target=B, sport=5000, dport=80, flags="S"):
    return FRAME / IP(src=source, dst=target) / TCP(sport=sport, dport=dport, flags=flags)


def in_vxlan(inner, vni=4097, port=4789, source="192.0.2.1", target="192.0.2.2"):
    return FRAME / IP(src=source, dst=target) / UDP(sport=40000, dport=port) / VXLAN(vni=vni, flags=8) / inner


def raw(*frames, **more):
    items = [{"t_us": 10 * number, "out": False, "data": bytes(frame)} for number, frame in enumerate(frames, 1)]
    return {"frames": items, "error": "", "more": 0, "dropped": 0, **more}


def read_sight(at, answer, source_port=None):
    (seen,) = read_sights([at], {at.key(): answer}, source_port=source_port)
    return seen


def sight(at, there=0, back=0, error=""):
    frames = [syn()] * there + [syn(B, A, 80, 5000, "SA")] * back
    if at.vxlan_port is not None:
        frames = [in_vxlan(frame) for frame in frames]
    return read_sight(at, {"error": error} if error else raw(*frames), 5000)


def test_a_frame_inside_vxlan_tells_both_headers():
    frame = read_frame(bytes(in_vxlan(syn())), 4789)
    assert (frame.source, frame.destination, frame.destination_port, frame.tcp_flags) == (A, B, 80, 2)
    assert (frame.outer_source, frame.outer_destination, frame.vni) == ("192.0.2.1", "192.0.2.2", 4097)
    assert frame.length == 20 + 8 + 8 + 14 + 40
    assert read_frame(bytes(in_vxlan(syn(), port=4790)), 4789) is None


def test_what_refuses():
    reset = read_frame(bytes(syn(B, A, 80, 5000, "RA")))
    unreachable = read_frame(bytes(FRAME / IP(src=B, dst=A) / ICMP(type=3, code=3)))
    assert reset.refuses()
    assert unreachable.refuses()
    assert not read_frame(bytes(FRAME / IP(src=B, dst=A) / ICMP(type=0))).refuses()


def test_ipv6_and_what_is_no_ip():
    frame = read_frame(bytes(FRAME / IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=1, dport=2)))
    assert (frame.source, frame.destination_port, frame.length) == ("fd00::1", 2, 48)
    assert read_frame(bytes(FRAME / ARP())) is None


WHOLE = bytes(in_vxlan(syn()))


@given(st.binary(max_size=200))
def test_no_bytes_are_too_strange(data):
    for port in (None, 4789):
        read_frame(data, port)
        read_frame(WHOLE[: len(data)], port)


def test_only_the_attempt_s_own_port_counts():
    seen = read_sight(WAY[0], raw(syn(), syn(sport=6000), syn(B, A, 80, 5000, "SA"), syn(B, A, 80, 6000, "SA")), 5000)
    assert (seen.there, seen.back, seen.refused) == (1, 1, 0)
    assert (seen.first_there_us, seen.first_back_us, seen.there_length) == (10, 30, 40)


def test_where_the_tunnel_leads_is_kept():
    seen = read_sight(WAY[2], raw(in_vxlan(syn()), in_vxlan(syn(), target="192.0.2.9")), 5000)
    assert (seen.outer_sources, seen.outer_targets, seen.vnis) == (("192.0.2.1",), ("192.0.2.2", "192.0.2.9"), (4097,))


@pytest.mark.parametrize(
    ("there", "back", "direction", "last", "following"),
    [
        ((0, 0, 0, 0, 0), (0,) * 5, Direction.THERE, None, 0),
        ((2, 2, 0, 0, 0), (0,) * 5, Direction.THERE, 1, 2),
        ((2, 2, 2, 2, 0), (0,) * 5, Direction.THERE, 3, 4),
        # What is seen further on was not lost before: a capture may miss a frame.
        ((2, 0, 2, 2, 0), (0,) * 5, Direction.THERE, 3, 4),
        ((1,) * 5, (0,) * 5, Direction.BACK, None, 4),
        ((1,) * 5, (0, 0, 0, 1, 1), Direction.BACK, 3, 2),
        ((1,) * 5, (0, 1, 1, 1, 1), Direction.BACK, 1, 0),
    ],
)
def test_between_which_places_it_was_lost(there, back, direction, last, following):
    (loss,) = losses([sight(at, *counts) for at, *counts in zip(WAY, there, back, strict=True)])
    assert loss.direction is direction
    assert loss.last == (None if last is None else WAY[last])
    assert loss.next == WAY[following]


def test_an_exchange_that_was_seen_whole_is_not_lost():
    assert losses([sight(at, 1, 1) for at in WAY]) == ()


def test_a_place_that_could_not_be_watched_is_passed_over():
    seen = [sight(at, 1 if index < 2 else 0) for index, at in enumerate(WAY)]
    seen[2] = sight(WAY[2], error="no such device")
    (loss,) = losses(seen)
    assert (loss.last, loss.next) == (WAY[1], WAY[3])
    assert not seen[2].watched


HOST_ADDRESS, OTHER = "198.51.100.1", "198.51.100.9"
BEFORE = place(Stage.END, a=A, b=B)
BEHIND = place(Stage.NIC, a=HOST_ADDRESS, b=B, origins=(A,))


def numbered(source, sport, number, dport=80, flags="S", target=B):
    return FRAME / IP(src=source, dst=target) / TCP(sport=sport, dport=dport, seq=number, flags=flags)


def both(first, second, at=BEHIND):
    """What two places saw, the attempt made from port 5000."""
    return read_sights([BEFORE, at], {BEFORE.key(): raw(*first), at.key(): raw(*second)}, source_port=5000)


@pytest.mark.parametrize(("source", "port"), [(HOST_ADDRESS, 5000), (HOST_ADDRESS, 61000), (A, 5000)])
def test_an_attempt_is_known_behind_translation_by_its_first_number(source, port):
    _, seen = both([numbered(A, 5000, 77)], [numbered(source, port, 77), numbered(B, 80, 9, port, "SA", source)])
    assert (seen.there, seen.back, seen.origin) == (1, 1, source)


def test_a_connection_of_the_host_itself_is_another():
    _, seen = both([numbered(A, 5000, 77)], [numbered(HOST_ADDRESS, 61000, 78), numbered(OTHER, 5000, 77)])
    assert (seen.there, seen.back) == (0, 0)


def test_what_a_proxy_calls_in_its_own_name_is_the_attempt_s():
    at = place(Stage.PORT, Side.DESTINATION, a=A, b=B, proxy=HOST_ADDRESS)
    _, seen = both([numbered(A, 5000, 77)], [numbered(HOST_ADDRESS, 61000, 5)], at)
    assert (seen.there, seen.origin) == (1, HOST_ADDRESS)
    # Where the attempt itself comes through, the proxy's other calls are not it.
    _, seen = both([numbered(A, 5000, 77)], [numbered(A, 5000, 77), numbered(HOST_ADDRESS, 61000, 5)], at)
    assert (seen.there, seen.origin) == (1, A)


def test_a_datagram_is_known_by_what_it_contains():
    def datagram(source, target, content):
        return FRAME / IP(src=source, dst=target) / UDP(sport=5000, dport=80) / content

    answer = raw(datagram(A, B, b"our-tag!"), datagram(A, B, b"another"), datagram(B, A, b"any answer"))
    (seen,) = read_sights([BEFORE], {BEFORE.key(): answer}, tag=b"our-tag!")
    assert (seen.there, seen.back) == (1, 1)


def opened(at, there, back, *, then_there=0, then_back=0):
    """A place that has seen the opening of a connection, and so many packets that follow."""
    frames = [syn()] * there + [syn(B, A, 80, 5000, "SA")] * back
    return read_sight(at, raw(*frames, *[syn(flags="A")] * then_there, *[syn(B, A, 80, 5000, "A")] * then_back), 5000)


PLAIN = [WAY[0], place(Stage.NIC, Side.DESTINATION), WAY[4]]


def test_a_connection_that_opens_and_loses_what_follows():
    counts = [{"then_there": 2}, {"then_there": 2}, {}]
    (loss,) = later_losses([opened(at, 1, 1, **more) for at, more in zip(PLAIN, counts, strict=True)])
    assert (loss.direction, loss.last, loss.next, loss.later) == (Direction.THERE, PLAIN[1], PLAIN[2], True)


def test_a_connection_whose_answers_are_lost_behind_its_opening():
    counts = [{"then_there": 2}, {"then_there": 2}, {"then_there": 2, "then_back": 1}]
    (loss,) = later_losses([opened(at, 1, 1, **more) for at, more in zip(PLAIN, counts, strict=True)])
    assert (loss.direction, loss.last, loss.next) == (Direction.BACK, PLAIN[2], PLAIN[1])


@pytest.mark.parametrize(
    "seen",
    [
        [opened(at, 1, 1, then_there=2, then_back=1) for at in PLAIN],
        [opened(at, 1, 1) for at in PLAIN],
        [opened(PLAIN[0], 1, 1, then_there=2), opened(PLAIN[1], 0, 0), opened(PLAIN[2], 1, 1, then_there=2)],
        [opened(PLAIN[0], 1, 0, then_there=2), opened(PLAIN[1], 0, 1), opened(PLAIN[2], 0, 1)],
        [opened(at, 1, 1, then_there=2, then_back=1) for at in PLAIN[:2]] + [sight(PLAIN[2], error="gone")],
    ],
    ids=["whole", "nothing follows", "one place is passed by", "all places are passed by", "the last is not watched"],
)
def test_a_connection_that_loses_nothing(seen):
    assert later_losses(seen) == ()


def test_a_reset_follows_nothing():
    seen = read_sight(PLAIN[0], raw(syn(), syn(B, A, 80, 5000, "SA"), syn(flags="R"), syn(flags="RA")), 5000)
    assert (seen.there, seen.there_later, seen.back_later) == (3, 0, 0)
