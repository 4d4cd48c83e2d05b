"""Which host's stack had a lost packet last, and whether its counters move when the same is sent again; pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from netdiag.facts.counters import Counters
from netdiag.model.facts import HOST, Facts
from netdiag.model.path import Direction, Loss, Place, Side, Stage, Way
from netdiag.model.report import Confidence


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """The stack in which a packet came to its end.

    Attributes:
        side: On which host.
        namespace: In which of its namespaces.
        device: By which device it came in; empty where that stack itself made it.
        wire: It never came so far as to be seen at ``device``: what stands before packet sockets may have taken it.
        toward: The device at which it should have been seen next; empty where it should have been delivered here.
        source: Its source as that stack sees it: the outer one of what is inside a tunnel.
        destination: Its destination.
        asked: It is a request that came to its end, and what is missing is an answer.
    """

    side: Side
    namespace: str
    device: str = ""
    wire: bool = False
    toward: str = ""
    source: str
    destination: str
    asked: bool = False


def stop_of(way: Way, loss: Loss) -> Stop | None:
    """Where a loss is to be looked into; None where nothing was seen that would tell."""
    there = loss.direction is Direction.THERE
    last, following = loss.last, loss.next
    if last is None:
        return _begins(way) if there else _arrives(way, following)
    if following is None:
        return None if there else _returns(way, last)
    source, destination = _addresses(way, last, there=there)
    if last.namespace != following.namespace and {last.stage, following.stage} == {Stage.TUNNEL, Stage.NIC}:
        # What a tunnel packs or unpacks is the host's own.
        namespace, device = HOST, last.device if last.stage is Stage.NIC else ""
        wire = False
        if last.stage is Stage.TUNNEL:
            source, destination = _addresses(way, following, there=there)
    elif last.namespace == following.namespace and last.side is following.side:
        namespace, device, wire = last.namespace, last.device, False
    else:
        namespace, device, wire = following.namespace, following.device, True
    return Stop(
        side=following.side,
        namespace=namespace,
        device=device,
        wire=wire,
        toward=following.device if not wire and following.stage is not Stage.END else "",
        source=source,
        destination=destination,
    )


def _begins(way: Way) -> Stop:
    first = next((place for place in way.places if place.namespace == way.source.namespace), None)
    return Stop(
        side=Side.SOURCE,
        namespace=way.source.namespace,
        toward=first.device if first is not None else way.source.device,
        source=way.source.address,
        destination=way.target,
    )


def _arrives(way: Way, place: Place | None) -> Stop:
    """A request at the end of its way."""
    end = way.destination
    here = place is not None and place.namespace == end.namespace
    return Stop(
        side=Side.DESTINATION,
        namespace=end.namespace,
        device=place.device if place is not None and here else end.device,
        source=place.a if place is not None else way.source.address,
        destination=end.address,
        asked=True,
    )


def _returns(way: Way, last: Place) -> Stop:
    """An answer that came to the source's own device."""
    return Stop(
        side=Side.SOURCE,
        namespace=way.source.namespace,
        device=last.device if last.namespace == way.source.namespace else way.source.device,
        source=way.target,
        destination=way.source.address,
    )


def _addresses(way: Way, place: Place, *, there: bool) -> tuple[str, str]:
    if place.vxlan_port is not None:
        ends = (way.source.host_address, way.destination.host_address)
    else:
        ends = (place.a, place.b)
    return ends if there else (ends[1], ends[0])


def entered_by(facts: Facts, stop: Stop) -> str:
    """The device whose settings decide about what came in: the bridge, where it came by a port of one."""
    links = (facts.links.value or {}).get(stop.namespace, ())
    own = next((link for link in links if link.name == stop.device), None)
    if own is None or own.master is None:
        return stop.device
    return next((link.name for link in links if link.index == own.master), stop.device)


def devices_under(facts: Facts, namespace: str, device: str) -> tuple[str, ...]:
    """A device and those below it by which its packets come: the ports of a bond or bridge, the card below a VLAN."""
    links = (facts.links.value or {}).get(namespace, ())
    found = [device]
    for name in found:
        own = next((link for link in links if link.name == name), None)
        if own is None:
            continue
        lower = own.peer_index if own.kind in ("vlan", "macvlan", "ipvlan") and own.peer_netnsid is None else None
        found += [
            link.name for link in links if link.name not in found and (link.master == own.index or link.index == lower)
        ]
    return tuple(found)


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Counters before and after a pause, and again after the flow was sent anew some times.

    Attributes:
        sent: How often it was sent.
        before: At first.
        paused: After a pause that was as long as the sending.
        after: Behind the sending.
    """

    sent: int
    before: Counters
    paused: Counters
    after: Counters

    def idle(self, key: str) -> int:
        """How far a counter moved while nothing was sent."""
        return _between(key, self.before.values, self.paused.values)

    def moved(self, key: str) -> int:
        """How far a counter moved while it was sent."""
        return _between(key, self.paused.values, self.after.values)

    def excess(self, key: str) -> int:
        """How much further it moved while it was sent than in the pause."""
        return self.moved(key) - self.idle(key)

    def follows(self, key: str) -> Confidence | None:
        """Whether a counter moves with what is sent: *proven* where it moves with nothing else; None where it does not."""
        if not self.sent or key not in self.after.values:
            return None
        if self.moved(key) >= self.sent and not self.idle(key):
            return Confidence.PROVEN
        return Confidence.LIKELY if self.excess(key) >= self.sent else None

    def text(self, key: str) -> str:
        """What it did, in words."""
        return f"{key}: +{self.moved(key)} while {self.sent} were sent, +{self.idle(key)} in a pause of the same length"


def _between(key: str, first: Mapping[str, int], second: Mapping[str, int]) -> int:
    return second.get(key, 0) - first.get(key, 0)
