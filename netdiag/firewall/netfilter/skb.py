"""What netfilter sees of one packet, and what it knows of the host: the inputs of every match.

Every field may be unknown, and a match that asks for an unknown one says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from netdiag.firewall.netfilter.sets import IpSet

TCP, UDP, ICMP, ICMPV6, DCCP, SCTP, UDPLITE = 6, 17, 1, 58, 33, 132, 136
WITH_PORTS = frozenset({TCP, UDP, DCCP, SCTP, UDPLITE})
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TCP_FLAGS: Mapping[str, int] = {
    "fin": FIN,
    "syn": SYN,
    "rst": RST,
    "psh": PSH,
    "ack": ACK,
    "urg": URG,
    "ece": ECE,
    "cwr": CWR,
}
STATES = frozenset({"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"})
_VALID_FLAGS = frozenset(
    {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG}
)  # tcp_valid_flags, net/netfilter/nf_conntrack_proto_tcp.c; PSH, ECE and CWR are ignored
_ICMP_OPENS = frozenset({8, 13, 15, 17})
_ICMPV6_OPENS = frozenset({128, 139})
_ICMPV6_UNTRACKED = frozenset({130, 131, 132, 133, 134, 135, 136, 143})


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """What cannot be told, and why."""

    reason: str


Truth = bool | Unknown
"""Three-valued."""


class Tuple(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends to whom, as conntrack knows a flow; None is "not known"."""

    source: int | None = None
    destination: int | None = None
    source_port: int | None = None
    destination_port: int | None = None


class Skb(msgspec.Struct, frozen=True, kw_only=True):
    """One packet at one place; not a fragment, and without extension headers.

    Attributes:
        family: 4 or 6.
        source: As a number, like ``destination``.
        tcp_flags: Bits as in the header.
        length: Bytes of the whole IP packet.
        tos: Type of service or traffic class.
        state: What conntrack calls it; None before conntrack has seen it is INVALID, as the kernel says then.
        dnat: Whether its connection has another destination, and ``snat`` source; None is "not known".
        in_device: Empty where the hook has none, None where it is not said; the same of ``out_device``.
        local: Whether its destination is an address of this host; None is "not known".
        from_here: Whether this host sends it.
        bridged: Whether a bridge's port took it in, so that bridge-nf may tell which; None is "not known".
        original: The flow as conntrack knows it, before any rewriting.
        changed_sets: Sets to which a rule may have added it, or from which one may have taken it.
    """

    family: int
    protocol: int
    source: int | None = None
    destination: int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    tcp_flags: int | None = None
    ttl: int | None = 64
    tos: int | None = 0
    length: int | None = None
    mark: int | None = 0
    connmark: int | None = 0
    state: str | None = "INVALID"
    dnat: bool | None = False
    snat: bool | None = False
    in_device: str | None = None
    out_device: str | None = None
    mac: str | None = None
    local: bool | None = None
    from_here: bool = False
    bridged: bool | None = None
    original: Tuple | None = None
    changed_sets: frozenset[str] = frozenset()


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the host beside its rules.

    Attributes:
        addresses: All of its own addresses, by number and family; None where they are not known.
        broadcasts: The broadcast addresses of its IPv4 networks.
        networks: The first addresses of its IPv4 networks, which are broadcasts too for kernels before 5.14.
        first_addresses: The first IPv4 address of each device, by the device's name.
        sets: Its ipsets by name; None where they are not known.
        bucket: Whether the buckets of limit and hashlimit are full or empty; None is "not known".
        bridges: Its bridges' names; None where they are not known.
        ports: By the name of a port of a bridge or member of a bond, the device in whose name IP takes its packets; empty
            for a device of another kind of master (of a VRF's the device changes between the hooks).
    """

    addresses: frozenset[tuple[int, int]] | None = None
    broadcasts: frozenset[int] = frozenset()
    networks: frozenset[int] = frozenset()
    first_addresses: Mapping[str, int] = msgspec.field(default_factory=dict)
    sets: Mapping[str, IpSet] | None = None
    bucket: Literal["full", "empty"] | None = None
    bridges: frozenset[str] | None = None
    ports: Mapping[str, str] = msgspec.field(default_factory=dict)


def first_state(skb: Skb) -> str:
    """What conntrack calls a packet of which it knows no flow yet.

    Sources: nf_conntrack_proto_tcp.c (tcp_new, with nf_conntrack_tcp_loose on, its default), _icmp.c, _icmpv6.c.
    """
    if skb.protocol == TCP:
        flags = (SYN if skb.tcp_flags is None else skb.tcp_flags) & ~(PSH | ECE | CWR)
        opens = flags in _VALID_FLAGS and not flags & RST and flags & (SYN | ACK) != SYN | ACK and not flags & FIN
        return "NEW" if opens else "INVALID"
    if skb.protocol == ICMP and skb.family == 4:
        return "NEW" if skb.icmp_type in _ICMP_OPENS else "INVALID"
    if skb.protocol == ICMPV6 and skb.family == 6:
        if skb.icmp_type in _ICMPV6_UNTRACKED:
            return "UNTRACKED"
        return "NEW" if skb.icmp_type in _ICMPV6_OPENS else "INVALID"
    return "NEW"
