"""Tracing one packet on this machine: rules are listed before it is sent, so that only a look-up follows it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.level import features_needed, judge
from netdiag.facts.namespace_names import of_container, of_namespace
from netdiag.facts.trace_answer import made, read_answer
from netdiag.facts.trace_here import namespace_of
from netdiag.facts.trace_onward import doubted, inside, joined, sent_on
from netdiag.facts.trace_plan import Unroutable, at_port, gather_packet
from netdiag.facts.trace_request import port_of, request_of, watch_request
from netdiag.facts.trace_rules import gather_rules
from netdiag.facts.trace_surroundings import Suspects, gather_answer_route, gather_surroundings, gather_suspects
from netdiag.facts.trace_wanted import Wanted, checked
from netdiag.firewall.trace import Resolved, with_names
from netdiag.firewall.trace_agreed import agreed
from netdiag.firewall.trace_memory import looking_inside, remembering
from netdiag.firewall.trace_rules import Rules
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier, drive
from netdiag.host.trace_levels import by_counters, by_reading
from netdiag.model.facts import HOST, Absence, AbsenceKind, Facts
from netdiag.model.firewall import Owner
from netdiag.model.level import Level
from netdiag.model.protocols import name_of
from netdiag.model.trace import Trace, TracedPacket, TraceEvent, TracePath, TraceVerdict
from netdiag.model.wire import Answer

_UNUSABLE = (AbsenceKind.PERMISSION, AbsenceKind.MISSING, AbsenceKind.UNSUPPORTED)
UNTRACED = {Level.COUNTERS: by_counters, Level.FACTS: by_reading}
"""How each level that does not trace finds out what becomes of a packet."""
_NAMED_BY = {"engine": {Owner.DOCKER, Owner.SWARM}, "calico": {Owner.CALICO}}
_NAMES_DEADLINE_S = 3.0
"""How long names are waited for: an engine that hangs costs no more, and the rule is known already."""


def trace(
    carrier: Carrier,
    wanted: Wanted,
    *,
    now_s: float,
    options: Options,
    wait_ms: int = 500,
    forced: Level | None = None,
) -> Trace:
    """Send one packet through the host's packet filters and say which rule decides.

    Args:
        carrier: Whom to ask.
        wanted: The packet.
        now_s: Unix time.
        options: What the operator chose.
        wait_ms: How long the kernel is listened to.
        forced: A level below what this host allows.

    Raises UsageError when the packet cannot be made, a module would have to be loaded, or the host does not allow the
    level.
    """
    tracer = _Tracer(carrier, wanted, now_s, options, forced)
    found = tracer.send(wait_ms)
    beyond = tracer.beyond(found, wait_ms)
    return drive(gather_answer_route(beyond, tracer.path_of_namespace()), carrier)


def watch(
    carrier: Carrier,
    wanted: Wanted,
    *,
    now_s: float,
    options: Options,
    wait_s: float,
    forced: Level | None = None,
) -> Trace:
    """Wait for a packet of somebody else's, and say which rule decides about it. Raises UsageError as `trace` does."""
    return _Tracer(carrier, wanted, now_s, options, forced).wait(wait_s)


def find_namespace(carrier: Carrier, *, container: str, netns: str, now_s: float, options: Options) -> str:
    """The id of the namespace that the operator named. Raises UsageError for none, with the nearest names."""
    if not container and netns in ("", HOST):
        return HOST
    facts = collect(carrier, ("namespaces", "engine"), now_s=now_s, options=options)
    if facts.namespaces.absent is not None:
        raise UsageError(f"namespaces cannot be told: {facts.namespaces.absent.text}")
    return of_container(facts, container) if container else of_namespace(facts, netns)


