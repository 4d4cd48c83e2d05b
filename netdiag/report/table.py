"""The report for people: what is the answer, why, what heals it, what to do next.

Lines are laid out here, to the width that is asked for; a command stands on lines of its own and is never wrapped, so
that it can be copied. Print the result without wrapping or cropping it again (``soft_wrap=True``).
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.text import Text

from netdiag.model.report import Cause, Evidence, Finding, Remedy, Report, Risk, State
from netdiag.report import wording

MIN_WIDTH = 40
_ALIKE = 5
_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red", State.UNKNOWN: "magenta", State.SKIP: "dim"}
_RISKS = {
    Risk.NONE: "Risk: none.",
    Risk.LOW: "Risk: low, it touches only what is named here.",
    Risk.OPENS: "Risk: it lets in whoever is filled in, so fill in a peer and no network.",
    Risk.DISRUPTIVE: "Risk: it interrupts traffic or tasks that work now.",
}
_GROUPS = (
    (State.FAIL, "FAILED"),
    (State.UNKNOWN, "COULD NOT FIND OUT"),
    (State.WARN, "WARNINGS"),
    (State.OK, "OK"),
    (State.SKIP, "DOES NOT APPLY"),
)


class _Page:
    """Lines under construction; nothing is ever said by colour alone."""

    def __init__(self, width: int, *, ascii_only: bool) -> None:
        self.text = Text(no_wrap=True, overflow="ignore", end="")
        self._width = max(width, MIN_WIDTH)
        self._ascii = ascii_only

    def raw(self, line: str, style: str = "") -> None:
        self.text.append((wording.plain_ascii(line) if self._ascii else line).rstrip(), style)
        self.text.append("\n")

    def blank(self) -> None:
        self.raw("")

    def say(self, text: str, indent: int = 0, *, lead: str = "", style: str = "") -> None:
        """A paragraph; ``lead`` stands before its first line and the rest is indented below it."""
        text = wording.one_line(text)
        first = " " * indent + lead
        lines = textwrap.wrap(
            wording.plain_ascii(text) if self._ascii else text,
            self._width,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            # A broken address or option is worse than a long line.
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines or [first]:
            self.raw(line, style)

    def commands(self, commands: Iterable[str], indent: int) -> None:
        """Commands as they are, each on lines of its own."""
        for command in commands:
            for line in wording.visible(command).split("\n"):
                self.raw(" " * indent + line, "bold")


def render(
    report: Report, *, width: int = 80, verbose: bool = False, ascii_only: bool = False, drawing: Sequence[str] = ()
) -> Text:
    """The report as text of at most ``width`` columns, apart from commands and words that are longer.

    Args:
        report: What to render.
        width: Columns; less than 40 counts as 40.
        verbose: Show what is in order and what does not apply as well, with all evidence.
        ascii_only: For a terminal whose encoding has no more.
        drawing: Lines that are shown as they are, below the answer.
    """
    page = _Page(width, ascii_only=ascii_only)
    page.say(wording.headline(report), style=f"bold {_STYLES[report.verdict]}")
    answers = wording.answers_line(report)
    page.say(
        f"netdiag {report.command}, on {report.host}, {report.started}, {report.duration_s:.1f} s."
        + (f" Answers: {answers}." if answers else "")
    )
    if drawing:
        page.blank()
    for line in drawing:
        page.raw(line)
    for number, cause in enumerate(report.causes, 1):
        page.blank()
        _cause(page, cause, number, len(report.causes))
    for state, title in _GROUPS:
        findings = [one for one in report.findings if one.state is state]
        if findings and (verbose or state not in {State.OK, State.SKIP}):
            page.blank()
            page.raw(f"{title} ({len(findings)})", f"bold {_STYLES[state]}")
            _findings(page, findings, verbose=verbose)
    page.blank()
    page.say(_counts(report, verbose=verbose))
    if report.next:
        page.blank()
        _steps(page, report)
    return page.text


def _cause(page: _Page, cause: Cause, number: int, total: int) -> None:
    page.say(f"CAUSE {number} of {total}: {cause.code} ({cause.confidence.value})", style="bold")
    page.say(f"{cause.title}.", 2)
    thing = wording.described(cause)
    page.say(f"On {cause.host}: {thing}" if cause.host else thing[:1].upper() + thing[1:], 2)
    if text := wording.verbatim(cause):
        page.commands([text], 6)
    page.say(cause.explanation, 2)
    if cause.because:
        page.say(f"Also: {', '.join(cause.because)} (netdiag explain CODE).", 2)
    if cause.affects:
        page.say(f"Breaks: {', '.join(cause.affects)}.", 2)
    _evidence(page, cause.evidence, 2)
    for remedy in cause.remedy:
        _remedy(page, remedy)
    page.say(f"More: netdiag explain {cause.code}", 2)


def _evidence(page: _Page, evidence: Sequence[Evidence], indent: int) -> None:
    if evidence:
        page.raw(" " * indent + "Seen:")
    for one in evidence:
        page.say(f"{one.kind}: {one.text}", indent + 2, lead="- ")


def _remedy(page: _Page, remedy: Remedy) -> None:
    page.blank()
    page.say(f"TO HEAL IT, on {remedy.host}: {remedy.summary}", 2, style="bold green")
    page.commands(remedy.commands, 6)
    for what, commands in (("Undo", remedy.undo), ("Keep it over a reboot", remedy.persist)):
        if commands:
            page.raw(f"    {what}:")
            page.commands(commands, 6)
    page.say(_RISKS[remedy.risk], 4)


def _findings(page: _Page, findings: Sequence[Finding], *, verbose: bool) -> None:
    """Findings in order; of many that say the same of many peers only the first few, unless verbose."""
    shown: Counter[tuple[str, int | None]] = Counter()
    for finding in findings:
        shown[finding.check, finding.cause] += 1
        if verbose or shown[finding.check, finding.cause] <= _ALIKE:
            _finding(page, finding, verbose=verbose)
    if verbose:
        return
    for (check, cause), number in shown.items():
        if number > _ALIKE:
            same = f" with cause {cause + 1}" if cause is not None else ""
            page.say(f"{number - _ALIKE} more of [{check}]{same}; --verbose shows them.", 2, lead="- ")


def _finding(page: _Page, finding: Finding, *, verbose: bool) -> None:
    page.say(finding.summary, 2, lead="- ")
    place = wording.where(finding.subject)
    cause = f", see cause {finding.cause + 1}" if finding.cause is not None else ""
    page.say(f"[{finding.check}] {place}{cause}", 4, style="dim")
    if finding.reason:
        page.say(f"Why: {finding.reason}", 4)
    if verbose or (finding.cause is None and finding.state is not State.OK):
        _evidence(page, finding.evidence, 4)


def _counts(report: Report, *, verbose: bool) -> str:
    counts = report.counts
    total = counts.ok + counts.warn + counts.fail + counts.unknown + counts.skip
    text = (
        f"{wording.amount(total, 'check')}: {counts.ok} ok, {wording.amount(counts.warn, 'warning')},"
        f" {counts.fail} failed, {counts.unknown} unknown, {counts.skip} not applicable."
    )
    return text if verbose or not counts.ok + counts.skip else f"{text} --verbose shows all of them."


def _steps(page: _Page, report: Report) -> None:
    page.raw("NEXT", "bold")
    grouped = groupby(report.next, key=lambda step: (step.host, step.why))
    for number, ((host, why), steps) in enumerate(grouped, 1):
        page.say(f"On {host}: {why}", 2, lead=f"{number}. ")
        page.commands((step.command for step in steps if step.command), 6)
