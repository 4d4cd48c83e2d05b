"""The answer of ``netdiag firewall allow`` for people: what decides, what is proposed, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.model.fix import Allow, Fix
from netdiag.model.trace import Trace, TraceVerdict
from netdiag.report.proof_lines import proof_lines
from netdiag.report.trace_lines import doubt, verdict_lines, wrapped
from netdiag.report.wording import to_paste, visible_line


def same_place(before: Trace, after: Trace) -> bool:
    """Whether the same rule or policy still decides: then the change is of no use."""
    was, now = before.rule or before.policy, after.rule or after.policy
    if was is None or now is None or after.verdict is not before.verdict:
        return False
    return (was.family, was.table, was.chain, was.text) == (now.family, now.table, now.chain, now.text)


def proposal_lines(answer: Allow, width: int) -> list[str]:
    """What was found, how sure that is, and what is proposed. A rule or command stands on one line, however long."""
    said = verdict_lines(answer.before, width)
    if answer.fix is not None:
        said += _fix_lines(answer.fix, width)
        if answer.proof is not None:
            said += proof_lines(answer.proof, width)
    elif answer.before.verdict is TraceVerdict.ACCEPT:
        said += ["", "It is let through already: nothing is to be done."]
    elif answer.reason != answer.before.reason:
        said += ["", *wrapped(f"No rule is proposed: {answer.reason}", width)]
    else:
        said += ["", "No rule is proposed."]
    return [visible_line(line) for line in said]


def _fix_lines(fix: Fix, width: int) -> list[str]:
    said = ["", *wrapped(f"To let it through ({fix.place}):", width)]
    said += [f"  {to_paste(command.text)}" for command in fix.commands]
    said += ["", "Undo:", *(f"  {to_paste(command.text)}" for command in reversed(fix.undo))]
    said += ["", "To keep it:", *(f"  {to_paste(line)}" for line in fix.persist)] if fix.persist else []
    said += ["", *wrapped(f"It lets through: {fix.covers} (risk: {fix.risk.value})", width)]
    said += [line for note in fix.notes for line in wrapped(note, width, indent=2)]
    return said


def after_lines(before: Trace, after: Trace, width: int) -> list[str]:
    """What the packet met with the rule in place."""
    said = [f"with the rule: {_verdict(before)} -> {_verdict(after)}"]
    decided = after.rule or after.policy
    if after.verdict in (TraceVerdict.DROP, TraceVerdict.REJECT) and decided is not None:
        said.append(f"  now by {decided.backend.value} {decided.family} {decided.place()}: {decided.text}")
        if same_place(before, after):
            said.append("  the same rule decides: the change is of no use and is taken back")
    if after.reason:
        said += wrapped(after.reason, width, indent=2)
    return [visible_line(line) for line in said]


def result_lines(answer: Allow, width: int) -> list[str]:
    """What became of the change."""
    if not answer.applied:
        said = ["", *wrapped(f"Nothing is changed: {answer.reason}", width)]
    else:
        verdict = _verdict(answer.after) if answer.after is not None else TraceVerdict.UNKNOWN.value
        if answer.kept:
            said = ["", f"Kept. The packet's verdict is now: {verdict}."]
        else:
            said = ["", f"Taken back. With the rule the packet's verdict was: {verdict}."]
        said += wrapped(answer.reason, width, indent=2)
    return [visible_line(line) for line in said]


def kept_lines(change_id: str, problems: Sequence[str]) -> list[str]:
    """What became of a change that another terminal has confirmed."""
    said = [f"kept: {change_id}", *(f"but not permanently: {problem}" for problem in problems)]
    return [visible_line(line) for line in said]


def _verdict(found: Trace) -> str:
    return f"{found.verdict.value}{doubt(found)}"
