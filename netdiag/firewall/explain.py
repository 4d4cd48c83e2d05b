"""What a rule set does with a packet, computed: the verdict, the rule that decides, and what is not known and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from netdiag.firewall.listing import read_listing
from netdiag.firewall.netfilter.addresses import show_address
from netdiag.firewall.netfilter.evaluate import Step
from netdiag.firewall.netfilter.file_parts import read_file_parts
from netdiag.firewall.netfilter.ipset_text import read_sets
from netdiag.firewall.netfilter.iptables import read_iptables
from netdiag.firewall.netfilter.nft.model import NftChain, NftRule, NftTable, of_family
from netdiag.firewall.netfilter.nft.reading import NftRead, read_nft, read_nft_text
from netdiag.firewall.netfilter.nft.text_reading import BEGINS
from netdiag.firewall.netfilter.packet import asked_of
from netdiag.firewall.netfilter.rules import HOOKS, TableSet, Verdict
from netdiag.firewall.netfilter.sets import IpSet
from netdiag.firewall.netfilter.skb import Host, Skb
from netdiag.firewall.netfilter.traverse import Asked, Passed, Traversal
from netdiag.firewall.owner import attribute, owner_of
from netdiag.firewall.save_text import nft_family
from netdiag.model.explain import Dependence, Explanation, PacketLine
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import Endpoints, TraceStep, TraceVerdict

_MOST_REASONS = 12
_NO_TABLE = "the text holds no table of rules"


class RuleSets(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was read: the tables of every variant and family, sets, and what stands beside them.

    Attributes:
        native: nft's own tables; None where nothing told of them.
        sets: None where no text told of any.
        foreign: By family and hook, what may drop a packet there and is not modelled.
        problems: Lines that were not understood, each with its number and whose text it is.
    """

    tables: tuple[TableSet, ...] = ()
    native: tuple[NftTable, ...] | None = None
    sets: dict[str, IpSet] | None = None
    foreign: dict[tuple[int, str], str] = msgspec.field(default_factory=dict)
    problems: tuple[str, ...] = ()


def merged(several: Sequence[RuleSets]) -> RuleSets:
    """What several files hold together."""
    sets = [each.sets for each in several if each.sets is not None]
    tables = tuple(tables for each in several for tables in each.tables)
    native = [each.native for each in several if each.native is not None]
    return RuleSets(
        tables=tables,
        native=_not_written(tables, [table for listed in native for table in listed]) if native else None,
        sets={name: found for each in sets for name, found in each.items()} if sets else None,
        # A file of sets alone tells of no rules, which another does; one that could not be read hides some.
        foreign={
            place: reason
            for each in several
            for place, reason in each.foreign.items()
            if not (reason == _NO_TABLE and (tables or native))
        },
        problems=tuple(problem for each in several for problem in each.problems),
    )


def read_rule_sets(rule_sets: Iterable[RuleSet], hidden: str = "") -> RuleSets:
    """The rule sets of one namespace as they were listed there.

    Args:
        rule_sets: As each tool shows them.
        hidden: Why some may be missing; empty where none is.
    """
    rule_sets = tuple(rule_sets)
    tables: list[TableSet] = []
    sets: dict[str, IpSet] | None = None
    foreign: dict[tuple[int, str], str] = {}
    problems: list[str] = []
    for rules in rule_sets:
        if rules.backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
            read = read_iptables(rules.text, rules.family, rules.backend.value)
            tables.append(read)
            problems += [f"{rules.backend.value}, {problem.said()}" for problem in read.problems]
        elif rules.backend is Backend.IPSET:
            sets, bad = read_sets(rules.text)
            problems += [f"ipset, {problem.said()}" for problem in bad]
    native: tuple[NftTable, ...] | None = None
    for rules in rule_sets:
        if rules.backend is Backend.NFT_NATIVE:
            # Where JSON does not tell (an nft without it, a script's bundle, an answer cut off) the text does.
            found = read_nft(rules.json, read_listing(rules.text))
            if not found.tables:
                found = read_nft_text(rules.text)
            native = _not_written(tables, found.tables)
            problems += [f"nft, {problem}" for problem in found.problems]
            if not found.tables and found.problems:
                foreign |= {(family, hook): found.problems[0] for family in (4, 6) for hook in HOOKS}
    if hidden:
        foreign |= {(family, hook): f"not all rules could be read: {hidden}" for family in (4, 6) for hook in HOOKS}
    return RuleSets(tables=tuple(tables), native=native, sets=sets, foreign=foreign, problems=tuple(problems))


def _not_written(tables: Iterable[TableSet], native: Iterable[NftTable]) -> tuple[NftTable, ...]:
    """The tables of nft's own without those that iptables-nft wrote: of these its save is the truth."""
    written = {
        (nft_family(each.family), name)
        for each in tables
        if each.backend == Backend.IPTABLES_NFT.value
        for name in each.tables
    }
    return tuple(table for table in native if (table.family, table.name) not in written)


