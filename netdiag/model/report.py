"""Findings, causes, remedies and the report: what netdiag says, as data.

The JSON form of `Report` is a contract (schema ``netdiag/report/1``): fields may be added, never renamed, removed or
given another meaning within one number.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

SCHEMA = "netdiag/report/1"


class State(enum.Enum):
    """What a check found. Not ordered: *unknown* is neither better nor worse than *warn*."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """Could not find out; the reason says why, and what would tell."""
    SKIP = "skip"
    """Does not apply here; the reason says why."""


class Need(enum.Enum):
    """The questions of a preflight: will it join, will names resolve, will containers talk.

    In the order in which each presupposes the one before.
    """

    JOIN = "join"
    NAMES = "names"
    TRAFFIC = "traffic"


class Answer(enum.Enum):
    """An answer to one of the questions."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Confidence(enum.Enum):
    """How sure a cause is. What was only computed, not seen, is at most *likely*."""

    PROVEN = "proven"
    LIKELY = "likely"
    POSSIBLE = "possible"


class Risk(enum.Enum):
    """What a remedy may disturb."""

    NONE = "none"
    LOW = "low"
    """Touches only what the cause names."""
    OPENS = "opens"
    """Lets in what the operator fills in, which may be more than the cause needs."""
    DISRUPTIVE = "disruptive"
    """Interrupts traffic or tasks that work now."""


class Subject(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a finding is about, as far as each part applies."""

    host: str | None = None
    peer: str | None = None
    container: str | None = None
    network: str | None = None
    device: str | None = None
    image: str | None = None


class Evidence(msgspec.Struct, frozen=True):
    """One thing that was seen: its kind (``probe``, ``rule``, ``log`` …), a line for people, data for programs."""

    kind: str
    text: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """A change that heals a cause: where, what, how it is undone and how it is kept over a reboot."""

    host: str
    summary: str
    commands: tuple[str, ...]
    undo: tuple[str, ...] = ()
    persist: tuple[str, ...] = ()
    risk: Risk = Risk.LOW


def clause(title: str) -> str:
    """A title for the middle of a sentence: its first letter small, unless it begins with a name ("IP", "TLS")."""
    head = title[:2]
    return title[:1].lower() + title[1:] if head[1:] == head[1:].lower() else title


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why something fails, named as exactly as the evidence allows.

    Attributes:
        code: A code of the catalogue (`netdiag.causes`).
        parent: The general code that this one refines.
        because: Codes of attached reasons, ``firewall.near-miss`` and ``firewall.not-persistent`` among them.
        host: Where the fault sits, as the operator would type it; None when it is between hosts.
        object: What exactly: ``{"kind": "rule" | "route" | "sysctl" | …, …}``.
        affects: What it breaks: "swarm join", "overlay data", …
    """

    code: str
    title: str
    explanation: str
    confidence: Confidence
    object: dict[str, Any]
    host: str | None = None
    parent: str | None = None
    because: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    affects: tuple[str, ...] = ()
    remedy: tuple[Remedy, ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the operator should do next: on which host, which command (empty when none), and why."""

    host: str
    command: str
    why: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check says about one subject.

    Attributes:
        answers: The questions that this finding decides or leaves open, e.g. ``{"join": "no"}``.
        cause: Index into the report's causes.
        reason: Why it is unknown or skipped.
    """

    check: str
    state: State
    subject: Subject
    summary: str
    evidence: tuple[Evidence, ...] = ()
    answers: dict[Need, Answer] = msgspec.field(default_factory=dict)
    cause: int | None = None
    reason: str | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many findings are in each state."""

    ok: int = 0
    warn: int = 0
    fail: int = 0
    unknown: int = 0
    skip: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of one command.

    Attributes:
        started: RFC 3339, UTC.
        verdict: fail, else unknown if the command's question is open, else warn, else ok.
        question: For a preflight: the question that the verdict answers; None for other commands.
        answers: For a preflight: each question and its answer; empty for other commands.
    """

    schema: str = SCHEMA
    command: str
    host: str
    started: str
    duration_s: float
    verdict: State
    question: Need | None = None
    answers: dict[Need, Answer] = msgspec.field(default_factory=dict)
    counts: Counts
    findings: tuple[Finding, ...]
    causes: tuple[Cause, ...]
    next: tuple[Step, ...] = ()

    def exit_code(self) -> int:
        """0 for ok and warn, 1 for fail, 3 for unknown (2 is wrong usage, which makes no report)."""
        return {State.FAIL: 1, State.UNKNOWN: 3}.get(self.verdict, 0)
