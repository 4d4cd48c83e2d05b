"""A packet's way through a host: hooks in their order, at each the tables in theirs, with conntrack and routing between.

Sources: include/uapi/linux/netfilter_ipv4.h (priorities), net/ipv4/ip_input.c, ip_forward.c, ip_output.c,
net/netfilter/nf_nat_core.c (nf_nat_inet_fn), nf_conntrack_core.c (nf_conntrack_in).
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from netdiag.firewall.netfilter.addresses import show_address
from netdiag.firewall.netfilter.evaluate import Doubt, End, Step, Walk, Way, one_of
from netdiag.firewall.netfilter.header import PacketType, Protocol
from netdiag.firewall.netfilter.kernel import (
    ConnMark,
    FlowEnd,
    FlowProtocol,
    Helper,
    OriginalDirection,
    State,
    StateFirst,
)
from netdiag.firewall.netfilter.nft.model import NftTable
from netdiag.firewall.netfilter.nft.walk import BaseChain
from netdiag.firewall.netfilter.rules import HOOKS, HOOKS_OF, NotUnderstood, Rule, TableSet, Translating, Verdict
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, Host, Skb
from netdiag.firewall.netfilter.targets import ConnMarkTarget, Template, ToDestination
from netdiag.firewall.tables import priority_of

_CONNTRACK = -200
_MOST_ORDERS = 6
_DESTINATION_NAT = frozenset({"PREROUTING", "OUTPUT"})
_MOST_WAYS = 64
_TRACKING = (State, StateFirst, FlowEnd, FlowProtocol, OriginalDirection, ConnMark, Helper, NotUnderstood)
_TRACKING_TARGETS = (Translating, ConnMarkTarget, Template)
_replace = msgspec.structs.replace


class Route(enum.Enum):
    """Which way a packet meets the host."""

    IN = "in"
    FORWARD = "forward"
    OUT = "out"


_HOOKS = {
    Route.IN: ("PREROUTING", "INPUT"),
    Route.FORWARD: ("PREROUTING", "FORWARD", "POSTROUTING"),
    Route.OUT: ("OUTPUT", "POSTROUTING"),
}
DECIDES = {Route.IN: "INPUT", Route.FORWARD: "FORWARD", Route.OUT: "OUTPUT"}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The packet that is asked about, at the first place where it is met.

    Attributes:
        state: What conntrack calls it, once it has seen it.
        is_state_said: Whether it was said, so that no rule of the table raw can make it another.
        hook: The only hook to ask; empty for the whole way.
        out_device: The device that a packet leaves by that goes on to another; None where it is not said.
    """

    skb: Skb
    route: Route
    state: str
    is_state_said: bool = False
    hook: str = ""
    out_device: str | None = None


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """One possible outcome.

    Attributes:
        step: The rule or policy that decided; None where no table stands at the hook that decides.
    """

    verdict: Verdict
    step: Step | None
    way: Way


class _Walking(msgspec.Struct, frozen=True, kw_only=True):
    """A packet between two tables: where it is, and the last rule or policy that accepted it at this hook."""

    way: Way
    accepted: Step | None = None
    policy: Step | None = None
    bound: bool = False
    """Whether a table of NAT gave its flow its addresses at this hook."""


