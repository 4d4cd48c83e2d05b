"""The verb that sends one packet through this host's packet filters and returns what the kernel said of its way.

The packet never reaches anybody: a chain of ours behind all others drops it, and what a REJECT would answer to it. So
its arrival in that chain is also the proof that nothing dropped it before, in whichever backend.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import time
from typing import Any, Dict, List, Optional, Set

from netdiag.participant import nftables, packets
from netdiag.participant.arrive import Arrival
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, UNSUPPORTED, WITHHELD, VerbError, from_os_error
from netdiag.participant.netlink import HEADER, NETLINK_NETFILTER, NLM_F_REQUEST, attribute, open_netlink, request
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.nftables import NETWORK, TRANSPORT, Chain
from netdiag.participant.sender import Sender

TRACE_MESSAGE = 10 << 8 | 17
_VERDICT, _ID, _NETWORK_HEADER, _TRANSPORT_HEADER, _POLICY = 5, 6, 8, 9, 16
"""Attributes of a trace event (enum nft_trace_attributes)."""
LIMIT_BYTES = 1 << 20
_ETHERTYPES = {False: 0x0800, True: 0x86DD}
_DEFAULT_MAC = b"\x02netdg"
_CONNTRACK_GET = 0x0101


def firewall_trace(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Send one packet through the filters, with a trace of exactly that packet.

    The tables that it needs are owned by a socket: nothing outlives this process. Parameters: ``path``: "in" (it
    arrives on ``device`` as from the wire) or "out" (a socket of this host sends it; ``device`` is where it should
    leave); ``device``, ``src``, ``dst``, ``proto`` (tcp, udp, icmp, icmpv6), ``sport`` (0: any that is free),
    ``dport``, ``icmp_type``, ``tcp_flags`` ("syn", "syn,ack" …), ``ttl``, ``length`` (whole IP packet), ``mac`` (the
    frame's source, for "in"), ``netns``, ``wait_ms`` (how long after the packet the kernel is listened to, default
    500), ``may_load`` (nf_tables and tun may be loaded). Data: ``messages`` (bytes: the trace events of this packet),
    ``table`` (our table's name), ``egress`` (whether the device's egress hook was watched too), ``sport``, ``seen_us``
    (from sending to the event that ended the trace, None when none did), ``foreign`` (events of other packets),
    ``lost`` (events were lost), ``send_error``. Errors: withheld, permission, missing, unsupported, timeout, failed.
    """
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "trace a packet: it could load nf_tables or tun")
    return in_netns(namespace_of(params), lambda: _Trace(params, deadline).run(), deadline)


