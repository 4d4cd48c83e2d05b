"""A proof for people: the packet's verdict without the rule and with it, and which flows of the sample change."""

from __future__ import annotations

from netdiag.model.proof import ChangedFlow, Fate, Proof, ProofLevel
from netdiag.model.trace import TracedPacket, TracePath, TraceVerdict
from netdiag.report.trace_lines import wrapped
from netdiag.report.wording import visible_line

_MOST = 20
"""How many flows are shown; the JSON has all."""
_BY = {
    ProofLevel.KERNEL: "traced by this kernel in copies of the rules, without the rule and with it",
    ProofLevel.COMPUTED: "computed from the rules, not seen by a kernel",
}


def proof_lines(proof: Proof, width: int) -> list[str]:
    """The proof, indented below its head. A rule stands on one line, however long."""
    if proof.reason:
        return [visible_line(line) for line in ["", *wrapped(f"Not proven: {proof.reason}", width)]]
    said = ["", *wrapped(f"Tried out ({_BY[proof.level]}):", width)]
    said += [f"  this packet: {proof.before.verdict.value} -> {proof.after.verdict.value}"]
    if proof.after.verdict is not TraceVerdict.ACCEPT or proof.before.verdict is TraceVerdict.UNKNOWN:
        said += _why(proof.after)
    said += _flows(proof, width)
    if proof.no_ops:
        said += wrapped("rules that this kernel does not load, which only count in the copy:", width, indent=2)
        said += [f"    {rule.place()}: {rule.text}" for rule in proof.no_ops[:_MOST]]
    if proof.not_copied:
        said += wrapped("not copied:" if proof.level is ProofLevel.KERNEL else "no copy was made:", width, indent=2)
        said += [f"    {line}" for line in proof.not_copied[:_MOST]]
    return [visible_line(line) for line in said]


def _why(fate: Fate) -> list[str]:
    if fate.rule is not None and fate.verdict is not TraceVerdict.UNKNOWN:
        return [f"    by {fate.rule.backend.value} {fate.rule.family} {fate.rule.place()}: {fate.rule.text}"]
    return [f"    {fate.reason}"] if fate.reason else []


def _flows(proof: Proof, width: int) -> list[str]:
    others = [flow for flow in proof.changed if not flow.meant]
    meant = len(proof.changed) - len(others)
    text = f"{proof.asked} other flows: "
    text += (
        f"{meant} change that the rule is for, {len(others)} that it is not for" if proof.changed else "none changes"
    )
    text += f", {proof.unknown} not known" if proof.unknown else ""
    said = wrapped(text, width, indent=2)
    said += [f"    {_flow(flow)}" for flow in [*others, *(flow for flow in proof.changed if flow.meant)][:_MOST]]
    return said


def _flow(flow: ChangedFlow) -> str:
    meant = " (meant)" if flow.meant else ""
    return f"{flow.before.verdict.value} -> {flow.after.verdict.value}: {_packet(flow.packet)}{meant}"


def _packet(packet: TracedPacket) -> str:
    words = [packet.protocol, "from", packet.source or "anybody", "to", packet.destination or "this host"]
    words += [f"port {packet.destination_port}"] if packet.destination_port is not None else []
    words += [f"arriving on {packet.in_device}"] if packet.in_device else []
    words += ["passing through"] if packet.path is TracePath.FORWARD else []
    return " ".join(words)
