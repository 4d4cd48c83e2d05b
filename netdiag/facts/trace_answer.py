"""What a participant's answer to a trace says: events of nft, and reports of legacy chains where it listened to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from netdiag.facts.legacy_events import decode_legacy
from netdiag.facts.trace_events import decode_trace
from netdiag.facts.trace_surroundings import Suspects
from netdiag.firewall.legacy_trace import follow
from netdiag.firewall.trace import Resolved, resolve
from netdiag.firewall.trace_copies import resolve_copies, ways_of, without_clones
from netdiag.firewall.trace_rules import Rules
from netdiag.firewall.trace_variants import join
from netdiag.model.facts import Link
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Trace, TracedPacket, TraceEvent, TracePath, TraceVerdict


def read_answer(
    data: Mapping[str, Any],
    rules: Rules,
    packet: TracedPacket,
    links: Sequence[Link],
    *,
    port: str = "",
    suspects: Suspects | None = None,
    waited: bool = False,
) -> tuple[Resolved, tuple[TraceEvent, ...]]:
    """What became of the packet, and nft's events.

    Args:
        data: The answer of ``firewall-trace`` or ``firewall-watch``.
        rules: The namespace's rules, listed before.
        packet: What was sent.
        links: The namespace's devices.
        port: The port of a bridge by which it should leave (`netdiag.facts.trace_request.port_of`).
        suspects: What could lose it outside the filters.
        waited: The packet was somebody else's.
    """
    events = decode_trace(data["messages"])
    own = without_clones(events.rows, data["table"], outward=packet.path is TracePath.OUT)
    raw = data.get("legacy")
    reports = decode_legacy(raw) if raw is not None else None
    bridges = [link.index for link in links if link.kind == "bridge"]
    ports = {link.index: link.name for link in links if link.master in bridges}

    def resolve_one(some: Sequence[TraceEvent], by: int) -> Resolved:
        resolved = resolve(
            some,
            rules,
            path=packet.path,
            own_table=data["table"],
            lost=data["lost"] or bool(events.error),
            bridges=bridges,
            waited=waited,
            suspects=suspects.always if suspects is not None else (),
            forwarded_suspects=suspects.forwarded if suspects is not None else (),
            legacy_reports=reports is not None,
        )
        if reports is None:
            return resolved
        path = follow([row for row in reports.rows if row.port in (0, by)], rules, packet.namespace)
        return join(resolved, path, rules, path=packet.path, lost=data["legacy_lost"] or bool(reports.error))

    wanted = next((index for index, name in ports.items() if name == port), 0)
    resolved = resolve_copies(ways_of(own, ports), resolve_one, ports, wanted)
    if raw is None and data.get("legacy_error") and resolved.verdict is TraceVerdict.UNKNOWN:
        resolved = msgspec.structs.replace(resolved, reason=f"{resolved.reason} ({data['legacy_error']})")
    return resolved, own


def made(resolved: Resolved, packet: TracedPacket, elapsed_ms: float | None, level: Level) -> Trace:
    """The answer of a trace. What is not known is possible at most."""
    decided = resolved.decided.rule if resolved.decided is not None else None
    unknown = resolved.verdict is TraceVerdict.UNKNOWN
    return Trace(
        verdict=resolved.verdict,
        rule=decided if decided is not None and decided.policy is None else None,
        policy=decided if decided is not None and decided.policy is not None else None,
        confidence=Confidence.POSSIBLE if unknown else resolved.confidence,
        path=resolved.path,
        nat=resolved.nat,
        level=level,
        elapsed_ms=None if elapsed_ms is None else round(elapsed_ms, 2),
        reason=resolved.reason,
        packet=packet,
    )
