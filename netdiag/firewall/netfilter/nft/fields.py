"""The headers of a packet as nft names their fields.

Sources: nftables src/proto.c; net/netfilter/nft_payload.c. A field implies its header: nft lists no dependency that it can
tell from the field itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netdiag.firewall.netfilter.nft.types import TYPES, Type
from netdiag.firewall.netfilter.nft.values import BREAK, Atom, Expression, Loaded, NotKnown, Scene, Values
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, TCP, WITH_PORTS, Skb, Truth, Unknown

_PROTOCOLS = {
    "tcp": TCP,
    "udp": 17,
    "udplite": 136,
    "sctp": 132,
    "dccp": 33,
    "esp": 50,
    "ah": 51,
    "comp": 108,
    "igmp": 2,
    "gre": 47,
}
_NO_MAC = Unknown("its source MAC address is not said")


def _said(number: int | None, what: str) -> Atom:
    return Unknown(f"its {what} is not said") if number is None else number


def _length(skb: Skb) -> Atom:
    if skb.length is None:
        return Unknown("its length is not said")
    return skb.length if skb.family == 4 else max(skb.length - 40, 0)


def _tos(shift: int, mask: int) -> Callable[[Skb], Atom]:
    def load(skb: Skb) -> Atom:
        return Unknown("its type of service is not known") if skb.tos is None else skb.tos >> shift & mask

    return load


def _port(side: str) -> Callable[[Skb], Atom]:
    def load(skb: Skb) -> Atom:
        if skb.protocol not in WITH_PORTS:
            return Unknown("what stands in the place of a port is not known")
        return _said(skb.source_port if side == "source" else skb.destination_port, f"{side} port")

    return load


def _ttl(skb: Skb) -> Atom:
    return Unknown("its TTL is not known") if skb.ttl is None else skb.ttl


_IP: Mapping[str, tuple[str, Callable[[Skb], Atom]]] = {
    "saddr": ("", lambda skb: _said(skb.source, "source address")),
    "daddr": ("", lambda skb: _said(skb.destination, "destination")),
    "length": ("inet_service", _length),
    "dscp": ("dscp", _tos(2, 63)),
    "ecn": ("ecn", _tos(0, 3)),
}
_PORTS: Mapping[str, tuple[str, Callable[[Skb], Atom]]] = {
    "sport": ("inet_service", _port("source")),
    "dport": ("inet_service", _port("destination")),
}
_FIELDS: Mapping[str, Mapping[str, tuple[str, Callable[[Skb], Atom]]]] = {
    "ip": {
        **_IP,
        "version": ("integer", lambda skb: 4),  # noqa: ARG005 - as all loaders are
        "ttl": ("integer", _ttl),
        "protocol": ("inet_proto", lambda skb: skb.protocol),
    },
    "ip6": {
        **_IP,
        "version": ("integer", lambda skb: 6),  # noqa: ARG005
        "hoplimit": ("integer", _ttl),
        "nexthdr": ("inet_proto", lambda skb: skb.protocol),
    },
    "tcp": {**_PORTS, "flags": ("tcp_flag", lambda skb: _said(skb.tcp_flags, "TCP flags"))},
    "udp": _PORTS,
    "udplite": _PORTS,
    "sctp": _PORTS,
    "dccp": _PORTS,
    "th": _PORTS,
    "icmp": {
        "type": ("icmp_type", lambda skb: _said(skb.icmp_type, "ICMP type")),
        "code": ("icmp_code", lambda skb: _said(skb.icmp_code, "ICMP type")),
    },
    "icmpv6": {
        "type": ("icmpv6_type", lambda skb: _said(skb.icmp_type, "ICMP type")),
        "code": ("icmpv6_code", lambda skb: _said(skb.icmp_code, "ICMP type")),
    },
}
_OPAQUE: Mapping[tuple[str, str], str] = {
    ("ip", "id"): "inet_service",
    ("ip", "checksum"): "inet_service",
    ("ip", "hdrlength"): "integer",
    ("ip6", "flowlabel"): "integer",
    ("ether", "daddr"): "ether_addr",
    ("vlan", "type"): "ether_type",
}


_PLACES: Mapping[str, tuple[int, int]] = {
    "ip length": (2, 2), "ip id": (4, 2), "ip frag-off": (6, 2), "ip ttl": (8, 1), "ip protocol": (9, 1),
    "ip checksum": (10, 2), "ip saddr": (12, 4), "ip daddr": (16, 4),
    "ip6 length": (4, 2), "ip6 nexthdr": (6, 1), "ip6 hoplimit": (7, 1), "ip6 saddr": (8, 16), "ip6 daddr": (24, 16),
    **{f"{name} {side}": place for name in ("tcp", "udp", "udplite", "sctp", "dccp", "th")
       for side, place in (("sport", (0, 2)), ("dport", (2, 2)))},
    "tcp flags": (13, 1), "tcp window": (14, 2), "icmp type": (0, 1), "icmp code": (1, 1),
    "icmpv6 type": (0, 1), "icmpv6 code": (1, 1), "ether daddr": (0, 6), "ether saddr": (6, 6), "ether type": (12, 2),
}  # fmt: skip
"""Where a field begins in its header, and how many bytes it has."""


def adjoin(one: str, other: str) -> bool:
    """Whether of two fields the other begins where the one ends."""
    first, second = _PLACES.get(one), _PLACES.get(other)
    same = one.partition(" ")[0] == other.partition(" ")[0]
    return same and first is not None and second is not None and first[0] + first[1] == second[0]


def has_header(protocol: str, skb: Skb) -> Truth:
    """Whether the packet has such a header."""
    if protocol in ("ip", "ip6"):
        return skb.family == (4 if protocol == "ip" else 6)
    if protocol in ("icmp", "icmpv6"):
        number, family = (ICMP, 4) if protocol == "icmp" else (ICMPV6, 6)
        if skb.protocol != number:
            return False
        return True if skb.family == family else Unknown(f"whether {protocol} in IPv{skb.family} is asked is not known")
    if protocol == "arp":
        return False
    if protocol in _PROTOCOLS:
        return skb.protocol == _PROTOCOLS[protocol]
    if protocol == "th":
        return True
    return Unknown(f"whether it has a header {protocol} is not known")


def payload(protocol: str, field: str) -> Expression:
    """The field of a header; what no packet is described by is not known, where its header is there at all."""
    text = f"{protocol} {field}"
    if protocol == "ether" and field in ("saddr", "type"):
        return Loaded(text, TYPES["ether_addr" if field == "saddr" else "ether_type"], _ether(field))
    if text == "ip frag-off":
        return Loaded(text, TYPES["inet_service"], _fragment_offset)
    known = _FIELDS.get(protocol, {}).get(field)
    if known is None:
        kind = TYPES[_OPAQUE.get((protocol, field), "integer")]
        reason = Unknown(f"its {text} is not known")
        return Loaded(text, kind, _behind(protocol, lambda skb: reason))  # noqa: ARG005
    name, load = known
    kind = TYPES[name] if name else TYPES["ipv4_addr" if protocol == "ip" else "ipv6_addr"]
    if name == "integer" and field in ("ttl", "hoplimit"):
        kind = Type("integer", 8)
    return Loaded(text, kind, _behind(protocol, load))


def _behind(protocol: str, load: Callable[[Skb], Atom]) -> Callable[[Skb, Scene], Values]:
    """The field, where its header is there."""

    def loaded(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
        there = has_header(protocol, skb)
        if there is False:
            return (BREAK,)
        return (load(skb),) if there is True else (there,)

    return loaded


def _ether(field: str) -> Callable[[Skb, Scene], Values]:
    """Of the frame that it arrived in; what this host sends has none yet."""

    def loaded(skb: Skb, scene: Scene) -> Values:
        if skb.from_here and skb.in_device != "lo":
            return (BREAK,) if scene.hook != "EGRESS" else (_NO_MAC,)
        if skb.mac is None or skb.in_device == "lo":
            return (_NO_MAC,)
        return (int(skb.mac.replace(":", ""), 16) if field == "saddr" else 0x0800 if skb.family == 4 else 0x86DD,)

    return loaded


def _fragment_offset(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
    """The packet is no fragment; whether it may become one (DF) is not known."""
    return (0, 0x4000) if skb.family == 4 else (BREAK,)


def raw_payload(base: str, offset: int, bits: int) -> Expression:
    """Bits at a place of the packet."""
    text = f"@{base},{offset},{bits}"
    return NotKnown(text, Type("integer", min(max(bits, 1), 512)), f"what stands at {text} is not known")
