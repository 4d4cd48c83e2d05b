"""A rule that takes invalid packets, and a host that sees one direction only."""

import msgspec
import pytest

from netdiag.facts.trace_wanted import Wanted
from netdiag.firewall.by_connection import asks_for_invalid
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.path import Direction, End, Loss, PathKind, Place, Side, Sight, Stage, Way
from netdiag.model.trace import TracePath
from netdiag.path.one_way import one_direction
from netdiag.path.questions import Question, questions
from netdiag.path.sights import losses
from netdiag.path.verdict import Traced, rule_cause
from tests.unit.firewall.test_near_miss import traced
from tests.unit.path.test_sights import place

INVALID = "-A FORWARD -m conntrack --ctstate INVALID -j DROP"


def rule(text, **more):
    base = {"backend": Backend.IPTABLES_NFT, "family": "ip", "table": "filter", "chain": "FORWARD", "number": 1}
    return FirewallRule(text=text, **{**base, **more})


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        (INVALID, True),
        ("-A INPUT -m state --state INVALID -j DROP", True),
        ("ct state invalid counter drop", True),
        ("-A INPUT -m conntrack --ctstate INVALID,NEW -j DROP", False),
        ("-A INPUT -m conntrack ! --ctstate INVALID -j DROP", False),
        ("-A INPUT -j DROP", False),
    ],
)
def test_which_rules_take_what_is_invalid(text, asks):
    assert asks_for_invalid(rule(text)) is asks


PLACES = [place(Stage.NIC), place(Stage.NIC, Side.DESTINATION), place(Stage.PORT, Side.DESTINATION)]
END = place(Stage.END, Side.DESTINATION, namespace="container:b")


def sights(*counts):
    return tuple(
        Sight(place=where, there=there, back=back, refused=refused)
        for where, (there, back, refused) in zip([*PLACES, END], counts, strict=True)
    )


ASKED_ELSEWHERE = sights((2, 0, 0), (0, 0, 0), (0, 2, 0), (0, 2, 0))


def test_answers_without_requests():
    assert "answers were seen at port of destination" in one_direction(ASKED_ELSEWHERE, Side.DESTINATION).text


@pytest.mark.parametrize(
    "seen",
    [
        sights((2, 0, 0), (2, 0, 0), (2, 2, 0), (2, 2, 0)),
        sights((2, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
        sights((2, 0, 0), (0, 1, 1), (0, 0, 0), (0, 0, 0)),
    ],
    ids=["both directions", "neither", "a refusal"],
)
def test_what_is_no_asymmetry(seen):
    assert one_direction(seen, Side.DESTINATION) is None


ASKED_HERE = sights((3, 1, 0), (3, 0, 0), (1, 0, 0), (1, 1, 0))


def test_requests_without_answers_of_a_connection_that_opened():
    said = one_direction(ASKED_HERE, Side.DESTINATION, answered=True).text
    assert "requests were seen at nic of destination, port of destination, and no answer" in said


def test_requests_without_answers_of_one_that_did_not():
    assert one_direction(ASKED_HERE, Side.DESTINATION) is None


def test_a_request_that_was_answered_was_not_lost():
    (loss,) = losses(ASKED_ELSEWHERE)
    assert (loss.direction, loss.last, loss.next) == (Direction.BACK, PLACES[2], PLACES[1])


def test_a_refusal_tells_nothing_of_where_the_request_came():
    (loss,) = losses(sights((2, 0, 0), (0, 0, 0), (0, 0, 0), (0, 1, 1)))
    assert loss.direction is Direction.THERE


WAY = Way(
    kind=PathKind.ROUTED,
    source=End(host="near", address="10.0.1.2"),
    destination=End(host="far", address="10.0.1.4"),
    protocol="tcp",
    places=(),
)
QUESTION = Question(
    side=Side.DESTINATION, wanted=Wanted(path=TracePath.FORWARD, protocol="tcp"), about="answers out", answer=True
)


@pytest.mark.parametrize(
    ("text", "seen", "code"),
    [
        (INVALID, ASKED_ELSEWHERE, "conntrack.invalid"),
        (INVALID, sights((2, 0, 0), (2, 0, 0), (2, 2, 0), (2, 2, 0)), "firewall.rule"),
        ("-A FORWARD -p tcp -j DROP", ASKED_ELSEWHERE, "firewall.rule"),
    ],
    ids=["both", "a symmetric way", "another rule"],
)
def test_the_cause_needs_the_rule_and_the_asymmetry(text, seen, code):
    trace = traced(rule(text))
    one = rule_cause(WAY, Traced(question=QUESTION, trace=trace), "far", seen)
    assert (one.code, one.object["text"]) == (code, text)
    assert ("capture" in [each.kind for each in one.evidence]) is (code == "conntrack.invalid")


def test_without_sights_it_stays_the_rule():
    assert rule_cause(WAY, Traced(question=QUESTION, trace=traced(rule(INVALID))), "far").code == "firewall.rule"


OPENS = Loss(direction=Direction.THERE, last=PLACES[1], next=PLACES[2], later=True)


def test_what_follows_the_opening_is_waited_for():
    (one,) = questions(msgspec.structs.replace(WAY, port=80), OPENS, ASKED_HERE)
    assert (one.later, one.half, one.made_up, one.wanted.later) == (True, True, False, True)
    assert (one.wanted.destination_port, one.wanted.tcp_flags, one.wanted.in_device) == (80, "", "nic-destination")


def test_a_cause_of_what_follows_the_opening():
    question = msgspec.structs.replace(QUESTION, answer=False, later=True)
    one = rule_cause(WAY, Traced(question=question, trace=traced(rule(INVALID))), "far", ASKED_HERE)
    assert one.code == "conntrack.invalid"
    assert "a later packet of the connection was traced" in one.explanation


LEG = Place(
    side=Side.SOURCE, stage=Stage.END, namespace="container:a", device="leg", a="10.0.1.2", b="10.0.1.4", where="leg"
)


def test_answers_to_a_container_that_asked_by_a_card_of_its_own():
    """Its host may pass them on to it: only those that it does pass tell anything, and none is made up."""
    nic = place(Stage.NIC, a="192.0.2.9")
    seen = (Sight(place=LEG, there=2), Sight(place=nic, back=2))
    loss = Loss(direction=Direction.BACK, last=nic, next=LEG)
    (one,) = questions(WAY, loss, seen)
    assert (one.side, one.answer, one.made_up, one.half) == (Side.SOURCE, True, False, True)
    # No request left by the host, so that none was translated there.
    assert (one.wanted.path, one.wanted.destination, one.wanted.in_device) == (
        TracePath.FORWARD,
        "10.0.1.2",
        nic.device,
    )
