"""What an attempt says of other users' programs, where a filter asks whose a packet is; pure."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.model.firewall import FirewallRule
from netdiag.model.found import Found
from netdiag.model.path import Way
from netdiag.model.report import Evidence, State, Subject

_MOST = 4


def user_founds(way: Way, rules: Sequence[FirewallRule]) -> tuple[Found, ...]:
    """The warnings: the attempt was root's, and these rules decide by user; none where there is no such rule."""
    subject = Subject(host=way.source.host, container=way.source.container or None)
    return tuple(
        Found(
            check="path.user",
            state=State.WARN,
            subject=subject,
            summary=(
                f"it was tried as root, and {rule.place()} ({rule.backend.value}) of {way.source.label()} decides by user:"
                f' "{rule.text}"; a program of another user may not get through (--user UID tries it as that one)'
            ),
            evidence=(Evidence("rule", f"{rule.place()}: {rule.text}", rule.as_object()),),
        )
        for rule in rules[:_MOST]
    )
