"""The rule sets of one namespace, ready to be looked up by what an event of the kernel names: chain and handle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from netdiag.firewall.listing import ListedChain, Listing, named_blocks, priority_number, read_listing
from netdiag.firewall.owner import attribute
from netdiag.firewall.save_text import SavedChain, nft_family, read_save
from netdiag.model.facts import Backend, Facts, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import TraceEvent, TraceKind

OWN_TABLE = re.compile(r"netdiag-[0-9a-f]{8}")
"""A table of a trace, this one's or another's that runs at the same moment: its rules are nobody's."""


class Rules:
    """The rule sets of one namespace, ready to be looked up by handle."""

    def __init__(self, rule_sets: Iterable[RuleSet], namespace: str, listing: Listing | None = None) -> None:
        """Read them.

        Args:
            rule_sets: As nft and iptables show them.
            namespace: Whose they are.
            listing: Chains and handles as the kernel dumps them: where this host has no ``nft`` they stand in for its
                listing, else they name its blocks.
        """
        self._namespace = namespace
        self.listing: Listing = _foreign(listing or {})
        """Every chain of nf_tables, by family, table and name; those of iptables-nft among them."""
        self.saved: dict[tuple[str, str], dict[str, SavedChain]] = {}
        """The chains of iptables-nft's tables, by family and table."""
        self.legacy: dict[tuple[str, str], dict[str, SavedChain]] = {}
        """The chains of legacy tables, by family and table."""
        for rules in rule_sets:
            if rules.backend is Backend.NFT_NATIVE:
                self.listing = _foreign(named_blocks(read_listing(rules.text), listing or {}))
            elif rules.backend is Backend.IPTABLES_NFT:
                for table, chains in read_save(rules.text).tables.items():
                    self.saved[nft_family(rules.family), table] = chains
            elif rules.backend is Backend.IPTABLES_LEGACY:
                for table, chains in read_save(rules.text).tables.items():
                    self.legacy[nft_family(rules.family), table] = chains

    def same_as(self, other: Rules) -> bool:
        """Whether both readings show the same rules in the same places, whatever was counted between."""
        return (
            _listed(self.listing) == _listed(other.listing)
            and _shown(self.saved) == _shown(other.saved)
            and self.legacy_as(other)
        )

    def legacy_as(self, other: Rules) -> bool:
        """Whether both readings show the same legacy rules in the same places."""
        return _shown(self.legacy) == _shown(other.legacy)

    @property
    def legacy_tables(self) -> tuple[str, ...]:
        """The legacy tables in words, such as "ip filter"."""
        return tuple(" ".join(each) for each in self.legacy)

    def legacy_tables_of(self, *, six: bool | None) -> tuple[str, ...]:
        """Those of one family; all of them where it is not known."""
        family = None if six is None else "ip6" if six else "ip"
        return tuple(" ".join(each) for each in self.legacy if family in (None, each[0]))

    def watches_egress(self) -> bool:
        """Whether anybody has a chain at a device's egress hook."""
        return any(chain.hook == "egress" for chain in self.listing.values())

    def watches_bridges(self) -> bool:
        """Whether anybody has a chain that a packet meets between a bridge and its ports."""
        return any(chain.family == "bridge" and chain.hook for chain in self.listing.values())

    def translates(self, rule: FirewallRule) -> bool:
        """Whether a rule stands in a chain of type nat, or in one that such a chain calls (iptables' table nat)."""
        chain = self.listing.get((rule.family, rule.table, rule.chain))
        return rule.table == "nat" or (chain is not None and chain.kind == "nat")

    def chain(self, event: TraceEvent) -> ListedChain | None:
        """The chain of an event, as listed."""
        return self.listing.get((event.family, event.table, event.chain))

    def priority(self, rule: FirewallRule) -> int | None:
        """The priority of a rule's chain; None for a chain that is only called, or not listed."""
        chain = self.listing.get((rule.family, rule.table, rule.chain))
        return priority_number(chain.priority, rule.family) if chain is not None and chain.hook else None

    def attributed(self, rule: FirewallRule, callers: tuple[FirewallRule, ...], facts: Facts | None) -> FirewallRule:
        """The rule with its owner and what it serves, told from its form, its callers and the host's facts."""
        saved = self.legacy if rule.backend is Backend.IPTABLES_LEGACY else self.saved
        return attribute(rule, callers, facts, chains=saved.get((rule.family, rule.table), {}))

    def rule(self, event: TraceEvent, callers: tuple[FirewallRule, ...]) -> tuple[FirewallRule, int | None]:
        """The rule or policy of an event, and its counter. A rule that is not listed has an empty text.

        ``callers`` are the rules through whose jumps the packet came to its chain, the innermost first.
        """
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
            call_site=f"{callers[0].place()}: {callers[0].text}" if callers else None,
            policy=policy,
        )
        return self.attributed(rule, callers, None), packets

    def _saved_chain(self, event: TraceEvent, chain: ListedChain | None) -> SavedChain | None:
        """The chain as iptables shows it. Rules have the same order in both, so both must have as many."""
        saved = self.saved.get((event.family, event.table), {}).get(event.chain)
        if saved is None or (chain is not None and len(chain.rules) != len(saved.rules)):
            return None
        return saved


def _foreign(listing: Listing) -> Listing:
    return {place: chain for place, chain in listing.items() if not OWN_TABLE.fullmatch(place[1])}


def _listed(listing: Listing) -> object:
    return {
        place: (chain.hook, chain.priority, chain.policy, [(rule.handle, rule.text) for rule in chain.rules])
        for place, chain in listing.items()
    }


def _shown(tables: Mapping[tuple[str, str], Mapping[str, SavedChain]]) -> object:
    return {
        (place, chain.name): (chain.policy, [rule.text for rule in chain.rules])
        for place, chains in tables.items()
        for chain in chains.values()
    }
