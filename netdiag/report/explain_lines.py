"""The answer of ``netdiag firewall explain`` for people: the deciding rule first, then what is unknown, then the way."""

from __future__ import annotations

from netdiag.model.explain import Explanation, PacketLine
from netdiag.model.trace import Endpoints, TraceVerdict
from netdiag.report.trace_lines import rule_lines, step_lines, wrapped
from netdiag.report.wording import visible_line

_MOST_PROBLEMS = 20


def lines(found: Explanation, packet: PacketLine, width: int) -> list[str]:
    """The whole answer, a line each."""
    said = wrapped(f"{found.verdict.value.upper()}: {packet_words(packet)}", width)
    decided = found.rule or found.policy
    if decided is not None:
        said += ["", *rule_lines(decided)]
    if found.verdict is TraceVerdict.UNKNOWN:
        said += ["", *wrapped(f"possible: {', '.join(each.value for each in found.possible)}", width, indent=2)]
        said += wrapped(found.reason, width, indent=2)
    if found.depends:
        said += ["", "It depends on:"]
        for each in found.depends:
            said += wrapped(each.reason, width, indent=2)
            said += [f"    {each.rule.place()}: {each.rule.text}"] if each.rule is not None else []
    if found.after is not None:
        said += ["", "Its addresses behind all rules:", f"  {_ends(found.after)}"]
    if found.path:
        said += ["", "The way it takes:", *step_lines(found.path, width)]
    said += ["", "computed from the rules, not seen by a kernel (netdiag firewall trace asks the kernel)"]
    return [visible_line(line) for line in said]


def problem_lines(problems: tuple[str, ...]) -> list[str]:
    """What of the rules was not understood."""
    more = len(problems) - _MOST_PROBLEMS
    said = [visible_line(problem) for problem in problems[:_MOST_PROBLEMS]]
    return [*said, f"and {more} more"] if more > 0 else said


def packet_words(packet: PacketLine) -> str:
    """The packet in one line, as far as it was said."""
    ported = packet.sport is not None or packet.dport is not None or packet.tcp_flags is not None
    words = [str(packet.proto) if packet.proto is not None else "tcp" if ported else "an echo request"]
    for name, address, port in (("from", packet.source, packet.sport), ("to", packet.destination, packet.dport)):
        if address or port is not None:
            words += [name, address or "any address", *([f"port {port}"] if port is not None else [])]
    words += [f"arriving on {packet.in_device}"] if packet.in_device else []
    words += [f"leaving by {packet.out_device}"] if packet.out_device else []
    words.append(f"at {packet.hook.upper()}" if packet.hook else f"({packet.path.value if packet.path else 'in'})")
    return " ".join(words)


def _ends(ends: Endpoints) -> str:
    sides = ((ends.source, ends.source_port), (ends.destination, ends.destination_port))
    told = [f"{address or 'unknown'}{f' port {port}' if port is not None else ''}" for address, port in sides]
    return f"from {told[0]} to {told[1]}"