class _Trace:
    def __init__(self, params: Dict[str, Any], deadline: Deadline) -> None:
        self._params = params
        self._deadline = deadline
        self._inward = params["path"] == "in"
        self._device = str(params["device"])
        self._flow = packets.flow_of(params)
        self._wait_s = float(params.get("wait_ms") or 500) / 1000.0
        self._table = "netdiag-" + os.urandom(4).hex()
        self._messages: List[bytes] = []
        self._ids: Set[bytes] = set()
        self._foreign = 0
        self._lost = False
        self._seen_us: Optional[int] = None
        self._send_error = ""

    def run(self) -> Dict[str, Any]:
        with contextlib.ExitStack() as stack:
            if self._inward:
                self._check_free()
                arrival = Arrival(self._device)
                stack.callback(arrival.close)
                send = self._prepare_arrival(arrival)
            else:
                sender = Sender(self._flow)
                stack.callback(sender.close)
                self._flow = sender.flow
                send = sender.send
            listener = nftables.open_traces("listen to trace events")
            stack.callback(listener.close)
            egress = self._make_table(stack)
            start_s = time.monotonic()
            try:
                send()
            except OSError as error:
                # EPERM is how a dropping OUTPUT chain shows itself to the sender.
                self._send_error = os.strerror(error.errno or 0)
                if error.errno not in (errno.EPERM, errno.EINPROGRESS, errno.ECONNREFUSED, errno.EHOSTUNREACH):
                    raise from_os_error(error, "send the packet")
            self._listen(listener, start_s)
        return {
            "messages": b"".join(self._messages),
            "table": self._table,
            "egress": egress,
            "sport": self._flow.sport,
            "seen_us": self._seen_us,
            "foreign": self._foreign,
            "lost": self._lost,
            "send_error": self._send_error,
        }

    def _prepare_arrival(self, arrival: Arrival) -> Any:
        raw = packets.packet(self._flow)
        source = bytes.fromhex(str(self._params.get("mac") or "").replace(":", "")) or _DEFAULT_MAC
        return lambda: arrival.send(source, _ETHERTYPES[self._flow.six], raw)

    def _make_table(self, stack: contextlib.ExitStack) -> bool:
        """Make our table, with the device's egress hook where the kernel has it (5.16). Says whether it has."""
        for egress in (True, False):
            try:
                table = nftables.OwnedTable(self._table, self._chains(egress), self._deadline)
            except VerbError as error:
                if egress and error.kind in ("unsupported", "missing"):
                    continue
                raise
            stack.callback(table.close)
            return egress
        raise VerbError(FAILED, "make an nft table of our own")

    def _chains(self, egress: bool) -> List[Chain]:
        inet, netdev = nftables.NFPROTO_INET, nftables.NFPROTO_NETDEV
        exact = self._match_flow() + nftables.set_trace()
        end = self._match_tag() + nftables.drop()
        answers = tuple(match + nftables.drop() for match in self._match_answers())
        if self._inward:
            chains = [
                Chain(netdev, "begin", nftables.INGRESS, nftables.FIRST, self._device, (exact,)),
                Chain(inet, "begin", nftables.PREROUTING, nftables.FIRST, "", (exact,)),
                Chain(inet, "answers", nftables.OUTPUT, nftables.FIRST, "", answers),
                Chain(inet, "end-input", nftables.INPUT, nftables.LAST, "", (end,)),
                # A packet that a rule turns to somebody else's address leaves by here.
                Chain(inet, "end-postrouting", nftables.POSTROUTING, nftables.LAST, "", (end,)),
            ]
            if egress:
                # What the family netdev rejects is answered without passing OUTPUT.
                chains.append(Chain(netdev, "answers", nftables.EGRESS, nftables.FIRST, self._device, answers))
            return chains
        chains = [Chain(inet, "begin", nftables.OUTPUT, nftables.FIRST, "", (exact,))]
        if egress:
            index = struct.pack("=I", socket.if_nametoindex(self._device))
            elsewhere = nftables.meta_is(nftables.META_OIF, index, differs=True) + end
            chains.append(Chain(inet, "end-postrouting", nftables.POSTROUTING, nftables.LAST, "", (elsewhere,)))
            chains.append(Chain(netdev, "end-egress", nftables.EGRESS, nftables.LAST, self._device, (end,)))
        else:
            chains.append(Chain(inet, "end-postrouting", nftables.POSTROUTING, nftables.LAST, "", (end,)))
        return chains

    def _match_tag(self) -> bytes:
        """This packet, whatever NAT made of its tuple."""
        flow = self._flow
        return (
            nftables.meta_is(nftables.META_PROTOCOL, struct.pack(">H", _ETHERTYPES[flow.six]))
            + nftables.meta_is(nftables.META_L4PROTO, bytes([flow.protocol]))
            + nftables.payload_is(TRANSPORT, flow.tag_at, flow.tag)
        )

    def _match_flow(self) -> bytes:
        """This packet by its whole tuple and its tag."""
        flow = self._flow
        match = self._match_tag()
        # In two parts: a register holds 16 bytes.
        half = len(flow.addresses) // 2
        at = 8 if flow.six else 12
        match += nftables.payload_is(NETWORK, at, flow.addresses[:half])
        match += nftables.payload_is(NETWORK, at + half, flow.addresses[half:])
        if flow.protocol in (6, 17):
            match += nftables.payload_is(TRANSPORT, 0, struct.pack(">HH", flow.sport, flow.dport))
        return match

    def _match_answers(self) -> List[bytes]:
        """What this host would answer: an ICMP error that quotes the packet, or a RST with its numbers."""
        flow = self._flow
        half = len(flow.addresses) // 2
        kind = nftables.meta_is(nftables.META_PROTOCOL, struct.pack(">H", _ETHERTYPES[flow.six]))
        back = nftables.payload_is(NETWORK, (8 if flow.six else 12) + half, flow.addresses[:half])
        icmp = nftables.meta_is(nftables.META_L4PROTO, bytes([58 if flow.six else 1]))
        quoted = nftables.payload_is(TRANSPORT, 8 + (40 if flow.six else 20) + flow.tag_at, flow.tag)
        matches = [kind + back + icmp + quoted]
        if flow.protocol == 6:
            tcp = nftables.meta_is(nftables.META_L4PROTO, b"\x06")
            beyond = len(packets.payload(flow)) + bin(flow.flags & 3).count("1")
            acknowledged = struct.pack(">I", (struct.unpack(">I", flow.tag)[0] + beyond) & 0xFFFFFFFF)
            matches.append(kind + back + tcp + nftables.payload_is(TRANSPORT, 8, acknowledged))
            matches.append(kind + back + tcp + nftables.payload_is(TRANSPORT, 4, flow.tag))
        return matches

    def _check_free(self) -> None:
        """Raise unless the packet's tuple belongs to nobody: it must not touch a connection that is in use."""
        flow = self._flow
        if not _is_local(flow):
            raise VerbError(
                UNSUPPORTED, "have a packet arrive for {}: not an address of this host".format(flow.destination)
            )
        if flow.protocol not in (6, 17):
            return
        given = bool(flow.sport)
        for _ in range(8):
            if not given:
                self._flow = flow = flow._replace(sport=32768 + struct.unpack("=H", os.urandom(2))[0] % 28232)
            if not _tracked(flow, self._deadline):
                return
            if given:
                break
        text = "have a packet arrive: conntrack has {} port {} to {} port {} in use; give another source port"
        raise VerbError(UNSUPPORTED, text.format(flow.source, flow.sport, flow.destination, flow.dport))

    def _listen(self, listener: socket.socket, start_s: float) -> None:
        """Read events until one ends the packet's way, or for as long as the caller waits."""
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        end_s = start_s + min(self._wait_s, self._deadline.left())
        while True:
            if not poller.poll(max(0, int((end_s - time.monotonic()) * 1000))) or time.monotonic() > end_s:
                return
            try:
                data = listener.recv(1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
                self._ids.clear()  # among the lost may have been the event that gave an id to another packet
                continue
            if self._take(data):
                self._seen_us = int((time.monotonic() - start_s) * 1e6)
                return

    def _take(self, data: bytes) -> bool:
        """Keep the events of our packet in one datagram; True when one of them ends its way."""
        ended, offset = False, 0
        while offset + HEADER.size + 4 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if length < HEADER.size:
                break
            if kind == TRACE_MESSAGE:
                found = _attributes(data[offset + HEADER.size + 4 : offset + length])
                if self._is_ours(found):
                    if sum(map(len, self._messages)) < LIMIT_BYTES:
                        self._messages.append(data[offset : offset + ((length + 3) & ~3)])
                    else:
                        self._lost = True
                    ended = ended or self._ends(found)
                else:
                    self._foreign += 1
            offset += (length + 3) & ~3
        return ended

    def _is_ours(self, found: Dict[int, bytes]) -> bool:
        """Whether an event is about our packet.

        The kernel makes ids from addresses of memory and uses them again at once, so an id alone proves nothing. But
        the first event of each base chain carries the packet's headers, and the tag in them is nobody else's.
        """
        identity, header = found.get(_ID, b""), found.get(_TRANSPORT_HEADER)
        if header is not None or _NETWORK_HEADER in found:
            at = self._flow.tag_at
            if (header or b"")[at : at + len(self._flow.tag)] == self._flow.tag:
                self._ids.add(identity)
            else:
                self._ids.discard(identity)
        return identity in self._ids

    def _ends(self, found: Dict[int, bytes]) -> bool:
        """Whether the packet goes no further behind this event: dropped or stolen, by a rule or by a policy."""
        code = _attributes(found.get(_VERDICT, b"")).get(1, b"") or found.get(_POLICY, b"")
        return len(code) == 4 and struct.unpack(">I", code)[0] in (0, 2)


def _is_local(flow: packets.Flow) -> bool:
    with socket.socket(socket.AF_INET6 if flow.six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((flow.destination, 0))
        except OSError:
            return False
    return True


def _tracked(flow: packets.Flow, deadline: Deadline) -> bool:
    """Whether conntrack knows the tuple; it is not asked, which would load it, where it does not run."""
    if not os.path.exists("/proc/sys/net/netfilter/nf_conntrack_count"):
        return False
    half = len(flow.addresses) // 2
    first = 3 if flow.six else 1
    addresses = attribute(first, flow.addresses[:half]) + attribute(first + 1, flow.addresses[half:])
    ports = attribute(2, struct.pack(">H", flow.sport)) + attribute(3, struct.pack(">H", flow.dport))
    tuple_ = attribute(0x8001, addresses) + attribute(0x8002, attribute(1, bytes([flow.protocol])) + ports)
    body = struct.pack(">BBH", 10 if flow.six else 2, 0, 0) + attribute(0x8001, tuple_)
    tried = "look a connection up"
    with open_netlink(NETLINK_NETFILTER, tried, 1 << 16, False) as sock:
        answer = request(sock, _CONNTRACK_GET, NLM_F_REQUEST, body, deadline, tried)
    return bool(answer["errno"] == 0)


def _attributes(data: bytes) -> Dict[int, bytes]:
    found: Dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found
