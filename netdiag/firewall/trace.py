"""From the kernel's trace events to the rule that decides: its text, number, owner and call site.

A drop is taken from the kernel's own event. An accept is claimed only when the packet reached our own chain behind
all others: chains that do not report, of iptables-legacy or of BPF, have then let it pass as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.listing import ListedChain, Listing, read_listing
from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import SavedChain, nft_family, read_save
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import TraceEvent, TraceKind, TracePath, TraceStep, TraceVerdict

_QUOTED = re.compile(r'"[^"]*"')
_REJECT = re.compile(r"\breject\b")
_END = "end-"
"""How the names of our last chains begin."""


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a packet; as in `netdiag.model.trace.Trace`."""

    verdict: TraceVerdict
    decided: TraceStep | None
    path: tuple[TraceStep, ...]
    reason: str = ""


class Rules:
    """The rule sets of one namespace, ready to be looked up by handle."""

    def __init__(self, rule_sets: Iterable[RuleSet], namespace: str) -> None:
        self._namespace = namespace
        self._listing: Listing = {}
        self._saved: dict[tuple[str, str], dict[str, SavedChain]] = {}
        self.legacy_tables: tuple[str, ...] = ()
        for rules in rule_sets:
            if rules.backend is Backend.NFT_NATIVE:
                self._listing = read_listing(rules.text)
            elif rules.backend is Backend.IPTABLES_NFT:
                for table, chains in read_save(rules.text).tables.items():
                    self._saved[nft_family(rules.family), table] = chains
            elif rules.backend is Backend.IPTABLES_LEGACY:
                tables = tuple(f"{nft_family(rules.family)} {table}" for table in read_save(rules.text).tables)
                self.legacy_tables += tables

    def watches_egress(self) -> bool:
        """Whether anybody has a chain at a device's egress hook."""
        return any(chain.hook == "egress" for chain in self._listing.values())

    def chain(self, event: TraceEvent) -> ListedChain | None:
        """The chain of an event, as listed."""
        return self._listing.get((event.family, event.table, event.chain))

    def rule(self, event: TraceEvent, call_site: str | None) -> tuple[FirewallRule, int | None]:
        """The rule or policy of an event, and its counter. A rule that is not listed has an empty text."""
        chain = self.chain(event)
        saved = self._saved_chain(event, chain)
        backend = Backend.IPTABLES_NFT if saved is not None else Backend.NFT_NATIVE
        number, text, packets, policy = None, "", None, None
        if event.kind is TraceKind.POLICY:
            policy = event.verdict.upper() if saved is not None else event.verdict
            text = f":{event.chain} {policy}" if saved is not None else f"policy {policy}"
            packets = saved.packets if saved is not None else None
        elif chain is not None and event.handle is not None and (listed := chain.rule(event.handle)) is not None:
            number, text, packets = listed.number, listed.text, listed.packets
            if saved is not None:
                text, packets = saved.rules[number - 1].text, saved.rules[number - 1].packets
        rule = FirewallRule(
            backend=backend,
            namespace=self._namespace,
            family=event.family,
            table=event.table,
            chain=event.chain,
            number=number,
            handle=event.handle,
            text=text,
            owner=owner_of(event.chain, text, event.table if saved is None else ""),
            call_site=call_site,
            policy=policy,
        )
        return rule, packets

    def _saved_chain(self, event: TraceEvent, chain: ListedChain | None) -> SavedChain | None:
        """The chain as iptables shows it. Rules have the same order in both, so both must have as many."""
        saved = self._saved.get((event.family, event.table), {}).get(event.chain)
        if saved is None or (chain is not None and len(chain.rules) != len(saved.rules)):
            return None
        return saved


