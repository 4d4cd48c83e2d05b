"""The verb that sends one packet through this host's packet filters and returns what the kernel said of its way.

The packet never reaches anybody: a chain of ours behind all others drops it, and what a REJECT would answer to it. So
its arrival in that chain is also the proof that nothing dropped it before, in whichever backend.
"""

import contextlib
import os
import socket
import struct
import time
from typing import Any, Dict, List, Optional, Sequence, Union

from netdiag.participant import life, nf_log, nftables, packets, sweep, trace_chains
from netdiag.participant.arrive import Arrival
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, UNSUPPORTED, WITHHELD, VerbError, from_os_error
from netdiag.participant.learnt import Learnt
from netdiag.participant.legacy_trace import LegacyTrace
from netdiag.participant.netlink import (
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_REQUEST,
    attribute,
    open_netlink,
    request,
)
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.sender import TOLD_TO_THE_SENDER, Sender
from netdiag.participant.trace_events import NETWORK_HEADER, TRANSPORT_HEADER, Clones, Copies, End, Reader
from netdiag.participant.user import owned_socket

_CONNTRACK_GET = 0x0101
_RTM_GETROUTE, _RTA_DST, _RTN_LOCAL = 26, 1, 2
_ROUTE_TYPE_AT = HEADER.size + 7