class _Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked at a hook: a table, a chain, conntrack, or everything that translates addresses.

    Attributes:
        source: Whose it is; of one source the order of two of the same priority is known.
        order: That order.
        translating: Whether it is one of those that translate addresses, which decide about nothing else.
    """

    priority: int
    source: str
    order: int = 0
    ask: Callable[[Way], list[End]] | None = None
    chain: BaseChain | None = None
    translating: bool = False


class Traversal:
    """The rule sets of one host and family, ready for packet after packet."""

    def __init__(
        self,
        sets: Sequence[TableSet],
        host: Host,
        foreign: Mapping[str, str] | None = None,
        native: Sequence[NftTable] = (),
    ) -> None:
        """Index them.

        Args:
            sets: The tables of each variant that runs.
            host: What is known of it.
            foreign: By hook, why something that is not modelled may drop a packet there.
            native: nft's own tables that see packets of this family.
        """
        self._host = host
        self._foreign = dict(foreign or {})
        for own in native:
            if own.missing and not own.dormant and own.family != "bridge":
                reason = f"table {own.family} {own.name}: {own.missing}"
                self._foreign = {**dict.fromkeys(HOOKS, reason), **self._foreign}
        self._deciding: set[str] = set()
        self._walks = [(tables, Walk(host, tables.backend)) for tables in sets]
        for tables, walk in self._walks:
            for table in tables.tables.values():
                walk.prepare(table)
        self._leading = _leading(sets)
        self._tracks = (
            any(_needs_conntrack(tables) for tables in sets)
            or any(table.tracks() for table in native)
            or bool(self._foreign)
        )
        self._native = [
            BaseChain(table, chain, host) for table in native if table.family != "bridge" for chain in table.bases()
        ]
        self._bridges = [(table, chain) for table in native if table.family == "bridge" for chain in table.bases()]
        self._groups = {hook: self._grouped(hook, translating=False) for hook in (*HOOKS, "INGRESS", "EGRESS")}
        self._translating = {hook: self._grouped(hook, translating=True) for hook in HOOKS}

    def outcomes(self, asked: Asked) -> list[Passed]:
        """Every outcome that remains possible."""
        first = asked.hook or _HOOKS[asked.route][0]
        # Behind the hook that decides a packet is only let pass.
        self._deciding = {asked.hook} if asked.hook else {"PREROUTING", "INPUT", "FORWARD", "OUTPUT"}
        skb = _replace(asked.skb, bridged=self._bridged(asked.skb))
        if asked.hook and asked.hook not in ("PREROUTING", "OUTPUT"):
            skb = self._met_before(skb, asked)
        walking = [_Walking(way=Way(skb=skb))]
        done: list[Passed] = []
        todo = [(first, walking)]
        while todo:
            hook, walking = todo.pop()
            lost = self._lost(walking[0].way.skb, asked) if hook == "FORWARD" and not asked.hook else ""
            if lost:
                way = walking[0].way
                way = _replace(way, doubts=(*way.doubts, Doubt(lost)))
                done.append(Passed(verdict=Verdict.UNKNOWN, step=None, way=way))
                continue
            walking = self._at_hook(hook, walking, asked, done)
            for each in walking:
                after = () if asked.hook else self._after(hook, each, asked)
                if not after:
                    done.append(Passed(verdict=Verdict.ACCEPT, step=each.accepted or each.policy, way=each.way))
                todo += [(onward, [one]) for onward, one in after]
                if len(done) + len(todo) > _MOST_WAYS:
                    reason = "there are too many ways"
                    way = _replace(each.way, doubts=(*each.way.doubts, Doubt(reason)))
                    return [*done, Passed(verdict=Verdict.UNKNOWN, step=None, way=way)]
        return done

    def _met_before(self, skb: Skb, asked: Asked) -> Skb:
        """The packet at a later hook that is asked alone: what rules of earlier ones may have made of it is not known."""
        hook = "OUTPUT" if skb.from_here else "PREROUTING"
        there = _replace(skb, in_device=None if hook == "PREROUTING" and not skb.in_device else skb.in_device)
        found = self._states_behind_raw(hook, there) if not asked.is_state_said else []
        state: str | None = asked.state
        if {"UNTRACKED"} in found:
            state = "UNTRACKED"
        elif any("UNTRACKED" in each for each in found):
            state = None
        skb = _replace(skb, state=None) if state is None else _tracked(skb, state)
        if skb.dnat is False and self._may_be_translated(skb, hook):
            return _replace(skb, dnat=None, original=None)
        return skb

    def _states_behind_raw(self, hook: str, skb: Skb) -> list[set[str | None]]:
        """What every table that stands before conntrack may leave of a packet's state."""
        asked: list[Callable[[Way], list[End]]] = [
            partial(walk.through, tables.tables["raw"], hook) for tables, walk in self._walks if "raw" in tables.tables
        ]
        asked += [
            base.through
            for base in self._native
            if base.chain.hook == hook and base.chain.priority < _CONNTRACK and base.chain.kind != "nat"
        ]
        return [{end.way.skb.state for end in ask(Way(skb=skb))} for ask in asked]

    def _may_be_translated(self, skb: Skb, hook: str) -> bool:
        """Whether a rule of the table nat may have given the packet the destination that it has."""
        if skb.state is not None and skb.state != "NEW":
            return False
        if any(base.chain.hook == hook and base.chain.kind == "nat" and base.chain.rules for base in self._native):
            return True
        places = self._leading if skb.destination is None else (skb.destination, None)
        return any(
            (chain == hook or chain not in HOOKS_OF["nat"])
            and target.may_lead_to(skb)
            and not any(isinstance(each, Protocol) and each.holds(skb, self._host) is False for each in rule.matches)
            for address in places
            for chain, rule, target in self._leading.get(address, ())
        )

    def _grouped(self, hook: str, *, translating: bool) -> list[list[_Asking]]:
        """What is asked at a hook, in groups of one priority each, in their order.

        Tables of NAT stand in a list of their own, which the kernel asks at one place (nf_nat_core.c, nf_nat_inet_fn).
        """
        found = [
            _Asking(
                priority=base.chain.priority,
                source=f"{base.table.family} {base.table.name}",
                # The later is asked first of two of one priority (net/netfilter/core.c, nf_hook_entries_grow).
                order=-at,
                ask=base.through,
                chain=base,
                translating=translating,
            )
            for at, base in enumerate(self._native)
            if base.chain.hook == hook and (base.chain.kind == "nat") == translating
        ]
        for tables, walk in self._walks:
            for name, table in tables.tables.items():
                if hook in HOOKS_OF.get(name, ()) and (name == "nat") == translating:
                    through = partial(walk.through, table, hook)
                    priority = priority_of(name, hook.lower())
                    found.append(
                        _Asking(priority=priority, source=tables.backend, ask=through, translating=translating)
                    )
        if not translating and hook in _DESTINATION_NAT:
            found.append(_Asking(priority=_CONNTRACK, source="conntrack"))
        if not translating and hook in HOOKS_OF["nat"]:
            found.append(_Asking(priority=priority_of("nat", hook.lower()), source="nat"))
        found.sort(key=lambda asking: (asking.priority, asking.order))
        return [list(group) for _, group in itertools.groupby(found, key=lambda asking: asking.priority)]

    def _at_hook(self, hook: str, walking: list[_Walking], asked: Asked, done: list[Passed]) -> list[_Walking]:
        """Those that pass all tables of a hook; what is lost there is added to ``done``."""
        if hook == "PREROUTING" and not asked.hook:
            walking = self._of_devices("INGRESS", walking, asked, done)
        walking = self._through(self._groups[hook], hook, walking, asked, done)
        if hook == "POSTROUTING" and not asked.hook:
            walking = self._of_devices("EGRESS", walking, asked, done)
        reasons = [self._foreign[hook]] if hook in self._foreign else []
        reasons += [] if asked.hook else [self._bridged_away(hook, each.way.skb) for each in walking[:1]]
        for reason in filter(None, reasons):
            for each in walking:
                way = _replace(each.way, doubts=(*each.way.doubts, Doubt(reason)))
                done.append(Passed(verdict=Verdict.UNKNOWN, step=None, way=way))
        return walking

    def _through(
        self, groups: Sequence[list[_Asking]], hook: str, walking: list[_Walking], asked: Asked, done: list[Passed]
    ) -> list[_Walking]:
        """Through everything that is asked at a hook; where it is not known which comes first, every order is gone."""
        for group in groups:
            orders = _orders(group)
            if orders is None:
                names = ", ".join(dict.fromkeys(asking.source for asking in group))
                way = walking[0].way if walking else None
                if way is not None:
                    reason = f"in which order {names} are asked at {hook} is not known"
                    way = _replace(way, doubts=(*way.doubts, Doubt(reason)))
                    done.append(Passed(verdict=Verdict.UNKNOWN, step=None, way=way))
                orders = [group]
            passed: list[_Walking] = []
            for number, order in enumerate(orders):
                now = walking
                if number:
                    names = " or ".join(dict.fromkeys(asking.source for asking in group))
                    doubt = Doubt(f"which of {names} is asked first at {hook} is not known")
                    now = [_doubting(each, doubt) for each in walking]
                for asking in order:
                    now = self._one(asking, hook, now, asked, done)
                passed += now
            walking = _unique(passed)
        return walking

    def _one(
        self, asking: _Asking, hook: str, walking: list[_Walking], asked: Asked, done: list[Passed]
    ) -> list[_Walking]:
        """Through one table or chain, conntrack, or everything that translates addresses."""
        if asking.source == "conntrack":
            return [_with(each, _tracked(each.way.skb, asked.state)) for each in walking]
        if asking.source == "nat":
            if not self._translating[hook]:
                return walking
            to_ask = [each for each in walking if self._tracks and _translates(each.way.skb)]
            others = [each for each in walking if not (self._tracks and _translates(each.way.skb))]
            through = self._through(self._translating[hook], hook, to_ask, asked, done) if to_ask else []
            return [*others, *(_replace(each, bound=False) for each in through)]
        if asking.ask is None:
            return walking
        on: list[_Walking] = []
        for each in walking:
            if each.bound:
                on.append(each)
                continue
            for end in asking.ask(each.way):
                if end.verdict is Verdict.ACCEPT:
                    decides = self._decides(asking, hook, asked)
                    on.append(_accepted(each, end, decides=decides))
                else:
                    done.append(Passed(verdict=end.verdict, step=end.step, way=end.way))
        return _unique(on)

    def _decides(self, asking: _Asking, hook: str, asked: Asked) -> bool:
        """Whether an accept counts: one of NAT's only where that hook is asked alone, and nothing else decides there."""
        return hook in self._deciding and (not asking.translating or asked.hook in ("PREROUTING", "POSTROUTING"))

    def _of_devices(self, hook: str, walking: list[_Walking], asked: Asked, done: list[Passed]) -> list[_Walking]:
        """Through the chains of the device that a packet comes by, or leaves by."""
        for group in self._groups[hook]:
            for asking in group:
                devices = asking.chain.chain.devices if asking.chain is not None else None
                on: list[_Walking] = []
                for each in walking:
                    skb = each.way.skb
                    device = skb.in_device if hook == "INGRESS" else skb.out_device
                    if hook == "EGRESS" and skb.from_here is False and not device:
                        device = asked.out_device
                    if devices is not None and device is not None and device not in devices:
                        on.append(each)
                        continue
                    if devices is None or device is None:
                        on.append(each)
                        names = asking.source
                        doubt = Doubt(f"whether the chain of {names} at {hook.lower()} is its device's is not known")
                        on += self._one(asking, hook, [_doubting(each, doubt)], asked, done)
                    else:
                        on += self._one(asking, hook, [each], asked, done)
                walking = _unique(on)
        return walking

    def _bridged_away(self, hook: str, skb: Skb) -> str:
        """Why a bridge's own chains may lose the packet; empty where none does."""
        inward = hook == "PREROUTING"
        if not self._bridges or hook not in ("PREROUTING", "POSTROUTING"):
            return ""
        if inward and skb.bridged is False:
            return ""
        known = self._host.bridges is not None and skb.out_device
        if not inward and (skb.out_device == "lo" or (known and skb.out_device not in (self._host.bridges or ()))):
            return ""
        sides = ("PREROUTING", "INPUT", "FORWARD") if inward else ("OUTPUT", "POSTROUTING", "FORWARD")
        for table, chain in self._bridges:
            if chain.hook in sides and (chain.rules or chain.policy == "DROP" or table.missing):
                return f"the table bridge {table.name} may stand on its way and is not modelled"
        return ""

    def _after(self, hook: str, walking: _Walking, asked: Asked) -> list[tuple[str, _Walking]]:
        """The hooks that a packet comes to behind one, each with the packet as it comes there."""
        skb = walking.way.skb
        if hook == "INPUT" or (hook == "POSTROUTING" and not self._comes_back(skb)):
            return []
        if hook == "OUTPUT":
            return [("POSTROUTING", _with(walking, _replace(skb, out_device=self._leaves_by(skb, asked))))]
        if hook == "FORWARD":
            return [("POSTROUTING", _with(walking, _replace(skb, in_device=None)))]
        fresh = _replace(walking, accepted=None, policy=None)
        if hook == "POSTROUTING":
            return [("PREROUTING", _with(fresh, _replace(skb, in_device="lo", out_device="", local=True)))]
        to_input = ("INPUT", _with(fresh, _replace(skb, out_device="", local=True)))
        # The kernel counts the hop before it asks FORWARD (ip_forward, ip6_forward).
        skb = _replace(skb, ttl=None if skb.ttl is None else skb.ttl - 1)
        to_forward = ("FORWARD", _with(fresh, _replace(skb, out_device=asked.out_device, local=False)))
        if asked.route is Route.OUT:
            return [to_input]
        local = self._is_local(skb, asked)
        if local is not None:
            return [to_input if local else to_forward]
        to = show_address(skb.destination, skb.family) if skb.destination is not None else "its new destination"
        doubt = Doubt(f"whether {to} is an address of this host is not known")
        return [
            (name, _replace(each, way=_replace(each.way, doubts=(*each.way.doubts, doubt))))
            for name, each in (to_input, to_forward)
        ]

    def _is_local(self, skb: Skb, asked: Asked) -> bool | None:
        """Whether routing takes the packet in; None where that is not known."""
        if skb.dnat is False:
            return asked.route is Route.IN
        if skb.local is not None:
            return skb.local
        if self._host.addresses is not None and skb.destination is not None:
            return (skb.destination, skb.family) in self._host.addresses
        if asked.route is Route.FORWARD or asked.out_device:
            return False  # so it is said of it
        return None

    def _bridged(self, skb: Skb) -> bool | None:
        """Whether a bridge's port takes it in; None where that is not known."""
        if skb.from_here or skb.in_device == "lo":
            return False
        unbridged = self._host.bridges is not None and skb.in_device and skb.in_device not in self._host.bridges
        return False if unbridged else skb.bridged

    def _lost(self, skb: Skb, asked: Asked) -> str:
        """Why the kernel itself drops what is to be forwarded, before its rules are asked; empty where it does not."""
        if skb.ttl == 0:
            return "its TTL is used up: the kernel forwards it not"
        truth = PacketType("unicast").holds(asked.skb, self._host)
        if truth is False:
            return "its frame is for a group or for all: the kernel forwards it not"
        known = truth is True or asked.skb.destination is None
        return "" if known else "whether its frame is for all, and not forwarded, is not known"

    def _leaves_by(self, skb: Skb, asked: Asked) -> str | None:
        """The device by which a packet of this host's leaves, which a new destination decides anew."""
        if skb.destination is not None and skb.destination == asked.skb.destination:
            return skb.out_device
        if skb.destination is None and skb.dnat is False:
            return skb.out_device
        return "lo" if self._comes_back(skb) else None

    def _comes_back(self, skb: Skb) -> bool:
        """Whether a packet that this host sends is for itself."""
        if not skb.from_here or skb.destination is None:
            return False
        if skb.out_device == "lo":
            return True
        loopback = skb.destination >> 24 == 127 if skb.family == 4 else skb.destination == 1
        known = self._host.addresses is not None and (skb.destination, skb.family) in self._host.addresses
        return loopback or known


