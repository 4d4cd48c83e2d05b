"""Listening to legacy iptables chains: for a packet with nftrace set they report through nf_log.

In a namespace they are heard only when nf_log's logger is nfnetlink_log, which is a setting that would outlive us: it
is changed under a `SweptTable`, and one trace in a namespace does so at a time. Meanwhile what LOG rules write goes
to nobody. Sources: net/netfilter/nf_log.c, nfnetlink_log.c, linux/netfilter/nfnetlink_log.h.
"""

import ctypes
import errno
import select
import socket
import struct
import time
from typing import Dict, List, Optional, Tuple

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import TIMEOUT, UNSUPPORTED, VerbError, from_errno, from_os_error
from netdiag.participant.netlink import (
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    attribute,
    open_netlink,
    request,
)
from netdiag.participant.nftables import SweptTable, hold
from netdiag.participant.packets import Flow
from netdiag.participant.sweep import LOGGER, NF_LOG
from netdiag.participant.trace_events import Reader, attributes, new_table_name
from netdiag.participant.undo_guard import Setting

PACKET_MESSAGE, _CONFIG = 4 << 8, 4 << 8 | 1
_BIND, _COPY_PACKET, _COPY_BYTES = 1, 2, 128
_PAYLOAD, _PREFIX = 9, 10
_PREFIX_BEGIN = b"TRACE: "
_LOCK = "netdiag-nf-log"
_AT_ONCE = 256
_SO_ATTACH_FILTER = 26
LIMIT_BYTES = 1 << 20


