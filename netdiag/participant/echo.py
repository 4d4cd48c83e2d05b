"""The verb that sends ICMP echo requests of given sizes with DF set and says what became of each."""

import errno
import os
import select
import socket
import struct
import time
from typing import Any, Dict, List, Optional, Tuple

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
from netdiag.participant.netns import in_netns, namespace_of

PACKETS_LIMIT = 64
"""How many packets one request may send: enough to find a size, too few to disturb."""
TAG_BYTES = 8
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1
ECHO_REPLY, ECHO_REQUEST = 0, 8
ECHO_REPLY6, ECHO_REQUEST6 = 129, 128
REST_S = 0.2
"""The shortest wait before what was not answered is sent again: a peer that is merely busy answers within it."""


class _Sizes:
    """The state of one sweep: a row per size, found by its sequence number."""

    def __init__(self, sizes: List[int]) -> None:
        self.rows: Dict[int, Dict[str, Any]] = {}
        self.sent_s: Dict[int, List[float]] = {}
        for number, size in enumerate(sizes):
            self.rows[number] = {
                "size": size,
                "outcome": "silent",
                "attempts": 0,
                "rtt_us": None,
                "errno": 0,
                "icmp": None,
            }
            self.sent_s[number] = []

    def open_rows(self) -> List[int]:
        return [number for number, row in self.rows.items() if row["outcome"] == "silent"]


