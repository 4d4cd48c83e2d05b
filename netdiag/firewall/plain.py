"""A plain reading of running iptables rules: what becomes of a new flow's first packet at this host.

It follows base chains in the kernel's order, jumps, goto and return, and keeps every outcome that the rules leave
possible. What it cannot decide it calls *unknown at this rule*. It does not rewrite addresses (nat), does not look
into native nft rules, and knows nothing of the flow's later packets. It was computed, not seen: at most *likely*.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.matching import Match, match_rule
from netdiag.firewall.nft_text import NftTable, native_tables
from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import SavedChain, SavedRule, nft_family, read_save
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import Direction, FirewallRule, Packet

# Base chains in order of their priority (include/uapi/linux/netfilter_ipv4.h). nat is left out: see the module's text.
_TRAVERSAL = {
    Direction.IN: (
        ("raw", "PREROUTING"),
        ("mangle", "PREROUTING"),
        ("mangle", "INPUT"),
        ("filter", "INPUT"),
        ("security", "INPUT"),
    ),
    Direction.OUT: (
        ("raw", "OUTPUT"),
        ("mangle", "OUTPUT"),
        ("filter", "OUTPUT"),
        ("security", "OUTPUT"),
        ("mangle", "POSTROUTING"),
    ),
}
_HOOKS = {
    Direction.IN: frozenset({"ingress", "prerouting", "input"}),
    Direction.OUT: frozenset({"output", "postrouting", "egress"}),
}
_MAX_DEPTH = 32
# Targets that never end a packet's way through a chain.
_PASSING = frozenset(
    "LOG NFLOG ULOG MARK CONNMARK TCPMSS CT NOTRACK TRACE SET CHECKSUM CLASSIFY DSCP TOS TTL HL SECMARK CONNSECMARK AUDIT LED RATEEST TEE".split()  # noqa: SIM905 - one name a word
)


class Outcome(enum.Enum):
    """What a rule set does with a packet."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    UNKNOWN = "unknown"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome and the rule (or policy) that decides it.

    Attributes:
        rule: The deciding rule; for an accept by nobody's rule the last base chain's policy; for *unknown* the first
            rule that could not be decided and matters.
        reason: Why it is unknown.
    """

    outcome: Outcome
    rule: FirewallRule | None = None
    reason: str = ""


class _End(msgspec.Struct, frozen=True):
    outcome: Outcome | None
    """None: the chain was left without a verdict."""
    rule: FirewallRule | None = None


def read_plainly(rule_sets: Iterable[RuleSet], packet: Packet) -> Reading:
    """What all running iptables rules of the packet's family do with it, both variants taken together.

    Every backend's chains see the packet, and a drop by one is final whatever the other accepts.
    """
    rule_sets = tuple(rule_sets)
    possible: list[_End] = []
    for rules in rule_sets:
        if rules.family != packet.family or rules.backend not in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
            continue
        ends = _through_tables(rules, packet)
        if ends and all(end.outcome in (Outcome.DROP, Outcome.REJECT) for end in ends):
            last = ends[-1]
            assert last.outcome is not None  # noqa: S101 - just seen
            return Reading(outcome=last.outcome, rule=last.rule)
        possible += ends
    for end in possible:
        if end.outcome is not Outcome.ACCEPT:
            return Reading(
                outcome=Outcome.UNKNOWN,
                rule=end.rule,
                reason="whether this rule is reached and matches cannot be told from its text alone",
            )
    foreign = native_stop(rule_sets, packet)
    if foreign is not None:
        return Reading(
            outcome=Outcome.UNKNOWN,
            reason=f"nft's own table {foreign.family} {foreign.name} stands at the same hook and can drop",
        )
    return Reading(outcome=Outcome.ACCEPT, rule=possible[-1].rule if possible else None)


def native_stop(rule_sets: Iterable[RuleSet], packet: Packet) -> NftTable | None:
    """The first native nft table at the packet's hooks that can drop or reject; None if there is none."""
    rule_sets = tuple(rule_sets)
    written = [rules.family for rules in rule_sets if rules.backend is Backend.IPTABLES_NFT and rules.text.strip()]
    hooks = _HOOKS[packet.direction]
    families = {"inet", "ip" if packet.family == 4 else "ip6", "netdev"}
    for rules in rule_sets:
        if rules.backend is Backend.NFT_NATIVE:
            for table in native_tables(rules.text, written):
                if table.family in families and table.hooks & hooks and table.stops():
                    return table
    return None