class LegacyTrace:
    """What legacy chains of the calling thread's namespace report of packets that carry a tag."""

    def __init__(self, flow: Flow, deadline: Deadline) -> None:
        """Listen. Raises VerbError: unsupported (another program has NFLOG group 0, no nfnetlink_log), permission."""
        self._flow = flow
        self.lost = False
        self.seen_us: Optional[int] = None
        """From the start to the last report about our packet."""
        self._messages: List[bytes] = []
        self._kept = 0
        tried = "listen to legacy iptables"
        self._lock = _locked(tried, deadline)
        self._table = None
        try:
            # Opening it loads nfnetlink_log, where it is a module; only then is the logger known by its name.
            self._sock = open_netlink(NETLINK_NETFILTER, tried, 4 << 20, False)
        except BaseException:
            self._lock.close()
            raise
        try:
            self._bind(tried, deadline)
            settings = _changes(tried)
            if settings:
                self._table = SweptTable(new_table_name(), [], deadline, settings, (self._lock.fileno(),))
                for setting in settings:
                    _write(setting.path, setting.ours, tried)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Put the logger back and stop listening."""
        if self._table is not None:
            self._table.close()
        self._sock.close()
        self._lock.close()

    def listen(self, reader: Reader, start_s: float, wait_s: float, deadline: Deadline) -> None:
        """`Reader.listen` with both ears: until nft says that the packet's way has ended, or for as long as it may."""
        poller = select.poll()
        poller.register(reader.fileno(), select.POLLIN)
        poller.register(self._sock.fileno(), select.POLLIN)
        end_s = start_s + min(wait_s, deadline.left())
        while time.monotonic() < end_s:
            ready = {descriptor for descriptor, _ in poller.poll(max(0, int((end_s - time.monotonic()) * 1000) + 1))}
            if reader.fileno() in ready and reader.read(start_s):
                break
            if self._sock.fileno() in ready:
                self._take(start_s)
        self._take(start_s)

    def _take(self, start_s: float) -> None:
        """Read what has come, as far as a busy logger leaves an end to it; never waits."""
        for _ in range(_AT_ONCE):
            try:
                data = self._sock.recv(1 << 17)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self.lost = True
                    continue
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    return
                raise
            if self._keep(data):
                self.seen_us = int((time.monotonic() - start_s) * 1e6)

    @property
    def messages(self) -> bytes:
        """The netlink messages about our packet, one after the other."""
        return b"".join(self._messages)

    def _keep(self, data: bytes) -> bool:
        """Keep what is about our packet; True when something was."""
        kept, offset = False, 0
        while offset + HEADER.size + 4 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if length < HEADER.size:
                break
            end = offset + ((length + 3) & ~3)
            if kind == PACKET_MESSAGE:
                found = attributes(data[offset + HEADER.size + 4 : offset + length])
                ours = found.get(_PREFIX, b"").startswith(_PREFIX_BEGIN) and self._is_ours(found)
                if ours and self._kept < LIMIT_BYTES:
                    self._messages.append(data[offset:end])
                    self._kept += end - offset
                    kept = True
                elif ours:
                    self.lost = True
            offset = end
        return kept

    def _is_ours(self, found: Dict[int, bytes]) -> bool:
        packet = found.get(_PAYLOAD, b"")
        if not packet:
            return False
        head = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
        at = head + self._flow.tag_at
        return packet[at : at + len(self._flow.tag)] == self._flow.tag

    def _bind(self, tried: str, deadline: Deadline) -> None:
        """Take group 0, and have each message sent at once and with the packet's first bytes."""
        for body in (
            attribute(1, bytes([_BIND])),
            # NFULA_CFG_MODE, and NFULA_CFG_QTHRESH: one message is enough to send.
            attribute(2, struct.pack(">IBx", _COPY_BYTES, _COPY_PACKET)) + attribute(5, struct.pack(">I", 1)),
        ):
            answer = request(
                self._sock, _CONFIG, NLM_F_REQUEST | NLM_F_ACK, struct.pack(">BBH", 0, 0, 0) + body, deadline, tried
            )
            if answer["errno"] in (errno.EBUSY, errno.EPERM):
                raise VerbError(UNSUPPORTED, tried + ": another program (ulogd?) has NFLOG group 0")
            if answer["errno"] in (errno.EINVAL, errno.EOPNOTSUPP):
                raise VerbError(UNSUPPORTED, tried + ": the kernel has no nfnetlink_log")
            if answer["errno"]:
                raise from_errno(answer["errno"], tried)
        code = _filter(self._flow)
        room = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HL", len(code) // 8, ctypes.addressof(room))
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _filter(flow: Flow) -> bytes:
    """A classic BPF program that lets only messages through whose packet carries the tag: others cost no room."""
    words = [flow.tag[at : at + 4] for at in range(0, len(flow.tag), 4)]
    # A = the transport header's place behind X, where the packet's attribute begins.
    head = [(0x87, 0, 0, 0), (0x04, 0, 0, 40)]
    if not flow.six:
        head = [(0x50, 0, 0, 4), (0x54, 0, 0, 15), (0x64, 0, 0, 2), (0x0C, 0, 0, 0)]
    compared = []
    for number, word in enumerate(words):
        behind = 2 * (len(words) - number) - 1
        compared += [(0x40, 0, 0, 4 + flow.tag_at + 4 * number), (0x15, 0, behind, struct.unpack(">I", word)[0])]
    code = [
        (0x00, 0, 0, HEADER.size + 4),  # A = where attributes begin
        (0x01, 0, 0, _PAYLOAD),
        (0x20, 0, 0, 0xFFFFF00C),  # A = the place of attribute X (SKF_AD_NLATTR), or 0
        (0x15, len(head) + len(compared) + 2, 0, 0),
        (0x07, 0, 0, 0),  # X = A
        *head,
        (0x07, 0, 0, 0),
        *compared,
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in code)


def _locked(tried: str, deadline: Deadline) -> socket.socket:
    """The right to change the namespace's logger, when whoever has it is done."""
    while True:
        try:
            return hold(_LOCK, tried)
        except VerbError:
            if not deadline.left():
                raise VerbError(TIMEOUT, tried + ": another trace does so already")
        # The kernel gives no notice of a name that becomes free.
        time.sleep(0.01)


def _changes(tried: str) -> Tuple[Setting, ...]:
    """The loggers that must be changed, with what they are now."""
    found = []
    for family in ("2", "10"):
        path = NF_LOG + family
        try:
            with open(path) as setting:
                now = setting.read().strip()
        except OSError as error:
            raise from_os_error(error, "{}: read {}".format(tried, path))
        if now != LOGGER:
            found.append(Setting(path, LOGGER, now))
    return tuple(found)


def _write(path: str, value: str, tried: str) -> None:
    try:
        with open(path, "w") as setting:
            setting.write(value)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise VerbError(UNSUPPORTED, tried + ": the kernel has no nfnetlink_log")
        if error.errno == errno.EROFS:
            raise VerbError(UNSUPPORTED, "{}: {} can only be read here".format(tried, path))
        raise from_os_error(error, "{}: write {}".format(tried, path))
