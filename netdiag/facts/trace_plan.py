"""The packet of a trace: what the operator said, and what this host's facts give for the rest."""

from __future__ import annotations

import ipaddress

from netdiag.errors import UsageError
from netdiag.facts.route_lookup import gather_lookup
from netdiag.facts.trace_here import Here, bare
from netdiag.facts.trace_wanted import Wanted, checked
from netdiag.model.facts import Address, Facts
from netdiag.model.probes import RouteChoice
from netdiag.model.trace import TracedPacket, TracePath
from netdiag.model.wire import Gather


def gather_packet(wanted: Wanted, facts: Facts) -> Gather[TracedPacket]:
    """The whole packet. Raises UsageError where neither the operator nor the host says what is needed."""
    wanted = checked(wanted)
    here = Here(facts, wanted.namespace)
    here.require(wanted.in_device, "--in")
    here.require(wanted.out_device, "--out")
    if wanted.path is TracePath.OUT:
        out_device, source = wanted.out_device, wanted.source
        if not (out_device and source):
            found = yield from _lookup(here, wanted.destination, "--dst")
            out_device, source = out_device or found.device, source or found.source
        return _packet(wanted, "", out_device, source, wanted.destination)
    if wanted.path is TracePath.FORWARD:
        return (yield from _forwarded(wanted, here))
    in_device, destination, source = wanted.in_device, wanted.destination, wanted.source
    if source and not (in_device and destination):
        route = (yield from gather_lookup(source, here.path)).route
        destination = destination or ("" if in_device and route.device != in_device else route.source)
        in_device = in_device or route.device
    own = here.own_address(in_device, destination, 6 if ":" in source + destination else 4)
    if own is None:
        what = in_device or destination or "the packet"
        raise UsageError(f"no address of this {here.word} for {what}: give --in and --dst")
    source = source or _neighbour_of(own)
    return _packet(wanted, in_device or own.device, "", source, destination or bare(own))


def _lookup(here: Here, address: str, option: str) -> Gather[RouteChoice]:
    route = (yield from gather_lookup(address, here.path)).route
    if route.absent is not None:
        raise UsageError(f"{option} {address}: {route.absent.text}")
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


def _packet(wanted: Wanted, in_device: str, out_device: str, source: str, destination: str) -> TracedPacket:
    if in_device == "lo":
        raise UsageError(
            f"{source} is this host itself: a packet from it never arrives on an interface; try --path out"
        )
    return TracedPacket(
        path=wanted.path,
        namespace=wanted.namespace,
        in_device=in_device,
        out_device=out_device,
        source=source,
        destination=destination,
        protocol=wanted.protocol,
        source_port=wanted.source_port,
        destination_port=wanted.destination_port,
        icmp_type=wanted.icmp_type,
        tcp_flags=wanted.tcp_flags or None,
        ttl=wanted.ttl,
        length=wanted.length,
        mac=wanted.mac or None,
    )


def _neighbour_of(own: Address, besides: str = "") -> str:
    """Another address of the own prefix, as a peer on the wire would have it."""
    interface = ipaddress.ip_interface(own.cidr)
    network = interface.network
    if network.num_addresses < 4:
        raise UsageError(f"{own.cidr} leaves no room for a peer: --src says from whom")
    taken = {str(interface.ip), besides}
    return next(text for offset in range(1, 4) if (text := str(network.network_address + offset)) not in taken)
