"""The flows that a swarm needs through this host's own filters, and what is known of each: traced, or read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from netdiag.checks.context import Context, host_of, same_address
from netdiag.checks.verify import address_of
from netdiag.firewall.plain import Outcome, read_plainly
from netdiag.model.engine import SwarmState
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.probes import ManagerProbe, TcpOutcome
from netdiag.model.trace import Trace, TraceVerdict
from netdiag.swarm.ports import Listener, Plane, PortUse, Protocol, ports_of_swarm

MOST_TRACED = 32
"""Packets of one run. Each takes about 30 ms, for the device that it arrives by; the rest is read from the rules."""
_OUTCOMES = {
    TraceVerdict.ACCEPT: Outcome.ACCEPT,
    TraceVerdict.DROP: Outcome.DROP,
    TraceVerdict.REJECT: Outcome.REJECT,
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one packet at this host.

    Attributes:
        rule: The rule or policy that stops it; for an accept or *unknown* there may be none.
        reason: Why it is unknown.
        trace: The trace that decided; None for a plain reading.
        untraced: Why no packet was traced, where that was tried.
        would_load: It was not traced only because that would have loaded a kernel module.
    """

    outcome: Outcome
    rule: FirewallRule | None = None
    reason: str = ""
    trace: Trace | None = None
    untraced: str = ""
    would_load: bool = False

    @property
    def stops(self) -> bool:
        """Whether the packet is lost here."""
        return self.outcome in (Outcome.DROP, Outcome.REJECT)


def verdict_of(ctx: Context, packet: Packet) -> Verdict:
    """What the kernel's trace says of a packet; where there is none, what a plain reading of the rules says."""
    flow = ctx.traced(packet)
    trace = flow.trace if flow is not None else None
    if trace is not None and trace.verdict is TraceVerdict.ACCEPT:
        return Verdict(outcome=Outcome.ACCEPT, rule=trace.rule or trace.policy, trace=trace)
    named = (trace.rule or trace.policy) if trace is not None else None
    if trace is not None and trace.verdict is not TraceVerdict.UNKNOWN and named is not None and named.text:
        return Verdict(outcome=_OUTCOMES[trace.verdict], rule=named, trace=trace)
    reading = read_plainly(ctx.rule_sets(), packet)
    if trace is not None and reading.outcome not in (Outcome.DROP, Outcome.REJECT):
        # It was sent and did not get through, whatever the rules look like.
        return Verdict(
            outcome=Outcome.UNKNOWN, reason=trace.reason or "a traced packet was lost in a rule without text"
        )
    reason = f"{reading.reason}: {reading.rule.text}" if reading.rule is not None else reading.reason
    return Verdict(
        outcome=reading.outcome,
        rule=reading.rule,
        reason=reason if reading.outcome is Outcome.UNKNOWN else "",
        untraced=(trace.reason if trace is not None else flow.why_not) if flow is not None else "",
        would_load=flow is not None and flow.would_load,
    )


def packet_to(probe: ManagerProbe) -> Packet:
    """The SYN to a manager, as this host's OUTPUT sees it."""
    route = probe.route
    return Packet(
        direction=Direction.OUT,
        protocol="tcp",
        family=_family(probe.address),
        source=route.source if route else "",
        destination=probe.address,
        destination_port=probe.port,
        device=route.device if route else "",
    )


def inbound(ctx: Context) -> Iterator[tuple[PortUse, Packet]]:
    """What other nodes will send to this one, node by node; from an unknown node where none is known."""
    peers = list(_peers(ctx)) or [_Peer(address="", device=_only_uplink(ctx))]
    for peer in peers:
        for use in _listened(ctx):
            yield use, _packet(Direction.IN, use, peer)


def outbound(ctx: Context) -> Iterator[tuple[PortUse, Packet]]:
    """What this node will send to the others; a manager that was asked already is left out for the join itself."""
    probed = [probe.address for probe in ctx.managers]
    managers = {address: port for address, port in _managers(ctx).items() if address not in probed}
    for peer in _peers(ctx):
        if not peer.answers_arp:
            continue
        for use in _uses(ctx):
            if use.plane is not Plane.CONTROL:
                yield use, _packet(Direction.OUT, use, peer)
            elif peer.address in managers:
                there = msgspec.structs.replace(use, port=managers[peer.address])
                yield there, _packet(Direction.OUT, there, peer)


