import itertools

import msgspec
import pytest

from netdiag.causes import cause
from netdiag.model.found import Found
from netdiag.model.report import Answer, Confidence, Evidence, Need, Remedy, State, Step, Subject
from netdiag.report.assemble import build_report

HERE = Subject(host="a")
OPEN = "why"


def found(state=State.OK, *, check="c", answers=None, cause=None, evidence=(), steps=(), summary="s"):
    return Found(
        check=check,
        state=state,
        subject=HERE,
        summary=summary,
        answers=answers or {},
        cause=cause,
        evidence=tuple(evidence),
        reason=OPEN if state in (State.UNKNOWN, State.SKIP) else None,
        next=tuple(steps),
    )


def made(code="firewall.rule", *, kind="rule", host="a", confidence=Confidence.PROVEN, number=1, **more):
    return cause(code, host=host, object={"kind": kind, "number": number}, confidence=confidence, **more)


def build(*all_found, question=None, next_steps=()):
    return build_report(
        command="c",
        host="a",
        started="2026-03-14T02:57:11Z",
        duration_s=0.1,
        found=all_found,
        question=question,
        next_steps=next_steps,
    )


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ([], State.OK),
        ([State.OK, State.SKIP], State.OK),
        ([State.OK, State.WARN], State.WARN),
        ([State.WARN, State.UNKNOWN], State.WARN),
        ([State.UNKNOWN, State.FAIL, State.WARN], State.FAIL),
    ],
)
def test_the_verdict_without_a_question(states, verdict):
    report = build(*(found(state) for state in states))
    assert report.verdict is verdict
    assert report.answers == {}
    assert report.question is None


def test_without_a_question_an_unknown_that_leaves_a_need_open_is_the_verdict():
    assert build(found(State.WARN), found(State.UNKNOWN, answers={Need.NAMES: Answer.UNKNOWN})).verdict is State.UNKNOWN


@pytest.mark.parametrize(("about", "verdict"), [((), State.OK), (("c.other",), State.OK), (("x.y",), State.UNKNOWN)])
def test_an_unknown_of_what_the_command_is_about_is_the_verdict(about, verdict):
    unknown = msgspec.structs.replace(found(State.UNKNOWN), check="x.y")
    report = build_report(
        command="c", host="a", started="2026-03-14T02:57:11Z", duration_s=0.1, found=[unknown], about=about
    )
    assert report.verdict is verdict


def test_a_need_that_the_command_cannot_answer_is_told_and_is_not_the_verdict():
    report = build_report(
        command="c",
        host="a",
        started="2026-03-14T02:57:11Z",
        duration_s=0.1,
        found=[found(State.UNKNOWN, answers={Need.TRAFFIC: Answer.UNKNOWN})],
        answers_for=(Need.JOIN,),
    )
    assert (report.verdict, report.counts.unknown) == (State.OK, 1)


def test_a_state_that_follows_is_ranked_behind_its_root_however_sure_it_is():
    pending = made("swarm.join-stage", kind="stage", confidence=Confidence.PROVEN)
    root = made("underlay.filtered", kind="segment", confidence=Confidence.LIKELY)
    report = build(found(State.FAIL, cause=pending), found(State.FAIL, cause=root))
    assert [one.code for one in report.causes] == ["underlay.filtered", "swarm.join-stage"]


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([found(State.UNKNOWN, answers={Need.JOIN: Answer.UNKNOWN}), found()], State.UNKNOWN),
        ([found(State.UNKNOWN, answers={Need.TRAFFIC: Answer.UNKNOWN}), found()], State.OK),
        ([found(State.UNKNOWN), found()], State.OK),
        ([found(State.UNKNOWN), found(State.WARN)], State.WARN),
        ([found(State.FAIL, answers={Need.JOIN: Answer.NO}), found(State.WARN)], State.FAIL),
        ([found(State.SKIP)], State.UNKNOWN),
        ([found(State.FAIL, answers={Need.TRAFFIC: Answer.NO})], State.FAIL),
    ],
    ids=["open", "another need is open", "needed by nothing", "warn", "fail", "nothing was found out", "asked for"],
)
def test_the_verdict_of_a_question(findings, verdict):
    assert build(*findings, question=Need.JOIN).verdict is verdict


def test_each_order_of_findings_gives_one_verdict():
    states = [found(State.FAIL, answers={Need.JOIN: Answer.NO}), found(State.WARN), found(State.OK)]
    assert {build(*order, question=Need.JOIN).verdict for order in itertools.permutations(states)} == {State.FAIL}


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ({}, "yes yes yes"),
        ({Need.JOIN: Answer.NO}, "no unknown unknown"),
        ({Need.NAMES: Answer.UNKNOWN}, "yes unknown unknown"),
        ({Need.TRAFFIC: Answer.NO}, "yes yes no"),
        ({Need.JOIN: Answer.UNKNOWN, Need.TRAFFIC: Answer.NO}, "unknown unknown no"),
    ],
)
def test_a_need_is_a_yes_only_after_the_one_before(said, answers):
    report = build(found(), found(State.WARN, answers=said), question=Need.JOIN)
    assert [report.answers[need].value for need in (Need.JOIN, Need.NAMES, Need.TRAFFIC)] == answers.split()


def test_no_wins_over_unknown():
    report = build(
        found(State.UNKNOWN, answers={Need.JOIN: Answer.UNKNOWN}),
        found(State.FAIL, answers={Need.JOIN: Answer.NO}),
        question=Need.JOIN,
    )
    assert report.answers[Need.JOIN] is Answer.NO


