"""Packets byte by byte, for what a socket cannot ask.

IPv4 and IPv6 with TCP, UDP, ICMP or any other protocol, and ARP requests (RFC 791, 8200, 9293, 768, 792, 4443, 826).
"""

import os
import socket
import struct
from typing import Any, Dict, List, NamedTuple, Tuple

from netdiag.participant.errors import UNSUPPORTED, VerbError

TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ipip": 4, "gre": 47, "esp": 50, "ah": 51}
ARP = "arp"
TAG_BYTES = 8
_ARP_BYTES = 28


class Flow(NamedTuple):
    """One packet of ours: its tuple, and a tag that no other packet carries.

    ``tag`` is the initial sequence number (4 bytes) of TCP, the beginning of the payload (8 bytes) of the others. It
    stands at ``tag_at`` of the transport header; in an ARP request, which has none, of the network header, as padding.
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
    arp: bool = False
    mac: bytes = b"\x02netdg"
    """The source of its frame; as locally administered as an address can be where the caller has no better one."""
    scope: int = 0
    """Interface index of the device that a link-local address of IPv6 is on."""

    @property
    def ethertype(self) -> int:
        """What an Ethernet frame says of it."""
        return 0x0806 if self.arp else 0x86DD if self.six else 0x0800

    @property
    def tag_at(self) -> int:
        """Where the tag stands, from the first byte of the transport header (ARP: of the network header)."""
        if self.arp:
            return _ARP_BYTES
        return 4 if self.protocol == 6 else _head_bytes(self)

    def place(self, address: str, port: int) -> Tuple[Any, ...]:
        """An address and port as a socket wants them."""
        return (address, port, 0, self.scope) if self.six else (address, port)

    @property
    def addresses(self) -> bytes:
        """Source and destination as the network header has them."""
        family = socket.AF_INET6 if self.six else socket.AF_INET
        return socket.inet_pton(family, self.source) + socket.inet_pton(family, self.destination)


def _head_bytes(flow: Flow) -> int:
    """How long a transport header is, as far as we know the protocol."""
    return {6: 20, 17: 8, 1: 8, 58: 8}.get(flow.protocol, 0)


def flow_of(params: Dict[str, Any]) -> Flow:
    """The flow of a request's parameters. Raises VerbError unsupported for a protocol that it cannot build."""
    name = str(params["proto"])
    if name not in PROTOCOLS and name != ARP and not (name.isdigit() and int(name) < 256):
        text = "build a packet of protocol {}: only arp, a number below 256, {}"
        raise VerbError(UNSUPPORTED, text.format(name, ", ".join(sorted(PROTOCOLS))))
    six = ":" in str(params["dst"])
    flags = 0
    for flag in str(params.get("tcp_flags") or "syn").lower().split(","):
        flags |= TCP_FLAGS.get(flag, 0)
    icmp_type = params.get("icmp_type")
    flow = Flow(
        six=six,
        protocol=0 if name == ARP else PROTOCOLS[name] if name in PROTOCOLS else int(name),
        source=str(params["src"]),
        destination=str(params["dst"]),
        sport=int(params.get("sport") or 0),
        dport=int(params.get("dport") or 0),
        icmp_type=int(icmp_type) if icmp_type is not None else (128 if six else 8),
        flags=flags,
        ttl=int(params.get("ttl") or 64),
        length=int(params.get("length") or 0),
        tag=_vxlan_tag() if params.get("payload") == "vxlan" else os.urandom(4 if name in ("tcp", "6") else TAG_BYTES),
        arp=name == ARP,
        scope=_scope_of(params) if six else 0,
    )
    mac = str(params.get("mac") or "").replace(":", "")
    return flow._replace(mac=bytes.fromhex(mac)) if mac else flow


def _vxlan_tag() -> bytes:
    """A VXLAN header (RFC 7348) of a random network: filters look at it, and nobody else's packet has it."""
    return b"\x08\0\0\0" + os.urandom(3) + b"\0"


def _scope_of(params: Dict[str, Any]) -> int:
    """The device that gives a link-local address (fe80::/10, ff02::/16) its meaning; 0 for any other address."""
    target = socket.inet_pton(socket.AF_INET6, str(params["dst"]))
    device = str(params.get("in_device") or params.get("out_device") or "")
    local = (target[0] == 0xFE and target[1] & 0xC0 == 0x80) or (target[0] == 0xFF and target[1] & 0xF <= 2)
    return socket.if_nametoindex(device) if local and device else 0


