"""Packets byte by byte: IPv4 and IPv6 with TCP, UDP or ICMP, for what a socket cannot ask (RFC 791, 8200, 9293, 768, 792)."""

import os
import socket
import struct
from typing import Any, Dict, NamedTuple

from netdiag.participant.errors import UNSUPPORTED, VerbError

TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
TAG_BYTES = 8


class Flow(NamedTuple):
    """One packet of ours: its tuple, and a tag that no other packet carries.

    ``tag`` is the initial sequence number (4 bytes) of TCP, the beginning of the payload (8 bytes) of the others, and
    stands at ``tag_at`` of the transport header.
    """

    six: bool
    protocol: int
    source: str
    destination: str
    sport: int
    dport: int
    icmp_type: int
    flags: int
    ttl: int
    length: int
    tag: bytes

    @property
    def tag_at(self) -> int:
        """Where the tag stands, from the transport header's first byte."""
        return 4 if self.protocol == 6 else 8

    @property
    def addresses(self) -> bytes:
        """Source and destination as the network header has them."""
        family = socket.AF_INET6 if self.six else socket.AF_INET
        return socket.inet_pton(family, self.source) + socket.inet_pton(family, self.destination)


def flow_of(params: Dict[str, Any]) -> Flow:
    """The flow of a request's parameters. Raises VerbError unsupported for a protocol that it cannot build."""
    name = str(params["proto"])
    if name not in PROTOCOLS:
        raise VerbError(UNSUPPORTED, "build a packet of protocol {}: only tcp, udp, icmp and icmpv6".format(name))
    six = ":" in str(params["dst"])
    flags = 0
    for flag in str(params.get("tcp_flags") or "syn").lower().split(","):
        flags |= TCP_FLAGS.get(flag, 0)
    icmp_type = params.get("icmp_type")
    return Flow(
        six=six,
        protocol=PROTOCOLS[name],
        source=str(params["src"]),
        destination=str(params["dst"]),
        sport=int(params.get("sport") or 0),
        dport=int(params.get("dport") or 0),
        icmp_type=int(icmp_type) if icmp_type is not None else (128 if six else 8),
        flags=flags,
        ttl=int(params.get("ttl") or 64),
        length=int(params.get("length") or 0),
        tag=os.urandom(4 if name == "tcp" else TAG_BYTES),
    )


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def payload(flow: Flow) -> bytes:
    """What follows the transport header: the tag where TCP does not carry it, and zeros up to ``length``."""
    head = (40 if flow.six else 20) + (20 if flow.protocol == 6 else 8)
    tag = b"" if flow.protocol == 6 else flow.tag
    return tag + b"\0" * max(0, flow.length - head - len(tag))


def icmp_message(flow: Flow) -> bytes:
    """An ICMP or ICMPv6 message with its checksum."""
    data = payload(flow)
    identity, sequence = struct.unpack(">HH", flow.tag[:4])
    pseudo = _pseudo(flow, 8 + len(data)) if flow.six else b""
    without = struct.pack(">BBHHH", flow.icmp_type, 0, 0, identity, sequence) + data
    return without[:2] + struct.pack(">H", checksum(pseudo + without)) + without[4:]


def packet(flow: Flow) -> bytes:
    """The whole IP packet with correct checksums."""
    body = _transport(flow)
    if flow.six:
        return struct.pack(">IHBB", 6 << 28, len(body), flow.protocol, flow.ttl) + flow.addresses + body
    identity = struct.unpack(">H", flow.tag[:2])[0] or 1
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), identity, 0x4000, flow.ttl, flow.protocol, 0)
    return head[:10] + struct.pack(">H", checksum(head + flow.addresses)) + flow.addresses + body


def _pseudo(flow: Flow, length: int) -> bytes:
    if flow.six:
        return flow.addresses + struct.pack(">IHBB", length, 0, 0, flow.protocol)
    return flow.addresses + struct.pack(">BBH", 0, flow.protocol, length)


def _transport(flow: Flow) -> bytes:
    data = payload(flow)
    if flow.protocol == 6:
        # The acknowledgement number repeats the tag, so that a RST, which takes its numbers from here, is known.
        numbers = flow.tag + (flow.tag if flow.flags & TCP_FLAGS["ack"] else bytes(4))
        head = (
            struct.pack(">HH", flow.sport, flow.dport) + numbers + struct.pack(">BBHHH", 0x50, flow.flags, 64240, 0, 0)
        )
        total = checksum(_pseudo(flow, len(head) + len(data)) + head + data)
        return head[:16] + struct.pack(">H", total) + head[18:] + data
    if flow.protocol == 17:
        head = struct.pack(">HHHH", flow.sport, flow.dport, 8 + len(data), 0)
        total = checksum(_pseudo(flow, len(head) + len(data)) + head + data) or 0xFFFF
        return head[:6] + struct.pack(">H", total) + data
    return icmp_message(flow)
