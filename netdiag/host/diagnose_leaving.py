"""The way out of a host toward the other one: asked of its kernel and its network when nothing else explains a loss."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.checks.context import Context as CheckContext
from netdiag.checks.context import Options as CheckOptions
from netdiag.checks.local_path import device_asleep, refusing_route
from netdiag.facts.route_lookup import gather_lookup, gather_neighbour_unanswered
from netdiag.host.collect import collect
from netdiag.host.diagnose_parties import Party, Planned, has_address
from netdiag.host.drive import drive
from netdiag.model.facts import HOST
from netdiag.model.path import Direction, Loss, PathKind, Side, Sight, Stage, Way
from netdiag.model.report import Cause
from netdiag.model.wire import Request
from netdiag.path.leaving import (
    NextHop,
    duplicate_cause,
    entry_of,
    leaving_cause,
    link_of,
    macs_of,
    pinned_cause,
    receiver_down_cause,
    unanswered_cause,
)

_LOCAL = (PathKind.TO_OWN_HOST, PathKind.BRIDGE, PathKind.OVERLAY_LOCAL)
_ARP_S = 1.5
_OUTSIDE = "192.0.2.1"
"""An address of nobody (RFC 5737): which way is out."""


class Leaving:
    """The ways out of the hosts of one flow."""

    def __init__(self, planned: Planned, *, now_s: float) -> None:
        self._way, self._parties = planned.way, planned.parties
        self._now_s = now_s
        self._hops: dict[Side, NextHop | None] = {}

    def of_loss(self, loss: Loss, sights: Sequence[Sight]) -> list[Cause]:
        """Why a flow did not come to the network card of a host that should have sent it, or came there for another."""
        sender = Side.SOURCE if loss.direction is Direction.THERE else Side.DESTINATION
        for direction in Direction:
            if self._is_for_another(direction, sights):
                return self.astray(direction)
        sides = [Side.SOURCE] if not self._way.nic(Side.SOURCE) else []
        last = loss.last
        if last is None or (last.side is sender and last.stage is not Stage.NIC):
            sides.append(sender)
        for side in dict.fromkeys(sides):
            hop, other = self._hop_of(side), self._parties.get(_other(side))
            found = leaving_cause(hop) if hop is not None else None
            if found is not None and found.code == "underlay.neighbour" and other is not None:
                down = receiver_down_cause(other.name, other.facts, self._way.nic(_other(side)))
                found = down or found
            if found is not None:
                return [found]
        return []

    def _is_for_another(self, direction: Direction, sights: Sequence[Sight]) -> bool:
        """Whether a card saw the flow go to a hardware address that is none of its host's: a switch sends such to all."""
        receiver = Side.DESTINATION if direction is Direction.THERE else Side.SOURCE
        party = self._parties.get(receiver)
        cards = [one for one in sights if (one.place.side, one.place.stage) == (receiver, Stage.NIC)]
        macs = {mac for one in cards for mac in one.macs(direction)}
        return party is not None and bool(macs) and not macs & set(macs_of(party.facts))

    def astray(self, direction: Direction) -> list[Cause]:
        """Where what left a network card may have gone instead of to the other host: to another machine beside it."""
        sender = Side.SOURCE if direction is Direction.THERE else Side.DESTINATION
        hop, other = self._hop_of(sender), self._parties.get(_other(sender))
        if hop is None:
            return []
        down = (
            receiver_down_cause(other.name, other.facts, self._way.nic(_other(sender))) if other is not None else None
        )
        if down is not None:
            return [down]
        on_link = not hop.route.gateway
        known = macs_of(other.facts) if other is not None and on_link else ()
        pinned = pinned_cause(hop, known)
        if pinned is not None:
            return [pinned]
        if other is None:
            return []
        router = self._router_mac(self._parties[sender], hop.route.device)
        one = duplicate_cause(hop, other.name, known, router_mac=router, elsewhere=self._holders(hop.target, other))
        return [one] if one is not None else []

    def unanswered(self, direction: Direction) -> list[Cause]:
        """Whether nobody answers for the next hop, where nothing at all came of what was sent to it."""
        hop = self._hop_of(Side.SOURCE if direction is Direction.THERE else Side.DESTINATION)
        one = unanswered_cause(hop) if hop is not None and hop.asked and not hop.macs else None
        return [one] if one is not None else []

    def _hop_of(self, side: Side) -> NextHop | None:
        if side not in self._hops:
            self._hops[side] = self._hop(side)
        return self._hops[side]

    def leads_elsewhere(self) -> bool:
        """Whether the destination's host would answer by another device than the one at which requests are watched."""
        party, target = self._parties.get(Side.DESTINATION), _target(self._way, Side.DESTINATION)
        if party is None or not target or self._way.kind in _LOCAL:
            return False
        device = drive(gather_lookup(target), party.carrier).route.device
        return bool(device) and device != self._way.nic(Side.DESTINATION)

    def _hop(self, side: Side) -> NextHop | None:
        party, target = self._parties.get(side), _target(self._way, side)
        if party is None or not target or self._way.kind in _LOCAL:
            return None
        lookup = drive(gather_lookup(target), party.carrier)
        route = lookup.route
        hop = NextHop(host=party.name, target=target, route=route)
        if route.absent is not None:
            more = collect(party.carrier, ("routes",), now_s=self._now_s, options=party.options)
            context = CheckContext(
                facts=msgspec.structs.replace(party.facts, routes=more.routes), options=CheckOptions()
            )
            refusing, asleep = refusing_route(context, target), device_asleep(context, target)
            return msgspec.structs.replace(hop, refusing=refusing, asleep=asleep)
        params = {"address": hop.address, "device": route.device}
        (answer,) = party.carrier.ask([Request("arp-ask", params, _ARP_S)])
        unanswered = drive(gather_neighbour_unanswered(hop.address, lookup.device_index), party.carrier)
        return msgspec.structs.replace(
            hop,
            link=link_of(party.facts, route.device),
            entry=entry_of(party.facts, hop.address, route.device),
            unanswered=unanswered,
            asked=answer.data is not None,
            macs=tuple(row["mac"] for row in answer.data["answers"]) if answer.data is not None else (),
        )

    @staticmethod
    def _router_mac(party: Party, device: str) -> str:
        route = drive(gather_lookup(_OUTSIDE), party.carrier).route
        entry = entry_of(party.facts, route.gateway, device) if route.gateway else None
        return entry.mac if entry is not None else ""

    def _holders(self, address: str, owner: Party) -> list[str]:
        return [each.name for each in self._parties.values() if each is not owner and has_address(each.facts, address)]


def _target(way: Way, side: Side) -> str:
    """Where a host's own stack sends what it has of the flow, as the network sees it; empty where that is not known."""
    if way.kind is PathKind.OVERLAY:
        return way.end(_other(side)).host_address
    if side is Side.SOURCE:
        return way.target
    cards = (place.a for place in way.places if place.stage is Stage.NIC and place.namespace == HOST)
    return next(cards, way.source.host_address)


def _other(side: Side) -> Side:
    return Side.DESTINATION if side is Side.SOURCE else Side.SOURCE
