"""Whether a flow ends because nobody tells the hardware address of its next hop, watched on both sides of the search."""

from __future__ import annotations

import msgspec

from netdiag.facts.counters import gather_counters
from netdiag.facts.route_lookup import gather_lookup, gather_neighbour_unanswered
from netdiag.host.diagnose_attempt import try_again
from netdiag.host.diagnose_parties import Party, Planned, has_address, netns_of
from netdiag.host.drive import drive
from netdiag.model.facts import HOST
from netdiag.model.path import End, Side
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Cause
from netdiag.model.wire import Request
from netdiag.path.arp import Heard, Search, heard_of, silence_causes
from netdiag.path.stops import Stop, entered_by
from netdiag.path.ways import Host, pair_of

_WATCH_S, _AGAIN_S = 10.0, (1.15, 0.3)
"""A neighbour that does not answer is asked again each second."""
_SETTLE_MS = 50


def arp_causes(planned: Planned, stop: Stop) -> list[Cause]:
    """Why a next hop's hardware address is not told, where that is what keeps a stack from sending."""
    party = planned.parties[stop.side]
    target = stop.source if stop.asked else stop.destination
    if (stop.device and not stop.asked) or ":" in target or not target:
        return []
    netns = netns_of(party.facts, stop.namespace)
    lookup = drive(gather_lookup(target, netns), party.carrier)
    hop = lookup.route.gateway or target
    if not lookup.device_index or not drive(
        gather_neighbour_unanswered(hop, lookup.device_index, netns), party.carrier
    ):
        return []
    asked = _asked(planned, stop, hop, lookup.route)
    if asked is None:
        return []
    other, device = asked
    heard = _heard(planned, other, device, hop)
    entered = entered_by(other.facts, Stop(side=stop.side, namespace=HOST, device=device, source="", destination=""))
    settings = drive(gather_counters("", (entered,)), other.carrier).settings
    search = Search(
        address=hop,
        host=Host(name=other.name, facts=other.facts),
        device=entered,
        heard=heard,
        settings=settings,
        leaves_by=drive(gather_lookup(hop), other.carrier).route.device,
    )
    return list(silence_causes(search))


def _asked(planned: Planned, stop: Stop, hop: str, route: RouteChoice) -> tuple[Party, str] | None:
    """Whose kernel should tell the address, and by which of its devices it is asked; None where that is nobody here."""
    party = planned.parties[stop.side]
    if stop.namespace != HOST:
        end = planned.way.source if stop.side is Side.SOURCE else planned.way.destination
        pair = pair_of(party.facts, _with_device(end, route.device))
        return (party, pair[1].name) if pair is not None and pair[0] == HOST else None
    side = Side.DESTINATION if stop.side is Side.SOURCE else Side.SOURCE
    other = planned.parties.get(side)
    if other is None or other is party or not has_address(other.facts, hop) or not route.source:
        return None
    # The address may be on another device than the one by which the two hosts are neighbours.
    nic = drive(gather_lookup(route.source), other.carrier).route.device
    return (other, nic) if nic else None


def _with_device(end: End, device: str) -> End:
    return msgspec.structs.replace(end, device=device)


def _heard(planned: Planned, party: Party, device: str, hop: str) -> Heard:
    """Watch the search for an address at a device while the flow is tried once more."""
    points = [{"name": "arp", "device": device, "netns": "", "flow": {"arp": hop}}]
    (started,) = party.carrier.ask([Request("capture-start", {"points": points, "seconds": _WATCH_S}, 3.0)])
    if started.data is None:
        return Heard()
    # A search that gives up meanwhile ends the first attempt; the second one begins another.
    for wait_s in _AGAIN_S:
        try_again(planned, wait_s=wait_s)
    stop = Request("capture-stop", {"id": started.data["id"], "settle_ms": _SETTLE_MS}, 3.0)
    (seen,) = party.carrier.ask([stop])
    if seen.data is None:
        return Heard()
    return heard_of(hop, [frame["data"] for point in seen.data["points"] for frame in point["frames"]])
