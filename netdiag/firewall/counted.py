"""Which rules took part in what became of a packet, from their counters before and after bursts of such packets.

A rule or policy that did not move while nothing was sent, moved by exactly N with a burst of N and by exactly M with
one of M moved with the burst and only with it. A packet ends at one rule only, so such a rule that drops is the one. A
rule that moved by more has other traffic as well: it may be the one, which is likely at most; so is any accept, because
what does not count might still take the packet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from netdiag.firewall.counter_rows import Row, is_one_rule_set, moved_rows
from netdiag.firewall.tables import TAKES
from netdiag.firewall.trace import Resolved
from netdiag.model.facts import RuleSet
from netdiag.model.report import Confidence
from netdiag.model.trace import TracePath, TraceStep, TraceVerdict


class Way(NamedTuple):
    """Which hooks the packets met, in their order; at which of them a filter decides; which all of them came through."""

    hooks: tuple[str, ...]
    decides: str
    passed: tuple[str, ...] = ()
    refused: bool = False
    """Their sender was told that a filter took them before they left."""


class Bursts(NamedTuple):
    """How many packets were sent between the second and third, and the third and fourth reading."""

    first: int
    second: int


_WAYS = {
    TracePath.IN: Way(("prerouting", "input"), "input"),
    TracePath.FORWARD: Way(("prerouting", "forward", "postrouting"), "forward"),
    TracePath.OUT: Way(("output", "postrouting"), "output"),
}
_ROUND = Way(("output", "postrouting", "prerouting", "input"), "input", ("output", "postrouting"))


def way_of(path: TracePath, *, loopback: bool, refused: bool) -> Way:
    """The hooks that the packets of a burst met.

    What leaves by the loopback device comes back by it and goes on to INPUT. Whether it did is told by the sender, and
    not by counters alone: what this host answers passes OUTPUT as well, as often as the packets themselves.

    Args:
        path: Which way the packets went.
        loopback: They left by the loopback device.
        refused: The sender was told that a filter took them.
    """
    if path is TracePath.OUT and loopback and not refused:
        return _ROUND
    return _WAYS[path]._replace(refused=refused)


def count(readings: Sequence[Sequence[RuleSet]], bursts: Bursts, *, way: Way, namespace: str) -> Resolved:
    """What became of the packets, and which rule or policy decided.

    Args:
        readings: Four readings of the same rules: before and after a pause, after the first burst, after the second.
        bursts: How many packets each burst had; two different numbers.
        way: Which hooks the packets met.
        namespace: Whose filters they met.
    """
    if not is_one_rule_set(readings):
        return _unknown((), "the rule set was changed while its counters were watched")
    # Where they came through, a rule that takes has taken something else.
    rows = [
        row
        for row in moved_rows(readings, namespace, way.hooks)
        if row.hook not in way.passed or row.target not in TAKES
    ]
    exact = [row for row in rows if _moved_with(row, bursts)]
    busy = [row for row in rows if _may_have_moved_with(row, bursts)]
    steps = [(row, _step(row)) for row in exact]
    found = _unknown(steps, "")
    took = [(row, step) for row, step in steps if row.target in TAKES]
    if len(took) == 1 and took[0][0].place == exact[-1].place:
        row, step = took[0]
        # Of two variants' chains with one priority the one that takes the packet is the later one.
        found = _unknown([*(each for each in steps if each[1] is not step), took[0]], "")
        return msgspec.structs.replace(
            found, verdict=TAKES[row.target], decided=step, confidence=Confidence.PROVEN, reason=""
        )
    if len(took) == 1 and took[0][0].target == "REJECT" and way.refused:
        row, step = took[0]
        return msgspec.structs.replace(
            _unknown(steps[: steps.index(took[0]) + 1], ""),
            verdict=TAKES[row.target],
            decided=step,
            confidence=Confidence.LIKELY,
            reason="what it answers passes the same chains, and moves their counters as often",
        )
    if took:
        return msgspec.structs.replace(found, reason=_several([*(row for row, _ in took), exact[-1]]))
    return _without_proof(found, steps, busy, way.decides)


def _without_proof(found: Resolved, steps: Sequence[tuple[Row, TraceStep]], busy: Sequence[Row], hook: str) -> Resolved:
    """What is likely when no rule that drops moved with the bursts alone."""
    exact = [row for row, _ in steps]
    accepting = [row for row in (*exact, *busy) if row.hook == hook and row.target == "ACCEPT" and _decides(row)]
    # Every table lets a packet pass by itself; the last one's word is the one that counts.
    last = max((row.place for row in accepting), default=(0, 0))
    accepted = [(row, step) for row, step in steps if row in accepting and row.place == last]
    passed = max((row.place for row in exact), default=(0, 0))
    suspects = [
        row
        for row in busy
        if row.target in TAKES and row.place >= passed and not any(_same_chain(row, one) for one, _ in accepted)
    ]
    if accepted and not suspects:
        _, step = accepted[-1]
        reason = "a rule that does not count may still take it: counters cannot tell"
        return msgspec.structs.replace(
            found, verdict=TraceVerdict.ACCEPT, decided=step, confidence=Confidence.LIKELY, reason=reason
        )
    if accepted:
        return msgspec.structs.replace(found, reason=_several([accepted[-1][0], *suspects]))
    ends = suspects or [row for row in accepting if row.place == last]
    if len(ends) == 1:
        (row,) = ends
        step = _step(row)
        return msgspec.structs.replace(
            found,
            verdict=TAKES.get(row.target, TraceVerdict.ACCEPT),
            decided=step,
            path=(*found.path, step),
            callers=(*found.callers, row.callers),
            confidence=Confidence.LIKELY,
            reason="other traffic moves its counter too",
        )
    if ends:
        return msgspec.structs.replace(found, reason=_several(ends))
    if found.path:
        reason = f"no counter tells what became of it behind {found.path[-1].rule.place()}"
    else:
        reason = "no counter moved with the packets: no rule that counts saw them, or they were lost before"
    return msgspec.structs.replace(found, reason=reason)


def _unknown(steps: Sequence[tuple[Row, TraceStep]], reason: str) -> Resolved:
    return Resolved(
        verdict=TraceVerdict.UNKNOWN,
        decided=None,
        path=tuple(step for _, step in steps),
        callers=tuple(row.callers for row, _ in steps),
        confidence=Confidence.POSSIBLE,
        reason=reason,
    )


def _several(rows: Iterable[Row]) -> str:
    places = ", ".join(dict.fromkeys(f"{row.rule.backend.value} {row.rule.place()}" for row in rows))
    return f"the counters of several rules fit, and only one can be it: {places}"


def _decides(row: Row) -> bool:
    """Whether an accept at the deciding hook says something: address translation only translates."""
    return row.rule.table != "nat"


def _same_chain(one: Row, other: Row) -> bool:
    """In one table a packet ends once: a rule that accepted it there leaves nothing to the others."""
    return (one.rule.backend, one.rule.family, one.rule.table, one.hook) == (
        other.rule.backend,
        other.rule.family,
        other.rule.table,
        other.hook,
    )


def _grown(row: Row) -> tuple[int, int, int]:
    idle, before, between, after = row.counts
    return before - idle, between - before, after - between


def _moved_with(row: Row, bursts: Bursts) -> bool:
    """With the bursts, and only with them."""
    return _grown(row) == (0, bursts.first, bursts.second)


def _may_have_moved_with(row: Row, bursts: Bursts) -> bool:
    """By more than the bursts, or while nothing was sent."""
    _, first, second = _grown(row)
    return first >= bursts.first and second >= bursts.second and not _moved_with(row, bursts)


def _step(row: Row) -> TraceStep:
    if row.target in TAKES:
        verdict = "drop"
    elif row.target == "ACCEPT":
        verdict = "accept"
    else:
        verdict = "jump" if row.jumps else "continue"
    return TraceStep(hook=row.hook, rule=row.rule, verdict=verdict, packets=row.counts[1])
