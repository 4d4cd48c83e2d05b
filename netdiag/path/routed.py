"""Ways through the hosts' own stacks: host to host, published ports, a container and its own host, a container outwards."""

from __future__ import annotations

import ipaddress

import msgspec

from netdiag.model.engine import Container, Network
from netdiag.model.facts import HOST, Facts
from netdiag.model.path import End, PathKind, Place, Side, Stage, Way
from netdiag.path.names import is_loopback
from netdiag.path.ways import Flow, Host, namespace_of, near, pair_of


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a container hangs on its host's own stack: its device and address, the bridge, and the bridge's address."""

    device: str
    address: str
    bridge: str = ""
    gateway: str = ""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A port that an engine publishes: ``address`` is empty where every address of the host is meant."""

    container: Container
    address: str
    port: int
    inner_port: int
    protocol: str


def attachments(facts: Facts, container: Container) -> tuple[Attachment, ...]:
    """The devices of a container whose other halves are in the host's namespace, in the order of their names."""
    namespace = namespace_of(facts, container)
    found = []
    for row in (facts.addresses.value or {}).get(namespace, ()):
        address = row.cidr.partition("/")[0]
        end = End(host="", container=container.name, namespace=namespace, address=address, device=row.device)
        pair = pair_of(facts, end)
        if pair is None or pair[0] != HOST:
            continue
        links = (facts.links.value or {}).get(HOST, ())
        bridge = next((link.name for link in links if link.index == pair[1].master), "")
        six = ":" in address
        gateway = next(
            (
                own.cidr.partition("/")[0]
                for own in (facts.addresses.value or {}).get(HOST, ())
                if own.device == bridge and (":" in own.cidr) == six and own.scope == "global"
            ),
            "",
        )
        found.append(Attachment(device=row.device, address=address, bridge=bridge, gateway=gateway))
    return tuple(sorted(found, key=lambda each: (":" in each.address, each.device)))


def published_ports(facts: Facts) -> tuple[Published, ...]:
    """The ports that a host's engine publishes for its running containers."""
    engine = facts.engine.value
    found = []
    for container in engine.containers if engine is not None else ():
        for text in container.ports if container.running else ():
            outside, _, inside = text.partition("->")
            address, _, port = outside.rpartition(":")
            inner, _, protocol = inside.partition("/")
            if not (port.isdigit() and inner.isdigit()):
                continue
            bare = address.strip("[]")
            anywhere = not bare or ipaddress.ip_address(bare).is_unspecified
            found.append(
                Published(
                    container=container,
                    address="" if anywhere else bare,
                    port=int(port),
                    inner_port=int(inner),
                    protocol=protocol,
                )
            )
    return tuple(dict.fromkeys(found))


def publishes(facts: Facts, port: int | None, protocol: str, address: str = "") -> Published | None:
    """What is published at a port, of the address that is called where it matters; None for nothing."""
    for each in published_ports(facts):
        if (each.port, each.protocol) == (port, protocol) and (not address or each.address in ("", address)):
            return each
    return None


def published_for(facts: Facts, container: Container, inner_port: int | None, protocol: str) -> Published | None:
    """As what a container's own port is published; without a port, its first one that is.

    On a loopback address only where it is so on no other.
    """
    found = [
        each
        for each in published_ports(facts)
        if each.container.id == container.id
        and (inner_port is None or (each.inner_port, each.protocol) == (inner_port, protocol))
    ]
    return next((each for each in found if not is_loopback(each.address)), next(iter(found), None))


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a routed flow.

    Attributes:
        host: Its host; None for one that takes no part.
        address: The end's address on this way.
        container: The container's name; empty for the host itself.
        namespace: The container's namespace.
        at: How it hangs on the host; None for the host itself.
    """

    host: Host | None
    address: str
    container: str = ""
    namespace: str = HOST
    at: Attachment | None = None

    @classmethod
    def of(cls, host: Host, container: Container, at: Attachment) -> Leg:
        """A container's."""
        namespace = namespace_of(host.facts, container)
        return cls(host=host, address=at.address, container=container.name, namespace=namespace, at=at)

    def end(self, name: str = "") -> End:
        """The end of the flow on this side; ``name`` is what a host is called that takes no part."""
        if self.host is None:
            return End(host=name or self.address, address=self.address, host_address=self.address)
        if self.at is None:
            return End(host=self.host.name, address=self.address, device=self.host.nic, host_address=self.address)
        return End(
            host=self.host.name,
            container=self.container,
            namespace=self.namespace,
            address=self.address,
            device=self.at.device,
            host_address=self.host.nic_address,
        )