def echo_sizes(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Echo requests of several sizes at once, DF set, the kernel's learnt path MTU ignored.

    Only the way there is tested for size: a peer may fragment its replies. Parameters: ``address``; ``sizes`` (whole IP
    packets, bytes); ``attempts`` (how often an unanswered size is sent in all, default 2); ``source``, ``netns``. At
    most 64 packets are sent. Data: ``sizes``: a list in the order asked of {``size``, ``outcome``: answered | silent |
    local (the kernel refused: larger than the device's MTU) | icmp, ``attempts``, ``rtt_us``, ``errno`` (of a local
    refusal), ``icmp``: None or {``errno``, ``error``, ``origin``, ``type``, ``code``, ``info`` (the MTU of a "too
    big"), ``offender``}}; ``sent`` (packets); ``socket`` (raw or ping). It returns early when every size is decided, or
    when the others have long been answered. Errors: permission (neither raw nor ping socket is allowed), unsupported
    (too many packets).
    """
    address = str(params["address"])
    sizes = [int(size) for size in params["sizes"]]
    attempts = max(1, int(params.get("attempts") or 2))
    if len(sizes) > PACKETS_LIMIT:
        raise VerbError(UNSUPPORTED, "echo {}: more than {} sizes".format(address, PACKETS_LIMIT))
    if not sizes:
        return {"sizes": [], "sent": 0, "socket": ""}

    def work() -> Dict[str, Any]:
        return _Sweep(address, str(params.get("source") or ""), deadline).run(sizes, attempts)

    return in_netns(namespace_of(params), work, Deadline(deadline.left() + 0.2))


class _Sweep:
    def __init__(self, address: str, source: str, deadline: Deadline) -> None:
        self._address = address
        self._deadline = deadline
        self._six = ":" in address
        self._head_bytes = 40 if self._six else 20
        self._tag = os.urandom(TAG_BYTES)
        self._best_rtt_s: Optional[float] = None
        self._sent = 0
        self._sock, self._raw, self._id = self._open(source)

    def _open(self, source: str) -> Tuple[socket.socket, bool, int]:
        family = socket.AF_INET6 if self._six else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self._six else socket.IPPROTO_ICMP
        tried = "echo " + self._address
        raw = True
        try:
            sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except PermissionError:
            raw = False
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, protocol)
            except OSError as error:
                raise from_os_error(error, tried)
        try:
            sock.setblocking(False)
            report_icmp_errors(sock)
            if self._six:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            if raw:
                self._filter(sock)
            sock.bind((source, 0))
            sock.connect((self._address, 0))
        except OSError as error:
            sock.close()
            raise from_os_error(error, tried)
        identifier = struct.unpack("=H", os.urandom(2))[0] if raw else sock.getsockname()[1]
        return sock, raw, identifier

    def _filter(self, sock: socket.socket) -> None:
        """Have the kernel hand over echo replies only (raw(7); RFC 3542 §3.2)."""
        if self._six:
            words = [0xFFFFFFFF] * 8
            words[ECHO_REPLY6 // 32] &= ~(1 << ECHO_REPLY6 % 32)
            sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *words))
        else:
            sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << ECHO_REPLY)))

    def run(self, sizes: List[int], attempts: int) -> Dict[str, Any]:
        state = _Sizes(sizes)
        with self._sock:
            for attempt in range(attempts):
                for number in sorted(state.open_rows(), key=lambda index: state.rows[index]["size"]):
                    if self._sent < PACKETS_LIMIT:
                        self._send(state, number)
                self._listen(state, attempts - attempt)
                if not state.open_rows() or self._deadline.left() <= 0:
                    break
        return {
            "sizes": [state.rows[number] for number in range(len(sizes))],
            "sent": self._sent,
            "socket": "raw" if self._raw else "ping",
        }

    def _send(self, state: _Sizes, number: int) -> None:
        row = state.rows[number]
        packet = echo_request(self._six, self._id, number, self._tag, row["size"] - self._head_bytes)
        row["attempts"] += 1
        state.sent_s[number].append(time.monotonic())
        for _ in range(2):
            try:
                self._sock.send(packet)
                self._sent += 1
                return
            except OSError as error:
                # An earlier packet's ICMP error is reported on the next send; it is read from the queue, so try again.
                self._read_errors(state)
                number_of_error = error.errno or errno.EIO
        if row["outcome"] == "silent":
            row["outcome"], row["errno"] = "local", number_of_error

    def _listen(self, state: _Sizes, rounds_left: int) -> None:
        """Read until every size is decided or this attempt's share of the time is over."""
        start_s = time.monotonic()
        share_s = self._deadline.left() / rounds_left
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        while state.open_rows():
            limit_s = share_s
            if self._best_rtt_s is not None:
                limit_s = min(share_s, max(REST_S, 8 * self._best_rtt_s))
            left_s = start_s + limit_s - time.monotonic()
            if left_s <= 0:
                return
            poller.poll(int(left_s * 1000) + 1)
            self._read_errors(state)
            self._read_replies(state)

    def _read_replies(self, state: _Sizes) -> None:
        while True:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # a queued error; it is read from the error queue
            now_s = time.monotonic()
            if self._raw and not self._six:
                data = data[(data[0] & 15) * 4 :]
            number = self._number(data)
            row = state.rows.get(number)
            if row is None or row["outcome"] == "answered" or data[0] not in (ECHO_REPLY, ECHO_REPLY6):
                continue
            rtt_s = now_s - state.sent_s[number][-1]
            row["outcome"], row["rtt_us"] = "answered", int(rtt_s * 1e6)
            self._best_rtt_s = rtt_s if self._best_rtt_s is None else min(self._best_rtt_s, rtt_s)

    def _read_errors(self, state: _Sizes) -> None:
        for error in read_errors(self._sock):
            if error["origin"] == "local":
                continue  # send() says so itself
            row = state.rows.get(self._number(error.pop("payload")))
            if row is not None and row["outcome"] == "silent":
                row["outcome"], row["icmp"] = "icmp", error

    def _number(self, message: bytes) -> int:
        """The sequence number of an echo message of this sweep, -1 of any other."""
        if len(message) < 8:
            return -1
        identifier = struct.unpack_from(">H", message, 4)[0]
        if identifier != self._id or (len(message) >= 8 + TAG_BYTES and message[8 : 8 + TAG_BYTES] != self._tag):
            return -1
        return int(struct.unpack_from(">H", message, 6)[0])


def echo_request(six: bool, identifier: int, number: int, tag: bytes, length: int) -> bytes:
    """An ICMP or ICMPv6 echo request of ``length`` bytes (at least 8); the kernel completes ICMPv6's checksum."""
    head = struct.pack(">BBHHH", ECHO_REQUEST6 if six else ECHO_REQUEST, 0, 0, identifier, number)
    body = (tag + b"\0" * max(0, length))[: max(0, length - len(head))]
    if six:
        return head + body
    message = head + body
    return message[:2] + struct.pack(">H", checksum(message)) + message[4:]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(">{}H".format(len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
