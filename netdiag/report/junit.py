"""The report as JUnit XML, for a build server: one test case a finding.

*fail* is a failure, *unknown* an error (it could not be tested), *skip* is skipped; *warn* passes and says what it
warns of in its output.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from netdiag.model.report import Cause, Finding, Report, State
from netdiag.report import wording

# What XML 1.0 has no way to write; `visible` has already written out the control characters.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> bytes:
    """One XML document in UTF-8, with its declaration and a line end."""
    counts = report.counts
    numbers = {
        "tests": str(len(report.findings)),
        "failures": str(counts.fail),
        "errors": str(counts.unknown),
        "skipped": str(counts.skip),
        "time": f"{report.duration_s:.3f}",
    }
    suites = ET.Element("testsuites", {"name": "netdiag", **numbers})
    suite = ET.SubElement(
        suites,
        "testsuite",
        {
            "name": _text(report.command),
            "hostname": _text(report.host),
            # The format has no time zone; ours is always UTC.
            "timestamp": _text(report.started).removesuffix("Z"),
            **numbers,
        },
    )
    for finding in report.findings:
        cause = report.causes[finding.cause] if finding.cause is not None else None
        _case(suite, finding, cause)
    output = ET.SubElement(suite, "system-out")
    output.text = _text("\n".join([wording.headline(report), *_steps(report)]))
    ET.indent(suites)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ET.Element, finding: Finding, cause: Cause | None) -> None:
    area, _, _ = finding.check.rpartition(".")
    place = wording.where(finding.subject)
    name = f"{finding.check} ({place})" if place else finding.check
    case = ET.SubElement(
        suite, "testcase", {"classname": _text(f"netdiag.{area or finding.check}"), "name": _text(name), "time": "0"}
    )
    details = _details(finding, cause)
    if finding.state is State.FAIL:
        ET.SubElement(
            case, "failure", {"message": _text(finding.summary), "type": cause.code if cause else finding.check}
        ).text = _text(details)
    elif finding.state is State.UNKNOWN:
        ET.SubElement(case, "error", {"message": _text(finding.summary), "type": "unknown"}).text = _text(details)
    elif finding.state is State.SKIP:
        ET.SubElement(case, "skipped", {"message": _text(finding.reason or finding.summary)})
    elif finding.state is State.WARN:
        ET.SubElement(case, "system-out").text = _text(f"warning: {finding.summary}\n{details}")


def _details(finding: Finding, cause: Cause | None) -> str:
    lines = [finding.reason] if finding.reason else []
    lines += [f"{one.kind}: {one.text}" for one in finding.evidence]
    if cause:
        place = f" on {cause.host}" if cause.host else ""
        lines += [
            f"{cause.code} ({cause.confidence.value}){place}: {wording.described(cause)}",
            *filter(None, [wording.verbatim(cause)]),
            cause.explanation,
        ]
        lines += [f"{one.kind}: {one.text}" for one in cause.evidence if one not in finding.evidence]
        for remedy in cause.remedy:
            lines += [f"On {remedy.host}: {remedy.summary}", *(f"    {command}" for command in remedy.commands)]
    return "\n".join(lines)


def _steps(report: Report) -> list[str]:
    return [
        f"Next, on {step.host}: {step.why}" + (f"\n    {step.command}" * bool(step.command)) for step in report.next
    ]


def _text(text: str) -> str:
    return _NOT_XML.sub("?", wording.visible(text))
