"""The answer of ``netdiag firewall allow`` for people: what decides, what is proposed, and what became of it."""

from __future__ import annotations

from netdiag.model.fix import Allow, Fix
from netdiag.model.trace import Trace, TraceVerdict
from netdiag.report.trace_lines import packet_line, rule_lines


def same_place(before: Trace, after: Trace) -> bool:
    """Whether the same rule or policy still decides: then the change is of no use."""
    was, now = before.rule or before.policy, after.rule or after.policy
    if was is None or now is None or after.verdict is not before.verdict:
        return False
    return (was.family, was.table, was.chain, was.text) == (now.family, now.table, now.chain, now.text)


def proposal_lines(answer: Allow) -> list[str]:
    """What was found and what is proposed, for people."""
    before = answer.before
    said = [f"{before.verdict.value.upper()}: {packet_line(before.packet)}"]
    decided = before.rule or before.policy
    if decided is not None:
        said += ["", *rule_lines(decided)]
    if answer.fix is not None:
        return [*said, *_fix_lines(answer.fix)]
    if before.verdict is TraceVerdict.ACCEPT:
        return [*said, "", "It is let through already: nothing is to be done."]
    return [*said, "", f"No rule is proposed: {answer.reason}"]


def _fix_lines(fix: Fix) -> list[str]:
    said = ["", f"To let it through ({fix.place}):"]
    said += [f"  {command.text}" for command in fix.commands]
    said += ["", "Undo:", *(f"  {command.text}" for command in reversed(fix.undo))]
    said += ["", "To keep it:", *(f"  {line}" for line in fix.persist)] if fix.persist else []
    said += ["", f"It lets through: {fix.covers} (risk: {fix.risk.value})"]
    said += [f"  {note}" for note in fix.notes]
    return said


def after_lines(before: Trace, after: Trace) -> list[str]:
    """What the packet met with the rule in place."""
    said = [f"with the rule: {before.verdict.value} -> {after.verdict.value}"]
    decided = after.rule or after.policy
    if after.verdict in (TraceVerdict.DROP, TraceVerdict.REJECT) and decided is not None:
        said.append(f"  now by {decided.backend.value} {decided.family} {decided.place()}: {decided.text}")
        if same_place(before, after):
            said.append("  the same rule decides: the change is of no use and is taken back")
    if after.reason:
        said.append(f"  {after.reason}")
    return said


def result_lines(answer: Allow) -> list[str]:
    """What became of the change."""
    if not answer.applied:
        return ["", f"Nothing is changed: {answer.reason}"]
    verdict = answer.after.verdict.value if answer.after is not None else "unknown"
    if answer.kept:
        said = ["", f"Kept. The packet's verdict is now: {verdict}."]
    else:
        said = ["", f"Taken back. With the rule the packet's verdict was: {verdict}."]
    return [*said, f"  {answer.reason}"] if answer.reason else said