def resolve(
    events: Sequence[TraceEvent], rules: Rules, *, path: TracePath, own_table: str, egress: bool, lost: bool
) -> Resolved:
    """Say what became of the packet, and which rule or policy decided.

    Args:
        events: The events of this packet, in their order.
        rules: The namespace's rules, listed before the packet was sent.
        path: Which way it was sent.
        own_table: The table that traced it, whose rules are nobody's.
        egress: Whether our last chain stood at the device's egress hook.
        lost: The kernel could not deliver all events.
    """
    steps = _steps(events, rules, own_table)
    end = next((event.chain for event in events if event.table == own_table and _ends(event)), "")
    if end:
        reason = _beyond(end, rules, path, egress=egress)
        if reason:
            return Resolved(verdict=TraceVerdict.UNKNOWN, decided=None, path=steps, reason=reason)
        if lost:
            reason = "the kernel could not deliver all trace events: the rule that accepted may be missing"
            return Resolved(verdict=TraceVerdict.ACCEPT, decided=None, path=steps, reason=reason)
        return Resolved(verdict=TraceVerdict.ACCEPT, decided=_accepting(steps, path), path=steps)
    last = steps[-1] if steps else None
    if last is not None and last.verdict == "drop":
        if last.rule.policy is None and not last.rule.text:
            reason = f"the rule set changed meanwhile: handle {last.rule.handle} of {last.rule.table} {last.rule.chain}"
            return Resolved(verdict=TraceVerdict.DROP, decided=last, path=steps, reason=reason)
        verdict = TraceVerdict.REJECT if _rejects(last.rule) else TraceVerdict.DROP
        return Resolved(verdict=verdict, decided=last, path=steps)
    return Resolved(verdict=TraceVerdict.UNKNOWN, decided=None, path=steps, reason=_why(events, last, rules, lost=lost))


def _ends(event: TraceEvent) -> bool:
    return event.chain.startswith(_END) and event.kind is TraceKind.RULE and event.verdict == "drop"


def _steps(events: Sequence[TraceEvent], rules: Rules, own_table: str) -> tuple[TraceStep, ...]:
    """Everything that had a say and is not ours. An event without a handle only says that a chain came to its end."""
    steps: list[TraceStep] = []
    calls: dict[tuple[str, str, str], str] = {}
    hook = ""
    for event in events:
        if event.table == own_table or event.kind is TraceKind.RETURN:
            continue
        if event.kind is TraceKind.RULE and event.handle is None:
            continue
        chain = rules.chain(event)
        if chain is not None and chain.hook:
            hook = chain.hook
        rule, packets = rules.rule(event, calls.get((event.family, event.table, event.chain)))
        if event.target:
            calls[event.family, event.table, event.target] = f"{rule.place()}: {rule.text}"
        steps.append(TraceStep(hook=hook, rule=rule, verdict=event.verdict, packets=packets))
    return tuple(steps)


def _accepting(steps: Sequence[TraceStep], path: TracePath) -> TraceStep | None:
    """The rule that accepted at the hook that decides, else that hook's last policy; None where there is neither."""
    hook = "input" if path is TracePath.IN else "output"
    here = [step for step in steps if step.hook == hook]
    accepted = [step for step in here if step.verdict == "accept" and step.rule.policy is None]
    deciding = accepted or [step for step in here if step.rule.policy is not None]
    return deciding[-1] if deciding else None


def _rejects(rule: FirewallRule) -> bool:
    if rule.backend is Backend.IPTABLES_NFT:
        return target_of(tuple(rule.text.split())) == "REJECT"
    return bool(_REJECT.search(_QUOTED.sub("", rule.text)))


def _beyond(end: str, rules: Rules, path: TracePath, *, egress: bool) -> str:
    """Why the last chain that the packet reached is not the end of its way; empty when it is."""
    if end != "end-postrouting":
        return ""
    if path is TracePath.IN:
        return "it passed every chain of this namespace, and is not for this host: a rule gave it another destination"
    if egress and rules.watches_egress():
        return "it leaves by another device, whose egress chains were not watched (--out names the device)"
    return ""


def _why(events: Sequence[TraceEvent], last: TraceStep | None, rules: Rules, *, lost: bool) -> str:
    if lost:
        return "the kernel could not deliver all trace events"
    if not events:
        return (
            "the packet never came to the first hook: something before netfilter took it (XDP, tc), or the kernel did"
        )
    if last is not None and last.verdict in ("queue", "stolen"):
        return f"{last.rule.place()} gave it to somebody else ({last.verdict}): {last.rule.text}"
    where = f"behind {last.rule.table} {last.rule.chain}" if last is not None else "behind the first hook"
    suspects = "routing, a reverse path filter, connection tracking or a BPF program"
    if rules.legacy_tables:
        suspects = f"legacy iptables, whose chains do not report ({', '.join(rules.legacy_tables)}); or {suspects}"
    return f"no nft rule dropped it, and it was lost {where}: {suspects}"
