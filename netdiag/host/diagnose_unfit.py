"""Ends that are no two ends of a way: one and the same, out of each other's reach, or nobody."""

from __future__ import annotations

import msgspec

from netdiag.errors import UsageError
from netdiag.host.diagnose_ends import Meant
from netdiag.host.diagnose_legs import Flow, planned_way, reachable
from netdiag.host.diagnose_parties import Party, Planned
from netdiag.model.engine import Container, Network
from netdiag.model.path import End, PathKind, Side
from netdiag.model.report import Cause
from netdiag.path.ingress import ingress_service
from netdiag.path.names import Typed, is_address
from netdiag.path.routed import Attachment, Leg, publishes, routed_way
from netdiag.path.told import itself_found
from netdiag.path.unfit import detached_cause, no_way, unfit_found, wanted_network
from netdiag.path.ways import Host

_OWN_CARDS = ("macvlan", "ipvlan")
"""Drivers whose containers send and receive by a card of the host's, past its stack."""


def not_attached(source: tuple[Party, Container], destination: tuple[Party, Container]) -> Cause | None:
    """Which of two containers with no network in common is not in the other's.

    None where neither is in one of its own, or where one is in a network of another kind, which may be routed.
    """
    if any(own_card(party, container, "") is not None for party, container in (source, destination)):
        return None
    for (party, container), (other, lacking) in ((source, destination), (destination, source)):
        engine = party.facts.engine.value
        network = wanted_network(container, engine.networks if engine is not None else ())
        if network:
            return detached_cause(other.name, lacking, network, f"{container.name} on {party.name}")
    return None


def unfit(
    source: tuple[Party, Container | None],
    destination: tuple[Party, Container | None],
    one: Cause,
    flow: Flow,
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


def own_card(party: Party, container: Container, address: str) -> tuple[str, str, str] | None:
    """A container's address, network and driver where it has a card of its own on a network of its host's."""
    engine = party.facts.engine.value
    drivers = {network.id: network.driver for network in (engine.networks if engine is not None else ())}
    for each in container.networks:
        driver = drivers.get(each.network_id, "")
        if driver in _OWN_CARDS and each.address and address in ("", each.address):
            return each.address, each.network, driver
    return None


def nobody(source: tuple[Party, Container | None], meant: Meant, flow: Flow, typed: Typed) -> Planned:
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


def within(party: Party, container: Container, typed: str, flow: Flow) -> Planned:
    """From a container to itself, by its loopback device."""
    if flow.port is None:
        raise UsageError(f"{typed} inside {container.name} is {container.name} itself: say which port")
    address = typed if is_address(typed) else "127.0.0.1"
    host = Host(name=party.name, facts=party.facts)
    leg = Leg.of(host, container, Attachment(device="lo", address=address))
    way = routed_way(PathKind.ITSELF, leg, leg, protocol=flow.protocol, port=flow.port)
    told = itself_found(way.source, typed)
    return msgspec.structs.replace(planned_way(way, party, party), told=(told,))


def refuse_same(source: Typed, destination: Typed, first: Party, begin: Container | None, meant: Meant) -> None:
    """Raise UsageError where the two ends are one, and nothing lies between them."""
    if meant.party is not first or meant.itself:
        return
    if begin is not None and meant.container is not None and begin.id == meant.container.id:
        raise UsageError(f"{source.text} and {destination.text} are the same container: {begin.name} on {first.name}")
    if begin is None and meant.container is None:
        port, protocol = destination.port, destination.protocol
        called = meant.address or reachable(first)
        if (
            publishes(first.facts, port, protocol, called) is None
            and ingress_service((first.facts,), port, protocol) is None
        ):
            raise UsageError(
                f"{source.text} and {destination.text} are the same host, and it publishes no such port: ss -lntup lists"
                " who listens"
            )
