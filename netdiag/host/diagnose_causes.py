"""Why a flow is lost where it is: filters are traced, entries and listeners read, and what is left is said."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.host.diagnose_alone import own_addresses, survey_silence
from netdiag.host.diagnose_attempt import Watched, try_again
from netdiag.host.diagnose_follow import follow
from netdiag.host.diagnose_kernel import kernel_causes
from netdiag.host.diagnose_leaving import Leaving
from netdiag.host.diagnose_middle import Middle
from netdiag.host.diagnose_parties import Planned
from netdiag.host.diagnose_traces import Tracer
from netdiag.model.found import Found
from netdiag.model.path import Direction, Loss, PathKind, Side, Sight, Stage, Way
from netdiag.model.report import Cause, Confidence
from netdiag.model.trace import TraceVerdict
from netdiag.path.alone import alone_found, of_refusal, of_silence, refusal_text
from netdiag.path.another import another_found, untranslated_cause
from netdiag.path.bursts import between_nics
from netdiag.path.docker_chains import missing_cause, missing_for
from netdiag.path.duplicates import another_endpoint_found, answering_cause, duplicate_cause, twice_found
from netdiag.path.entries import entry_causes, received_causes
from netdiag.path.filtered import later_filtered_cause
from netdiag.path.half_entries import as_it_came, came_from_elsewhere, own_entry_causes, went_elsewhere
from netdiag.path.ingress import SANDBOX
from netdiag.path.isolation import joined_instead
from netdiag.path.listening import listener_cause, listeners
from netdiag.path.questions import (
    Question,
    encrypted_questions,
    into_the_host,
    questions,
    refusal_questions,
    standing,
    tunnel_back,
)
from netdiag.path.user import user_founds
from netdiag.path.verdict import (
    Attempt,
    Traced,
    ahead_found,
    entry_ahead_found,
    loss_found,
    loss_text,
    passing_found,
    rule_cause,
    silent_found,
    unnoticed_found,
    unseen_reason,
)
from netdiag.path.vni import vni_cause
from netdiag.path.ways import Host

NOTHING_HERE = "no filter of its own takes such a packet"
"""What a host says that is asked for itself alone, and has nothing to say."""
_NOTHING = "no filter on either host takes such a packet, and the entries that lead on are as they should be"


class Reasons:
    """Finds what took a flow, on whichever host that is."""

    def __init__(
        self, planned: Planned, watched: Watched, *, now_s: float, half: bool = False, heard: bool = True
    ) -> None:
        """``half``: the other host answers for itself, by an answer of its own that is carried here.

        ``heard``: this host's engine knows of the other end's container then.
        """
        self._planned, self._half, self._heard = planned, half, heard
        self._way, self._parties, self._networks = planned.way, planned.parties, planned.networks
        self._watched = watched
        self._leaving = Leaving(planned, now_s=now_s)
        self._between = Middle(planned, watched, self._leaving, now_s=now_s)
        self._tracer = Tracer(
            planned.parties,
            planned.way.source,
            again=lambda wait_s: try_again(planned, wait_s=wait_s),
            now_s=now_s,
        )

    def of_loss(self, loss: Loss) -> list[Found]:
        """The findings of one loss, and of what stands behind it on the way."""
        way, sights = self._way, self._watched.sights
        if self._leaves_for_good(loss):
            said = of_silence(way, survey_silence(self._planned), own=own_addresses(self._planned))
            return [alone_found(way, sights, loss_text(loss), said, self._unseen())]
        asked, ahead, unblamed = questions(way, loss, sights), standing(way, loss, sights), ""
        unseen_back = self._half and loss.direction is Direction.BACK and loss.last is None
        if unseen_back:
            # Whether anything comes back so far, the other host's filters decide: this one's may take it as well.
            ahead = tunnel_back(way, sights)
        if any(network is not None and network.encrypted for network in self._networks.values()):
            ahead = (*ahead, *encrypted_questions(way, loss))
        if self._half:
            # Nobody makes the attempt again, so that no answer can be waited for.
            asked = tuple(msgspec.structs.replace(each, made_up=True) for each in asked)
        traced = self._traces([*asked, *ahead])
        here = [each for each in traced if each.question in asked]
        causes = self._of_filters(here)
        further = [each for each in traced if each.question not in asked]
        if not causes:
            causes = self._untranslated(here) or self._entries(loss)
        if not causes and not self._half:
            causes = kernel_causes(self._planned, loss)
        if not causes and loss.direction is Direction.BACK and loss.last is None:
            causes = self._listener(refused=False)
        # What more there is to ask takes both hosts.
        if not causes and not self._half and between_nics(loss.last, loss.next):
            seen = self._between.of_loss(loss)
            if seen.chance is not None:
                return [seen.chance]
            causes, unblamed = list(seen.causes), seen.reason
        elif not causes and not self._half:
            causes = self._leaving.of_loss(loss, sights) or self._between.of_silence(loss)
        reason = self._unseen() or unblamed or "; ".join(dict.fromkeys(each.reason for each in here if each.reason))
        reason = reason or self._nothing(loss)
        found = list(loss_found(way, loss, sights, causes, reason))
        asks_on = bool(causes) or not self._half or unseen_back
        behind = [(each, one) for each in further if asks_on for one in self._of_filters([each])]
        if not causes:
            # It may have come so far under an address that nobody looked for: what stands there is a guess, and a good one.
            behind = [(each, _at_most_likely(one)) for each, one in behind]
        return [*found, *(ahead_found(way, each, one) for each, one in behind)]

    def of_later(self, loss: Loss) -> list[Found]:
        """Why a connection opens and what follows in it is lost: packets of it are waited for, none is made up."""
        traced = self._traces(questions(self._way, loss, self._watched.sights))
        causes, reason = (
            self._of_filters(traced),
            "; ".join(dict.fromkeys(each.reason for each in traced if each.reason)),
        )
        if not causes and between_nics(loss.last, loss.next):
            causes = [later_filtered_cause(self._way, loss)]
        reason = reason or "no filter on either host was seen to take such a packet"
        return list(loss_found(self._way, loss, self._watched.sights, causes, reason))

    def of_what_stands(self) -> list[Found]:
        """What every filter on the way would do, for a flow that was not tried."""
        way = self._way
        start = Loss(direction=Direction.THERE, last=None, next=way.places[0] if way.places else None)
        traced = self._traces([*questions(way, start, ()), *standing(way, start, ())])
        stopped = [ahead_found(way, each, one) for each in traced for one in self._of_filters([each])]
        if self._half and way.kind is PathKind.OVERLAY:
            into = [place for place in way.places if place.stage is Stage.NIC]
            wrong = self._own_entries(Loss(direction=Direction.THERE, last=into[0], next=None)) if into else []
            stopped += [entry_ahead_found(way, one) for one in wrong]
        return stopped or [passing_found(way, traced)]

    def _traces(self, asked: Sequence[Question]) -> list[Traced]:
        return self._tracer.ask(asked)

    def _of_filters(self, traced: Sequence[Traced]) -> list[Cause]:
        """The rules and policies that were named; what the engine should have written goes before the policy it leaves."""
        way, causes = self._way, []
        for each in traced:
            party = self._parties[each.question.side]
            one = rule_cause(way, each, party.name, self._watched.sights)
            if one is None:
                continue
            policy = one.code == "firewall.forward-policy"
            bridged = way.kind is PathKind.PUBLISHED and each.question.side is Side.DESTINATION
            missing = missing_for(way, each.rule_sets, "its bridge") if policy and bridged else None
            if missing is not None:
                sure = Confidence.LIKELY if missing.all_gone else one.confidence
                one = missing_cause(way, party.name, missing, confidence=sure)
            causes.append(joined_instead(one, way, party.facts, party.name))
        return causes

    def _listener(self, *, refused: bool) -> list[Cause]:
        party = self._parties.get(Side.DESTINATION)
        # The routing mesh passes on, and listens nowhere itself.
        if party is None or self._way.destination.namespace == SANDBOX:
            return []
        one = listener_cause(party.facts, self._way, refused=refused)
        return [one] if one is not None else []

    def _nothing(self, loss: Loss) -> str:
        """What is said where nothing was found that takes the flow."""
        if not self._half:
            return _NOTHING
        return came_from_elsewhere(self._way, next(iter(self._parties)), loss, self._watched.sights) or NOTHING_HERE

    def _unseen(self) -> str:
        """Why nothing is known of the destination; empty where it takes part, or answers for itself."""
        return "" if self._half or Side.DESTINATION in self._parties else unseen_reason(self._way)

    def _leaves_for_good(self, loss: Loss) -> bool:
        """Whether it was lost behind this host's last device, and nobody else takes part."""
        return (
            not self._half
            and Side.DESTINATION not in self._parties
            and loss.direction is Direction.BACK
            and loss.last is None
        )

    def _entries(self, loss: Loss) -> list[Cause]:
        way, sights, parties, networks = self._way, self._watched.sights, self._parties, self._networks
        if way.kind is not PathKind.OVERLAY:
            return []
        if self._half:
            return self._own_entries(loss)
        sender = Side.SOURCE if loss.direction is Direction.THERE else Side.DESTINATION
        other = Side.DESTINATION if sender is Side.SOURCE else Side.SOURCE
        network = networks[sender]
        twice = self._duplicates()
        if twice:
            return twice
        answering = self._answering()
        if answering is not None:
            return [answering]
        at = loss.last
        early = at is None or (at.side is sender and at.stage in (Stage.END, Stage.PORT, Stage.TUNNEL))
        astray = at is not None and at.side is sender and at.stage is Stage.NIC and _is_astray(way, sender, sights)
        hosts = {side: Host(name=party.name, facts=party.facts, nic=way.nic(side)) for side, party in parties.items()}
        theirs = networks[other]
        lost_at = other if at is not None and at.side is other else sender
        conflict = vni_cause(way, hosts[lost_at], way.end(lost_at), networks[lost_at])
        if conflict is not None:
            return [conflict]
        if at is not None and at.side is other and at.stage is Stage.NIC and theirs is not None:
            # A VXLAN device takes nothing from a host that its own entry puts elsewhere, and counts it nowhere.
            found = list(received_causes(way, loss, hosts[other], hosts[sender], theirs, sights))
            return self._between.with_source(found, sender)
        if network is None or not (early or astray):
            return []
        proven = Confidence.PROVEN
        return list(entry_causes(way, hosts[sender], sender, other=hosts[other], network=network, confidence=proven))

    def _own_entries(self, loss: Loss) -> list[Cause]:
        """What this host alone can say of the overlay's tables: they lead elsewhere than its engine says, or nowhere."""
        way = self._way
        ((side, party),) = self._parties.items()
        network = self._networks[side]
        if network is None:
            return []
        host = Host(name=party.name, facts=party.facts, nic=way.nic(side))
        conflict = vni_cause(way, host, way.end(side), network)
        if conflict is not None:
            return [conflict]
        sends = Side.SOURCE if loss.direction is Direction.THERE else Side.DESTINATION
        at = loss.last
        early = sends is side and (at is None or at.stage in (Stage.END, Stage.PORT, Stage.TUNNEL))
        into = sends is not side and at is not None and at.stage is Stage.NIC
        if not (early or into or went_elsewhere(way, side, self._watched.sights)):
            return []
        found = list(own_entry_causes(way, host, side, network, heard=self._heard))
        # A VXLAN device takes nothing from a host that its own entry puts elsewhere; one that is missing is learnt.
        if not into:
            return found
        return [as_it_came(way, side, self._watched.sights, one) for one in found if one.code == "overlay.fdb-stale"]

    def of_answers_that_left(self) -> list[Found]:
        """The exchange was seen whole on this side, answers too: whether those left for another host."""
        side = next(iter(self._parties))
        if self._way.kind is not PathKind.OVERLAY or not went_elsewhere(self._way, side, self._watched.sights):
            return []
        cards = [place for place in self._way.places if place.stage is Stage.NIC]
        loss = Loss(direction=Direction.BACK, last=cards[0], next=None)
        return list(loss_found(self._way, loss, self._watched.sights, self._own_entries(loss), ""))

    def _duplicates(self) -> list[Cause]:
        """An address of one of the ends that another container of the network has as well."""
        hosts = [Host(name=party.name, facts=party.facts) for party in self._parties.values()]
        found = [
            duplicate_cause(self._way.end(side), network, hosts)
            for side, network in self._networks.items()
            if network is not None
        ]
        return [one for one in found if one is not None]

    def unnoticed(self) -> list[Found]:
        """What is wrong although the connection opens: a server that keeps it waiting, and entries of the overlay.

        What was learnt stands in for an entry that is missing or wrong, for a while.
        """
        way, parties, networks = self._way, self._parties, self._networks
        found = follow(self._planned)
        if way.kind is not PathKind.OVERLAY:
            return found
        hosts = {side: Host(name=party.name, facts=party.facts) for side, party in parties.items()}
        twice = self._duplicates()
        if twice:
            # The tables hold one of them, and are not wrong for the other.
            return [*found, *(twice_found(way, one) for one in twice)]
        for side, other in ((Side.SOURCE, Side.DESTINATION), (Side.DESTINATION, Side.SOURCE)):
            network = networks[side]
            if network is not None:
                proven = Confidence.PROVEN
                causes = entry_causes(way, hosts[side], side, other=hosts[other], network=network, confidence=proven)
                found += [unnoticed_found(way, one) for one in causes]
        return found

    def of_users(self) -> list[Found]:
        """Filters where the flow begins that ask whose it is, where it was root's and nobody has chosen that.

        A container's first process that is not root has met them by itself; root is often only who starts the others.
        """
        chosen = any(party.options.user is not None for party in self._parties.values())
        if self._watched.attempt.user != 0 or chosen:
            return []
        return list(user_founds(self._way, self._tracer.of_users(self._way)))

    def of_second_try(self) -> list[Found]:
        """It was answered, and not at once: whether the network between loses packets."""
        return self._between.of_second_try()

    def of_silence(self, loss: Loss, who: str) -> list[Found]:
        """A datagram came to its end, where somebody listens, and nothing came back."""
        traced = self._traces(refusal_questions(self._way, self._watched.sights))
        causes = self._of_filters(traced)
        if causes:
            return list(loss_found(self._way, loss, self._watched.sights, causes, ""))
        return [silent_found(self._way, self._watched.sights, who)]

    def of_another(self, *, in_place: bool) -> list[Found]:
        """Somebody answered, and what was sent was not seen at the destination; nothing where no reason is found.

        ``in_place``: it was seen right before, so that whoever answered stands between, known or not.
        """
        twice = self._answering()
        if twice is not None:
            return [another_endpoint_found(self._way, twice, self._watched.sights)]
        causes = self._untranslated(self._traces(into_the_host(self._way)))
        changed = [] if causes else self._between.of_another()
        if changed or not (causes or in_place):
            return changed
        return list(another_found(self._way, self._watched.sights, causes))

    def _answering(self) -> Cause | None:
        """That another container of an overlay has the address, and answered or refused."""
        hosts = {side: Host(name=party.name, facts=party.facts) for side, party in self._parties.items()}
        if len(hosts) < len(Side):
            return None
        return answering_cause(self._way, self._watched.sights, hosts[Side.SOURCE], hosts[Side.DESTINATION])

    def _untranslated(self, traced: Sequence[Traced]) -> list[Cause]:
        """Why a call to a published port is not led on into the container."""
        party = self._parties.get(Side.DESTINATION)
        if not self._way.called or party is None:
            return []
        found = []
        for each in traced:
            if each.question.side is Side.DESTINATION and each.trace is not None and not each.trace.nat:
                rules = self._tracer.rule_sets(each)
                found.append(untranslated_cause(self._way, party.facts, rules, host=party.name))
        return [one for one in found if one is not None]

    def of_refusal(self) -> list[Found]:
        """The exchange was seen whole, and it was a refusal."""
        way, sights = self._way, self._watched.sights
        # What drops does not refuse: it may count attempts, and take the packet that is sent to ask.
        traced = self._traces(refusal_questions(way, sights))
        rejected = [each for each in traced if each.trace is None or each.trace.verdict is not TraceVerdict.DROP]
        causes = self._of_filters(rejected)
        seen = bool(sights) and _refused_at(sights[-1], self._watched.attempt, way)
        if not causes:
            causes = self._listener(refused=self._watched.attempt.refused and seen)
        if not causes and not self._half and Side.DESTINATION not in self._parties:
            attempt = self._watched.attempt
            left = any(sight.watched and sight.there for sight in sights)
            said = of_refusal(way, attempt, own=own_addresses(self._planned), left=left)
            return [alone_found(way, sights, refusal_text(way, attempt), said, self._unseen())]
        there = way.places[-1] if way.places else None
        loss = Loss(direction=Direction.BACK, last=None, next=there)
        party = self._parties.get(Side.DESTINATION)
        reason = self._unseen() or "somebody listens there, and no rule of its own refuses"
        if party is not None and listeners(party.facts, way) is None:
            reason = f"the sockets of {way.destination.label()} could not be read"
        what = "" if seen else refusal_text(way, self._watched.attempt)
        return list(loss_found(way, loss, sights, causes, reason, what=what))


def _refused_at(last: Sight, attempt: Attempt, way: Way) -> bool:
    """Whether the end was seen to refuse what came to it: by a reset, or by the ICMP error of its own."""
    told = attempt.icmp is not None and attempt.icmp.sender == way.target
    return last.watched and (last.refused > 0 or (told and last.there > 0))


def _at_most_likely(one: Cause) -> Cause:
    """The cause, for a packet that was not seen to come to it."""
    return msgspec.structs.replace(one, confidence=Confidence.LIKELY) if one.confidence is Confidence.PROVEN else one


def _is_astray(way: Way, sender: Side, sights: tuple[Sight, ...]) -> bool:
    """Whether what left for the tunnel went to another host than the one behind which the other end is."""
    target = way.destination.host_address if sender is Side.SOURCE else way.source.host_address
    for sight in sights:
        if sight.place.side is sender and sight.place.stage is Stage.NIC and sight.outer_targets:
            return target not in sight.outer_targets
    return False
