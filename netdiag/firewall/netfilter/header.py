"""Matches about a packet's headers: IP, TCP, UDP, ICMP, and what Ethernet says.

Sources: net/ipv4/netfilter/ip_tables.c (ip_packet_match), net/netfilter/xt_tcpudp.c, xt_multiport.c, xt_iprange.c,
xt_length.c, xt_hl.c, xt_dscp.c, xt_mac.c, xt_pkttype.c, xt_ecn.c.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, TCP, WITH_PORTS, Host, Skb, Truth, Unknown

_NO_ADDRESS = {
    "source": Unknown("its source address is not said"),
    "destination": Unknown("its destination is not said"),
}
_NO_PORT = {
    "source": Unknown("its source port is not said"),
    "destination": Unknown("its destination port is not said"),
}
_NO_DEVICE = {
    "in": Unknown("the device that it arrives on is not said"),
    "out": Unknown("the device that it leaves by is not said"),
}
_NO_LENGTH = Unknown("its length is not said")
_NO_TTL = Unknown("its TTL is not known")
_NO_TOS = Unknown("its type of service is not known")
_NO_ICMP = Unknown("its ICMP type is not said")
_NO_ICMP_CODE = Unknown("the code of its ICMP type is not said")
_NO_FLAGS = Unknown("its TCP flags are not said")
_NO_MAC = Unknown("its source MAC address is not said")
Side = Literal["source", "destination"]


class Always(msgspec.Struct, frozen=True, gc=False):
    """A condition that every packet of the model meets, or none does: comments, fragments, extension headers."""

    truth: bool = True

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """What it always is."""
        return self.truth


class Protocol(msgspec.Struct, frozen=True, gc=False):
    """``-p``; 0 is every protocol."""

    number: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether it is of this protocol."""
        return (self.number in (0, skb.protocol)) != self.negated


class Network(msgspec.Struct, frozen=True, gc=False):
    """``-s`` and ``-d``."""

    side: Side
    network: int
    mask: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the address is in the network."""
        address = skb.source if self.side == "source" else skb.destination
        if address is None:
            return not self.negated if not self.mask else _NO_ADDRESS[self.side]
        return (address & self.mask == self.network) != self.negated


class Range(msgspec.Struct, frozen=True, gc=False):
    """``-m iprange``."""

    side: Side
    first: int
    last: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the address is in the range."""
        address = skb.source if self.side == "source" else skb.destination
        if address is None:
            return _NO_ADDRESS[self.side]
        return (self.first <= address <= self.last) != self.negated


class Device(msgspec.Struct, frozen=True, gc=False):
    """``-i`` and ``-o``; a name that ends with + stands for all that begin so. A hook without one has an empty name."""

    side: Literal["in", "out"]
    name: str
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether it arrives on, or leaves by, such a device."""
        device = skb.in_device if self.side == "in" else skb.out_device
        if self.name == "+":
            return not self.negated
        if device is None:
            return _NO_DEVICE[self.side]
        alike = device.startswith(self.name[:-1]) if self.name.endswith("+") else device == self.name
        return alike != self.negated


def may_be_broadcast(address: int, family: int) -> bool:
    """Whether it ends as the broadcast address of a network of 24 or 25 bits does; of smaller ones hosts have such too."""
    return family == 4 and address & 0x7F == 0x7F


def port_of(skb: Skb, side: Side) -> int | None:
    """Its port at this side."""
    return skb.source_port if side == "source" else skb.destination_port


class Ports(msgspec.Struct, frozen=True, gc=False):
    """``--sport`` and ``--dport`` of tcp, udp, sctp and dccp."""

    side: Side
    first: int
    last: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the port is among them."""
        port = skb.source_port if self.side == "source" else skb.destination_port
        if port is None:
            return _NO_PORT[self.side] if (self.first, self.last) != (0, 65535) else not self.negated
        return (self.first <= port <= self.last) != self.negated


