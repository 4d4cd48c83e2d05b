"""What legacy iptables chains reported of a packet: which of their rules it met, and whether one of them took it.

The kernel names a chain's place by table, chain and number, and says "policy" or "return" also of a rule without a
match that ends the chain (ip_tables.c, get_chainname_rulenum); so it is the number that tells a rule from a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.save_text import SavedChain, SavedRule
from netdiag.firewall.tables import TAKES, priority_of
from netdiag.firewall.trace import callers_of
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import TraceStep, TraceVerdict

_HOOK_ORDER = {"ingress": 0, "prerouting": 1, "output": 1, "input": 2, "forward": 2, "postrouting": 3, "egress": 4}
_GIVES_AWAY = frozenset({"QUEUE", "NFQUEUE", "SYNPROXY"})
_RETURN = "return"


class LegacyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One report: the packet matched rule ``number`` of a chain, or came to its end.

    Attributes:
        family: ip or ip6.
        hook: As nft names it.
        number: From 1; one more than the chain has rules is the chain's end.
        port: Interface index of the bridge's port that the packet leaves by; 0 where no bridge passes it on.
    """

    family: str
    hook: str
    table: str
    chain: str
    number: int
    port: int = 0


class Placed(NamedTuple):
    """A step that had a say, the priority of its table's hook, and through whose jumps the packet came to it."""

    priority: int
    step: TraceStep
    callers: tuple[FirewallRule, ...]


class LegacyPath(msgspec.Struct, frozen=True, kw_only=True):
    """The way through legacy chains.

    Attributes:
        taken: What the last step does with a packet for good; None when it lets it pass.
        reason: Why the last step is not understood; empty otherwise.
    """

    steps: tuple[Placed, ...]
    taken: TraceVerdict | None = None
    reason: str = ""


def follow(events: Sequence[LegacyEvent], rules: Rules, namespace: str) -> LegacyPath:
    """The steps of one packet through the legacy rules that were listed before it was sent."""
    steps: list[Placed] = []
    calls: dict[tuple[str, str, str], FirewallRule] = {}
    taken: TraceVerdict | None = None
    reason = ""
    for event in events:
        chains = rules.legacy.get((event.family, event.table), {})
        chain = chains.get(event.chain)
        taken, reason = None, ""
        if chain is None or event.number > len(chain.rules) + 1:
            reason = f"the rule set changed meanwhile: rule {event.number} of legacy {event.table} {event.chain}"
            continue
        saved = chain.rules[event.number - 1] if event.number <= len(chain.rules) else None
        # An empty chain that accepts is there only because somebody has listed the table.
        if saved is None and (chain.policy is None or (chain.policy == "ACCEPT" and not chain.rules)):
            continue
        callers = callers_of(event.family, event.table, event.chain, calls)
        rule = rules.attributed(_rule(event, chain, saved, namespace, callers), callers, None)
        target = target_of(saved.words) if saved is not None else chain.policy or ""
        verdict = _verdict(target, saved, chains)
        # From a base chain it leads to the policy.
        if verdict == _RETURN and chain.policy is None:
            continue
        if verdict in ("jump", "goto"):
            calls[event.family, event.table, target] = rule
        taken = TAKES.get(target)
        if target in _GIVES_AWAY:
            reason = f"{rule.place()} gave it to somebody else: {rule.text}"
        packets = saved.packets if saved is not None else chain.packets
        step = TraceStep(hook=event.hook, rule=rule, verdict=verdict, packets=packets)
        steps.append(Placed(priority_of(event.table, event.hook), step, callers))
    return LegacyPath(steps=tuple(steps), taken=taken, reason=reason)


def merge(
    nft: Sequence[tuple[TraceStep, tuple[FirewallRule, ...]]],
    legacy: Sequence[Placed],
    priority_of: Callable[[FirewallRule], int | None],
    *,
    nft_took_it: bool,
) -> tuple[tuple[TraceStep, tuple[FirewallRule, ...]], ...]:
    """Both variants' steps in the packet's order: by hook, then priority.

    Args:
        nft: Steps in the order of the kernel's events, with their callers.
        legacy: Steps in the order of the kernel's events.
        priority_of: The priority of a rule's chain; None for one that is only called.
        nft_took_it: The last of ``nft`` is the packet's end; of two chains with the same priority, whose order the
            kernel does not tell, it is then the later one.
    """
    merged: list[tuple[TraceStep, tuple[FirewallRule, ...]]] = []
    waiting = list(legacy)
    priority = 0
    for step, callers in nft:
        own = priority_of(step.rule)
        priority = priority if own is None else own
        place = (_HOOK_ORDER.get(step.hook, 0), priority)
        while waiting and _before(waiting[0], place, ties=nft_took_it):
            merged.append(waiting.pop(0)[1:])
        merged.append((step, callers))
    return (*merged, *(placed[1:] for placed in waiting))


def _before(waiting: Placed, place: tuple[int, int], *, ties: bool) -> bool:
    own = (_HOOK_ORDER.get(waiting.step.hook, 0), waiting.priority)
    return own < place or (ties and own == place)


def _rule(
    event: LegacyEvent,
    chain: SavedChain,
    saved: SavedRule | None,
    namespace: str,
    callers: Sequence[FirewallRule],
) -> FirewallRule:
    text = saved.text if saved is not None else f":{event.chain} {chain.policy}"
    return FirewallRule(
        backend=Backend.IPTABLES_LEGACY,
        namespace=namespace,
        family=event.family,
        table=event.table,
        chain=event.chain,
        number=saved.number if saved is not None else None,
        text=text,
        call_site=f"{callers[0].place()}: {callers[0].text}" if callers else None,
        policy=chain.policy if saved is None else None,
    )


def _verdict(target: str, saved: SavedRule | None, chains: dict[str, SavedChain]) -> str:
    if target in chains:
        goes = saved is not None and any(word in ("-g", "--goto") for word in saved.words)
        return "goto" if goes else "jump"
    if target in TAKES:
        return "drop"
    if target in _GIVES_AWAY:
        return "queue"
    return {"ACCEPT": "accept", "RETURN": _RETURN}.get(target, "continue")
