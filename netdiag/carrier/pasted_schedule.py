"""When two sides that share nothing but a code send and watch, and how each knows the other's probes."""

from __future__ import annotations

import hashlib
import hmac
import math

import msgspec

from netdiag.carrier.pasted import stretched

READY_S = 3.0
"""How long before the first round everything must be watched."""
WITHIN_S = 60
"""Within how many seconds of each other two sides have to start unless the operator says otherwise."""
_TOLERANCES = 6
"""How often the difference of two clocks that does no harm fits between two rounds."""


class Mark(msgspec.Struct, frozen=True):
    """How the probes of one round and kind are known on both sides, with nothing else shared."""

    tag: bytes
    """8 bytes, as `netdiag.participant.packets` tags payloads."""
    source_port: int
    """49152 to 65535."""


def mark(code: str, kind: str, due_s: int) -> Mark:
    """The mark of a round.

    Args:
        code: As the operators agreed on.
        kind: Which of a round's probes.
        due_s: When the round is due, which both sides know it by.
    """
    label = f"probe {kind} {due_s}".encode()
    data = hmac.new(stretched(code, b""), label, hashlib.sha256).digest()
    return Mark(tag=data[:8], source_port=49152 + int.from_bytes(data[8:10], "big") % 16384)


class Turn(msgspec.Struct, frozen=True):
    """One round, in Unix seconds of a side's own clock."""

    due_s: int
    """When the source sends; both sides know the round by it."""
    back_s: float
    """When the destination sends: later, so that what arrives first was not opened from there."""
    until_s: float
    """How long it is watched."""


class Schedule(msgspec.Struct, frozen=True):
    """When one side sends and watches, in Unix seconds of its own clock.

    There are two rounds: two sides that start within the agreed time of each other choose the same full multiple of it
    (by default the minute) or the next one, and so share a round at least.
    """

    watch_from_s: float
    turns: tuple[Turn, ...]
    within_s: int
    tolerance_s: float
    """How far the clocks may be apart while every packet is still watched for."""

    def near(self) -> tuple[int, ...]:
        """When rounds are due of a side whose clock is off by a round or two: to know it by its packets."""
        first = self.turns[0].due_s
        return tuple(first + number * self.within_s for number in range(-2, 4))


def schedule(now_s: float, within_s: int = WITHIN_S) -> Schedule:
    """The schedule of a side that starts now.

    Args:
        now_s: Unix time by this host's clock.
        within_s: Within how many seconds of each other the two sides start.
    """
    tolerance_s = within_s / _TOLERANCES
    first_s = math.ceil((now_s + READY_S) / within_s) * within_s
    turns = tuple(
        Turn(due_s=due_s, back_s=due_s + 2 * tolerance_s, until_s=due_s + 3 * tolerance_s)
        for due_s in (first_s, first_s + within_s)
    )
    return Schedule(watch_from_s=now_s, turns=turns, within_s=within_s, tolerance_s=tolerance_s)
