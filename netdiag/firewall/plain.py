"""A plain reading of running iptables rules: what becomes of a new flow's first packet at this host.

It follows base chains in the kernel's order, jumps, goto and return, and keeps every outcome that the rules leave
possible. What it cannot decide it calls *unknown at this rule*. It does not rewrite addresses (nat), does not look
into native nft rules, and knows nothing of the flow's later packets. It was computed, not seen: at most *likely*.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.matching import ANSWER, OPENING, UNTRACKED, Match, Stage, match_rule
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
    for rules in _of_family(rule_sets, packet):
        problems = read_save(rules.text).problems
        if problems:
            return Reading(
                outcome=Outcome.UNKNOWN,
                reason=f"{rules.backend.value}: line {problems[0].line_number} is not understood ({problems[0].text})",
            )
        ends = _through_tables(rules, packet, OPENING)
        if ends and all(end.outcome in (Outcome.DROP, Outcome.REJECT) for end in ends):
            last = ends[-1]
            assert last.outcome is not None  # noqa: S101 - just seen
            return Reading(outcome=last.outcome, rule=last.rule)
        possible += ends
    for end in possible:
        if end.outcome is not Outcome.ACCEPT:
            elsewhere = end.rule is not None and end.rule.table == "nat"
            return Reading(
                outcome=Outcome.UNKNOWN,
                rule=end.rule,
                reason=(
                    "a reading does not follow the packet to where this rule may send it"
                    if elsewhere
                    else "whether this rule is reached and matches cannot be told from its text alone"
                ),
            )
    foreign = native_stop(rule_sets, packet)
    if foreign is not None:
        return Reading(
            outcome=Outcome.UNKNOWN,
            reason=f"nft's own table {foreign.family} {foreign.name} stands at the same hook and can drop",
        )
    return Reading(outcome=Outcome.ACCEPT, rule=possible[-1].rule if possible else None)


def could_stop(rule_sets: Iterable[RuleSet], rule: FirewallRule, packet: Packet, *, answer: bool = False) -> bool:
    """Whether the rules as they are allow that this rule (or policy) is where the packet ends.

    Args:
        answer: The packet is what comes back for the first one, not the first one itself.
    """
    stage = ANSWER if answer else OPENING
    return any(
        end.rule == rule
        for rules in _of_family(tuple(rule_sets), packet)
        if rules.backend is rule.backend
        for end in _through_tables(rules, packet, stage)
    )


def left_at(rule_sets: Iterable[RuleSet], policy: FirewallRule, packet: Packet) -> int | None:
    """The first rule of a policy's chain by which the packet may come to the policy before the chain's end."""
    for rules in _of_family(tuple(rule_sets), packet):
        chain = read_save(rules.text).tables.get(policy.table, {}).get(policy.chain)
        for rule in chain.rules if chain is not None and rules.backend is policy.backend else ():
            leaves = target_of(rule.words) == "RETURN" or bool({"-g", "--goto"} & set(rule.words))
            if leaves and match_rule(rule.words, packet, OPENING) is not Match.NO:
                return rule.number
    return None


def _of_family(rule_sets: tuple[RuleSet, ...], packet: Packet) -> Iterator[RuleSet]:
    for rules in rule_sets:
        if rules.family == packet.family and rules.backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
            yield rules


def native_stop(rule_sets: Iterable[RuleSet], packet: Packet) -> NftTable | None:
    """The first native nft table at the packet's hooks that can drop or reject; None if there is none."""
    rule_sets = tuple(rule_sets)
    written = [
        (nft_family(rules.family), table)
        for rules in rule_sets
        if rules.backend is Backend.IPTABLES_NFT
        for table in read_save(rules.text).tables
    ]
    hooks = _HOOKS[packet.direction]
    families = {"inet", "ip" if packet.family == 4 else "ip6", "netdev"}
    for rules in rule_sets:
        if rules.backend is Backend.NFT_NATIVE:
            for table in native_tables(rules.text, written):
                if table.family in families and table.hooks & hooks and table.stops():
                    return table
    return None


