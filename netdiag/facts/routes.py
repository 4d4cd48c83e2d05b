"""RTM_GETROUTE dumps into routes (linux/rtnetlink.h): the hot path, for a host may have 100,000 of them.

Dumps repeat: most messages differ from another one in the destination alone. The first is read attribute by attribute;
a message that equals it everywhere but in the destination's bytes (and in the netlink header's sequence and port) is
the same route to another destination, whatever else it carries. Runs of messages of one length are unpacked in C.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from netdiag.facts import netlink
from netdiag.facts.netlink import AF_INET, Decoded
from netdiag.model.facts import NextHop, Route

_RTMSG = struct.Struct("<BBBBBBBBI")
BODY = bytes(_RTMSG.size)
"""struct rtmsg: every family and table."""

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = 1, 4, 5, 6, 7, 8
RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 9, 15, 18
RTAX_MTU = 2
_RTM_F_CLONED = 0x200
_RTNH_F_ONLINK = 4
_RTNEXTHOP = struct.Struct("<HBBi")

_TYPES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
    10: "nat",
}
PROTOCOLS = {
    0: "unspec",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    8: "gated",
    9: "ra",
    10: "mrt",
    11: "zebra",
    12: "bird",
    13: "dnrouted",
    14: "xorp",
    15: "ntk",
    16: "dhcp",
    17: "mrouted",
    18: "keepalived",
    42: "babel",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    192: "eigrp",
}
"""rtm_protocol as iproute2 names it (/etc/iproute2/rt_protos); another number is kept as a number."""

_RTN_WITHOUT_HOP = frozenset({6, 7, 8, 9})
_HEAD = struct.Struct("<IH")

_Template = tuple[int, int, str, str, str, int, str, int | None, tuple[NextHop, ...]]
"""A route but for its destination: prefix length, then the fields of `Route` in their order."""


class _Octets(dict[int, str]):
    """Two octets of an address, read as one little-endian number, as "a.b"."""

    def __missing__(self, pair: int) -> str:
        made = self[pair] = f"{pair & 255}.{pair >> 8}"
        return made


class _Reader:
    """One dump: what has been seen so far, and the routes."""

    def __init__(self, data: bytes, devices: Mapping[int, str]) -> None:
        self.data = data
        self.devices = devices
        self.rows: list[Route] = []
        self.templates: dict[tuple[bytes, bytes], _Template] = {}
        self.octets = _Octets()
        self.layouts: dict[int, struct.Struct] = {}
        """By message length, where the last plain IPv4 route of that length had its destination."""

    def read(self) -> str:
        """Read the whole dump; returns what was wrong with it."""
        data, size, offset = self.data, len(self.data), 0
        while offset < size:
            if offset + netlink.HEADER_BYTES > size:
                return f"routes: {size - offset} bytes left at byte {offset}: less than a header"
            length, kind = _HEAD.unpack_from(data, offset)
            if length < netlink.HEADER_BYTES or offset + length > size:
                return f"routes: a message of {length} bytes at byte {offset} of {size}"
            if kind == netlink.RTM_NEWROUTE:
                if length < netlink.HEADER_BYTES + _RTMSG.size:
                    return f"routes: a message at byte {offset} is too short for its header"
                self._slow(offset, offset + length)
                layout = self.layouts.get(length)
                if layout is not None:
                    offset += length + self._run(layout, offset + length)
                    continue
            offset += (length + 3) & ~3
        return ""

    def _run(self, layout: struct.Struct, start: int) -> int:
        """Read the messages from ``start`` on that have the layout and are known but for their destination.

        Returns how many bytes that were.
        """
        size = layout.size
        count = (len(self.data) - start) // size
        add, known, octets, before_run = self.rows.append, self.templates.get, self.octets, len(self.rows)
        head = self.data[start - size : start - size + 6]
        view = memoryview(self.data)[start : start + count * size]
        for first, before, high, low, after in layout.iter_unpack(view):
            if first != head:
                break
            template = known((before, after))
            if template is None:
                break
            length, table, kind, protocol, scope, metric, source, mtu_bytes, hops = template
            add(
                Route(
                    destination=f"{octets[high]}.{octets[low]}/{length}",
                    table=table,
                    type=kind,
                    protocol=protocol,
                    scope=scope,
                    metric=metric,
                    source=source,
                    mtu_bytes=mtu_bytes,
                    next_hops=hops,
                )
            )
        return (len(self.rows) - before_run) * size

    def _slow(self, start: int, end: int) -> None:
        """Read one message attribute by attribute, and remember it if it is a plain IPv4 route."""
        data, payload = self.data, start + netlink.HEADER_BYTES
        family, length, _, _, table, protocol, scope, kind, flags = _RTMSG.unpack_from(data, payload)
        if family not in netlink.FAMILIES or flags & _RTM_F_CLONED:
            return
        listed = netlink.attribute_list(data, payload + _RTMSG.size, end)
        found = dict(listed)
        destination = found.get(RTA_DST)
        network = netlink.address(destination) or ("0.0.0.0" if family == AF_INET else "::")  # noqa: S104 - a route
        route = Route(
            destination=f"{network}/{length}",
            table=netlink.u32(found.get(RTA_TABLE)) or table,
            type=_TYPES.get(kind) or str(kind),
            protocol=PROTOCOLS.get(protocol) or str(protocol),
            scope=netlink.SCOPES.get(scope) or str(scope),
            metric=netlink.u32(found.get(RTA_PRIORITY)) or 0,
            source=netlink.address(found.get(RTA_PREFSRC)),
            mtu_bytes=netlink.u32(netlink.nested(found.get(RTA_METRICS)).get(RTAX_MTU)),
            next_hops=self._next_hops(found, kind, flags),
        )
        self.rows.append(route)
        if destination is not None and len(destination) == 4 and (end - start) % 4 == 0:
            self._remember(start, end, listed, length, route)

    def _remember(self, start: int, end: int, listed: list[tuple[int, bytes]], length: int, route: Route) -> None:
        if [kind for kind, _ in listed].count(RTA_DST) != 1:
            return
        at = start + netlink.HEADER_BYTES + _RTMSG.size
        for kind, value in listed:
            if kind == RTA_DST:
                break
            at += (4 + len(value) + 3) & ~3
        before, after = start + netlink.HEADER_BYTES, at + 8
        self.layouts[end - start] = struct.Struct(f"<6s10x{at + 4 - before}sHH{end - after}s")
        self.templates[self.data[before : at + 4], self.data[after:end]] = (
            length,
            route.table,
            route.type,
            route.protocol,
            route.scope,
            route.metric,
            route.source,
            route.mtu_bytes,
            route.next_hops,
        )

    def _next_hops(self, found: dict[int, bytes], kind: int, flags: int) -> tuple[NextHop, ...]:
        if RTA_MULTIPATH in found:
            return _multipath(found[RTA_MULTIPATH], self.devices)
        index, gateway = netlink.u32(found.get(RTA_OIF)) or 0, _gateway(found)
        if kind in _RTN_WITHOUT_HOP or not (index or gateway):
            return ()
        return (_hop(self.devices, index, gateway, flags),)


def decode(data: bytes, devices: Mapping[int, str]) -> Decoded[Route]:
    """All IPv4 and IPv6 routes of a dump; ``devices`` names interface indexes. Cached routes are left out."""
    reader = _Reader(data, devices)
    error = reader.read()
    return Decoded(tuple(reader.rows), error)


def _gateway(found: Mapping[int, bytes]) -> str:
    # RTA_VIA is a gateway of another family: two bytes of family, then the address (RFC 5549).
    return netlink.address(found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:])


def _hop(devices: Mapping[int, str], index: int, gateway: str, flags: int, weight: int = 1) -> NextHop:
    device = (devices.get(index) or f"if{index}") if index else ""
    return NextHop(gateway=gateway, device=device, weight=weight, onlink=bool(flags & _RTNH_F_ONLINK))


def _multipath(value: bytes, devices: Mapping[int, str]) -> tuple[NextHop, ...]:
    ways: list[NextHop] = []
    offset = 0
    while offset + _RTNEXTHOP.size <= len(value):
        length, flags, weight, index = _RTNEXTHOP.unpack_from(value, offset)
        if length < _RTNEXTHOP.size or offset + length > len(value):
            break
        found = netlink.attributes(value, offset + _RTNEXTHOP.size, offset + length)
        ways.append(_hop(devices, index, _gateway(found), flags, weight + 1))
        offset += (length + 3) & ~3
    return tuple(ways)
