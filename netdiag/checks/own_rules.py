"""Which of this host's own rules stops a connection to a manager, or its answer."""

from __future__ import annotations

from netdiag.causes import cause
from netdiag.checks.context import Context, same_address
from netdiag.firewall.plain import Outcome, could_stop, read_plainly
from netdiag.firewall.remedy import accept_before, persist_commands
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.probes import ManagerProbe, TcpOutcome
from netdiag.model.report import Cause, Confidence, Evidence


def local_rule(ctx: Context, probe: ManagerProbe) -> Cause | None:
    """The local rule that loses the SYN or its answer: proven by its counter, else likely by a plain reading."""
    rules, tcp = ctx.rule_sets(), probe.tcp
    # What another host answered has left this one and come back: only a rule that answers itself can have stopped it.
    rejected = tcp is not None and tcp.outcome in (TcpOutcome.RESET, TcpOutcome.ICMP)
    if rejected and tcp is not None and tcp.icmp is not None and not is_own(ctx, probe, tcp.icmp.sender):
        return None
    for moved in ctx.observed.moved if ctx.observed is not None else ():
        if (moved.address, moved.port) != (probe.address, probe.port):
            continue
        if rejected and "REJECT" not in moved.rule.text:
            continue
        # A counter may move by as many for some other traffic: the rules must allow that it was ours.
        for packet, answer in ((packet_to(probe), False), (_answer_of(probe), True)):
            if could_stop(rules, moved.rule, packet, answer=answer):
                return _local_cause(ctx, probe, moved.rule, Confidence.PROVEN, moved.packets, packet)
    packet = packet_to(probe)
    reading = read_plainly(rules, packet)
    if reading.rule is not None and (
        reading.outcome is Outcome.REJECT or (reading.outcome is Outcome.DROP and not rejected)
    ):
        return _local_cause(ctx, probe, reading.rule, Confidence.LIKELY, None, packet)
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


def packet_to(probe: ManagerProbe) -> Packet:
    """The SYN to a manager, as this host's OUTPUT sees it."""
    route = probe.route
    return Packet(
        direction=Direction.OUT,
        protocol="tcp",
        family=6 if ":" in probe.address else 4,
        source=route.source if route else "",
        destination=probe.address,
        destination_port=probe.port,
        device=route.device if route else "",
    )


def _local_cause(
    ctx: Context, probe: ManagerProbe, rule: FirewallRule, confidence: Confidence, packets: int | None, packet: Packet
) -> Cause:
    counted = f"; its counter moved by {packets}, once for every SYN that was sent" if packets is not None else ""
    seen = Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}{counted}", rule.as_object())
    lost = "loses the answers of" if packet.direction is Direction.IN else "stops what it sends to"
    persist = persist_commands(ctx.facts.identity.value, ctx.facts.firewall_saved.value, packet)
    return cause(
        "firewall.policy" if rule.number is None else "firewall.rule",
        host=ctx.host,
        object=rule.as_object(),
        confidence=confidence,
        explanation=f"This host's own {rule.place()} {lost} the manager on tcp/{probe.port}.",
        evidence=(seen,),
        affects=("swarm join",),
        remedy=(accept_before(rule, packet, host=ctx.host, persist=persist, both_backends=ctx.both_backends()),),
    )


def is_own(ctx: Context, probe: ManagerProbe, address: str) -> bool:
    """Whether an address is one of this host's."""
    route, tcp = probe.route, probe.tcp
    own = [route.source if route else "", tcp.source if tcp else "", *ctx.local_addresses()]
    return any(same_address(address, one) for one in own if one)