def _orders(group: list[_Asking]) -> list[list[_Asking]] | None:
    """Every order in which a group may be asked, those of one source in theirs; None where these are too many."""
    if len({asking.source for asking in group}) < 2:
        return [group]
    if len(group) > 4:
        return None
    found = [
        list(order)
        for order in itertools.permutations(group)
        if all(
            order.index(one) < order.index(other)
            for one, other in itertools.combinations(group, 2)
            if one.source == other.source
        )
    ]
    return found if len(found) <= _MOST_ORDERS else None


def _doubting(walking: _Walking, doubt: Doubt) -> _Walking:
    return _replace(walking, way=_replace(walking.way, doubts=(*walking.way.doubts, doubt)))


def _tracked(skb: Skb, state: str) -> Skb:
    """The packet behind conntrack, which passes what a rule told it to, and knows what comes back through lo."""
    if skb.state == "UNTRACKED":
        return skb
    known = state in ("NEW", "INVALID", "UNTRACKED")
    return _replace(
        skb,
        state=state,
        connmark=skb.connmark if known else None,
        dnat=skb.dnat if known else None if not skb.dnat else True,
        snat=skb.snat if known else None if not skb.snat else True,
    )


def _needs_conntrack(tables: TableSet) -> bool:
    """Whether a rule makes the namespace track connections; without that the table nat is asked about no packet.

    Source: the calls of nf_ct_netns_get in net/netfilter/xt_*.c and nft_*.c. What is not understood may be such a rule.
    """
    rules = (rule for table in tables.tables.values() for chain in table.chains.values() for rule in chain.rules)
    return any(
        isinstance(rule.target, _TRACKING_TARGETS) or any(isinstance(match, _TRACKING) for match in rule.matches)
        for rule in rules
    )


