"""The verb that sends a counted burst of packets of one kind through this host's packet filters, for their counters.

Nothing takes the packets away behind the last rule, as a trace does with nf_tables. So a program at the egress of every
device (TCX, kernel 6.6; held by descriptors) drops the packets themselves and what this host answers to them, and
nothing of either leaves it. A TCP segment that opens a connection carries an option for which nobody has the key
(RFC 2385): the kernel drops it behind the filters, and no half-open connection stays.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from typing import Any, Callable, Dict, List, Tuple

from netdiag.participant import bpf, packets
from netdiag.participant.arrive import Arrival
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, WITHHELD, VerbError, from_os_error
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.sender import TOLD_TO_THE_SENDER, Sender
from netdiag.participant.trace import is_local, tracked

_SETTLE_S = 0.03
"""How long after the last packet its answers are still stopped."""
_SIOCGIFHWADDR = 0x8927
_WITH_ETHERNET_HEADER = (1, 772)
_TCP_MD5SIG = 14
_LISTENING = "0A"
_MOST = 64


def firewall_burst(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Send ``count`` packets that differ in nothing but their source port.

    Parameters: as for ``firewall-trace``; ``count`` (0: do everything but send, for comparison; at most 64). Data:
    ``sent``; ``send_error`` (how a filter showed itself to the sender), ``refused`` (it took the packet before it
    left). Errors: withheld, permission, missing, unsupported (the kernel has no TCX; somebody listens on the port,
    who would get the packets; a protocol without an answer to that), timeout, failed.
    """
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "send a burst of packets: it could load tun")
    return in_netns(namespace_of(params), lambda: _Burst(params, deadline).run(), deadline)


class _Burst:
    def __init__(self, params: Dict[str, Any], deadline: Deadline) -> None:
        self._params = params
        self._deadline = deadline
        self._flow = packets.flow_of(params)
        self._outward = params["path"] == "out"
        self._loopback = bool(params.get("loopback"))
        self._arrives = self._loopback or not self._outward
        self._count = min(int(params.get("count") or 0), _MOST)
        self._send_error = ""
        self._refused = False

    def run(self) -> Dict[str, Any]:
        flow = self._flow
        if flow.arp or flow.protocol not in (1, 6, 17, 58):
            raise VerbError(UNSUPPORTED, "send a burst of packets: only tcp, udp, icmp and icmpv6")
        with contextlib.ExitStack() as stack:
            self._shut(stack)
            if not self._arrives:
                send: Callable[[packets.Flow], None] = _send
            elif self._loopback:
                # As it would arrive, and not from a socket that connects: a listener must not answer it.
                whole = self._arriving()
                sock = _raw_socket(flow)
                stack.callback(sock.close)

                def send(flow: packets.Flow) -> None:
                    sock.sendto(whole(flow), (flow.destination, 0))

            else:
                whole = self._arriving()
                arrival = Arrival(str(self._params["in_device"]))
                stack.callback(arrival.close)
                target = bytes.fromhex(str(self._params.get("frame_mac") or "").replace(":", "")) or None

                def send(flow: packets.Flow) -> None:
                    arrival.send(flow.mac, flow.ethertype, whole(flow), target)

            for each in self._flows():
                self._deadline.require("send a burst of packets")
                self._one(send, each)
            # The kernel does not say when it has answered.
            time.sleep(min(_SETTLE_S, self._deadline.left()))
        return {"sent": self._count, "send_error": self._send_error, "refused": self._refused}

    def _one(self, send: Callable[[packets.Flow], None], flow: packets.Flow) -> None:
        try:
            send(flow)
        except OSError as error:
            self._send_error = os.strerror(error.errno or 0)
            self._refused = error.errno == errno.EPERM
            if error.errno not in TOLD_TO_THE_SENDER:
                raise from_os_error(error, "send the packet")

    def _flows(self) -> List[packets.Flow]:
        """One for each packet; a source port that was not given is one that no connection has."""
        flow = self._flow
        if flow.protocol not in (6, 17) or flow.sport or not self._arrives:
            if flow.sport and self._arrives:
                self._require_free(flow)
            return [flow] * self._count
        start = struct.unpack("=H", os.urandom(2))[0]
        ports = (32768 + (start + number) % 28232 for number in range(28232))
        flows: List[packets.Flow] = []
        while len(flows) < self._count:
            candidate = flow._replace(sport=next(ports))
            if not tracked(candidate, self._deadline):
                flows.append(candidate)
        return flows

    def _require_free(self, flow: packets.Flow) -> None:
        if tracked(flow, self._deadline):
            text = "have packets arrive: conntrack has {} port {} to {} port {} in use; give another source port"
            raise VerbError(UNSUPPORTED, text.format(flow.source, flow.sport, flow.destination, flow.dport))

    def _arriving(self) -> Callable[[packets.Flow], bytes]:
        """How a packet is built that arrives, so that nobody here gets it and nothing stays of it. Raises VerbError."""
        flow = self._flow
        if self._params["path"] == "in" and not is_local(flow):
            raise VerbError(UNSUPPORTED, "have packets arrive for {}: no address here".format(flow.destination))
        if flow.protocol == 17 and _listened_to("udp", flow.dport):
            text = "send a burst to udp port {}: a program here listens on it and would get the packets"
            raise VerbError(UNSUPPORTED, text.format(flow.dport))
        if flow.protocol != 6 or flow.flags & 0x17 != packets.TCP_FLAGS["syn"]:
            return packets.packet
        if _knows_signatures():
            return lambda each: with_signature(packets.packet(each), each)
        if _listened_to("tcp", flow.dport):
            text = "send a burst to tcp port {}: a program here listens on it, and half-open connections would stay"
            raise VerbError(UNSUPPORTED, text.format(flow.dport))
        return packets.packet

    def _shut(self, stack: contextlib.ExitStack) -> None:
        """Let nothing of the packets and of their answers leave, by any device."""
        try:
            programs: Dict[Tuple[int, bool], int] = {}
            for index, name in socket.if_nameindex():
                ahead = _link_header(name)
                returns = self._loopback and name == str(self._params["out_device"])
                kind = (ahead, returns)
                if kind not in programs:
                    matches = answers(self._flow, ahead) if returns else stopped(self._flow, ahead)
                    programs[kind] = bpf.load(bpf.drop_matching(matches))
                    stack.callback(os.close, programs[kind])
                link = bpf.attach_tcx(programs[kind], index, bpf.TCX_EGRESS)
                if link < 0:
                    self._without_tcx()
                    return
                stack.callback(os.close, link)
        except OSError as error:
            raise from_os_error(error, "keep a burst of packets on this host")

    def _without_tcx(self) -> None:
        """A connection attempt and a ping may leave, as any user's may; anything else and any answer must not."""
        if not self._arrives and self._flow.protocol != 17:
            return
        what = (
            "the packets would leave this host" if not self._arrives else "answers to the packets would leave this host"
        )
        if self._loopback:
            what = "answers to the packets would be counted with them"
        raise VerbError(UNSUPPORTED, "the kernel has no TCX (it came with 6.6), and without it " + what)


