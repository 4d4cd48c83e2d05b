"""What the kernel's own lookup says for one destination: raw rtnetlink messages, read (linux/rtnetlink.h)."""

from __future__ import annotations

import base64
import errno
import ipaddress
import struct
from collections.abc import Iterator

import msgspec

from netdiag.model.facts import Absence, AbsenceKind
from netdiag.model.probes import RouteChoice
from netdiag.model.wire import Answer, Gather, Request

RTM_GETLINK, RTM_GETROUTE, RTM_GETNEIGH = 18, 26, 30
_AF_INET, _AF_INET6 = 2, 10
_NLMSG_HEAD_BYTES = 16
_RTMSG_BYTES, _IFINFOMSG_BYTES, _NDMSG_BYTES = 12, 16, 12
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_METRICS, _RTA_VIA = 1, 4, 5, 7, 8, 18
_RTAX_MTU = 2
_IFLA_IFNAME, _IFLA_MTU = 3, 4
_NDA_DST = 1
_NUD_UNANSWERED = 0x01 | 0x20
"""NUD_INCOMPLETE or NUD_FAILED: asked by ARP or ND, and no answer."""

_REFUSALS = {
    errno.EINVAL: "a blackhole route takes what goes there (ip route show table all type blackhole)",
    errno.EHOSTUNREACH: "a route says unreachable (ip route show table all type unreachable)",
    errno.EACCES: "a route says prohibit (ip route show table all type prohibit)",
    errno.ENETUNREACH: "there is no route to it",
}
"""How the kernel's look-up answers where a route, or none, refuses (net/ipv4/fib_semantics.c, fib_props)."""


class Lookup(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A route lookup with what probing needs to know of the device it leads to."""

    route: RouteChoice
    device_index: int = 0
    device_mtu_bytes: int = 0


def gather_route(address: str) -> Gather[RouteChoice]:
    """Which way this host would send to ``address``; ``absent`` says why it would not."""
    return (yield from gather_lookup(address)).route


def gather_lookup(address: str, netns: str = "") -> Gather[Lookup]:
    """`gather_route`, with the device's index and MTU; in the network namespace at ``netns``, if one is given."""
    (answer,) = yield [_route_request(address, netns)]
    data = answer.data
    if data is None:
        return Lookup(route=RouteChoice(absent=_absence(answer)))
    if data["errno"]:
        why = f"route lookup for {address}: {_REFUSALS.get(data['errno'], data['text'])}"
        absent = Absence(kind=AbsenceKind.MISSING, text=why)
        return Lookup(route=RouteChoice(absent=absent))
    found = dict(_attributes(data["messages"], _RTMSG_BYTES))
    index = _number(found.get(_RTA_OIF, b""))
    device, mtu_bytes = "", 0
    if index:
        (link,) = yield [_link_request(index, netns)]
        if link.data is not None and not link.data["errno"]:
            attributes = dict(_attributes(link.data["messages"], _IFINFOMSG_BYTES))
            device = attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            mtu_bytes = _number(attributes.get(_IFLA_MTU, b""))
    metrics = dict(_split(found.get(_RTA_METRICS, b"")))
    route = RouteChoice(
        source=_address(found.get(_RTA_PREFSRC, b"")),
        device=device,
        # RTA_VIA is the gateway of another family: two bytes of family, then the address (RFC 5549).
        gateway=_address(found.get(_RTA_GATEWAY, b"") or found.get(_RTA_VIA, b"")[2:]),
        mtu_bytes=_number(metrics.get(_RTAX_MTU, b"")) or mtu_bytes or None,
    )
    return Lookup(route=route, device_index=index, device_mtu_bytes=mtu_bytes)


def gather_neighbour_unanswered(address: str, device_index: int, netns: str = "") -> Gather[bool]:
    """Whether a neighbour has been asked for by ARP or ND, and has not answered. False when that cannot be said.

    In the network namespace at ``netns``, if one is given. Kernels before 5.0 cannot be asked for one neighbour.
    """
    (answer,) = yield [_neighbour_request(address, device_index, netns)]
    if answer.data is None or answer.data["errno"] or len(answer.data["messages"]) < _NLMSG_HEAD_BYTES + _NDMSG_BYTES:
        return False
    state: int = struct.unpack_from("=H", answer.data["messages"], _NLMSG_HEAD_BYTES + 8)[0]
    return bool(state & _NUD_UNANSWERED)


def _route_request(address: str, netns: str) -> Request:
    parsed = ipaddress.ip_address(address)
    body = struct.pack("=8BI", _family(parsed), parsed.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return _request(RTM_GETROUTE, body + _attribute(_RTA_DST, parsed.packed), netns)


def _link_request(index: int, netns: str) -> Request:
    return _request(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, index, 0, 0), netns)


def _neighbour_request(address: str, device_index: int, netns: str) -> Request:
    parsed = ipaddress.ip_address(address)
    body = struct.pack("=BxHiHBB", _family(parsed), 0, device_index, 0, 0, 0)
    return _request(RTM_GETNEIGH, body + _attribute(_NDA_DST, parsed.packed), netns)


def _request(kind: int, body: bytes, netns: str = "") -> Request:
    params = {"protocol": 0, "type": kind, "body": base64.b64encode(body).decode("ascii")}
    if netns:
        params["netns"] = netns
    return Request("netlink-get", params, timeout_s=1.0)


def _family(parsed: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return _AF_INET if parsed.version == 4 else _AF_INET6


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(message: bytes, fixed_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of the first message; ``fixed_bytes`` is the size of the structure before them."""
    if len(message) < _NLMSG_HEAD_BYTES:
        return
    length = struct.unpack_from("=I", message)[0]
    yield from _split(message[_NLMSG_HEAD_BYTES + fixed_bytes : length])


def _split(raw: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(raw):
        length, kind = struct.unpack_from("=HH", raw, position)
        if length < 4:
            return
        yield kind & 0x3FFF, raw[position + 4 : position + length]
        position += (length + 3) & ~3


def _number(raw: bytes) -> int:
    return int.from_bytes(raw[:4], "little") if len(raw) >= 4 else 0


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw)) if len(raw) in {4, 16} else ""


def _absence(answer: Answer) -> Absence:
    if answer.error is None:
        return Absence(kind=AbsenceKind.FAILED, text="route lookup: no answer")
    return Absence(kind=answer.error.kind, text=answer.error.text)
