"""From the kernel's trace events to the rule that decides: its text, number, owner and call site.

A drop is taken from the kernel's own event. An accept is claimed only when the packet reached our own chain behind
all others: chains that do not report, of iptables-legacy or of BPF, have then let it pass as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.nft_statement import translates, verdict_of
from netdiag.firewall.save_text import split_words
from netdiag.firewall.trace_rules import OWN_TABLE, Rules
from netdiag.model.facts import Backend, Facts
from netdiag.model.firewall import FirewallRule
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Rewrite, TraceEvent, TraceKind, TracePath, TraceStep, TraceVerdict

_END = "end-"
"""How the names of our last chains begin."""
_TRANSLATING_TARGETS = frozenset({"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"})


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a packet; as in `netdiag.model.trace.Trace`.

    Attributes:
        callers: For each step, the rules through whose jumps the packet came to its chain, the innermost first.
        last_endpoints: The packet's addresses when it was seen last.
        out_index: Interface index of the device that it was about to leave by; 0 where it was none.
    """

    verdict: TraceVerdict
    decided: TraceStep | None
    path: tuple[TraceStep, ...]
    callers: tuple[tuple[FirewallRule, ...], ...] = ()
    nat: tuple[Rewrite, ...] = ()
    last_endpoints: Endpoints | None = None
    out_index: int = 0
    confidence: Confidence = Confidence.PROVEN
    reason: str = ""


def resolve(
    events: Sequence[TraceEvent],
    rules: Rules,
    *,
    path: TracePath,
    own_table: str,
    lost: bool,
    bridges: Collection[int] = (),
    waited: bool = False,
    suspects: Sequence[str] = (),
    forwarded_suspects: Sequence[str] = (),
    legacy_reports: bool = False,
) -> Resolved:
    """Say what became of the packet, and which rule or policy decided.

    Args:
        events: The events of this packet, in their order.
        rules: The namespace's rules, listed before the packet was sent.
        path: Which way it was sent.
        own_table: The table that traced it, whose rules are nobody's.
        lost: The kernel could not deliver all events.
        bridges: Interface indexes of the namespace's bridges.
        waited: The packet was somebody else's, so that our last chain let it go on.
        suspects: What of this host could lose such a packet outside its filters, in words.
        forwarded_suspects: The same for one that goes on to somebody else, or was given another destination.
        legacy_reports: Legacy chains were listened to as well (`netdiag.firewall.trace_variants.join` has the rest).
    """
    steps, callers = _steps(events, rules)
    told = [event for event in events if event.endpoints is not None]
    found = Resolved(
        verdict=TraceVerdict.UNKNOWN,
        decided=None,
        path=steps,
        callers=callers,
        nat=_rewritten(events, rules),
        last_endpoints=told[-1].endpoints if told else None,
        out_index=_leaves_by(events),
    )
    last = steps[-1] if steps else None
    end = next((event.chain for event in events if event.table == own_table and _ends(event, waited=waited)), "")
    # A packet of somebody else's goes on behind our last chain, where a device's or a bridge's may still drop it.
    if end and not (waited and last is not None and last.verdict == "drop"):
        return _let_through(found, end, rules, path, lost=lost, bridges=bridges)
    if last is not None and last.verdict == "drop":
        verdict, reason = TraceVerdict.DROP, ""
        if last.rule.policy is None and not last.rule.text and last.rule.number is None:
            reason = f"the rule set changed meanwhile: handle {last.rule.handle} of {last.rule.table} {last.rule.chain}"
        elif _rejects(last.rule):
            verdict = TraceVerdict.REJECT
        return _replace(found, verdict=verdict, decided=last, reason=reason)
    # A packet that was lost on its way to a new destination never told that one.
    if path is TracePath.FORWARD or any(_translates(step.rule) for step in steps):
        suspects = (*forwarded_suspects, *suspects)
    silent = () if legacy_reports else rules.legacy_tables_of(six=_is_six(found))
    return _replace(
        found,
        confidence=Confidence.POSSIBLE,
        reason=_why(events, last, silent, lost=lost, suspects=suspects),
    )


