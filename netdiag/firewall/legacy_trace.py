"""What legacy iptables chains reported of a packet: which of their rules it met, and whether one of them took it.

The kernel names a chain's place by table, chain and number, and says "policy" or "return" also of a rule without a
match that ends the chain (ip_tables.c, get_chainname_rulenum); so it is the number that tells a rule from a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import SavedChain, SavedRule, nft_family, read_save
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import TraceStep, TraceVerdict

_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_HOOK_ORDER = {"ingress": 0, "prerouting": 1, "output": 1, "input": 2, "forward": 2, "postrouting": 3, "egress": 4}
_TAKES = {"DROP": TraceVerdict.DROP, "TARPIT": TraceVerdict.DROP, "REJECT": TraceVerdict.REJECT}
_GIVES_AWAY = frozenset({"QUEUE", "NFQUEUE", "SYNPROXY"})
_RETURN = "return"


class LegacyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One report: the packet matched rule ``number`` of a chain, or came to its end.

    Attributes:
        family: ip or ip6.
        hook: As nft names it.
        number: From 1; one more than the chain has rules is the chain's end.
    """

    family: str
    hook: str
    table: str
    chain: str
    number: int


class LegacyPath(msgspec.Struct, frozen=True, kw_only=True):
    """The way through legacy chains.

    Attributes:
        steps: What had a say, each with the priority of its table's hook.
        taken: What the last step does with a packet for good; None when it lets it pass.
        callers: Through whose jumps the packet came to the last step, the innermost first.
        reason: Why the last step is not understood; empty otherwise.
    """

    steps: tuple[tuple[int, TraceStep], ...]
    taken: TraceVerdict | None = None
    callers: tuple[FirewallRule, ...] = ()
    reason: str = ""


def follow(events: Sequence[LegacyEvent], rule_sets: Iterable[RuleSet], namespace: str) -> LegacyPath:
    """The steps of one packet through the legacy rules that were listed before it was sent."""
    tables = {
        (nft_family(rules.family), name): chains
        for rules in rule_sets
        if rules.backend is Backend.IPTABLES_LEGACY
        for name, chains in read_save(rules.text).tables.items()
    }
    steps: list[tuple[int, TraceStep]] = []
    calls: dict[tuple[str, str, str], FirewallRule] = {}
    callers: tuple[FirewallRule, ...] = ()
    taken: TraceVerdict | None = None
    reason = ""
    for event in events:
        chains = tables.get((event.family, event.table), {})
        chain = chains.get(event.chain)
        taken, reason = None, ""
        callers = _callers(event, calls)
        if chain is None or event.number > len(chain.rules) + 1:
            reason = f"the rule set changed meanwhile: rule {event.number} of legacy {event.table} {event.chain}"
            continue
        saved = chain.rules[event.number - 1] if event.number <= len(chain.rules) else None
        # An empty chain that accepts is there only because somebody has listed the table.
        if saved is None and (chain.policy is None or (chain.policy == "ACCEPT" and not chain.rules)):
            continue
        rule = _rule(event, chain, saved, namespace, callers)
        target = target_of(saved.words) if saved is not None else chain.policy or ""
        verdict = _verdict(target, saved, chains)
        if verdict == _RETURN:
            continue
        if verdict in ("jump", "goto"):
            calls[event.family, event.table, target] = rule
        taken = _TAKES.get(target)
        if target in _GIVES_AWAY:
            reason = f"{rule.place()} gave it to somebody else: {rule.text}"
        packets = saved.packets if saved is not None else chain.packets
        step = TraceStep(hook=event.hook, rule=rule, verdict=verdict, packets=packets)
        steps.append((_priority(event), step))
    return LegacyPath(steps=tuple(steps), taken=taken, callers=callers, reason=reason)


def merge(
    nft: Sequence[TraceStep],
    legacy: Sequence[tuple[int, TraceStep]],
    priority_of: Callable[[FirewallRule], int | None],
    *,
    nft_took_it: bool,
) -> tuple[TraceStep, ...]:
    """Both variants' steps in the packet's order: by hook, then priority.

    Args:
        nft: Steps in the order of the kernel's events.
        legacy: Steps in the order of the kernel's events, with their priorities.
        priority_of: The priority of a rule's chain; None for one that is only called.
        nft_took_it: The last of ``nft`` is the packet's end; of two chains with the same priority, whose order the
            kernel does not tell, it is then the later one.
    """
    merged: list[TraceStep] = []
    waiting = list(legacy)
    priority = 0
    for step in nft:
        own = priority_of(step.rule)
        priority = priority if own is None else own
        place = (_HOOK_ORDER.get(step.hook, 0), priority)
        while waiting and _before(waiting[0], place, ties=nft_took_it):
            merged.append(waiting.pop(0)[1])
        merged.append(step)
    return (*merged, *(step for _, step in waiting))


def _before(waiting: tuple[int, TraceStep], place: tuple[int, int], *, ties: bool) -> bool:
    own = (_HOOK_ORDER.get(waiting[1].hook, 0), waiting[0])
    return own < place or (ties and own == place)


def _priority(event: LegacyEvent) -> int:
    if event.table == "nat":
        return -100 if event.hook in ("prerouting", "output") else 100
    return _PRIORITIES.get(event.table, 0)


def _callers(event: LegacyEvent, calls: dict[tuple[str, str, str], FirewallRule]) -> tuple[FirewallRule, ...]:
    found: list[FirewallRule] = []
    chain = event.chain
    while (caller := calls.get((event.family, event.table, chain))) is not None and caller not in found:
        found.append(caller)
        chain = caller.chain
    return tuple(found)


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
        owner=owner_of(event.chain, text),
        call_site=f"{callers[0].place()}: {callers[0].text}" if callers else None,
        policy=chain.policy if saved is None else None,
    )


def _verdict(target: str, saved: SavedRule | None, chains: dict[str, SavedChain]) -> str:
    if target in chains:
        goes = saved is not None and any(word in ("-g", "--goto") for word in saved.words)
        return "goto" if goes else "jump"
    if target in _TAKES:
        return "drop"
    if target in _GIVES_AWAY:
        return "queue"
    return {"ACCEPT": "accept", "RETURN": _RETURN}.get(target, "continue")