class _Tracer:
    """One trace: the facts that it rests on, and the rules as they were before it."""

    def __init__(self, carrier: Carrier, wanted: Wanted, now_s: float, options: Options, forced: Level | None) -> None:
        self._carrier = carrier
        self._now_s = now_s
        self._wanted = wanted
        self._forced = forced
        sections = ["identity", "kernel"]
        if wanted.namespace != HOST or wanted.path is TracePath.FORWARD:
            sections.append("namespaces")
        facts = collect(carrier, sections, now_s=now_s, options=options)
        self._level = _level(facts, forced)
        _require(facts, options, self._level, arrives=wanted.path is not TracePath.OUT)
        context = Context(options=options, kernel=facts.kernel.value)
        self._facts = drive(gather_surroundings(wanted, facts, context), carrier)
        self._options = options

    def send(self, wait_ms: int) -> Trace:
        try:
            packet = drive(gather_packet(self._wanted, self._facts), self._carrier)
        except Unroutable as error:
            return _unknown(str(error), _described(checked(self._wanted)), self._level)
        if not self._level.traces:
            if self._level is not Level.FACTS:  # which sends nothing
                self._spare(packet, self._rules()[0])
            found = UNTRACED[self._level](self._carrier, packet, self._facts, self._options)
            return made(found, packet, None, self._level)
        rules, hidden = self._rules()
        self._spare(packet, rules)
        packet, why = at_port(packet, self._facts, rules)
        if why:
            self._look_everywhere()
            packet, why = at_port(packet, self._facts, rules)
            if why:
                return _unknown(why, packet, self._level)
        suspects = drive(gather_suspects(packet, self._facts), self._carrier)
        (answer,) = self._carrier.ask(
            [
                request_of(
                    packet,
                    self._facts,
                    wait_ms=wait_ms,
                    rules=rules,
                    level=self._level,
                    legacy=self._may_hear_legacy(),
                    sender=self._wanted.sender,
                )
            ]
        )
        if answer.data is None:
            return _untraced(answer, packet, self._level)
        if packet.protocol in ("tcp", "udp"):
            packet = msgspec.structs.replace(packet, source_port=answer.data["sport"])
        return self._answered(answer.data, packet, rules, hidden, waited=False, suspects=suspects)

    def wait(self, wait_s: float) -> Trace:
        if not self._level.traces:
            raise UsageError(f"--wait needs a trace, and this is at {self._level.value}")
        rules, hidden = self._rules()
        (answer,) = self._carrier.ask([watch_request(self._wanted, self._facts, wait_s=wait_s, level=self._level)])
        packet = _described(self._wanted)
        if answer.data is None:
            return _untraced(answer, packet, self._level)
        if not answer.data["messages"]:
            reason = f"no such packet was seen within {wait_s:g} s"
            return _unknown(reason, packet, self._level)
        return self._answered(answer.data, packet, rules, hidden, waited=True, suspects=Suspects())

    def _spare(self, packet: TracedPacket, rules: Rules) -> None:
        """Raise UsageError where a rule would remember the packet's peer, who never sent it."""
        rule = "" if self._options.let_remember else remembering(rules, packet)
        if rule:
            raise UsageError(f"a rule would remember this packet's addresses (--let-remember goes on): {rule}")

    def beyond(self, found: Trace, wait_ms: int) -> Trace:
        """The answer with what the container's filters say that a rule sends the packet to."""
        after = sent_on(found, self._facts)
        if after is None:
            return found
        self._look_everywhere()
        wanted = inside(found, after, self._facts)
        if wanted is None:
            return doubted(found, "no container of this host is known to have that address")
        try:
            there = _Tracer(self._carrier, wanted, self._now_s, self._options, self._forced).send(wait_ms)
        except UsageError as error:
            return doubted(found, f"{wanted.namespace} has it, and a packet cannot be followed in there: {error}")
        return joined(found, there)

    def path_of_namespace(self) -> str:
        """The path of the namespace that the trace is made in; empty for the host's own."""
        return namespace_of(self._facts, self._wanted.namespace).path

    def _look_everywhere(self) -> None:
        """Read the devices and addresses of all namespaces: they tell who is behind which port or address."""
        if self._facts.namespaces.value is None:
            found = collect(self._carrier, ("namespaces",), now_s=self._now_s, options=self._options)
            self._facts = msgspec.structs.replace(self._facts, namespaces=found.namespaces)
        context = Context(options=self._options, kernel=self._facts.kernel.value)
        self._facts = drive(gather_surroundings(self._wanted, self._facts, context, everywhere=True), self._carrier)

    def _may_hear_legacy(self) -> bool:
        """Whether legacy chains can be listened to without loading a module that may not be loaded."""
        return Context(kernel=self._facts.kernel.value).present("nfnetlink_log") or self._options.load_modules

    def _rules(self, reading: str = "") -> tuple[Rules, Absence | None]:
        name = self._wanted.namespace
        here = namespace_of(self._facts, name)
        context = Context(options=self._options, namespaces={name: here}, kernel=self._facts.kernel.value)
        section = drive(gather_firewall(context, reading), self._carrier)
        rule_sets = (section.value or {}).get(name, ())
        hidden = section.partial.get(name) or section.absent
        return drive(gather_rules(rule_sets, here, reading), self._carrier), hidden

    def _named(self, resolved: Resolved, rules: Rules) -> Resolved:
        """With the names of networks, services and profiles; who knows them is asked only for rules of theirs."""
        owners = {step.rule.owner for step in resolved.path}
        sections = [name for name, whose in _NAMED_BY.items() if owners & whose]
        if not sections:
            return resolved
        facts = collect(self._carrier, sections, now_s=self._now_s, options=self._options, deadline_s=_NAMES_DEADLINE_S)
        return with_names(resolved, rules, facts)

    def _answered(
        self,
        data: dict[str, Any],
        packet: TracedPacket,
        rules: Rules,
        hidden: Absence | None,
        *,
        waited: bool,
        suspects: Suspects,
    ) -> Trace:
        start_s = time.monotonic()
        links = (self._facts.links.value or {}).get(packet.namespace, ())
        port = port_of(packet, self._facts)
        resolved, events = read_answer(data, rules, packet, links, port=port, suspects=suspects, waited=waited)
        if resolved.verdict is TraceVerdict.UNKNOWN and rules.legacy_tables and not self._may_hear_legacy():
            hint = "--load-modules lets netdiag listen to legacy iptables, through nfnetlink_log"
            resolved = msgspec.structs.replace(resolved, reason=f"{resolved.reason} ({hint})")
        seen_us = data["seen_us"]
        elapsed_ms = None if seen_us is None or waited else seen_us / 1000 + (time.monotonic() - start_s) * 1000
        if resolved.path:
            # What is named by handle or number has its text from a listing before; it must be there still.
            again, unread = self._rules("behind the trace")
            if unread == hidden and not rules.same_as(again):
                later, _ = read_answer(data, again, packet, links, port=port, suspects=suspects, waited=waited)
                resolved = agreed(resolved, later, legacy_stands=rules.legacy_as(again))
        names = {link.index: link.name for link in links}
        if waited:
            packet = _seen(packet, events, names)
        if resolved.out_index and not packet.out_device:
            packet = msgspec.structs.replace(packet, out_device=names.get(resolved.out_index, ""))
        if (
            hidden is not None
            and not resolved.reason
            and resolved.decided is not None
            and not resolved.decided.rule.text
        ):
            resolved = msgspec.structs.replace(resolved, reason=hidden.text)
        looks = looking_inside(rules, packet) if resolved.verdict is TraceVerdict.ACCEPT else ""
        if looks:
            said = f"the packet carries no payload, and this rule looks into one: {looks}"
            resolved = msgspec.structs.replace(resolved, reason="; ".join(filter(None, (resolved.reason, said))))
        resolved = self._named(resolved, rules)
        return made(resolved, packet, elapsed_ms, self._level)


