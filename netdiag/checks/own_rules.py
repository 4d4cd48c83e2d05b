"""Which of this host's own rules stops a connection to a manager, or its answer."""

from __future__ import annotations

from netdiag.causes import cause
from netdiag.checks.context import Context, same_address
from netdiag.checks.flows import packet_to
from netdiag.checks.heal import remedy_for
from netdiag.firewall.plain import Outcome, could_stop, read_plainly
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.probes import ManagerProbe, TcpOutcome
from netdiag.model.report import Cause, Confidence, Evidence
from netdiag.model.trace import Trace, TraceVerdict


def local_rule(ctx: Context, probe: ManagerProbe) -> Cause | None:
    """The local rule that loses the SYN or its answer: proven by a trace or by its counter, else likely by a reading."""
    rules, tcp = ctx.rule_sets(), probe.tcp
    # What another host answered has left this one and come back: only a rule that answers itself can have stopped it.
    rejected = tcp is not None and tcp.outcome in (TcpOutcome.RESET, TcpOutcome.ICMP)
    if rejected and tcp is not None and tcp.icmp is not None and not is_own(ctx, probe, tcp.icmp.sender):
        return None
    packet = packet_to(probe)
    flow = ctx.traced(packet)
    trace = flow.trace if flow is not None else None
    named = (trace.rule or trace.policy) if trace is not None else None
    taken = (TraceVerdict.REJECT,) if rejected else (TraceVerdict.REJECT, TraceVerdict.DROP)
    if trace is not None and trace.verdict in taken and named is not None and named.text:
        return _local_cause(ctx, probe, named, trace.confidence, _traced(named, trace), packet, trace)
    for moved in ctx.observed.moved if ctx.observed is not None else ():
        if (moved.address, moved.port) != (probe.address, probe.port):
            continue
        if rejected and "REJECT" not in moved.rule.text:
            continue
        # A counter may move by as many for some other traffic: the rules must allow that it was ours.
        counted = f"; its counter moved by {moved.packets}, once for every SYN that was sent"
        for one, answer in ((packet, False), (_answer_of(probe), True)):
            if could_stop(rules, moved.rule, one, answer=answer):
                seen = _seen(moved.rule, counted)
                return _local_cause(ctx, probe, moved.rule, Confidence.PROVEN, seen, one)
    if trace is not None and trace.verdict is TraceVerdict.ACCEPT:
        return None
    reading = read_plainly(rules, packet)
    if reading.rule is not None and (
        reading.outcome is Outcome.REJECT or (reading.outcome is Outcome.DROP and not rejected)
    ):
        return _local_cause(ctx, probe, reading.rule, Confidence.LIKELY, _seen(reading.rule), packet)
    return None


def _answer_of(probe: ManagerProbe) -> Packet:
    """What the manager sends back, as this host's INPUT sees it."""
    sent = packet_to(probe)
    return Packet(
        direction=Direction.IN,
        protocol="tcp",
        family=sent.family,
        source=probe.address,
        destination=sent.source,
        source_port=probe.port,
        device=sent.device,
    )


def _seen(rule: FirewallRule, counted: str = "") -> Evidence:
    return Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}{counted}", rule.as_object())


def _traced(rule: FirewallRule, trace: Trace) -> Evidence:
    soon = f" {trace.elapsed_ms:g} ms after it was sent" if trace.elapsed_ms is not None else ""
    text = f"{rule.place()} ({rule.backend.value}): {rule.text}; the kernel's trace of a SYN ended here{soon}"
    return Evidence("trace", text, {**rule.as_object(), "elapsed_ms": trace.elapsed_ms})


def _local_cause(
    ctx: Context,
    probe: ManagerProbe,
    rule: FirewallRule,
    confidence: Confidence,
    seen: Evidence,
    packet: Packet,
    trace: Trace | None = None,
) -> Cause:
    lost = "loses the answers of" if packet.direction is Direction.IN else "stops what it sends to"
    return cause(
        "firewall.policy" if rule.policy is not None else "firewall.rule",
        host=ctx.host,
        object=rule.as_object(),
        confidence=confidence,
        explanation=f"This host's own {rule.place()} {lost} the manager on tcp/{probe.port}.",
        evidence=(seen,),
        affects=("swarm join",),
        remedy=remedy_for(ctx, rule, packet, trace),
    )


def is_own(ctx: Context, probe: ManagerProbe, address: str) -> bool:
    """Whether an address is one of this host's."""
    route, tcp = probe.route, probe.tcp
    own = [route.source if route else "", tcp.source if tcp else "", *ctx.local_addresses()]
    return any(same_address(address, one) for one in own if one)
