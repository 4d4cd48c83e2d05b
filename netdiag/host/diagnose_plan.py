"""Which way a flow takes between two ends that are known: what carries it, and by which devices it passes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Options
from netdiag.facts.route_lookup import gather_lookup
from netdiag.host.diagnose_ends import Ends, Meant
from netdiag.host.diagnose_parties import Open, Parties, Party, Planned, has_address, netns_of
from netdiag.host.drive import Carrier, drive
from netdiag.model.engine import Container, Network, OverlayTask
from netdiag.model.facts import HOST
from netdiag.model.path import End, PathKind, Side, Way
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Cause, Confidence
from netdiag.path.container_routes import route_cause
from netdiag.path.ends import Service, address_of, balancer_address, first_choice, other_hosts
from netdiag.path.ingress import SANDBOX, Ingress, ingress_attachment, ingress_service
from netdiag.path.names import Typed, find_container, is_address, is_loopback
from netdiag.path.outward import outward_address
from netdiag.path.published import elsewhere_cause
from netdiag.path.routed import Attachment, Leg, Published, attachments, published_for, publishes, routed_way
from netdiag.path.told import apart_found, itself_found
from netdiag.path.unfit import detached_cause, no_way, state_cause, unfit_found, wanted_network
from netdiag.path.vteps import vtep_of
from netdiag.path.ways import Host, bridge_way, namespace_of, overlay_way, shared_networks

_OWN_CARDS = ("macvlan", "ipvlan")
"""Drivers whose containers send and receive by a card of the host's, past its stack."""


