"""What packet sockets saw of a run's probes: frames in, numbers and addresses out (`netdiag.participant.marks`)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

ANSWER = 1 << 31
VXLAN_MAC_AT = 8
_ETHERNET = 14
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_ECHO_REPLIES = (0, 129)


UNNUMBERED = 0
"""The number of a segment that begins, answers or refuses a connection and does not bear the run's mark."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """One frame of a probe, or of the answer to it."""

    number: int
    answer: bool
    out: bool
    place: str
    source: str
    destination: str
    source_port: int | None
    destination_port: int | None
    length_bytes: int


def sights_of(point: Mapping[str, Any], mark: bytes) -> Iterable[Sight]:
    """The probes among the frames of one point of a capture; what is none of the run is left out."""
    for frame in point["frames"]:
        found = _sight(bytes(frame["data"]), mark, out=bool(frame["out"]), place=str(point["name"]))
        if found is not None:
            yield found


def _sight(data: bytes, mark: bytes, *, out: bool, place: str) -> Sight | None:
    try:
        (kind,) = struct.unpack_from(">H", data, 12)
        if kind == 0x0800:
            size = (data[_ETHERNET] & 15) * 4
            length, protocol = struct.unpack_from(">H", data, _ETHERNET + 2)[0], data[_ETHERNET + 9]
            addresses = data[_ETHERNET + 12 : _ETHERNET + 16], data[_ETHERNET + 16 : _ETHERNET + 20]
        elif kind == 0x86DD:
            size = 40
            length, protocol = 40 + struct.unpack_from(">H", data, _ETHERNET + 4)[0], data[_ETHERNET + 6]
            addresses = data[_ETHERNET + 8 : _ETHERNET + 24], data[_ETHERNET + 24 : _ETHERNET + 40]
        else:
            return None
        transport = data[_ETHERNET + size :]
        known = _tcp(transport, mark) if protocol == 6 else _tagged(transport, mark, protocol)
        if known is None:
            return None
        ports = struct.unpack_from(">HH", transport) if protocol in (6, 17) else (None, None)
        source, destination = (str(ipaddress.ip_address(each)) for each in addresses)
    except (struct.error, IndexError, ValueError):
        return None
    number, answer = known
    return Sight(
        number=number,
        answer=answer,
        out=out,
        place=place,
        source=source,
        destination=destination,
        source_port=ports[0],
        destination_port=ports[1],
        length_bytes=length,
    )


def of_connection(
    sights: Iterable[Sight], *, sources: Collection[str], source_port: int | None, port: int | None
) -> list[Sight]:
    """Of segments without a number those that begin a connection from an address to a port, or answer to it.

    ``source_port``: None is any. A firewall between that gives a segment another number leaves its ends as they are.
    """
    return [
        each
        for each in sights
        if (each.destination if each.answer else each.source) in sources
        and (each.source_port if each.answer else each.destination_port) == port
        and source_port in (None, each.destination_port if each.answer else each.source_port)
    ]


def _tcp(transport: bytes, mark: bytes) -> tuple[int, bool] | None:
    """A SYN of ours by its sequence number, what answers one by its acknowledgement; any other without a number."""
    sequence, acknowledged, _, flags = struct.unpack_from(">IIBB", transport, 4)
    half = int.from_bytes(mark[:2], "big")
    if flags & _ACK and acknowledged - 1 >> 16 == half:
        return acknowledged - 1 & 0xFFFF, True
    if flags & _SYN and not flags & _ACK:
        return (sequence & 0xFFFF if sequence >> 16 == half else UNNUMBERED), False
    return (UNNUMBERED, True) if flags & _ACK and flags & (_SYN | _RST) else None


def _tagged(transport: bytes, mark: bytes, protocol: int) -> tuple[int, bool] | None:
    body = transport[8:]
    if body[:4] == mark:
        (number,) = struct.unpack_from(">I", body, 4)
        return number & ~ANSWER, bool(number & ANSWER) or (protocol in (1, 58) and transport[0] in _ECHO_REPLIES)
    if protocol == 17 and body[VXLAN_MAC_AT : VXLAN_MAC_AT + 4] == b"\x02" + mark[1:]:
        return struct.unpack_from(">I", body, 4)[0] >> 8 & 0xFFFF, False
    return None
