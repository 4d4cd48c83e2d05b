"""The levels that make no nft table: a counted burst of packets, and rules that are only read."""

from __future__ import annotations

import msgspec

from netdiag.facts.context import Context, Options
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.trace_here import comes_back, namespace_of
from netdiag.facts.trace_request import request_of
from netdiag.firewall.counted import Bursts, count, way_of
from netdiag.firewall.plain import Outcome, read_plainly
from netdiag.firewall.trace import Resolved
from netdiag.host.drive import Carrier, drive
from netdiag.model.facts import Facts, RuleSet
from netdiag.model.firewall import Direction, Packet
from netdiag.model.report import Confidence
from netdiag.model.trace import TracedPacket, TracePath, TraceStep, TraceVerdict
from netdiag.model.wire import Answer, Request

BURSTS = Bursts(7, 11)
"""Two different numbers, each larger than what comes by chance between two readings of a quiet counter."""
_BURST_S = 5.0
_VERDICTS = {
    Outcome.ACCEPT: TraceVerdict.ACCEPT,
    Outcome.DROP: TraceVerdict.DROP,
    Outcome.REJECT: TraceVerdict.REJECT,
    Outcome.UNKNOWN: TraceVerdict.UNKNOWN,
}


def by_counters(carrier: Carrier, packet: TracedPacket, facts: Facts, options: Options) -> Resolved:
    """Send two bursts of the packet, and say which rule's counter moved with them and only with them."""
    readings: list[tuple[RuleSet, ...]] = []
    refused = False
    # The first pause is a burst of none: it takes as long as the others, and shows what moves by itself.
    for number, packets in enumerate((None, 0, BURSTS.first, BURSTS.second)):
        if packets is not None:
            answer = _burst(carrier, packet, facts, packets)
            if answer.data is None:
                return _unknown(answer.error.text if answer.error is not None else "no answer")
            refused = refused or answer.data["refused"]
        rules, reason = _rules(carrier, packet, facts, options, f"counters {number}")
        if not rules:
            return _unknown(reason or "this namespace has no rules that count")
        readings.append(rules)
    way = way_of(packet.path, loopback=comes_back(packet, facts), refused=refused)
    return count(readings, BURSTS, way=way, namespace=packet.namespace)


def by_reading(carrier: Carrier, packet: TracedPacket, facts: Facts, options: Options) -> Resolved:
    """Send nothing: say what the rules say, which is likely at most."""
    identity = facts.identity.value
    if identity is None or not identity.is_root:
        return _unknown("the rules of this host cannot be read without root; sudo netdiag firewall trace can")
    if packet.path is TracePath.FORWARD:
        return _unknown("rules are only read for packets that end or begin here; a trace follows one that is forwarded")
    rules, reason = _rules(carrier, packet, facts, options, "")
    if reason:
        return _unknown(reason)
    directions = [Direction.IN if packet.path is TracePath.IN else Direction.OUT]
    if comes_back(packet, facts):
        directions.append(Direction.IN)
    for direction in directions:
        reading = read_plainly(rules, _asked(packet, direction))
        if reading.outcome is not Outcome.ACCEPT:
            break
    verdict = _VERDICTS[reading.outcome]
    if verdict is TraceVerdict.UNKNOWN:
        where = f" at {reading.rule.place()}: {reading.rule.text}" if reading.rule is not None else ""
        return _unknown(f"{reading.reason or 'reading cannot decide'}{where}")
    decided = None
    if reading.rule is not None:
        hook = "input" if direction is Direction.IN else "output"
        rule = msgspec.structs.replace(reading.rule, namespace=packet.namespace)
        said = "accept" if verdict is TraceVerdict.ACCEPT else "drop"
        decided = TraceStep(hook=hook, rule=rule, verdict=said)
    return Resolved(
        verdict=verdict,
        decided=decided,
        path=(decided,) if decided is not None else (),
        callers=((),) if decided is not None else (),
        confidence=Confidence.LIKELY,
        reason="rules were only read, and no packet was sent",
    )


def _asked(packet: TracedPacket, direction: Direction) -> Packet:
    return Packet(
        direction=direction,
        protocol=packet.protocol,
        family=6 if ":" in packet.destination else 4,
        source=packet.source,
        destination=packet.destination,
        source_port=packet.source_port,
        destination_port=packet.destination_port,
        device=packet.in_device or packet.out_device,
    )


def _burst(carrier: Carrier, packet: TracedPacket, facts: Facts, packets: int) -> Answer:
    params = {**request_of(packet, facts, wait_ms=0).params, "count": packets}
    (answer,) = carrier.ask([Request("firewall-burst", params, _BURST_S)])
    return answer


def _rules(
    carrier: Carrier, packet: TracedPacket, facts: Facts, options: Options, reading: str
) -> tuple[tuple[RuleSet, ...], str]:
    """The namespace's rules now, and why some of them are hidden."""
    here = namespace_of(facts, packet.namespace)
    context = Context(options=options, namespaces={packet.namespace: here}, kernel=facts.kernel.value)
    section = drive(gather_firewall(context, reading), carrier)
    hidden = section.partial.get(packet.namespace) or section.absent
    return (section.value or {}).get(packet.namespace, ()), hidden.text if hidden is not None else ""


def _unknown(reason: str) -> Resolved:
    return Resolved(verdict=TraceVerdict.UNKNOWN, decided=None, path=(), confidence=Confidence.POSSIBLE, reason=reason)