def tcp_options(flow: Flow) -> bytes:
    """The options that a kernel's own SYN carries: filters ask for them. None where ``length`` leaves no room.

    Maximum segment size, SACK permitted, time stamps, window scale (RFC 9293, 2018, 7323), in Linux's order.
    """
    head = (40 if flow.six else 20) + 20
    if not flow.flags & TCP_FLAGS["syn"] or 0 < flow.length < head + 20:
        return b""
    largest = struct.pack(">BBH", 2, 4, 1440 if flow.six else 1460)
    return largest + b"\4\2" + b"\10\12" + flow.tag + bytes(4) + b"\1" + b"\3\3\7"


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
    head = (40 if flow.six else 20) + _head_bytes(flow) + len(tcp_options(flow) if flow.protocol == 6 else b"")
    tag = b"" if flow.protocol == 6 else flow.tag
    return tag + b"\0" * max(0, flow.length - head - len(tag))


class Reply(NamedTuple):
    """What answers a packet of ours: its protocol, and which bytes stand at which places of its transport header."""

    protocol: int
    places: Tuple[Tuple[int, bytes], ...]


_ECHO_REPLIES = {(1, 8): 0, (58, 128): 129}
"""Of an echo request by protocol and type: the type of its reply, which repeats it, tag included."""


def replies(flow: Flow) -> List[Reply]:
    """All that a host may answer, to the packet's source: an ICMP error that quotes it, an echo reply, a RST."""
    quoted = 8 + (40 if flow.six else 20) + flow.tag_at
    found = [Reply(58 if flow.six else 1, ((quoted, flow.tag),))]
    echo = _ECHO_REPLIES.get((flow.protocol, flow.icmp_type))
    if echo is not None:
        found.append(Reply(flow.protocol, ((0, bytes([echo])), (flow.tag_at, flow.tag))))
    if flow.protocol == 6 and flow.flags != TCP_FLAGS["rst"]:
        beyond = len(payload(flow)) + bin(flow.flags & 3).count("1")
        acknowledged = struct.pack(">I", (struct.unpack(">I", flow.tag)[0] + beyond) & 0xFFFFFFFF)
        found.append(Reply(6, ((8, acknowledged),)))
        # One that takes its number from our acknowledgement has the tag where our own segment has it.
        found.append(Reply(6, ((flow.tag_at, flow.tag), (13, bytes([TCP_FLAGS["rst"]])))))
    return found


def icmp_message(flow: Flow) -> bytes:
    """An ICMP or ICMPv6 message with its checksum."""
    data = payload(flow)
    identity, sequence = struct.unpack(">HH", flow.tag[:4])
    pseudo = _pseudo(flow, 8 + len(data)) if flow.six else b""
    without = struct.pack(">BBHHH", flow.icmp_type, 0, 0, identity, sequence) + data
    return without[:2] + struct.pack(">H", checksum(pseudo + without)) + without[4:]


def packet(flow: Flow) -> bytes:
    """The whole IP packet with correct checksums."""
    if flow.arp:
        return _arp_request(flow)
    body = after_ip(flow)
    if flow.six:
        return struct.pack(">IHBB", 6 << 28, len(body), flow.protocol, flow.ttl) + flow.addresses + body
    identity = struct.unpack(">H", flow.tag[:2])[0] or 1
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), identity, 0x4000, flow.ttl, flow.protocol, 0)
    return head[:10] + struct.pack(">H", checksum(head + flow.addresses)) + flow.addresses + body


def _pseudo(flow: Flow, length: int) -> bytes:
    if flow.six:
        return flow.addresses + struct.pack(">IHBB", length, 0, 0, flow.protocol)
    return flow.addresses + struct.pack(">BBH", 0, flow.protocol, length)


def _arp_request(flow: Flow) -> bytes:
    """Who has ``destination``, tell ``source``; padded to the least that Ethernet carries."""
    source, target = flow.addresses[:4], flow.addresses[4:]
    asked = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + flow.mac + source + bytes(6) + target
    return asked + flow.tag + bytes(18 - len(flow.tag))


def after_ip(flow: Flow) -> bytes:
    """What follows the IP header: the transport header with its checksum, and the payload."""
    data = payload(flow)
    if flow.protocol == 6:
        # The acknowledgement number repeats the tag, so that a RST, which takes its numbers from here, is known.
        numbers = flow.tag + (flow.tag if flow.flags & TCP_FLAGS["ack"] else bytes(4))
        options = tcp_options(flow)
        offset = (20 + len(options)) // 4 << 4
        head = struct.pack(">HH", flow.sport, flow.dport) + numbers
        head += struct.pack(">BBHHH", offset, flow.flags, 64240, 0, 0) + options
        total = checksum(_pseudo(flow, len(head) + len(data)) + head + data)
        return head[:16] + struct.pack(">H", total) + head[18:] + data
    if flow.protocol == 17:
        head = struct.pack(">HHHH", flow.sport, flow.dport, 8 + len(data), 0)
        total = checksum(_pseudo(flow, len(head) + len(data)) + head + data) or 0xFFFF
        return head[:6] + struct.pack(">H", total) + data
    return icmp_message(flow) if flow.protocol in (1, 58) else data
