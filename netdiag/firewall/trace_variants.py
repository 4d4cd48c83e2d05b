"""One packet's way through nft's chains and legacy ones together.

A packet meets both variants' chains, and either may take it. nft's events prove what nft did; where the packet came to
none of our last chains and nft took it not, the last legacy rule that it met did, if that rule is one that takes.
"""

from __future__ import annotations

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.legacy_trace import LegacyPath, merge
from netdiag.firewall.save_text import split_words
from netdiag.firewall.trace import Resolved
from netdiag.firewall.trace_rules import Rules
from netdiag.model.report import Confidence
from netdiag.model.trace import Rewrite, TracePath, TraceStep, TraceVerdict

_DESTINATION = frozenset({"DNAT", "REDIRECT", "NETMAP"})
_SOURCE = frozenset({"SNAT", "MASQUERADE", "NETMAP"})


def join(found: Resolved, legacy: LegacyPath, rules: Rules, *, path: TracePath, lost: bool) -> Resolved:
    """What became of the packet, with what legacy chains reported.

    Args:
        found: What nft's events say.
        legacy: The way through legacy chains.
        rules: The namespace's rules.
        path: Which way the packet was sent.
        lost: The kernel could not deliver all reports of legacy chains.
    """
    nft_took_it = found.verdict in (TraceVerdict.DROP, TraceVerdict.REJECT)
    own = list(zip(found.path, found.callers, strict=True))
    merged = merge(own, legacy.steps, rules.priority, nft_took_it=nft_took_it)
    joined = msgspec.structs.replace(
        found,
        path=tuple(step for step, _ in merged),
        callers=tuple(callers for _, callers in merged),
        nat=tuple(_with_rule(rewrite, legacy) for rewrite in found.nat),
    )
    if found.verdict is TraceVerdict.ACCEPT:
        decided = found.decided
        if decided is None or decided.rule.policy is not None:
            decided = _accepting(legacy, path) or decided
        return msgspec.structs.replace(joined, decided=decided)
    if nft_took_it:
        return joined
    if legacy.reason or lost:
        reason = legacy.reason or "the kernel could not deliver all reports of legacy iptables"
        return msgspec.structs.replace(joined, reason=f"{reason}; {found.reason}")
    if legacy.taken is None:
        return joined
    return msgspec.structs.replace(
        joined,
        verdict=legacy.taken,
        decided=legacy.steps[-1].step,
        confidence=Confidence.PROVEN,
        reason="",
    )


def _accepting(legacy: LegacyPath, path: TracePath) -> TraceStep | None:
    """The last legacy rule that accepted at the hook that decides; policies are as good as nft's own."""
    hook = {TracePath.IN: "input", TracePath.FORWARD: "forward", TracePath.OUT: "output"}[path]
    if any(step.hook == "input" for _, step, _ in legacy.steps):
        hook = "input"  # sent by this host to itself
    accepted = [
        step
        for _, step, _ in legacy.steps
        if step.hook == hook and step.verdict == "accept" and step.rule.table != "nat"
    ]
    rules = [step for step in accepted if step.rule.policy is None]
    deciding = rules or accepted
    return deciding[-1] if deciding else None


def _with_rule(rewrite: Rewrite, legacy: LegacyPath) -> Rewrite:
    """The rewriting with the legacy rule that made it, where no nft rule did."""
    if rewrite.rule is not None:
        return rewrite
    before, after = rewrite.before, rewrite.after
    redirected = (before.destination, before.destination_port) != (after.destination, after.destination_port)
    targets = _DESTINATION if redirected else _SOURCE
    made = [step.rule for _, step, _ in legacy.steps if target_of(split_words(step.rule.text)) in targets]
    return msgspec.structs.replace(rewrite, rule=made[-1]) if made else rewrite
