"""One packet's ways through one of nft's base chains, rule after rule and statement after statement.

Source: net/netfilter/nf_tables_core.c (nft_do_chain).
"""

from __future__ import annotations

import msgspec

from netdiag.firewall.netfilter.evaluate import Doubt, End, Step, Way, unique
from netdiag.firewall.netfilter.nft.model import NftChain, NftRule, NftTable, Outcome
from netdiag.firewall.netfilter.nft.values import Break, Scene
from netdiag.firewall.netfilter.rules import Decide, Jump, Return, Translating, Verdict
from netdiag.firewall.netfilter.skb import Host
from netdiag.model.facts import Backend

_MOST_STEPS = 250_000
_DEEPEST = 16
"""NFT_JUMP_STACK_SIZE; the kernel loads no deeper chain."""
_BACKEND = Backend.NFT_NATIVE.value
_replace = msgspec.structs.replace


class BaseChain:
    """A base chain of a table, ready for packet after packet."""

    def __init__(self, table: NftTable, chain: NftChain, host: Host) -> None:
        """Remember where it stands."""
        self.table = table
        self.chain = chain
        self._scene = Scene(host=host, hook=chain.hook, family=table.family, sets=table.sets)
        self._left = 0

    def through(self, way: Way) -> list[End]:
        """All ends of a packet's ways through it, its policy among them."""
        if self.table.missing:
            step = self._step(self.chain, None, "unknown")
            doubt = Doubt(self.table.missing, step)
            unknown = _replace(way, doubts=(*way.doubts, doubt))
            return [End(verdict=Verdict.UNKNOWN, step=step, way=unknown)]
        self._left = _MOST_STEPS
        ends, fallen = self._through(self.chain, way, 0)
        verdict = Verdict.DROP if self.chain.policy == "DROP" else Verdict.ACCEPT
        for left in fallen:
            step = self._step(self.chain, None, verdict.value)
            ends.append(End(verdict=verdict, step=step, way=_replace(left, trail=(step, left.trail))))
        return ends

    def _through(self, chain: NftChain, way: Way, depth: int) -> tuple[list[End], list[Way]]:
        """The ends within a chain, and the ways that leave it without a verdict."""
        ends: list[End] = []
        left: list[Way] = []
        ways = [way]
        for rule in chain.rules:
            self._left -= len(ways)
            if self._left < 0:
                ends.append(self._given_up(chain, rule, ways[0], "there are too many ways"))
                return ends, unique(left)
            on: list[Way] = []
            for each in ways:
                on += self._rule(chain, rule, each, ends, left, depth)
            ways = on if len(on) < 2 else unique(on)
            if not ways:
                break
        return ends, unique([*left, *ways])

    def _rule(
        self, chain: NftChain, rule: NftRule, way: Way, ends: list[End], left: list[Way], depth: int
    ) -> list[Way]:
        """The ways that go on behind a rule; adds ends and ways that leave the chain."""
        missed: list[Way] = []
        ways = [way]
        for statement in rule.statements:
            on: list[Way] = []
            for now in ways:
                for outcome in statement.apply(now.skb, self._scene):
                    after = self._after(chain, rule, now, outcome)
                    if outcome.said is None:
                        on.append(after)
                    elif isinstance(outcome.said, Break):
                        missed.append(after)
                    else:
                        missed += self._said(chain, rule, after, outcome, ends, left, depth)
            ways = on if len(on) < 2 else unique(on)
            if not ways:
                return missed
        return [*(self._met(chain, rule, each, "continue") for each in ways), *missed]

    def _after(self, chain: NftChain, rule: NftRule, way: Way, outcome: Outcome) -> Way:
        if outcome.doubt:
            doubt = Doubt(outcome.doubt, self._step(chain, rule, "may match"))
            return _replace(way, skb=outcome.skb, doubts=(*way.doubts, doubt))
        return way if outcome.skb is way.skb else _replace(way, skb=outcome.skb)

    def _said(
        self,
        chain: NftChain,
        rule: NftRule,
        way: Way,
        outcome: Outcome,
        ends: list[End],
        left: list[Way],
        depth: int,
    ) -> list[Way]:
        """What a verdict does; gives the ways that come back behind the rule."""
        said = outcome.said
        if isinstance(said, Decide):
            step = self._step(chain, rule, said.verdict.value)
            met = _replace(way, trail=(step, way.trail))
            if said.verdict is Verdict.UNKNOWN:
                met = _replace(met, doubts=(*met.doubts, Doubt(said.reason, step)))
            ends.append(End(verdict=said.verdict, step=step, way=met))
            return []
        if isinstance(said, Return):
            left.append(self._met(chain, rule, way, "return"))
            return []
        if isinstance(said, Jump):
            return self._jump(chain, rule, said, way, ends, left, depth)
        if not isinstance(said, Translating):
            raise TypeError(type(said).__name__)
        step = self._step(chain, rule, "accept")
        met = _replace(way, trail=(step, way.trail))
        if chain_side(self._scene.hook) == "source":
            skb = _replace(met.skb, source=None, source_port=None, snat=None)
        else:
            skb = said.translate(met.skb, self._scene.host)
        ends.append(End(verdict=Verdict.ACCEPT, step=step, way=_replace(met, skb=skb), bound=True))
        return []

    def _jump(
        self, chain: NftChain, rule: NftRule, jump: Jump, way: Way, ends: list[End], left: list[Way], depth: int
    ) -> list[Way]:
        called = self.table.chains.get(jump.chain)
        if called is None or called.hook:
            reason = f"{self.table.family} {self.table.name} has no chain {jump.chain} to go to"
            ends.append(self._given_up(chain, rule, way, reason))
            return []
        if depth >= _DEEPEST:
            ends.append(self._given_up(chain, rule, way, "jumps go in a circle, or too deep"))
            return []
        met = self._met(chain, rule, way, "goto" if jump.goto else "jump")
        inner, back = self._through(called, met, depth + 1)
        ends += inner
        if jump.goto:
            left += back
            return []
        return back

    def _step(self, chain: NftChain, rule: NftRule | None, verdict: str) -> Step:
        return Step(self._scene.hook, self.table.name, chain.name, verdict, rule, _BACKEND, family=self.table.family)

    def _met(self, chain: NftChain, rule: NftRule, way: Way, verdict: str) -> Way:
        return _replace(way, trail=(self._step(chain, rule, verdict), way.trail))

    def _given_up(self, chain: NftChain, rule: NftRule, way: Way, reason: str) -> End:
        step = self._step(chain, rule, "unknown")
        way = _replace(way, doubts=(*way.doubts, Doubt(reason, step)))
        return End(verdict=Verdict.UNKNOWN, step=step, way=way)


def chain_side(hook: str) -> str:
    """Which end of a packet is rewritten at a hook."""
    return "source" if hook in ("POSTROUTING", "INPUT") else "destination"
