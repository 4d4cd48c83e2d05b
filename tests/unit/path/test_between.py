"""What numbered packets between two hosts prove: loss, dead flows, a filter, translation, or nothing at all."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdiag.model.facts import Link, Section
from netdiag.model.path import Direction, End, Loss, PathKind, Place, Side, Stage
from netdiag.model.path import Way as Flow
from netdiag.model.report import Confidence, State
from netdiag.model.two_sided import Payload, SidedProbe, Way
from netdiag.path.between import between_founds, is_unsteady, judge
from netdiag.path.bursts import Rate, series_of, wire_of
from netdiag.path.filtered import flow_filtered_cause, hidden_by_program
from netdiag.path.flows import split
from netdiag.path.lossy import is_lossy
from tests.unit.path.facts_of import facts

A, B = "192.0.2.1", "192.0.2.2"


def place(side, port=None, vxlan_port=4789):
    return Place(
        side=side,
        stage=Stage.NIC,
        namespace="host",
        device="eth0",
        a=A,
        b=B,
        port=port,
        vxlan_port=vxlan_port,
        where=f"eth0 of {side.value}",
    )


OVERLAY = Flow(
    kind=PathKind.OVERLAY,
    source=End(host="near", address="10.0.1.2", host_address=A, network="app"),
    destination=End(host="far", address="10.0.1.4", host_address=B, network="app"),
    protocol="icmp",
    places=(place(Side.SOURCE), place(Side.DESTINATION)),
    vxlan_port=4789,
)
HOSTS = Flow(
    kind=PathKind.HOST,
    source=End(host="near", address=A, host_address=A),
    destination=End(host="far", address=B, host_address=B),
    protocol="tcp",
    port=443,
    places=(place(Side.SOURCE, 443, None), place(Side.DESTINATION, 443, None)),
)


def probe(number, arrived, *, way=Way.THERE, sent=4, **more):
    fields = {"protocol": "udp", "port": 4789, "payload": Payload.VXLAN, "source_port": 40000 + number, **more}
    own, other = (A, B) if way is Way.THERE else (B, A)
    addresses = {"source": own, "destination": other}
    seen = {"seen_source": own, "seen_destination": other} if arrived else {}
    return SidedProbe(number=number, way=way, sent=sent, left=sent, arrived=arrived, **{**addresses, **seen, **fields})


def echoes(count, arrived=4, way=Way.THERE):
    kind = {"protocol": "icmp", "port": None, "payload": Payload.TAG, "source_port": None}
    return [probe(900 + number, arrived, way=way, **kind) for number in range(count)]


def judged(probes, flow=OVERLAY):
    return judge(flow, wire_of(flow), probes)


def codes(probes, flow=OVERLAY):
    return [one.code for one in judged(probes, flow).causes]


def test_what_arrives_whole_is_healthy():
    seen = judged([probe(number, 4, way=way) for way in Way for number in range(48)] + echoes(12))
    assert (seen.causes, seen.whole, seen.reason) == ((), True, "")
    (found,) = between_founds(OVERLAY, seen, needed=True)
    assert found.state is State.OK
    assert "432 numbered packets between the hosts, 0 of them lost" in found.summary


@pytest.mark.parametrize("lost", [1, 2])
def test_one_or_two_of_many_are_chance(lost):
    assert codes([probe(number, 3 if number < lost else 4) for number in range(48)]) == []


def test_loss_has_its_rate_direction_and_interval():
    probes = [probe(number, 3 if number % 2 else 4, way=Way.BACK) for number in range(48)]
    (one,) = judged([*probes, *echoes(40, way=Way.BACK)]).causes
    assert (one.code, one.host, one.confidence) == ("underlay.loss", None, Confidence.PROVEN)
    assert (one.object["from"], one.object["to"], one.object["rate"]) == (B, A, 0.125)
    assert one.object["low"] < 0.125 < one.object["high"]
    assert (one.object["protocol"], one.object["port"]) == ("udp", 4789)


def test_loss_of_everything_is_not_blamed_on_one_kind():
    probes = [probe(number, 3 if number % 2 else 4) for number in range(48)]
    (one,) = judged([*probes, *echoes(12, arrived=3)]).causes
    assert (one.object["protocol"], one.object["port"]) == (None, None)
    (one,) = judged([*probes, *echoes(2)]).causes
    assert one.object["protocol"] is None  # so few echoes would arrive anyway


def test_tuples_that_never_arrive_are_no_loss_at_random():
    probes = [probe(number, 0 if number % 4 == 0 else 4) for number in range(48)]
    (one,) = judged(probes).causes
    assert (one.code, one.parent) == ("underlay.flow-hash", "underlay.loss")
    assert (one.object["share"], one.object["flows"], one.object["dead"]) == (0.25, 48, 12)
    assert 40000 in one.object["source_ports"]


def test_dead_flows_and_loss_beside_them_are_both_named():
    arrived = [0 if number % 4 == 0 else 7 if number % 2 else 8 for number in range(48)]
    found = judged([probe(number, count, sent=8) for number, count in enumerate(arrived)]).causes
    assert [one.code for one in found] == ["underlay.flow-hash", "underlay.loss"]
    assert found[1].object["rate"] == pytest.approx(24 / (36 * 8), abs=1e-4)


@pytest.mark.parametrize(("rate", "times"), [(0.02, 8), (0.2, 8), (0.4, 8), (0.6, 8), (0.5, 4), (0.7, 4)])
def test_loss_at_random_is_not_taken_for_dead_flows(rate, times):
    """Of heavy loss whole tuples die by chance; how many is in the count."""
    wrong = 0
    for seed in range(300):
        draw = random.Random(seed)
        probes = [probe(number, sum(draw.random() >= rate for _ in range(times)), sent=times) for number in range(48)]
        wrong += "underlay.flow-hash" in codes(probes)
    assert wrong <= 1


CARDS = Loss(direction=Direction.THERE, last=HOSTS.places[0], next=HOSTS.places[1])


@pytest.mark.parametrize(
    ("others", "control", "sure"),
    [(True, None, Confidence.PROVEN), (True, False, Confidence.PROVEN), (False, True, Confidence.LIKELY)],
)
def test_one_flow_alone_is_taken(others, control, sure):
    one = flow_filtered_cause(HOSTS, CARDS, (), others=others, control_arrived=control)
    assert (one.code, one.confidence, one.object["port"]) == ("underlay.filtered", sure, 443)


def test_without_anything_that_arrives_no_flow_is_filtered():
    assert flow_filtered_cause(HOSTS, CARDS, (), others=False, control_arrived=False) is None
    ended = Loss(direction=Direction.BACK, last=None, next=HOSTS.places[1])
    assert flow_filtered_cause(HOSTS, ended, (), others=True, control_arrived=True) is None


def test_a_program_on_the_receiver_s_card_may_be_what_drops():
    (one,) = judged([*(probe(number, 0) for number in range(8)), *echoes(4)]).causes
    there = facts(name="far")
    assert hidden_by_program(one, {"far": there}) is one
    carded = {"host": (Link(index=2, name="eth0", xdp_mode="driver"),)}
    busy = msgspec.structs.replace(there, links=Section(value=carded))
    assert hidden_by_program(one, {"near": busy, "far": there}) is one
    unsure = hidden_by_program(one, {"far": busy})
    assert (unsure.code, unsure.confidence) == ("underlay.filtered", Confidence.LIKELY)
    assert "XDP program is attached to eth0 of far" in unsure.explanation


def test_where_packets_come_and_go_no_size_is_asked_for():
    dead = [probe(number, 0 if number % 4 == 0 else 4) for number in range(48)]
    assert is_unsteady(dead, Direction.THERE)
    assert not is_unsteady(dead, Direction.BACK)
    assert is_unsteady([probe(number, 3) for number in range(48)], Direction.THERE)
    assert is_unsteady([*(probe(number, 4) for number in range(48)), *echoes(12, arrived=3)], Direction.THERE)
    assert not is_unsteady([probe(number, 0) for number in range(48)], Direction.THERE)
    assert not is_unsteady([probe(number, 4) for number in range(48)], Direction.THERE)


def test_what_is_sent_once_more_for_its_state_is_not_counted():
    again = probe(5, 0, again=True)
    assert judged([*(probe(number, 4) for number in range(5)), again, again]).whole


def test_one_silent_tuple_is_too_few():
    assert codes([probe(number, 4 if number else 0) for number in range(48)]) in ([], ["underlay.loss"])
    assert split(series_of([probe(0, 0), probe(1, 4)], Direction.THERE)[0]) is None


def test_a_kind_of_which_nothing_arrives_is_filtered():
    dead = [probe(number, 0, way=way) for way in Way for number in range(8)]
    control = [*echoes(4), *echoes(4, way=Way.BACK)]
    (one,) = judged([*dead, *control]).causes
    assert (one.code, one.object["both_ways"], one.object["port"]) == ("underlay.filtered", True, 4789)
    assert "payload" not in one.object
    (one,) = judged([each for each in (*dead, *control) if each.way is Way.BACK]).causes
    assert (one.object["from"], one.object["hosts"], "both_ways" in one.object) == (B, ["far", "near"], False)


def test_a_filter_that_looks_for_vxlan_is_told_from_one_of_the_port():
    plain = [probe(70 + number, 2, sent=2, payload=Payload.TAG) for number in range(8)]
    (one,) = judged([*(probe(number, 0) for number in range(8)), *plain]).causes
    assert (one.object["payload"], bool(one.remedy)) == ("vxlan", True)


def test_a_filter_that_keeps_state_is_named_with_its_side():
    plain = [probe(70, 0, payload=Payload.TAG), probe(71, 1, payload=Payload.TAG, again=True)]
    (one,) = judged([*(probe(number, 0) for number in range(8)), *plain, *echoes(4)]).causes
    assert one.object["side"] == "far"


def test_where_nothing_arrives_at_all_nothing_is_blamed():
    seen = judged([*(probe(number, 0) for number in range(8)), *echoes(4, arrived=0)])
    assert (seen.causes, seen.whole) == ((), False)
    assert "not even a control" in seen.reason


def test_answers_are_the_way_back_of_a_connection():
    kind = {"protocol": "tcp", "port": 443, "payload": Payload.TAG}
    probes = [probe(number, 4, answers_left=4, answers_arrived=0, **kind) for number in range(8)]
    replies = [
        probe(
            90,
            4,
            protocol="icmp",
            port=None,
            payload=Payload.TAG,
            source_port=None,
            answers_left=4,
            answers_arrived=4,
        )
    ]
    (one,) = judged([*probes, *replies], HOSTS).causes
    assert (one.code, one.object["from"], one.object["answers"]) == ("underlay.filtered", B, True)


def test_what_could_not_be_watched_or_sent_tells_nothing():
    probes = [
        SidedProbe(number=1, way=Way.THERE, protocol="tcp", port=443, sent=4, left=4, arrived=None),
        SidedProbe(number=2, way=Way.THERE, protocol="tcp", port=443, unsent="not permitted"),
        SidedProbe(number=3, way=Way.THERE, protocol="tcp", port=443, sent=4, left=0, arrived=0),
    ]
    seen = judged(probes, HOSTS)
    assert (seen.causes, seen.whole) == ((), False)
    assert "not permitted" in seen.reason
    (found,) = between_founds(HOSTS, seen, needed=True)
    assert found.state is State.SKIP
    assert "not permitted" in found.reason


def test_an_address_that_arrives_as_another():
    moved = probe(1, 4)
    probes = [moved, probe(2, 4, seen_source="192.0.2.99"), probe(3, 4, way=Way.BACK)]
    (one,) = judged(probes).causes
    assert (one.code, one.object["before"], one.object["after"]) == ("underlay.nat", A, "192.0.2.99")
    assert [found.state for found in between_founds(OVERLAY, judged(probes), needed=True)] == [State.WARN]


def test_ways_that_pass_no_two_cards_have_no_wire():
    assert wire_of(Flow(**{**fields_of(OVERLAY), "places": OVERLAY.places[:1]})) is None
    assert wire_of(HOSTS).protocol == "tcp"
    portless = Flow(**{**fields_of(HOSTS), "protocol": "icmp", "port": None})
    assert wire_of(portless).protocol == "icmp"
    assert wire_of(portless, port=22).port == 22


def fields_of(flow):
    return {name: getattr(flow, name) for name in flow.__struct_fields__}


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_an_interval_holds_its_share(sent, lost):
    rate = Rate(sent=sent, lost=min(sent, lost))
    low, high = rate.interval
    assert 0.0 <= low <= rate.share + 1e-9
    assert rate.share - 1e-9 <= high <= 1.0


def test_a_share_must_be_more_than_chance():
    assert not is_lossy(Rate(sent=1000, lost=2))
    assert not is_lossy(Rate(sent=4000, lost=4))
    assert not is_lossy(Rate(sent=20, lost=2))
    assert is_lossy(Rate(sent=192, lost=6))