def _through_tables(rules: RuleSet, packet: Packet, stage: Stage) -> list[_End]:
    tables = read_save(rules.text).tables
    sent_on = _may_translate(rules, tables.get("nat", {}), packet) if stage is OPENING else None
    if sent_on is not None:
        stage = msgspec.structs.replace(stage, translated=True)
    passed: list[_End] = []
    for table, base in _TRAVERSAL[packet.direction]:
        chains = tables.get(table)
        if chains is None or base not in chains:
            continue
        if sent_on is not None and base == "INPUT" and sent_on not in passed:
            passed.append(sent_on)
        walk = _Walk(rules=rules, table=table, chains=chains, packet=packet, stage=stage)
        ends = walk.base(chains[base])
        # An accept is final for its table only.
        passed = [*(end for end in passed if end.outcome is not Outcome.ACCEPT), *ends]
        if all(end.outcome is not Outcome.ACCEPT for end in ends):
            return passed
        if walk.untracks and "NEW" in stage.states:
            stage = msgspec.structs.replace(stage, states=UNTRACKED)
    return passed


def _may_translate(rules: RuleSet, nat: dict[str, SavedChain], packet: Packet) -> _End | None:
    """The rule that may send the packet elsewhere, if there is one; its target is none that a reading follows."""
    base = nat.get("PREROUTING" if packet.direction is Direction.IN else "OUTPUT")
    if base is None:
        return None
    walk = _Walk(rules=rules, table="nat", chains=nat, packet=packet, stage=OPENING)
    return next((end for end in walk.base(base) if end.outcome is Outcome.UNKNOWN), None)


class _Walk:
    """One packet's possible ways through the chains of one table."""

    def __init__(
        self, *, rules: RuleSet, table: str, chains: dict[str, SavedChain], packet: Packet, stage: Stage
    ) -> None:
        self._rules = rules
        self._table = table
        self._chains = chains
        self._packet = packet
        self._stage = stage
        self._known: dict[str, tuple[_End, ...]] = {}
        self._open: set[str] = set()
        self.untracks = False
        """Whether a rule may have taken the packet from conntrack."""

    def base(self, chain: SavedChain) -> list[_End]:
        """All ways out of a base chain, its policy included where it can be reached."""
        policy = Outcome.DROP if chain.policy == "DROP" else Outcome.ACCEPT
        fallen = FirewallRule(
            backend=self._rules.backend,
            family=nft_family(self._rules.family),
            table=self._table,
            chain=chain.name,
            text=f":{chain.name} {chain.policy or 'ACCEPT'}",
            policy=chain.policy or "ACCEPT",
        )
        return [_End(policy, fallen) if end.outcome is None else end for end in self._chain(chain)]

    def _chain(self, chain: SavedChain) -> tuple[_End, ...]:
        """The ways out of a chain, each once, the last rule's last; what it says of a packet does not change."""
        known = self._known.get(chain.name)
        if known is None:
            self._open.add(chain.name)
            known = self._known[chain.name] = self._walked(chain)
            self._open.discard(chain.name)
        return known

    def _walked(self, chain: SavedChain) -> tuple[_End, ...]:
        ends: dict[_End, None] = {}
        for rule in chain.rules:
            matched = match_rule(rule.words, self._packet, self._stage)
            if matched is Match.NO:
                continue
            target = target_of(rule.words)
            if target == "NOTRACK" or (target == "CT" and "--notrack" in rule.words):
                self.untracks = True
            if target in _PASSING or not target:
                continue
            here, falls_through = self._target(rule, target)
            ends.update(dict.fromkeys(here))
            if matched is Match.YES and not falls_through:
                return tuple(ends)
        ends.pop(_End(None), None)
        return (*ends, _End(None))

    def _target(self, rule: SavedRule, target: str) -> tuple[list[_End], bool]:
        """The ends that a matching rule leads to, and whether the packet may go on behind it."""
        named = {"ACCEPT": Outcome.ACCEPT, "DROP": Outcome.DROP, "REJECT": Outcome.REJECT}.get(target)
        if named is not None:
            return [_End(named, self._named(rule))], False
        if target == "RETURN":
            return [_End(None)], False
        chain = self._chains.get(target)
        if chain is None or target in self._open or len(self._open) >= _MAX_DEPTH:
            return [_End(Outcome.UNKNOWN, self._named(rule))], False
        ends = self._chain(chain)
        decided = [end for end in ends if end.outcome is not None]
        returns = len(decided) < len(ends)
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
            owner=owner_of(rule.chain, rule.text, chains=self._chains),
        )