def read_rule_file(text: str) -> RuleSets:
    """A saved file: what iptables-save, ``iptables -S`` or ipset print, or iptables-restore reads; or several of them.

    Or what ``nft list ruleset`` prints, as text or with ``-j``.
    """
    if text.lstrip()[:1] == "{":
        return _native(read_nft(text))
    if BEGINS.match(text[:4000]):
        return _native(read_nft_text(text))
    read = read_file_parts(text)
    problems = [problem.said() for problem in read.problems]
    found, bad = read_sets(read.sets) if read.sets.strip() else (None, ())
    problems += [problem.said() for problem in bad]
    if not read.tables and found is None:
        problems.append(
            "line 1: no table begins (*filter …, table …) and no set: not what iptables-save, nft or ipset prints"
        )
    # Of a host whose rules were not given nothing is known; one that has none is another matter.
    foreign = {} if read.tables else {(family, hook): _NO_TABLE for family in (4, 6) for hook in HOOKS}
    return RuleSets(tables=read.tables, sets=found, foreign=foreign, problems=tuple(problems))


def _native(read: NftRead) -> RuleSets:
    unread = read.problems[0] if read.problems and not read.tables else ""
    foreign = {(family, hook): unread for family in (4, 6) for hook in HOOKS} if unread else {}
    return RuleSets(native=None if unread else read.tables, foreign=foreign, problems=read.problems)


class Explainer:
    """Rule sets ready for packet after packet."""

    def __init__(self, rule_sets: RuleSets, host: Host | None = None) -> None:
        """Index them.

        Args:
            rule_sets: The rules and sets.
            host: What else is known of the host; its sets are taken from the rules.
        """
        known = host or Host()
        self._host = msgspec.structs.replace(known, sets=rule_sets.sets if rule_sets.sets is not None else known.sets)
        self._rule_sets = rule_sets
        self._by: dict[tuple[int, str | None], Traversal] = {}
        for family in (4, 6):
            self.traversal(family, None)

    def explain(self, packet: PacketLine) -> Explanation:
        """What becomes of a packet. Raises ValueError for a packet that does not go together."""
        packet, bridged = self._as_ip_sees(packet)
        asked = asked_of(packet)
        if bridged:
            return _unknown(bridged)
        if (
            self._rule_sets.native is None
            and self._rule_sets.tables
            and all(each.family != asked.skb.family for each in self._rule_sets.tables)
        ):
            reason = f"these rules are not for IPv{asked.skb.family}"
            return _unknown(reason)
        return self._told(self.traversal(asked.skb.family, packet.bucket).outcomes(asked), asked)

    def _as_ip_sees(self, packet: PacketLine) -> tuple[PacketLine, str]:
        """The packet with the devices in whose name IP's rules are asked, and why they may not be asked at all."""
        ports = {name for name in (packet.in_device, packet.out_device) if name and name in self._host.ports}
        if not ports:
            return packet, ""
        odd = sorted(name for name in ports if not self._host.ports[name])
        if odd:
            return (
                packet,
                f"{odd[0]} belongs to a device that is neither a bridge nor a bond (a VRF), which is not modelled",
            )
        inward, outward = (self._host.ports.get(each or "", each) for each in (packet.in_device, packet.out_device))
        seen = msgspec.structs.replace(packet, in_device=inward, out_device=outward)
        if len(ports) > 1 and inward == outward:
            both = " and ".join(sorted(ports))
            return seen, f"{both} are ports of {inward}: what is bridged is asked of these rules where bridge-nf is on"
        chains = [chain for table in self._rule_sets.native or () for chain in table.bases()]
        own = [chain.name for chain in chains if chain.hook in ("INGRESS", "EGRESS") and _stands_at(chain, ports)]
        return seen, f"the chain {own[0]} may stand at the port itself, which is not modelled" if own else ""

    def traversal(self, family: int, bucket: str | None) -> Traversal:
        """The rules of one family, with full or empty buckets."""
        found = self._by.get((family, bucket))
        if found is None:
            host = msgspec.structs.replace(self._host, bucket=bucket)
            tables = [each for each in self._rule_sets.tables if each.family == family]
            native = of_family(self._rule_sets.native or (), family)
            foreign = {hook: reason for (of, hook), reason in self._rule_sets.foreign.items() if of == family}
            found = self._by[family, bucket] = Traversal(tables, host, foreign, native)
        return found

    def _told(self, outcomes: Sequence[Passed], asked: Asked) -> Explanation:
        possible = _possible(outcomes)
        first = outcomes[0]
        deciding = {_key(each.step) for each in outcomes}
        ways = {each.verdict for each in outcomes}
        known = len(ways) == 1 and len(deciding) == 1 and Verdict.UNKNOWN not in ways
        path = tuple(self._step(step, asked) for step in _common(outcomes))
        if known:
            decided = self._rule(first.step, asked) if first.step is not None else None
            is_policy = first.step is None or first.step.rule is None
            return Explanation(
                verdict=TraceVerdict(first.verdict.value),
                rule=None if is_policy else decided,
                policy=decided if is_policy else None,
                possible=possible,
                path=path,
                after=_after(outcomes, asked),
            )
        depends = self._depends(outcomes, asked)
        what = " or ".join(each.value for each in possible)
        reason = depends[0].reason if depends else "which rule decides is not known"
        return Explanation(
            verdict=TraceVerdict.UNKNOWN,
            rule=None,
            possible=possible,
            depends=depends,
            path=path,
            reason=f"{what}, but by which rule is not known: {reason}" if len(possible) == 1 else reason,
        )

    def _depends(self, outcomes: Sequence[Passed], asked: Asked) -> tuple[Dependence, ...]:
        found: dict[tuple[str, object], Dependence] = {}
        for outcome in outcomes:
            for doubt in outcome.way.doubts:
                key = (doubt.reason, _key(doubt.step))
                if key not in found and len(found) < _MOST_REASONS:
                    rule = (
                        self._rule(doubt.step, asked)
                        if doubt.step is not None and doubt.step.rule is not None
                        else None
                    )
                    found[key] = Dependence(reason=doubt.reason, rule=rule)
        # A rule says more than the order in which tables are asked does.
        return tuple(sorted(found.values(), key=lambda each: each.rule is None))

    def _step(self, step: Step, asked: Asked) -> TraceStep:
        packets = step.rule.packets if step.rule is not None else None
        verdict = "drop" if step.verdict == "reject" else step.verdict
        return TraceStep(hook=step.hook.lower(), rule=self._rule(step, asked), verdict=verdict, packets=packets)

    def _rule(self, step: Step, asked: Asked) -> FirewallRule:
        backend = Backend(step.backend)
        if backend is Backend.NFT_NATIVE:
            return attribute(_native_rule(step))
        family = nft_family(asked.skb.family)
        if step.rule is None:
            policy = step.verdict.upper()
            text = f":{step.chain} {policy}"
            return FirewallRule(
                backend=backend, family=family, table=step.table, chain=step.chain, text=text, policy=policy
            )
        return FirewallRule(
            backend=backend,
            family=family,
            table=step.table,
            chain=step.chain,
            number=step.rule.number,
            text=step.rule.text,
            owner=owner_of(step.chain, step.rule.text),
        )


