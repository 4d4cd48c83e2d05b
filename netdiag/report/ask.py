"""The message for the admin of another host: what we try, what we saw, what to run there and why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from netdiag.errors import UsageError
from netdiag.model.report import Cause, Confidence, Need, Report, Risk, State, Step, clause
from netdiag.report import wording

_WIDTH = 72
_AIMS = {
    Need.JOIN: "We want {here} to join a Docker swarm",
    Need.NAMES: "We want names of containers to resolve between {here} and the other hosts of a Docker swarm",
    Need.TRAFFIC: "We want containers on {here} to reach containers on the other hosts",
}
_CERTAINTY = {
    Confidence.PROVEN: "this is what we measured",
    Confidence.LIKELY: "this is likely, but not proven",
    Confidence.POSSIBLE: "this is possible, please check it",
}


def message(report: Report, host: str | None = None) -> str:
    """A plain-text message, ready for a mail; it holds no token.

    Args:
        report: The report that asks something of another host.
        host: Whom to write to, by name or address; None if the report asks something of one other host only.

    Raises:
        UsageError: The report asks nothing of another host, or of several and none was named, or not of that one.
    """
    them = _addressee(report, host)
    causes = [cause for cause in report.causes if _concerns(cause, them)]
    steps = [step for step in report.next if step.host == them and step.command not in _commands(causes, them)]
    blocks = [f"Subject: {_subject(report, them)}", "Hello,", _aim(report, them)]
    for cause in causes:
        blocks += _seen(cause, them)
    if not causes:
        blocks += _open_findings(report)
    blocks += _requests(causes, steps, them)
    blocks += [
        _list(
            "Please send back:",
            [
                "what the commands printed, errors included",
                "if you prefer another change: what you changed, so that we test the right thing",
            ],
        ),
        _wrap("After that we run this here again and tell you the result:"),
        f"    netdiag {report.command}",
        _wrap(f"Measured by netdiag on {report.host}, {report.started}."),
    ]
    return wording.without_tokens("\n\n".join(blocks)) + "\n"


def _concerns(cause: Cause, them: str) -> bool:
    """Whether the cause sits on their host, is healed there, or lies on the way to it."""
    healed = any(one.host == them for one in cause.remedy)
    return cause.host == them or healed or (cause.host is None and them in cause.object.values())


def _open_findings(report: Report) -> Iterable[str]:
    """What failed or stayed open, for a report that knows no cause on their host."""
    texts = [
        ": ".join(filter(None, (one.summary, one.reason)))
        for one in report.findings
        if one.state in {State.FAIL, State.UNKNOWN}
    ]
    if texts:
        yield _list("What we saw:", texts)


def _addressee(report: Report, host: str | None) -> str:
    named = [
        *(step.host for step in report.next),
        *(remedy.host for cause in report.causes for remedy in cause.remedy),
        *(cause.host for cause in report.causes if cause.host),
    ]
    others = list(dict.fromkeys(one for one in named if one != report.host))
    if host is not None:
        matching = [one for one in others if one == host] or [one for one in others if host in _names(one)]
        if len(matching) == 1:
            return matching[0]
        known = ", ".join(others) or "none"
        problem = "could be any of several" if matching else "is asked nothing"
        raise UsageError(f"{host} {problem} by this report; other hosts in it: {known}")
    if not others:
        raise UsageError("this report asks nothing of another host")
    if len(others) > 1:
        raise UsageError(f"this report asks something of several hosts; say which with --host: {', '.join(others)}")
    return others[0]


def _names(host: str) -> set[str]:
    """What a host of the form "name (address)" may be called."""
    return {part.strip("()") for part in host.split()}


def _subject(report: Report, them: str) -> str:
    changes = any(one.host == them for cause in report.causes for one in cause.remedy)
    what = "a change" if changes else "a look"
    return wording.one_line(f"{what} needed on {them} for {report.host}")


def _aim(report: Report, them: str) -> str:
    aim = _AIMS[report.question] if report.question else "We look for the reason why {here} cannot reach other hosts"
    return _wrap(f"{aim.format(here=report.host)}. For that we need your help on {them}.")


def _seen(cause: Cause, them: str) -> Iterable[str]:
    place = f"on {cause.host}" if cause.host else "between the hosts"
    yield _wrap(f"What we found {place} ({_CERTAINTY[cause.confidence]}): {clause(cause.title)}.")
    yield "    " + wording.described(cause) + (f"\n    {text}" if (text := wording.verbatim(cause)) else "")
    yield _wrap(cause.explanation)
    if cause.evidence:
        yield _list("Seen:", [f"{one.kind}: {one.text}" for one in cause.evidence])
    if not any(one.host == them for one in cause.remedy):
        yield _wrap("We know no exact command for it; please look at the object named above.")


def _requests(causes: Sequence[Cause], steps: Sequence[Step], them: str) -> Iterable[str]:
    remedies = [one for cause in causes for one in cause.remedy if one.host == them]
    if not remedies and not steps:
        return
    yield f"Please run on {wording.one_line(them)}, as root:"
    number = 0
    for remedy in remedies:
        number += 1
        yield _numbered(number, remedy.summary, remedy.commands)
        if remedy.risk is Risk.DISRUPTIVE:
            yield _wrap("Careful: this interrupts traffic or tasks that work now.", 4)
        if remedy.persist:
            yield _numbered(None, "To keep it over a reboot:", remedy.persist)
        if remedy.undo:
            yield _numbered(None, "To undo it:", remedy.undo)
    for step in steps:
        number += 1
        yield _numbered(number, step.why, (step.command,) if step.command else ())


def _commands(causes: Sequence[Cause], them: str) -> set[str]:
    return {command for cause in causes for one in cause.remedy if one.host == them for command in one.commands}


def _numbered(number: int | None, text: str, commands: Iterable[str]) -> str:
    head = _wrap(text, 4, lead=f" {number}. " if number else "    ")
    lines = [line for command in commands for line in wording.visible(command).split("\n")]
    return "\n".join([head, *(f"      {line}" for line in lines)])


def _list(title: str, texts: Iterable[str]) -> str:
    return "\n".join([title, *(_wrap(text, 4, lead="  - ") for text in texts)])


def _wrap(text: str, indent: int = 0, *, lead: str = "") -> str:
    return textwrap.fill(
        wording.one_line(text),
        _WIDTH,
        initial_indent=lead or " " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
