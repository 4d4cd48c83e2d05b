"""Two halves put together: never more certain than what both saw."""

import msgspec
import pytest

from netdiag.causes import cause
from netdiag.errors import UsageError
from netdiag.model.half import HalfCount, HalfFlow, HalfPlace, Outcome, Told
from netdiag.model.path import Direction, PathKind, Stage
from netdiag.model.report import Confidence, State
from netdiag.path.half_alone import alone
from netdiag.path.half_join import joined, service_found
from tests.unit.path.halves import DUE_S, NIC, far, near, told, tunnelled, turn

LATER_S = DUE_S + 60


def causes(done):
    return [(each.check, each.cause.code, each.cause.host) for each in done.found if each.cause is not None]


def unknown(done):
    (found,) = [each for each in done.found if each.state is State.UNKNOWN]
    return found


def test_a_rule_of_the_destination():
    done = joined(near(), far(told=(told(),)))
    assert causes(done) == [("path.loss", "firewall.rule", "far")]
    assert [sight.there for sight in done.sights] == [1, 1]


def test_either_side_says_the_same():
    one, other = near(), far(told=(told(),))
    assert causes(joined(other, one)) == causes(joined(one, other))


def test_lost_between_with_an_echo_that_arrives():
    done = joined(near(), far(turn(there=0, echo_arrived=True, late_ms=2)))
    ((check, code, host),) = causes(done)
    assert (check, code, host) == ("path.loss", "underlay.filtered", None)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (far(turn(there=0, echo_arrived=False)), "clocks"),
        (far(turn(there=0, echo_arrived=None)), "clocks"),
        (far(turn(there=0, echo_arrived=True, late_ms=2), hidden="an XDP program on eth0"), "an XDP program on eth0"),
    ],
)
def test_lost_between_and_nothing_to_tell_by_is_unknown(other, says):
    done = joined(near(), other)
    assert causes(done) == []
    assert says in unknown(done).reason


def test_a_side_that_was_heard_at_least_has_the_right_time():
    heard = near(turn(outcome=Outcome.LOST, echo_arrived=True, late_ms=4))
    assert "clocks" not in unknown(joined(heard, far(turn(there=0, echo_arrived=False)))).reason


def test_answers_that_are_lost_between():
    other = far(turn(back=1, echo_arrived=True, late_ms=2))
    done = joined(near(turn(outcome=Outcome.LOST, echo_arrived=True, late_ms=1)), other)
    assert causes(done) == [("path.loss", "underlay.filtered", None)]
    assert done.losses[0].direction is Direction.BACK
    assert causes(joined(near(turn(outcome=Outcome.LOST, echo_arrived=False)), other)) == []


def test_a_filter_of_the_destination_that_was_not_reached_is_only_ahead():
    done = joined(near(turn(there=0, outcome=Outcome.LOST)), far(turn(there=0), told=(told(ahead=True),)))
    assert causes(done) == [("path.ahead", "firewall.rule", "far")]
    assert unknown(done).check == "path.loss"


def test_an_answer_that_nobody_here_gave():
    done = joined(near(turn(back=1, outcome=Outcome.ANSWERED)), far(turn(there=0, echo_arrived=True, late_ms=1)))
    assert unknown(done).check == "path.another"


def test_a_datagram_to_one_who_listens_is_no_failure_by_itself():
    flow = HalfFlow(source="192.0.2.1", destination="192.0.2.2", protocol="udp", port=4789)
    done = joined(near(flow=flow), far(flow=flow, listens="vxlan"))
    assert {each.state for each in done.found} == {State.OK}
    broken = joined(near(flow=flow), far(flow=flow, listens="vxlan", told=(told(),)))
    assert causes(broken) == [("path.loss", "firewall.rule", "far")]


def test_behind_the_card_of_a_published_port():
    port = HalfPlace(stage=Stage.PORT, namespace="host", device="veth1")
    one = turn(echo_arrived=True, late_ms=1)
    other = far(msgspec.structs.replace(one, counts=(HalfCount(1), HalfCount(0))), places=(NIC, port), told=(told(),))
    done = joined(near(), other)
    assert (done.losses[0].last.device, done.losses[0].next.device) == ("eth0", "veth1")
    assert causes(done) == [("path.loss", "firewall.rule", "far")]


def test_rounds_that_end_differently_are_told():
    rounds = (turn(back=1, outcome=Outcome.ANSWERED), turn(due_s=LATER_S, outcome=Outcome.LOST))
    done = joined(near(*rounds), far(turn(back=1), turn(due_s=LATER_S, there=0, echo_arrived=True, late_ms=1)))
    assert {each.check for each in done.found} >= {"path.turns", "path.loss"}
    assert causes(done) == [("path.loss", "underlay.filtered", None)]


def test_clocks_that_differ_are_told():
    done = joined(near(), far(turn(echo_arrived=True, late_ms=8000)))
    (clock,) = [each for each in done.found if each.check == "path.clock"]
    assert clock.summary == "the clock of far is 8 s ahead of that of near"


