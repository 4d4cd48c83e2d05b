"""What one captured frame says of the flow: which way it goes, and whether it refuses.

Formats: IEEE 802.3, RFC 791, 8200, 9293, 792, 4443, 7348 (VXLAN).
"""

from __future__ import annotations

import ipaddress
import struct

import msgspec

_IPV4, _IPV6 = 0x0800, 0x86DD
_VXLAN_BYTES = 8
_SYN, _RST, _ACK = 2, 4, 16
_ERRORS = {1: (3, 4, 5, 11, 12), 58: (1, 2, 3, 4)}
"""ICMP types that tell of an error, by protocol."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One packet of the flow. ``outer_*`` and ``vni`` only where it was inside VXLAN."""

    source: str
    destination: str
    protocol: int
    length: int = 0
    """Bytes of the IP packet; of the outer one where it was inside VXLAN."""
    source_port: int | None = None
    destination_port: int | None = None
    tcp_flags: int = 0
    sequence: int | None = None
    """TCP's sequence number, which address translation leaves alone."""
    icmp_type: int | None = None
    icmp_code: int | None = None
    mac: str = ""
    """To which hardware address the frame went."""
    outer_source: str = ""
    outer_destination: str = ""
    vni: int | None = None

    def opens(self) -> bool:
        """Whether it asks for a connection."""
        return self.protocol == 6 and self.tcp_flags & (_SYN | _ACK) == _SYN

    def follows(self) -> bool:
        """Whether it belongs to a TCP connection that both ends have spoken of, and does not end it by a reset."""
        return self.protocol == 6 and not self.tcp_flags & (_SYN | _RST)

    def refuses(self) -> bool:
        """Whether it tells that something was refused: a reset, or an ICMP error."""
        if self.protocol == 6:
            return bool(self.tcp_flags & _RST)
        return self.icmp_type in _ERRORS.get(self.protocol, ())


def read_frame(data: bytes, vxlan_port: int | None = None) -> Frame | None:
    """Read a frame's headers; None for what is no IP packet, or too short to tell.

    Args:
        data: The frame from its Ethernet header, perhaps cut.
        vxlan_port: Look inside VXLAN to this UDP port.
    """
    outer = _ip(data, 14) if len(data) >= 14 else None
    if outer is None:
        return None
    mac = data[:6].hex(":")
    if vxlan_port is None:
        return msgspec.structs.replace(outer[0], mac=mac)
    head, behind = outer
    if head.protocol != 17 or head.destination_port != vxlan_port or len(data) < behind + 8 + _VXLAN_BYTES + 14:
        return None
    vni = int.from_bytes(data[behind + 12 : behind + 15], "big")
    inner = _ip(data, behind + 8 + _VXLAN_BYTES + 14)
    if inner is None:
        return None
    return msgspec.structs.replace(
        inner[0], length=head.length, mac=mac, outer_source=head.source, outer_destination=head.destination, vni=vni
    )


def _ip(data: bytes, at: int) -> tuple[Frame, int] | None:
    """The packet whose IP header begins at ``at``, and where its transport header does."""
    kind = int.from_bytes(data[at - 2 : at], "big")
    if kind == _IPV4 and len(data) >= at + 20 and data[at] >> 4 == 4:
        behind = at + (data[at] & 15) * 4
        source, destination, protocol = data[at + 12 : at + 16], data[at + 16 : at + 20], data[at + 9]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
    elif kind == _IPV6 and len(data) >= at + 40:
        behind = at + 40
        source, destination, protocol = data[at + 8 : at + 24], data[at + 24 : at + 40], data[at + 6]
        length = 40 + int.from_bytes(data[at + 4 : at + 6], "big")
    else:
        return None
    ports: tuple[int | None, int | None] = (None, None)
    flags, sequence, icmp_type, icmp_code = 0, None, None, None
    if protocol in (6, 17) and len(data) >= behind + 4:
        ports = struct.unpack_from(">HH", data, behind)
        if protocol == 6 and len(data) > behind + 13:
            flags, sequence = data[behind + 13], int.from_bytes(data[behind + 4 : behind + 8], "big")
    elif protocol in (1, 58) and len(data) >= behind + 2:
        icmp_type, icmp_code = data[behind], data[behind + 1]
    frame = Frame(
        source=str(ipaddress.ip_address(source)),
        destination=str(ipaddress.ip_address(destination)),
        protocol=protocol,
        length=length,
        source_port=ports[0],
        destination_port=ports[1],
        tcp_flags=flags,
        sequence=sequence,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
    )
    return frame, behind