def test_nothing_found_out_is_never_a_yes():
    assert set(build(question=Need.JOIN).answers.values()) == {Answer.UNKNOWN}


def test_one_fault_is_told_once_with_all_that_was_seen():
    one, two = Evidence("trace", "one"), Evidence("counter", "two")
    heal = Remedy(host="a", summary="heal", commands=("x",))
    report = build(
        found(State.WARN, cause=made(confidence=Confidence.LIKELY, evidence=[one], because=["firewall.near-miss"])),
        found(State.FAIL, cause=made(confidence=Confidence.PROVEN, evidence=[one, two], remedy=[heal])),
    )
    assert [finding.cause for finding in report.findings] == [0, 0]
    (merged,) = report.causes
    assert merged.confidence is Confidence.PROVEN
    assert merged.evidence == (one, two)
    assert merged.because == ("firewall.near-miss",)
    assert merged.remedy == (heal,)


@pytest.mark.parametrize("other", [made(number=2), made(host="b"), made("firewall.container")])
def test_what_differs_stays_apart_unless_it_refines(other):
    report = build(found(State.FAIL, cause=made()), found(State.FAIL, cause=other))
    assert len(report.causes) == (1 if other.code == "firewall.container" else 2)


@pytest.mark.parametrize("specific_first", [True, False])
def test_the_most_specific_code_is_the_cause(specific_first):
    causes = [
        made("underlay.mtu-blackhole", kind="device", evidence=[Evidence("probe", "no ICMP")]),
        made("underlay.mtu", kind="device", evidence=[Evidence("probe", "1400 passes")]),
    ]
    report = build(*(found(State.FAIL, cause=one) for one in (causes if specific_first else reversed(causes))))
    (only,) = report.causes
    assert (only.code, only.parent) == ("underlay.mtu-blackhole", "underlay.mtu")
    assert {one.text for one in only.evidence} == {"no ICMP", "1400 passes"}


def test_a_specific_code_that_is_less_sure_gives_way():
    report = build(
        found(State.FAIL, cause=made("underlay.mtu", kind="device")),
        found(State.FAIL, cause=made("underlay.mtu-blackhole", kind="device", confidence=Confidence.POSSIBLE)),
    )
    assert [one.code for one in report.causes] == ["underlay.mtu"]


def test_the_rank_of_causes():
    report = build(
        found(State.WARN, cause=made(number=1)),
        found(State.FAIL, cause=made(number=2, confidence=Confidence.POSSIBLE)),
        found(State.FAIL, cause=made(number=3)),
        found(State.OK),
        found(State.FAIL, cause=made(number=4)),
        found(State.FAIL, cause=made(number=5, confidence=Confidence.LIKELY)),
    )
    assert [one.object["number"] for one in report.causes] == [3, 4, 5, 2, 1]
    assert [one.cause for one in report.findings] == [4, 3, 0, None, 1, 2]


def test_a_cause_without_evidence_rests_on_its_finding():
    seen = Evidence("probe", "nothing came back")
    report = build(found(State.FAIL, cause=made(), evidence=[seen]))
    assert report.causes[0].evidence == (seen,)


def test_counts():
    states = [State.OK, State.OK, State.WARN, State.FAIL, State.UNKNOWN, State.SKIP]
    counts = build(*(found(state) for state in states)).counts
    assert msgspec.to_builtins(counts) == {"ok": 2, "warn": 1, "fail": 1, "unknown": 1, "skip": 1}


def test_next_steps_are_told_once_and_in_order():
    heal = Remedy(host="b", summary="open the port", commands=("allow", "reload"))
    again = Step(host="a", command="again", why="prove it")
    report = build(
        found(State.WARN, cause=made(number=2, remedy=[Remedy(host="a", summary="tidy", commands=("tidy",))])),
        found(State.UNKNOWN, steps=[Step(host="b", command="listen", why="tell whether it arrives"), again]),
        found(State.FAIL, cause=made(remedy=[heal]), steps=[Step(host="b", command="allow", why="the same")]),
        next_steps=[again, Step(host="a", command="", why="call the network team")],
    )
    assert [(one.host, one.command, one.why) for one in report.next] == [
        ("b", "allow", "open the port"),
        ("b", "reload", "open the port"),
        ("a", "tidy", "tidy"),
        ("b", "listen", "tell whether it arrives"),
        ("a", "again", "prove it"),
        ("a", "", "call the network team"),
    ]


def test_what_is_only_possible_is_not_ordered():
    heal = Remedy(host="b", summary="open", commands=("allow",))
    assert build(found(State.FAIL, cause=made(confidence=Confidence.POSSIBLE, remedy=[heal]))).next == ()


def test_to_give_a_waiting_join_up_comes_after_what_it_waits_for():
    give_up = Remedy(host="a", summary="or give it up", commands=("docker swarm leave --force",))
    waits = found(State.FAIL, check="w", cause=made("swarm.join-stage", kind="stage", remedy=(give_up,)))
    look = found(State.FAIL, check="l", steps=(Step(host="b", command="netdiag verify swarm", why="names the rule"),))
    for order in ((waits, look), (look, waits)):
        steps = build(*order, next_steps=()).next
        assert [step.command for step in steps] == ["netdiag verify swarm", "docker swarm leave --force"]
