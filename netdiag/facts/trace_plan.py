"""The packet of a trace: what the operator said, and what this host's facts give for the rest."""

from __future__ import annotations

import ipaddress

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.route_lookup import gather_lookup
from netdiag.facts.trace_here import Here, bare, is_link_local, is_multicast
from netdiag.facts.trace_wanted import Wanted, checked
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Address, Facts
from netdiag.model.probes import RouteChoice
from netdiag.model.trace import TracedPacket, TracePath
from netdiag.model.wire import Gather


class Unroutable(UsageError):
    """The packet could be made, but this host has no way for it; the text says why."""


def gather_packet(wanted: Wanted, facts: Facts) -> Gather[TracedPacket]:
    """The whole packet.

    Raises UsageError where neither the operator nor the host says what is needed, `Unroutable` where no route leads to
    its destination.
    """
    wanted = checked(wanted)
    here = Here(facts, wanted.namespace)
    here.require(wanted.in_device, "--in")
    here.require(wanted.out_device, "--out")
    if wanted.path is TracePath.OUT:
        return (yield from _sent(wanted, here))
    if wanted.path is TracePath.FORWARD:
        return (yield from _forwarded(wanted, here))
    return (yield from _taken_in(wanted, here))


def _sent(wanted: Wanted, here: Here) -> Gather[TracedPacket]:
    out_device, source = wanted.out_device, wanted.source
    if is_link_local(wanted.destination):
        _require_device(out_device, wanted.destination, "--out")
        source = source or here.link_local_of(out_device)
        if not source:
            raise UsageError(f"--out {out_device}: it has no link-local address to send from")
    if not (out_device and source):
        found = yield from _lookup(here, wanted.destination, "--dst")
        out_device, source = out_device or found.device, source or found.source
    return _packet(wanted, "", out_device, source, wanted.destination)


def _taken_in(wanted: Wanted, here: Here) -> Gather[TracedPacket]:
    in_device, destination, source = wanted.in_device, wanted.destination, wanted.source
    for address in filter(is_link_local, (source, destination)):
        _require_device(in_device, address, "--in")
    if is_link_local(source):
        destination = destination or here.link_local_of(in_device)
    elif source and not (in_device and destination):
        route = (yield from gather_lookup(source, here.path)).route
        destination = destination or ("" if in_device and route.device != in_device else route.source)
        in_device = in_device or route.device
    version = 6 if ":" in source + destination else 4
    for_all = is_multicast(destination) or here.is_broadcast(destination)
    if for_all:
        _require_device(in_device, destination, "--in")
        if here.bridge_of(in_device) is not None:
            text = f"{destination} at a bridge's port goes on by its other ports: --in names the bridge itself"
            raise UsageError(text)
    if for_all and source:
        return _packet(wanted, in_device, "", source, destination)
    own = here.own_address(in_device, "" if for_all else destination, version)
    if own is None:
        raise UsageError(_no_address(here, in_device, destination, version))
    if not in_device:
        in_device = own.device
        link = here.link(in_device)
        if link is not None and link.loopback:
            raise UsageError(f"--dst {destination} is an address of {in_device}: --in says by which device it arrives")
    source = source or _neighbour_of(here.own_address(in_device, "", version) or own, destination)
    return _packet(wanted, in_device, "", source, destination or bare(own))


def _require_device(device: str, address: str, option: str) -> None:
    if not device:
        raise UsageError(f"{address} is on every link of this host: {option} says which device is meant")


def _no_address(here: Here, device: str, destination: str, version: int) -> str:
    """Why the packet is for nobody here, and what would make it a packet that can be followed."""
    if not destination:
        return f"no address of this {here.word} for {device or 'the packet'}: {device or 'it'} has none of IPv{version}; --dst says to which one"
    if ipaddress.ip_address(destination).is_loopback:
        return f"--dst {destination} never arrives from elsewhere: what this {here.word} sends to itself is asked by --path out"
    return f"--dst {destination} is no address of this {here.word} that is up: --path forward follows what goes on"


