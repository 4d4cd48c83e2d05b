"""What all readers of sections share: an answer's error as the absence of a fact, and text files by their path."""

from __future__ import annotations

from typing import Any, TypeVar

from netdiag.model.facts import Absence, AbsenceKind, Section
from netdiag.model.wire import Answer

T = TypeVar("T")


def absence_of(answer: Answer) -> Absence:
    """Why an answer has no data."""
    if answer.error is None:
        return Absence(kind=AbsenceKind.FAILED, text="no answer")
    return Absence(kind=answer.error.kind, text=answer.error.text)


def absent(answer: Answer) -> Section[Any]:
    """A section that is not there because of this answer."""
    return Section(absent=absence_of(answer))


def missing(text: str) -> Section[Any]:
    """A section that does not exist on this host."""
    return Section(absent=Absence(kind=AbsenceKind.MISSING, text=text))


def texts(answer: Answer) -> dict[str, str]:
    """The files of a ``files`` answer by their path; none when the whole request failed."""
    return dict(answer.data["files"]) if answer.data is not None else {}


def text(answer: Answer) -> str:
    """The text of a ``file`` answer; empty when it could not be read."""
    return str(answer.data["text"]) if answer.data is not None else ""


def number(value: str | None) -> int | None:
    """A decimal number, or None for anything else."""
    stripped = value.strip() if value is not None else ""
    return int(stripped) if stripped.lstrip("-").isdigit() else None
