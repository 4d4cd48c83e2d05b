"""Tracing one packet on this machine: rules are listed before it is sent, so that only a look-up follows it."""

from __future__ import annotations

import time

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.level import Level, judge
from netdiag.facts.trace_events import decode_trace
from netdiag.facts.trace_plan import Wanted, gather_packet, request_of
from netdiag.firewall.trace import Resolved, Rules, resolve
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier, drive
from netdiag.model.facts import HOST, AbsenceKind, Facts, Namespace
from netdiag.model.report import Confidence
from netdiag.model.trace import Trace, TracedPacket, TraceVerdict
from netdiag.model.wire import Answer

_SECTIONS = ("identity", "kernel", "links", "addresses", "neighbours")
_UNUSABLE = (AbsenceKind.PERMISSION, AbsenceKind.MISSING, AbsenceKind.UNSUPPORTED)


def trace(carrier: Carrier, wanted: Wanted, *, now_s: float, options: Options, wait_ms: int = 500) -> Trace:
    """Send one packet through the host's packet filters and say which rule decides.

    Raises UsageError when this host cannot trace (no root, no nf_tables), or the packet cannot be made.
    """
    facts = collect(carrier, _SECTIONS, now_s=now_s, options=options)
    _require(facts, options)
    packet = drive(gather_packet(wanted, facts), carrier)
    here = Namespace(id=HOST, path="", inode=0)
    context = Context(options=options, namespaces={HOST: here}, kernel=facts.kernel.value)
    section = drive(gather_firewall(context), carrier)
    rules = Rules((section.value or {}).get(HOST, ()), HOST)
    (answer,) = carrier.ask([request_of(packet, facts, wait_ms=wait_ms)])
    if answer.data is None:
        return _untraced(answer, packet)
    start_s = time.monotonic()
    events = decode_trace(answer.data["messages"])
    resolved = resolve(
        events.rows,
        rules,
        path=packet.path,
        own_table=answer.data["table"],
        egress=answer.data["egress"],
        lost=answer.data["lost"] or bool(events.error),
    )
    seen_us = answer.data["seen_us"]
    elapsed_ms = None if seen_us is None else seen_us / 1000 + (time.monotonic() - start_s) * 1000
    if packet.protocol in ("tcp", "udp"):
        packet = msgspec.structs.replace(packet, source_port=answer.data["sport"])
    hidden = section.partial.get(HOST) or section.absent
    if hidden is not None and not resolved.reason and resolved.decided is not None and not resolved.decided.rule.text:
        resolved = msgspec.structs.replace(resolved, reason=hidden.text)
    return _made(resolved, packet, elapsed_ms)


def _require(facts: Facts, options: Options) -> None:
    report = judge(facts)
    if report.level is Level.FACTS:
        raise UsageError("a trace needs root: it makes an nft table of its own")
    if report.level is not Level.OWNED_TRACE:
        raise UsageError(f"this host cannot trace a packet: {report.why}")
    context = Context(kernel=facts.kernel.value)
    missing = [name for name in ("nf_tables", "tun") if not context.present(name)]
    if missing and not options.load_modules:
        raise UsageError(f"a trace would load {' and '.join(missing)} into the kernel: --load-modules allows it")


def _untraced(answer: Answer, packet: TracedPacket) -> Trace:
    if answer.error is not None and answer.error.kind in _UNUSABLE:
        raise UsageError(answer.error.text)
    reason = answer.error.text if answer.error is not None else "no answer"
    return _made(Resolved(verdict=TraceVerdict.UNKNOWN, decided=None, path=(), reason=reason), packet, None)


def _made(resolved: Resolved, packet: TracedPacket, elapsed_ms: float | None) -> Trace:
    decided = resolved.decided.rule if resolved.decided is not None else None
    return Trace(
        verdict=resolved.verdict,
        rule=decided if decided is not None and decided.policy is None else None,
        policy=decided if decided is not None and decided.policy is not None else None,
        confidence=Confidence.PROVEN if resolved.verdict is not TraceVerdict.UNKNOWN else Confidence.POSSIBLE,
        path=resolved.path,
        level=Level.OWNED_TRACE.value,
        elapsed_ms=None if elapsed_ms is None else round(elapsed_ms, 2),
        reason=resolved.reason,
        packet=packet,
    )