def at_port(packet: TracedPacket, facts: Facts, rules: Rules) -> tuple[TracedPacket, str]:
    """The packet where chains of the family bridge meet it: at the port of the bridge that its sender is behind.

    The second is why that cannot be told, where there are such chains; else empty.
    """
    here = Here(facts, packet.namespace)
    link = here.link(packet.in_device)
    if link is None or link.kind != "bridge" or not rules.watches_bridges():
        return packet, ""
    port = here.behind(link, packet.source)
    if port:
        return msgspec.structs.replace(packet, in_device=port), ""
    ports = ", ".join(here.ports(link))
    where = f"--in {ports}" if ports else "it has no port that is up"
    return packet, (
        f"chains of the family bridge stand before {link.name}, and behind which port {packet.source} is, is not known: {where}"
    )


def _lookup(here: Here, address: str, option: str) -> Gather[RouteChoice]:
    route = (yield from gather_lookup(address, here.path)).route
    if route.absent is not None:
        raise Unroutable(f"{option}: {route.absent.text}")
    return route


def _forwarded(wanted: Wanted, here: Here) -> Gather[TracedPacket]:
    in_device, out_device, source = wanted.in_device, wanted.out_device, wanted.source
    if not in_device:
        route = yield from _lookup(here, source, "--src")
        bridge = here.link(route.device)
        if bridge is not None and bridge.kind == "bridge":
            in_device = here.behind(bridge, source)
            if not in_device:
                ports = ", ".join(here.ports(bridge))
                raise UsageError(f"--src {source} is behind {bridge.name}, at a port that is not known: --in {ports}")
        else:
            in_device = route.device
    elif source:
        in_device = (yield from _bridged_at(wanted, here)) or in_device
    bridge = here.bridge_of(in_device)
    if wanted.destination in {bare(row) for row in here.addresses}:
        raise UsageError(f"--dst {wanted.destination} is an address of this {here.word}: --path in")
    if not out_device:
        out_device = here.behind(bridge, wanted.destination) if bridge is not None else ""
        if not out_device:
            found = yield from gather_lookup(wanted.destination, here.path)
            out_device = found.route.device
    if not source:
        device = bridge.name if bridge is not None else in_device
        own = here.own_address(device, "", 6 if ":" in wanted.destination else 4)
        if own is None:
            raise UsageError(f"{device} has no address here that tells its neighbours: --src says from whom")
        source = _neighbour_of(own, wanted.destination)
    return _packet(wanted, in_device, out_device, source, wanted.destination)


def _bridged_at(wanted: Wanted, here: Here) -> Gather[str]:
    """The port at which a packet from one station of a bridge to another arrives, where the bridge itself was named.

    Empty where the bridge does not pass it on by itself.
    """
    bridge = here.link(wanted.in_device)
    if bridge is None or bridge.kind != "bridge":
        return ""
    if not here.behind(bridge, wanted.destination):
        route = (yield from gather_lookup(wanted.destination, here.path)).route
        if route.device != bridge.name or route.gateway:
            return ""
    port = here.behind(bridge, wanted.source)
    if not port:
        ports = ", ".join(here.ports(bridge))
        raise UsageError(f"--src {wanted.source} is behind {bridge.name}, at a port that is not known: --in {ports}")
    return port


def _packet(wanted: Wanted, in_device: str, out_device: str, source: str, destination: str) -> TracedPacket:
    if in_device == "lo":
        raise UsageError(
            f"{source} is this host itself: a packet from it never arrives on an interface; try --path out"
        )
    return wanted.packet(in_device=in_device, out_device=out_device, source=source, destination=destination)


def _neighbour_of(own: Address, besides: str = "") -> str:
    """Another address of the own prefix, as a peer on the wire would have it."""
    interface = ipaddress.ip_interface(own.cidr)
    network = interface.network
    if network.num_addresses < 4:
        raise UsageError(f"{own.cidr} leaves no room for a peer: --src says from whom")
    taken = {str(interface.ip), besides}
    return next(text for offset in range(1, 4) if (text := str(network.network_address + offset)) not in taken)
