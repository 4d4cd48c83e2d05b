"""Two hosts as a pair: by which addresses they reach each other, as far as their own records tell."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from netdiag.checks.context import Context, host_of, same_address
from netdiag.model.engine import SwarmMembership, SwarmState
from netdiag.model.facts import HOST, Address, Link, Route
from netdiag.swarm.ports import CONTROL_PORT

_MAIN_TABLE = 254
_PRIVATE_MEMBERS = frozenset({"veth", "tun"})
_NOT_SHARED = frozenset({"dummy", "vxlan", "ipip", "wireguard", "gre", "sit"})

_Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class End(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a pair.

    Attributes:
        address: By which the other reaches it.
        device: Where packets between the two pass; empty where it is not known.
        shared: Whether the device's network is the other's, too, with no router between.
    """

    ctx: Context
    address: str
    device: str = ""
    shared: bool = False

    @property
    def host(self) -> str:
        """The host in words."""
        return self.ctx.host

    def link(self) -> Link | None:
        """The device as such."""
        return next((link for link in self.ctx.host_links() if link.name == self.device), None)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Both hosts, each with the address that the other uses; the first is the operator's own."""

    mine: End
    theirs: End

    def ways(self) -> tuple[tuple[End, End], ...]:
        """Both ways round: who sends, who receives."""
        return (self.mine, self.theirs), (self.theirs, self.mine)


def pair_of(ctx: Context) -> Pair | None:
    """The pair of a context that has a peer; None where one of the two has no address that could be used.

    An address that a swarm knows a host by is the best; then one of a network that both are on; then the first.
    """
    if ctx.peer is None:
        return None
    here, there = ctx, ctx.peer.context
    known = {*_known_by_swarm(here), *_known_by_swarm(there)}
    best: tuple[tuple[int, bool, bool, int], _Own, _Own] | None = None
    for position, (own, other) in enumerate((one, two) for one in _own(here) for two in _own(there)):
        if own.interface.version != other.interface.version:
            continue
        named = sum(str(each.interface.ip) in known for each in (own, other))
        differ = own.interface.ip != other.interface.ip
        score = (named, differ, _share(own.interface, other.interface), -position)
        if best is None or score > best[0]:
            best = (score, own, other)
    if best is None:
        return None
    _, own, other = best
    return Pair(mine=_end(here, own, other), theirs=_end(there, other, own))


def is_manager(end: End, other: End) -> bool | None:
    """Whether a host of the pair is a manager: by its own word, else by the other's list; None where neither tells."""
    engine = end.ctx.facts.engine.value
    if engine is not None:
        return engine.swarm.is_manager
    swarm = _membership(other.ctx)
    if swarm is None or swarm.state is not SwarmState.ACTIVE:
        return None
    return any(same_address(host_of(manager), end.address) for manager in swarm.remote_managers)


def control_port(end: End, other: End) -> int:
    """Where a manager listens, as either of the two knows it; else the default."""
    for ctx in (end.ctx, other.ctx):
        swarm = _membership(ctx)
        for manager in swarm.remote_managers if swarm is not None else ():
            port = manager.rpartition(":")[2]
            if port.isdigit() and same_address(host_of(manager), end.address):
                return int(port)
    return CONTROL_PORT


def shared_addresses(ctx: Context) -> Iterator[Address]:
    """The host's addresses that others may reach: not those of bridges that only its own guests are on."""
    own = set(ctx.own_addresses())
    links = {link.name: link for link in ctx.host_links()}
    for row in (ctx.facts.addresses.value or {}).get(HOST, ()):
        if row.cidr.partition("/")[0] in own and not _private(ctx, links.get(row.device)):
            yield row


class _Own(msgspec.Struct, frozen=True, kw_only=True):
    interface: _Interface
    device: str


def _own(ctx: Context) -> tuple[_Own, ...]:
    return tuple(
        _Own(interface=ipaddress.ip_interface(row.cidr), device=row.device)
        for row in shared_addresses(ctx)
        if not row.secondary
    )


def _private(ctx: Context, link: Link | None) -> bool:
    if link is None:
        return False
    if link.kind != "bridge":
        return link.kind in _NOT_SHARED
    members = [one for one in ctx.host_links() if one.master == link.index]
    return all(one.kind in _PRIVATE_MEMBERS for one in members)


def _membership(ctx: Context) -> SwarmMembership | None:
    engine = ctx.facts.engine.value
    return engine.swarm if engine is not None else None


def _known_by_swarm(ctx: Context) -> Iterator[str]:
    swarm = _membership(ctx)
    if swarm is not None and swarm.state in (SwarmState.ACTIVE, SwarmState.PENDING):
        yield swarm.node_address
        yield from (host_of(manager) for manager in swarm.remote_managers)


def _share(own: _Interface, other: _Interface) -> bool:
    return other.ip in own.network and own.ip in other.network


def _end(ctx: Context, own: _Own, other: _Own) -> End:
    address = str(own.interface.ip)
    if _share(own.interface, other.interface):
        return End(ctx=ctx, address=address, device=own.device, shared=True)
    route = _route_to(ctx, str(other.interface.ip))
    device = route.next_hops[0].device if route is not None and route.next_hops else own.device
    return End(ctx=ctx, address=address, device=device)


def _route_to(ctx: Context, address: str) -> Route | None:
    """The route of the main table with the longest prefix; rules for other tables are not followed."""
    wanted = ipaddress.ip_address(address)
    best: tuple[int, int, Route] | None = None
    for route in (ctx.facts.routes.value or {}).get(HOST, ()):
        if route.table != _MAIN_TABLE:
            continue
        network = ipaddress.ip_network(route.destination, strict=False)
        if network.version == wanted.version and wanted in network:
            score = (network.prefixlen, -route.metric)
            if best is None or score > best[:2]:
                best = (*score, route)
    return best[2] if best is not None else None
