"""The rules of a host's facts for ``firewall show`` and ``lint``, and what such a host has to let in."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.facts.explain_host import host_of
from netdiag.firewall.engine_view import EngineView
from netdiag.firewall.lint_asking import is_uplink
from netdiag.firewall.lint_context import Need
from netdiag.firewall.standing import Standing, of_listed
from netdiag.model.engine import Engine, SwarmMembership, SwarmState
from netdiag.model.facts import HOST, Facts
from netdiag.swarm.ports import Listener, Plane, Protocol, ports_of_swarm

SECTIONS = ("identity", "kernel", "namespaces", "links", "addresses", "firewall", "engine", "sockets", "calico", "bird")
"""The facts that are needed."""
_BGP, _ETCD = 179, 2379


def standing_of(facts: Facts, namespace: str) -> Standing:
    """The rules of one namespace."""
    absent = facts.firewall.partial.get(namespace) or facts.firewall.absent
    listed = (facts.firewall.value or {}).get(namespace)
    unknown = [f"the rules could not be read: {absent.text}"] if absent is not None else []
    if listed is None and absent is None:
        unknown.append(f"the rules of {namespace} are not among the facts")
    return of_listed(listed or (), host=host_of(facts, namespace), facts=facts, namespace=namespace, unknown=unknown)


def needs_of(facts: Facts | None, namespace: str = HOST) -> tuple[Need, ...]:
    """What has to come in: what is known to be meant, or what rules may be written for where nothing is known."""
    if namespace != HOST:
        return ()
    if facts is None:
        return tuple(_by_ports())
    engine = facts.engine.value
    active = engine is not None and engine.swarm.state is SwarmState.ACTIVE
    swarm = tuple(_of_swarm(facts, engine)) if engine is not None and active else ()
    meant = (*swarm, *_of_calico(facts))
    named = {each.label for each in meant}
    # What this host is not known to be there for may be written all the same, before it joins.
    return (*meant, *(each for each in _by_ports() if each.label not in named and not (active and each.only_there)))


def _by_ports() -> Iterator[Need]:
    for use in ports_of_swarm():
        yield Need(label=use.label(), protocol=use.protocol.value, port=use.port, purpose=use.purpose, only_there=True)
    yield Need(label=f"tcp/{_BGP}", protocol="tcp", port=_BGP, purpose="BGP: routes of the other nodes")
    yield Need(label=f"tcp/{_ETCD}", protocol="tcp", port=_ETCD, purpose="etcd: its clients")


def _of_swarm(facts: Facts, engine: Engine) -> Iterator[Need]:
    swarm = engine.swarm
    if ":" in swarm.node_address:
        return  # only the rules for IPv4 are asked
    device = _device_of(facts, swarm.node_address)
    peers = _peers(engine, swarm)
    # Another address may have been given for the data path (--data-path-addr), which nothing here tells.
    alone = bool(device) and _uplinks(facts) == {device}
    encrypted = any(network.encrypted for network in engine.networks)
    for use in ports_of_swarm(data_path_port=swarm.data_path_port or 0, encrypted=encrypted):
        if use.listener is Listener.MANAGERS and not swarm.is_manager:
            continue
        known = use.plane is not Plane.DATA or alone
        yield Need(
            label=use.label(),
            protocol="50" if use.protocol is Protocol.ESP else use.protocol.value,
            port=use.port,
            purpose=use.purpose,
            meant=True,
            peers=peers if known else (),
            device=device if known else "",
            destination=swarm.node_address if device and known else "",
            only_there=use.port is not None,
        )


def _peers(engine: Engine, swarm: SwarmMembership) -> tuple[str, ...]:
    found = [address.rpartition(":")[0] for address in swarm.remote_managers]
    found += [peer.address for network in engine.networks for peer in network.peers]
    found += [node.address for node in engine.cluster.nodes if node.state == "ready"] if engine.cluster else []
    own = {swarm.node_address, "", "0.0.0.0", "127.0.0.1"}  # noqa: S104 - what a node without an address is listed as
    return tuple(dict.fromkeys(each for each in found if each not in own and ":" not in each))


def _device_of(facts: Facts, address: str) -> str:
    known = (facts.addresses.value or {}).get(HOST, ())
    return next((each.device for each in known if address and each.cidr.partition("/")[0] == address), "")


def _uplinks(facts: Facts) -> set[str]:
    """The devices with an IPv4 address by which other hosts may be reached."""
    view = EngineView(facts.engine.value)
    known = (facts.addresses.value or {}).get(HOST, ())
    return {each.device for each in known if ":" not in each.cidr and is_uplink(each.device, view)}


def _of_calico(facts: Facts) -> Iterator[Need]:
    bird = facts.bird.value
    if bird is None or not any(each.protocol == "BGP" for each in bird.protocols):
        return
    yield Need(label=f"tcp/{_BGP}", protocol="tcp", port=_BGP, purpose="BGP: routes of the other nodes", meant=True)
    links = (facts.links.value or {}).get(HOST, ())
    if any(link.kind == "ipip" and link.up for link in links):
        yield Need(
            label="IP protocol 4 (IP in IP)", protocol="4", port=None, purpose="traffic between containers", meant=True
        )
    for link in links:
        if link.vxlan is not None and link.name.startswith("vxlan.calico"):
            port = link.vxlan.port
            yield Need(label=f"udp/{port}", protocol="udp", port=port, purpose="traffic between containers", meant=True)
