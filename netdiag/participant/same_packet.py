"""Whether two events are of one packet, told by what of its headers no hop and no address translation changes.

The beginning of the payload is in no event. But a checksum covers it, and translation corrects a checksum by just what it
changes: what is left of it without addresses and ports stays (RFC 1624).
"""

from typing import Dict, NamedTuple, Optional, Set

from netdiag.participant.trace_events import ID, NETWORK_HEADER, TRANSPORT_HEADER

_TCP, _UDP, _ESP, _AH, _GRE, _SCTP = 6, 17, 50, 51, 47, 132
_ICMP, _ICMP6 = 1, 58
_ECHO = (0, 8, 128, 129)
_EXTENSIONS = (0, 43, 44, 60)
_ALL = 0xFFFF


class Marks(NamedTuple):
    """What an event tells of its packet.

    ``fixed`` never changes; ``ends`` (addresses and ports) may. ``rest`` is what the checksum says of all but these; None
    where it says nothing (none was made, or the network card is to make it).
    """

    fixed: bytes
    ends: bytes
    rest: Optional[int]


class Follower:
    """One packet, known again at each place where its headers are told."""

    def __init__(self) -> None:
        self.first: Optional[Marks] = None
        self._ends: Set[bytes] = set()
        self._ids: Set[bytes] = set()

    def follow(self, found: Dict[int, bytes]) -> None:
        """From here on it is the packet of this event."""
        self.first = marks_of(found)
        self._ends.add(self.first.ends)
        self._ids.add(found.get(ID, b""))

    def is_it(self, found: Dict[int, bytes]) -> bool:
        """Whether an event with headers is of the packet that is followed."""
        identity, marks = found.get(ID, b""), marks_of(found)
        same = self.first is not None and self._is_same(self.first, marks, identity)
        if same:
            self._ends.add(marks.ends)
            self._ids.add(identity)
        else:
            self._ids.discard(identity)
        return same

    def _is_same(self, first: Marks, marks: Marks, identity: bytes) -> bool:
        if marks.fixed != first.fixed:
            return False
        if first.rest is not None and marks.rest is not None:
            return first.rest == marks.rest
        # Two packets of one length may be alike in all that is left: then it has its ends, or its id, still.
        return marks.ends in self._ends or identity in self._ids


def marks_of(found: Dict[int, bytes]) -> Marks:
    """What an event with headers tells of its packet."""
    network, transport = found.get(NETWORK_HEADER, b""), found.get(TRANSPORT_HEADER, b"")
    if len(network) >= 20 and network[0] >> 4 == 4:
        fixed, protocol, addresses = b"4" + network[2:6], network[9], network[12:20]  # length, identification
    elif len(network) >= 40 and network[0] >> 4 == 6:
        label = bytes([network[1] & 0x0F]) + network[2:4]
        fixed, protocol, addresses = b"6" + label + network[4:6], network[6], network[8:40]
    else:
        return Marks(b"other" + network, b"", 0)
    fixed += bytes([protocol])
    if protocol == _TCP:
        return Marks(fixed + transport[4:12], addresses + transport[:4], 0)  # its numbers say enough
    if protocol == _UDP:
        return Marks(fixed, addresses + transport[:4], _rest_of_udp(addresses, transport))
    if protocol in (_ICMP, _ICMP6):
        if transport[:1] and transport[0] in _ECHO and len(transport) >= 8:
            covered = addresses if protocol == _ICMP6 else b""
            rest = _minus(_ALL ^ _word(transport, 2), _sum(covered + transport[4:6]))
            return Marks(fixed + transport[:2] + transport[6:8], addresses + transport[4:6], rest)
        return Marks(fixed + transport[:2] + transport[4:8], addresses, None)
    if protocol in (_ESP, _AH):
        return Marks(fixed + transport[:12], addresses, 0)
    if protocol == _SCTP:
        return Marks(fixed + transport[4:8], addresses + transport[:4], None)
    own = b"" if protocol in _EXTENSIONS else transport[:4] if protocol == _GRE else transport
    return Marks(fixed + own, addresses, None)


def _rest_of_udp(addresses: bytes, transport: bytes) -> Optional[int]:
    if len(transport) < 8 or not _word(transport, 6):
        return None
    checksum = _word(transport, 6)
    # Where the card is to make it, the field holds the sum of the pseudo header alone.
    if checksum % _ALL == _sum(addresses + bytes([0, _UDP]) + transport[4:6]):
        return None
    return _minus(_ALL ^ checksum, _sum(addresses + transport[:4]))


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _sum(data: bytes) -> int:
    """In one's complement, where 0xFFFF is 0."""
    return sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)) % _ALL


def _minus(one: int, other: int) -> int:
    return (one - other) % _ALL
