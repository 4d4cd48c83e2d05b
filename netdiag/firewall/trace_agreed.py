"""One answer of two readings of the rules, one before the packet and one behind it, where they differ.

The kernel's events name rules by handle or number; a text that both readings give for it was there when the packet
came. Any other text may be another rule's. An engine that writes rules for something else meanwhile takes nothing from
what was proven.
"""

from __future__ import annotations

import msgspec

from netdiag.firewall.trace import Resolved
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.report import Confidence
from netdiag.model.trace import Rewrite, TraceStep, TraceVerdict

CHANGED = "the rule set changed meanwhile"


def agreed(before: Resolved, behind: Resolved, *, legacy_stands: bool) -> Resolved:
    """The answer with what both readings say: as sure as it was if that is all of the way, else likely at most.

    Args:
        before: What the kernel's events say with the rules as they were listed before the packet.
        behind: What the same events say with the rules as they were listed behind it.
        legacy_stands: Both listings show the same legacy rules; these have no handles that are never used again.
    """
    if _uncounted(before) == _uncounted(behind) and (legacy_stands or not _has_legacy(before)):
        return before
    aligned = len(before.path) == len(behind.path)
    others = dict(zip(map(id, before.path), behind.path, strict=True)) if aligned else {}
    kept = before.path if aligned else tuple(step for step in before.path if step is before.decided)
    steps = {id(step): _step(step, others.get(id(step))) for step in kept}
    verdict = before.verdict
    if verdict is TraceVerdict.REJECT and behind.verdict is not TraceVerdict.REJECT:
        verdict = TraceVerdict.DROP  # so the kernel says; that it rejects is told by the text only
    reason = before.reason if CHANGED in before.reason else "; ".join(filter(None, (CHANGED, before.reason)))
    return msgspec.structs.replace(
        before,
        verdict=verdict,
        decided=steps[id(before.decided)] if before.decided is not None else None,
        path=tuple(steps.values()),
        callers=before.callers if aligned else tuple(() for _ in steps),
        nat=tuple(_rewrite(each, behind.nat) for each in before.nat),
        confidence=before.confidence if before.confidence is Confidence.POSSIBLE else Confidence.LIKELY,
        reason=reason,
    )


def _uncounted(found: Resolved) -> Resolved:
    """Without counters, which also differ where no rule does."""
    path = tuple(msgspec.structs.replace(step, packets=None) for step in found.path)
    decided = msgspec.structs.replace(found.decided, packets=None) if found.decided is not None else None
    return msgspec.structs.replace(found, path=path, decided=decided)


def _has_legacy(found: Resolved) -> bool:
    return any(step.rule.backend is Backend.IPTABLES_LEGACY for step in found.path)


def _step(one: TraceStep, other: TraceStep | None) -> TraceStep:
    rule = one.rule
    if rule.policy is not None:
        return one  # the event itself says which
    if other is not None and _is_same(rule, other.rule):
        known = msgspec.structs.replace(
            rule,
            number=rule.number if rule.number == other.rule.number else None,
            call_site=rule.call_site if rule.call_site == other.rule.call_site else None,
        )
        return msgspec.structs.replace(one, rule=known)
    unknown = msgspec.structs.replace(
        rule,
        text="",
        # A legacy rule is named by its number; any other by its handle.
        number=rule.number if rule.backend is Backend.IPTABLES_LEGACY else None,
        owner=rule.owner if other is not None and rule.owner is other.rule.owner else Owner.OPERATOR,
        belongs_to="",
        call_site=None,
    )
    return msgspec.structs.replace(one, rule=unknown, packets=None)


def _is_same(one: FirewallRule, other: FirewallRule) -> bool:
    fields = ("backend", "family", "table", "chain", "handle", "text")
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def _rewrite(rewrite: Rewrite, others: tuple[Rewrite, ...]) -> Rewrite:
    """The rewriting with its rule, if the other reading has the same."""
    if rewrite.rule is None or any(
        each.rule is not None and each.before == rewrite.before and _is_same(each.rule, rewrite.rule) for each in others
    ):
        return rewrite
    return msgspec.structs.replace(rewrite, rule=None)
