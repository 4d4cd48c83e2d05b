"""The overlay's own tables: does a host know behind which host, and under which link address, the other container is?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdiag.causes import cause
from netdiag.model.engine import Network
from netdiag.model.facts import Facts, Link
from netdiag.model.path import Direction, End, Loss, Side, Sight, Stage, Way
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Cause, Confidence, Evidence, Remedy
from netdiag.path.between import nat_cause
from netdiag.path.vteps import own_addresses
from netdiag.path.ways import Host
from netdiag.shell import shell_text

_UNSET = "00:00:00:00:00:00"


def entry_causes(
    way: Way, host: Host, side: Side, *, other: Host, network: Network, confidence: Confidence
) -> Iterator[Cause]:
    """What is missing or wrong in the overlay's namespace of one host for the container of the other.

    Args:
        way: The way.
        host: Whose tables.
        side: Which side that host is on.
        other: The host of the container that the entries are for.
        network: The overlay network, as this host's engine knows it.
        confidence: *proven* where the packet was seen to be lost here, else less.
    """
    target = way.destination if side is Side.SOURCE else way.source
    namespace = f"overlay:{network.name}"
    device = vxlan_device(host.facts, namespace, network)
    if device is None:
        return
    path = namespace_path(host.facts, namespace)
    mac = _mac_of(other.facts, target) or mac_from_address(target.address)
    neighbours = [row for row in (host.facts.neighbours.value or {}).get(namespace, ()) if row.device == device.name]
    known = next((row for row in neighbours if row.address == target.address and row.mac), None)
    if known is None or known.mac != mac:
        yield neighbour_cause(host, target, namespace, path, device.name, known.mac if known else "", mac, confidence)
    rows = [
        row
        for row in (host.facts.fdb.value or {}).get(namespace, ())
        if row.device == device.name and row.mac == mac and row.vtep
    ]
    vtep = target.host_address
    if not rows:
        yield fdb_cause("overlay.fdb-missing", host, target, namespace, path, device.name, mac, "", vtep, confidence)
    elif vtep and not {row.vtep for row in rows} & {vtep, *own_addresses(other.facts)}:
        yield fdb_cause(
            "overlay.fdb-stale", host, target, namespace, path, device.name, mac, rows[0].vtep, vtep, confidence
        )


def received_causes(
    way: Way, loss: Loss, host: Host, sender: Host, network: Network, sights: Sequence[Sight]
) -> Iterator[Cause]:
    """Why a VXLAN device takes nothing of what arrives for it: it comes from another host than its entry says.

    The kernel drops such a packet without a counter (drivers/net/vxlan: a static entry never moves).

    Args:
        way: The way.
        loss: Between the receiver's NIC and its VXLAN device.
        host: The receiver.
        sender: The other host.
        network: The network, as the receiver's engine knows it.
        sights: What was seen.
    """
    side = Side.DESTINATION if loss.direction is Direction.THERE else Side.SOURCE
    wrong = list(entry_causes(way, host, side, other=sender, network=network, confidence=Confidence.PROVEN))
    stale = [one for one in wrong if one.code == "overlay.fdb-stale"]
    if stale:
        yield from stale
        return
    end = way.source if side is Side.DESTINATION else way.destination
    came = _outer(sights, side, loss.direction)
    left = _outer(sights, Side.SOURCE if side is Side.DESTINATION else Side.DESTINATION, loss.direction)
    if not came or not end.host_address or end.host_address in came:
        return
    if left and not set(left) & set(came):
        yield nat_cause(way, loss.direction, left[0], came[0], what="source")
        return
    known = ", where its own network card shows the same" if left else ""
    yield cause(
        "overlay.vtep-source",
        host=sender.name,
        object={"kind": "address", "address": came[0], "expected": end.host_address, "device": sender.nic},
        # What leaves must be known, or translation on the way would look alike.
        confidence=Confidence.PROVEN if left else Confidence.LIKELY,
        explanation=(
            f"Overlay packets of {sender.name} come from {came[0]}{known}; {host.name} expects them from"
            f" {end.host_address} and drops them. Routing chooses the source of what a VXLAN device sends."
        ),
        evidence=(
            Evidence("capture", f"outer source at {host.name}: {came[0]}; expected {end.host_address}"),
            *((Evidence("capture", f"outer source that leaves {sender.name}: {left[0]}"),) if left else ()),
        ),
    )


def source_remedy(one: Cause, peer: str, route: RouteChoice, *, host: str) -> tuple[Remedy, ...]:
    """What has overlay packets to a peer leave from the expected address; none where there is no such route.

    Args:
        one: The cause overlay.vtep-source.
        peer: The other host's address.
        route: The sender's route to it.
        host: The sender.
    """
    if not route.device:
        return ()
    tool = ["ip", "-6", "route"] if ":" in peer else ["ip", "route"]
    way = [peer, *(["via", route.gateway] if route.gateway else []), "dev", route.device]
    return (
        Remedy(
            host=host,
            summary=f"let what goes to {peer} leave from {one.object['expected']} (each other peer needs the same)",
            commands=(shell_text([*tool, "add", *way, "src", str(one.object["expected"])]),),
            undo=(shell_text([*tool, "del", *way]),),
        ),
    )


def _outer(sights: Sequence[Sight], side: Side, direction: Direction) -> tuple[str, ...]:
    """From where encapsulated packets came, as the network card of a side saw them."""
    cards = (sight for sight in sights if (sight.place.side, sight.place.stage) == (side, Stage.NIC))
    return next((sight.outer(direction) for sight in cards if sight.watched), ())


def host_behind(facts: Facts, address: str) -> str:
    """The address of the host behind which an overlay's tables put a container's address; empty when none does."""
    for namespace, rows in (facts.neighbours.value or {}).items():
        if not namespace.startswith("overlay:"):
            continue
        mac = next((row.mac for row in rows if row.address == address and row.mac), "")
        for row in (facts.fdb.value or {}).get(namespace, ()):
            if mac and row.mac == mac and row.vtep:
                return row.vtep
    return ""


def mac_from_address(address: str) -> str:
    """The link address that the overlay driver makes from an IPv4 address (moby drivers/overlay/ov_endpoint.go)."""
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        return ""
    return ":".join(["02", "42", *(f"{int(part):02x}" for part in parts)])


def vxlan_device(facts: Facts, namespace: str, network: Network) -> Link | None:
    """The VXLAN device of a network in the overlay's namespace of a host; None where it has none."""
    for link in (facts.links.value or {}).get(namespace, ()):
        if link.vxlan is not None and (not network.vnis or link.vxlan.vni in network.vnis):
            return link
    return None


