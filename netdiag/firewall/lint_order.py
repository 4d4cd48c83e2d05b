"""Which rules of a table no packet can meet, since earlier ones take all that they could: sound, and never quadratic.

Every rule that ends a packet's way through its chain is kept under one of its conditions. A later rule asks only under
the conditions that its own imply: exact values, the networks around its own, and what is equal. So a rule that takes
more is found without a look at each. Where too many are kept under one condition only the first are looked at, and that
is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.firewall.lint_covers import demands, exclude, is_kept, is_mutable, takes_all_of
from netdiag.firewall.lint_keys import key_of, wider_keys, written
from netdiag.firewall.netfilter.rules import (
    Chain,
    Changing,
    Decide,
    Jump,
    Match,
    Pass,
    Return,
    Rule,
    Translating,
    Verdict,
)
from netdiag.firewall.netfilter.target_grammar import NO_TARGET
from netdiag.firewall.standing import StandingTable

NOT_READ = "is not understood"
"""What `netdiag.firewall.netfilter.iptables` says of a rule that may be any."""
_MOST_UNDER_ONE = 100
MOST_COMPARED = 200_000
"""Comparisons of a table; behind them only the first few under a condition are looked at."""
_THEN = 2
_MOST_CALLERS = 8
_DEEPEST = 4
_NESTED = 100
"""Calls within each other that are followed; of a chain below nothing is said."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that no packet meets, and the rule that takes all of its packets; the latter may be a caller's."""

    chain: str
    rule: Rule
    by_chain: str
    by: Rule | None
    """None where the rules that lead to its chain leave nothing that it asks for."""


