"""Who takes part in a diagnosis, and what the two ends mean: hosts are reached, containers found, a way chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Options
from netdiag.facts.route_lookup import gather_lookup
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier, drive
from netdiag.model.engine import Container, Network
from netdiag.model.facts import HOST, Facts
from netdiag.model.path import Side, Way
from netdiag.path.entries import host_behind
from netdiag.path.names import Typed, find_container, is_address, is_host, unknown_name
from netdiag.path.ways import Host, bridge_way, host_way, overlay_way, shared_networks

SECTIONS = ("identity", "kernel", "engine", "namespaces", "links", "addresses", "neighbours", "fdb", "sockets")

Open = Callable[[str], Carrier]
"""Opens the way to a host, given by its name or address as the operator or the engine calls it."""


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """One host that takes part: its name for the operator, how it is asked, and its facts."""

    name: str
    carrier: Any
    facts: Facts


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """The way, who is at its ends, and its network as each of them knows it."""

    way: Way
    parties: dict[Side, Party]
    networks: dict[Side, Network | None]


class Planner:
    """Finds the two ends. Hosts are reached once, when they are first needed."""

    def __init__(
        self, local: Carrier, open_peer: Open, now_s: float, options: Options, progress: Callable[[str], None]
    ) -> None:
        self._local, self._open = local, open_peer
        self._now_s, self._options, self._progress = now_s, options, progress
        self._parties: dict[str, Party] = {}

    def plan(self, source: Typed, destination: Typed) -> Planned:
        """The parties and the way between them."""
        self._progress("reading this host")
        here = self._party("", self._local)
        first = here if not source.host or is_host(here.facts, source.host) else self._peer(source.host)
        begin = self._container(first, source, "SOURCE")
        last, end = self._destination(first, destination)
        parties = {Side.SOURCE: first, Side.DESTINATION: last}
        hosts = self._hosts(first, last)
        if begin is not None and end is not None:
            return self._between_containers(parties, hosts, begin, end, destination)
        if begin is None and end is None:
            way = host_way(
                hosts[Side.SOURCE], hosts[Side.DESTINATION], protocol=_protocol(destination), port=destination.port
            )
            return Planned(way=way, parties=parties, networks={Side.SOURCE: None, Side.DESTINATION: None})
        raise UsageError(
            f"{source.text} to {destination.text}: between a container and a host is not diagnosed yet; name two"
            " containers, or two hosts"
        )

    def _party(self, name: str, carrier: Carrier) -> Party:
        facts = collect(carrier, SECTIONS, now_s=self._now_s, options=self._options)
        identity = facts.identity.value
        own = identity.hostname if identity is not None else ""
        return Party(name=name or own or "this host", carrier=carrier, facts=facts)

    def _peer(self, name: str) -> Party:
        if name not in self._parties:
            self._progress(f"reading {name}")
            self._parties[name] = self._party(name, self._open(name))
        return self._parties[name]

    def _container(self, party: Party, typed: Typed, what: str) -> Container | None:
        if is_host(party.facts, typed.name) or (typed.host == typed.name):
            return None
        found = find_container(party.facts, typed.name)
        if found is None:
            raise unknown_name(typed.name, what, [party.facts])
        return found

    def _destination(self, first: Party, typed: Typed) -> tuple[Party, Container | None]:
        if typed.host:
            party = first if is_host(first.facts, typed.host) else self._peer(typed.host)
            return party, self._container(party, typed, "DESTINATION")
        own = find_container(first.facts, typed.name)
        if own is not None:
            return first, own
        behind = self._behind(first.facts, typed.name)
        if behind is not None:
            address, container = behind
            party = first if is_host(first.facts, address) else self._peer(address)
            found = find_container(party.facts, container)
            if found is None:
                raise unknown_name(container, "DESTINATION", [party.facts])
            return party, found
        if is_host(first.facts, typed.name):
            return first, None
        if is_address(typed.name) or "." in typed.name:
            return self._peer(typed.name), None
        raise unknown_name(typed.name, "DESTINATION", [first.facts, *(each.facts for each in self._parties.values())])

    def _behind(self, facts: Facts, name: str) -> tuple[str, str] | None:
        """The host's address and the container's behind a task, a service or an address of an overlay network."""
        engine = facts.engine.value
        for network in engine.networks if engine is not None else ():
            for task in network.tasks:
                address = task.address.partition("/")[0]
                names = (task.service, task.name, task.name.rpartition(".")[0], address)
                if name in names and task.host_address:
                    return task.host_address, address
        behind = host_behind(facts, name)
        return (behind, name) if behind else None

    def _hosts(self, first: Party, last: Party) -> dict[Side, Host]:
        """Each with the device and address by which it reaches the other."""
        if first is last:
            host = Host(name=first.name, facts=first.facts)
            return {Side.SOURCE: host, Side.DESTINATION: host}
        towards = {Side.SOURCE: _reachable(last), Side.DESTINATION: _reachable(first)}
        hosts = {}
        for side, party in ((Side.SOURCE, first), (Side.DESTINATION, last)):
            route = drive(gather_lookup(towards[side]), party.carrier).route if towards[side] else None
            hosts[side] = Host(
                name=party.name,
                facts=party.facts,
                nic=route.device if route is not None else "",
                nic_address=route.source if route is not None else "",
            )
        return hosts

    def _between_containers(
        self,
        parties: dict[Side, Party],
        hosts: dict[Side, Host],
        begin: Container,
        end: Container,
        destination: Typed,
    ) -> Planned:
        same = parties[Side.SOURCE] is parties[Side.DESTINATION]
        shared = shared_networks(begin, end, parties[Side.SOURCE].facts)
        shared = tuple(network for network in shared if same or network.driver == "overlay")
        if not shared:
            raise UsageError(f"{begin.name} and {end.name} have no network in common that spans their hosts")
        network = next((each for each in shared if _has(end, each, destination.name)), shared[0])
        protocol, port = _protocol(destination), destination.port
        if network.driver != "overlay":
            way = bridge_way(hosts[Side.SOURCE], begin, end, network, protocol=protocol, port=port)
        else:
            way = overlay_way(
                (hosts[Side.SOURCE], begin),
                (hosts[Side.DESTINATION], end),
                network,
                protocol=protocol,
                port=port,
                same_host=same,
            )
        engine = parties[Side.DESTINATION].facts.engine.value
        theirs = next((each for each in (engine.networks if engine else ()) if each.id == network.id), None)
        return Planned(way=way, parties=parties, networks={Side.SOURCE: network, Side.DESTINATION: theirs})

    # --- what happens on it ---


def _protocol(typed: Typed) -> str:
    return typed.protocol if typed.port is not None else "icmp"


def _has(container: Container, network: Network, address: str) -> bool:
    return any(each.network_id == network.id and each.address == address for each in container.networks)


def _reachable(party: Party) -> str:
    """The address by which other hosts reach a party: as it was typed, else its engine's, else its first."""
    if is_address(party.name):
        return party.name
    engine = party.facts.engine.value
    if engine is not None and engine.swarm.node_address:
        return engine.swarm.node_address
    rows = (party.facts.addresses.value or {}).get(HOST, ())
    return next(
        (row.cidr.partition("/")[0] for row in rows if row.scope == "global" and not row.device.startswith("docker")),
        "",
    )


def netns_of(facts: Facts, namespace: str) -> str:
    """The path of a namespace; empty for the host's own."""
    if namespace == HOST:
        return ""
    found = (facts.namespaces.value or {}).get(namespace)
    return found.path if found is not None else ""
