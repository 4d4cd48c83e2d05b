"""What a participant's answer to a trace says: events of nft, and reports of legacy chains where it listened to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from netdiag.facts.legacy_events import decode_legacy
from netdiag.facts.trace_events import decode_trace
from netdiag.firewall.legacy_trace import follow
from netdiag.firewall.trace import Resolved, resolve
from netdiag.firewall.trace_rules import Rules
from netdiag.firewall.trace_variants import join
from netdiag.model.facts import Link
from netdiag.model.trace import TracedPacket, TraceEvent, TraceVerdict


def read_answer(
    data: Mapping[str, Any],
    rules: Rules,
    packet: TracedPacket,
    links: Sequence[Link],
    *,
    suspects: Sequence[str] = (),
    waited: bool = False,
) -> tuple[Resolved, tuple[TraceEvent, ...]]:
    """What became of the packet, and nft's events.

    Args:
        data: The answer of ``firewall-trace`` or ``firewall-watch``.
        rules: The namespace's rules, listed before.
        packet: What was sent.
        links: The namespace's devices.
        suspects: As for `netdiag.firewall.trace.resolve`.
        waited: The packet was somebody else's.
    """
    events = decode_trace(data["messages"])
    legacy = data.get("legacy")
    resolved = resolve(
        events.rows,
        rules,
        path=packet.path,
        own_table=data["table"],
        lost=data["lost"] or bool(events.error),
        bridges=[link.index for link in links if link.kind == "bridge"],
        waited=waited,
        suspects=suspects,
        legacy_reports=legacy is not None,
    )
    if legacy is not None:
        reports = decode_legacy(legacy)
        path = follow(reports.rows, rules, packet.namespace)
        lost = data["legacy_lost"] or bool(reports.error)
        resolved = join(resolved, path, rules, path=packet.path, lost=lost)
    elif data.get("legacy_error") and resolved.verdict is TraceVerdict.UNKNOWN:
        resolved = msgspec.structs.replace(resolved, reason=f"{resolved.reason} ({data['legacy_error']})")
    return resolved, events.rows