def routed_way(
    kind: PathKind,
    source: Leg,
    destination: Leg,
    *,
    protocol: str,
    port: int | None,
    called: str = "",
    inner_port: int | None = None,
    name: str = "",
) -> Way:
    """The way between two ends by the routing of their hosts.

    Args:
        kind: What carries it.
        source: Its beginning.
        destination: Its end.
        protocol: tcp, udp or icmp.
        port: The port that is called.
        called: The address that is called, where it is not the destination's.
        inner_port: The destination's port, where it is not the one that is called.
        name: What the host is called that takes no part, where there is one.
    """
    begins_at, ends_at = source.host, destination.host
    if begins_at is None and ends_at is None:
        raise ValueError("a flow of which neither host takes part")
    same_host = begins_at is not None and ends_at is not None and ends_at.facts is begins_at.facts
    ends = source.end(name if begins_at is None else ""), destination.end(name)
    outside = Flow(source.address, called or destination.address, port)
    translated = () if source.at is None else (source.address,)
    nic_address = (begins_at.nic_address if begins_at is not None else "") or source.address
    places: list[Place] = []
    if source.at is not None and begins_at is not None:
        places += near(begins_at, ends[0], Side.SOURCE, outside)
    if not same_host:
        # Behind its host a container has the host's address, unless nothing translates it.
        seen = Flow(nic_address, outside.b, port) if translated else outside
        if begins_at is not None:
            places += _nics(begins_at, Side.SOURCE, seen, translated)
        if ends_at is not None:
            places += _nics(ends_at, Side.DESTINATION, seen, translated)
    if ends_at is not None and destination.at is not None:
        flow = Flow(nic_address, destination.address, inner_port or port)
        if _is_relayed(outside.b, destination.address) and destination.at.gateway:
            places += _behind_a_proxy(ends_at, ends[1], destination.at, flow)
        else:
            places += _behind(source, ends_at, ends[1], destination.at, flow, same_host=same_host)
    elif same_host and begins_at is not None and source.at is not None and source.at.bridge:
        places.append(_own_host(begins_at, outside, source.at.bridge))
    return Way(
        kind=kind,
        source=ends[0],
        destination=ends[1],
        protocol=protocol,
        port=port,
        called="" if called == destination.address else called,
        inner_port=None if inner_port == port else inner_port,
        places=tuple(places),
    )


def host_way(source: Host, destination: Host, *, protocol: str, port: int | None) -> Way:
    """The way from one host's own stack to another's."""
    legs = [Leg(host=each, address=each.nic_address) for each in (source, destination)]
    return routed_way(PathKind.HOST, legs[0], legs[1], protocol=protocol, port=port)


def networks_of(facts: Facts, container: Container) -> tuple[Network, ...]:
    """The networks that a container is attached to, as its engine knows them."""
    engine = facts.engine.value
    ids = {each.network_id for each in container.networks}
    return tuple(network for network in (engine.networks if engine is not None else ()) if network.id in ids)


def _nics(host: Host, side: Side, flow: Flow, origins: tuple[str, ...]) -> list[Place]:
    if not host.nic:
        return []
    place = flow.at(side, Stage.NIC, HOST, host.nic, f"{host.nic} of {host.name}")
    return [msgspec.structs.replace(place, origins=tuple(each for each in origins if each != flow.a))]


def _is_relayed(called: str, address: str) -> bool:
    """Whether the engine's proxy makes the call again: nothing translates between families, or what goes to loopback."""
    one, other = ipaddress.ip_address(called.partition("%")[0]), ipaddress.ip_address(address.partition("%")[0])
    return one.version != other.version or (one.is_loopback and not other.is_loopback)


def _behind_a_proxy(host: Host, end: End, at: Attachment, flow: Flow) -> list[Place]:
    """The places next to the container, to which the proxy on its host calls by the bridge's own address."""
    inner = Flow(at.gateway, flow.b, flow.port)
    return [
        msgspec.structs.replace(place, proxy=at.gateway) for place in reversed(near(host, end, Side.DESTINATION, inner))
    ]


def _behind(source: Leg, host: Host, end: End, at: Attachment, flow: Flow, *, same_host: bool) -> list[Place]:
    """The places next to the destination's container, behind its host's forwarding."""
    begins = [source.address] if same_host else [flow.a, source.address]
    if same_host and source.at is None and at.gateway:
        begins.append(at.gateway)  # some bridges translate what their own host sends
    flow = Flow(begins[0], flow.b, flow.port)
    origins = tuple(dict.fromkeys(each for each in begins[1:] if each != begins[0]))
    proxy = at.gateway if at.gateway not in begins else ""
    return [
        msgspec.structs.replace(place, origins=origins, proxy=proxy)
        for place in reversed(near(host, end, Side.DESTINATION, flow))
    ]


def _own_host(host: Host, flow: Flow, bridge: str) -> Place:
    """Where a host's own stack takes what a container sends to it."""
    return flow.at(Side.DESTINATION, Stage.END, HOST, bridge, f"{bridge} of {host.name}")
