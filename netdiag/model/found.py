"""What one check says about one subject, before a report is made of all of them."""

from __future__ import annotations

import msgspec

from netdiag.model.report import Answer, Cause, Evidence, Need, State, Step, Subject


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a check; `netdiag.report.assemble.build_report` makes findings and ranked causes of them.

    Attributes:
        check: The stable dotted id of the check.
        state: What it means for the needs in ``answers``; the report weighs it against the command's own question.
        summary: One line.
        answers: The needs that this decides or leaves open.
        cause: Why, when that is known.
        reason: For unknown and skip: why, and what would tell.
        next: What the operator should do because of it, remedies of the cause apart.
    """

    check: str
    state: State
    subject: Subject
    summary: str
    evidence: tuple[Evidence, ...] = ()
    answers: dict[Need, Answer] = msgspec.field(default_factory=dict)
    cause: Cause | None = None
    reason: str | None = None
    next: tuple[Step, ...] = ()