def _level(facts: Facts, forced: Level | None) -> Level:
    """The level that the host allows, or the lower one that is wished for."""
    report = judge(facts, forced)
    if forced is not None and report.level is not forced:
        raise UsageError(f"--level {forced.value}: this host allows {report.level.value} at most ({report.why})")
    return report.level


def _require(facts: Facts, options: Options, level: Level, *, arrives: bool) -> None:
    """Raise UsageError where the level would load a module that may not be loaded."""
    context = Context(kernel=facts.kernel.value)
    missing = [name for name in features_needed(facts, level, arrives=arrives) if not context.present(name)]
    if missing and not options.load_modules:
        raise UsageError(f"a trace would load {' and '.join(missing)} into the kernel: --load-modules allows it")


def _described(wanted: Wanted) -> TracedPacket:
    """The packet that is waited for, as far as it was said."""
    return TracedPacket(
        path=wanted.path,
        namespace=wanted.namespace,
        in_device=wanted.in_device,
        out_device=wanted.out_device,
        source=wanted.source,
        destination=wanted.destination,
        protocol=wanted.protocol,
        source_port=wanted.source_port,
        destination_port=wanted.destination_port,
        icmp_type=wanted.icmp_type,
    )


def _seen(packet: TracedPacket, events: tuple[TraceEvent, ...], names: dict[int, str]) -> TracedPacket:
    """The packet that came, from its first headers."""
    first = next((event for event in events if event.endpoints is not None), None)
    if first is None or first.endpoints is None:
        return packet
    number = first.protocol
    return msgspec.structs.replace(
        packet,
        in_device=packet.in_device or names.get(first.in_index, ""),
        source=first.endpoints.source,
        destination=first.endpoints.destination,
        source_port=first.endpoints.source_port,
        destination_port=first.endpoints.destination_port,
        protocol=packet.protocol or ("arp" if number is None else name_of(number)),
    )


def _untraced(answer: Answer, packet: TracedPacket, level: Level) -> Trace:
    if answer.error is not None and answer.error.kind in _UNUSABLE:
        raise UsageError(answer.error.text)
    reason = answer.error.text if answer.error is not None else "no answer"
    return _unknown(reason, packet, level)


def _unknown(reason: str, packet: TracedPacket, level: Level) -> Trace:
    return made(Resolved(verdict=TraceVerdict.UNKNOWN, decided=None, path=(), reason=reason), packet, None, level)