class Order:
    """One table, each chain indexed once; ``compared`` counts the pairs of rules that were looked at so far."""

    def __init__(self, table: StandingTable) -> None:
        """Look at what ends and what changes packets, and index every chain."""
        self._table = table
        self._family = table.family
        self._ends: dict[str, bool] = {}
        self._changes: dict[str, tuple[bool, bool]] = {}
        self._outcomes: dict[str, frozenset[object]] = {}
        self.compared = 0
        self._chains = {name: _Indexed(self, chain) for name, chain in table.chains.items()}

    @property
    def bounded(self) -> tuple[str, ...]:
        """The chains in which not every pair of rules was compared."""
        return tuple(name for name, chain in self._chains.items() if chain.bounded)

    def taken(self) -> Iterator[Taken]:
        """Every rule that no packet meets, in the order of the table."""
        for name, chain in self._table.chains.items():
            if name not in self._table.reached:
                continue  # said of the chain as a whole
            indexed = self._chains[name]
            for at, rule in enumerate(chain.rules):
                asks = demands(rule)
                earlier = indexed.covering(asks, at)
                if earlier is not None:
                    yield Taken(chain=name, rule=rule, by_chain=name, by=chain.rules[earlier])
                    continue
                found = self._by_callers(name, at, asks, 0)
                if found is not None:
                    yield Taken(chain=name, rule=rule, by_chain=found[0], by=found[1])

    def _by_callers(self, name: str, at: int, asks: tuple[Match, ...], depth: int) -> tuple[str, Rule | None] | None:
        """What takes the packets of a rule before they come to its chain, on every way there; None where some may."""
        calls = self._table.calls.get(name, ())
        if not calls or len(calls) > _MOST_CALLERS or depth >= _DEEPEST or name in self._table.bases:
            return None
        if self.compared >= MOST_COMPARED:
            self._chains[name].bounded = True
            return None
        self.compared += 1
        steady = self._chains[name].steady_from(0, at)
        first: tuple[str, Rule | None] | None = None
        for call in calls:
            if call.chain not in self._table.reached:
                continue
            caller = self._table.chains[call.chain]
            here = demands(caller.rules[call.at])
            found = self._before(call.chain, call.at, (*asks, *here), here, asks, steady=steady, depth=depth)
            if found is None:
                return None
            first = first or found
        return first

    def _before(
        self,
        caller: str,
        at: int,
        both: tuple[Match, ...],
        here: tuple[Match, ...],
        asks: tuple[Match, ...],
        *,
        steady: tuple[bool, bool],
        depth: int,
    ) -> tuple[str, Rule | None] | None:
        marks_steady, all_steady = steady
        if not all_steady:
            return None
        plain = [match for match in here if marks_steady or not is_mutable(match)]
        if exclude(plain, asks, self._family):
            return caller, None
        if not marks_steady:
            both = tuple(match for match in both if not is_mutable(match))
        earlier = self._chains[caller].covering(both, at)
        if earlier is not None:
            return caller, self._table.chains[caller].rules[earlier]
        return self._by_callers(caller, at, both, depth + 1)

    def outcome(self, rule: Rule) -> object:
        """What becomes of a packet at a rule, as far as rules differ by it: a verdict, or the target itself."""
        target = rule.target
        if isinstance(target, Jump) and not target.goto and self.ends(target.chain):
            verdicts = self._verdicts(target.chain)
            return next(iter(verdicts)) if len(verdicts) == 1 else target
        return target.verdict if isinstance(target, Decide) else target

    def _verdicts(self, name: str, depth: int = 0) -> frozenset[object]:
        """The verdicts that a chain may end with; a name stands for what is not followed."""
        known = self._outcomes.get(name)
        if known is None:
            self._outcomes[name] = frozenset({name})  # a loop
            found: set[object] = {name} if depth >= _NESTED else set()
            for rule in self._table.chains[name].rules if depth < _NESTED else ():
                if isinstance(rule.target, Jump) and rule.target.chain in self._table.chains:
                    found |= self._verdicts(rule.target.chain, depth + 1)
                elif not isinstance(rule.target, Pass | Return):
                    found.add(rule.target.verdict if isinstance(rule.target, Decide) else rule.target)
            known = self._outcomes[name] = frozenset(found)
        return known

    def is_last_word(self, rule: Rule) -> bool:
        """Whether a packet that meets the rule comes to no later one of its chain."""
        target = rule.target
        if isinstance(target, Decide):
            return target.verdict is not Verdict.UNKNOWN
        if isinstance(target, Jump):
            return target.chain in self._table.chains and (target.goto or self.ends(target.chain))
        return isinstance(target, Return | Translating)

    def ends(self, name: str, depth: int = 0) -> bool:
        """Whether no packet comes back from a chain."""
        known = self._ends.get(name)
        if known is None:
            self._ends[name] = False  # what a loop comes to is not said
            chain = self._table.chains.get(name)
            known = self._ends[name] = chain is not None and depth < _NESTED and self._ends_all(chain, depth + 1)
        return known

    def _ends_all(self, chain: Chain, depth: int) -> bool:
        for rule in chain.rules:
            target = rule.target
            if isinstance(target, Return) or (
                isinstance(target, Jump) and target.goto and not self.ends(target.chain, depth)
            ):
                return False
            decides = isinstance(target, Translating) or (
                isinstance(target, Decide) and target.verdict is not Verdict.UNKNOWN
            )
            if not demands(rule) and (decides or (isinstance(target, Jump) and self.ends(target.chain, depth))):
                return True
        return False

    def changes(self, rule: Rule, depth: int = 0) -> tuple[bool, bool]:
        """Whether a packet that goes on behind a rule may have another mark or state; or may be another altogether."""
        target = rule.target
        if isinstance(target, Changing):
            return True, False
        if isinstance(target, Pass):
            return target.name == "SET", False
        if isinstance(target, Decide) and target.verdict is Verdict.UNKNOWN:
            return True, NO_TARGET in target.reason or NOT_READ in target.reason
        return self._inside(target.chain, depth) if isinstance(target, Jump) else (False, False)

    def _inside(self, name: str, depth: int) -> tuple[bool, bool]:
        known = self._changes.get(name)
        if known is None:
            self._changes[name] = True, True  # a loop
            chain = self._table.chains.get(name)
            each = [(True, True)]
            if chain is not None and depth < _NESTED:
                each = [self.changes(rule, depth + 1) for rule in chain.rules]
            known = self._changes[name] = any(one for one, _ in each), any(one for _, one in each)
        return known

    def steady(self, chain: str, start: int, end: int) -> tuple[bool, bool]:
        """Of a packet between two places of a chain: nothing changes its marks; nothing may make another of it."""
        return self._chains[chain].steady_from(start, end)

    def room(self) -> int:
        """How many rules may be looked at under one condition."""
        return _MOST_UNDER_ONE if self.compared < MOST_COMPARED else _THEN

    @property
    def family(self) -> int:
        """4 or 6."""
        return self._family


