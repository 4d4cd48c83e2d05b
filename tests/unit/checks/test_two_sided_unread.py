"""What could not be read at one end of a path is unknown with its reason, and never an absence."""

import pytest

from netdiag.model.report import State
from netdiag.model.two_sided import Heard
from tests.unit.checks.factory import found
from tests.unit.checks.two_sides import LOST_BETWEEN, THERE, changed, healthy, together, view

OUT = "two-sides.outbound"
WHY = "host-a: no answer"
UNREAD = {"arrived": None, "passed": None, "answers_left": None, "seen_source": "", "unseen": WHY, "heard": Heard()}


@pytest.mark.parametrize(
    "fields",
    [UNREAD, {**UNREAD, "arrived": 1}, {**LOST_BETWEEN, "left": None, "unseen": WHY}],
    ids=["receiver's device", "answers", "sender's device"],
)
def test_a_count_that_could_not_be_read_is_unknown_and_says_why(fields):
    probes = changed(healthy(), THERE, "tcp", 7946, **fields)
    (lost,) = [one for one in found(OUT, together(view(probes))) if one.state is not State.OK]
    assert (lost.state, lost.cause) == (State.UNKNOWN, None)
    assert WHY in lost.reason


def test_an_answer_that_was_heard_beats_a_count_of_none():
    probes = changed(healthy(), THERE, "udp", 7946, passed=0, expected=True, heard=Heard(kind="reply", rtt_us=300))
    assert [one.state for one in found(OUT, together(view(probes)))] == [State.OK]
