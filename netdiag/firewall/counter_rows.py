"""The rules and policies whose counters moved between readings of one rule set, in the order a packet meets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from netdiag.firewall.counters import target_of
from netdiag.firewall.listing import ListedChain, Listing, priority_number, read_listing
from netdiag.firewall.nft_statement import verdict_of
from netdiag.firewall.owner import attribute
from netdiag.firewall.save_text import SavedChain, SavedRule, nft_family, read_save
from netdiag.firewall.tables import priority_of
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule

_MAX_DEPTH = 32

Callers = tuple[FirewallRule, ...]
Tables = Mapping[str, Mapping[str, SavedChain]]


class Row(NamedTuple):
    """A rule or policy whose counter moved.

    Attributes:
        place: Its base chain's place on the packet's way: hooks in their order, then priorities.
        target: What it does: "ACCEPT", "DROP", a chain's name …; empty for a rule that only counts.
        jumps: The target is a chain.
        counts: Its packet counter at each reading.
        callers: Through whose jumps its chain is reached, the innermost first.
    """

    rule: FirewallRule
    hook: str
    place: tuple[int, int]
    target: str
    jumps: bool
    counts: tuple[int, ...]
    callers: Callers


def is_one_rule_set(readings: Sequence[Sequence[RuleSet]]) -> bool:
    """Whether all readings show the same rules in the same places; elements of sets are not compared."""
    shapes = [[_shape(rules) for rules in reading if rules.backend is not Backend.IPSET] for reading in readings]
    return all(shape == shapes[0] for shape in shapes)


def moved_rows(readings: Sequence[Sequence[RuleSet]], namespace: str, hooks: Sequence[str]) -> list[Row]:
    """Every rule and policy that counts and moved between the first and the last of readings of one rule set.

    Args:
        readings: Of one rule set (`is_one_rule_set`).
        namespace: Whose rules they are.
        hooks: Those that the packet meets, in its order; others are left out.
    """
    readings = [[rules for rules in reading if rules.backend is not Backend.IPSET] for reading in readings]
    rows: list[Row] = []
    families = {
        (nft_family(rules.family), table)
        for rules in readings[0]
        if rules.backend is Backend.IPTABLES_NFT
        for table in read_save(rules.text).tables
    }
    for index, rules in enumerate(readings[0]):
        texts = [reading[index].text for reading in readings]
        if rules.backend is Backend.NFT_NATIVE:
            rows += _native([read_listing(text) for text in texts], families, namespace, hooks)
        else:
            rows += _saved(rules, [read_save(text).tables for text in texts], namespace, hooks)
    return sorted((row for row in rows if row.counts[0] != row.counts[-1]), key=lambda row: row.place)


def _shape(rules: RuleSet) -> object:
    if rules.backend is Backend.NFT_NATIVE:
        listing = read_listing(rules.text)
        return [
            (key, chain.policy, [(rule.handle, rule.text) for rule in chain.rules]) for key, chain in listing.items()
        ]
    tables = read_save(rules.text).tables
    return rules.backend, [
        (table, chain.name, chain.policy, [rule.text for rule in chain.rules])
        for table, chains in tables.items()
        for chain in chains.values()
    ]


def _saved(rules: RuleSet, saves: Sequence[Tables], namespace: str, hooks: Sequence[str]) -> Iterator[Row]:
    """Both variants of iptables."""
    for table, chains in saves[0].items():
        for chain in chains.values():
            hook = chain.name.lower()
            if chain.policy is None or hook not in hooks:
                continue
            place = (hooks.index(hook), priority_of(table, hook))
            yield from _Walk(rules, saves, table, hook, place, namespace).base(chain)


class _Walk:
    """One base chain of iptables and what it calls; a chain that no counter led to was not met."""

    def __init__(
        self,
        rules: RuleSet,
        saves: Sequence[Tables],
        table: str,
        hook: str,
        place: tuple[int, int],
        namespace: str,
    ) -> None:
        self._rules = rules
        self._chains = [save.get(table, {}) for save in saves]
        self._table = table
        self._hook = hook
        self._place = place
        self._namespace = namespace
        self._seen: set[str] = set()

    def base(self, chain: SavedChain) -> Iterator[Row]:
        yield from self._chain(chain, ())
        counts = _counts([chains[chain.name].packets for chains in self._chains])
        if counts is not None:
            yield self._row(chain, None, chain.policy or "", counts, ())

    def _chain(self, chain: SavedChain, callers: Callers) -> Iterator[Row]:
        if len(callers) > _MAX_DEPTH or chain.name in self._seen:
            return
        self._seen.add(chain.name)
        for at, saved in enumerate(chain.rules):
            counts = _counts([chains[chain.name].rules[at].packets for chains in self._chains])
            if counts is None or counts[0] == counts[-1]:
                continue
            target = target_of(saved.words)
            row = self._row(chain, saved, target, counts, callers)
            yield row
            called = self._chains[0].get(target)
            if called is not None:
                yield from self._chain(called, (row.rule, *callers))

    def _row(
        self, chain: SavedChain, saved: SavedRule | None, target: str, counts: tuple[int, ...], callers: Callers
    ) -> Row:
        rule = FirewallRule(
            backend=self._rules.backend,
            namespace=self._namespace,
            family=nft_family(self._rules.family),
            table=self._table,
            chain=chain.name,
            number=saved.number if saved is not None else None,
            text=saved.text if saved is not None else f":{chain.name} {chain.policy}",
            call_site=f"{callers[0].place()}: {callers[0].text}" if callers else None,
            policy=chain.policy if saved is None else None,
        )
        rule = attribute(rule, callers, None, chains=self._chains[0])
        jumps = saved is not None and target in self._chains[0]
        return Row(
            rule=rule,
            hook=self._hook,
            place=self._place,
            target=target,
            jumps=jumps,
            counts=counts,
            callers=callers,
        )


def _native(
    listings: Sequence[Listing], saved: set[tuple[str, str]], namespace: str, hooks: Sequence[str]
) -> Iterator[Row]:
    """Nft's own rules, as far as they count; policies never do. iptables shows its tables itself."""
    for chain in listings[0].values():
        if chain.hook in hooks and (chain.family, chain.table) not in saved:
            priority = priority_number(chain.priority, chain.family) or 0
            place = (hooks.index(chain.hook), priority)
            yield from _native_chain(listings, chain, chain.hook, place, (), namespace)