def _native_rule(step: Step) -> FirewallRule:
    """A rule or policy of nft's own, as a trace names it."""
    rule = step.rule
    place = FirewallRule(
        backend=Backend.NFT_NATIVE,
        family=step.family,
        table=step.table,
        chain=step.chain,
        text=f"policy {step.verdict}",
    )
    if not isinstance(rule, NftRule):
        return msgspec.structs.replace(place, policy=step.verdict)
    return msgspec.structs.replace(place, text=rule.text, number=rule.number, handle=rule.handle)


def _stands_at(chain: NftChain, ports: set[str]) -> bool:
    return chain.devices is None or bool(chain.devices & ports)


def _common(outcomes: Sequence[Passed]) -> list[Step]:
    """What the packet meets whichever way it goes."""
    others = [{_key(step) for step in each.way.steps()} for each in outcomes[1:]]
    return [step for step in outcomes[0].way.steps() if all(_key(step) in other for other in others)]


def _possible(outcomes: Sequence[Passed]) -> tuple[TraceVerdict, ...]:
    told = {TraceVerdict(each.verdict.value) for each in outcomes}
    if TraceVerdict.UNKNOWN in told:
        return (TraceVerdict.ACCEPT, TraceVerdict.DROP, TraceVerdict.REJECT)
    return tuple(verdict for verdict in TraceVerdict if verdict in told)


def _key(step: Step | None) -> object:
    if step is None:
        return None
    if step.rule is None:
        return "policy", step.backend, step.family, step.table, step.chain
    return step.backend, step.family, step.table, step.chain, step.rule.number


def _unknown(reason: str) -> Explanation:
    possible = (TraceVerdict.ACCEPT, TraceVerdict.DROP, TraceVerdict.REJECT)
    return Explanation(verdict=TraceVerdict.UNKNOWN, rule=None, possible=possible, reason=reason)


def _after(outcomes: Sequence[Passed], asked: Asked) -> Endpoints | None:
    skb = outcomes[0].way.skb
    now, before = _endpoints(skb), _endpoints(asked.skb)
    return now if now != before and len(outcomes) == 1 else None


def _endpoints(skb: Skb) -> Endpoints:
    addresses = (None if each is None else show_address(each, skb.family) for each in (skb.source, skb.destination))
    source, destination = (each or "" for each in addresses)
    return Endpoints(
        source=source, destination=destination, source_port=skb.source_port, destination_port=skb.destination_port
    )
