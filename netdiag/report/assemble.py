"""From what checks found to one report: causes ranked and told once, questions answered, a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

import msgspec

from netdiag.causes import CATALOGUE
from netdiag.model.found import Found
from netdiag.model.report import Answer, Cause, Confidence, Counts, Finding, Need, Report, State, Step

_STATES = (State.FAIL, State.UNKNOWN, State.WARN, State.OK, State.SKIP)
_CONFIDENCES = (Confidence.PROVEN, Confidence.LIKELY, Confidence.POSSIBLE)

T = TypeVar("T")


def build_report(
    *,
    command: str,
    host: str,
    started: str,
    duration_s: float,
    found: Sequence[Found],
    question: Need | None = None,
    answers_for: Collection[Need] = tuple(Need),
    about: Collection[str] = (),
    next_steps: Sequence[Step] = (),
) -> Report:
    """Make the report of one command.

    * **Answers** (only with a question): *no* if any finding says no; else *unknown* if any says unknown, if nothing was
      found out at all, or if the need before it (join, names, traffic) is not a yes; else *yes*.
    * **Verdict**: *fail* if any finding failed (a check weighs that against the question itself); else *unknown* if the
      question is answered so, or, without a question, if an unknown finding leaves a need open or is of a check that
      the command is about; else
      *warn* if any warns; else *ok*.
    * **Causes** that name the same object of the same host are told once, the most specific code of a line of parents.
      Ranked by the worst finding that they explain; a state that follows from something else (``follows`` in the
      catalogue) behind what may be its root; then by confidence, then by the order of the findings.
    * **Next**: cause by cause the remedies of what failed, where proven, or likely and on this host, and what its
      findings ask for; then what the other findings ask for; then ``next_steps``.
      A step is told once, where it comes first.

    Args:
        command: As the operator typed it, without the program's name and without secrets.
        host: Where it ran, as the operator would type it.
        started: RFC 3339, UTC.
        duration_s: How long it took.
        found: What the checks found, in the order in which it should be read.
        question: For a preflight, the need that it asks about.
        answers_for: For a command without a question: the needs that it can answer. An unknown finding that leaves
            another one open is told, and is not the verdict.
        about: The checks that are the command's own question, where it has no need for one.
        next_steps: What to do after everything above is done: the join itself, or the command again.
    """
    causes, places = _rank(found)
    findings = tuple(_finding(one, places.get(position)) for position, one in enumerate(found))
    answers = {} if question is None else _answers(found)
    return Report(
        command=command,
        host=host,
        started=started,
        duration_s=duration_s,
        verdict=_verdict(findings, None if question is None else answers[question], answers_for, about),
        question=question,
        answers=answers,
        counts=Counts(**{state.value: sum(one.state is state for one in findings) for state in State}),
        findings=findings,
        causes=causes,
        next=_steps(host, found, findings, causes, next_steps),
    )


def _finding(one: Found, cause: int | None) -> Finding:
    return Finding(
        check=one.check,
        state=one.state,
        subject=one.subject,
        summary=one.summary,
        evidence=one.evidence,
        answers={need: one.answers[need] for need in Need if need in one.answers},
        cause=cause,
        reason=one.reason,
    )


def _answers(found: Sequence[Found]) -> dict[Need, Answer]:
    """Each need presupposes the one before: no name resolves on a node that did not join."""
    known = any(one.state not in {State.UNKNOWN, State.SKIP} for one in found)
    answers: dict[Need, Answer] = {}
    before = Answer.YES
    for need in Need:
        said = {one.answers[need] for one in found if need in one.answers}
        if Answer.NO in said:
            before = Answer.NO
        elif Answer.UNKNOWN in said or not known or before is not Answer.YES:
            before = Answer.UNKNOWN
        answers[need] = before
    return answers


def _verdict(
    findings: Sequence[Finding], answer: Answer | None, answers_for: Collection[Need], about: Collection[str]
) -> State:
    states = {one.state for one in findings}
    if State.FAIL in states:
        return State.FAIL
    open_question = any(
        one.state is State.UNKNOWN and (one.check in about or any(need in answers_for for need in one.answers))
        for one in findings
    )
    if answer is Answer.UNKNOWN or (answer is None and open_question):
        return State.UNKNOWN
    return State.WARN if State.WARN in states else State.OK


# --- causes ----------------------------------------------------------------------------------------------------------


def _rank(found: Sequence[Found]) -> tuple[tuple[Cause, ...], dict[int, int]]:
    """The causes, ranked, and for each finding that has one its index among them."""
    merged: list[Cause] = []
    worst: list[int] = []
    place: dict[int, int] = {}
    for position, one in enumerate(found):
        if one.cause is None:
            continue
        # What a finding saw is what its cause rests on, unless the cause says more exactly.
        cause = one.cause if one.cause.evidence else msgspec.structs.replace(one.cause, evidence=one.evidence)
        index = next((i for i, other in enumerate(merged) if _same(cause, other)), None)
        severity = _STATES.index(one.state)
        if index is None:
            index = len(merged)
            merged.append(cause)
            worst.append(severity)
        else:
            merged[index] = _merge(merged[index], cause)
            worst[index] = min(worst[index], severity)
        place[position] = index
    order = sorted(
        range(len(merged)),
        key=lambda i: (worst[i], CATALOGUE[merged[i].code].follows, _CONFIDENCES.index(merged[i].confidence), i),
    )
    rank = {index: position for position, index in enumerate(order)}
    return tuple(merged[i] for i in order), {position: rank[index] for position, index in place.items()}


def _same(one: Cause, other: Cause) -> bool:
    """Whether both name one fault: equal, or one is the general form of the other."""
    related = one.code in {other.code, other.parent} or one.parent == other.code
    return related and one.host == other.host and one.object == other.object


def _merge(first: Cause, second: Cause) -> Cause:
    """One cause out of two that name the same fault, with all that either knows."""
    general, specific = (first, second) if second.parent == first.code else (second, first)
    if first.code == second.code:
        specific = min(first, second, key=lambda one: _CONFIDENCES.index(one.confidence))
    elif _CONFIDENCES.index(specific.confidence) > _CONFIDENCES.index(general.confidence):
        # What refines is only named when it is as sure as what it refines.
        specific = general
    return msgspec.structs.replace(
        specific,
        because=_once((*first.because, *second.because)),
        evidence=_once((*first.evidence, *second.evidence)),
        affects=_once((*first.affects, *second.affects)),
        remedy=_once((*first.remedy, *second.remedy)),
    )


# --- steps -----------------------------------------------------------------------------------------------------------


# What goes on by itself once the rest is healed: to look after it, or to give it up, comes after that.


def _steps(
    here: str,
    found: Sequence[Found],
    findings: Sequence[Finding],
    causes: Sequence[Cause],
    last: Sequence[Step],
) -> tuple[Step, ...]:
    failed = {one.cause for one in findings if one.state is State.FAIL and one.cause is not None}
    # What is proven to be wrong is healed, whether or not it has broken something yet.
    failed |= {
        one.cause
        for one in findings
        if one.state is State.WARN and one.cause is not None and causes[one.cause].confidence is Confidence.PROVEN
    }
    steps: list[Step] = []
    giving_up: list[Step] = []
    for index, cause in enumerate(causes):
        if index in failed and cause.confidence is not Confidence.POSSIBLE:
            # What follows from a root heals with it, so what would end it comes last.
            (giving_up if CATALOGUE[cause.code].follows else steps).extend(
                Step(host=remedy.host, command=command, why=remedy.summary)
                for remedy in cause.remedy
                # What is only likely on another host is looked at there before anything is changed.
                if cause.confidence is Confidence.PROVEN or remedy.host == here
                for command in remedy.commands
            )
        steps += [step for one, told in zip(found, findings, strict=True) if told.cause == index for step in one.next]
    for one in sorted(found, key=lambda one: _STATES.index(one.state)):
        steps.extend(one.next)
    return _once_by_action((*steps, *giving_up, *last))


def _once_by_action(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Steps without repeats: one command on one host is done once, whatever it is done for."""
    kept: dict[tuple[str, str], Step] = {}
    for step in steps:
        kept.setdefault((step.host, step.command or step.why), step)
    return tuple(kept.values())


def _once(items: Iterable[T]) -> tuple[T, ...]:
    """Items without repeats, in order; they need not be hashable."""
    kept: list[T] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return tuple(kept)
