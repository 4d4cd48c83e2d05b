"""The places that a flow passes between two ends, from the facts of the hosts at both (design: the hops)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from netdiag.errors import UsageError
from netdiag.model.engine import Container, Network
from netdiag.model.facts import HOST, Facts, Link
from netdiag.model.path import End, PathKind, Place, Side, Stage, Way
from netdiag.swarm.ports import DEFAULT_DATA_PATH_PORT


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two hosts: what it is called, and its facts.

    ``nic`` is the device by which it reaches the other host, ``nic_address`` its address there; empty when there is no
    route, or no other host. ``vtep`` is the address at which its tunnels end, where the other host's tables tell it.
    """

    name: str
    facts: Facts
    nic: str = ""
    nic_address: str = ""
    vtep: str = ""


def overlay_way(
    source: tuple[Host, Container],
    destination: tuple[Host, Container],
    network: Network,
    *,
    protocol: str,
    port: int | None,
    same_host: bool,
) -> Way:
    """The way between two containers of one overlay network. Raises UsageError when one of them is not attached."""
    ends = (_container_end(*source, network.id), _container_end(*destination, network.id))
    flow = Flow(ends[0].address, ends[1].address, port)
    vxlan_port = _vxlan_port(source[0].facts) or _vxlan_port(destination[0].facts) or DEFAULT_DATA_PATH_PORT
    first = near(source[0], ends[0], Side.SOURCE, flow)
    last = tuple(reversed(near(destination[0], ends[1], Side.DESTINATION, flow)))
    middle: list[Place] = []
    if not same_host:
        middle += _tunnel(source[0], network, Side.SOURCE, flow)
        middle += _nic(source[0], Side.SOURCE, flow, vxlan_port)
        middle += _nic(destination[0], Side.DESTINATION, flow, vxlan_port)
        middle += _tunnel(destination[0], network, Side.DESTINATION, flow)
    return Way(
        kind=PathKind.OVERLAY_LOCAL if same_host else PathKind.OVERLAY,
        source=_with_host(ends[0], source[0], network),
        destination=_with_host(ends[1], destination[0], network),
        protocol=protocol,
        port=port,
        places=(*first, *middle, *last),
        vnis=network.vnis,
        vxlan_port=None if same_host else vxlan_port,
    )


def overlay_half(
    own: tuple[Host, Container], away: End, network: Network, side: Side, *, protocol: str, port: int | None
) -> Way:
    """What one of the two hosts knows of the way between containers of an overlay network: its own places.

    Args:
        own: This host, and its container.
        away: The other end, as far as this host knows it.
        network: The network, as this host's engine knows it.
        side: Which end is this host's.
        protocol: Of the flow.
        port: That is called.

    Raises UsageError when the container is not attached.
    """
    host, container = own
    end = _with_host(_container_end(host, container, network.id), host, network)
    begin, last = (end, away) if side is Side.SOURCE else (away, end)
    flow = Flow(begin.address, last.address, port)
    vxlan_port = _vxlan_port(host.facts) or DEFAULT_DATA_PATH_PORT
    places = (
        *near(host, end, side, flow),
        *_tunnel(host, network, side, flow),
        *_nic(host, side, flow, vxlan_port),
    )
    return Way(
        kind=PathKind.OVERLAY,
        source=begin,
        destination=last,
        protocol=protocol,
        port=port,
        places=places if side is Side.SOURCE else places[::-1],
        vnis=network.vnis,
        vxlan_port=vxlan_port,
    )


def bridge_way(
    host: Host, source: Container, destination: Container, network: Network, *, protocol: str, port: int | None
) -> Way:
    """The way between two containers of one bridge network of one host."""
    ends = (_container_end(host, source, network.id), _container_end(host, destination, network.id))
    flow = Flow(ends[0].address, ends[1].address, port)
    last = reversed(near(host, ends[1], Side.DESTINATION, flow))
    places = (*near(host, ends[0], Side.SOURCE, flow), *last)
    return Way(kind=PathKind.BRIDGE, source=ends[0], destination=ends[1], protocol=protocol, port=port, places=places)


def shared_networks(one: Container, other: Container, facts: Facts) -> tuple[Network, ...]:
    """The networks that two containers have in common, overlays first, as one host's engine knows them."""
    engine = facts.engine.value
    ids = {each.network_id for each in one.networks} & {each.network_id for each in other.networks}
    found = [network for network in (engine.networks if engine is not None else ()) if network.id in ids]
    return tuple(sorted(found, key=lambda network: network.driver != "overlay"))


