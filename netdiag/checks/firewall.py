"""This host's own firewall: what stands in it, and what a plain reading says of the swarm's ports."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.checks.own_rules import packet_to
from netdiag.firewall.nft_text import native_tables
from netdiag.firewall.plain import Outcome, Reading, read_plainly
from netdiag.firewall.remedy import accept_before, persist_commands
from netdiag.firewall.save_text import nft_family, read_save
from netdiag.model.facts import HOST, Backend, RuleSet
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.found import Found
from netdiag.model.probes import TcpOutcome
from netdiag.model.report import Confidence, Evidence, Need, Step, Subject
from netdiag.swarm.ports import Listener, Plane, PortUse, Protocol, ports_of_swarm

_IPTABLES = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)


def _holds_rules(rules: RuleSet) -> bool:
    return any(
        chain.rules or chain.policy not in (None, "ACCEPT")
        for chains in read_save(rules.text).tables.values()
        for chain in chains.values()
    )


def _backends(ctx: Context) -> Iterator[Found]:
    check = "firewall.backends"
    if HOST not in (ctx.facts.firewall.value or {}):
        return
    used = {
        backend: [rules for rules in ctx.rule_sets() if rules.backend is backend and _holds_rules(rules)]
        for backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)
    }
    if all(used.values()):
        yield ctx.problem(
            check,
            "both iptables-nft and iptables-legacy hold rules: a packet must pass both, whatever one of them accepts",
            evidence=[
                Evidence("rule", f"{rules.backend.value}, IPv{rules.family}: in use", {})
                for both in used.values()
                for rules in both
            ],
            cause=cause(
                "firewall.backend-split",
                host=ctx.host,
                object={"kind": "rule", "backends": [Backend.IPTABLES_NFT.value, Backend.IPTABLES_LEGACY.value]},
                confidence=Confidence.POSSIBLE,
            ),
        )
    else:
        one = next((backend.value for backend, rules in used.items() if rules), None)
        yield ctx.ok(check, f"one iptables backend is in use ({one})" if one else "no iptables rules")


def _services(ctx: Context) -> Iterator[Found]:
    check = "firewall.services"
    saved = ctx.facts.firewall_saved.value
    if saved is None:
        return
    active = [service for service in saved.services if service.active]
    unsure = [service.name for service in saved.services if service.active is None]
    if unsure:
        yield ctx.unknown(check, f"whether {', '.join(unsure)} is active", "nothing that could be read tells")
    elif not active:
        yield ctx.ok(check, "neither firewalld nor ufw is active")
    for service in active:
        opener = {
            "firewalld": "open the ports in the zone of the uplink: firewall-cmd --permanent --add-port=…, then once without --permanent",
            "ufw": "open the ports with 'ufw allow from PEER to any port …'",
        }.get(service.name, "it owns rules here; open the ports through it")
        yield ctx.ok(
            check,
            f"{service.name} is active; {opener}",
            evidence=[Evidence("service", service.evidence, {"name": service.name})],
        )


def _outbound(ctx: Context) -> Iterator[Found]:
    check = "firewall.outbound"
    if HOST not in (ctx.facts.firewall.value or {}):
        return
    for probe in ctx.managers:
        if not probe.address or probe.tcp is None or probe.tcp.outcome is TcpOutcome.CONNECTED:
            # A connection that came about says more than any reading; one that failed is explained where it failed.
            continue
        reading = read_plainly(ctx.rule_sets(), packet_to(probe))
        subject = Subject(host=ctx.host, peer=probe.given)
        what = f"tcp/{probe.port} from here to {probe.given}"
        if reading.outcome is Outcome.ACCEPT:
            yield ctx.ok(check, f"this host's own rules let {what} out", subject=subject)
        elif reading.outcome is Outcome.UNKNOWN:
            yield ctx.unknown(
                check, f"whether this host's own rules let {what} out", _undecided(reading), subject=subject
            )


def _undecided(reading: Reading) -> str:
    return f"{reading.reason}: {reading.rule.text}" if reading.rule is not None else reading.reason


def _inbound_uses(ctx: Context) -> Iterator[PortUse]:
    engine = ctx.facts.engine.value
    manager = ctx.options.manager_role or ctx.options.initialise or (engine is not None and engine.swarm.is_manager)
    encrypted = engine is not None and any(network.encrypted for network in engine.networks)
    for use in ports_of_swarm(data_path_port=ctx.data_path_port, encrypted=encrypted):
        if use.listener is Listener.EVERY_NODE or manager:
            yield use


def _sources(ctx: Context) -> Iterator[tuple[str, str, str]]:
    """Who will send to this host: its address, the device that leads there and our address on it, as far as known."""
    known = False
    for probe in ctx.managers:
        if probe.address:
            known = True
            route = probe.route
            yield probe.address, route.device if route else "", route.source if route else ""
    for peer in ctx.options.peers:
        known = True
        yield peer, _only_uplink(ctx), ""
    if not known:
        yield "", _only_uplink(ctx), ""


def _only_uplink(ctx: Context) -> str:
    uplinks = ctx.uplinks()
    return uplinks[0] if len(uplinks) == 1 else ""


def _inbound(ctx: Context) -> Iterator[Found]:
    check = "firewall.inbound"
    if HOST not in (ctx.facts.firewall.value or {}):
        return
    stopped: dict[FirewallRule | None, list[tuple[PortUse, Packet, Reading]]] = {}
    undecided: dict[str, list[tuple[PortUse, str]]] = {}
    open_ports: list[str] = []
    for source, device, own in _sources(ctx):
        for use in _inbound_uses(ctx):
            packet = Packet(
                direction=Direction.IN,
                protocol="50" if use.protocol is Protocol.ESP else use.protocol.value,
                family=6 if ":" in source else 4,
                source=source,
                destination=own,
                destination_port=use.port,
                device=device,
            )
            reading = read_plainly(ctx.rule_sets(), packet)
            who = source or "any host"
            if reading.outcome is Outcome.ACCEPT:
                open_ports.append(f"{use.label()} from {who}")
            elif reading.outcome is Outcome.UNKNOWN:
                undecided.setdefault(_undecided(reading), []).append((use, who))
            else:
                stopped.setdefault(reading.rule, []).append((use, packet, reading))
    for reason, uses in undecided.items():
        labels = ", ".join(dict.fromkeys(use.label() for use, _ in uses))
        yield ctx.unknown(
            check,
            f"whether this host's rules let {labels} in from {', '.join(dict.fromkeys(who for _, who in uses))}",
            reason,
            leaves=[need for use, _ in uses for need in use.needs if need is not Need.JOIN],
            next_steps=_would_tell(ctx, labels),
        )
    for rule, losses in stopped.items():
        yield _stopped(ctx, check, rule, losses)
    if open_ports:
        yield ctx.ok(check, f"this host's rules let in {', '.join(open_ports)}")


def _would_tell(ctx: Context, labels: str) -> list[Step]:
    """What the operator can look at where a plain reading of iptables rules does not decide."""
    saved = ctx.facts.firewall_saved.value
    if saved is not None and any(one.name == "firewalld" and one.active for one in saved.services):
        return [
            Step(
                host=ctx.host,
                command="firewall-cmd --list-all",
                why=f"firewalld decides here: {labels} must be among its ports, or open them with firewall-cmd --add-port=…"
                " (and again with --permanent)",
            )
        ]
    return []


def _stopped(
    ctx: Context, check: str, rule: FirewallRule | None, losses: list[tuple[PortUse, Packet, Reading]]
) -> Found:
    assert rule is not None  # noqa: S101 - a plain reading that stops names where
    labels = list(dict.fromkeys(use.label() for use, _, _ in losses))
    sources = list(dict.fromkeys(packet.source or "any host" for _, packet, _ in losses))
    engine = ctx.facts.engine.value
    serves_joining = engine is not None and engine.swarm.is_manager
    touched = {
        need
        for use, _, _ in losses
        for need in use.needs
        if need is not Need.JOIN or serves_joining or ctx.options.manager_role
    }
    # Gossip goes between one pair of sockets and ESP between one pair of addresses: what this host sends first opens the
    # way back in conntrack. VXLAN leaves from a port that differs by flow, so its answers are new flows.
    breaks = {
        need
        for use, _, _ in losses
        for need in use.needs
        if need in touched and (use.plane is Plane.CONTROL or (use.plane is Plane.DATA and use.port is not None))
    }
    seen = Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}", rule.as_object())
    identity, saved = ctx.facts.identity.value, ctx.facts.firewall_saved.value
    remedies = {
        remedy.commands: remedy
        for _, packet, _ in losses
        for remedy in (
            accept_before(
                rule,
                packet,
                host=ctx.host,
                persist=persist_commands(identity, saved, packet),
                both_backends=ctx.both_backends(),
            ),
        )
    }
    return ctx.problem(
        check,
        f"this host's {rule.place()} keeps {', '.join(labels)} out (from {', '.join(sources)})",
        breaks=breaks,
        leaves=touched - breaks,
        evidence=[seen],
        cause=cause(
            "firewall.policy" if rule.number is None else "firewall.rule",
            host=ctx.host,
            object=rule.as_object(),
            confidence=Confidence.LIKELY,
            explanation=(
                f'Read from the rules as they are (no packet was traced): {rule.place()}, "{rule.text}", is the first that'
                f" decides about {', '.join(labels)} from {', '.join(sources)}."
            ),
            evidence=(seen,),
            affects=tuple(
                {Need.JOIN: "swarm join", Need.NAMES: "service names", Need.TRAFFIC: "overlay data"}[need]
                for need in (Need.JOIN, Need.NAMES, Need.TRAFFIC)
                if need in touched
            ),
            remedy=tuple(remedies.values()),
        ),
    )


def _readable(ctx: Context) -> Iterator[Found]:
    check = "firewall.readable"
    section = ctx.facts.firewall
    if section.value is not None and HOST in section.value:
        read = [(rules, read_save(rules.text)) for rules in ctx.rule_sets() if rules.backend in _IPTABLES]
        count = sum(
            len(chain.rules) for _, saved in read for chains in saved.tables.values() for chain in chains.values()
        )
        odd = [
            Evidence("rule", f"{rules.backend.value}, line {problem.line_number}: {problem.text}", {})
            for rules, saved in read
            for problem in saved.problems
        ]
        written = [
            (nft_family(rules.family), name)
            for rules, saved in read
            if rules.backend is Backend.IPTABLES_NFT
            for name in saved.tables
        ]
        native = [
            f"{table.family} {table.name}"
            for rules in ctx.rule_sets()
            if rules.backend is Backend.NFT_NATIVE
            for table in native_tables(rules.text, written)
        ]
        beside = f", nft tables of their own: {', '.join(native)}" if native else ""
        yield ctx.ok(check, f"this host's rules were read ({count} iptables rules{beside})", evidence=odd)
        return
    absent = section.absent or section.partial.get(HOST)
    yield ctx.unknown(
        check,
        "this host's firewall could not be read",
        absent.text if absent is not None else "not collected",
        leaves=(Need.NAMES, Need.TRAFFIC),
    )


CHECKS = (
    Check(
        id="firewall.readable",
        title="The firewall can be read",
        explains="Reading rules needs root. What connects anyway is known without them.",
        remedy="Run netdiag as root.",
        evaluate=_readable,
    ),
    Check(
        id="firewall.backends",
        title="One iptables backend is in use",
        explains="iptables exists twice, over nf_tables and the old one. Rules in both are both applied: a drop in one wins.",
        remedy="Move all rules to one of the two (update-alternatives --config iptables), then flush the other.",
        evaluate=_backends,
        needs=("firewall",),
    ),
    Check(
        id="firewall.services",
        title="Which program owns the firewall",
        explains="Rules that are added by hand beside firewalld or ufw are lost at their next reload.",
        remedy="Open ports through the program that owns the firewall.",
        evaluate=_services,
        needs=("firewall_saved",),
    ),
    Check(
        id="firewall.outbound",
        title="This host's rules let the join out",
        explains="A plain reading of OUTPUT for the connection to each manager that did not come about.",
        remedy="Add an accept in front of the rule that stops it.",
        evaluate=_outbound,
        needs=("firewall",),
    ),
    Check(
        id="firewall.inbound",
        title="This host's rules let the swarm in",
        explains=(
            "A plain reading of the rules for what peers will send to this host: gossip (tcp and udp 7946), the data path"
            " (udp 4789), and on managers tcp 2377. A stock stateful INPUT (established, icmp, ssh, reject) lets a node"
            " join, and names may resolve because the node's own gossip opens the way back, and then all traffic between"
            " containers is lost. What the reading does not understand it calls unknown."
        ),
        remedy="Add an accept, scoped to the peers, in front of the rule that stops it.",
        evaluate=_inbound,
        needs=("firewall",),
    ),
)
