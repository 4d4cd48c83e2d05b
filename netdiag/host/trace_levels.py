"""The levels that make no nft table: a counted burst of packets, and rules that are only read."""

from __future__ import annotations

import msgspec

from netdiag.facts.context import Context, Options
from netdiag.facts.explain_host import explainer_of
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.trace_here import comes_back, namespace_of
from netdiag.facts.trace_request import request_of
from netdiag.firewall.counted import Bursts, count, way_of
from netdiag.firewall.proof import line_of
from netdiag.firewall.trace import Resolved
from netdiag.host.drive import Carrier, drive
from netdiag.model.facts import Facts, RuleSet, Section
from netdiag.model.firewall import FirewallRule
from netdiag.model.report import Confidence
from netdiag.model.trace import TracedPacket, TraceVerdict
from netdiag.model.wire import Answer, Request

BURSTS = Bursts(7, 11)
"""Two different numbers, each larger than what comes by chance between two readings of a quiet counter."""
_BURST_S = 5.0


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
    """Send nothing: say what the model makes of the rules, which is likely at most."""
    identity = facts.identity.value
    if identity is None or not identity.is_root:
        return _unknown("the rules of this host cannot be read without root; sudo netdiag firewall trace can")
    rules, reason = _rules(carrier, packet, facts, options, "")
    if reason:
        return _unknown(reason)
    known = msgspec.structs.replace(facts, firewall=Section(value={packet.namespace: rules}))
    explainer, _ = explainer_of(known, packet.namespace)
    try:
        found = explainer.explain(line_of(packet))
    except ValueError as error:
        return _unknown(str(error))
    if len(found.possible) > 1:
        at = next((each.rule for each in found.depends if each.rule is not None), None)
        where = f" at {at.place()}: {at.text}" if at is not None else ""
        return _unknown(f"{found.reason}{where}")
    path = tuple(
        msgspec.structs.replace(step, rule=msgspec.structs.replace(step.rule, namespace=packet.namespace))
        for step in found.path
    )
    rule = found.rule or found.policy
    decided = next((step for step in reversed(path) if rule is not None and _same(step.rule, rule)), None)
    said = "rules were only read, and no packet was sent"
    return Resolved(
        verdict=found.possible[0],  # also where several rules may decide, and all decide alike
        decided=decided,
        path=path,
        callers=((),) * len(path),
        confidence=Confidence.LIKELY,
        reason=f"{found.reason}; {said}" if found.reason else said,
    )


def _same(one: FirewallRule, other: FirewallRule) -> bool:
    return (one.backend, one.place(), one.policy) == (other.backend, other.place(), other.policy)


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
