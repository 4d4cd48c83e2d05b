"""The answer of a trace for people: the deciding rule first, then the way to it.

Comments of rules and names of containers are somebody else's text, so every line is made visible.
"""

from __future__ import annotations

import textwrap

from netdiag.model.facts import HOST
from netdiag.model.firewall import FirewallRule
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Rewrite, Trace, TracedPacket, TracePath, TraceStep, TraceVerdict
from netdiag.report.wording import visible_line

_LEAST_WIDTH = 40


def lines(found: Trace, width: int) -> list[str]:
    """The whole answer, a line each. A rule stands on one line however long it is, so that it can be copied."""
    said = verdict_lines(found, width)
    if found.nat:
        said += ["", "Its addresses were changed:"]
        said += [line for each in found.nat for line in _rewrite(each, width)]
    if found.path:
        said += ["", "The way it took:", *step_lines(found.path, width)]
    if found.elapsed_ms is not None:
        said += ["", f"{found.elapsed_ms} ms from the packet to the rule ({found.level.value})"]
    elif not found.level.traces:
        said += ["", f"found out at the level {found.level.value} (netdiag facts level says what that costs)"]
    return [visible_line(line) for line in said]


def verdict_lines(found: Trace, width: int) -> list[str]:
    """What became of the packet and how sure that is, what decided, and what the answer does not cover."""
    said = wrapped(f"{found.verdict.value.upper()}{doubt(found)}: {packet_line(found.packet)}", width)
    decided = found.rule or found.policy
    by = ["", *rule_lines(decided)] if decided is not None else []
    why = ["", *wrapped(found.reason, width, indent=2)] if found.reason else []
    # Where an accept is not proven, what it does not cover comes before the rule.
    first = found.verdict is TraceVerdict.ACCEPT and found.confidence is not Confidence.PROVEN
    return [*said, *why, *by] if first else [*said, *by, *why]


def doubt(found: Trace) -> str:
    """What stands behind a verdict that is not proven."""
    return " (likely)" if found.confidence is Confidence.LIKELY else ""


def wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """A sentence on lines of at most so many columns, apart from words that are longer."""
    margin = " " * indent
    return textwrap.wrap(
        text,
        max(width, _LEAST_WIDTH),
        initial_indent=margin,
        subsequent_indent=margin or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def rule_lines(rule: FirewallRule) -> list[str]:
    """A rule or policy with all that tells where it stands."""
    owner = f"{rule.owner.value}: {rule.belongs_to}" if rule.belongs_to else rule.owner.value
    where = "" if rule.namespace == HOST else f", in {rule.namespace}"
    said = [f"  {rule.backend.value} {rule.family} {rule.place()}, owner {owner}{where}"]
    said += [f"    {rule.text}"] if rule.text else []
    said += [f"    called from {rule.call_site}"] if rule.call_site else []
    return [visible_line(line) for line in said]


def packet_line(packet: TracedPacket) -> str:
    """The packet in one line."""
    ends = Endpoints(
        source=packet.source,
        destination=packet.destination,
        source_port=packet.source_port,
        destination_port=packet.destination_port,
    )
    ways = {
        TracePath.IN: f"arriving on {packet.in_device or 'any device'}",
        TracePath.FORWARD: f"from {packet.in_device or 'any device'} on to {packet.out_device or 'another one'}",
        TracePath.OUT: f"leaving by {packet.out_device or 'any device'}",
    }
    where = "" if packet.namespace == HOST else f", in {packet.namespace}"
    protocol = (
        "any packet"
        if not packet.protocol
        else f"protocol {packet.protocol}"
        if packet.protocol.isdigit()
        else packet.protocol
    )
    return visible_line(f"{protocol} from {_place(ends, True)} to {_place(ends, False)}, {ways[packet.path]}{where}")


def _place(ends: Endpoints, source: bool) -> str:
    address, port = (ends.source, ends.source_port) if source else (ends.destination, ends.destination_port)
    return (address or "any address") if port is None else f"{address or 'any address'} port {port}"


def _rewrite(rewrite: Rewrite, width: int) -> list[str]:
    parts = [
        f"{_place(rewrite.before, source)} became {_place(rewrite.after, source)}"
        for source in (True, False)
        if _place(rewrite.before, source) != _place(rewrite.after, source)
    ]
    by = "" if rewrite.rule is None else f", by {rewrite.rule.place()}"
    said = wrapped("; ".join(parts) + by, width, indent=2)
    return said if rewrite.rule is None else [*said, f"      {rewrite.rule.text}"]


def step_lines(path: tuple[TraceStep, ...], width: int) -> list[str]:
    """The rules and policies that had a say, in columns."""
    rows = [(step.hook or "-", step.rule.family, step.rule.place(), step.verdict, step.rule.text) for step in path]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    said: list[str] = []
    for row in rows:
        place = "  " + "  ".join(cell.ljust(size) for cell, size in zip(row[:4], widths, strict=True)).rstrip()
        whole = "  " + "  ".join([*(cell.ljust(size) for cell, size in zip(row[:4], widths, strict=True)), row[4]])
        said += [whole.rstrip()] if len(whole) <= width else [place, f"      {row[4]}"]
    return said
