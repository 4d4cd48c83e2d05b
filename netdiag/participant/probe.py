"""The verb that sends probes from real sockets of this host and tells what came back to each.

A socket sends whatever a socket can, so that the kernel's own checksums, offloads, filters and connection tracking are
asked; only what leaves from a port that a program here holds is built by hand.
"""

import errno
import os
import select
import socket
import struct
import time
from typing import Any, Dict, List, Optional, Tuple

from netdiag.participant import packets
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.errqueue import (
    IP_MTU_DISCOVER,
    IPV6_DONTFRAG,
    IPV6_MTU_DISCOVER,
    PMTUDISC_PROBE,
    read_errors,
    report_icmp_errors,
)
from netdiag.participant.marks import ANSWER, TAG_BYTES, VNI_BASE, Mark
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.sender import set_initial_sequence
from netdiag.participant.trace import is_local
from netdiag.participant.user import owned_socket

MOST_PROBES, MOST_COUNT = 256, 8
MOST_BYTES = 4 << 20
"""Of one request."""
LEAST_PACE_MS = 0.5
"""Between two packets of a request."""
_PMTUDISC_DONT = 0
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_ECHO_REPLY, _ECHO_REPLY6 = 0, 129
_SPI = b"ndia"
_INNER_SOURCE, _INNER_TARGET, _DISCARD = "192.0.2.1", "192.0.2.2", 9
_IN_PROGRESS = (errno.EINPROGRESS, errno.EAGAIN)