class Flow(msgspec.Struct, frozen=True):
    """Who asks whom, as a place sees it."""

    a: str
    b: str
    port: int | None

    def at(self, side: Side, stage: Stage, namespace: str, device: str, where: str) -> Place:
        """A place that sees it so, in the clear."""
        return Place(
            side=side, stage=stage, namespace=namespace, device=device, a=self.a, b=self.b, port=self.port, where=where
        )


def _container_end(host: Host, container: Container, network_id: str) -> End:
    attached = next((each for each in container.networks if each.network_id == network_id), None)
    if attached is None or not attached.address:
        raise UsageError(f"{container.name} on {host.name} has no address in that network")
    namespace = namespace_of(host.facts, container)
    address = attached.address.partition("/")[0]
    rows = (host.facts.addresses.value or {}).get(namespace, ())
    device = next((row.device for row in rows if row.cidr.partition("/")[0] == address), "")
    return End(
        host=host.name,
        container=container.name,
        namespace=namespace,
        address=address,
        device=device,
        network=attached.network,
    )


def namespace_of(facts: Facts, container: Container) -> str:
    """The id of a container's network namespace."""
    for namespace in (facts.namespaces.value or {}).values():
        if (container.id and namespace.owner_id == container.id) or (
            container.pid is not None and container.pid in namespace.pids
        ):
            return namespace.id
    return f"container:{container.name}"


def _with_host(end: End, host: Host, network: Network) -> End:
    """The end with its host's tunnel address: as the peers' tables have it, else as the engines say."""
    if host.vtep:
        return msgspec.structs.replace(end, host_address=host.vtep)
    known = next((task.host_address for task in network.tasks if task.address.partition("/")[0] == end.address), "")
    engine = host.facts.engine.value
    own = engine.swarm.node_address if engine is not None else ""
    return msgspec.structs.replace(end, host_address=known or own or host.nic_address)


def near(host: Host, end: End, side: Side, flow: Flow) -> tuple[Place, ...]:
    """The places next to a container: its own device, and the port that its veth ends in."""
    places = []
    if end.device:
        where = f"{end.device} of {end.label()}"
        places.append(flow.at(side, Stage.END, end.namespace, end.device, where))
    pair = pair_of(host.facts, end)
    if pair is not None:
        namespace, link = pair
        owner = f"{namespace} on {host.name}" if namespace != HOST else host.name
        places.append(flow.at(side, Stage.PORT, namespace, link.name, f"{link.name} of {owner}"))
    return tuple(places)


def pair_of(facts: Facts, end: End) -> tuple[str, Link] | None:
    """The other half of a container's veth: each half has the other's index."""
    links: Mapping[str, tuple[Link, ...]] = facts.links.value or {}
    own = next((link for link in links.get(end.namespace, ()) if link.name == end.device), None)
    if own is None or own.peer_index is None:
        return None
    found = [
        (namespace, link)
        for namespace, each in links.items()
        for link in each
        if link.index == own.peer_index and link.peer_index == own.index and namespace != end.namespace
    ]
    # Indexes repeat in every namespace; only the right one is a port of a bridge, as a rule.
    ports = [pair for pair in found if pair[1].master is not None]
    preferred = [[pair for pair in ports if pair[0] == name] for name in (f"overlay:{end.network}", HOST)]
    chosen = preferred[0] or preferred[1] or ports or found
    return chosen[0] if chosen else None


def _tunnel(host: Host, network: Network, side: Side, flow: Flow) -> list[Place]:
    namespace = f"overlay:{network.name}"
    for link in (host.facts.links.value or {}).get(namespace, ()):
        if link.kind == "vxlan" and link.vxlan is not None and (not network.vnis or link.vxlan.vni in network.vnis):
            where = f"{link.name} of {namespace} on {host.name}"
            return [flow.at(side, Stage.TUNNEL, namespace, link.name, where)]
    return []


def _nic(host: Host, side: Side, flow: Flow, vxlan_port: int) -> list[Place]:
    if not host.nic:
        return []
    place = flow.at(side, Stage.NIC, HOST, host.nic, f"{host.nic} of {host.name}")
    return [msgspec.structs.replace(place, vxlan_port=vxlan_port)]


def _vxlan_port(facts: Facts) -> int | None:
    for namespace, links in (facts.links.value or {}).items():
        if namespace.startswith("overlay:"):
            for link in links:
                if link.vxlan is not None:
                    return link.vxlan.port
    return None
