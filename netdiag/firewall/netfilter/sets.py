"""ipsets: what ``ipset save`` and ``ipset list`` print, and whether a packet is in one.

Sources: net/netfilter/ipset/ip_set_core.c (ip_set_test), ip_set_hash_*.c, ip_set_bitmap_*.c, ip_set_list_set.c,
pfxlen.c; ipset's session.c for the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from netdiag.firewall.netfilter.addresses import read_address, read_network, read_number
from netdiag.firewall.netfilter.rules import Problem
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, TCP, UDP, WITH_PORTS, Host, Skb, Truth, Unknown
from netdiag.model.protocols import number_of

_DIMENSIONS = {
    "bitmap:ip": ("ip",),
    "bitmap:port": ("bare-port",),
    "hash:ip": ("ip",),
    "hash:net": ("net",),
    "hash:mac": ("mac",),
    "hash:ip,mark": ("ip", "mark"),
    "hash:ip,port": ("ip", "port"),
    "hash:net,port": ("net", "port"),
    "hash:net,net": ("net", "net"),
    "hash:ip,port,ip": ("ip", "port", "ip"),
    "hash:ip,port,net": ("ip", "port", "net"),
    "hash:net,port,net": ("net", "port", "net"),
    "list:set": (),
}
"""What each type compares, in the order of the match's flags; types that are not here are not modelled."""
_OLD = {
    "iphash": "hash:ip",
    "nethash": "hash:net",
    "ipmap": "bitmap:ip",
    "portmap": "bitmap:port",
    "setlist": "list:set",
}
_MAX_NESTED = 8


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


def _contains(name: str, flags: tuple[str, ...], skb: Skb, host: Host, depth: int) -> Truth:
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
    dimensions = _DIMENSIONS[found.kind]
    if len(flags) < len(dimensions):
        return False
    if found.kind not in ("bitmap:port", "hash:mac") and found.family != skb.family:
        return False
    values: list[int] = []
    for what, flag in zip(dimensions, flags, strict=False):
        value = _value(what, flag, skb)
        if value is None:
            return False
        if isinstance(value, Unknown):
            return value if found.members else False
        values.append(value & found.netmask if what == "ip" and found.netmask != -1 else value)
    if found.kind == "hash:ip,mark":
        values[1] &= found.markmask
    # The most specific member decides: an exception within a network is none of its members.
    for masks, keys in found.members.items():
        exception = keys.get(tuple(value & mask for value, mask in zip(values, masks, strict=True)))
        if exception is not None:
            return not exception
    return False


def _value(what: str, flag: str, skb: Skb) -> int | Unknown | None:
    """What the packet is compared with; None where it has no such thing, and is in no set for it."""
    source = flag == "src"
    if what in ("ip", "net"):
        address = skb.source if source else skb.destination
        return (
            Unknown(f"its {'source' if source else 'destination'} address is not said") if address is None else address
        )
    if what == "mark":
        return Unknown("its mark is not known") if skb.mark is None else skb.mark
    if what == "mac":
        if not source or skb.from_here or skb.in_device == "lo":
            return None
        return Unknown("its source MAC address is not said") if skb.mac is None else int(skb.mac.replace(":", ""), 16)
    if skb.protocol in (ICMP, ICMPV6):
        if what == "bare-port":
            return None
        if skb.icmp_type is None or skb.icmp_code is None:
            return Unknown("its ICMP type is not said")
        return skb.protocol << 16 | skb.icmp_type << 8 | skb.icmp_code
    if skb.protocol not in WITH_PORTS:
        return None if what == "bare-port" else skb.protocol << 16
    if what == "bare-port" and skb.protocol not in (TCP, UDP):
        return Unknown("whether a set of ports holds such a protocol is not known")
    port = skb.source_port if source else skb.destination_port
    if port is None:
        return Unknown(f"its {'source' if source else 'destination'} port is not said")
    return port if what == "bare-port" else skb.protocol << 16 | port


