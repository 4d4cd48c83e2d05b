"""Matches about what the kernel knows of a packet: conntrack, marks, where addresses lead, buckets, IPsec.

Sources: net/netfilter/xt_conntrack.c, xt_state.c, xt_mark.c, xt_connmark.c, xt_addrtype.c, xt_physdev.c, xt_policy.c,
xt_owner.c, xt_limit.c, xt_recent.c, xt_helper.c; net/ipv4/fib_frontend.c (inet_addr_type).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from netdiag.firewall.netfilter.header import may_be_broadcast
from netdiag.firewall.netfilter.rules import NotUnderstood
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, Host, Skb, Truth, Unknown

TYPES = frozenset(
    "UNSPEC UNICAST LOCAL BROADCAST ANYCAST MULTICAST BLACKHOLE UNREACHABLE PROHIBIT THROW NAT XRESOLVE".split()  # noqa: SIM905 - one name a word
)
_SIX_TYPES = frozenset({"LOCAL", "UNICAST", "MULTICAST"})
_NO_FLOW = Unknown("what conntrack knows of its flow is not known")
_MARK = Unknown("its mark is not known")
_CONNMARK = Unknown("its connection's mark is not known")


class State(msgspec.Struct, frozen=True, gc=False):
    """``--ctstate``, and ``--state``, which does not know of SNAT and DNAT."""

    wanted: frozenset[str]
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether it is in one of these states."""
        if skb.state is None:
            return Unknown("its state in conntrack is not known")
        if skb.state in self.wanted:
            return not self.negated
        if skb.state not in ("INVALID", "UNTRACKED"):
            for name, translated in (("DNAT", skb.dnat), ("SNAT", skb.snat)):
                if name in self.wanted and translated is not False:
                    return (
                        not self.negated
                        if translated
                        else Unknown(f"whether it was given another address ({name}) is not known")
                    )
        return self.negated


class FlowEnd(msgspec.Struct, frozen=True, gc=False):
    """``--ctorigsrc``, ``--ctorigdst`` and their ports: the flow before any rewriting."""

    field: Literal["source", "destination", "source_port", "destination_port"]
    first: int
    last: int
    mask: int = -1
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the flow began so; without a flow there is nothing to compare."""
        if skb.state in ("INVALID", "UNTRACKED"):
            return False
        known = skb.original is not None and skb.state == "NEW"
        value: int | None = getattr(skb.original, self.field) if known else None
        if value is None:
            return _NO_FLOW
        return (self.first <= value & self.mask <= self.last) != self.negated


class OriginalDirection(msgspec.Struct, frozen=True, gc=False):
    """``--ctdir``."""

    original: bool
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether it goes the way that its flow began."""
        if skb.state in ("INVALID", "UNTRACKED"):
            return False
        if skb.state != "NEW":
            return _NO_FLOW
        return self.original != self.negated


class FlowProtocol(msgspec.Struct, frozen=True, gc=False):
    """``--ctproto``."""

    number: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether its flow is of this protocol; an error of ICMP's belongs to a flow of another."""
        if skb.state in ("INVALID", "UNTRACKED"):
            return False
        if skb.state is None or (skb.state == "RELATED" and skb.protocol in (ICMP, ICMPV6)):
            return _NO_FLOW
        return (self.number == skb.protocol) != self.negated


OfFlow = State | FlowEnd | OriginalDirection | FlowProtocol | NotUnderstood


class StateFirst(msgspec.Struct, frozen=True, gc=False):
    """The options of one conntrack match of which one is the state: of a packet without a flow only that is asked."""

    options: tuple[OfFlow, ...]

    def holds(self, skb: Skb, host: Host) -> Truth:
        """Whether all of them hold."""
        flowless = skb.state in ("INVALID", "UNTRACKED")
        found: Truth = True
        for option in self.options:
            if flowless and not isinstance(option, State):
                continue
            truth = option.holds(skb, host)
            if truth is False:
                return False
            if truth is not True:
                found = truth
        return found


class Mark(msgspec.Struct, frozen=True, gc=False):
    """``-m mark``."""

    value: int
    mask: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the bits of its mark are these."""
        if skb.mark is None:
            return _MARK
        return (skb.mark & self.mask == self.value) != self.negated


class ConnMark(msgspec.Struct, frozen=True, gc=False):
    """``-m connmark``."""

    value: int
    mask: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the bits of its connection's mark are these; what has no connection never matches."""
        if skb.state in ("INVALID", "UNTRACKED"):
            return False
        if skb.connmark is None or skb.state is None:
            return _CONNMARK
        return (skb.connmark & self.mask == self.value) != self.negated


class AddressType(msgspec.Struct, frozen=True, gc=False):
    """``--src-type`` and ``--dst-type`` without a device: what the kernel's local table says of the address."""

    side: Literal["source", "destination"]
    wanted: frozenset[str]
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:
        """Whether it is of one of these types."""
        found = kind_of(skb, host, self.side)
        if isinstance(found, Unknown):
            return found
        if skb.family == 6 and not self.wanted <= _SIX_TYPES:
            return Unknown(f"whether its {self.side} is of the type {','.join(sorted(self.wanted))} is not known")
        kinds = {self._is(kind, skb.family) for kind in found}
        if len(kinds) > 1:
            return Unknown(f"whether its {self.side} is {' or '.join(sorted(found)).lower()} is not known")
        return kinds.pop() != self.negated

    def _is(self, kind: str, family: int) -> bool:
        return _is_six(kind, self.wanted) if family == 6 else kind in self.wanted


