"""A rule that takes invalid packets, and a host that sees one direction only."""

import pytest

from netdiag.facts.trace_wanted import Wanted
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.path import Direction, End, PathKind, Side, Sight, Stage, Way
from netdiag.model.trace import TracePath
from netdiag.path.one_way import asks_for_invalid, one_direction
from netdiag.path.questions import Question
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
