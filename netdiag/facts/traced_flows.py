"""Tracing the first packets of several new flows through this host's own filters, all in one round.

The packets never reach anybody, and tuples that conntrack knows are left alone: the participant sees to both. No two
requests are alike and none holds anything random, so that a bundle gives each its own answer again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Context
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.level import features_needed, judge
from netdiag.facts.rounds import together
from netdiag.facts.route_lookup import gather_lookup, gather_neighbour_unanswered
from netdiag.facts.trace_answer import made, read_answer
from netdiag.facts.trace_here import namespace_of
from netdiag.facts.trace_plan import at_port, gather_packet
from netdiag.facts.trace_request import port_of, request_of
from netdiag.facts.trace_rules import gather_rules
from netdiag.facts.trace_surroundings import Suspects, gather_suspects
from netdiag.facts.trace_wanted import PORTS, Wanted, named
from netdiag.firewall.trace import with_names
from netdiag.firewall.trace_agreed import agreed
from netdiag.firewall.trace_memory import remembering
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import HOST, Facts, RuleSet, Section
from netdiag.model.firewall import Direction, Packet
from netdiag.model.level import Level
from netdiag.model.probes import TracedFlow
from netdiag.model.trace import TracedPacket, TracePath, TraceVerdict
from netdiag.model.wire import Answer, Gather

WAIT_MS = 500
"""How long the kernel is listened to for a packet that ends nowhere; all others end within a few milliseconds."""
_LEGACY_WAIT_MS = 150


def gather_traced(packets: Sequence[Packet], facts: Facts) -> Gather[tuple[TracedFlow, ...]]:
    """Trace each packet, side by side; the answer has one flow for each, in order.

    Args:
        packets: New flows' first packets; a packet that arrives must say from whom, one that leaves to whom.
        facts: Of this host; rules are resolved against the listing in them.
    """
    refused = [_refused(packet, facts) for packet in packets]
    asked = [packet for packet, reason in zip(packets, refused, strict=True) if reason is None]
    planned: list[TracedPacket | str] = yield from together([_planned(packet, facts) for packet in asked])
    here, sets = namespace_of(facts, HOST), (facts.firewall.value or {}).get(HOST, ())
    rules = (yield from gather_rules(sets, here)) if any(isinstance(plan, TracedPacket) for plan in planned) else None
    rules = rules or Rules((), HOST)
    planned = [plan if isinstance(plan, str) else _met(plan, facts, rules) for plan in planned]
    sent = [plan for plan in planned if isinstance(plan, TracedPacket)]
    suspects: list[Suspects] = yield from together([gather_suspects(plan, facts) for plan in sent])
    level = judge(facts).level
    requests = [request_of(plan, facts, wait_ms=WAIT_MS, rules=rules, level=level) for plan in sent]
    answers: list[Answer] = list((yield requests)) if requests else []
    if rules.legacy_tables and Context(kernel=facts.kernel.value).present("nfnetlink_log"):
        answers = yield from _with_legacy(sent, answers, rules, facts, level)
    later = (yield from _changed_rules(rules, facts)) if any(answer.data is not None for answer in answers) else None
    plans = iter(planned)
    flows: list[TracedFlow] = []
    for packet, reason in zip(packets, refused, strict=True):
        if reason is not None:
            flows.append(reason)
            continue
        plan = next(plans)
        if isinstance(plan, str):
            flows.append(TracedFlow(packet=packet, why_not=plan))
        else:
            flows.append(_flow(packet, plan, answers.pop(0), rules, later, facts, suspects.pop(0)))
    return tuple((yield from together([_unless_unsendable(flow) for flow in flows])))


def _with_legacy(
    sent: Sequence[TracedPacket], answers: Sequence[Answer], rules: Rules, facts: Facts, level: Level
) -> Gather[list[Answer]]:
    """The answers, asked once more for each packet that ended nowhere: a legacy rule may have taken it.

    One at a time, because a namespace has one logger.
    """
    heard: list[Answer] = []
    for plan, answer in zip(sent, answers, strict=True):
        if answer.data is None or answer.data["seen_us"] is not None:
            heard.append(answer)
            continue
        request = request_of(plan, facts, wait_ms=_LEGACY_WAIT_MS, rules=rules, level=level, legacy=True)
        (again,) = yield [request]
        heard.append(again if again.data is not None else answer)
    return heard


def _unless_unsendable(flow: TracedFlow) -> Gather[TracedFlow]:
    """The flow, unless its packet never left because nobody answers ARP or ND: that says nothing of the filters."""
    packet, trace = flow.packet, flow.trace
    if trace is None or trace.verdict is not TraceVerdict.UNKNOWN or packet.direction is Direction.IN:
        return flow
    lookup = yield from gather_lookup(packet.destination)
    next_hop = lookup.route.gateway or packet.destination
    if not lookup.device_index or not (yield from gather_neighbour_unanswered(next_hop, lookup.device_index)):
        return flow
    protocol = "neighbour discovery" if packet.family == 6 else "ARP"
    return TracedFlow(packet=packet, why_not=f"{next_hop} does not answer {protocol}, so nothing leaves for it")


def _refused(packet: Packet, facts: Facts) -> TracedFlow | None:
    """The flow of a packet that this host, as it is, does not trace."""
    if packet.direction is Direction.OUT and packet.protocol not in PORTS:
        # It has no port that a new flow could be told by: conntrack would take what the peer sends for its answer.
        text = f"a packet of {named(packet.protocol)} that leaves would open the way in for the peer's"
        return TracedFlow(packet=packet, why_not=text)
    report = judge(facts)
    if not report.level.traces:
        return TracedFlow(packet=packet, why_not=report.why)
    known = Context(kernel=facts.kernel.value)
    needed = features_needed(facts, report.level, arrives=packet.direction is Direction.IN)
    missing = [name for name in needed if not known.present(name)]
    if missing:
        why = f"that would load {' and '.join(missing)} into the kernel"
        return TracedFlow(packet=packet, why_not=why, would_load=True)
    return None


def _planned(packet: Packet, facts: Facts) -> Gather[TracedPacket | str]:
    """The packet in full, or why it cannot be made here."""
    inward = packet.direction is Direction.IN
    wanted = Wanted(
        path=TracePath.IN if inward else TracePath.OUT,
        in_device=packet.device if inward else "",
        out_device="" if inward else packet.device,
        source=packet.source,
        destination=packet.destination,
        protocol=named(packet.protocol),
        source_port=packet.source_port,
        destination_port=packet.destination_port,
        length=packet.length,
        vxlan=packet.vxlan,
    )
    try:
        return (yield from gather_packet(wanted, facts))
    except UsageError as error:
        return str(error)


def _met(plan: TracedPacket, facts: Facts, rules: Rules) -> TracedPacket | str:
    """The packet where this host's chains meet it, or why it is better not sent."""
    rule = remembering(rules, plan)
    if rule:
        return f"this rule would remember the peer as if it had sent the packet: {rule}"
    placed, why = at_port(plan, facts, rules)
    return why or placed