class Planner:
    """Finds the two ends and the way between them."""

    def __init__(
        self,
        local: Carrier,
        open_peer: Open,
        now_s: float,
        options: Options,
        progress: Callable[[str], None],
        *,
        at_once: bool = False,
    ) -> None:
        """``at_once``: two hosts may be opened at the same time, as nobody is asked anything meanwhile."""
        self._parties = Parties(local, open_peer, now_s, options, progress)
        self._ends = Ends(self._parties)
        self._at_once = at_once

    def plan(self, source: Typed, destination: Typed) -> Planned:
        """The parties and the way between them.

        Raises:
            UsageError: An end that means nothing or too much, or a flow that cannot be.
            CarrierError: A host that is needed cannot be reached.
        """
        if self._at_once:
            self._parties.reach(other_hosts(self._parties.here.facts, source, destination))
        first, begin, said = self._ends.source(source)
        flow = _Flow(_protocol(destination), destination.port)
        if begin is not None and not begin.running:
            # What its destination's name means to a container that does not run, nobody can say.
            return _unfit((first, begin), (first, None), state_cause(first.name, begin), flow, destination.text)
        meant = self._ends.destination(first, begin, destination)
        meant = msgspec.structs.replace(meant, told=(*said, *meant.told))
        if meant.party is None and meant.service is None and not meant.address:
            return _nobody((first, begin), meant, flow, destination)
        if meant.party is not None and meant.container is not None and not meant.container.running:
            one = state_cause(meant.party.name, meant.container)
            return _unfit((first, begin), (meant.party, meant.container), one, flow, destination.text)
        if meant.service is not None and begin is not None:
            hosts = [each.host_address for each in meant.service.tasks]
            own = next((each for each in hosts if has_address(first.facts, each)), "")
            task = first_choice(meant.service.tasks, own)
            planned = self._to_task(first, begin, meant.service, task, flow)
        elif meant.itself and begin is not None:
            planned = _within(first, begin, meant.address, flow)
        else:
            _refuse_same(source, destination, first, begin, meant)
            try:
                planned = self._between(first, begin, meant, flow, destination)
            except _NoRoute as error:
                astray = error.cause()
                if astray is None:
                    raise
                last = meant.party or first
                planned = _unfit((first, begin), (last, meant.container), astray, flow, destination.text)
        others = meant.others if meant.service is None else ()
        return msgspec.structs.replace(planned, service=meant.service, others=others, told=(*meant.told, *planned.told))

    def towards(self, planned: Planned, task: OverlayTask) -> Planned:
        """The same flow, to another task of its service."""
        first = planned.parties[Side.SOURCE]
        begin = find_container(first.facts, planned.way.source.container)
        if begin is None or planned.service is None:
            return planned
        found = self._to_task(first, begin, planned.service, task, _Flow(planned.way.protocol, planned.way.port))
        return msgspec.structs.replace(found, service=planned.service, told=planned.told)

    # --- containers ---

    def _to_task(self, first: Party, begin: Container, service: Service, task: OverlayTask, flow: _Flow) -> Planned:
        party, container = self._ends.behind(task)
        if container.id == begin.id:
            others = [each for each in service.tasks if address_of(each) != address_of(task)]
            if not others:
                raise UsageError(f"the only task of {service.name} is the source itself: {begin.name}")
            return self._to_task(first, begin, service, others[0], flow)
        planned = self._overlay(first, begin, party, container, service.network, flow)
        balancer = balancer_address(first.facts, service.network) if service.virtual_address else ""
        return msgspec.structs.replace(planned, way=msgspec.structs.replace(planned.way, balancer=balancer))

    def _between(self, first: Party, begin: Container | None, meant: Meant, flow: _Flow, typed: Typed) -> Planned:
        last, end = meant.party, meant.container
        if last is None:
            return self._outwards(first, begin, meant.address, flow, typed.name)
        if end is None:
            return self._to_host(first, begin, last, meant.address, flow)
        network = None if begin is None else _shared((first, begin), (last, end), meant.address)
        if begin is None or network is None:
            return self._apart(first, begin, (last, end), meant, flow, typed)
        if network.driver == "overlay":
            return self._overlay(first, begin, last, end, network, flow)
        host = Host(name=first.name, facts=first.facts)
        way = bridge_way(host, begin, end, network, protocol=flow.protocol, port=flow.port)
        return _planned(way, first, last, network)

    def _apart(
        self,
        first: Party,
        begin: Container | None,
        destination: tuple[Party, Container],
        meant: Meant,
        flow: _Flow,
        typed: Typed,
    ) -> Planned:
        """To a container with which the source has no network in common."""
        last, end = destination
        own_card = _own_card(last, end, meant.address)
        if own_card is not None:
            planned = self._outwards(first, begin, own_card[0], flow, f"{end.name} on {last.name}")
            return msgspec.structs.replace(planned, told=(apart_found(last.name, end, *own_card[1:]),))
        # Nobody typed the published port: it stands in for a container that is pointed at, not for a name or an address.
        bare = meant.nameless or meant.address
        published = None if bare else published_for(last.facts, end, flow.port, flow.protocol)
        local = published is not None and is_loopback(published.address)
        if published is not None and not local and (begin is not None or first is not last):
            called = published.address or _reachable(last, first)
            return self._published(first, begin, last, published, called, _Flow(published.protocol, published.port))
        apart = None if begin is None or meant.address else _not_attached((first, begin), (last, end))
        if published is not None and local and first is not last:
            # A port of another host's loopback address is nobody's here; the container's own address may be routed.
            apart = elsewhere_cause(last.name, published, first.name, confidence=Confidence.PROVEN)
        elif begin is None or apart is None:
            return self._to_container(first, begin, last, end, flow, meant.address)
        try:
            # Bridges of one host are kept apart by its engine; behind another host a route may lead there.
            if first is not last:
                return self._to_container(first, begin, last, end, flow)
        except UsageError:
            pass
        return _unfit((first, begin), (last, end), apart, flow, typed.text)

    def _overlay(
        self, first: Party, begin: Container, last: Party, end: Container, network: Network, flow: _Flow
    ) -> Planned:
        there = vtep_of(last.facts, first.facts, network=network.name)
        origin = vtep_of(first.facts, last.facts, network=network.name)
        hosts = self._hosts(first, last, towards=there, origin=origin)
        if first is not last:
            hosts[Side.SOURCE] = msgspec.structs.replace(hosts[Side.SOURCE], vtep=origin)
            hosts[Side.DESTINATION] = msgspec.structs.replace(hosts[Side.DESTINATION], vtep=there)
        way = overlay_way(
            (hosts[Side.SOURCE], begin),
            (hosts[Side.DESTINATION], end),
            network,
            protocol=flow.protocol,
            port=flow.port,
            same_host=first is last,
        )
        return _planned(way, first, last, network)

    def _to_container(
        self, first: Party, begin: Container | None, last: Party, end: Container, flow: _Flow, address: str = ""
    ) -> Planned:
        """To a container's own address, by the hosts' routes."""
        found = attachments(last.facts, end)
        if not found:
            raise UsageError(
                f"{end.name} on {last.name} has no address that its host reaches: begin at a container of its network"
                f" ({', '.join(sorted(each.network for each in end.networks)) or 'it has none'})"
            )
        at = next((each for each in found if each.address == address), found[0])
        leg = Leg.of(Host(name=last.name, facts=last.facts), end, at)
        if first is last:
            kind = PathKind.ROUTED if begin is not None else PathKind.TO_OWN_HOST
            source = self._leg(first, begin, at.address, Host(name=first.name, facts=first.facts))
            return _planned(routed_way(kind, source, leg, protocol=flow.protocol, port=flow.port), first, last)
        route = self._route(first, at.address)
        if route.absent is not None or not self._leads_to(route, last):
            raise UsageError(
                f"{first.name} has no route to {at.address} of {end.name} that leads to {last.name}, and they have no"
                " network in common that spans their hosts"
            )
        hosts = self._hosts(first, last, towards=at.address)
        source = self._leg(first, begin, at.address, hosts[Side.SOURCE])
        leg = msgspec.structs.replace(leg, host=hosts[Side.DESTINATION])
        return _planned(routed_way(PathKind.ROUTED, source, leg, protocol=flow.protocol, port=flow.port), first, last)

    # --- hosts ---

    def _to_host(self, first: Party, begin: Container | None, last: Party, address: str, flow: _Flow) -> Planned:
        called = address or _reachable(last, first)
        published = publishes(last.facts, flow.port, flow.protocol, called)
        if published is not None:
            return self._published(first, begin, last, published, called, flow)
        ingress = ingress_service((first.facts, last.facts), flow.port, flow.protocol)
        if ingress is not None:
            at = ingress_attachment(last.facts)
            if at is not None:
                return self._published(first, begin, last, (ingress, at), called, flow)
        if first is last:
            host = Host(name=first.name, facts=first.facts)
            own = called if address or begin is None else self._gateway(first, begin) or called
            source = self._leg(first, begin, own, host)
            way = routed_way(
                PathKind.TO_OWN_HOST, source, Leg(host=host, address=own), protocol=flow.protocol, port=flow.port
            )
            return _planned(way, first, last)
        hosts = self._hosts(first, last, towards=called)
        end = Leg(host=hosts[Side.DESTINATION], address=called)
        source = self._leg(first, begin, called, hosts[Side.SOURCE])
        kind = PathKind.HOST if begin is None else PathKind.ROUTED
        return _planned(routed_way(kind, source, end, protocol=flow.protocol, port=flow.port), first, last)

    def _published(
        self,
        first: Party,
        begin: Container | None,
        last: Party,
        published: Published | tuple[Ingress, Attachment],
        called: str,
        flow: _Flow,
    ) -> Planned:
        """To a port of a host, and on to the container behind it, or into the routing mesh."""
        if first is last:
            host = Host(name=first.name, facts=first.facts)
            hosts = {Side.SOURCE: host, Side.DESTINATION: host}
        else:
            hosts = self._hosts(first, last, towards=called)
        host = hosts[Side.DESTINATION]
        if isinstance(published, Published):
            leg = Leg.of(host, published.container, published_at(last, published))
            inner_port = published.inner_port
        else:
            mesh, at = published
            name = f"routing mesh ({mesh.service})"
            leg = Leg(host=host, address=at.address, container=name, namespace=SANDBOX, at=at)
            inner_port = mesh.port
        way = routed_way(
            PathKind.PUBLISHED,
            self._leg(first, begin, called, hosts[Side.SOURCE]),
            leg,
            protocol=flow.protocol,
            port=flow.port,
            called=called,
            inner_port=inner_port,
        )
        return _planned(way, first, last)

    def _outwards(self, first: Party, begin: Container | None, address: str, flow: _Flow, name: str) -> Planned:
        """To somebody who takes no part: only this side is seen."""
        route = self._route(first, address)
        host = Host(name=first.name, facts=first.facts, nic=route.device, nic_address=route.source)
        kind = PathKind.ROUTED if begin is not None else PathKind.HOST
        way = routed_way(
            kind,
            self._leg(first, begin, address, host),
            Leg(host=None, address=address),
            protocol=flow.protocol,
            port=flow.port,
            name=name,
        )
        networks: dict[Side, Network | None] = {Side.SOURCE: None, Side.DESTINATION: None}
        return Planned(way=way, parties={Side.SOURCE: first}, networks=networks)

    # --- what the kernels say ---

    def _leg(self, party: Party, container: Container | None, target: str, host: Host) -> Leg:
        """The source's side towards an address: by which device and address it goes out."""
        if container is None:
            route = self._route(party, target)
            return Leg(host=host, address=route.source or host.nic_address)
        namespace = namespace_of(party.facts, container)
        route = self._route(party, target, namespace)
        if route.absent is not None:
            raise _NoRoute(party, namespace, target, route)
        found = next((each for each in attachments(party.facts, container) if each.device == route.device), None)
        at = found or Attachment(device=route.device, address=route.source)
        return msgspec.structs.replace(Leg.of(host, container, at), address=route.source or at.address)

    def _route(self, party: Party, address: str, namespace: str = HOST) -> RouteChoice:
        return drive(gather_lookup(address, netns_of(party.facts, namespace)), party.carrier).route

    def _hosts(self, first: Party, last: Party, *, towards: str = "", origin: str = "") -> dict[Side, Host]:
        """Each with the device and address by which it reaches the other."""
        if first is last:
            host = Host(name=first.name, facts=first.facts)
            return {Side.SOURCE: host, Side.DESTINATION: host}
        there = towards or _reachable(last, first)
        out = self._route(first, there) if there else RouteChoice()
        origin = origin or out.source or _reachable(first, last)
        back = self._route(last, origin) if origin else RouteChoice()
        arrives = arrives_by(last, there, out.gateway, out.source)
        return {
            Side.SOURCE: Host(name=first.name, facts=first.facts, nic=out.device, nic_address=out.source),
            # Packets come to the card that has the address, whichever way the answers take.
            Side.DESTINATION: Host(
                name=last.name, facts=last.facts, nic=arrives or back.device, nic_address=back.source
            ),
        }

    def _leads_to(self, route: RouteChoice, last: Party) -> bool:
        return bool(route.gateway) and has_address(last.facts, route.gateway)

    def _gateway(self, party: Party, container: Container) -> str:
        """The host's address on the container's own bridge, which is the nearest to it."""
        found = [each for each in attachments(party.facts, container) if each.gateway]
        return found[0].gateway if found else ""