def _through_tables(rules: RuleSet, packet: Packet) -> list[_End]:
    tables = read_save(rules.text).tables
    passed: list[_End] = []
    for table, base in _TRAVERSAL[packet.direction]:
        chains = tables.get(table)
        if chains is None or base not in chains:
            continue
        walk = _Walk(rules=rules, table=table, chains=chains, packet=packet)
        ends = walk.base(chains[base])
        definite = {end.outcome for end in ends}
        if Outcome.ACCEPT not in definite:
            return [*[end for end in passed if end.outcome is not Outcome.ACCEPT], *ends]
        passed = [*[end for end in passed if end.outcome is not Outcome.ACCEPT], *ends]
    return passed


class _Walk:
    """One packet's possible ways through the chains of one table."""

    def __init__(self, *, rules: RuleSet, table: str, chains: dict[str, SavedChain], packet: Packet) -> None:
        self._rules = rules
        self._table = table
        self._chains = chains
        self._packet = packet

    def base(self, chain: SavedChain) -> list[_End]:
        """All ways out of a base chain, its policy included where it can be reached."""
        ends = self._chain(chain, 0)
        policy = Outcome.DROP if chain.policy == "DROP" else Outcome.ACCEPT
        fallen = FirewallRule(
            backend=self._rules.backend,
            family=nft_family(self._rules.family),
            table=self._table,
            chain=chain.name,
            text=f":{chain.name} {chain.policy or 'ACCEPT'}",
            policy=chain.policy or "ACCEPT",
        )
        return _distinct([_End(policy, fallen) if end.outcome is None else end for end in ends])

    def _chain(self, chain: SavedChain, depth: int) -> list[_End]:
        ends: list[_End] = []
        for rule in chain.rules:
            matched = match_rule(rule.words, self._packet)
            if matched is Match.NO:
                continue
            target = target_of(rule.words)
            if target in _PASSING or not target:
                continue
            here, falls_through = self._target(rule, target, depth)
            ends += here
            if matched is Match.YES and not falls_through:
                return ends
        return [*ends, _End(None)]

    def _target(self, rule: SavedRule, target: str, depth: int) -> tuple[list[_End], bool]:
        """The ends that a matching rule leads to, and whether the packet may go on behind it."""
        named = {"ACCEPT": Outcome.ACCEPT, "DROP": Outcome.DROP, "REJECT": Outcome.REJECT}.get(target)
        if named is not None:
            return [_End(named, self._named(rule))], False
        if target == "RETURN":
            return [_End(None)], False
        chain = self._chains.get(target)
        if chain is None or depth >= _MAX_DEPTH:
            return [_End(Outcome.UNKNOWN, self._named(rule))], False
        ends = self._chain(chain, depth + 1)
        decided = [end for end in ends if end.outcome is not None]
        returns = any(end.outcome is None for end in ends)
        if any(option in rule.words for option in ("-g", "--goto")):
            return decided + ([_End(None)] if returns else []), False
        return decided, returns

    def _named(self, rule: SavedRule) -> FirewallRule:
        return FirewallRule(
            backend=self._rules.backend,
            family=nft_family(self._rules.family),
            table=self._table,
            chain=rule.chain,
            number=rule.number,
            text=rule.text,
            owner=owner_of(rule.chain, rule.text),
        )


def _distinct(ends: list[_End]) -> list[_End]:
    kept: list[_End] = []
    for end in ends:
        if end not in kept:
            kept.append(end)
    return kept
