"""What is too large for whom: a host's path, an overlay's packets, or a filter that looks at lengths."""

import pytest

from netdiag.model.icmp import IcmpError
from netdiag.model.path import Direction
from netdiag.model.report import Confidence, State
from netdiag.model.two_sided import Heard, Payload, SidedProbe, Way
from netdiag.path.sizes import Sending, size_founds
from tests.unit.path.test_between import HOSTS, OVERLAY

USUAL = Sending(device="eth0", mtu_bytes=1500, other_mtu_bytes=1500, inner_mtu_bytes=1450)


def rows(**outcomes):
    return [{"size": int(size[1:]), "outcome": outcome} for size, outcome in outcomes.items()]


def swept(largest, *tried, protocol="icmp", way=Way.THERE, said=False, small=True):
    """The probes of one kind: a small one, and those sizes, of which all up to ``largest`` arrive."""
    udp = protocol == "udp"
    kind = {"protocol": protocol, "port": 4789 if udp else None, "payload": Payload.VXLAN if udp else Payload.TAG}
    error = IcmpError(type=3, code=4, sender="192.0.2.9", mtu_bytes=largest)
    found = [SidedProbe(number=1, way=way, sent=2, left=2, arrived=2 if small else 0, **kind)]
    for size in tried:
        lost = size > largest
        heard = Heard(kind="icmp", icmp=error) if lost and said else Heard()
        found.append(
            SidedProbe(
                number=size, way=way, length_bytes=size, sent=2, left=2, arrived=0 if lost else 2, heard=heard, **kind
            )
        )
    return found


def judged(probes, flow=OVERLAY, **by):
    sending = Sending(**{**{name: getattr(USUAL, name) for name in USUAL.__struct_fields__}, **by})
    return list(size_founds(flow, probes, {Direction.THERE: sending}))


def both(largest, *tried, **more):
    return [*swept(largest, *tried, **more), *swept(largest, *tried, protocol="udp", **more)]


def test_all_sizes_pass():
    assert judged(both(1500, 1400, 1500), rows=rows(s576="answered", s1450="answered")) == []


def test_an_overlay_on_a_path_that_carries_less():
    (found,) = judged(both(1400, 1400, 1401, 1500), rows=rows(s576="answered", s1400="silent", s1450="silent"))
    one = found.cause
    assert (found.state, one.code, one.host, one.confidence) == (State.FAIL, "overlay.mtu", None, Confidence.PROVEN)
    assert (one.object["path_mtu_bytes"], one.object["needed_bytes"], one.object["name"]) == (1400, 1500, "app")
    assert "com.docker.network.driver.mtu=1400" in one.remedy[0].commands[1]


def test_an_overlay_whose_own_packets_fit():
    assert judged(both(1400, 1400, 1500), inner_mtu_bytes=1350) == []
    assert judged(both(1500, 1500, 9000), mtu_bytes=9000) == []


def test_an_overlay_whose_large_packets_come_in_pieces():
    """Overlays send without DF: a router may cut what it cannot pass on."""
    passing = rows(s576="answered", s1400="answered", s1450="answered")
    assert judged(both(1400, 1400, 1500), rows=passing) == []


def test_a_small_card_says_so_to_its_own_containers():
    (found,) = judged(both(1400, 1400), mtu_bytes=1400, rows=rows(s576="answered", s1450="icmp"))
    assert (found.state, found.cause.host, found.cause.confidence) == (State.WARN, "near", Confidence.LIKELY)


def test_both_ways_are_one_network():
    there, back = both(1400, 1400, 1500), both(1450, 1450, 1500, way=Way.BACK)
    silent = rows(s1450="silent")
    sending = Sending(device="eth0", mtu_bytes=1500, other_mtu_bytes=1500, inner_mtu_bytes=1450, rows=silent)
    (found,) = size_founds(OVERLAY, [*there, *back], dict.fromkeys(Direction, sending))
    assert found.cause.object["path_mtu_bytes"] == 1400


@pytest.mark.parametrize(
    ("said", "other", "code", "state"),
    [
        (False, 1500, "underlay.mtu-blackhole", State.FAIL),
        (True, 1500, "underlay.mtu", State.WARN),
        (False, 1400, "underlay.mtu-blackhole", State.WARN),
    ],
    ids=["nothing says so", "the path says so", "TCP agrees on less anyway"],
)
def test_hosts_that_send_more_than_passes(said, other, code, state):
    (found,) = judged(both(1400, 1400, 1500, said=said), HOSTS, other_mtu_bytes=other)
    assert (found.cause.code, found.state, found.cause.host) == (code, state, "near")
    assert (found.cause.object["mtu_bytes"], found.cause.object["largest_bytes"]) == (1500, 1400)
    assert found.cause.object.get("router") == ("192.0.2.9" if said else None)
    assert found.cause.remedy[0].commands == ("ip link set dev eth0 mtu 1400",)


def test_a_path_below_the_least_of_ipv6_is_to_be_repaired():
    (found,) = judged(both(1200, 1200, 1500), HOSTS)
    assert found.cause.remedy == ()


def test_lengths_that_are_filtered_of_one_kind_only():
    probes = [*swept(1500, 1400, 1500), *swept(1220, 1220, 1221, 1500, protocol="udp")]
    (found,) = judged(probes)
    assert (found.cause.code, found.cause.object["size"]) == ("underlay.filtered", 1221)


def test_large_pings_that_are_filtered_bother_nobody():
    probes = [*swept(1000, 1400, 1500), *swept(1500, 1400, 1500, protocol="udp")]
    assert judged(probes) == []


def test_a_size_that_is_lost_once_below_one_that_arrives_is_chance():
    (lost,) = swept(1300, 1400)[1:]
    probes = [*swept(1500, 1450, 1500), lost]
    assert judged(probes, HOSTS) == []


def test_without_a_small_packet_that_arrives_a_size_says_nothing():
    assert judged([*swept(0, 1400, 1500, small=False)], HOSTS) == []
    assert judged([], HOSTS) == []