class _NoRoute(UsageError):
    """A container's own namespace has no route to where it should send."""

    def __init__(self, party: Party, namespace: str, address: str, route: RouteChoice) -> None:
        why = route.absent.text if route.absent is not None else ""
        super().__init__(f"{namespace} on {party.name} has no route to {address}: {why}")
        self._party, self._namespace, self._address, self._route = party, namespace, address, route

    def cause(self) -> Cause | None:
        """As a cause; None where the namespace is no container's that is known."""
        host = Host(name=self._party.name, facts=self._party.facts)
        return route_cause(host, self._namespace, self._address, self._route)


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


class _Flow(msgspec.Struct, frozen=True):
    """What is asked for: tcp, udp or icmp, and the port."""

    protocol: str
    port: int | None


def _not_attached(source: tuple[Party, Container], destination: tuple[Party, Container]) -> Cause | None:
    """Which of two containers with no network in common is not in the other's.

    None where neither is in one of its own, or where one is in a network of another kind, which may be routed.
    """
    if any(_own_card(party, container, "") is not None for party, container in (source, destination)):
        return None
    for (party, container), (other, lacking) in ((source, destination), (destination, source)):
        engine = party.facts.engine.value
        network = wanted_network(container, engine.networks if engine is not None else ())
        if network:
            return detached_cause(other.name, lacking, network, f"{container.name} on {party.name}")
    return None


