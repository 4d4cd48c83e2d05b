"""How the packets of one examination are known, whatever address translation makes of their tuples.

A run has a mark of 4 random bytes, each of its probes a number from 1 to `MOST`. A datagram begins with both (8 bytes,
the tag); a TCP segment has the mark's first half and the number as its initial sequence number; a VXLAN packet has the
mark in the hardware address of its inner frame and the number in its VNI, so that its header is as it should be.
"""

import struct
from typing import NamedTuple, Optional

from netdiag.participant.errors import UNSUPPORTED, VerbError

MARK_BYTES = 4
TAG_BYTES = 8
MOST = 0xFFF0
ANSWER = 1 << 31
"""Set in the number of an answer, so that two who answer never go on answering each other."""
VNI_BASE = 0xE00000
"""Networks of an engine are numbered from 4096 upwards; none of them has this number."""
_VXLAN_FLAG = 0x08


class Mark(NamedTuple):
    """A run's mark."""

    raw: bytes

    @property
    def sequence_half(self) -> int:
        """The upper half of a segment's initial sequence number."""
        return int(struct.unpack(">H", self.raw[:2])[0])

    @property
    def inner_mac(self) -> bytes:
        """The first 4 bytes of the inner frame's destination: locally administered, no group."""
        return b"\x02" + self.raw[1:]

    def tag(self, number: int) -> bytes:
        """What a datagram begins with."""
        return self.raw + struct.pack(">I", number)

    def sequence(self, number: int) -> int:
        """A segment's initial sequence number."""
        return self.sequence_half << 16 | number

    def number_of(self, payload: bytes) -> Optional[int]:
        """The number in a UDP payload (with `ANSWER` in an answer); None for one that is not ours."""
        if payload[:MARK_BYTES] == self.raw and len(payload) >= TAG_BYTES:
            return int(struct.unpack_from(">I", payload, MARK_BYTES)[0])
        if payload[:1] == bytes([_VXLAN_FLAG]) and payload[8:12] == self.inner_mac:
            return int(struct.unpack_from(">I", payload, 4)[0] >> 8 & 0xFFFF)
        return None


def mark_of(text: str) -> Mark:
    """A mark from 8 hexadecimal digits. Raises VerbError unsupported for one that could be taken for VXLAN."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != MARK_BYTES or raw[0] & _VXLAN_FLAG or raw[:2] == b"\0\0":
        raise VerbError(UNSUPPORTED, "mark {}: 8 hexadecimal digits, without bit 27, the first half not 0".format(text))
    return Mark(raw)
