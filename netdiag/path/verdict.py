"""From what was seen, traced and read to findings and causes: where the flow is lost, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.firewall.by_connection import asks_for_invalid
from netdiag.firewall.reasons import reasons_of
from netdiag.model.facts import FirewallSaved, RuleSet
from netdiag.model.fix import Fix
from netdiag.model.found import Found
from netdiag.model.icmp import IcmpError
from netdiag.model.path import Direction, Loss, PathKind, Side, Sight, Way
from netdiag.model.report import Answer, Cause, Confidence, Evidence, Need, Remedy, State, Step, Subject, clause
from netdiag.model.trace import Trace, TraceVerdict
from netdiag.path.one_way import one_direction
from netdiag.path.questions import Question
from netdiag.path.rated import looks_at_more

_AFFECTS = {
    PathKind.OVERLAY: ("overlay data",),
    PathKind.OVERLAY_LOCAL: ("overlay data",),
    PathKind.PUBLISHED: ("published ports",),
    PathKind.HOST: ("host traffic",),
}


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """A question, the kernel's answer to it, and the fix that was planned for it."""

    question: Question
    trace: Trace | None
    fix: Fix | None = None
    reason: str = ""
    """Why there is no trace, or no fix."""
    rule_sets: tuple[RuleSet, ...] = ()
    """The rules of the namespace, where something stopped the packet."""
    saved: FirewallSaved | None = None
    """What is saved on its host, there too."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """How the real attempt from the source ended.

    Attributes:
        answered: A connection came about, or an echo was answered.
        refused: A reset or an ICMP error came back.
        text: In a few words.
        rtt_us: How long the answer took.
        sent: Whether anything could be sent at all.
        icmp: The ICMP error that came back.
        tries: How often it had to be sent: a kernel repeats what is not answered.
        user: Whose the socket was; None where that does not matter or is not known.
    """

    answered: bool
    refused: bool
    text: str
    rtt_us: int | None = None
    sent: bool = True
    icmp: IcmpError | None = None
    tries: int = 1
    user: int | None = None


def attempt_found(way: Way, attempt: Attempt, *, state: State = State.FAIL) -> Found:
    """What the user's own attempt meets; ``state`` is that of one that was not answered."""
    summary = f"{_flow(way)} from {way.source.label()} to {way.destination.label()} ({way.destination.address}): {attempt.text}"
    subject = Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None)
    return Found(
        check="path.attempt",
        state=State.OK if attempt.answered else state,
        subject=subject,
        summary=summary,
        evidence=(Evidence("probe", attempt.text, {"rtt_us": attempt.rtt_us}),),
    )


def unsent_found(way: Way, state: State, reason: str) -> Found:
    """Nothing was sent, by choice (skip) or because it could not be (unknown)."""
    return Found(
        check="path.attempt",
        state=state,
        subject=Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None),
        summary=f"{_flow(way)} from {way.source.label()} to {way.destination.label()} ({way.target})",
        reason=reason,
    )


def _flow(way: Way) -> str:
    return f"{way.protocol}/{way.port}" if way.port is not None else way.protocol


def silent_found(way: Way, sights: Sequence[Sight], who: str) -> Found:
    """A datagram came to its end, its filters let it in, and nothing came back, which need not."""
    last = way.places[-1].where if way.places else way.destination.label()
    return Found(
        check="path.way",
        state=State.OK,
        subject=Subject(host=way.source.host, peer=way.destination.host),
        summary=f"the datagram came to {last} and is let in; {who} listens there and sent nothing back, which UDP need not",
        evidence=sight_evidence(way, sights),
    )


