"""When two sides that share nothing but a code send and watch, and how each knows the other's probes."""

from __future__ import annotations

import hashlib
import hmac
import math

import msgspec

from netdiag.carrier.pasted import stretched

READY_S = 3.0
"""How long before the first round everything must be watched."""
TOLERANCE_S = 10.0
"""How far two clocks may be apart unless the operator says otherwise."""


class Mark(msgspec.Struct, frozen=True):
    """How the probes of one round and direction are known on both sides, with nothing else shared."""

    tag: bytes
    """8 bytes, as `netdiag.participant.packets` tags payloads."""
    sequence: int
    """The initial sequence number of a TCP segment that is crafted."""
    source_port: int
    """49152 to 65535."""


def mark(code: str, direction: str, number: int) -> Mark:
    """The mark of a round.

    Args:
        code: As the operators agreed on.
        direction: Such as "forward" and "reverse".
        number: The round, from 0.
    """
    label = f"probe {direction} {number}".encode()
    data = hmac.new(stretched(code, b""), label, hashlib.sha256).digest()
    return Mark(
        tag=data[:8],
        sequence=int.from_bytes(data[8:12], "big"),
        source_port=49152 + int.from_bytes(data[12:14], "big") % 16384,
    )


class Schedule(msgspec.Struct, frozen=True):
    """When one side sends and watches, in Unix seconds of its own clock.

    There are two rounds, a minute apart: two sides that start within a minute of each other choose the same full minute
    or the next one, and so share a round at least. Watching lasts over both and the tolerance.
    """

    watch_from_s: float
    forward_s: tuple[float, float]
    """When the source sends."""
    reverse_s: tuple[float, float]
    """When the destination sends: later, so that what arrives first was not opened from here."""
    watch_until_s: float
    tolerance_s: float

    def round_of(self, seen_s: float, direction: str) -> int | None:
        """The round that a packet belongs to by when it was seen on this clock; None when it is of neither."""
        for number, due_s in enumerate(self.forward_s if direction == "forward" else self.reverse_s):
            if abs(seen_s - due_s) <= self.tolerance_s:
                return number
        return None


def schedule(now_s: float, tolerance_s: float = TOLERANCE_S) -> Schedule:
    """The schedule of a side that starts now.

    Args:
        now_s: Unix time by this host's clock.
        tolerance_s: How far the two clocks may be apart, at most 15.
    """
    if not 0 < tolerance_s <= 15:
        raise ValueError("the tolerance must be within a quarter of a round")
    first_s = math.ceil((now_s + READY_S) / 60.0) * 60.0
    forward = (first_s, first_s + 60.0)
    reverse = (first_s + 2 * tolerance_s, first_s + 60.0 + 2 * tolerance_s)
    return Schedule(
        watch_from_s=now_s,
        forward_s=forward,
        reverse_s=reverse,
        watch_until_s=reverse[1] + tolerance_s,
        tolerance_s=tolerance_s,
    )
