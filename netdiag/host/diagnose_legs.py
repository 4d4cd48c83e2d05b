"""What the kernels of two hosts say of the way between them: routes, devices, and the addresses that they use."""

from __future__ import annotations

import ipaddress

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.route_lookup import gather_lookup
from netdiag.host.diagnose_parties import Party, Planned, has_address, netns_of
from netdiag.host.drive import drive
from netdiag.model.engine import Container, Network
from netdiag.model.facts import HOST
from netdiag.model.path import Side, Way
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Cause
from netdiag.path.container_routes import route_cause
from netdiag.path.outward import outward_address
from netdiag.path.routed import Attachment, Leg, Published, attachments
from netdiag.path.ways import Host, namespace_of


class Flow(msgspec.Struct, frozen=True):
    """What is asked for: tcp, udp or icmp, and the port."""

    protocol: str
    port: int | None


class NoRoute(UsageError):
    """A container's own namespace has no route to where it should send."""

    def __init__(self, party: Party, namespace: str, address: str, route: RouteChoice) -> None:
        why = route.absent.text if route.absent is not None else ""
        super().__init__(f"{namespace} on {party.name} has no route to {address}: {why}")
        self._party, self._namespace, self._address, self._route = party, namespace, address, route

    def cause(self) -> Cause | None:
        """As a cause; None where the namespace is no container's that is known."""
        host = Host(name=self._party.name, facts=self._party.facts)
        return route_cause(host, self._namespace, self._address, self._route)


def leg_towards(party: Party, container: Container | None, target: str, host: Host) -> Leg:
    """The source's side towards an address: by which device and address it goes out."""
    if container is None:
        route = route_of(party, target)
        return Leg(host=host, address=route.source or host.nic_address)
    namespace = namespace_of(party.facts, container)
    route = route_of(party, target, namespace)
    if route.absent is not None:
        raise NoRoute(party, namespace, target, route)
    found = next((each for each in attachments(party.facts, container) if each.device == route.device), None)
    at = found or Attachment(device=route.device, address=route.source)
    return msgspec.structs.replace(Leg.of(host, container, at), address=route.source or at.address)


def route_of(party: Party, address: str, namespace: str = HOST) -> RouteChoice:
    """The kernel's choice for an address, in one of a host's namespaces."""
    return drive(gather_lookup(address, netns_of(party.facts, namespace)), party.carrier).route


def hosts_of(first: Party, last: Party, *, towards: str = "", origin: str = "") -> dict[Side, Host]:
    """Each with the device and address by which it reaches the other."""
    if first is last:
        host = Host(name=first.name, facts=first.facts)
        return {Side.SOURCE: host, Side.DESTINATION: host}
    there = towards or reachable(last, first)
    out = route_of(first, there) if there else RouteChoice()
    origin = origin or out.source or reachable(first, last)
    back = route_of(last, origin) if origin else RouteChoice()
    arrives = arrives_by(last, there, out.gateway, out.source)
    return {
        Side.SOURCE: Host(name=first.name, facts=first.facts, nic=out.device, nic_address=out.source),
        # Packets come to the card that has the address, whichever way the answers take.
        Side.DESTINATION: Host(name=last.name, facts=last.facts, nic=arrives or back.device, nic_address=back.source),
    }


def leads_to(route: RouteChoice, last: Party) -> bool:
    """Whether a route goes by a host as its next hop."""
    return bool(route.gateway) and has_address(last.facts, route.gateway)


def gateway_of(party: Party, container: Container) -> str:
    """The host's address on the container's own bridge, which is the nearest to it."""
    found = [each for each in attachments(party.facts, container) if each.gateway]
    return found[0].gateway if found else ""


def published_at(last: Party, published: Published) -> Attachment:
    """On which of its devices a published port's container is reached: the one by which it would answer.

    Raises UsageError for a container with no device on a bridge of its host.
    """
    found = attachments(last.facts, published.container)
    if not found:
        raise UsageError(f"{published.container.name} on {last.name} has no device on a bridge of its host")
    netns = netns_of(last.facts, namespace_of(last.facts, published.container))
    route = drive(gather_lookup("192.0.2.1", netns), last.carrier).route  # an address of nobody: which way is out
    return next((each for each in found if each.device == route.device), found[0])


def planned_way(way: Way, first: Party, last: Party, network: Network | None = None) -> Planned:
    """A way between two hosts, with the network that carries it as each of their engines knows it."""
    engine = last.facts.engine.value
    rows = engine.networks if engine is not None and network is not None else ()
    theirs = next((each for each in rows if network is not None and each.id == network.id), None)
    return Planned(
        way=way,
        parties={Side.SOURCE: first, Side.DESTINATION: last},
        networks={Side.SOURCE: network, Side.DESTINATION: theirs},
    )


def arrives_by(party: Party, address: str, gateway: str, peer: str) -> str:
    """By which card what a peer sends to an address comes in; empty where the addresses do not tell.

    On one network that is the card that has the address (or is the peer's gateway to it). Behind a router it is the
    one that has the address too, unless the address is no network's at all, as those of a loopback device are.
    """
    rows = (party.facts.addresses.value or {}).get(HOST, ())
    for row in rows:
        if row.cidr.partition("/")[0] == (gateway or address) and peer:
            network = ipaddress.ip_interface(row.cidr).network
            return row.device if ipaddress.ip_address(peer) in network else ""
    if not gateway:
        return ""
    held = [row for row in rows if row.cidr.partition("/")[0] == address]
    return next((row.device for row in held if ipaddress.ip_interface(row.cidr).network.num_addresses > 1), "")


def reachable(party: Party, other: Party | None = None) -> str:
    """The address by which other hosts reach a party: as it was typed or resolved, else its engine's, else a card's."""
    if party.address:
        return party.address
    engine = party.facts.engine.value
    if engine is not None and engine.swarm.node_address:
        return engine.swarm.node_address
    return outward_address(party.facts, other.facts if other is not None else None)