class _Building:
    """A set while its lines are read."""

    def __init__(self, name: str, kind: str, words: list[str]) -> None:
        self.name = name
        self.kind = _OLD.get(kind, kind)
        self.family = 6 if "inet6" in words else 4
        self.reason = "" if self.kind in _DIMENSIONS else f"sets of the type {kind} are not modelled"
        self.netmask = -1
        self.markmask = 0xFFFFFFFF
        self.nested: list[str] = []
        self.members: dict[tuple[int, ...], dict[tuple[int, ...], bool]] = {}
        for option, value in zip(words, words[1:], strict=False):
            if option == "netmask" and value.isdigit():
                bits = 128 if self.family == 6 else 32
                self.netmask = ((1 << int(value)) - 1) << max(0, bits - int(value))
            elif option == "markmask":
                self.markmask = read_number(value, 0xFFFFFFFF)
            elif option == "bitmask":
                self.reason = "a set with a bitmask is not modelled"

    def add(self, written: str, options: list[str]) -> None:
        """Add a member. Raises ValueError for one that is not understood."""
        if self.reason:
            return
        if self.kind == "list:set":
            if any(option in ("before", "after") for option in options):
                raise ValueError("its place in the list")
            self.nested.append(written)
            return
        parts = written.split(",")
        dimensions = _DIMENSIONS[self.kind]
        if len(parts) != len(dimensions):
            raise ValueError(f"{len(dimensions)} parts are wanted")
        choices = [list(self._part(what, part)) for what, part in zip(dimensions, parts, strict=True)]
        for key in _product(choices):
            masks = tuple(mask for _, mask in key)
            values = tuple(value for value, _ in key)
            self.members.setdefault(masks, {})[values] = "nomatch" in options

    def _part(self, what: str, text: str) -> Iterator[tuple[int, int]]:
        """Values and masks of one part of a member; ranges give several."""
        if what in ("ip", "net"):
            low, dash, high = text.partition("-")
            if dash:
                yield from _networks(read_address(low, self.family), read_address(high, self.family), self.family)
                return
            network, mask = read_network(text, self.family)
            if what == "ip" and self.netmask != -1:
                network, mask = network & self.netmask, -1
            elif what == "ip" and "/" not in text:
                mask = -1
            yield network, mask
        elif what == "mark":
            yield read_number(text, 0xFFFFFFFF) & self.markmask, -1
        elif what == "mac":
            yield int(text.replace(":", ""), 16), -1
        else:
            protocol, colon, ports = text.rpartition(":")
            number = 0 if what == "bare-port" else number_of(protocol.lower()) if colon else TCP
            if number is None:
                raise ValueError(f"protocol {protocol}")
            if number in (ICMP, ICMPV6) and "/" in ports:
                kind, _, code = ports.partition("/")
                yield number << 16 | read_number(kind, 255) << 8 | read_number(code, 255), -1
                return
            low, dash, high = ports.partition("-")
            first, last = read_number(low, 65535), read_number(high if dash else low, 65535)
            yield from ((number << 16 | port, -1) for port in range(first, last + 1))

    def built(self) -> IpSet:
        """The set, its most specific masks first."""
        order = sorted(self.members, key=lambda masks: [-_width(mask) for mask in masks])
        reason = self.reason
        exceptions = any(any(keys.values()) for keys in self.members.values())
        if exceptions and len(order) > 1 and len(order[0]) > 1:
            reason = "exceptions among members of several networks are not modelled"
        return IpSet(
            name=self.name,
            kind=self.kind,
            family=self.family,
            members={masks: self.members[masks] for masks in order},
            netmask=self.netmask,
            markmask=self.markmask,
            nested=tuple(self.nested),
            reason=reason,
        )


def _width(mask: int) -> int:
    return 1 << 10 if mask == -1 else mask.bit_count()


def _product(choices: list[list[tuple[int, int]]]) -> Iterable[tuple[tuple[int, int], ...]]:
    found: list[tuple[tuple[int, int], ...]] = [()]
    for several in choices:
        if len(found) * len(several) > 1 << 17:
            raise ValueError("too many members in one")
        found = [(*begun, one) for begun in found for one in several]
    return found


def _networks(first: int, last: int, family: int) -> Iterator[tuple[int, int]]:
    """The fewest networks that make up a range."""
    bits = 128 if family == 6 else 32
    full = (1 << bits) - 1
    while first <= last:
        size = (first & -first).bit_length() - 1 if first else bits
        while size and first + (1 << size) - 1 > last:
            size -= 1
        yield first, full ^ ((1 << size) - 1)
        first += 1 << size


def read_sets(text: str) -> tuple[dict[str, IpSet], tuple[Problem, ...]]:
    """The sets of ``ipset save`` or ``ipset list``; never raises. A bad line makes its set's answers unknown."""
    building: dict[str, _Building] = {}
    problems: list[Problem] = []
    listed: _Building | None = None
    name, in_members = "", False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        words = line.split(None, 64)
        if not words or line.startswith("#"):
            continue
        target, member, options = listed, "", list[str]()
        try:
            if words[0] in ("create", "-N", "-A", "add") and len(words) >= 3:
                in_members, listed = False, None
                if words[0] in ("create", "-N"):
                    building[words[1]] = _Building(words[1], words[2], words[3:])
                    continue
                target, member, options = building.get(words[1]), words[2], words[3:]
            elif words[0] == "Name:" and len(words) == 2:
                name, in_members, listed = words[1], False, None
                continue
            elif words[0] == "Type:" and name and len(words) == 2:
                listed = building[name] = _Building(name, words[1], [])
                continue
            elif words[0] == "Header:" and listed is not None:
                listed = building[name] = _Building(name, listed.kind, words[1:])
                continue
            elif words[0] == "Members:" and listed is not None:
                in_members = True
                continue
            elif in_members and listed is not None:
                member, options = words[0], words[1:]
            elif (
                listed is not None
                and words[0].endswith(":")
                or words[0] in ("Revision:", "Size", "References:", "Number")
            ):
                continue
            if target is None or not member:
                problems.append(Problem(number, line[:200]))
                continue
            target.add(member, options)
        except ValueError as error:
            problems.append(Problem(number, line[:200], f"a member that is not understood ({error})"))
            if target is not None:
                target.reason = f"line {number} is not understood"
    return {name: built.built() for name, built in building.items()}, tuple(problems)
