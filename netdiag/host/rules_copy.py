"""A copy of one namespace, with its rules, in a namespace that nobody uses, and packets that are traced there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options
from netdiag.facts.copied_host import HostCopy
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.trace_answer import made, read_answer
from netdiag.facts.trace_request import port_of, request_of
from netdiag.facts.trace_rules import gather_rules
from netdiag.facts.trace_surroundings import Suspects, gather_surroundings, gather_suspects
from netdiag.facts.trace_wanted import Wanted
from netdiag.firewall.copied_rules import Load
from netdiag.firewall.trace import Resolved
from netdiag.firewall.trace_rules import Rules
from netdiag.host.drive import Carrier, drive
from netdiag.model.facts import Facts, Namespace, Section
from netdiag.model.firewall import FirewallRule
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Trace, TracedPacket, TracePath, TraceVerdict
from netdiag.model.wire import Request
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import VerbError
from netdiag.participant.scratch_host import BUILDERS, ScratchHost

COPY = "copy"
"""The id of the namespace while packets are traced in it; answers name the one that it is a copy of."""
_BUILD_S = 15.0
_LOAD_S = 20.0
_TRACE_S = 3.0
_SAMPLE_S = 20.0
"""How long flows are traced in one copy; one that something else than a rule loses takes as long as is listened."""
_MOST_NO_OPS = 64
"""So many rules may be left out; with more the copy says little of the host."""


class CannotCopy(UsageError):
    """The copy cannot be made; the text says why."""


class RulesCopy:
    """The copy; `close` it, or let the process end."""

    def __init__(
        self, carrier: Carrier, plan: HostCopy, loads: Sequence[Load], facts: Facts, level: Level, options: Options
    ) -> None:
        """Build it, and load the rules.

        Args:
            carrier: This machine.
            plan: What it is built of.
            loads: Its rules.
            facts: Of the host: identity and kernel.
            level: How packets are traced.
            options: What the operator chose.

        Raises CannotCopy.
        """
        self._carrier = carrier
        self._level = level
        self.no_ops: tuple[FirewallRule, ...] = ()
        try:
            self._host = ScratchHost()
        except VerbError as error:
            raise CannotCopy(error.text) from error
        try:
            self.not_copied = (*plan.left_out, *self._build(plan))
            for load in loads:
                self.no_ops += self._loaded(load)
            self._read(facts, options)
        except VerbError as error:
            self.close()
            raise CannotCopy(error.text) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let it go."""
        self._host.close()

    def _build(self, plan: HostCopy) -> list[str]:
        deadline = Deadline(_BUILD_S)
        ip, ip_v6, bridge = BUILDERS
        # Legacy chains report to who listens by this logger. Nobody has to put back what is of the copy.
        self._host.set_all([(f"net/netfilter/nf_log/{number}", "nfnetlink_log") for number in (2, 10)], deadline)
        return [
            *self._host.build(ip, plan.links, deadline),
            *self._host.set_all(plan.sysctls, deadline),
            *self._host.build(ip, plan.addresses, deadline),
            *self._host.build(ip_v6, plan.policies_v6, deadline),
            *self._host.build(bridge, plan.stations, deadline),
        ]

    def _loaded(self, load: Load) -> tuple[FirewallRule, ...]:
        """Load it; the rules that the kernel or the tool does not take only count there."""
        left_out = set(load.never)
        bare: set[int] = set()
        deadline = Deadline(_LOAD_S)
        while said := self._host.load(load.argv, load.without(left_out, bare).text, deadline):
            refused = set(load.refused(said))
            again = refused & left_out - bare
            bad = refused - left_out or (set() if again else self._searched(load, left_out, bare, deadline))
            if not (bad or again) or len(left_out | bad) > _MOST_NO_OPS:
                words = " ".join(said.split())[:200]
                raise CannotCopy(f"the copy's rules do not load ({' '.join(load.argv)}): {words}")
            left_out |= bad
            bare |= again
        return load.rules_at(left_out)

    def _searched(self, load: Load, left_out: set[int], bare: set[int], deadline: Deadline) -> set[int]:
        """The first rule that does not load, where the tool does not name it; empty where it is none of the rules."""
        rules = [line for line in load.rule_lines() if line not in left_out]

        def loads(first: int) -> bool:
            text = load.without({*left_out, *rules[first:]}, {*bare, *rules[first:]}).text
            return not self._host.load(load.argv, text, deadline)

        if not rules or not loads(0):
            return set()
        good, bad = 0, len(rules)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if loads(middle) else (good, middle)
        return {rules[bad - 1]}

    def _read(self, facts: Facts, options: Options) -> None:
        here = Namespace(id=COPY, path=self._host.path, inode=0)
        known = Facts(
            collected_s=facts.collected_s,
            identity=facts.identity,
            kernel=facts.kernel,
            namespaces=Section(value={COPY: here}),
        )
        # What a forwarded packet needs is what any does: every namespace's links and addresses, and there is one.
        anything = Wanted(path=TracePath.FORWARD, namespace=COPY)
        context = Context(options=options, namespaces={COPY: here}, kernel=facts.kernel.value)
        self._facts = drive(gather_surroundings(anything, known, context), self._carrier)
        section = drive(gather_firewall(context), self._carrier)
        hidden = section.partial.get(COPY) or section.absent
        if hidden is not None:
            raise CannotCopy(f"the copy's rules cannot be read: {hidden.text}")
        rule_sets = (section.value or {}).get(COPY, ())
        self._rules: Rules = drive(gather_rules(rule_sets, here), self._carrier)
        self._legacy = Context(kernel=facts.kernel.value).present("nfnetlink_log") or options.load_modules

    def trace(self, packet: TracedPacket, *, wait_ms: int) -> Trace:
        """What becomes of a packet in the copy, in the words of the namespace that it is a copy of.

        Args:
            packet: As it would be met there.
            wait_ms: How long the kernel is listened to.
        """
        suspects = drive(gather_suspects(_there(packet), self._facts), self._carrier)
        return self._traced([packet], wait_ms, suspects)[0]

    def trace_all(self, packets: Sequence[TracedPacket], *, wait_ms: int) -> list[Trace]:
        """The same for the first of many, as far as it comes in time; what else could lose them is not looked for."""
        return self._traced(packets, wait_ms, Suspects())

    def _traced(self, packets: Sequence[TracedPacket], wait_ms: int, suspects: Suspects) -> list[Trace]:
        requests, said = dict[int, Request](), dict[int, str]()
        for at, packet in enumerate(packets):
            try:
                requests[at] = request_of(
                    _there(packet),
                    self._facts,
                    wait_ms=wait_ms,
                    rules=self._rules,
                    level=self._level,
                    legacy=self._legacy,
                )
            except UsageError as error:
                said[at] = str(error)
        # They are in this namespace already, which no other process could enter by a path of its own.
        params = [{**each.params, "netns": ""} for each in requests.values()]
        try:
            told = self._host.trace(params, wait_ms / 1000 + _TRACE_S, _SAMPLE_S)
        except VerbError as error:
            raise CannotCopy(error.text) from error
        answers = dict(zip(requests, told, strict=False))
        found = []
        for at, packet in enumerate(packets):
            answer = answers.get(at)
            if answer is None and at not in said:
                break
            if answer is None or isinstance(answer, VerbError):
                reason = said.get(at, "") if answer is None else answer.text
                found.append(_unknown(reason, packet, self._level))
            else:
                found.append(_in_words_of(packet, self._resolved(answer, _there(packet), suspects)))
        return found

    def _resolved(self, data: dict[str, Any], packet: TracedPacket, suspects: Suspects) -> Trace:
        links = (self._facts.links.value or {}).get(COPY, ())
        port = port_of(packet, self._facts)
        resolved, _ = read_answer(data, self._rules, packet, links, port=port, suspects=suspects)
        return made(resolved, packet, None, self._level)


def _there(packet: TracedPacket) -> TracedPacket:
    return msgspec.structs.replace(packet, namespace=COPY)


def _in_words_of(packet: TracedPacket, found: Trace) -> Trace:
    def named(rule: FirewallRule) -> FirewallRule:
        return msgspec.structs.replace(rule, namespace=packet.namespace)

    return msgspec.structs.replace(
        found,
        packet=packet,
        rule=named(found.rule) if found.rule is not None else None,
        policy=named(found.policy) if found.policy is not None else None,
        path=tuple(msgspec.structs.replace(step, rule=named(step.rule)) for step in found.path),
    )


def _unknown(reason: str, packet: TracedPacket, level: Level) -> Trace:
    nothing = Resolved(
        verdict=TraceVerdict.UNKNOWN, decided=None, path=(), confidence=Confidence.POSSIBLE, reason=reason
    )
    return made(nothing, packet, None, level)
