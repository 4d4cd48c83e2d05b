"""What helps where nothing could be found out together with a peer depends on why not."""

import pytest

from netdiag.model.report import State
from netdiag.model.two_sided import PeerView, Unmet, Way
from tests.unit.checks.factory import MANAGER, found, only
from tests.unit.checks.two_sides import together, view

EXAMINED = "two-sides.examined"


@pytest.mark.parametrize(
    ("unmet", "command", "why"),
    [
        (Unmet.UNREACHED, f"ssh {MANAGER} true", "without a question"),
        (Unmet.GONE, f"ssh {MANAGER} true", "still there"),
        (Unmet.NO_ROUTE, f"ip route get {MANAGER}", "a way to"),
        (Unmet.NO_WAY, "", f"--via {MANAGER}=ssh"),
        (Unmet.UNNAMED, "", "by the address"),
        (Unmet.LATE, "", "alone"),
        (Unmet.ODD, "", "version"),
    ],
)
def test_the_next_step_fits_the_reason(unmet, command, why):
    one = only(EXAMINED, together(PeerView(given=MANAGER, why_not="because", unmet=unmet)))
    (step,) = one.next
    assert (one.state, step.command) == (State.UNKNOWN, command)
    assert why in step.why


def test_a_host_that_was_asked_by_another_name_is_no_open_question():
    again = PeerView(given="alias", why_not=f"it is the same host as {MANAGER}", unmet=Unmet.SAME_HOST)
    assert [one.state for one in found(EXAMINED, together(view(), again))] == [State.SKIP, State.OK]


def test_what_many_were_not_asked_to_the_end_is_told_once():
    late = [view(address=f"192.0.2.{number}", unfinished=((Way.THERE, "not done in time"),)) for number in range(9)]
    (one,) = [each for each in found(EXAMINED, together(*late)) if each.state is State.UNKNOWN]
    assert (one.reason, "and 6 more" in one.summary) == ("not done in time", True)