def _unfit(
    source: tuple[Party, Container | None],
    destination: tuple[Party, Container | None],
    one: Cause,
    flow: _Flow,
    typed: str,
) -> Planned:
    """No way, and why."""
    (first, begin), (last, end) = source, destination
    name = end.name if end is not None else ""
    way = no_way(
        End(host=first.name, container=begin.name if begin is not None else "", address=""),
        End(host=last.name if end is not None else typed, container=name, address=""),
        protocol=flow.protocol,
        port=flow.port,
    )
    parties = {Side.SOURCE: first, Side.DESTINATION: last}
    networks: dict[Side, Network | None] = {Side.SOURCE: None, Side.DESTINATION: None}
    return Planned(way=way, parties=parties, networks=networks, told=(unfit_found(way, one),), unfit=True)


def _shared(source: tuple[Party, Container], destination: tuple[Party, Container], address: str) -> Network | None:
    """The network that carries a flow from one container to the other: the address's, where one is called."""
    (first, begin), (last, end) = source, destination
    shared = shared_networks(begin, end, first.facts)
    spanning = [network for network in shared if first is last or network.driver == "overlay"]
    if address:
        spanning = [network for network in spanning if _has(end, network, address)]
    return spanning[0] if spanning else None


def _own_card(party: Party, container: Container, address: str) -> tuple[str, str, str] | None:
    """A container's address, network and driver where it has a card of its own on a network of its host's."""
    engine = party.facts.engine.value
    drivers = {network.id: network.driver for network in (engine.networks if engine is not None else ())}
    for each in container.networks:
        driver = drivers.get(each.network_id, "")
        if driver in _OWN_CARDS and each.address and address in ("", each.address):
            return each.address, each.network, driver
    return None