def _let_through(
    found: Resolved, end: str, rules: Rules, path: TracePath, *, lost: bool, bridges: Collection[int]
) -> Resolved:
    reason = ""
    if end == _END + "postrouting" and rules.watches_egress():
        reason = "it leaves by a device whose egress chains were not watched (--out names the device)"
    elif (
        end == _END + "postrouting" and path is TracePath.IN and found.out_index in bridges and rules.watches_bridges()
    ):
        reason = "it goes on through a bridge whose own chains were not watched (--path forward follows it)"
    if reason:
        return _replace(found, confidence=Confidence.POSSIBLE, reason=reason)
    if lost:
        reason = "the kernel could not deliver all trace events: the rule that accepted may be missing"
        return _replace(found, verdict=TraceVerdict.ACCEPT, reason=reason)
    local = end == _END + "input"
    hook = "input" if local else "output" if path is TracePath.OUT else "forward"
    if path is TracePath.IN and not local:
        to = _destination(found)
        if not found.nat or to == found.nat[0].before.destination:
            reason = (
                "it is not taken in by this host, and its address is unchanged: routing sends it on (ip rule, a mark)"
            )
            return _replace(found, confidence=Confidence.POSSIBLE, reason=reason)
        reason = f"it is not for this host itself: a rule sends it on to {to}, where other rules may decide"
    return _replace(found, verdict=TraceVerdict.ACCEPT, decided=_accepting(found.path, rules, hook), reason=reason)


def _is_six(found: Resolved) -> bool | None:
    """Whether it is a packet of IPv6; None where no event tells."""
    return None if found.last_endpoints is None else ":" in found.last_endpoints.destination


def _destination(found: Resolved) -> str:
    return found.last_endpoints.destination if found.last_endpoints is not None else "another address"


_replace = msgspec.structs.replace


def _ends(event: TraceEvent, *, waited: bool) -> bool:
    if not event.chain.startswith(_END):
        return False
    if waited:
        return event.kind is TraceKind.POLICY
    return event.kind is TraceKind.RULE and event.verdict == "drop"


def with_names(found: Resolved, rules: Rules, facts: Facts) -> Resolved:
    """The same answer with rules that name networks, services and profiles, as the host's facts know them."""
    named = {
        id(step): _replace(step, rule=rules.attributed(step.rule, callers, facts))
        for step, callers in zip(found.path, found.callers, strict=True)
    }
    by_place = {(step.rule.family, step.rule.place(), step.rule.handle): step.rule for step in named.values()}
    return _replace(
        found,
        path=tuple(named[id(step)] for step in found.path),
        decided=named[id(found.decided)] if found.decided is not None else None,
        nat=tuple(
            _replace(each, rule=by_place.get((each.rule.family, each.rule.place(), each.rule.handle), each.rule))
            if each.rule is not None
            else each
            for each in found.nat
        ),
    )


def _steps(
    events: Sequence[TraceEvent], rules: Rules
) -> tuple[tuple[TraceStep, ...], tuple[tuple[FirewallRule, ...], ...]]:
    """Everything that had a say and is not ours; and, for each, who called its chain.

    An event without a handle only says that a chain came to its end; a rule that leaves a base chain early has its say.
    """
    steps: list[TraceStep] = []
    called: list[tuple[FirewallRule, ...]] = []
    calls: dict[tuple[str, str, str], FirewallRule] = {}
    hook = ""
    for event in events:
        if OWN_TABLE.fullmatch(event.table) or (event.kind is not TraceKind.POLICY and event.handle is None):
            continue
        chain = rules.chain(event)
        if event.kind is TraceKind.RETURN and (chain is None or not chain.hook):
            continue
        if chain is not None and chain.hook:
            hook = chain.hook
        callers = callers_of(event.family, event.table, event.chain, calls)
        rule, packets = rules.rule(event, callers)
        if event.target:
            calls[event.family, event.table, event.target] = rule
        steps.append(TraceStep(hook=hook, rule=rule, verdict=event.verdict, packets=packets))
        called.append(callers)
    return tuple(steps), tuple(called)