def _is_six(kind: str, wanted: frozenset[str]) -> bool:
    """As xt_addrtype.c has it for IPv6 (match_type6): every type that is named must hold, and LOCAL is UNICAST too."""
    if "MULTICAST" in wanted and kind != "MULTICAST":
        return False
    if "UNICAST" in wanted and kind == "MULTICAST":
        return False
    return "LOCAL" not in wanted or kind == "LOCAL"


def kind_of(skb: Skb, host: Host, side: Literal["source", "destination"]) -> frozenset[str] | Unknown:
    """The types that an address may be of."""
    address = skb.source if side == "source" else skb.destination
    local = skb.local if side == "destination" else skb.from_here or None
    if address is None:
        return frozenset({"LOCAL"}) if local else Unknown(f"its {side} address is not said")
    fixed = _fixed_kind(address, skb.family)
    if fixed is not None:
        return fixed if isinstance(fixed, Unknown) else frozenset({fixed})
    if host.addresses is not None:
        return _kind_there(address, skb.family, host)
    if side == "source" and (local or skb.in_device not in (None, "lo")):
        # Of its own addresses and of broadcasts the kernel takes none in from elsewhere (ip_route_input_slow).
        return frozenset({"LOCAL" if local else "UNICAST"})
    broadcast = {"BROADCAST"} if may_be_broadcast(address, skb.family) else set[str]()
    if local is not None:
        # What is forwarded was for one host; what is sent or taken in may be for all.
        return frozenset({"LOCAL"} | broadcast if local else {"UNICAST"} | (broadcast if skb.from_here else set()))
    return frozenset({"LOCAL", "UNICAST"} | broadcast)


def _kind_there(address: int, family: int, host: Host) -> frozenset[str] | Unknown:
    """What an address is on a host of which all are known."""
    if host.addresses is not None and (address, family) in host.addresses:
        return frozenset({"LOCAL"})
    if family == 4 and address in host.networks:
        return Unknown("what the first address of a network is differs between kernels")
    return frozenset({"BROADCAST" if family == 4 and address in host.broadcasts else "UNICAST"})


def _fixed_kind(address: int, family: int) -> str | Unknown | None:
    """What an address is on every host; None where that depends on the host."""
    if family == 6:
        if address == 0:
            return Unknown("what the address :: is depends on the kernel")
        return "MULTICAST" if address >> 120 == 255 else "LOCAL" if address == 1 else None
    if address in (0, 0xFFFFFFFF):
        return "BROADCAST"
    if address >> 24 == 0:
        return Unknown("what 0.0.0.0/8 is differs between kernels")
    return "MULTICAST" if address >> 28 == 14 else "LOCAL" if address >> 24 == 127 else None


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """``-m limit`` and ``hashlimit``: whether this packet is within the rate."""

    name: str
    above: bool = False
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether a bucket is as full as it asks for."""
        if host.bucket is None:
            return Unknown(f"whether the rate of {self.name} is used up is not known")
        return ((host.bucket == "empty") == self.above) != self.negated


class PhysicalDevice(msgspec.Struct, frozen=True, gc=False):
    """``-m physdev``: the bridge's ports, which only bridge-nf tells."""

    wanted: bool
    """Whether any option is not negated: then a packet of no bridge does not match."""

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether it came through such ports."""
        if skb.bridged is False:
            return not self.wanted
        return Unknown("through which ports of a bridge it comes is not known")


class Ipsec(msgspec.Struct, frozen=True, gc=False):
    """``-m policy``: whether IPsec protected it, or will."""

    inward: bool
    none: bool

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether it did; what is asked about arrives in the clear."""
        if self.inward:
            return self.none
        return Unknown("whether a policy of IPsec holds for it is not known")


class ReversePath(msgspec.Struct, frozen=True, gc=False):
    """``-m rpfilter``: whether an answer would go back the way that the packet came."""

    inverted: bool

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """It does through lo; else routes decide, which are not known here (ipt_rpfilter.c, rpfilter_mt)."""
        if skb.in_device == "lo":
            return not self.inverted
        return Unknown("whether an answer goes back by the device that it arrives on is not known")


class Owner(msgspec.Struct, frozen=True, gc=False):
    """``-m owner``: whose socket sent it."""

    negated: bool
    """Whether all of its options are: then a packet without a socket matches."""

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether such a socket sent it."""
        if not skb.from_here:
            return self.negated
        return Unknown("which process sends it is not said")


class Helper(msgspec.Struct, frozen=True, gc=False):
    """``-m helper``: whether a helper expected its connection."""

    negated: bool

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether one did; a new flow that nobody expected has none."""
        if skb.state in ("RELATED", "ESTABLISHED", None):
            return _NO_FLOW
        return self.negated