def _nobody(source: tuple[Party, Container | None], meant: Meant, flow: _Flow, typed: Typed) -> Planned:
    """A destination that means nobody, as was told of it."""
    first, begin = source
    way = no_way(
        End(host=first.name, container=begin.name if begin is not None else "", address=""),
        End(host=typed.name, address=""),
        protocol=flow.protocol,
        port=flow.port,
    )
    networks: dict[Side, Network | None] = {Side.SOURCE: None, Side.DESTINATION: None}
    return Planned(way=way, parties={Side.SOURCE: first}, networks=networks, told=meant.told, unfit=True)


def _within(party: Party, container: Container, typed: str, flow: _Flow) -> Planned:
    """From a container to itself, by its loopback device."""
    if flow.port is None:
        raise UsageError(f"{typed} inside {container.name} is {container.name} itself: say which port")
    address = typed if is_address(typed) else "127.0.0.1"
    host = Host(name=party.name, facts=party.facts)
    leg = Leg.of(host, container, Attachment(device="lo", address=address))
    way = routed_way(PathKind.ITSELF, leg, leg, protocol=flow.protocol, port=flow.port)
    told = itself_found(way.source, typed)
    return msgspec.structs.replace(_planned(way, party, party), told=(told,))


def _planned(way: Way, first: Party, last: Party, network: Network | None = None) -> Planned:
    engine = last.facts.engine.value
    rows = engine.networks if engine is not None and network is not None else ()
    theirs = next((each for each in rows if network is not None and each.id == network.id), None)
    return Planned(
        way=way,
        parties={Side.SOURCE: first, Side.DESTINATION: last},
        networks={Side.SOURCE: network, Side.DESTINATION: theirs},
    )


def _refuse_same(source: Typed, destination: Typed, first: Party, begin: Container | None, meant: Meant) -> None:
    """Raise UsageError where the two ends are one, and nothing lies between them."""
    if meant.party is not first or meant.itself:
        return
    if begin is not None and meant.container is not None and begin.id == meant.container.id:
        raise UsageError(f"{source.text} and {destination.text} are the same container: {begin.name} on {first.name}")
    if begin is None and meant.container is None:
        port, protocol = destination.port, destination.protocol
        called = meant.address or _reachable(first)
        if (
            publishes(first.facts, port, protocol, called) is None
            and ingress_service((first.facts,), port, protocol) is None
        ):
            raise UsageError(
                f"{source.text} and {destination.text} are the same host, and it publishes no such port: ss -lntup lists"
                " who listens"
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


def _protocol(typed: Typed) -> str:
    return typed.protocol if typed.port is not None else "icmp"


def _has(container: Container, network: Network, address: str) -> bool:
    return any(each.network_id == network.id and each.address == address for each in container.networks)


def _reachable(party: Party, other: Party | None = None) -> str:
    """The address by which other hosts reach a party: as it was typed or resolved, else its engine's, else a card's."""
    if party.address:
        return party.address
    engine = party.facts.engine.value
    if engine is not None and engine.swarm.node_address:
        return engine.swarm.node_address
    return outward_address(party.facts, other.facts if other is not None else None)