def test_hosts_of_one_name_are_told_apart():
    done = joined(near(), far(host="near", told=(told(),)))
    assert causes(done) == [("path.loss", "firewall.rule", "near (192.0.2.2)")]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (near(), "the source's side"),
        (far(flow=HalfFlow(source="192.0.2.1", destination="192.0.2.2", protocol="tcp", port=22)), "another flow"),
        (far(within_s=20), "--within 20"),
        (far(turn(due_s=LATER_S)), "shared no round"),
        (far(turn(due_s=LATER_S, late_ms=95000)), "95 s ahead of that of near"),
    ],
)
def test_halves_that_do_not_fit(other, says):
    with pytest.raises(UsageError, match=says) as caught:
        joined(near(), other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("half", "says"),
    [
        (near(), "what becomes of the attempt"),
        (far(turn(there=0)), "nothing of other came"),
        (far(turn(back=1)), "whether the answer arrives"),
        (far(), "nothing answers"),
    ],
)
def test_one_side_alone_waits_for_the_other(half, says):
    done = alone(half, "other")
    assert causes(done) == []
    assert says in unknown(done).summary
    assert unknown(done).answers


def test_one_side_alone_names_what_it_found():
    assert causes(alone(far(told=(told(),)), "other")) == [("path.loss", "firewall.rule", "far")]
    assert {each.state for each in alone(far(told=(told(),)), "other").found} == {State.FAIL}


# --- containers of an overlay network ---


def test_in_an_overlay_the_places_of_both_sides_are_one_way():
    done = joined(tunnelled(near(), 1, 1, 1, 1), tunnelled(far(told=(told(),)), 1, 0, 0, 0, container="db.1"))
    assert (done.losses[0].last.stage, done.losses[0].next.stage) == (Stage.NIC, Stage.TUNNEL)
    assert causes(done) == [("path.loss", "firewall.rule", "far")]
    assert (done.way.kind, done.way.vxlan_port, done.way.destination.container) == (PathKind.OVERLAY, 4789, "db.1")


def test_tunnels_that_vanish_between_while_an_echo_of_the_hosts_arrives():
    other = tunnelled(far(turn(there=0, echo_arrived=True, late_ms=2)), 0, 0, 0, 0, container="db.1")
    (found,) = [each.cause for each in joined(tunnelled(near(), 1, 1, 1, 1), other).found if each.cause]
    assert (found.code, found.confidence) == ("underlay.filtered", Confidence.LIKELY)
    assert (found.object["protocol"], found.object["port"]) == ("udp", 4789)


def test_engines_that_do_not_agree_where_tunnels_end_blame_nothing_between():
    one = tunnelled(near(), 1, 1, 1, 1, towards="192.0.2.9")
    done = joined(one, tunnelled(far(turn(there=0, echo_arrived=True, late_ms=2)), 0, 0, 0, 0))
    assert causes(done) == []
    assert "192.0.2.9" in unknown(done).reason


def stale(expected):
    thing = {"kind": "fdb", "mac": "02:42:0a:00:01:06", "vtep": "192.0.2.9", "expected": expected}
    found = cause("overlay.fdb-stale", host="near", object=thing, confidence=Confidence.LIKELY)
    return Told(cause=found)


@pytest.mark.parametrize(("expected", "sure"), [("192.0.2.2", Confidence.PROVEN), ("192.0.2.7", Confidence.LIKELY)])
def test_a_stale_entry_of_the_sender_goes_before_the_network_between(expected, sure):
    one = tunnelled(near(told=(stale(expected),)), 1, 1, 1, 1)
    done = joined(one, tunnelled(far(turn(there=0, echo_arrived=True, late_ms=2)), 0, 0, 0, 0))
    ((found, how),) = [(each.cause.code, each.cause.confidence) for each in done.found if each.cause]
    assert (found, how) == ("overlay.fdb-stale", sure)


def test_what_the_other_side_could_not_find_out_is_said():
    one = tunnelled(near(), 1, 1, 1, 1)
    done = joined(one, tunnelled(far(why="VXLAN in: no trace could be made"), 1, 0, 0, 0))
    assert unknown(done).reason == "far says: VXLAN in: no trace could be made"


def test_hosts_of_one_name_are_told_apart_by_where_their_tunnels_end():
    other = tunnelled(far(host="near", told=(told(),)), 1, 0, 0, 0)
    assert causes(joined(tunnelled(near(), 1, 1, 1, 1), other)) == [("path.loss", "firewall.rule", "near (192.0.2.2)")]


def test_a_service_that_was_called_by_its_task_is_said():
    half = tunnelled(far(), 1, 1, 1, 1, container="db.1")
    assert [each.check for each in service_found([half], "db")] == ["path.virtual-ip"]
    assert list(service_found([half], "db.1")) == []
    assert list(service_found([far()], "db")) == []
