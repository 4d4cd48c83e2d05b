"""Whether a host sees only one direction of a connection, so that its tracking calls the packets invalid; pure."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.firewall.clues import clues
from netdiag.model.facts import HOST
from netdiag.model.firewall import FirewallRule
from netdiag.model.path import Side, Sight
from netdiag.model.report import Evidence


def asks_for_invalid(rule: FirewallRule) -> bool:
    """Whether a rule takes what connection tracking calls invalid, and nothing that it knows."""
    states = clues(rule.text).matches.get("--ctstate", "").replace("{", "").replace("}", "").replace(",", " ")
    return [state.upper() for state in states.split()] == ["INVALID"]


def one_direction(sights: Sequence[Sight], side: Side) -> Evidence | None:
    """That answers pass a host which no request has passed, by what was seen at its own devices; None where both do."""
    mine = [sight for sight in sights if sight.watched and sight.place.side is side and sight.place.namespace == HOST]
    if not mine or any(sight.there for sight in mine):
        return None
    answers = [sight for sight in mine if sight.back > sight.refused]
    if not answers:
        return None
    where = ", ".join(sight.place.where for sight in answers)
    return Evidence("capture", f"answers were seen at {where}, and no request at any device of this host on the way")
