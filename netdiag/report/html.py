"""The report as one HTML page that needs nothing else: no script, no style sheet or image from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from netdiag.model.report import Cause, Evidence, Finding, Remedy, Report, State
from netdiag.report import wording

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2rem } h3 { font-size: 1rem }
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid #8886; border-radius: 4px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8886 }
section { border-left: 4px solid #8888; padding-left: 1rem }
.state { font-weight: 600; white-space: nowrap }
.fail { color: #c62828 } .warn { color: #a15c00 } .unknown { color: #7b1fa2 } .ok { color: #2e7d32 }
""".strip()
_ORDER = (State.FAIL, State.UNKNOWN, State.WARN, State.OK, State.SKIP)


def render(report: Report) -> bytes:
    """The page, in UTF-8; everything that comes from a host is escaped."""
    headline = wording.headline(report)
    answers = wording.answers_line(report)
    body = [
        f'<h1 class="{report.verdict.value}">{_text(headline)}</h1>',
        f"<p>netdiag {_text(report.command)}, on {_text(report.host)}, {_text(report.started)},"
        f" {report.duration_s:.1f} s. Verdict: <b>{report.verdict.value}</b>."
        + (f" Answers: {_text(answers)}." if answers else "")
        + "</p>",
        *(line for number, cause in enumerate(report.causes, 1) for line in _cause(cause, number)),
        *_next(report),
        *_findings(report),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>netdiag: {_text(headline)}</title>",
            f"<style>\n{_STYLE}\n</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    ).encode("utf-8", "backslashreplace")


def _cause(cause: Cause, number: int) -> Iterable[str]:
    place = f"On <b>{_text(cause.host)}</b>: " if cause.host else ""
    yield f'<section id="cause-{number}">'
    yield f"<h2>Cause {number}: {_text(cause.title)}</h2>"
    yield f"<p><code>{_text(cause.code)}</code>, {cause.confidence.value}. {place}{_text(wording.described(cause))}</p>"
    if text := wording.verbatim(cause):
        yield _pre([text])
    yield f"<p>{_text(cause.explanation)}</p>"
    if cause.because:
        yield f"<p>Also: {_text(', '.join(cause.because))}</p>"
    if cause.affects:
        yield f"<p>Breaks: {_text(', '.join(cause.affects))}</p>"
    yield from _evidence(cause.evidence)
    for remedy in cause.remedy:
        yield from _remedy(remedy)
    yield "</section>"


def _remedy(remedy: Remedy) -> Iterable[str]:
    yield f"<h3>To heal it, on {_text(remedy.host)}: {_text(remedy.summary)}</h3>"
    yield _pre(remedy.commands)
    for what, commands in (("Undo", remedy.undo), ("Keep it over a reboot", remedy.persist)):
        if commands:
            yield f"<p>{what}:</p>"
            yield _pre(commands)
    yield f"<p>Risk: {remedy.risk.value}</p>"


def _evidence(evidence: Iterable[Evidence]) -> Iterable[str]:
    items = [f"<li>{_text(one.kind)}: {_text(one.text)}</li>" for one in evidence]
    if items:
        yield f"<ul>{''.join(items)}</ul>"


def _next(report: Report) -> Iterable[str]:
    if report.next:
        yield "<h2>Next</h2>"
        yield "<ol>"
        for step in report.next:
            command = _pre([step.command]) if step.command else ""
            yield f"<li>On <b>{_text(step.host)}</b>: {_text(step.why)}{command}</li>"
        yield "</ol>"


def _findings(report: Report) -> Iterable[str]:
    yield f"<h2>Findings ({len(report.findings)})</h2>"
    yield "<table>"
    yield "<tr><th>State</th><th>Check</th><th>Where</th><th>What</th></tr>"
    for state in _ORDER:
        yield from (_row(one) for one in report.findings if one.state is state)
    yield "</table>"


def _row(finding: Finding) -> str:
    what = _text(finding.summary)
    if finding.reason:
        what += f"<br>Why: {_text(finding.reason)}"
    if finding.cause is not None:
        what += f'<br><a href="#cause-{finding.cause + 1}">cause {finding.cause + 1}</a>'
    what += "".join(_evidence(finding.evidence))
    state = finding.state.value
    return (
        f'<tr><td class="state {state}">{state}</td><td><code>{_text(finding.check)}</code></td>'
        f"<td>{_text(wording.where(finding.subject))}</td><td>{what}</td></tr>"
    )


def _pre(commands: Iterable[str]) -> str:
    return f"<pre>{_text(chr(10).join(commands))}</pre>"


def _text(text: str) -> str:
    return escape(wording.visible(text))
