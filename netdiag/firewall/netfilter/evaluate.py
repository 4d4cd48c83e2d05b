"""One packet's ways through the chains of one table.

A rule of which it cannot be told whether it matches opens two ways; ways that leave the packet alike are one again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from netdiag.firewall.netfilter.index import SHORTEST, Index
from netdiag.firewall.netfilter.rules import (
    Chain,
    Changing,
    Decide,
    Jump,
    Pass,
    Return,
    Rule,
    Table,
    Translating,
    Verdict,
)
from netdiag.firewall.netfilter.skb import Host, Skb, Truth, Unknown

if TYPE_CHECKING:
    from netdiag.firewall.netfilter.nft.model import NftRule

_MOST_STEPS = 100_000
_DEEPEST = 100


class Step(msgspec.Struct, frozen=True, gc=False):
    """A rule that matched, or may have, or a policy that was met."""

    hook: str
    table: str
    chain: str
    verdict: str
    rule: Rule | NftRule | None = None
    """None for a policy."""
    backend: str = ""
    family: str = ""
    """Of a table of nft's own; else that of the packet."""


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """What an outcome depends on: a rule that may match or not, and why that is not known."""

    reason: str
    step: Step | None = None


Trail = tuple[Step, "Trail | None"]
"""The last rule that was met, and those before it: ways that part share what they have in common.

A tuple, which Python takes apart without recursion however long it is.
"""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A packet on its way: as it is now, what it met, and on what it depends that it came here.

    Attributes:
        parted: Whether these are several ways that came to the same: its trail is what they share, and not all.
    """

    skb: Skb
    trail: Trail | None = None
    doubts: tuple[Doubt, ...] = ()
    parted: bool = False

    def steps(self) -> tuple[Step, ...]:
        """All that it met, in its order."""
        found: list[Step] = []
        trail = self.trail
        while trail is not None:
            step, trail = trail
            found.append(step)
        return tuple(reversed(found))


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Where a way ends in a table: the verdict and the rule or policy that gave it.

    Attributes:
        bound: Whether its flow has its addresses now, so that no other table of NAT is asked at this hook.
    """

    verdict: Verdict
    step: Step
    way: Way
    bound: bool = False


_replace = msgspec.structs.replace


def unique(ways: list[Way]) -> list[Way]:
    """One of all ways that leave the packet alike: what came before and may have been does not matter any more."""
    if len(ways) < 2:
        return ways
    found: dict[Skb, Way] = {}
    for way in ways:
        known = found.get(way.skb)
        found[way.skb] = way if known is None else one_of(known, way)
    return list(found.values())


def one_of(one: Way, other: Way) -> Way:
    """Two ways that leave the packet alike as one: the surer, with what it met on both."""
    if len(other.doubts) < len(one.doubts):
        one, other = other, one
    if one.trail is other.trail:
        return _replace(one, parted=True) if other.parted and not one.parted else one
    return _replace(one, trail=_met_on_both(one.trail, other.trail), parted=True)


def _met_on_both(one: Trail | None, other: Trail | None) -> Trail | None:
    """The steps of one trail that are in another as well; their common beginning is shared."""
    behind: dict[int, Step] = {}
    while other is not None:
        behind[id(other)] = other[0]
        other = other[1]
    apart: list[Step] = []
    while one is not None and id(one) not in behind:
        apart.append(one[0])
        one = one[1]
    if not apart:
        return one
    there = {_place(step) for step in behind.values()}
    for step in reversed(apart):
        if _place(step) in there:
            one = (step, one)
    return one


def _place(step: Step) -> object:
    """What makes a step another; a rule is one object."""
    return step.hook, step.backend, step.family, step.table, step.chain, step.verdict, id(step.rule)


class Walk:
    """Packets through the tables of one variant and family; long chains are indexed once."""

    def __init__(self, host: Host, backend: str = "") -> None:
        self._host = host
        self._backend = backend
        self._indexes: dict[tuple[str, str], Index] = {}
        self._left = 0

    def prepare(self, table: Table) -> None:
        """Index the table's long chains."""
        for chain in table.chains.values():
            if len(chain.rules) >= SHORTEST:
                self._indexes[table.name, chain.name] = Index(chain.rules)

    def through(self, table: Table, hook: str, way: Way) -> list[End]:
        """All ends of a packet's ways through a base chain, its policy among them."""
        self._left = _MOST_STEPS
        chain = table.chains.get(hook)
        if table.missing:
            return [self._unknown(table, hook, way, table.missing), self._accepted(table, hook, way)]
        if chain is None:
            lost = [self._unknown(table, hook, way, table.cut_off)] if table.cut_off else []
            return [*lost, self._accepted(table, hook, way)]
        call = _Call(self, table, hook)
        ends, fallen = call.chain(chain, way, 0)
        for left in fallen:
            ends += self._policy(table, chain, hook, left)
        return ends

    def _policy(self, table: Table, chain: Chain, hook: str, way: Way) -> list[End]:
        if table.cut_off:
            return [self._unknown(table, hook, way, table.cut_off)]
        if chain.policy in ("ACCEPT", "DROP"):
            step = Step(hook, table.name, chain.name, chain.policy.lower(), backend=self._backend)
            way = _replace(way, trail=(step, way.trail))
            return [End(verdict=Verdict[chain.policy], step=step, way=way)]
        return [self._unknown(table, hook, way, f"the policy of {table.name} {chain.name} is not said")]

    def _unknown(self, table: Table, hook: str, way: Way, reason: str) -> End:
        step = Step(hook, table.name, hook, "unknown", backend=self._backend)
        doubt = Doubt(reason, step)
        return End(verdict=Verdict.UNKNOWN, step=step, way=_replace(way, doubts=(*way.doubts, doubt)))

    def _accepted(self, table: Table, hook: str, way: Way) -> End:
        return End(verdict=Verdict.ACCEPT, step=Step(hook, table.name, hook, "accept", backend=self._backend), way=way)

    def candidates(self, table: Table, chain: Chain, skb: Skb, start: int) -> Iterable[int]:
        """The rules that may match, in their order."""
        index = self._indexes.get((table.name, chain.name))
        return range(start, len(chain.rules)) if index is None else index.candidates(skb, start)

    def holds(self, rule: Rule, skb: Skb) -> Truth:
        """Whether a rule matches."""
        host = self._host
        unknown: Unknown | None = None
        for match in rule.matches:
            truth = match.holds(skb, host)
            if truth is False:
                return False
            if truth is not True and unknown is None:
                unknown = truth
        return True if unknown is None else unknown

    def spend(self) -> bool:
        """Whether one more rule may be asked."""
        self._left -= 1
        return self._left > 0

    @property
    def host(self) -> Host:
        """What is known of the host."""
        return self._host

    @property
    def backend(self) -> str:
        """Which variant it is."""
        return self._backend