def callers_of(
    family: str, table: str, chain: str, calls: Mapping[tuple[str, str, str], FirewallRule]
) -> tuple[FirewallRule, ...]:
    """Through whose jumps a packet came to a chain, the innermost first.

    ``calls`` holds, by family, table and chain, the rule that called the chain last.
    """
    found: list[FirewallRule] = []
    # A goto back into a chain that was left would make a circle of the calls that are remembered.
    while (caller := calls.get((family, table, chain))) is not None and caller not in found:
        found.append(caller)
        chain = caller.chain
    return tuple(found)


def _rewritten(events: Sequence[TraceEvent], rules: Rules) -> tuple[Rewrite, ...]:
    """Each change of addresses between two places, with the last rule between them that could have made it."""
    rewrites: list[Rewrite] = []
    before: Endpoints | None = None
    rule: FirewallRule | None = None
    for event in events:
        if event.endpoints is not None:
            if before is not None and event.endpoints != before:
                rewrites.append(Rewrite(before=before, after=event.endpoints, rule=rule))
            if event.endpoints != before:
                rule = None
            before = event.endpoints
        if not OWN_TABLE.fullmatch(event.table) and event.kind is TraceKind.RULE and event.handle is not None:
            candidate, _ = rules.rule(event, ())
            if _translates(candidate):
                rule = candidate
    return tuple(rewrites)


def _leaves_by(events: Sequence[TraceEvent]) -> int:
    """The device that the packet was about to leave by; of a bridge's packet, the port."""
    told = [(event.family == "bridge", event.out_index) for event in events if event.out_index]
    return next((index for bridged, index in reversed(told) if bridged), told[-1][1] if told else 0)


def _accepting(steps: Sequence[TraceStep], rules: Rules, hook: str) -> TraceStep | None:
    """The rule that accepted at the hook that decides, else that hook's last policy; None where there is neither.

    A chain that translates addresses decides about nothing else.
    """
    here = [step for step in steps if step.hook == hook and not rules.translates(step.rule)]
    accepted = [step for step in here if step.verdict == "accept" and step.rule.policy is None]
    deciding = accepted or [step for step in here if step.rule.policy is not None]
    return deciding[-1] if deciding else None


def _rejects(rule: FirewallRule) -> bool:
    if rule.backend is Backend.IPTABLES_NFT:
        return target_of(split_words(rule.text)) == "REJECT"
    verdict = verdict_of(rule.text)
    return verdict is not None and verdict.word == "reject"


def _translates(rule: FirewallRule) -> bool:
    if rule.backend is Backend.IPTABLES_NFT:
        return target_of(split_words(rule.text)) in _TRANSLATING_TARGETS
    return translates(rule.text)


def _why(
    events: Sequence[TraceEvent], last: TraceStep | None, silent: Sequence[str], *, lost: bool, suspects: Sequence[str]
) -> str:
    if lost:
        return "the kernel could not deliver all trace events"
    if not events:
        return (
            "the packet never came to the first hook: something before netfilter took it (XDP, tc), or the kernel did"
        )
    if last is not None and last.verdict in ("queue", "stolen"):
        return f"{last.rule.place()} gave it to somebody else ({last.verdict}): {last.rule.text}"
    where = f"behind {last.rule.table} {last.rule.chain}" if last is not None else "behind the first hook"
    told = any("reverse path filter" in suspect for suspect in suspects)
    others = f"routing, {'' if told else 'a reverse path filter, '}connection tracking or a BPF program"
    if suspects:
        others = f"{'; '.join(suspects)}; or {others}"
    if silent:
        others = f"legacy iptables, whose chains do not report ({', '.join(silent)}); or {others}"
    return f"no nft rule dropped it, and it was lost {where}: {others}"
