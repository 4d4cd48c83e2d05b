"""The traces of a diagnosis: each question is put to the kernel of the host whose filter it is about."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Sequence

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Context
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.trace_wanted import Wanted
from netdiag.firewall.allow import plan
from netdiag.firewall.around import Around
from netdiag.firewall.by_connection import judges_connections
from netdiag.firewall.by_user import user_rules
from netdiag.host.allow import surroundings
from netdiag.host.diagnose_parties import Party, netns_of, sender_of
from netdiag.host.drive import drive
from netdiag.host.trace import trace, watch
from netdiag.model.facts import Namespace, RuleSet
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.path import End, Side, Way
from netdiag.model.report import Confidence
from netdiag.model.trace import Trace, TracePath, TraceVerdict
from netdiag.path.questions import Question
from netdiag.path.verdict import Traced

AT_ONCE = 4
_WAIT_S = 1.6
"""How long a real answer is waited for; the attempt is made again meanwhile."""
_AGAIN_S = 0.3
_STOPPED = (TraceVerdict.DROP, TraceVerdict.REJECT)


class Tracer:
    """Asks the hosts that take part."""

    def __init__(
        self, parties: dict[Side, Party], source: End, *, again: Callable[[float], None], now_s: float
    ) -> None:
        """``again`` makes the attempt once more and waits so many seconds at most; ``source`` is where it begins."""
        self._parties, self._source, self._again = parties, source, again
        self._now_s = now_s

    def ask(self, asked: Sequence[Question]) -> list[Traced]:
        """Put all questions at once; one answer each, in their order."""
        asked = [question for question in asked if question.side in self._parties]
        if not asked:
            return []
        with concurrent.futures.ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            jobs = [pool.submit(self._one, question) for question in asked]
            if any(question.answer or question.later for question in asked):
                end_s = time.monotonic() + _WAIT_S
                while time.monotonic() < end_s and not all(job.done() for job in jobs):
                    self._again(_AGAIN_S)
            return [job.result() for job in jobs]

    def rule_sets(self, traced: Traced) -> tuple[RuleSet, ...]:
        """The rules of the namespace in which a question was answered; empty where they cannot be read."""
        if traced.rule_sets or traced.trace is None:
            return traced.rule_sets
        try:
            return self._around(traced.trace, self._parties[traced.question.side]).rule_sets
        except UsageError:
            return ()

    def of_users(self, way: Way) -> tuple[FirewallRule, ...]:
        """The rules where a flow begins that decide by the sender's user and may be for it; empty where none is read."""
        party, place = self._parties.get(Side.SOURCE), way.source.namespace
        if party is None:
            return ()
        here = Namespace(id=place, path=netns_of(party.facts, place), inode=0)
        context = Context(options=party.options, namespaces={place: here}, kernel=party.facts.kernel.value)
        section = drive(gather_firewall(context), party.carrier)
        packet = Packet(
            direction=Direction.OUT,
            protocol=way.protocol,
            family=6 if ":" in way.target else 4,
            source=way.source.address,
            destination=way.target,
            destination_port=way.port,
            device=way.source.device,
        )
        return user_rules((section.value or {}).get(place, ()), packet, place)

    def _around(self, answer: Trace, party: Party) -> Around:
        around = surroundings(
            party.carrier, answer, now_s=self._now_s, options=party.options, rule_id=f"{int(self._now_s):x}"
        )
        return msgspec.structs.replace(around, host=party.name)

    def _one(self, question: Question) -> Traced:
        party = self._parties[question.side]
        try:
            answer, made_up = self._traced(question, party)
        except UsageError as error:
            return Traced(question=question, trace=None, reason=f"{question.about} on {party.name}: {error}")
        if answer.verdict is TraceVerdict.UNKNOWN:
            return Traced(question=question, trace=answer, reason=f"{question.about}: {answer.reason}")
        if answer.verdict is TraceVerdict.ACCEPT:
            return Traced(question=question, trace=answer)
        around = msgspec.structs.replace(self._around(answer, party), half=question.half)
        if made_up and judges_connections(answer, around.rule_sets):
            decided = answer.rule or answer.policy
            where = decided.place() if decided is not None else "a filter"
            reason = f"{question.about}: one that is made up ends in {where}; a real one, which goes by its connection, was not seen"
            return Traced(question=question, trace=None, reason=reason)
        proposal = plan(answer, around, answers_to=question.opened if question.answer else None)
        return Traced(
            question=question,
            trace=answer,
            fix=proposal.fix,
            reason=proposal.reason,
            rule_sets=around.rule_sets,
            saved=around.saved,
        )

    def _traced(self, question: Question, party: Party) -> tuple[Trace, bool]:
        """What became of the packet, and whether it is one that only looks like an answer."""
        if not (question.answer or question.later):
            wanted = question.wanted
            if (wanted.path, question.side, wanted.namespace) == (TracePath.OUT, Side.SOURCE, self._source.namespace):
                wanted = msgspec.structs.replace(wanted, sender=sender_of(party, self._source))
            return trace(party.carrier, wanted, now_s=self._now_s, options=party.options), False
        reason = ""
        try:
            waited = question.wanted if question.later else _waited(question.wanted)
            answer = watch(party.carrier, waited, now_s=self._now_s, options=party.options, wait_s=_WAIT_S)
            if answer.verdict is not TraceVerdict.UNKNOWN or not question.made_up:
                return answer, False
        except UsageError as error:
            reason = str(error)
            if not question.made_up:
                raise
        answer = trace(party.carrier, question.wanted, now_s=self._now_s, options=party.options)
        if answer.verdict in _STOPPED and answer.confidence is Confidence.PROVEN:
            # A filter that looks at connections may know the real answer where it does not know one that is made up.
            text = "; ".join(part for part in (reason, "of a packet that looks like an answer") if part)
            answer = msgspec.structs.replace(answer, confidence=Confidence.LIKELY, reason=text)
        return answer, True


def _waited(wanted: Wanted) -> Wanted:
    """What is known of a real answer: not the port that the source chooses, nor its flags."""
    return msgspec.structs.replace(wanted, destination_port=None, tcp_flags="", out_device="", length=None)
