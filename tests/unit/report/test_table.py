from pathlib import Path

import msgspec
import pytest

from netdiag.model.found import Found
from netdiag.model.report import Answer, Evidence, Need, Report, State, Subject
from netdiag.report.assemble import build_report
from netdiag.report.table import render
from netdiag.report.wording import headline
from tests.unit.report.samples import MANAGER, clean, failing, rejecting_rule

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = {"failing": failing, "clean": clean}


def report(*found, question=Need.JOIN, **more) -> Report:
    made = build_report(
        command="preflight swarm",
        host="a",
        started="2026-03-14T02:57:11Z",
        duration_s=1,
        found=found,
        question=question,
    )
    return msgspec.structs.replace(made, **more)


def one(state, summary="summary", **more):
    reason = more.pop("reason", "why" if state in (State.UNKNOWN, State.SKIP) else None)
    return Found(
        check=more.pop("check", "c.d"), state=state, subject=Subject(host="a"), summary=summary, reason=reason, **more
    )


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("name", SAMPLES)
def test_golden(name, width, update_golden):
    text = render(SAMPLES[name](), width=width).plain
    file = GOLDEN / f"{name}-{width}.txt"
    if update_golden:
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("width", [40, 80, 100, 140])
def test_a_command_stands_whole_on_a_line_and_nothing_else_is_too_wide(width):
    sample = failing()
    lines = render(sample, width=width, verbose=True).plain.splitlines()
    commands = [
        command
        for cause in sample.causes
        for remedy in cause.remedy
        for command in (*remedy.commands, *remedy.undo, *remedy.persist)
    ] + [step.command for step in sample.next]
    for command in commands:
        assert command in [line.strip() for line in lines]
    verbatim = [*commands, *(cause.object.get("text") for cause in sample.causes)]
    too_wide = [line for line in lines if len(line) > width and line.strip() not in verbatim]
    assert not too_wide
    assert all(line == line.rstrip() for line in lines)


def test_a_long_address_or_option_is_never_broken():
    long = "--opt=com.docker.network.driver.mtu=1450,2001:db8:1111:2222:3333:4444:5555:6666"
    assert long in render(report(one(State.FAIL, f"see {long} there")), width=40).plain


def test_nothing_is_said_by_colour_alone():
    text = render(failing(), width=80)
    assert any(span.style for span in text.spans)
    for state in ("FAILED", "COULD NOT FIND OUT", "WARNINGS"):
        assert state in text.plain


def test_ok_and_skipped_are_counted_and_told_only_when_asked():
    text = render(clean(), width=80).plain
    assert "The kernel has vxlan" not in text
    assert "4 ok" in text
    assert "1 not applicable" in text
    verbose = render(clean(), width=80, verbose=True).plain
    assert "The kernel has vxlan" in verbose
    assert "this host is in no swarm" in verbose


def test_ascii_only():
    sample = report(one(State.WARN, "the path — 1450 … “fine” → ☃"))
    plain = render(sample, width=80, ascii_only=True).plain
    assert plain.isascii()
    assert 'the path - 1450 ... "fine" -> \\u2603' in plain


def test_a_name_cannot_steer_the_terminal():
    sample = report(one(State.FAIL, "web\x1b[2J\x07\n\x9b31mgone\udcff", evidence=(Evidence("log", "a\r\x1b]0;b"),)))
    plain = render(sample, width=80).plain
    assert not [character for character in plain if not character.isprintable() and character != "\n"]
    assert "web\\x1b[2J\\x07 \\x9b31mgone\\udcff" in plain


def test_of_many_alike_only_the_first_are_told():
    same = [one(State.FAIL, f"peer {number}", cause=rejecting_rule()) for number in range(200)]
    text = render(report(*same), width=80).plain
    assert "peer 4\n" in text
    assert "peer 5\n" not in text
    assert "195 more of [c.d] with cause 1; --verbose shows them." in text
    assert "FAILED (200)" in text
    assert "peer 199" in render(report(*same), width=80, verbose=True).plain


def test_steps_of_one_purpose_share_a_number():
    text = render(failing(), width=140).plain
    steps = text[text.index("NEXT") :]
    assert "  1. On localhost.localdomain (192.0.2.10): " in steps
    assert "  2. On localhost.localdomain (192.0.2.21): prove" in steps


@pytest.mark.parametrize(
    ("sample", "sentence"),
    [
        (clean(), "This node will join."),
        (
            failing(),
            f"This node will not join: a firewall rule drops the packet on {MANAGER}: rule 5 of filter INPUT.",
        ),
        (report(one(State.OK), one(State.WARN), one(State.WARN)), "This node will join, with 2 warnings."),
        (report(one(State.OK), one(State.WARN), question=Need.NAMES), "Names will resolve, with 1 warning."),
        (
            report(
                one(State.OK),
                one(State.UNKNOWN, answers={Need.JOIN: Answer.UNKNOWN}, reason="no root."),
                question=Need.TRAFFIC,
            ),
            "Whether containers will reach each other is not known: no root.",
        ),
        (report(), "Whether this node will join is not known: nothing could be checked."),
        (report(one(State.FAIL, "the engine is dead")), "This node will not join: the engine is dead."),
        (report(one(State.FAIL, "x is down"), question=None), "Something is broken: x is down."),
        (
            report(one(State.UNKNOWN, answers={Need.NAMES: Answer.UNKNOWN}), question=None),
            "Not everything could be checked: why.",
        ),
        (report(one(State.OK), question=None), "Nothing is broken."),
    ],
    ids=["yes", "cause", "warnings", "one warning", "open", "nothing", "no cause", "broken", "not checked", "fine"],
)
def test_the_first_line_answers_the_question(sample, sentence):
    assert headline(sample) == sentence
    assert render(sample, width=200).plain.splitlines()[0] == sentence


def test_a_rule_that_only_showed_its_effect_is_told_as_such():
    thing = {"kind": "rule", "known": False, "hook": "input", "reject_with": "host-prohibited", "port": 2377}
    sample = report(one(State.FAIL, cause=rejecting_rule(object=thing)))
    text = render(sample, width=140).plain
    assert "a rule that only that host can show: hook input, reject with host-prohibited, port 2377" in text
    assert headline(sample).endswith("(192.0.2.10).")


def test_a_cause_is_never_told_below_the_words_that_nothing_is_broken():
    sample = report(one(State.WARN, cause=rejecting_rule()), question=None)
    assert sample.verdict is State.WARN
    assert headline(sample).startswith("Nothing was seen to fail, but there is something to mend: ")
    assert headline(report(one(State.WARN), question=None)) == "Nothing is broken, with 1 warning."
