"""What a check yields, before the report ranks causes and numbers them."""

from __future__ import annotations

import msgspec

from netdiag.model.report import Answer, Cause, Evidence, Need, State, Step, Subject


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One finding together with the cause it names and the steps it asks for.

    Attributes:
        answers: The questions that this finding decides (*no*) or leaves open (*unknown*); what it does not mention
            it does not touch.
        reason: Required for *unknown* and *skip*: why, and for *unknown* what would tell.
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

    def __post_init__(self) -> None:
        """Reject a finding that would leave the operator without a reason.

        Raises:
            ValueError: Unknown or skipped without a reason (a bug in a check).
        """
        if self.state in (State.UNKNOWN, State.SKIP) and not self.reason:
            raise ValueError(f"{self.check}: {self.state.value} without a reason")
