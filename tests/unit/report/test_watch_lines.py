"""What a repeated diagnosis takes for a change."""

import msgspec

from netdiag.model.found import Found
from netdiag.model.report import Answer, Confidence, Need, State, Subject
from netdiag.report.assemble import build_report
from netdiag.report.watch_lines import seen
from tests.unit.path.halves import rule


def state(*found):
    return seen(build_report(command="x", host="near", started="2026-11-25T01:02:03.456Z", duration_s=1.0, found=found))


def found(kind, **more):
    return Found(check="path.attempt", state=kind, subject=Subject(host="near"), summary="tcp/80: said", **more)


def lost(**more):
    return found(State.FAIL, cause=rule(**more))


def test_the_words():
    assert state(found(State.OK)).line == "2026-11-25T01:02:03Z healthy: tcp/80: said"
    said = state(lost())
    assert said.word == "lost"
    assert "firewall.rule (proven) on far: rule 5 of filter INPUT" in said.line
    unsure = state(found(State.UNKNOWN, reason="no answer", answers={Need.TRAFFIC: Answer.UNKNOWN}))
    assert (unsure.word, unsure.line) == ("unknown", "2026-11-25T01:02:03Z unknown: no answer")


def test_a_warning_is_healthy():
    assert state(found(State.OK), found(State.WARN)).word == "healthy"


def test_the_same_rule_with_another_number_is_no_change():
    assert state(lost()).key == state(lost(number=7)).key
    assert state(lost()).key != state(lost(text="-A INPUT -j DROP")).key
    assert state(lost()).key != state(lost(), found(State.FAIL, cause=rule(host="other"))).key


def test_figures_are_no_change_and_a_loss_without_cause_is_one():
    first, second = (state(found(State.UNKNOWN, reason=text), found(State.FAIL)) for text in ("3 ms", "5 ms"))
    assert first.key == second.key
    assert first.word == "lost"
    assert "why is not known: 3 ms" in first.line
    assert first.key != state(lost()).key
    assert state(found(State.OK)).key != first.key


def test_confidence_alone_is_no_change():
    likely = msgspec.structs.replace(rule(), confidence=Confidence.LIKELY)
    assert state(lost()).key == state(found(State.FAIL, cause=likely)).key


def test_what_others_wrote_stays_one_harmless_line():
    line = state(lost(text="a\x1b[2J\nb", table="\x1b[1m")).line
    assert "\x1b" not in line
    assert "\n" not in line