def to_trace(ctx: Context) -> tuple[Packet, ...]:
    """The packets to trace, each once: both directions of the first peers rather than one direction of many."""
    joins = [
        packet_to(probe)
        for probe in ctx.managers
        if probe.address
        and probe.tcp is not None
        and probe.tcp.outcome not in (TcpOutcome.CONNECTED, TcpOutcome.NO_ROUTE)
    ]
    other = {Direction.IN: "source", Direction.OUT: "destination"}
    by_peer: dict[str, list[Packet]] = {}
    for _, packet in itertools.chain(inbound(ctx), outbound(ctx)):
        address = getattr(packet, other[packet.direction])
        if address and (packet.destination_port is not None or packet.direction is Direction.IN):
            by_peer.setdefault(address, []).append(packet)
    packets = dict.fromkeys([*joins, *itertools.chain.from_iterable(by_peer.values())])
    return tuple(packets)[:MOST_TRACED]


class _Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another node, the device that leads there and our address on it, as far as known.

    ``answers_arp`` is false where no packet can be sent to it, for want of a route or of its MAC address.
    """

    address: str
    device: str = ""
    own: str = ""
    answers_arp: bool = True


def _peers(ctx: Context) -> Iterator[_Peer]:
    for probe in ctx.managers:
        if probe.address:
            route, tcp = probe.route, probe.tcp
            yield _Peer(
                address=probe.address,
                device=route.device if route else "",
                own=route.source if route else "",
                answers_arp=tcp is None or tcp.outcome is not TcpOutcome.NO_ROUTE,
            )
    probed = [probe.address for probe in ctx.managers]
    named = ctx.options.peers or _members(ctx)
    for address in named:
        if not any(same_address(address, one) for one in probed):
            yield _Peer(address=address, device=_only_uplink(ctx))


def _members(ctx: Context) -> tuple[str, ...]:
    """The other nodes of the swarm that this host is in: a worker knows the managers, and whom gossip names."""
    engine = ctx.facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE:
        return ()
    addresses: Iterable[str] = (*_managers(ctx), *_gossiped(ctx))
    if engine.cluster is not None:
        addresses = (
            address_of(node)
            for node in engine.cluster.nodes
            if node.state == "ready" and node.id != engine.swarm.node_id
        )
    own = engine.swarm.node_address
    return tuple(dict.fromkeys(address for address in addresses if address and address != own))


def members_missing(ctx: Context) -> bool:
    """Whether there may be members that this host does not know of: a worker without peers in its ingress network."""
    engine = ctx.facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE or ctx.options.peers:
        return False
    return engine.cluster is None and not _gossiped(ctx)


def _gossiped(ctx: Context) -> tuple[str, ...]:
    """The nodes that the ingress network has as peers; every node is in it, whether it runs tasks or not."""
    engine = ctx.facts.engine.value
    networks = engine.networks if engine is not None else ()
    return tuple(peer.address for network in networks if network.ingress for peer in network.peers)


def _managers(ctx: Context) -> dict[str, int]:
    """The managers of the swarm that this host is in, and where they listen."""
    engine = ctx.facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE:
        return {}
    ports = {host_of(manager): manager.rpartition(":")[2] for manager in engine.swarm.remote_managers}
    return {address: int(port) for address, port in ports.items() if port.isdigit()}


def _only_uplink(ctx: Context) -> str:
    uplinks = ctx.uplinks()
    return uplinks[0] if len(uplinks) == 1 else ""


def _uses(ctx: Context) -> tuple[PortUse, ...]:
    engine = ctx.facts.engine.value
    encrypted = engine is not None and any(network.encrypted for network in engine.networks)
    return ports_of_swarm(data_path_port=ctx.data_path_port, encrypted=encrypted)


def _listened(ctx: Context) -> Iterator[PortUse]:
    """Where this node must be reachable in its role."""
    engine = ctx.facts.engine.value
    manager = ctx.options.manager_role or ctx.options.initialise or (engine is not None and engine.swarm.is_manager)
    for use in _uses(ctx):
        if use.listener is Listener.EVERY_NODE or manager:
            yield use


def _packet(direction: Direction, use: PortUse, peer: _Peer) -> Packet:
    inward = direction is Direction.IN
    return Packet(
        direction=direction,
        protocol="50" if use.protocol is Protocol.ESP else use.protocol.value,
        family=_family(peer.address),
        source=peer.address if inward else peer.own,
        destination=peer.own if inward else peer.address,
        destination_port=use.port,
        device=peer.device,
    )


def _family(address: str) -> int:
    return 6 if ":" in address else 4
