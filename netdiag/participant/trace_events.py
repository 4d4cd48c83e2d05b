"""Trace events as the kernel sends them: which are about our packet, and which of them ends its way.

The kernel makes a trace's id from addresses of memory and uses it again at once, so an id alone proves nothing. But the
first event of each base chain carries the packet's headers, and those tell. Source: net/netfilter/nf_tables_trace.c.
"""

import errno
import select
import struct
import time
from typing import Callable, Dict, List, Optional, Sequence, Set

from netdiag.participant import nftables
from netdiag.participant.deadline import Deadline
from netdiag.participant.netlink import HEADER

TRACE_MESSAGE = 10 << 8 | 17
TABLE, CHAIN, HANDLE, TYPE, VERDICT, ID, NETWORK_HEADER, TRANSPORT_HEADER, OUT_DEVICE, POLICY = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    9,
    12,
    16,
)
"""Attributes of an event (enum nft_trace_attributes)."""
TYPE_POLICY = 1
LIMIT_BYTES = 1 << 20
_BEHIND_S = 0.05
"""How long is listened behind an end that need not be the last one."""
_DROP, _STOLEN = 0, 2

Claim = Callable[[Dict[int, bytes]], Optional[bool]]
"""Whether an event is about our packet; None when the event does not tell, as it carries no headers."""
End = Callable[[Dict[int, bytes]], bool]


class Events:
    """The events of one packet among those of all."""

    def __init__(self, claims: Claim, ends: "Optional[End]" = None, clones: "Optional[Clones]" = None) -> None:
        self.messages: List[bytes] = []
        self.foreign = 0
        self.lost = False
        self._claims = claims
        self._ends = ends or taken_away
        self._clones = clones
        self._ids: Set[bytes] = set()
        self._kept_bytes = 0

    def take(self, data: bytes) -> bool:
        """Keep the events of our packet in one datagram; True when one of them ends its way."""
        ended, offset = False, 0
        while offset + HEADER.size + 4 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if length < HEADER.size:
                break
            if kind == TRACE_MESSAGE:
                found = attributes(data[offset + HEADER.size + 4 : offset + length])
                if self._is_ours(found):
                    if self._kept_bytes < LIMIT_BYTES:
                        self.messages.append(data[offset : offset + ((length + 3) & ~3)])
                        self._kept_bytes += len(self.messages[-1])
                    else:
                        self.lost = True
                    own = self._clones is None or not self._clones.is_clone(data[offset + HEADER.size], found)
                    ended = (own and self._ends(found)) or ended
                else:
                    self.foreign += 1
            offset += (length + 3) & ~3
        return ended

    def miss(self) -> None:
        """Events were lost: among them may have been one that gave an id to another packet."""
        self.lost = True
        self._ids.clear()

    def _is_ours(self, found: Dict[int, bytes]) -> bool:
        identity = found.get(ID, b"")
        claim = self._claims(found)
        if claim is True:
            self._ids.add(identity)
        elif claim is False:
            self._ids.discard(identity)
        return identity in self._ids


class Reader(Events):
    """The events of one packet, read from the kernel until one of them ends its way."""

    def __init__(self, claims: Claim, ends: "Optional[End]" = None, clones: "Optional[Clones]" = None) -> None:
        super().__init__(claims, ends, clones)
        self.seen_us: Optional[int] = None
        """From the start to the event that ended the way; None while none did."""
        self._socket = nftables.open_traces("listen to trace events")

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor, for a poll with others."""
        return self._socket.fileno()

    def listen(self, start_s: float, wait_s: float, deadline: Deadline) -> None:
        """Read until the packet's way has ended, or for as long as the caller waits (monotonic seconds)."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        end_s = start_s + min(wait_s, deadline.left())
        while True:
            if not poller.poll(max(0, int((end_s - time.monotonic()) * 1000))) or time.monotonic() > end_s:
                return
            if self.read(start_s):
                return

    def listen_behind(self, deadline: Deadline) -> None:
        """Go on for a moment where an end was seen: others may follow."""
        seen_us, start_s = self.seen_us, time.monotonic()
        while seen_us is not None and time.monotonic() - start_s < _BEHIND_S and deadline.left():
            self.listen(start_s, _BEHIND_S, deadline)
        self.seen_us = seen_us

    def read(self, start_s: float) -> bool:
        """Take one datagram; True when the packet's way has ended."""
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.miss()
            return False
        if self.take(data):
            self.seen_us = int((time.monotonic() - start_s) * 1e6)
            return True
        return False


def taken_away(found: Dict[int, bytes]) -> bool:
    """Whether the packet goes no further behind this event: dropped or stolen, by a rule or by a policy."""
    code = attributes(found.get(VERDICT, b"")).get(1, b"") or found.get(POLICY, b"")
    return len(code) == 4 and struct.unpack(">I", code)[0] in (_DROP, _STOLEN)


class Clones:
    """What a rule sends elsewhere besides the packet (TEE, dup): it begins at OUTPUT, and its end is not the packet's.

    Our own first chain at that hook tells it. The packet waits meanwhile, so that a clone never has its id.
    """

    def __init__(self, table: str, outward: bool) -> None:
        """``outward``: the packet itself begins at OUTPUT as well."""
        self._place = (table, "begin" if outward else "answers")
        self._outward = outward
        self._packet = b""
        self._ids: Set[bytes] = set()

    def is_clone(self, family: int, found: Dict[int, bytes]) -> bool:
        """Whether an event (its table's family, its attributes) is about a clone."""
        identity = found.get(ID, b"")
        if family == nftables.NFPROTO_INET and (word(found.get(TABLE)), word(found.get(CHAIN))) == self._place:
            if self._outward and self._packet in (b"", identity):
                self._packet = identity
            else:
                self._ids.add(identity)
        cloned = identity in self._ids
        if cloned and (taken_away(found) or word(found.get(CHAIN)) == "end-postrouting"):
            self._ids.discard(identity)  # its id is free for another
        return cloned


class Copies:
    """Which copy of a packet an event is about, where a bridge may send one out by each of its ports.

    A copy's port is told by the first event of each of its chains, and one after the other goes all its way.
    """

    def __init__(self, ports: Sequence[int], wanted: int) -> None:
        """By which ports (interface indexes) copies may leave, and which of them is the one that matters."""
        self._ports = frozenset(ports)
        self._wanted = wanted
        self._leaves_by: Dict[bytes, int] = {}

    def ends(self, found: Dict[int, bytes]) -> bool:
        """Whether the packet itself goes no further, or the copy that matters."""
        identity = found.get(ID, b"")
        if NETWORK_HEADER in found:
            port = int.from_bytes(found.get(OUT_DEVICE, b""), "big")
            if port in self._ports:
                self._leaves_by[identity] = port
            elif not port:
                self._leaves_by.pop(identity, None)
        return taken_away(found) and self._leaves_by.get(identity, self._wanted) == self._wanted


def attributes(data: bytes) -> Dict[int, bytes]:
    """The attributes of a message, by their type."""
    found: Dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def word(value: Optional[bytes]) -> str:
    """A name of an event."""
    return (value or b"").split(b"\0")[0].decode("utf-8", "replace")