def _changed_rules(rules: Rules, facts: Facts) -> Gather[Rules | None]:
    """The rules as they are behind the packets, if they are not those that were listed before."""
    here, reading = namespace_of(facts, HOST), "behind the trace"
    context = Context(namespaces={HOST: here}, kernel=facts.kernel.value)
    section = yield from gather_firewall(context, reading)
    if _hidden(section) != _hidden(facts.firewall):
        return None
    again = yield from gather_rules((section.value or {}).get(HOST, ()), here, reading)
    return None if rules.same_as(again) else again


def _hidden(section: Section[dict[str, tuple[RuleSet, ...]]]) -> object:
    """What of the host's rules could not be read."""
    return section.partial.get(HOST) or section.absent


def _flow(
    packet: Packet,
    sent: TracedPacket,
    answer: Answer,
    rules: Rules,
    later: Rules | None,
    facts: Facts,
    suspects: Suspects,
) -> TracedFlow:
    if answer.data is None:
        return TracedFlow(packet=packet, why_not=answer.error.text if answer.error is not None else "no answer")
    data = answer.data
    links, port = (facts.links.value or {}).get(HOST, ()), port_of(sent, facts)
    resolved, _ = read_answer(data, rules, sent, links, port=port, suspects=suspects)
    if later is not None and resolved.path:
        behind, _ = read_answer(data, later, sent, links, port=port, suspects=suspects)
        resolved = agreed(resolved, behind, legacy_stands=rules.legacy_as(later))
    resolved = with_names(resolved, rules, facts)
    if sent.protocol in PORTS:
        sent = msgspec.structs.replace(sent, source_port=data["sport"])
    elapsed_ms = None if data["seen_us"] is None else data["seen_us"] / 1000
    return TracedFlow(packet=packet, trace=made(resolved, sent, elapsed_ms, judge(facts).level))
