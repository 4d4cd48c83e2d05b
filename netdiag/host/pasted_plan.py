"""One side's half of the way between two ends whose hosts do not reach each other: which side this host is, and where it looks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from netdiag.errors import CarrierError, UsageError
from netdiag.facts.context import Options
from netdiag.facts.route_lookup import gather_lookup
from netdiag.host.diagnose_legs import published_at
from netdiag.host.diagnose_parties import Parties, Party, Planned
from netdiag.host.drive import Carrier, drive
from netdiag.host.pasted_overlay import OverlayHalf, overlay_plan, unlisted
from netdiag.model.engine import Network
from netdiag.model.facts import HOST
from netdiag.model.half import HalfFlow
from netdiag.model.path import PathKind, Side, Stage, Way
from netdiag.model.probes import RouteChoice
from netdiag.model.wire import Request
from netdiag.path.names import Typed, is_address, is_host
from netdiag.path.routed import Leg, publishes, routed_way
from netdiag.path.ways import Host

_RESOLVE_S = 5.0


class HalfPlan(msgspec.Struct, frozen=True, kw_only=True):
    """This host's part.

    Attributes:
        planned: The way as far as this host knows it, and this host as the only one that takes part.
        side: Which one it is.
        flow: The flow, by the ends' addresses.
        away: What the other host is called.
        hidden: Why packets may pass the NIC unseen; empty where they do not.
        why: Why nothing can be said of a part of what stands here; empty where all can.
    """

    planned: Planned
    side: Side
    flow: HalfFlow
    away: str
    hidden: str = ""
    why: str = ""

    @property
    def party(self) -> Party:
        """This host."""
        return self.planned.parties[self.side]


def plan_half(
    local: Carrier,
    source: Typed,
    destination: Typed,
    *,
    now_s: float,
    options: Options,
    progress: Callable[[str], None] = lambda _: None,
) -> HalfPlan:
    """This host's part of a flow between two hosts, or between containers of an overlay network on two hosts.

    Raises UsageError where this host has neither end or both, or what was typed means nothing here.
    """
    here = Parties(local, _nobody, now_s, options, progress).here
    overlay = overlay_plan(here, source, destination, _resolved)
    if overlay is not None:
        return _in_overlay(here, overlay)
    mine = {
        side: is_host(here.facts, end.name) for side, end in ((Side.SOURCE, source), (Side.DESTINATION, destination))
    }
    if all(mine.values()):
        raise UsageError(f"{source.text} and {destination.text} are both this host: diagnose without --code")
    if not any(mine.values()):
        raise UsageError(
            f"neither {source.text} nor {destination.text} is this host ({here.name}{_addresses(here)}): run it on both"
            " hosts, and name each by an address of its own"
        )
    side = Side.SOURCE if mine[Side.SOURCE] else Side.DESTINATION
    own, other = (source, destination) if side is Side.SOURCE else (destination, source)
    return _planned(here, side, own, other, destination)


def _planned(here: Party, side: Side, own: Typed, other: Typed, destination: Typed) -> HalfPlan:
    away_address = other.name if is_address(other.name) else _resolved(here, other)
    route: RouteChoice = drive(gather_lookup(away_address), here.carrier).route
    if route.absent is not None:
        raise UsageError(f"{here.name} has no route to {away_address}: {route.absent.text}")
    address = own.name if is_address(own.name) else route.source
    if not address:
        raise UsageError(f"{own.text}: by which address the other host knows this one is not known; give it")
    if (":" in address) != (":" in away_address):
        raise UsageError(f"{address} and {away_address} are not of one family: give two addresses of the same one")
    host = Host(name=here.name, facts=here.facts, nic=route.device, nic_address=address)
    flow = HalfFlow(
        source=address if side is Side.SOURCE else away_address,
        destination=away_address if side is Side.SOURCE else address,
        protocol=destination.protocol if destination.port is not None else "icmp",
        port=destination.port,
    )
    way = _way(here, host, side, flow, other.text)
    if not way.places:
        raise UsageError(f"{here.name}: the route to {away_address} leads to no device that could be watched")
    return HalfPlan(
        planned=Planned(way=way, parties={side: here}, networks=dict.fromkeys(Side)),
        side=side,
        flow=flow,
        away=other.name,
        hidden=_hidden(here, route.device),
    )


def _in_overlay(here: Party, found: OverlayHalf) -> HalfPlan:
    way = found.way
    nic = way.nic(found.side)
    if not nic or not any(place.stage is Stage.END for place in way.places):
        raise UsageError(f"{here.name}: the devices of {way.end(found.side).label()} could not be read")
    networks: dict[Side, Network | None] = {**dict.fromkeys(Side), found.side: found.network}
    return HalfPlan(
        planned=Planned(way=way, parties={found.side: here}, networks=networks),
        side=found.side,
        flow=HalfFlow(
            source=way.source.address, destination=way.destination.address, protocol=way.protocol, port=way.port
        ),
        away=found.away,
        hidden=_hidden(here, nic),
        why=unlisted(found, here.name),
    )


def _way(here: Party, host: Host, side: Side, flow: HalfFlow, away: str) -> Way:
    there = Leg(host=None, address=flow.destination if side is Side.SOURCE else flow.source)
    if side is Side.SOURCE:
        begin = Leg(host=host, address=flow.source)
        return routed_way(PathKind.HOST, begin, there, protocol=flow.protocol, port=flow.port, name=away)
    published = publishes(here.facts, flow.port, flow.protocol, flow.destination)
    if published is None:
        end = Leg(host=host, address=flow.destination)
        return routed_way(PathKind.HOST, there, end, protocol=flow.protocol, port=flow.port, name=away)
    return routed_way(
        PathKind.PUBLISHED,
        there,
        Leg.of(host, published.container, published_at(here, published)),
        protocol=flow.protocol,
        port=flow.port,
        called=flow.destination,
        inner_port=published.inner_port,
        name=away,
    )


def _resolved(here: Party, other: Typed) -> str:
    (answer,) = here.carrier.ask([Request("resolve", {"name": other.name}, _RESOLVE_S)])
    found = list(answer.data["addresses"]) if answer.data is not None else []
    if not found:
        why = answer.error.text if answer.error is not None else "it has no address"
        raise UsageError(f"{other.text}: {why}; give the other host's address, the same on both hosts")
    return str(min(found, key=lambda each: ":" in each))


def _addresses(here: Party) -> str:
    rows = (here.facts.addresses.value or {}).get(HOST, ())
    known = [row.cidr.partition("/")[0] for row in rows if row.scope == "global"]
    return f", {', '.join(known[:4])}" if known else ""


def _hidden(here: Party, device: str) -> str:
    links = (here.facts.links.value or {}).get(HOST, ())
    link = next((each for each in links if each.name == device), None)
    return f"an XDP program on {device}" if link is not None and link.xdp_mode else ""


def _nobody(name: str) -> Carrier:
    raise CarrierError(f"{name}: nobody else is asked")
