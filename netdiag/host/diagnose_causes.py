"""Why a flow is lost where it is: filters are traced, entries and listeners read, and what is left is said."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Options
from netdiag.firewall.allow import plan
from netdiag.host.allow import surroundings
from netdiag.host.diagnose_attempt import Watched
from netdiag.host.diagnose_parties import Party, Planned
from netdiag.host.trace import trace
from netdiag.model.found import Found
from netdiag.model.path import Direction, Loss, PathKind, Side, Sight, Stage, Way
from netdiag.model.report import Cause, Confidence
from netdiag.model.trace import Trace, TraceVerdict
from netdiag.path.entries import entry_causes, received_causes
from netdiag.path.listening import listener_cause, listeners
from netdiag.path.questions import Question, questions, refusal_questions
from netdiag.path.verdict import Traced, filtered_cause, loss_found, rule_cause, unnoticed_found
from netdiag.path.ways import Host


class Reasons:
    """Finds what took a flow, on whichever host that is."""

    def __init__(self, planned: Planned, watched: Watched, *, now_s: float, options: Options) -> None:
        self._way, self._parties, self._networks = planned.way, planned.parties, planned.networks
        self._watched = watched
        self._now_s, self._options = now_s, options

    def of_loss(self, loss: Loss) -> list[Found]:
        """The findings of one loss."""
        way, sights, parties = self._way, self._watched.sights, self._parties
        traced = self._traces(questions(way, loss, sights))
        causes = [one for each in traced if (one := rule_cause(way, each, parties[each.question.side].name))]
        if not causes:
            causes = self._entries(loss)
        if not causes and loss.direction is Direction.BACK and loss.last is None:
            one = listener_cause(parties[Side.DESTINATION].facts, way, refused=False)
            causes = [one] if one is not None else []
        if not causes:
            one = filtered_cause(way, loss, control_arrived=self._watched.control_arrived)
            causes = [one] if one is not None else []
        reason = "; ".join(dict.fromkeys(each.reason for each in traced if each.reason)) or (
            "no filter on either host takes such a packet, and the entries that lead on are as they should be"
        )
        return list(loss_found(way, loss, sights, causes, reason))

    def _traces(self, asked: Sequence[Question]) -> list[Traced]:
        return [self._trace(question, self._parties[question.side]) for question in asked]

    def _trace(self, question: Question, party: Party) -> Traced:
        try:
            answer: Trace = trace(party.carrier, question.wanted, now_s=self._now_s, options=self._options)
        except UsageError as error:
            return Traced(question=question, trace=None, reason=f"{question.about} on {party.name}: {error}")
        if answer.verdict is TraceVerdict.UNKNOWN:
            return Traced(question=question, trace=answer, reason=f"{question.about}: {answer.reason}")
        if answer.verdict is TraceVerdict.ACCEPT:
            return Traced(question=question, trace=answer)
        around = surroundings(
            party.carrier, answer, now_s=self._now_s, options=self._options, rule_id=f"{int(self._now_s):x}"
        )
        proposal = plan(answer, msgspec.structs.replace(around, host=party.name))
        return Traced(question=question, trace=answer, fix=proposal.fix, reason=proposal.reason)

    def _entries(self, loss: Loss) -> list[Cause]:
        way, sights, parties, networks = self._way, self._watched.sights, self._parties, self._networks
        if way.kind is not PathKind.OVERLAY:
            return []
        sender = Side.SOURCE if loss.direction is Direction.THERE else Side.DESTINATION
        other = Side.DESTINATION if sender is Side.SOURCE else Side.SOURCE
        network = networks[sender]
        at = loss.last
        early = at is None or (at.side is sender and at.stage in (Stage.END, Stage.PORT, Stage.TUNNEL))
        astray = at is not None and at.side is sender and at.stage is Stage.NIC and _is_astray(way, sender, sights)
        hosts = {side: Host(name=party.name, facts=party.facts) for side, party in parties.items()}
        theirs = networks[other]
        if at is not None and at.side is other and at.stage is Stage.NIC and theirs is not None:
            # A VXLAN device takes nothing from a host that its own entry puts elsewhere, and counts it nowhere.
            return list(received_causes(way, loss, hosts[other], hosts[sender], theirs, sights))
        if network is None or not (early or astray):
            return []
        proven = Confidence.PROVEN
        return list(entry_causes(way, hosts[sender], sender, other=hosts[other], network=network, confidence=proven))

    def unnoticed(self) -> list[Found]:
        """Entries that are missing or wrong although the flow works: what was learnt stands in for them for a while."""
        way, parties, networks = self._way, self._parties, self._networks
        found: list[Found] = []
        if way.kind is not PathKind.OVERLAY:
            return found
        hosts = {side: Host(name=party.name, facts=party.facts) for side, party in parties.items()}
        for side, other in ((Side.SOURCE, Side.DESTINATION), (Side.DESTINATION, Side.SOURCE)):
            network = networks[side]
            if network is not None:
                proven = Confidence.PROVEN
                causes = entry_causes(way, hosts[side], side, other=hosts[other], network=network, confidence=proven)
                found += [unnoticed_found(way, one) for one in causes]
        return found

    def of_refusal(self) -> list[Found]:
        """The exchange was seen whole, and it was a refusal."""
        way, sights, parties = self._way, self._watched.sights, self._parties
        party = parties[Side.DESTINATION]
        traced = self._traces(refusal_questions(way))
        causes = [one for each in traced if (one := rule_cause(way, each, party.name))]
        if not causes:
            one = listener_cause(party.facts, way, refused=self._watched.attempt.refused)
            causes = [one] if one is not None else []
        there = way.places[-1] if way.places else None
        loss = Loss(direction=Direction.BACK, last=None, next=there)
        reason = "somebody listens there, and no rule of its own refuses"
        if listeners(party.facts, way) is None:
            reason = f"the sockets of {way.destination.label()} could not be read"
        return list(loss_found(way, loss, sights, causes, reason))


def _is_astray(way: Way, sender: Side, sights: tuple[Sight, ...]) -> bool:
    """Whether what left for the tunnel went to another host than the one behind which the other end is."""
    target = way.destination.host_address if sender is Side.SOURCE else way.source.host_address
    for sight in sights:
        if sight.place.side is sender and sight.place.stage is Stage.NIC and sight.outer_targets:
            return target not in sight.outer_targets
    return False
