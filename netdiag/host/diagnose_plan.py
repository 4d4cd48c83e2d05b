"""Which way a flow takes between two ends that are known: what carries it, and by which devices it passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Options
from netdiag.host.diagnose_ends import Ends, Meant
from netdiag.host.diagnose_legs import (
    Flow,
    NoRoute,
    gateway_of,
    hosts_of,
    leads_to,
    leg_towards,
    planned_way,
    published_at,
    reachable,
    route_of,
)
from netdiag.host.diagnose_parties import Open, Parties, Party, Planned, has_address
from netdiag.host.diagnose_unfit import nobody, not_attached, own_card, refuse_same, unfit, within
from netdiag.host.drive import Carrier
from netdiag.model.engine import Container, Network, OverlayTask
from netdiag.model.path import PathKind, Side
from netdiag.model.report import Confidence
from netdiag.path.ends import Service, address_of, balancer_address, first_choice, other_hosts
from netdiag.path.ingress import SANDBOX, Ingress, ingress_attachment, ingress_service
from netdiag.path.names import Typed, find_container, is_loopback
from netdiag.path.published import elsewhere_cause
from netdiag.path.routed import Attachment, Leg, Published, attachments, published_for, publishes, routed_way
from netdiag.path.told import apart_found
from netdiag.path.unfit import state_cause
from netdiag.path.vteps import vtep_of
from netdiag.path.ways import Host, bridge_way, overlay_way, shared_networks

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
        flow = Flow(_protocol(destination), destination.port)
        if begin is not None and not begin.running:
            # What its destination's name means to a container that does not run, nobody can say.
            return unfit((first, begin), (first, None), state_cause(first.name, begin), flow, destination.text)
        meant = self._ends.destination(first, begin, destination)
        meant = msgspec.structs.replace(meant, told=(*said, *meant.told))
        if meant.party is None and meant.service is None and not meant.address:
            return nobody((first, begin), meant, flow, destination)
        if meant.party is not None and meant.container is not None and not meant.container.running:
            one = state_cause(meant.party.name, meant.container)
            return unfit((first, begin), (meant.party, meant.container), one, flow, destination.text)
        if meant.service is not None and begin is not None:
            hosts = [each.host_address for each in meant.service.tasks]
            own = next((each for each in hosts if has_address(first.facts, each)), "")
            task = first_choice(meant.service.tasks, own)
            planned = self._to_task(first, begin, meant.service, task, flow)
        elif meant.itself and begin is not None:
            planned = within(first, begin, meant.address, flow)
        else:
            refuse_same(source, destination, first, begin, meant)
            try:
                planned = self._between(first, begin, meant, flow, destination)
            except NoRoute as error:
                astray = error.cause()
                if astray is None:
                    raise
                last = meant.party or first
                planned = unfit((first, begin), (last, meant.container), astray, flow, destination.text)
        others = meant.others if meant.service is None else ()
        return msgspec.structs.replace(planned, service=meant.service, others=others, told=(*meant.told, *planned.told))

    def towards(self, planned: Planned, task: OverlayTask) -> Planned:
        """The same flow, to another task of its service."""
        first = planned.parties[Side.SOURCE]
        begin = find_container(first.facts, planned.way.source.container)
        if begin is None or planned.service is None:
            return planned
        found = self._to_task(first, begin, planned.service, task, Flow(planned.way.protocol, planned.way.port))
        return msgspec.structs.replace(found, service=planned.service, told=planned.told)

    # --- containers ---

    def _to_task(self, first: Party, begin: Container, service: Service, task: OverlayTask, flow: Flow) -> Planned:
        party, container = self._ends.behind(task)
        if container.id == begin.id:
            others = [each for each in service.tasks if address_of(each) != address_of(task)]
            if not others:
                raise UsageError(f"the only task of {service.name} is the source itself: {begin.name}")
            return self._to_task(first, begin, service, others[0], flow)
        planned = self._overlay(first, begin, party, container, service.network, flow)
        balancer = balancer_address(first.facts, service.network) if service.virtual_address else ""
        return msgspec.structs.replace(planned, way=msgspec.structs.replace(planned.way, balancer=balancer))

    def _between(self, first: Party, begin: Container | None, meant: Meant, flow: Flow, typed: Typed) -> Planned:
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
        return planned_way(way, first, last, network)

    def _apart(
        self,
        first: Party,
        begin: Container | None,
        destination: tuple[Party, Container],
        meant: Meant,
        flow: Flow,
        typed: Typed,
    ) -> Planned:
        """To a container with which the source has no network in common."""
        last, end = destination
        card = own_card(last, end, meant.address)
        if card is not None:
            planned = self._outwards(first, begin, card[0], flow, f"{end.name} on {last.name}")
            return msgspec.structs.replace(planned, told=(apart_found(last.name, end, *card[1:]),))
        # Nobody typed the published port: it stands in for a container that is pointed at, not for a name or an address.
        bare = meant.nameless or meant.address
        published = None if bare else published_for(last.facts, end, flow.port, flow.protocol)
        local = published is not None and is_loopback(published.address)
        if published is not None and not local and (begin is not None or first is not last):
            called = published.address or reachable(last, first)
            return self._published(first, begin, last, published, called, Flow(published.protocol, published.port))
        apart = None if begin is None or meant.address else not_attached((first, begin), (last, end))
        if published is not None and local and first is not last:
            # A port of another host's loopback address is nobody's here; the container's own address may be routed.
            apart = elsewhere_cause(last.name, published, first.name, confidence=Confidence.PROVEN)
        elif begin is None or apart is None:
            return self._to_container(first, begin, last, end, flow, meant.address)
        if first is not last:
            # Bridges of one host are kept apart by its engine; behind another host a route may lead there.
            with contextlib.suppress(UsageError):
                return self._to_container(first, begin, last, end, flow)
        return unfit((first, begin), (last, end), apart, flow, typed.text)

    def _overlay(
        self, first: Party, begin: Container, last: Party, end: Container, network: Network, flow: Flow
    ) -> Planned:
        there = vtep_of(last.facts, first.facts, network=network.name)
        origin = vtep_of(first.facts, last.facts, network=network.name)
        hosts = hosts_of(first, last, towards=there, origin=origin)
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
        return planned_way(way, first, last, network)

    def _to_container(
        self, first: Party, begin: Container | None, last: Party, end: Container, flow: Flow, address: str = ""
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
            source = leg_towards(first, begin, at.address, Host(name=first.name, facts=first.facts))
            return planned_way(routed_way(kind, source, leg, protocol=flow.protocol, port=flow.port), first, last)
        route = route_of(first, at.address)
        if route.absent is not None or not leads_to(route, last):
            raise UsageError(
                f"{first.name} has no route to {at.address} of {end.name} that leads to {last.name}, and they have no"
                " network in common that spans their hosts"
            )
        hosts = hosts_of(first, last, towards=at.address)
        source = leg_towards(first, begin, at.address, hosts[Side.SOURCE])
        leg = msgspec.structs.replace(leg, host=hosts[Side.DESTINATION])
        return planned_way(
            routed_way(PathKind.ROUTED, source, leg, protocol=flow.protocol, port=flow.port), first, last
        )

    # --- hosts ---

    def _to_host(self, first: Party, begin: Container | None, last: Party, address: str, flow: Flow) -> Planned:
        called = address or reachable(last, first)
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
            own = called if address or begin is None else gateway_of(first, begin) or called
            source = leg_towards(first, begin, own, host)
            way = routed_way(
                PathKind.TO_OWN_HOST, source, Leg(host=host, address=own), protocol=flow.protocol, port=flow.port
            )
            return planned_way(way, first, last)
        hosts = hosts_of(first, last, towards=called)
        end = Leg(host=hosts[Side.DESTINATION], address=called)
        source = leg_towards(first, begin, called, hosts[Side.SOURCE])
        kind = PathKind.HOST if begin is None else PathKind.ROUTED
        return planned_way(routed_way(kind, source, end, protocol=flow.protocol, port=flow.port), first, last)

    def _published(
        self,
        first: Party,
        begin: Container | None,
        last: Party,
        published: Published | tuple[Ingress, Attachment],
        called: str,
        flow: Flow,
    ) -> Planned:
        """To a port of a host, and on to the container behind it, or into the routing mesh."""
        if first is last:
            host = Host(name=first.name, facts=first.facts)
            hosts = {Side.SOURCE: host, Side.DESTINATION: host}
        else:
            hosts = hosts_of(first, last, towards=called)
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
            leg_towards(first, begin, called, hosts[Side.SOURCE]),
            leg,
            protocol=flow.protocol,
            port=flow.port,
            called=called,
            inner_port=inner_port,
        )
        return planned_way(way, first, last)

    def _outwards(self, first: Party, begin: Container | None, address: str, flow: Flow, name: str) -> Planned:
        """To somebody who takes no part: only this side is seen."""
        route = route_of(first, address)
        host = Host(name=first.name, facts=first.facts, nic=route.device, nic_address=route.source)
        kind = PathKind.ROUTED if begin is not None else PathKind.HOST
        way = routed_way(
            kind,
            leg_towards(first, begin, address, host),
            Leg(host=None, address=address),
            protocol=flow.protocol,
            port=flow.port,
            name=name,
        )
        networks: dict[Side, Network | None] = {Side.SOURCE: None, Side.DESTINATION: None}
        return Planned(way=way, parties={Side.SOURCE: first}, networks=networks)


def _shared(source: tuple[Party, Container], destination: tuple[Party, Container], address: str) -> Network | None:
    """The network that carries a flow from one container to the other: the address's, where one is called."""
    (first, begin), (last, end) = source, destination
    shared = shared_networks(begin, end, first.facts)
    spanning = [network for network in shared if first is last or network.driver == "overlay"]
    if address:
        spanning = [network for network in spanning if _has(end, network, address)]
    return spanning[0] if spanning else None


def _protocol(typed: Typed) -> str:
    return typed.protocol if typed.port is not None else "icmp"


def _has(container: Container, network: Network, address: str) -> bool:
    return any(each.network_id == network.id and each.address == address for each in container.networks)