def namespace_path(facts: Facts, namespace: str) -> str:
    """What nsenter takes for a namespace; empty where it is not known."""
    found = (facts.namespaces.value or {}).get(namespace)
    return found.path if found is not None else ""


def _mac_of(facts: Facts, end: End) -> str:
    links = (facts.links.value or {}).get(end.namespace, ())
    return next((link.mac for link in links if link.name == end.device and link.mac != _UNSET), "")


def neighbour_cause(
    host: Host, target: End, namespace: str, path: str, device: str, actual: str, mac: str, confidence: Confidence
) -> Cause:
    """The entry that gives a container's link address is missing (``actual`` is empty) or another than ``mac``."""
    seen = f"{target.address} is {actual}" if actual else f"there is no entry for {target.address}"
    inside = f"nsenter --net={path} -- "
    undo = (
        f"{inside}ip neigh replace {target.address} lladdr {actual} dev {device} nud permanent"
        if actual
        else f"{inside}ip neigh del {target.address} dev {device}"
    )
    return cause(
        "overlay.neighbour",
        host=host.name,
        object={
            "kind": "neighbour",
            "namespace": namespace,
            "address": target.address,
            "device": device,
            "mac": actual or None,
            "expected": mac,
        },
        confidence=confidence,
        explanation=f"In {namespace} of {host.name} {seen}; {target.label()} has {mac}.",
        evidence=(Evidence("neighbour", f"{device} of {namespace}: {seen}, expected {mac}"),),
        remedy=(
            Remedy(
                host=host.name,
                summary=f"tell the overlay the link address of {target.label()}",
                commands=(f"{inside}ip neigh replace {target.address} lladdr {mac} dev {device} nud permanent",),
                undo=(undo,),
            ),
        ),
    )


def fdb_cause(
    code: str,
    host: Host,
    target: End,
    namespace: str,
    path: str,
    device: str,
    mac: str,
    actual: str,
    vtep: str,
    confidence: Confidence,
) -> Cause:
    """The entry that puts a link address behind a host is missing (``actual`` is empty) or leads to another than ``vtep``."""
    seen = f"{mac} is behind {actual}" if actual else f"there is no entry for {mac}"
    inside = f"nsenter --net={path} -- "
    undo = (
        f"{inside}bridge fdb replace {mac} dev {device} dst {actual} self permanent"
        if actual
        else f"{inside}bridge fdb del {mac} dev {device} dst {vtep} self"
    )
    return cause(
        code,
        host=host.name,
        object={
            "kind": "fdb",
            "namespace": namespace,
            "mac": mac,
            "device": device,
            "vtep": actual or None,
            "expected": vtep,
        },
        confidence=confidence,
        explanation=(
            f"In {namespace} of {host.name} {seen}; the engine knows {target.label()} ({target.address}) behind {vtep}."
        ),
        evidence=(Evidence("fdb", f"{device} of {namespace}: {seen}, expected {vtep}"),),
        remedy=(
            Remedy(
                host=host.name,
                summary=f"tell the overlay behind which host {target.label()} is",
                commands=(f"{inside}bridge fdb replace {mac} dev {device} dst {vtep} self permanent",),
                undo=(undo,),
            ),
        ),
    )