def _native_chain(
    listings: Sequence[Listing],
    chain: ListedChain,
    hook: str,
    place: tuple[int, int],
    callers: Callers,
    namespace: str,
) -> Iterator[Row]:
    key = (chain.family, chain.table, chain.name)
    for at, listed in enumerate(chain.rules):
        rule = FirewallRule(
            backend=Backend.NFT_NATIVE,
            namespace=namespace,
            family=chain.family,
            table=chain.table,
            chain=chain.name,
            number=listed.number,
            handle=listed.handle,
            text=listed.text,
            call_site=f"{callers[0].place()}: {callers[0].text}" if callers else None,
        )
        rule = attribute(rule, callers, None)
        counts = _counts([listing[key].rules[at].packets for listing in listings])
        verdict = verdict_of(listed.text)
        called = listed.block or (verdict.chain if verdict is not None else "")
        if counts is not None:
            target = called or (verdict.word.upper() if verdict is not None else "")
            yield Row(
                rule=rule,
                hook=hook,
                place=place,
                target=target,
                jumps=bool(called),
                counts=counts,
                callers=callers,
            )
        below = listings[0].get((chain.family, chain.table, called))
        if below is not None and len(callers) < _MAX_DEPTH and (counts is None or counts[0] != counts[-1]):
            yield from _native_chain(listings, below, hook, place, (rule, *callers), namespace)


def _counts(found: Sequence[int | None]) -> tuple[int, ...] | None:
    """A counter at all readings; None where it does not count."""
    return None if None in found else tuple(count for count in found if count is not None)