class _Indexed:
    """The rules of one chain that end a packet's way through it, by one of their conditions each."""

    def __init__(self, order: Order, chain: Chain) -> None:
        self._order = order
        self._chain = chain
        self._at: dict[object, list[int]] = {}
        self._asks: dict[int, tuple[Match, ...]] = {}
        self._masks: dict[str, set[int]] = {}
        self._marks: list[int] | None = None
        self._alls: list[int] = []
        self._built = False
        self.bounded = False

    def _build(self) -> None:
        self._built = True
        marks, alls = [0], [0]
        for at, rule in enumerate(self._chain.rules):
            mark, whole = self._order.changes(rule)
            marks.append(marks[-1] + mark)
            alls.append(alls[-1] + whole)
            asks = demands(rule)
            if not self._order.is_last_word(rule) or not all(map(is_kept, asks)):
                continue
            self._asks[at] = asks
            keys = [key_of(match) for match in asks]
            # Under the condition that the fewest share.
            best = min(keys, key=lambda key: len(self._at.get(key, ())), default=None)
            self._at.setdefault(best, []).append(at)
            if isinstance(best, tuple) and best[0] == "network":
                self._masks.setdefault(best[1], set()).add(best[2])
        self._marks, self._alls = marks, alls

    def steady_from(self, start: int, end: int) -> tuple[bool, bool]:
        """Whether between two rules nothing changes a packet's marks; and nothing may make another packet of it."""
        if not self._built:
            self._build()
        marks = self._marks or []
        return marks[end] == marks[start], self._alls[end] == self._alls[start]

    def covering(self, asks: Sequence[Match], before: int) -> int | None:
        """The first rule before a place that takes every packet which meets these conditions."""
        if not self._built:
            self._build()
        found: int | None = None
        for key in (None, *self._keys(asks)):
            kept = self._at.get(key, ())
            room = self._order.room()
            if len(kept) > room and kept[room] < before:
                self.bounded = True
            for at in kept[:room]:
                if at >= before or (found is not None and at >= found):
                    break
                self._order.compared += 1
                if self._takes(at, asks, before):
                    found = at
        return found

    def _takes(self, at: int, asks: Sequence[Match], before: int) -> bool:
        marks_steady, all_steady = self.steady_from(at + 1, before)
        wide = self._asks[at]
        if not all_steady or (not marks_steady and any(map(is_mutable, wide))):
            return False
        return takes_all_of(wide, asks, self._order.family)

    def _keys(self, asks: Sequence[Match]) -> Iterator[object]:
        """Where a rule is kept that takes all of these packets."""
        seen: set[object] = set()
        for match in asks:
            for key in (*wider_keys(match), key_of(match)):
                if key not in seen:
                    seen.add(key)
                    yield key
            named = written(match)
            if named is not None:
                side, address, own = named
                for mask in self._masks.get(side, ()):
                    key = "network", side, mask, address & mask
                    if mask & ~own == 0 and key not in seen:
                        seen.add(key)
                        yield key
