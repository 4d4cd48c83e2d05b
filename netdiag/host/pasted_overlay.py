"""One side's half of the way between two containers of an overlay network, from what this host's engine alone knows.

Both operators type the same two ends. A host's engine knows its own containers. Of an overlay network that one of them is
in, its name server knows all names, which gossip tells; it lists them with their hosts where it may be asked
(`netdiag.swarm.engine_rules.may_poll_networkdb`), and a manager lists tasks and nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.name_lookup import gather_name
from netdiag.facts.rounds import together
from netdiag.facts.route_lookup import gather_lookup
from netdiag.host.diagnose_legs import arrives_by
from netdiag.host.diagnose_parties import Party, has_address, netns_of
from netdiag.host.drive import drive
from netdiag.model.engine import Container, Network
from netdiag.model.path import End, Side, Way
from netdiag.path.ends import address_of, find_service, find_task, is_in, node_address, task_label, tasks_on
from netdiag.path.entries import host_behind
from netdiag.path.half_entries import ends_tunnels, other_end
from netdiag.path.names import Typed, find_container, is_address, is_host, shares_host, unknown_name
from netdiag.path.routed import networks_of
from netdiag.path.ways import Host, namespace_of, overlay_half

Resolve = Callable[[Party, Typed], str]
"""The address that a host has for a name. Raises UsageError."""


class _Away(msgspec.Struct, frozen=True, kw_only=True):
    """The other end: its network, where the overlay's tables put it, and whether this host's engine knows of it."""

    network: Network
    end: End
    behind: str
    heard: bool = False


class OverlayHalf(msgspec.Struct, frozen=True, kw_only=True):
    """This host's part: its side, the way as far as it is known here, and the network.

    ``away`` is what the other host is called; ``heard``: this host's engine knows of the other container.
    """

    side: Side
    way: Way
    network: Network
    away: str
    heard: bool


def overlay_plan(here: Party, source: Typed, destination: Typed, resolve: Resolve) -> OverlayHalf | None:
    """This host's part where the ends are containers of one overlay network; None where neither end is a container.

    Raises UsageError, one line, for ends that are containers and no flow that could be watched so.
    """
    ends = {Side.SOURCE: source, Side.DESTINATION: destination}
    own = {side: _own_container(here, typed, side) for side, typed in ends.items()}
    mine = {side: container for side, container in own.items() if container is not None}
    if not mine:
        typed = next((each for each in ends.values() if each.host), None)
        if typed is None:
            return None
        raise UsageError(
            f"neither {source.text} nor {destination.text} is a container of this host ({here.name}): with --code both ends"
            " are containers of one overlay network, on two hosts, or both are hosts; run it on those"
        )
    if len(mine) > 1:
        raise UsageError(
            f"{source.text} and {destination.text} are both on this host: diagnose without --code; where another host has"
            " one of that name, write HOST/CONTAINER"
        )
    ((side, container),) = mine.items()
    _check_attached(here, ends[side], container)
    other = ends[Side.DESTINATION if side is Side.SOURCE else Side.SOURCE]
    away = _other_end(here, container, other, resolve)
    network, found = away.network, away.end
    if network.encrypted:
        raise UsageError(
            f"{network.name} is encrypted: what its hosts send each other cannot be known again between them;"
            " diagnose with --via ssh"
        )
    host = _host(here, container, network, found.host_address)
    way = overlay_half(
        (host, container),
        found,
        network,
        side,
        protocol=destination.protocol if destination.port is not None else "icmp",
        port=destination.port,
    )
    return OverlayHalf(side=side, way=way, network=network, away=found.host, heard=away.heard)


def unlisted(plan: OverlayHalf, host: str) -> str:
    """Why nothing can be said of this host's entries for the other container; empty where its engine knows it."""
    if plan.heard:
        return ""
    target = other_end(plan.way, plan.side)
    return f"the engine of {host} has not heard of {target.address} (gossip: tcp and udp 7946)"


def _own_container(here: Party, typed: Typed, side: Side) -> Container | None:
    if typed.host:
        if not is_host(here.facts, typed.host):
            return None
        found = find_container(here.facts, typed.name)
        if found is None:
            raise unknown_name(typed.name, side.value.upper(), [here.facts])
        return found
    if is_host(here.facts, typed.name):
        return None
    return find_container(here.facts, typed.name)


def _check_attached(here: Party, typed: Typed, container: Container) -> None:
    """Raise UsageError where a container of this host is on no overlay network, or none is known."""
    silent = here.facts.engine.absent
    if silent is not None:
        raise UsageError(
            f"{typed.text}: which networks it is in is not known, as the engine could not be asked: {silent.text}"
        )
    if not container.running:
        raise UsageError(f"{container.name} on {here.name} does not run ({container.state or 'stopped'})")
    if shares_host(container):
        raise UsageError(f"{container.name} on {here.name} shares its host's network: name the host instead")
    if not _overlays(here, container):
        raise UsageError(
            f"{container.name} on {here.name} is in no overlay network: with --code the ends are hosts, by name or"
            " address, and such a container is meant by the port that its host publishes"
        )


