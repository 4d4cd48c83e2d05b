"""The overlay's own tables against the view of the host's own engine, where the other host cannot be asked.

What the other container's link address is, only its own host knows for certain: the tables are followed as the kernel
follows them, and the address that the driver makes stands in where there is no entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.model.engine import Network
from netdiag.model.facts import Facts
from netdiag.model.path import Direction, End, Loss, PathKind, Side, Sight, Stage, Way
from netdiag.model.report import Cause, Confidence
from netdiag.path.ends import address_of
from netdiag.path.entries import fdb_cause, mac_from_address, namespace_path, neighbour_cause, vxlan_device
from netdiag.path.ways import Host


def own_entry_causes(way: Way, host: Host, side: Side, network: Network, *, heard: bool) -> Iterator[Cause]:
    """What is missing or wrong in the overlay's namespace of this host for the other container.

    Args:
        way: The way; the other end's ``host_address`` is where its host is.
        host: This host.
        side: Which side it is on.
        network: The network, as this host's engine knows it.
        heard: The engine knows of the other container; of one that it does not know its tables need have no entry.
    """
    target = other_end(way, side)
    namespace = f"overlay:{network.name}"
    device = vxlan_device(host.facts, namespace, network)
    if device is None or host.facts.neighbours.value is None or host.facts.fdb.value is None:
        return
    path, vtep = namespace_path(host.facts, namespace), target.host_address
    made = mac_from_address(target.address)
    neighbours = [row for row in host.facts.neighbours.value.get(namespace, ()) if row.device == device.name]
    fdb = [row for row in host.facts.fdb.value.get(namespace, ()) if row.device == device.name and row.vtep]
    known = next((row.mac for row in neighbours if row.address == target.address and row.mac), "")
    behind = {row.vtep for row in fdb if row.mac == known}
    if not known or (not behind and known != made and any(row.mac == made for row in fdb)):
        # That the entry is missing is read; what should stand there is only how the driver makes them.
        sure = Confidence.LIKELY
        if made and heard:
            yield neighbour_cause(host, target, namespace, path, device.name, known, made, sure)
    elif not behind:
        sure = Confidence.PROVEN
        if heard:
            yield fdb_cause("overlay.fdb-missing", host, target, namespace, path, device.name, known, "", vtep, sure)
    elif vtep not in behind:
        # That the container is on that host is what the operator or a manager says; gossip tells for certain.
        listed = any(address_of(task) == target.address and task.host_address == vtep for task in network.tasks)
        if not listed and not ends_tunnels(host.facts, vtep, beside=known):
            return
        actual, sure = min(behind), Confidence.PROVEN if listed else Confidence.LIKELY
        yield fdb_cause("overlay.fdb-stale", host, target, namespace, path, device.name, known, actual, vtep, sure)


def ends_tunnels(facts: Facts, address: str, *, beside: str = "") -> bool:
    """Whether a host's tables have tunnels end at an address: a data path may have a network of its own.

    Every node has a load balancer in every overlay network that it is in, so that there are entries for it besides that
    of one container (``beside`` is its link address).
    """
    rows = [row for each in (facts.fdb.value or {}).values() for row in each if row.vtep and row.mac != beside]
    return bool(address) and address in {row.vtep for row in rows}


def went_elsewhere(way: Way, side: Side, sights: Sequence[Sight]) -> bool:
    """Whether what a host sent for the other container left for another host than its engine says."""
    target = other_end(way, side).host_address
    for sight in sights:
        if (sight.place.side, sight.place.stage) == (side, Stage.NIC):
            went = sight.outer_targets if side is Side.SOURCE else sight.back_outer_targets
            return bool(went) and target not in went
    return False


def as_it_came(way: Way, side: Side, sights: Sequence[Sight], one: Cause) -> Cause:
    """A stale entry on this side is proven where packets came from the very host that it should lead to."""
    if one.object.get("expected") in _came_from(way, side, sights):
        return msgspec.structs.replace(one, confidence=Confidence.PROVEN)
    return one


def came_from_elsewhere(way: Way, side: Side, loss: Loss, sights: Sequence[Sight]) -> str:
    """Why what came for this side's VXLAN device is lost before it, where it came from another host than is known here.

    Whether the tables are wrong, the other host's choice of its address, or a translation between, one side cannot tell.
    Empty where it came from where it should.
    """
    at, target = loss.last, other_end(way, side)
    if way.kind is not PathKind.OVERLAY or at is None or (at.side, at.stage) != (side, Stage.NIC):
        return ""
    came = _came_from(way, side, sights)
    if not came or target.host_address in came:
        return ""
    return f"VXLAN of {target.container} comes from {came[0]}, and this host knows it behind {target.host_address}"


def _came_from(way: Way, side: Side, sights: Sequence[Sight]) -> tuple[str, ...]:
    """The outer sources of what the other host sent, as this one's card saw them."""
    cards = (one for one in sights if (one.place.side, one.place.stage) == (side, Stage.NIC))
    receives = Direction.THERE if side is Side.DESTINATION else Direction.BACK
    return next((one.outer(receives) for one in cards), ()) if way.vxlan_port else ()


def other_end(way: Way, side: Side) -> End:
    """The end on the other host."""
    return way.destination if side is Side.SOURCE else way.source
