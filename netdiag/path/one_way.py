"""Whether a host sees only one direction of a connection, so that its tracking calls the packets invalid; pure."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.model.facts import HOST
from netdiag.model.path import Side, Sight
from netdiag.model.report import Evidence


def one_direction(sights: Sequence[Sight], side: Side, *, answered: bool = False) -> Evidence | None:
    """That one direction passes a host which the other has not passed, by what was seen at its own devices.

    Args:
        sights: What was seen of the attempt.
        side: On which host.
        answered: The source had an answer, so that one that this host did not see came by another way.

    Returns:
        None where both directions pass, or where nothing says that the other exists.
    """
    mine = [sight for sight in sights if sight.watched and sight.place.side is side and sight.place.namespace == HOST]
    requests = [sight for sight in mine if sight.there]
    answers = [sight for sight in mine if sight.back > sight.refused]
    if answers and not requests:
        passing, seen, other = answers, "answers were", "request"
    elif requests and answered and not any(sight.back for sight in mine):
        passing, seen, other = requests, "requests were", "answer"
    else:
        return None
    where = ", ".join(sight.place.where for sight in passing)
    return Evidence("capture", f"{seen} seen at {where}, and no {other} at any device of this host on the way")
