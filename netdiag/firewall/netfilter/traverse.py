"""A packet's way through a host: hooks in their order, at each the tables in theirs, with conntrack and routing between.

Sources: include/uapi/linux/netfilter_ipv4.h (priorities), net/ipv4/ip_input.c, ip_forward.c, ip_output.c,
net/netfilter/nf_nat_core.c (nf_nat_inet_fn), nf_conntrack_core.c (nf_conntrack_in).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec

from netdiag.firewall.netfilter.addresses import show_address
from netdiag.firewall.netfilter.evaluate import Doubt, End, Step, Walk, Way
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
from netdiag.firewall.netfilter.rules import HOOKS_OF, NotUnderstood, Rule, TableSet, Translating, Verdict
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, Host, Skb
from netdiag.firewall.netfilter.targets import ConnMarkTarget, Template, ToDestination

_ORDER = ("raw", "conntrack", "mangle", "destination nat", "filter", "security", "source nat")
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


class Traversal:
    """The rule sets of one host and family, ready for packet after packet."""

    def __init__(self, sets: Sequence[TableSet], host: Host, foreign: Mapping[str, str] | None = None) -> None:
        """Index them.

        Args:
            sets: The tables of each variant that runs.
            host: What is known of it.
            foreign: By hook, why something that is not modelled may drop a packet there.
        """
        self._host = host
        self._foreign = dict(foreign or {})
        self._deciding: set[str] = set()
        self._walks = [(tables, Walk(host, tables.backend)) for tables in sets]
        for tables, walk in self._walks:
            for table in tables.tables.values():
                walk.prepare(table)
        self._leading = _leading(sets)
        self._tracks = any(_needs_conntrack(tables) for tables in sets) or bool(self._foreign)

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
        state: str | None = asked.state
        for tables, walk in self._walks:
            raw = tables.tables.get("raw")
            if raw is None or asked.is_state_said:
                continue
            told = {end.way.skb.state for end in walk.through(raw, hook, Way(skb=there))}
            if "UNTRACKED" in told:
                state = "UNTRACKED" if len(told) == 1 else None
        found = _replace(skb, state=None) if state is None else _tracked(skb, state)
        if found.dnat is False and self._may_be_translated(found, hook):
            return _replace(found, dnat=None, original=None)
        return found

    def _may_be_translated(self, skb: Skb, hook: str) -> bool:
        """Whether a rule of the table nat may have given the packet the destination that it has."""
        if skb.state is not None and skb.state != "NEW":
            return False
        places = self._leading if skb.destination is None else (skb.destination, None)
        return any(
            (chain == hook or chain not in HOOKS_OF["nat"])
            and target.may_lead_to(skb)
            and not any(isinstance(each, Protocol) and each.holds(skb, self._host) is False for each in rule.matches)
            for address in places
            for chain, rule, target in self._leading.get(address, ())
        )

    def _at_hook(self, hook: str, walking: list[_Walking], asked: Asked, done: list[Passed]) -> list[_Walking]:
        """Those that pass all tables of a hook; what is lost there is added to ``done``."""
        for place in _ORDER:
            if place == "conntrack":
                if hook in _DESTINATION_NAT:
                    walking = [_with(each, _tracked(each.way.skb, asked.state)) for each in walking]
                continue
            table = place if "nat" not in place else "nat"
            if place.endswith("nat") and (hook in _DESTINATION_NAT) != (place == "destination nat"):
                continue
            if hook in HOOKS_OF[table]:
                walking = self._through(table, hook, walking, done, asked)
        if hook in self._foreign:
            for each in walking:
                doubt = Doubt(self._foreign[hook])
                way = _replace(each.way, doubts=(*each.way.doubts, doubt))
                done.append(Passed(verdict=Verdict.UNKNOWN, step=None, way=way))
        return walking

    def _decides(self, table: str, hook: str, asked: Asked) -> bool:
        """Whether an accept of this table counts: of nat only where it is asked for alone, and nothing else decides."""
        return hook in self._deciding and (table != "nat" or asked.hook in ("PREROUTING", "POSTROUTING"))

    def _through(
        self, table: str, hook: str, walking: list[_Walking], done: list[Passed], asked: Asked
    ) -> list[_Walking]:
        """Through one table of every variant; which of two variants comes first is not known, so both orders are gone."""
        having = [(tables, walk) for tables, walk in self._walks if table in tables.tables]
        orders = [having, having[::-1]] if len(having) > 1 else [having]
        passed: list[_Walking] = []
        for order in orders:
            now = walking
            for tables, walk in order:
                on: list[_Walking] = []
                for each in now:
                    if table == "nat" and not (self._tracks and _translates(each.way.skb)):
                        on.append(each)
                        continue
                    for end in walk.through(tables.tables[table], hook, each.way):
                        if end.verdict is Verdict.ACCEPT:
                            on.append(_accepted(each, end, decides=self._decides(table, hook, asked)))
                        else:
                            done.append(Passed(verdict=end.verdict, step=end.step, way=end.way))
                now = _unique(on)
            passed += now
        return _unique(passed)

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
    if not decides:
        return _replace(before, way=end.way)
    if end.step.rule is not None:
        return _replace(before, way=end.way, accepted=end.step)
    return _replace(before, way=end.way, policy=end.step)


def _unique(walking: list[_Walking]) -> list[_Walking]:
    found: dict[tuple[Skb, int, str], _Walking] = {}
    for each in walking:
        step = each.accepted
        key = each.way.skb, id(step.rule) if step else 0, step.backend if step else ""
        known = found.get(key)
        if known is None or len(each.way.doubts) < len(known.way.doubts):
            found[key] = each
    return list(found.values())
