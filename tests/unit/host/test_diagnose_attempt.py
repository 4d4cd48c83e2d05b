"""How long an attempt is watched."""

import pytest

from netdiag.host.diagnose_attempt import SETTLE_MS, settle_ms
from netdiag.path.verdict import Attempt


@pytest.mark.parametrize(("rtt_us", "more_ms"), [(None, 0), (300, 0), (250_000, 250), (3_000_000, 1000)])
def test_what_follows_the_handshake_has_as_long_as_the_handshake_took(rtt_us, more_ms):
    """Else the last packets of a long way would seem to be lost on it."""
    attempt = Attempt(answered=rtt_us is not None, refused=False, text="", rtt_us=rtt_us)
    assert settle_ms(attempt) == SETTLE_MS + more_ms