def passing_found(way: Way, traced: Sequence[Traced]) -> Found:
    """What the filters on the way say to packets that look like the flow's, where nothing was sent."""
    asked = len(traced)
    unknown = [each.reason for each in traced if each.reason]
    evidence = tuple(
        Evidence(
            "trace", f"{each.question.about}: {each.trace.verdict.value if each.trace is not None else 'not known'}"
        )
        for each in traced
    )
    subject = Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None)
    if unknown:
        return Found(
            check="path.filters",
            state=State.UNKNOWN,
            subject=subject,
            summary=f"whether the filters on the way let {_flow(way)} through",
            evidence=evidence,
            answers={Need.TRAFFIC: Answer.UNKNOWN},
            reason="; ".join(dict.fromkeys(unknown)),
        )
    return Found(
        check="path.filters",
        state=State.OK,
        subject=subject,
        summary=f"the filters at {asked} places of the way let {_flow(way)} through",
        evidence=evidence,
    )


def sight_evidence(way: Way, sights: Sequence[Sight]) -> tuple[Evidence, ...]:
    """What was seen at each place, in the order of the way."""
    return tuple(
        Evidence(
            "capture",
            f"{sight.place.where}: {_counted(sight)}",
            {"there": sight.there, "back": sight.back, "refused": sight.refused, "side": sight.place.side.value},
        )
        for sight in sights
        if way.places
    )


def _counted(sight: Sight) -> str:
    if not sight.watched:
        return f"not watched ({sight.error})"
    if not sight.there and not sight.back:
        return "nothing of the flow"
    return f"{sight.there} there, {sight.back} back" + (f", {sight.refused} of them refuse" if sight.refused else "")


def loss_text(loss: Loss) -> str:
    """Where it was lost, in one sentence."""
    what = "requests" if loss.direction is Direction.THERE else "answers"
    if loss.later:
        what = f"the connection opens, and {what} that follow"
    if loss.last is None and loss.next is None:
        return f"{what} were seen nowhere"
    if loss.last is None:
        if loss.direction is Direction.BACK and loss.next is not None:
            verb = "arrive at" if loss.next.side is Side.DESTINATION else "leave"
            return f"requests {verb} {loss.next.where}, and nothing answers"
        return f"{what} never came to {loss.next.where if loss.next is not None else 'the first place'}"
    return f"{what} were seen at {loss.last.where}, and not at {loss.next.where if loss.next else 'the end'}"


def loss_found(
    way: Way, loss: Loss, sights: Sequence[Sight], causes: Sequence[Cause], reason: str, *, what: str = ""
) -> Iterator[Found]:
    """The findings of one loss: one for each cause, or one that says what is not known.

    ``what`` happened, in a clause, where the places do not say it.
    """
    text = what or loss_text(loss)
    subject = Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None)
    evidence = sight_evidence(way, sights)
    for one in causes:
        yield Found(
            check="path.loss",
            state=State.FAIL,
            subject=subject,
            summary=f"{text}: {clause(one.title)}",
            evidence=evidence,
            cause=one,
        )
    if not causes:
        yield Found(
            check="path.loss",
            state=State.UNKNOWN,
            subject=subject,
            summary=f"why {text}",
            evidence=evidence,
            reason=reason,
            next=tuple(_would_tell(way, loss)),
        )


def _would_tell(way: Way, loss: Loss) -> Iterator[Step]:
    place = loss.last or loss.next
    if place is not None:
        host = way.source.host if place.side is Side.SOURCE else way.destination.host
        yield Step(
            host=host, command=f"tcpdump -ni {place.device}", why=f"watches {place.where} while it is tried again"
        )


def ahead_found(way: Way, traced: Traced, one: Cause) -> Found:
    """What the flow would meet next, once it is not lost before."""
    return Found(
        check="path.ahead",
        state=State.FAIL,
        subject=Subject(host=one.host, network=way.destination.network or None),
        summary=f"{traced.question.about}: it would be lost here, were it not lost before",
        cause=one,
    )


def entry_ahead_found(way: Way, one: Cause) -> Found:
    """An entry of the overlay that would stop the flow, once it is not lost before."""
    return Found(
        check="path.ahead",
        state=State.FAIL,
        subject=Subject(host=one.host, network=way.destination.network or None),
        summary="VXLAN in: it would be lost here, were it not lost before",
        cause=one,
    )


def unseen_reason(way: Way) -> str:
    """Why nothing is known of a destination that takes no part."""
    return f"{way.destination.host} takes no part, so that what happens there is not seen (--via ssh reaches it)"


