"""Reading netlink bytes: messages, attributes and the numbers that rtnetlink uses for names.

Only what the kernel wrote is read here (linux/netlink.h, linux/rtnetlink.h); numbers are in the byte order of the host
that answered, which must be the requester's: netdiag's participants and requesters are little-endian machines.
Damaged bytes never raise: a reader returns what it could read and one line that says where it stopped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

HEADER_BYTES = 16
_HEADER = struct.Struct("<IH")
_ATTRIBUTE = struct.Struct("<HH")
_U16, _U32, _I32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<Q")
_TYPE_MASK = 0x3FFF
"""An attribute's type without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10
FAMILIES = {AF_INET: 4, AF_INET6: 6}

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWRULE, RTM_GETRULE = 32, 34
RTM_NEWQDISC, RTM_GETQDISC = 36, 38
RTM_NEWTFILTER, RTM_GETTFILTER = 44, 46

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
"""enum rt_scope_t."""

Row = TypeVar("Row")


class Decoded(NamedTuple, Generic[Row]):
    """What a dump held. ``error`` is empty, or one line that says what could not be read; the rows hold the rest."""

    rows: tuple[Row, ...]
    error: str


class Message(NamedTuple):
    """Where one message lies: its type, and its payload as offsets into the dump."""

    kind: int
    start: int
    end: int


class Truncated(Exception):
    """A message ends before what it must hold; caught per message by `decode`."""


def messages(data: bytes) -> Iterator[Message]:
    """The messages of a dump. Raises `Truncated` at the first whose length cannot be."""
    offset, size = 0, len(data)
    while offset < size:
        if offset + HEADER_BYTES > size:
            raise Truncated(f"{size - offset} bytes left at byte {offset}: less than a header")
        length, kind = _HEADER.unpack_from(data, offset)
        if length < HEADER_BYTES or offset + length > size:
            raise Truncated(f"a message of {length} bytes at byte {offset} of {size}")
        yield Message(kind, offset + HEADER_BYTES, offset + length)
        offset += (length + 3) & ~3


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """The attributes from ``start`` to ``end`` by type; of a repeated one the last. Stops quietly at a damaged one."""
    return dict(attribute_list(data, start, end))


def attribute_list(data: bytes, start: int, end: int) -> list[tuple[int, bytes]]:
    """The attributes in their order: lists of nested ones repeat a type."""
    found: list[tuple[int, bytes]] = []
    end = min(end, len(data))
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            break
        found.append((kind & _TYPE_MASK, data[start + 4 : start + length]))
        start += (length + 3) & ~3
    return found


def nested(value: bytes | None) -> dict[int, bytes]:
    """The attributes inside an attribute; none if it is absent."""
    return attributes(value, 0, len(value)) if value else {}


def fields(layout: struct.Struct, data: bytes, message: Message) -> tuple[int, ...]:
    """The fixed struct at the start of a message's payload. Raises `Truncated` when the message is too short."""
    if message.end - message.start < layout.size:
        raise Truncated(f"a message of type {message.kind} is too short for its header")
    return layout.unpack_from(data, message.start)


def u8(value: bytes | None) -> int | None:
    """An unsigned byte; None when absent or of another size."""
    return value[0] if value and len(value) == 1 else None


def u16be(value: bytes | None) -> int | None:
    """A port in network byte order."""
    return int.from_bytes(value, "big") if value and len(value) == 2 else None


def u32(value: bytes | None) -> int | None:
    """An unsigned 32-bit number; None when absent or of another size."""
    return int(_U32.unpack(value)[0]) if value and len(value) == 4 else None


def i32(value: bytes | None) -> int | None:
    """A signed 32-bit number (netns ids: -1 is none)."""
    return int(_I32.unpack(value)[0]) if value and len(value) == 4 else None


def text(value: bytes | None) -> str:
    """A zero-terminated string."""
    return value.split(b"\0", 1)[0].decode("utf-8", "replace") if value else ""


def mac(value: bytes | None) -> str:
    """A link-layer address as text; an all-zero Ethernet address is kept, an empty one is ""."""
    return value.hex(":") if value else ""


_ADDRESSES: dict[bytes, str] = {}
_ADDRESSES_KEPT = 4096


def address(value: bytes | None) -> str:
    """An IPv4 or IPv6 address in canonical text (RFC 5952); "" when absent or of neither size."""
    if not value:
        return ""
    if len(value) == 4:
        return ".".join(map(str, value))
    if len(value) != 16:
        return ""
    known = _ADDRESSES.get(value)
    if known is None:
        known = _ipv6(value)
        if len(_ADDRESSES) < _ADDRESSES_KEPT:
            _ADDRESSES[value] = known
    return known


def _ipv6(value: bytes) -> str:
    words = [f"{word:x}" for word in struct.unpack(">8H", value)]
    best, length, start = -1, 1, 0
    while start < 8:
        end = start
        while end < 8 and words[end] == "0":
            end += 1
        if end - start > length:
            best, length = start, end - start
        start = end + 1
    if best < 0:
        return ":".join(words)
    return ":".join(words[:best]) + "::" + ":".join(words[best + length :])


def flag_names(value: int, names: dict[int, str]) -> tuple[str, ...]:
    """The names of the bits that are set; bits without a name are left out."""
    return tuple(name for bit, name in names.items() if value & bit)
