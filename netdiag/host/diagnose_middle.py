"""What lies between the two hosts of a flow: looked at once nothing on either host explains what became of it."""

from __future__ import annotations

import msgspec

from netdiag.facts.route_lookup import gather_lookup
from netdiag.host.diagnose_attempt import Watched, watch_attempt
from netdiag.host.diagnose_bursts import look_between
from netdiag.host.diagnose_checksums import wrong_checksums
from netdiag.host.diagnose_leaving import Leaving
from netdiag.host.diagnose_parties import Planned
from netdiag.host.drive import drive
from netdiag.model.found import Found
from netdiag.model.path import Direction, Loss, Side
from netdiag.model.report import Cause, Confidence
from netdiag.path.between import Between, astray_found, between_founds, chance_found
from netdiag.path.entries import source_remedy
from netdiag.path.filtered import flow_filtered_cause, hidden_by_program
from netdiag.path.sights import losses

_CHANGES = ("underlay.nat", "underlay.asymmetric")
"""Why a flow may be answered though it does not come to where it should."""


_STEADY = ("underlay.filtered", "underlay.nat")
"""What packets of another kind, which arrived, are the control of."""


class Blamed(msgspec.Struct, frozen=True, kw_only=True):
    """What took a flow between the hosts; ``chance``: nothing does, it was lost once and passes now."""

    causes: tuple[Cause, ...] = ()
    reason: str = ""
    chance: Found | None = None


class Middle:
    """The network between the hosts of one flow; it is looked at once, when it is first asked about."""

    def __init__(self, planned: Planned, watched: Watched, leaving: Leaving, *, now_s: float) -> None:
        self._planned, self._watched, self._leaving = planned, watched, leaving
        self._now_s = now_s
        self._seen: Between | None = None
        self._looked = False

    def of_loss(self, loss: Loss) -> Blamed:
        """Why a flow that left the one host's card did not come to the other's."""
        seen = self._look()
        if seen is None:
            return Blamed()
        # Where a kind of packet passes whole, what is sent there comes to the right machine.
        steady = seen.whole or (bool(seen.causes) and all(one.code in _STEADY for one in seen.causes))
        astray = [] if steady else self._leaving.astray(loss.direction)
        if astray:
            return Blamed(causes=tuple(astray))
        if seen.causes:
            return Blamed(causes=tuple(self._as_sure(one) for one in seen.causes), reason=seen.reason)
        if seen.reason and seen.evidence:
            return Blamed(causes=tuple(self._leaving.unanswered(loss.direction)), reason=seen.reason)
        if seen.evidence and not seen.whole:
            return Blamed(reason="some packets between the hosts are lost, too few to say more than chance")
        return self._tried_again(loss, seen)

    def _tried_again(self, loss: Loss, seen: Between) -> Blamed:
        """Packets like it arrive, or none could be sent: either this flow is taken, or it was lost by chance."""
        again = watch_attempt(self._planned)
        if again.attempt.answered:
            # Lost now and not then: two machines that have one address look like that as well.
            astray = self._leaving.astray(loss.direction)
            if astray:
                return Blamed(causes=tuple(astray))
            text = f"lost between the hosts once; tried again, it is answered ({again.attempt.text})"
            return Blamed(chance=chance_found(self._planned.way, seen, text))
        if loss not in losses(again.sights):
            return Blamed(reason="tried again, it is lost elsewhere: diagnose it once more")
        arrived = self._watched.control_arrived or again.control_arrived
        one = flow_filtered_cause(self._planned.way, loss, seen.evidence, others=seen.whole, control_arrived=arrived)
        return Blamed(causes=(one,) if one is not None else (), reason=seen.reason)

    def _as_sure(self, one: Cause) -> Cause:
        """A cause of a flow that fails, no surer than what was seen of it."""
        if one.code == "underlay.asymmetric":
            # That the ways differ was seen; that this is what stops the flow was not.
            return msgspec.structs.replace(one, confidence=Confidence.LIKELY)
        if one.code == "underlay.filtered":
            return hidden_by_program(one, {party.name: party.facts for party in self._planned.parties.values()})
        return one

    def of_second_try(self) -> list[Found]:
        """The findings about a flow that was answered, and not at once."""
        seen = self._look()
        if seen is None:
            return []
        astray = self._leaving.astray(Direction.THERE)
        if astray:
            return [astray_found(self._planned.way, one) for one in astray]
        if seen.causes or not seen.whole:
            return list(between_founds(self._planned.way, seen, needed=True))
        return [chance_found(self._planned.way, seen, "it was answered at a later try only")]

    def of_another(self) -> list[Found]:
        """The findings about a flow that was answered though it was not seen to arrive: perhaps with other addresses."""
        astray = self._leaving.astray(Direction.THERE)
        if astray:
            return [astray_found(self._planned.way, one) for one in astray]
        seen = self._look()
        causes = tuple(one for one in seen.causes if one.code in _CHANGES) if seen is not None else ()
        if seen is None or not causes:
            return []
        return list(between_founds(self._planned.way, msgspec.structs.replace(seen, causes=causes), needed=False))

    def of_silence(self, loss: Loss) -> list[Cause]:
        """Why a flow that came to its end gets no answer: a checksum that is wrong, or a way back that is another one."""
        wrong = wrong_checksums(self._planned, loss, now_s=self._now_s)
        if wrong or not self._leaving.leads_elsewhere():
            return wrong
        seen = self._look()
        found = [one for one in seen.causes if one.code == "underlay.asymmetric"] if seen is not None else []
        return [self._as_sure(one) for one in found]

    def with_source(self, causes: list[Cause], sender: Side) -> list[Cause]:
        """Causes of the kind overlay.vtep-source with what heals them: a route of its own to the peer, with the source."""
        return [self._sourced(one, sender) if one.code == "overlay.vtep-source" else one for one in causes]

    def _sourced(self, one: Cause, sender: Side) -> Cause:
        way, party = self._planned.way, self._planned.parties[sender]
        peer = way.end(Side.DESTINATION if sender is Side.SOURCE else Side.SOURCE).host_address
        route = drive(gather_lookup(peer), party.carrier).route
        return msgspec.structs.replace(one, remedy=source_remedy(one, peer, route, host=party.name))

    def _look(self) -> Between | None:
        if not self._looked:
            self._looked = True
            self._seen = look_between(self._planned)
        return self._seen