def rule_cause(way: Way, traced: Traced, host: str, sights: Sequence[Sight] = ()) -> Cause | None:
    """The rule or policy that the kernel named for the lost packet; None where none was.

    ``sights`` tell whether that host has seen both directions, where the rule takes what connection tracking calls invalid.
    """
    trace = traced.trace
    if trace is None or trace.verdict not in (TraceVerdict.DROP, TraceVerdict.REJECT):
        return None
    rule = trace.rule or trace.policy
    if rule is None:
        return None
    code = "firewall.policy" if rule.number is None and rule.policy is not None else "firewall.rule"
    if rule.namespace.startswith("container:") and code == "firewall.rule":
        code = "firewall.container"
    elif code == "firewall.policy" and rule.chain == "FORWARD" and rule.table == "filter":
        code = "firewall.forward-policy"
    attached = reasons_of(
        trace,
        traced.rule_sets,
        traced.saved,
        answers_to=traced.question.opened if traced.question.answer else None,
    )
    named: dict[str, object] = dict(rule.as_object())
    if code == "firewall.rule" and attached.split:
        code, named["backends"] = "firewall.backend-split", [each.value for each in attached.split]
    half = None
    if code == "firewall.rule" and asks_for_invalid(rule):
        half = one_direction(sights, traced.question.side, answered=traced.question.later)
    if half is not None:
        code = "conntrack.invalid"
    elapsed = f", {trace.elapsed_ms:g} ms after it was sent" if trace.elapsed_ms is not None else ""
    seen = Evidence(
        "trace",
        f"{rule.place()} ({rule.backend.value}): {rule.text}; the kernel's trace of this packet ended here{elapsed}",
        {**rule.as_object(), "elapsed_ms": trace.elapsed_ms},
    )
    sure, doubt = trace.confidence, ""
    if looks_at_more(rule.text) and not (traced.question.answer or traced.question.later) and sure is Confidence.PROVEN:
        sure = Confidence.LIKELY
        doubt = " It looks at more than the packet itself, so that the lost one may have met it otherwise."
    return cause(
        code,
        host=host,
        object=named,
        confidence=sure,
        explanation=(
            f"{traced.question.about}: {_which(traced.question)} was traced there, and the kernel named what takes it:"
            f' {rule.place()}, "{rule.text}".'
            + (f" It is called from {rule.call_site}." if rule.call_site else "")
            + doubt
        ),
        evidence=(seen, *((half,) if half is not None else ()), *attached.evidence),
        because=attached.because,
        affects=_AFFECTS.get(way.kind, ("container traffic",)),
        remedy=(_remedy(traced.fix),) if traced.fix is not None else (),
    )


def _which(question: Question) -> str:
    return "a later packet of the connection" if question.later else "a packet like the lost one"


def _remedy(fix: Fix) -> Remedy:
    return Remedy(
        host=fix.host,
        summary=fix.summary,
        commands=tuple(command.text for command in fix.commands),
        undo=tuple(command.text for command in reversed(fix.undo)),
        persist=fix.persist,
        risk=fix.risk,
    )


def healthy_found(way: Way, sights: Sequence[Sight]) -> Found:
    """It works, and was seen where it should pass."""
    watched = [sight for sight in sights if sight.watched]
    seen = sum(bool(sight.there) for sight in watched)
    count = f"all {seen}" if seen == len(watched) else f"{seen} of {len(watched)}"
    return Found(
        check="path.way",
        state=State.OK,
        subject=Subject(host=way.source.host, peer=way.destination.host),
        summary=f"requests and answers were seen at {count} places of the way ({way.kind.value})",
        evidence=sight_evidence(way, sights),
    )


def unnoticed_found(way: Way, one: Cause) -> Found:
    """Something that is wrong although this flow works now."""
    return Found(
        check="path.entries",
        state=State.WARN,
        subject=Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None),
        summary=f"it works now, by what was learnt from the other side: {one.explanation}",
        cause=one,
    )