def send_probe(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Send one probe, or several at a bounded rate, and listen for what comes back.

    Parameters: ``netns``; ``as_pid``, ``as_user``, ``as_group`` as for ``tcp-connect``; ``wait_ms`` (how long after the last packet answers are waited for, default 500; it ends
    early when every probe that expects an answer has one); ``pace_ms`` (between two packets, default 1); ``probes``, a
    list of probes, or one probe's own parameters beside these: ``proto`` (tcp, udp, esp, icmp (of the address's family), or a number), ``src``
    (routing's choice by default), ``dst``, ``sport`` (0: any that is free), ``dport``, ``length`` (of the whole IP
    packet; 0: as short as it can be), ``ttl``, ``df``, ``payload`` ("tag" or "vxlan"), ``tag`` (16 hexadecimal digits;
    random by default), ``count`` (how often it is sent, 8 at most; TCP repeats by itself), ``gap_ms`` (between two of
    them, default 20), ``expects`` (false: nothing is waited for), ``by_hand`` (from a port that somebody here holds;
    nothing is heard of it).

    Data: for one probe, or for each in ``probes``: ``src``, ``sport``, ``tag``, ``sequence`` (TCP's initial number,
    None when the kernel chose), ``length``, ``sent_us`` (each sending, since the start), ``errno`` and ``error`` (the
    kernel refused to send), ``user`` (whose socket it was), ``heard``: {``kind``: nothing | connected | reset | icmp | reply, ``rtt_us``, ``icmp``:
    None or {``type``, ``code``, ``info``, ``offender``, ``origin``}}. Errors: unsupported (more than is allowed, a
    source that is not this host's), permission, missing, failed.
    """
    several = params.get("probes")
    wanted: List[Dict[str, Any]] = [dict(each) for each in several] if several is not None else [params]
    count = sum(max(1, int(each.get("count") or 1)) for each in wanted)
    size = sum(int(each.get("length") or 64) * max(1, int(each.get("count") or 1)) for each in wanted)
    if len(wanted) > MOST_PROBES or count > MOST_PROBES * MOST_COUNT or size > MOST_BYTES:
        text = "send {} probes of {} bytes together: {} and {} at most"
        raise VerbError(UNSUPPORTED, text.format(len(wanted), size, MOST_PROBES, MOST_BYTES))

    def work() -> Dict[str, Any]:
        rows = _Batch(params, wanted, deadline).run()
        return {"probes": rows} if several is not None else rows[0]

    return in_netns(namespace_of(params), work, Deadline(deadline.left() + 0.2))


class _Batch:
    def __init__(self, params: Dict[str, Any], wanted: List[Dict[str, Any]], deadline: Deadline) -> None:
        self._wait_s = float(params.get("wait_ms", 500)) / 1000.0
        self._pace_s = max(LEAST_PACE_MS, float(params.get("pace_ms") or 1.0)) / 1000.0
        self._deadline = deadline
        self._owner = params
        self._probes: List[_Probe] = []
        self._rows: List[Dict[str, Any]] = []
        try:
            for each in wanted:
                self._open(each, alone=len(wanted) == 1)
        except BaseException:
            self._close()
            raise

    def _open(self, wanted: Dict[str, Any], alone: bool) -> None:
        """A probe with its socket. Among several, one for which there is none (protocol 50 needs root) costs no other."""
        try:
            probe = _Probe(wanted, self._owner)
        except VerbError as error:
            if alone or error.kind == UNSUPPORTED:
                raise
            self._rows.append(dict(_new_row(), error=error.text))
            return
        self._probes.append(probe)
        self._rows.append(probe.row)

    def run(self) -> List[Dict[str, Any]]:
        start_s = time.monotonic()
        due: List[Tuple[float, int]] = []
        for index, probe in enumerate(self._probes):
            due += [(index * self._pace_s + number * probe.gap_s, index) for number in range(probe.count)]
        due.sort()
        end_s = start_s + self._deadline.left()
        try:
            last_s = start_s
            for at_s, index in due:
                # Two that fall together keep their distance as well.
                self._listen(min(max(start_s + at_s, last_s + self._pace_s / 2), end_s), True)
                self._probes[index].send(start_s)
                last_s = time.monotonic()
            self._listen(min(last_s + self._wait_s, end_s), False)
        finally:
            self._close()
        return self._rows

    def _listen(self, until_s: float, sending: bool) -> None:
        poller = select.poll()
        by_descriptor: Dict[int, _Probe] = {}
        for probe in self._probes:
            if probe.waits():
                poller.register(probe.sock, probe.events())
                by_descriptor[probe.sock.fileno()] = probe
        while True:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or (not sending and not any(probe.waits() for probe in by_descriptor.values())):
                return
            for descriptor, _ in poller.poll(left_s * 1000 if left_s < 0.01 else int(left_s * 1000)):
                probe = by_descriptor[descriptor]
                probe.hear()
                if not probe.open():
                    poller.unregister(descriptor)
                    by_descriptor.pop(descriptor)

    def _close(self) -> None:
        for probe in self._probes:
            probe.sock.close()


def _new_row() -> Dict[str, Any]:
    return {
        "src": "",
        "sport": 0,
        "tag": "",
        "sequence": None,
        "length": 0,
        "sent_us": [],
        "errno": 0,
        "error": "",
        "user": None,
        "heard": {"kind": "nothing", "rtt_us": None, "icmp": None},
    }


class _Probe:
    """One probe with its socket."""

    def __init__(self, params: Dict[str, Any], owner: Dict[str, Any]) -> None:
        self.count = max(1, min(MOST_COUNT, int(params.get("count") or 1)))
        self.gap_s = max(1.0, float(params.get("gap_ms") or 20.0)) / 1000.0
        self._expects = bool(params.get("expects", True))
        self._by_hand = bool(params.get("by_hand"))
        self._vxlan = str(params.get("payload") or "tag") == "vxlan"
        self._df = bool(params.get("df"))
        source = str(params.get("src") or "")
        six = ":" in str(params["dst"])
        proto = "icmpv6" if six and str(params["proto"]) == "icmp" else str(params["proto"])
        found = dict(params, src=source or _chosen_source(str(params["dst"])), proto=proto)
        flow = packets.flow_of(found)
        if flow.arp:
            raise VerbError(UNSUPPORTED, "send a probe of arp: only IP")
        if not is_local(flow._replace(destination=flow.source)):
            raise VerbError(UNSUPPORTED, "send a probe from {}: no address here".format(flow.source))
        tag = bytes.fromhex(str(params.get("tag") or "")) or os.urandom(TAG_BYTES)
        if len(tag) != TAG_BYTES:
            raise VerbError(UNSUPPORTED, "tag {}: 16 hexadecimal digits".format(tag.hex()))
        self._tag = tag
        self._mark = Mark(tag[:4])
        self._number = struct.unpack(">I", tag[4:])[0]
        self._flow = flow._replace(tag=self._after_header(flow, tag))
        self._sent_s = 0.0
        self._whole = False
        self.row = dict(_new_row(), src=flow.source, tag=tag.hex())
        try:
            with owned_socket(owner) as user:
                self.sock = self._opened()
            self.row["user"] = user
        except OSError as error:
            raise from_os_error(error, "open the socket of a probe to {}".format(flow.destination))
        head = (40 if flow.six else 20) + {6: 20, 17: 8, 1: 8, 58: 8}.get(flow.protocol, 0)
        self.row["length"] = max(flow.length, head + (0 if flow.protocol == 6 else len(self._flow.tag)))
        self.row["sport"] = self._flow.sport

    def send(self, start_s: float) -> None:
        """Send it once; what the kernel refuses is kept for the answer."""
        if self._flow.protocol == 6 and self.row["sent_us"] and not self._whole:
            return
        for _ in range(2):
            try:
                self._put()
                break
            except OSError as error:
                number = error.errno or errno.EIO
            if number in _IN_PROGRESS:
                break
            if number == errno.ENOBUFS:
                # The device took it and lost it (ip(7) on IP_RECVERR): how far it came is seen elsewhere.
                self.row["errno"], self.row["error"] = number, os.strerror(number)
                break
            # An earlier packet's ICMP error is reported on the next send; it is read from the queue, so try again.
            self._read_errors()
        else:
            self.row["errno"], self.row["error"] = number, os.strerror(number)
            return
        self._sent_s = time.monotonic()
        self.row["sent_us"].append(int((self._sent_s - start_s) * 1e6))

    def _put(self) -> None:
        flow = self._flow
        if self._whole:
            self.sock.sendto(packets.packet(flow), (flow.destination, 0))
        elif flow.protocol == 6:
            self.sock.connect((flow.destination, flow.dport))
        elif flow.protocol == 17:
            self.sock.sendto(packets.payload(flow), (flow.destination, flow.dport))
        else:
            self.sock.send(packets.after_ip(flow))

    def open(self) -> bool:
        """Whether something could still be heard that says more."""
        return bool(self.row["heard"]["kind"] in ("nothing", "icmp")) and not self._finished()

    def waits(self) -> bool:
        """Whether its answer is worth waiting for."""
        refused = self.row["errno"] and not self.row["sent_us"]
        return self._expects and not self._whole and self.row["heard"]["kind"] == "nothing" and not refused

    def events(self) -> int:
        """What poll should look for; a socket that connects can be written to when it has."""
        return select.POLLOUT if self._flow.protocol == 6 else select.POLLIN

    def hear(self) -> None:
        """Take what has come."""
        if self._flow.protocol == 6:
            self._hear_tcp()
            return
        self._read_errors()
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error, which is in the queue as well
            if self._is_answer(data):
                self._heard("reply")
                return

    def _is_answer(self, data: bytes) -> bool:
        if self._flow.protocol == 17:
            return data[:TAG_BYTES] == self._mark.tag(self._number | ANSWER)
        # A raw IPv4 socket gives the IP header too.
        begin = (data[0] & 15) * 4 if data and data[0] >> 4 == 4 and not self._flow.six else 0
        return data[begin + 8 : begin + 8 + TAG_BYTES] == self._tag

    def _hear_tcp(self) -> None:
        if not self.row["sent_us"]:
            return
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._read_errors()
        if number == 0:
            try:
                self.sock.getpeername()
            except OSError:
                return  # woken by the error queue
            self._heard("connected")
        elif self.row["heard"]["kind"] != "icmp":
            self.row["errno"], self.row["error"] = number, os.strerror(number)
            if number == errno.ECONNREFUSED:
                self._heard("reset")

    def _finished(self) -> bool:
        return self._flow.protocol == 6 and bool(self.row["errno"])

    def _heard(self, kind: str) -> None:
        rtt_us = int((time.monotonic() - self._sent_s) * 1e6)
        self.row["heard"] = {"kind": kind, "rtt_us": rtt_us, "icmp": self.row["heard"]["icmp"]}

    def _read_errors(self) -> None:
        for found in read_errors(self.sock):
            if not self._is_about(found.pop("payload")):
                continue
            number = found.pop("errno")
            del found["error"]
            if found["origin"] == "local":
                self.row["errno"], self.row["error"] = number, os.strerror(number)
                continue
            if self.row["heard"]["icmp"] is None:
                self.row["heard"]["icmp"] = found
                self._heard("icmp")

    def _is_about(self, quoted: bytes) -> bool:
        """Whether an ICMP error quotes this packet: a raw socket is told the errors of all of its protocol.

        Behind the first 4 bytes, with which nothing is known, stands what tells it; routers quote 8 bytes at least.
        """
        if self._flow.protocol in (6, 17):
            return True
        sent = packets.after_ip(self._flow)[4:16]
        return len(quoted) >= 8 and quoted[4:16] == sent[: len(quoted) - 4]

    def _after_header(self, flow: packets.Flow, tag: bytes) -> bytes:
        """What stands behind the transport header: the packet's own tag, as `packets.payload` takes it."""
        if flow.protocol == 6:
            return struct.pack(">I", self._mark.sequence(self._number & 0xFFFF) or 1)
        if flow.protocol == 50:
            return _SPI + struct.pack(">I", self._number) + tag
        if flow.protocol in (1, 58):
            # The message's own identifier and sequence number are taken from the first 4 bytes.
            return tag
        return self._encapsulated(flow, tag) if self._vxlan else tag

    def _encapsulated(self, flow: packets.Flow, tag: bytes) -> bytes:
        """VXLAN of a network that nobody has, and in it a datagram with the tag (RFC 7348)."""
        head = (40 if flow.six else 20) + 8
        inner = flow._replace(
            six=False,
            source=_INNER_SOURCE,
            destination=_INNER_TARGET,
            sport=_DISCARD,
            dport=_DISCARD,
            length=max(0, flow.length - head - 8 - 14),
            tag=tag,
        )
        vxlan = struct.pack(">II", 0x08000000, (VNI_BASE | self._number & 0xFFFF) << 8)
        frame = self._mark.inner_mac + b"\0\0" + self._mark.inner_mac + b"\0\1" + b"\x08\x00"
        return vxlan + frame + packets.packet(inner)

    def _opened(self) -> socket.socket:
        flow = self._flow
        family = socket.AF_INET6 if flow.six else socket.AF_INET
        if self._by_hand:
            self._whole = True
            if flow.protocol == 6:
                self.row["sequence"] = struct.unpack(">I", flow.tag)[0]
            return socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        kind = {6: socket.SOCK_STREAM, 17: socket.SOCK_DGRAM}.get(flow.protocol, socket.SOCK_RAW)
        protocol = 0 if flow.protocol in (6, 17) else flow.protocol
        try:
            sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
        except PermissionError:
            if flow.protocol not in (1, 58):
                raise
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
        try:
            self._prepare(sock, kind)
        except OSError:
            sock.close()
            raise
        return sock

    def _prepare(self, sock: socket.socket, kind: int) -> None:
        flow = self._flow
        report_icmp_errors(sock)
        if flow.six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, flow.ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE if self._df else _PMTUDISC_DONT)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, int(self._df))
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, flow.ttl)
            if flow.protocol != 6 or self._df:
                # What the kernel has learnt of the path's MTU is not asked: this may be what is to be found out.
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE if self._df else _PMTUDISC_DONT)
        sock.bind((flow.source, flow.sport if kind != socket.SOCK_RAW else 0))
        if flow.protocol in (6, 17):
            self._flow = flow._replace(sport=sock.getsockname()[1])
        if flow.protocol == 6:
            number = struct.unpack(">I", flow.tag)[0]
            try:
                set_initial_sequence(sock, number)
                self.row["sequence"] = number
            except PermissionError:
                pass  # only root chooses it; the connection says enough without
        elif flow.protocol != 17:
            _only_replies(sock, flow)
            sock.connect((flow.destination, 0))


def _only_replies(sock: socket.socket, flow: packets.Flow) -> None:
    """Have the kernel hand over echo replies only (raw(7); RFC 3542 §3.2)."""
    if sock.type & 0xF != socket.SOCK_RAW:
        return
    if flow.protocol == 58:
        words = [0xFFFFFFFF] * 8
        words[_ECHO_REPLY6 // 32] &= ~(1 << _ECHO_REPLY6 % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
    elif flow.protocol == 1:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << _ECHO_REPLY)))


def _chosen_source(destination: str) -> str:
    """The address that routing would send from. Raises VerbError when there is none."""
    with socket.socket(socket.AF_INET6 if ":" in destination else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((destination, 9))
        except OSError as error:
            raise from_os_error(error, "find a way to {}".format(destination))
        source: Optional[str] = sock.getsockname()[0]
    return source or ""