class Multiport(msgspec.Struct, frozen=True, gc=False):
    """``-m multiport``: ranges for one side, or for either."""

    sides: tuple[Side, ...]
    ranges: tuple[tuple[int, int], ...]
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether one of the ports is among them."""
        if skb.protocol not in WITH_PORTS:
            return False
        unknown: Unknown | None = None
        for side in self.sides:
            port = port_of(skb, side)
            if port is None:
                unknown = _NO_PORT[side]
            elif any(first <= port <= last for first, last in self.ranges):
                return not self.negated
        return self.negated if unknown is None else unknown


class Flags(msgspec.Struct, frozen=True, gc=False):
    """``--tcp-flags`` and ``--syn``."""

    mask: int
    wanted: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the flags under the mask are just these."""
        if skb.tcp_flags is None:
            return _NO_FLAGS
        return (skb.tcp_flags & self.mask == self.wanted) != self.negated


class Icmp(msgspec.Struct, frozen=True, gc=False):
    """``--icmp-type`` and ``--icmpv6-type``; type 255 of ICMP is any."""

    kind: int
    first: int
    last: int
    negated: bool = False
    six: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether type and code are these."""
        if skb.protocol != (ICMPV6 if self.six else ICMP):
            return False
        if self.kind == 255 and not self.six:
            return not self.negated
        if skb.icmp_type is None:
            return _NO_ICMP
        if skb.icmp_type != self.kind or (self.first, self.last) == (0, 255):
            return (skb.icmp_type == self.kind) != self.negated
        if skb.icmp_code is None:
            return _NO_ICMP_CODE
        return (self.first <= skb.icmp_code <= self.last) != self.negated


class Between(msgspec.Struct, frozen=True, gc=False):
    """``-m length``, ``ttl`` and ``hl``: a field between two numbers."""

    field: Literal["length", "ttl"]
    first: int
    last: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the field is between them."""
        number = skb.length if self.field == "length" else skb.ttl
        if number is None:
            return _NO_LENGTH if self.field == "length" else _NO_TTL
        return (self.first <= number <= self.last) != self.negated


class Tos(msgspec.Struct, frozen=True, gc=False):
    """``-m tos`` and ``dscp``: bits of the type of service."""

    value: int
    mask: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the bits are these."""
        if skb.tos is None:
            return _NO_TOS
        return (skb.tos & self.mask == self.value) != self.negated


class EcnFlag(msgspec.Struct, frozen=True, gc=False):
    """``--ecn-tcp-cwr`` and ``--ecn-tcp-ece``."""

    bit: int
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether the flag is set; of no other protocol, negated or not."""
        if skb.protocol != TCP:
            return False
        if skb.tcp_flags is None:
            return _NO_FLAGS
        return bool(skb.tcp_flags & self.bit) != self.negated


class Mac(msgspec.Struct, frozen=True, gc=False):
    """``--mac-source``."""

    address: str
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002
        """Whether its frame is from there; what came in no frame of Ethernet's never matches."""
        if skb.from_here or skb.in_device == "lo":
            return False
        if skb.mac is None:
            return _NO_MAC
        return (skb.mac == self.address) != self.negated


class PacketType(msgspec.Struct, frozen=True, gc=False):
    """``--pkt-type``."""

    kind: Literal["unicast", "broadcast", "multicast"]
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:
        """Whether its frame was for this host, for a group, or for all; a rule that rewrote the address changed no frame."""
        if skb.from_here:
            return Unknown("how a packet that this host sends is addressed in its frame is not modelled")
        to = skb.original.destination if skb.original is not None else skb.destination
        if to is None:
            return _NO_ADDRESS["destination"]
        group = to >> 28 == 14 if skb.family == 4 else to >> 120 == 255
        if group:
            return (self.kind == "multicast") != self.negated
        if skb.family == 4 and (to in host.broadcasts or to == 0xFFFFFFFF):
            return (self.kind == "broadcast") != self.negated
        if host.addresses is None and may_be_broadcast(to, skb.family):
            return Unknown("whether its destination is a network's broadcast address is not known")
        return (self.kind == "unicast") != self.negated