def _translates(skb: Skb) -> bool:
    """Whether the table nat is asked about it: only of a flow's first packet, and not when it comes back through lo."""
    if skb.from_here and skb.in_device == "lo":
        return False
    return skb.state is None or skb.state == "NEW" or (skb.state == "RELATED" and skb.protocol not in (ICMP, ICMPV6))


def _leading(sets: Sequence[TableSet]) -> dict[int | None, list[tuple[str, Rule, Translating]]]:
    """Rules that give a packet another destination, by the address, None for those of several or any; with the chain."""
    found: dict[int | None, list[tuple[str, Rule, Translating]]] = {}
    for tables in sets:
        nat = tables.tables.get("nat")
        for chain in nat.chains.values() if nat is not None else ():
            for rule in chain.rules:
                if isinstance(rule.target, Translating):
                    address = rule.target.address if isinstance(rule.target, ToDestination) else None
                    found.setdefault(address, []).append((chain.name, rule, rule.target))
    return found


def _with(walking: _Walking, skb: Skb) -> _Walking:
    return _replace(walking, way=_replace(walking.way, skb=skb))


def _accepted(before: _Walking, end: End, *, decides: bool) -> _Walking:
    """As `netdiag.firewall.trace` names it: the last rule that accepted at a hook, else the last policy."""
    bound = before.bound or end.bound
    if not decides:
        return _replace(before, way=end.way, bound=bound)
    if end.step.rule is not None:
        return _replace(before, way=end.way, bound=bound, accepted=end.step)
    return _replace(before, way=end.way, bound=bound, policy=end.step)


def _unique(walking: list[_Walking]) -> list[_Walking]:
    found: dict[tuple[Skb, int, str, bool], _Walking] = {}
    for each in walking:
        step = each.accepted
        key = each.way.skb, id(step.rule) if step else 0, step.backend if step else "", each.bound
        known = found.get(key)
        found[key] = each if known is None else _one_of(known, each)
    return list(found.values())


def _one_of(one: _Walking, other: _Walking) -> _Walking:
    surer = other if len(other.way.doubts) < len(one.way.doubts) else one
    return _replace(surer, way=one_of(one.way, other.way))
