"""Listening to legacy iptables chains: for a packet with nftrace set they report through nf_log.

In a namespace they are heard only when nf_log's logger is nfnetlink_log, which is a setting that would outlive us: it
is changed under a `SweptTable` by who has the `nf_log.Group`, one trace in a namespace at a time. Meanwhile what LOG
rules write goes to nobody. Sources: net/netfilter/nf_log.c, nfnetlink_log.c, linux/netfilter/nfnetlink_log.h.
"""

import ctypes
import errno
import select
import socket
import struct
import time
from typing import Dict, List, Optional, Tuple

from netdiag.participant import life, nf_log
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.netlink import HEADER
from netdiag.participant.nftables import SweptTable
from netdiag.participant.packets import Flow
from netdiag.participant.trace_events import Reader, attributes
from netdiag.participant.undo_guard import Setting

PACKET_MESSAGE = 4 << 8
_PAYLOAD, _PREFIX = 9, 10
_PREFIX_BEGIN = b"TRACE: "
_AT_ONCE = 256
_SO_ATTACH_FILTER = 26
LIMIT_BYTES = 1 << 20
WAIT_S = 1.5
"""How long another trace is waited for: three times as long as one usually listens."""


class LegacyTrace:
    """What legacy chains of the calling thread's namespace report of packets that carry a tag."""

    def __init__(self, flow: Flow, deadline: Deadline) -> None:
        """Listen. Raises VerbError as `nf_log.Group` does, unsupported where the logger cannot be changed as well."""
        self._flow = flow
        self.lost = False
        self.seen_us: Optional[int] = None
        """From the start to the last report about our packet."""
        self._messages: List[bytes] = []
        self._kept = 0
        tried = "listen to legacy iptables"
        self.table: Optional[SweptTable] = None
        """What puts the loggers back; None where nothing had to be changed."""
        self._group = nf_log.Group(tried, deadline, WAIT_S)
        self._sock = self._group.sock
        try:
            _attach(_filter(self._flow), self._sock)
            settings = _changes(tried)
            if settings:
                self.table = SweptTable(life.new_table_name(), [], deadline, settings, (self._group.fileno(),))
                for setting in settings:
                    _write(setting.path, setting.ours, tried)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Put the logger back and stop listening."""
        if self.table is not None:
            self.table.close()
        self._group.close()

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


def _attach(code: bytes, sock: socket.socket) -> None:
    room = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(code) // 8, ctypes.addressof(room))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


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


def _changes(tried: str) -> Tuple[Setting, ...]:
    """The loggers that must be changed, with what they are now."""
    found = []
    for path in nf_log.logger_paths():
        try:
            now = nf_log.read_logger(path)
        except OSError as error:
            raise from_os_error(error, "{}: read {}".format(tried, path))
        if now != nf_log.LOGGER:
            found.append(Setting(path, nf_log.LOGGER, now))
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