class _Call:
    """The ways through one base chain and what it calls."""

    def __init__(self, walk: Walk, table: Table, hook: str) -> None:
        self._walk = walk
        self._table = table
        self._hook = hook

    def chain(self, chain: Chain, way: Way, depth: int) -> tuple[list[End], list[Way]]:
        """The ends within a chain, and the ways that leave it without a verdict."""
        ends: list[End] = []
        left: list[Way] = []
        pending = [(0, way)]
        while pending:
            start, now = pending.pop()
            for at in self._walk.candidates(self._table, chain, now.skb, start):
                rule = chain.rules[at]
                if not self._walk.spend():
                    ends.append(self._given_up(chain, rule, now, "there are too many ways"))
                    break
                truth = self._walk.holds(rule, now.skb)
                if truth is False:
                    continue
                ways = self._at(chain, rule, truth, now, ends, left, depth)
                if not ways:
                    break
                now = ways[0]
                pending += [(at + 1, other) for other in ways[1:]]
            else:
                left.append(now)
        return ends, unique(left)

    def _at(
        self, chain: Chain, rule: Rule, truth: Truth, way: Way, ends: list[End], left: list[Way], depth: int
    ) -> list[Way]:
        """What a rule that matches, or may, does: adds ends and ways that leave, gives those that go on behind it."""
        target = rule.target
        if isinstance(target, Pass):
            return [way if truth is not True else self._met(chain, rule, way, "continue")]
        missed: list[Way] = []
        if isinstance(truth, Unknown):
            doubt = Doubt(truth.reason, self._step(chain, rule, "may match"))
            # The way that it may take has the doubt; if both come to the same, it has not mattered.
            missed = [way]
            way = _replace(way, doubts=(*way.doubts, doubt))
        if isinstance(target, Decide):
            step = self._step(chain, rule, target.verdict.value)
            met = _replace(way, trail=(step, way.trail))
            if target.verdict is Verdict.UNKNOWN:
                met = _replace(met, doubts=(*met.doubts, Doubt(target.reason, step)))
            ends.append(End(verdict=target.verdict, step=step, way=met))
            return missed
        if isinstance(target, Return):
            left.append(self._met(chain, rule, way, "return"))
            return missed
        if isinstance(target, Jump):
            return self._jump(chain, rule, target, way, missed, ends, left, depth)
        if isinstance(target, Changing):
            met = self._met(chain, rule, way, "continue")
            return unique([_replace(met, skb=target.change(way.skb)), *missed])
        if not isinstance(target, Translating):
            raise TypeError(type(target).__name__)
        step = self._step(chain, rule, "accept")
        met = _replace(way, trail=(step, way.trail))
        source_side = self._hook in ("POSTROUTING", "INPUT")
        skb = (
            _replace(met.skb, source=None, source_port=None, snat=None)
            if source_side
            else target.translate(met.skb, self._walk.host)
        )
        ends.append(End(verdict=Verdict.ACCEPT, step=step, way=_replace(met, skb=skb), bound=True))
        return missed

    def _jump(
        self,
        chain: Chain,
        rule: Rule,
        target: Jump,
        way: Way,
        missed: list[Way],
        ends: list[End],
        left: list[Way],
        depth: int,
    ) -> list[Way]:
        called = self._table.chains.get(target.chain)
        if called is None or called.policy is not None:
            ends.append(self._given_up(chain, rule, way, f"{self._table.name} has no chain {target.chain} to go to"))
            return missed
        if depth >= _DEEPEST:
            ends.append(self._given_up(chain, rule, way, "jumps go in a circle, or too deep"))
            return missed
        met = self._met(chain, rule, way, "goto" if target.goto else "jump")
        inner, back = self.chain(called, met, depth + 1)
        ends += inner
        if target.goto:
            left += back
            return missed
        return unique([*back, *missed])

    def _step(self, chain: Chain, rule: Rule, verdict: str) -> Step:
        return Step(self._hook, self._table.name, chain.name, verdict, rule, self._walk.backend)

    def _met(self, chain: Chain, rule: Rule, way: Way, verdict: str) -> Way:
        return _replace(way, trail=(self._step(chain, rule, verdict), way.trail))

    def _given_up(self, chain: Chain, rule: Rule, way: Way, reason: str) -> End:
        step = self._step(chain, rule, "unknown")
        way = _replace(way, doubts=(*way.doubts, Doubt(reason, step)))
        return End(verdict=Verdict.UNKNOWN, step=step, way=way)