def _overlays(here: Party, container: Container) -> list[Network]:
    return [each for each in networks_of(here.facts, container) if each.driver == "overlay" and not each.ingress]


def _other_end(here: Party, own: Container, typed: Typed, resolve: Resolve) -> _Away:
    """The other end as this host knows it. Raises UsageError where nothing here tells what or where it is."""
    networks = _overlays(here, own)
    addresses = _listed(here, own, typed)
    named = not is_address(typed.name)
    if named and not addresses:
        addresses = _looked_up(here, own, typed.name)
    heard = bool(addresses)
    host_address = _host_address(here, typed, resolve)
    found = [
        _at(here, typed, network, address, host_address)
        for address in addresses or ((typed.name,) if not named else ())
        for network in networks
        if is_in(network, address)
    ]
    if len(found) > 1 and host_address:
        found = [each for each in found if each.behind in ("", host_address)] or found
    if len(found) > 1:
        labels = ", ".join(sorted(f"{each.end.container} ({each.end.address})" for each in found)[:6])
        raise UsageError(f"{typed.text}: that fits {labels}: give one's address instead, the same on both hosts")
    if not found:
        names = ", ".join(network.name for network in networks)
        raise UsageError(
            f"{typed.text}: nobody in {names} is called so, as far as {here.name} has heard from gossip (tcp and udp 7946):"
            " write it on both hosts as HOST/ADDRESS, with its address in the network (docker inspect on its host)"
        )
    if not found[0].end.host_address:
        raise UsageError(
            f"{typed.text}: on which host it is, {here.name} has not heard: write HOST/{typed.name} on both hosts, with a"
            " name or address of that host"
        )
    return msgspec.structs.replace(found[0], heard=heard)


def _at(here: Party, typed: Typed, network: Network, address: str, host_address: str) -> _Away:
    """An address of a network, with the host that it is on: where the engine lists it, as was typed, or by the tables."""
    behind = host_behind(here.facts, address)
    gossip = next((each for each in network.tasks if address_of(each) == address), None)
    listed = next((each for each in tasks_on([here.facts], network) if address_of(each) == address), None)
    said = host_address or (listed.host_address if listed is not None else "") or _only_peer(here, network)
    # The data path may have a network of its own, which only the tables tell.
    where = gossip.host_address if gossip is not None else said if ends_tunnels(here.facts, said) else behind or said
    label = task_label(listed) if listed is not None else typed.name
    end = End(
        host=typed.host or where,
        container=label,
        namespace=f"container:{label}",
        address=address,
        host_address=where,
        network=network.name,
    )
    return _Away(network=network, end=end, behind=behind)


def _only_peer(here: Party, network: Network) -> str:
    """The other host that takes part in a network, where gossip knows of one only: who is not here is there."""
    others = {peer.address for peer in network.peers if not has_address(here.facts, peer.address)}
    return others.pop() if len(others) == 1 else ""


def _listed(here: Party, own: Container, typed: Typed) -> tuple[str, ...]:
    """The addresses that an end may mean, where this host's engine lists endpoints or tasks."""
    service = find_service([here.facts], own, typed.name)
    if service is not None and service.tasks:
        return tuple(address_of(each) for each in service.tasks)
    task = find_task([here.facts], own, typed.name)
    return (address_of(task),) if task is not None else ()


def _looked_up(here: Party, own: Container, name: str) -> tuple[str, ...]:
    """The same from the engine's name server, which has it from gossip: of a service the tasks, not the virtual IP."""
    if own.pid is None:
        return ()
    netns = netns_of(here.facts, namespace_of(here.facts, own))
    asked = [gather_name(each, pid=own.pid, netns=netns) for each in (f"tasks.{name}", name)]
    tasks, itself = drive(together(asked), here.carrier)
    found: tuple[str, ...] = tasks.addresses or itself.addresses
    return found


def _host_address(here: Party, typed: Typed, resolve: Resolve) -> str:
    """The address of the host that was typed; empty where none was, or nothing here knows it."""
    if not typed.host or is_address(typed.host):
        return typed.host
    try:
        return node_address([here.facts], typed.host) or resolve(here, msgspec.structs.replace(typed, name=typed.host))
    except UsageError:
        return ""


def _host(here: Party, container: Container, network: Network, towards: str) -> Host:
    """This host, with the card by which what comes from the other host's tunnel arrives, and where its own ends."""
    route = drive(gather_lookup(towards), here.carrier).route
    if route.absent is not None:
        raise UsageError(f"{here.name} has no route to {towards}: {route.absent.text}")
    addresses = {each.address.partition("/")[0] for each in container.networks if each.network_id == network.id}
    own = next((task.host_address for task in network.tasks if address_of(task) in addresses), "")
    nic = (arrives_by(here, own, "", towards) if own else "") or route.device
    return Host(name=here.name, facts=here.facts, nic=nic, nic_address=route.source, vtep=own)
