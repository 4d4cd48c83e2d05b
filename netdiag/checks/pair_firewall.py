"""Whether the rules of two hosts let through what a swarm sends between them: read from both, both ways round."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

import msgspec

from netdiag.checks.context import Check, Context
from netdiag.checks.firewall_ports import Judged, same_rule, stopped
from netdiag.checks.flows import verdict_of
from netdiag.checks.pair_ends import End, control_port, is_manager, pair_of
from netdiag.firewall.allow_iptables import tool_of
from netdiag.firewall.plain import Outcome
from netdiag.model.facts import HOST, Backend
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.found import Found
from netdiag.model.report import Need, Step, Subject
from netdiag.shell import shell_text
from netdiag.swarm.ports import DEFAULT_DATA_PATH_PORT, Listener, PortUse, Protocol, ports_of_swarm

_CHECK = "pair.firewall"


def _firewall(ctx: Context) -> Iterator[Found]:
    pair = pair_of(ctx)
    if pair is None:
        yield ctx.unknown(
            _CHECK,
            "whether the rules of the two hosts let their traffic through",
            "one of the two records holds no address by which the other could reach that host",
            leaves=tuple(Need),
        )
        return
    told: set[str] = set()
    for sender, receiver in pair.ways():
        for end, direction in ((sender, Direction.OUT), (receiver, Direction.IN)):
            if HOST in (end.ctx.facts.firewall.value or {}):
                yield from _judged(end, direction, sender, receiver)
            elif end.host not in told:
                told.add(end.host)
                yield _unread(end, receiver if end is sender else sender)


def _unread(end: End, other: End) -> Found:
    section = end.ctx.facts.firewall
    absent = section.absent or section.partial.get(HOST)
    return end.ctx.unknown(
        _CHECK,
        f"whether the rules of {end.host} let the swarm's traffic in and out",
        f"firewall of {end.host}: {absent.text if absent is not None else 'not collected'}",
        leaves=tuple(Need),
        subject=Subject(host=end.host, peer=other.host),
    )


def _judged(end: End, direction: Direction, sender: End, receiver: End) -> Iterator[Found]:
    """What one host does with all that goes one way."""
    inward = direction is Direction.IN
    other, device = (sender, receiver.device) if inward else (receiver, sender.device)
    flows = [
        Judged(use=use, packet=packet, verdict=verdict_of(end.ctx, packet))
        for use in _uses(sender, receiver)
        for packet in [_packet(direction, use, sender, receiver, device)]
    ]
    subject = Subject(host=end.host, peer=other.host)
    let = f"in from {other.host}" if inward else f"out to {other.host}"
    by_rule: dict[FirewallRule | None, list[Judged]] = {}
    undecided: dict[str, list[Judged]] = {}
    for one in flows:
        if one.verdict.stops:
            by_rule.setdefault(same_rule(one.verdict.rule), []).append(one)
        elif one.verdict.outcome is Outcome.UNKNOWN:
            undecided.setdefault(one.verdict.reason, []).append(one)
    for losses in by_rule.values():
        # The question of joining is the manager's, whose role may be known from the other host only.
        serving = msgspec.structs.replace(end.ctx.options, manager_role=True)
        found = stopped(
            msgspec.structs.replace(end.ctx, options=serving), _CHECK, losses, whose=f"{end.host}'s", subject=subject
        )
        yield msgspec.structs.replace(found, next=(*found.next, *_would_prove(end, losses)))
    for reason, unsure in undecided.items():
        yield end.ctx.unknown(
            _CHECK,
            f"whether the rules of {end.host} let {_labels(unsure)} {let}",
            reason,
            leaves=tuple({need for one in unsure for need in one.use.needs}),
            subject=subject,
        )
    passing = [one for one in flows if one.verdict.outcome is Outcome.ACCEPT]
    if passing:
        yield end.ctx.ok(
            _CHECK, f"the rules of {end.host} let {_labels(passing)} {let} (read from the rules)", subject=subject
        )


def _labels(flows: Sequence[Judged]) -> str:
    return ", ".join(dict.fromkeys(one.label for one in flows))


def _would_prove(end: End, losses: Sequence[Judged]) -> list[Step]:
    """How the host's own admin sees that it is this rule: its counter."""
    rule = losses[0].verdict.rule
    if rule is None or rule.backend is Backend.NFT_NATIVE:
        return []
    tool = tool_of(rule, both=end.ctx.both_backends())
    number = [str(rule.number)] if rule.number is not None else []
    return [
        Step(
            host=end.host,
            command=shell_text([tool, "-t", rule.table, "-vnL", rule.chain, *number]),
            why=f"its counter grows when {_labels(losses)} is tried, if it is this {'rule' if number else 'policy'}",
        )
    ]


def _uses(sender: End, receiver: End) -> Iterator[PortUse]:
    """What the receiver must be reached by, in its role."""
    ports = {end.ctx.data_path_port for end in (sender, receiver)} - {DEFAULT_DATA_PATH_PORT}
    encrypted = any(
        network.encrypted
        for end in (sender, receiver)
        if end.ctx.facts.engine.value is not None
        for network in end.ctx.facts.engine.value.networks
    )
    for use in ports_of_swarm(
        control_port=control_port(receiver, sender),
        # A port of its own is known on managers and where a network is in use; elsewhere it looks like the default.
        data_path_port=min(ports, default=DEFAULT_DATA_PATH_PORT),
        encrypted=encrypted,
    ):
        if use.listener is Listener.EVERY_NODE or is_manager(receiver, sender):
            yield use


def _packet(direction: Direction, use: PortUse, sender: End, receiver: End, device: str) -> Packet:
    return Packet(
        direction=direction,
        protocol="50" if use.protocol is Protocol.ESP else use.protocol.value,
        family=ipaddress.ip_address(receiver.address).version,
        source=sender.address,
        destination=receiver.address,
        destination_port=use.port,
        device=device,
    )


CHECKS = (
    Check(
        id=_CHECK,
        title="The rules of both hosts let the swarm's traffic through",
        explains=(
            "From each host to the other: tcp 2377 to a manager, tcp and udp 7946, the data path's udp port, and protocol"
            " 50 where a network is encrypted; out by the sender's rules and in by the receiver's, with the addresses and"
            " devices that the two use for each other. It is a reading of the rules, so at most likely: nothing was sent."
        ),
        remedy="Add an accept for the other host's address in front of the rule that is named, on the host that is named.",
        evaluate=_firewall,
    ),
)
