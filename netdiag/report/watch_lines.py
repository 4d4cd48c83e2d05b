"""A diagnosis that is repeated, as one line for each change: healthy, lost and why, or not known."""

from __future__ import annotations

import msgspec

from netdiag.model.report import Cause, Report, State, clause
from netdiag.report.wording import described, one_line


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one round found.

    Attributes:
        word: healthy, lost or unknown.
        line: The whole in a line.
        key: What tells it from another state; two rounds with the same key are no change.
    """

    word: str
    line: str
    key: tuple[str, ...]


def seen(report: Report) -> Seen:
    """What a round's report says."""
    word = {State.FAIL: "lost", State.UNKNOWN: "unknown"}.get(report.verdict, "healthy")
    if word == "healthy":
        first = next((each.summary for each in report.findings if each.state is State.OK), "nothing is broken")
        return Seen(word=word, line=_line(report, word, first), key=(word,))
    if word == "lost" and report.causes:
        causes = [_caused(each) for each in report.causes]
        keys = sorted(_key(each) for each in report.causes)
        return Seen(word=word, line=_line(report, word, "; ".join(causes)), key=(word, *keys))
    worst = next(each for each in report.findings if each.state is report.verdict)
    open_ = next((each.reason for each in report.findings if each.state is State.UNKNOWN and each.reason), "")
    text = (
        (open_ or worst.summary)
        if word == "unknown"
        else worst.summary + (f"; why is not known: {open_}" if open_ else "")
    )
    # The reasons of one unknown loss may vary from round to round, as their figures do.
    return Seen(word=word, line=_line(report, word, text), key=(word, worst.check))


def _line(report: Report, word: str, text: str) -> str:
    at = report.started.partition(".")[0].removesuffix("Z")
    return one_line(f"{at}Z {word}: {text}")


def _caused(cause: Cause) -> str:
    where = f" on {cause.host}" if cause.host else ""
    return f"{cause.code} ({cause.confidence.value}){where}: {described(cause)}: {clause(cause.title)}"


def _key(cause: Cause) -> str:
    """What a cause is known by: of a rule its own text, since its number changes with every rule before it."""
    text = cause.object.get("text")
    place = " ".join(str(cause.object.get(key)) for key in ("table", "chain"))
    return f"{cause.code} {cause.host} {f'{place} {text}' if text else described(cause)}"