def stopped(flow: packets.Flow, ahead: int) -> List[List[Tuple[int, bytes]]]:
    """What must not leave, as places in a frame with ``ahead`` bytes before its IP header: the packet and its answers."""
    kind, protocol_at, _, body = _places(flow, ahead)
    own = [*kind, (protocol_at, bytes([flow.protocol])), (body + flow.tag_at, flow.tag)]
    return [own, *answers(flow, ahead)]


def answers(flow: packets.Flow, ahead: int) -> List[List[Tuple[int, bytes]]]:
    """The answers alone, in the same form (`packets.replies`)."""
    kind, protocol_at, target_at, body = _places(flow, ahead)
    back = [*kind, (target_at, flow.addresses[: len(flow.addresses) // 2])]
    return [
        [*back, (protocol_at, bytes([reply.protocol])), *((body + at, value) for at, value in reply.places)]
        for reply in packets.replies(flow)
    ]


def _places(flow: packets.Flow, ahead: int) -> Tuple[List[Tuple[int, bytes]], int, int, int]:
    """What tells the kind of a frame, and where it has the protocol, the destination and the transport header."""
    kind = [(ahead - 2, struct.pack(">H", flow.ethertype))] if ahead else []
    if flow.six:
        return kind, ahead + 6, ahead + 24, ahead + 40
    return [*kind, (ahead, b"\x45")], ahead + 9, ahead + 16, ahead + 20


def with_signature(packet: bytes, flow: packets.Flow) -> bytes:
    """A TCP segment with an MD5 signature option (RFC 2385) whose signature is nobody's."""
    head = 40 if flow.six else 20
    ip, segment = packet[:head], packet[head:]
    option = b"\x01\x01\x13\x12" + bytes(16)
    size = segment[12] >> 4
    segment = segment[:12] + bytes([(size + 5) << 4]) + segment[13:16] + b"\0\0" + segment[18 : size * 4] + option
    segment += packet[head + size * 4 :]
    if flow.six:
        ip = ip[:4] + struct.pack(">H", len(segment)) + ip[6:]
        pseudo = flow.addresses + struct.pack(">IHBB", len(segment), 0, 0, 6)
    else:
        ip = ip[:2] + struct.pack(">H", head + len(segment)) + ip[4:10] + b"\0\0" + ip[12:]
        ip = ip[:10] + struct.pack(">H", packets.checksum(ip)) + ip[12:]
        pseudo = flow.addresses + struct.pack(">BBH", 0, 6, len(segment))
    return ip + segment[:16] + struct.pack(">H", packets.checksum(pseudo + segment)) + segment[18:]


def _raw_socket(flow: packets.Flow) -> socket.socket:
    """A socket that sends whole packets of this host's own."""
    try:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        return socket.socket(socket.AF_INET6 if flow.six else socket.AF_INET, kind, socket.IPPROTO_RAW)
    except OSError as error:
        raise from_os_error(error, "open the socket that sends the packets")


def _send(flow: packets.Flow) -> None:
    sender = Sender(flow)
    try:
        sender.send()
    finally:
        sender.close()


def _link_header(device: str) -> int:
    """How many bytes a frame of a device has before its IP header."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("16s24x", device.encode("utf-8")))
    return 14 if struct.unpack_from("=H", answer, 16)[0] in _WITH_ETHERNET_HEADER else 0


def _listened_to(protocol: str, port: int) -> bool:
    """Whether a socket of this namespace gets what comes to a port."""
    for name in (protocol, protocol + "6"):
        try:
            with open("/proc/thread-self/net/" + name) as table:
                rows = [line.split() for line in table.readlines()[1:]]
        except OSError:
            continue
        for row in rows:
            if int(row[1].rpartition(":")[2], 16) == port and (protocol == "udp" or row[3] == _LISTENING):
                return True
    return False


def _knows_signatures() -> bool:
    """Whether the kernel looks at TCP signatures (CONFIG_TCP_MD5SIG): it then takes the option, if not this key."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, struct.pack("=H214x", socket.AF_INET))
        except OSError as error:
            return error.errno not in (errno.ENOPROTOOPT, errno.EPERM)
    return True
