"""ipsets: whether a packet is in one.

Sources: net/netfilter/ipset/ip_set_core.c (ip_set_test), ip_set_hash_*.c, ip_set_bitmap_*.c, ip_set_list_set.c,
pfxlen.c.
"""

from __future__ import annotations

import msgspec

from netdiag.firewall.netfilter.skb import DCCP, ICMP, ICMPV6, TCP, UDP, WITH_PORTS, Host, Skb, Truth, Unknown

DIMENSIONS = {
    "bitmap:ip": ("ip",),
    "bitmap:ip,mac": ("ip", "mac"),
    "bitmap:port": ("bare-port",),
    "hash:ip": ("ip",),
    "hash:net": ("net",),
    "hash:mac": ("mac",),
    "hash:ip,mac": ("ip", "mac"),
    "hash:ip,mark": ("ip", "mark"),
    "hash:ip,port": ("ip", "port"),
    "hash:net,port": ("net", "port"),
    "hash:net,net": ("net", "net"),
    "hash:net,iface": ("net", "iface"),
    "hash:ip,port,ip": ("ip", "port", "ip"),
    "hash:ip,port,net": ("ip", "port", "net"),
    "hash:net,port,net": ("net", "port", "net"),
    "list:set": (),
}
"""What each type compares, in the order of the match's flags; types that are not here are not modelled."""
_MAX_NESTED = 8
_WITH_PORTS = WITH_PORTS - {DCCP}
"""Of other protocols the port is 0 (ip_set_getport.c, get_port)."""


class IpSet(msgspec.Struct, frozen=True, kw_only=True):
    """One set: its type, family, and members by the masks of their networks.

    Attributes:
        members: By the masks that its addresses have, each member's key and whether it is an exception (nomatch).
        netmask: What addresses are cut to before they are compared.
        nested: The sets of a ``list:set``.
        reason: Why nothing can be said of it; empty otherwise.
    """

    name: str
    kind: str
    family: int = 4
    members: dict[tuple[int, ...], dict[tuple[int, ...], bool]] = msgspec.field(default_factory=dict)
    netmask: int = -1
    markmask: int = 0xFFFFFFFF
    nested: tuple[str, ...] = ()
    reason: str = ""


class SetMatch(msgspec.Struct, frozen=True, gc=False):
    """``--match-set``."""

    name: str
    flags: tuple[str, ...]
    negated: bool = False

    def holds(self, skb: Skb, host: Host) -> Truth:
        """Whether the packet is in the set."""
        found = _contains(self.name, self.flags, skb, host, 0)
        return found if isinstance(found, Unknown) else found != self.negated


def device_number(name: str) -> int:
    """The name of a device as a number, so that it is compared like an address."""
    return int.from_bytes(name.encode(), "big")


def _contains(name: str, flags: tuple[str, ...], skb: Skb, host: Host, depth: int) -> Truth:
    if name in skb.changed_sets:
        return Unknown(f"a rule may have put it into the set {name}, or taken it from there")
    if host.sets is None or name not in host.sets or depth > _MAX_NESTED:
        return Unknown(f"what the set {name} holds is not known")
    found = host.sets[name]
    if found.reason:
        return Unknown(f"set {name}: {found.reason}")
    if found.kind == "list:set":
        results = [_contains(inner, flags, skb, host, depth + 1) for inner in found.nested]
        if any(result is True for result in results):
            return True
        return next((result for result in results if isinstance(result, Unknown)), False)
    if len(flags) < len(DIMENSIONS[found.kind]):
        return False
    if found.kind not in ("bitmap:port", "hash:mac") and found.family != skb.family:
        return False
    values = _values(found, flags, skb)
    return _holds(found, values) if isinstance(values, list) else values


def _values(found: IpSet, flags: tuple[str, ...], skb: Skb) -> list[int] | Truth:
    """What the packet is compared with, one value a dimension; else whether it is in the set all the same."""
    values: list[int] = []
    for what, flag in zip(DIMENSIONS[found.kind], flags, strict=False):
        value = _port(what, flag, skb) if what in ("port", "bare-port") else _address(what, flag, skb)
        if value is None:
            return False
        if isinstance(value, Unknown):
            return value if found.members else False
        if what == "ip" and found.netmask != -1:
            value &= found.netmask
        values.append(value & found.markmask if what == "mark" else value)
    return values


def _holds(found: IpSet, values: list[int]) -> bool:
    """The most specific member decides: an exception within a network is none of its members."""
    for masks, keys in found.members.items():
        exception = keys.get(tuple(value & mask for value, mask in zip(values, masks, strict=True)))
        if exception is not None:
            return not exception
    return False


def _address(what: str, flag: str, skb: Skb) -> int | Unknown | None:
    """An address, a mark or a MAC address; None where the packet has no such thing, and is in no set for it."""
    source = flag == "src"
    if what in ("ip", "net"):
        address = skb.source if source else skb.destination
        return Unknown(f"its {'source' if source else 'destination'} is not said") if address is None else address
    if what == "iface":
        device = skb.in_device if source else skb.out_device
        return Unknown("the name of its device is not said") if device is None else device_number(device) or None
    if what == "mark":
        return Unknown("its mark is not known") if skb.mark is None else skb.mark
    if skb.from_here or skb.in_device == "lo":
        return None
    if not source:
        return Unknown("to which MAC address its frame was sent is not said")
    return Unknown("its source MAC address is not said") if skb.mac is None else int(skb.mac.replace(":", ""), 16)


def _port(what: str, flag: str, skb: Skb) -> int | Unknown | None:
    """A port, with its protocol above 16 bits where the set knows protocols; of ICMP type and code."""
    source, bare = flag == "src", what == "bare-port"
    if skb.protocol in (ICMP, ICMPV6):
        if bare:
            return None
        if skb.icmp_type is None or skb.icmp_code is None:
            return Unknown("its ICMP type is not said")
        return skb.protocol << 16 | skb.icmp_type << 8 | skb.icmp_code
    if skb.protocol not in _WITH_PORTS:
        return None if bare else skb.protocol << 16
    if bare and skb.protocol not in (TCP, UDP):
        return Unknown("whether a set of ports holds such a protocol is not known")
    port = skb.source_port if source else skb.destination_port
    if port is None:
        return Unknown(f"its {'source' if source else 'destination'} port is not said")
    return port if bare else skb.protocol << 16 | port