def firewall_trace(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Send one packet through the filters, with a trace of exactly that packet.

    Nothing that it makes outlives this process, and what an earlier one left in the namespace is removed first.
    Parameters: ``level`` ("swept-trace": tables without an owner); ``legacy`` (listen to legacy iptables too, which
    changes the namespace's logger meanwhile); ``path``: "in" or "forward" (it arrives on ``in_device`` as from the wire) or "out" (a socket of this host sends it); ``out_device``
    (by which it should leave); ``as_pid``, ``as_user``, ``as_group`` as for ``tcp-connect``, for "out"; ``copied`` (see `trace_chains.Way`) and ``port`` (the port whose copy decides; empty
    where that is not known); ``src``, ``dst``, ``proto`` (tcp, udp, icmp, icmpv6, arp, or as `packets.PROTOCOLS`),
    ``sport`` (0: any that is free), ``dport``, ``icmp_type``, ``tcp_flags`` ("syn", "syn,ack" …), ``ttl``, ``length``
    (whole IP packet), ``payload`` ("vxlan": it carries a VXLAN header), ``mac`` (the frame's source), ``frame_mac`` (its destination, else the device's own),
    ``bridged`` (``in_device`` is a bridge's port, and the frame is not for the bridge itself), ``forget_mac`` (the
    bridge should know of ``mac`` afterwards what it knew before), ``egress_devices``, ``elsewhere`` and ``loopback`` (see
    `trace_chains.Way`), ``netns``, ``wait_ms`` (how long after the packet the kernel is listened to, default 500), ``may_load`` (nf_tables
    and tun may be loaded). Data: ``messages`` (bytes: the trace events of this packet), ``table`` (our table's name),
    ``egress`` (whether the egress hooks were watched), ``sport``, ``seen_us`` (from sending to the event that ended
    the trace, None when none did), ``foreign`` (events of other packets), ``lost`` (events were lost),
    ``send_error``, ``legacy`` (bytes: what legacy chains reported of it, None when they were not listened to),
    ``legacy_lost``, ``legacy_error`` (why they were not). Errors: withheld, permission, missing, unsupported, timeout, failed.
    """
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "trace a packet: it could load nf_tables or tun")
    return in_netns(namespace_of(params), lambda: _Trace(params, deadline).run(), deadline)


def trace_several(
    several: Sequence[Dict[str, Any]], each_s: float, deadline: Deadline
) -> List[Union[Dict[str, Any], VerbError]]:
    """`firewall_trace` for one packet after another, in the calling thread's namespace.

    They share the ways by which they arrive, which take longer to make than all else. Only for a namespace that nobody
    else uses: such a way stays for as long as the others take. Each has ``deadline_s`` for itself.
    """
    arrivals: Dict[str, Arrival] = {}
    found: List[Union[Dict[str, Any], VerbError]] = []
    try:
        for params in several:
            if found and not deadline.left():
                break
            try:
                found.append(_Trace(params, Deadline(each_s), arrivals).run())
            except VerbError as error:
                found.append(error)
    finally:
        for arrival in arrivals.values():
            arrival.close()
    return found


class _Trace:
    def __init__(
        self, params: Dict[str, Any], deadline: Deadline, arrivals: Optional[Dict[str, Arrival]] = None
    ) -> None:
        self._params = params
        self._arrivals = arrivals
        self._deadline = deadline
        self._way = trace_chains.Way(
            path=str(params["path"]),
            in_device=str(params.get("in_device") or ""),
            out_device=str(params.get("out_device") or ""),
            egress_devices=[str(device) for device in params.get("egress_devices") or ()],
            elsewhere=bool(params.get("elsewhere")),
            bridged=bool(params.get("bridged")),
            loopback=bool(params.get("loopback")),
            copied=str(params.get("copied") or ""),
        )
        self._flow = packets.flow_of(params)
        self._wait_s = float(params.get("wait_ms") or 500) / 1000.0
        self._table = life.new_table_name()
        self._send_error = ""
        self._legacy_error = ""

    def run(self) -> Dict[str, Any]:
        sweep.sweep(self._deadline)
        with contextlib.ExitStack() as stack:
            if self._way.path == "out":
                with owned_socket(self._params):
                    sender = Sender(self._flow)
                stack.callback(sender.close)
                self._flow = sender.flow
                send = sender.send
            else:
                self._check_free()
                arrival = self._arrival(stack)
                send = self._prepare_arrival(arrival)
                if self._params.get("forget_mac"):
                    stack.callback(Learnt(self._way.in_device, self._flow.mac, self._deadline).restore)
            # What takes long comes first: from here on events of others fill the reader's room.
            legacy = self._listen_to_legacy(stack)
            reader = Reader(self.claims, self._end(), Clones(self._table, self._way.path == "out"))
            stack.callback(reader.close)
            egress = self._make_table(stack)
            start_s = time.monotonic()
            try:
                send()
            except OSError as error:
                self._send_error = os.strerror(error.errno or 0)
                if error.errno not in TOLD_TO_THE_SENDER:
                    raise from_os_error(error, "send the packet")
            if legacy is None:
                reader.listen(start_s, self._wait_s, self._deadline)
            else:
                legacy.listen(reader, start_s, self._wait_s, self._deadline)
                self._legacy_error = nf_log.changed_meanwhile()
                if self._legacy_error:
                    legacy = None
            if self._way.copied and not self._params.get("port"):
                reader.listen_behind(self._deadline)
        return {
            "messages": b"".join(reader.messages),
            "table": self._table,
            "egress": egress,
            "sport": self._flow.sport,
            "seen_us": reader.seen_us if legacy is None or reader.seen_us is not None else legacy.seen_us,
            "foreign": reader.foreign,
            "lost": reader.lost,
            "send_error": self._send_error,
            "legacy": None if legacy is None else legacy.messages,
            "legacy_lost": legacy is not None and legacy.lost,
            "legacy_error": self._legacy_error,
        }

    def _arrival(self, stack: contextlib.ExitStack) -> Arrival:
        device = self._way.in_device
        if self._arrivals is not None and device in self._arrivals:
            return self._arrivals[device]
        arrival = Arrival(device)
        if self._arrivals is None:
            stack.callback(arrival.close)
        else:
            self._arrivals[device] = arrival
        return arrival

    def _end(self) -> Optional[End]:
        """What ends the listening, where it is not the first event that takes the packet away."""
        port = str(self._params.get("port") or "")
        if not (self._way.copied and port):
            return None
        ports = [socket.if_nametoindex(device) for device in self._way.egress_devices]
        return Copies(ports, socket.if_nametoindex(port)).ends

    def claims(self, found: Dict[int, bytes]) -> Optional[bool]:
        """Whether the headers of an event carry our tag, which nobody else's do."""
        header = found.get(NETWORK_HEADER if self._flow.arp else TRANSPORT_HEADER)
        if header is None and NETWORK_HEADER not in found:
            return None
        at = self._flow.tag_at
        return (header or b"")[at : at + len(self._flow.tag)] == self._flow.tag

    def _prepare_arrival(self, arrival: Arrival) -> Any:
        raw = packets.packet(self._flow)
        given = str(self._params.get("frame_mac") or "").replace(":", "")
        target = b"\xff" * 6 if self._flow.arp and not given else bytes.fromhex(given) or None
        return lambda: arrival.send(self._flow.mac, self._flow.ethertype, raw, target)

    def _listen_to_legacy(self, stack: contextlib.ExitStack) -> Optional[LegacyTrace]:
        """Legacy chains' reports, where they are wanted and can be had: what nft says is worth telling without them."""
        if not self._params.get("legacy") or self._flow.arp:
            return None
        try:
            legacy = LegacyTrace(self._flow, self._deadline)
        except VerbError as error:
            self._legacy_error = error.text
            return None
        stack.callback(legacy.close)
        return legacy

    def _make_table(self, stack: contextlib.ExitStack) -> bool:
        """Make our table, with egress hooks where the kernel has them (5.16). Says whether it has."""
        for egress in (True, False):
            try:
                chains = trace_chains.chains_of(self._flow, self._way, egress)
                table = nftables.make_table(str(self._params.get("level") or ""), self._table, chains, self._deadline)
            except OSError as error:
                raise from_os_error(error, "trace a packet")
            except VerbError as error:
                if egress and error.kind in ("unsupported", "missing"):
                    continue
                raise
            stack.callback(table.close)
            return egress
        raise VerbError(FAILED, "make an nft table of our own")

    def _check_free(self) -> None:
        """Raise unless the packet's tuple belongs to nobody: it must not touch a connection that is in use."""
        flow = self._flow
        if self._way.path == "in" and not is_local(flow):
            raise VerbError(
                UNSUPPORTED, "have a packet arrive for {}: not an address of this host".format(flow.destination)
            )
        if flow.protocol not in (6, 17):
            return
        given = bool(flow.sport)
        for _ in range(8):
            if not given:
                self._flow = flow = flow._replace(sport=32768 + struct.unpack("=H", os.urandom(2))[0] % 28232)
            if not tracked(flow, self._deadline):
                return
            if given:
                break
        text = "have a packet arrive: conntrack has {} port {} to {} port {} in use; give another source port"
        raise VerbError(UNSUPPORTED, text.format(flow.source, flow.sport, flow.destination, flow.dport))


def is_local(flow: packets.Flow) -> bool:
    """Whether the destination is an address of this namespace."""
    with socket.socket(socket.AF_INET6 if flow.six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(flow.place(flow.destination, 0))
        except OSError:
            return False
    return not _binds_to_any(flow.six) or _has_local_route(flow)


def _binds_to_any(six: bool) -> bool:
    """Whether a socket here may bind to addresses of others too."""
    try:
        with open("/proc/sys/net/ipv{}/ip_nonlocal_bind".format(6 if six else 4), encoding="ascii") as setting:
            return setting.read().strip() != "0"
    except OSError:
        return False


def _has_local_route(flow: packets.Flow) -> bool:
    """Whether the kernel would deliver to the destination here."""
    half = len(flow.addresses) // 2
    family = socket.AF_INET6 if flow.six else socket.AF_INET
    body = struct.pack("=8BI", family, half * 8, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, flow.addresses[half:])
    tried = "look up whose address {} is".format(flow.destination)
    with open_netlink(0, tried, 1 << 16, False) as sock:
        answer = request(sock, _RTM_GETROUTE, NLM_F_REQUEST, body, Deadline(1.0), tried)
    messages = answer["messages"]
    return not answer["errno"] and len(messages) > _ROUTE_TYPE_AT and messages[_ROUTE_TYPE_AT] == _RTN_LOCAL


def tracked(flow: packets.Flow, deadline: Deadline) -> bool:
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
