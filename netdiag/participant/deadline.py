"""The time that one request may take, counted from its start on this host's monotonic clock."""

import time

from netdiag.participant.errors import TIMEOUT, VerbError


class Deadline:
    """When a verb must be done. Relative from the outset: two hosts' clocks need not agree."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s

    def left(self) -> float:
        """Seconds that are left, 0.0 when none are."""
        return max(0.0, self._end_s - time.monotonic())

    def require(self, tried: str) -> float:
        """Seconds that are left; raises a time-out that names what was tried when none are."""
        left = self.left()
        if left <= 0.0:
            raise VerbError(TIMEOUT, "{}: no answer within {:g} s".format(tried, self.timeout_s))
        return left
