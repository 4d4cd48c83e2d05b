"""Whether each port passes between this host and its peers, both ways: seen from both sides, grouped by cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, same_address
from netdiag.checks.heal import remedy_for
from netdiag.checks.two_sided import Judged, Where, controls, judged_paths, label_of, names_of, peers, xdp_of
from netdiag.checks.two_sided_words import (
    direction_of,
    ends_of,
    labels_of,
    seen_of,
    state_of,
    subject_of,
    views_of,
)
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.found import Found
from netdiag.model.probes import TlsOutcome
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Risk, Step
from netdiag.model.two_sided import Payload, PeerView, Way
from netdiag.swarm.ports import Plane, Protocol

_IDS = {Way.BACK: "two-sides.inbound", Way.THERE: "two-sides.outbound"}
_AFFECTED = {Need.JOIN: "swarm join", Need.NAMES: "service names", Need.TRAFFIC: "overlay data"}
_LOST_BETWEEN = (Where.BETWEEN, Where.ANSWER_BETWEEN)
_LOST_AT_HOST = (Where.SENDER, Where.RECEIVER, Where.ANSWER_SENDER)


def _inbound(ctx: Context) -> Iterator[Found]:
    yield from _told(ctx, Way.BACK)


def _outbound(ctx: Context) -> Iterator[Found]:
    yield from _told(ctx, Way.THERE)


def cause_toward(ctx: Context, address: str, port: int) -> Cause | None:
    """Why a connection to a peer does not come about, where both sides were asked; None where that does not tell."""
    mine = [
        each
        for each in judged_paths(ctx)
        if each.probe.way is Way.THERE
        and each.probe.protocol == "tcp"
        and each.probe.port == port
        and same_address(each.view.address, address)
        and each.where is not Where.CAME
    ]
    found = [each for each in _told(ctx, Way.THERE) if each.cause is not None] if mine else []
    for each in mine:
        for one in found:
            assert one.cause is not None  # noqa: S101 - just looked
            if _is_about(ctx, each, one.cause):
                return one.cause
    return None


def _is_about(ctx: Context, lost: Judged, found: Cause) -> bool:
    rule = lost.rule
    if rule is not None:
        return _place_of(rule) == {key: found.object.get(key) for key in _place_of(rule)}
    named = [found.object.get("to"), found.object.get("from"), *found.object.get("hosts", ())]
    return (
        lost.where in _LOST_BETWEEN and label_of(ctx, lost.view) in named and found.object.get("port") == lost.use.port
    )


def _told(ctx: Context, way: Way) -> Iterator[Found]:
    judged = [each for each in judged_paths(ctx) if each.probe.way is way]
    by_rule: dict[tuple[object, ...], list[Judged]] = {}
    between: dict[tuple[object, ...], list[Judged]] = {}
    unexplained: dict[tuple[object, ...], list[Judged]] = {}
    for each in judged:
        if each.where in _LOST_AT_HOST and each.rule is not None:
            key = (each.at_peer, *_place_of(each.rule).items())
            by_rule.setdefault(key, []).append(each)
        elif each.where in _LOST_BETWEEN:
            between.setdefault((each.where, each.use.protocol, each.use.port, each.stateful), []).append(each)
        elif each.where is not Where.CAME:
            unexplained.setdefault((each.where, _why(each)), []).append(each)
    for losses in by_rule.values():
        yield _by_rule(ctx, way, losses)
    for losses in between.values():
        yield _between(ctx, way, losses, judged)
    for (where, why), losses in unexplained.items():
        yield _unexplained(ctx, way, where, str(why), losses)
    came = [each for each in judged if each.where is Where.CAME]
    if came:
        yield _came(ctx, way, came)
    for label, mine in _withheld(ctx, way).items():
        yield ctx.unknown(
            _IDS[way],
            f"whether {label} passes {direction_of(ctx, way, mine)}",
            "a program holds the port, and without nf_tables a probe could not be kept from it",
            subject=subject_of(ctx, mine),
        )


def _withheld(ctx: Context, way: Way) -> dict[str, list[PeerView]]:
    found: dict[str, list[PeerView]] = {}
    for view in peers(ctx):
        for each, label in view.unguarded:
            if each is way:
                found.setdefault(label, []).append(view)
    return found


# --- at a host -------------------------------------------------------------------------------------------------------


def _place_of(rule: FirewallRule) -> dict[str, object]:
    """What makes a rule of one host the same as a rule of another; the handle is each host's own."""
    return {
        "backend": rule.backend.value,
        "family": rule.family,
        "table": rule.table,
        "chain": rule.chain,
        "number": rule.number,
        "text": rule.text,
    }


def _by_rule(ctx: Context, way: Way, losses: Sequence[Judged]) -> Found:
    rule = losses[0].rule
    assert rule is not None  # noqa: S101 - grouped by it
    hosts = list(dict.fromkeys(_where_lost(ctx, each) for each in losses))
    touched, breaks = _needs(ctx, losses)
    crafted = all(each.trace is not None and each.trace.answer for each in losses)
    seen = Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}", rule.as_object())
    evidence = (*seen_of(ctx, losses), seen, *state_of(ctx, losses))
    what = "lets no answer out" if crafted else "stops"
    at = f"{names_of(hosts)}: {'their' if len(hosts) > 1 else 'its'} {rule.place()}"
    summary = f"{at} {what} {labels_of(losses)} {direction_of(ctx, way, views_of(losses))}"
    named = {**rule.as_object(), "hosts": hosts} if len(hosts) > 1 else rule.as_object()
    return ctx.problem(
        _IDS[way],
        summary,
        breaks=breaks,
        leaves=touched - breaks,
        subject=subject_of(ctx, views_of(losses)),
        evidence=evidence,
        cause=cause(
            "firewall.policy" if rule.number is None else "firewall.rule",
            host=hosts[0],
            object=named,
            # The answer was made by hand, so its state in connection tracking is not the real one's.
            confidence=Confidence.LIKELY if crafted else min_confidence(losses),
            explanation=_explained(rule, losses, hosts),
            evidence=evidence,
            affects=tuple(text for need, text in _AFFECTED.items() if need in touched),
            remedy=_remedies(ctx, losses),
        ),
    )


def min_confidence(losses: Iterable[Judged]) -> Confidence:
    """As sure as the surest trace: the same rule is meant."""
    found = {each.stopping.confidence for each in losses if each.stopping is not None}
    return next(each for each in Confidence if each in found)


def _where_lost(ctx: Context, lost: Judged) -> str:
    return label_of(ctx, lost.view) if lost.at_peer else ctx.host


def _explained(rule: FirewallRule, losses: Sequence[Judged], hosts: Sequence[str]) -> str:
    first = losses[0]
    arrives = "arrives on its device" if first.where is not Where.SENDER else "never leaves its device"
    host = names_of(hosts)
    called = first.stopping.rule.call_site if first.stopping is not None and first.stopping.rule is not None else None
    text = f"{labels_of(losses)} {arrives} and goes no further. Traced on {host}, it ends in {rule.place()}"
    text += f', "{rule.text}"' + (f", which is called from {called}" if called else "") + "."
    if rule.belongs_to:
        text += f" It is {rule.owner.value}'s ({rule.belongs_to})."
    return text


def _remedies(ctx: Context, losses: Sequence[Judged]) -> tuple[Remedy, ...]:
    """What heals each host; where the commands are the same on several, once for all of them."""
    hosts: dict[tuple[str, ...], list[str]] = {}
    kept: dict[tuple[str, ...], Remedy] = {}
    for lost in losses:
        trace, rule, facts = lost.stopping, lost.rule, lost.view.facts if lost.at_peer else ctx.facts
        if trace is None or rule is None or facts is None:
            continue
        there = Context(facts=facts, options=ctx.options)
        for remedy in remedy_for(there, rule, _packet(lost), trace):
            hosts.setdefault(remedy.commands, []).append(_where_lost(ctx, lost))
            kept.setdefault(remedy.commands, remedy)
    return tuple(msgspec.structs.replace(remedy, host=names_of(hosts[key])) for key, remedy in kept.items())


def _packet(lost: Judged) -> Packet:
    trace = lost.stopping
    assert trace is not None  # noqa: S101 - only of what was traced
    packet = trace.packet
    return Packet(
        direction=Direction.OUT if lost.trace is not None and lost.trace.outward else Direction.IN,
        protocol="50" if packet.protocol == "esp" else packet.protocol,
        family=6 if ":" in packet.destination else 4,
        source=packet.source,
        destination=packet.destination,
        destination_port=packet.destination_port,
        device=packet.in_device or packet.out_device,
    )


# --- between ---------------------------------------------------------------------------------------------------------


def _between(ctx: Context, way: Way, losses: Sequence[Judged], judged: Sequence[Judged]) -> Found:
    first = losses[0]
    answer = first.where is Where.ANSWER_BETWEEN
    views = views_of(losses)
    touched, breaks = _needs(ctx, losses)
    lost_way = (Way.BACK if way is Way.THERE else Way.THERE) if answer else way
    source, target = ends_of(ctx, lost_way, views)
    only = _only_payload(losses, judged)
    xdp = next((one for view in views if (one := xdp_of(view, ctx, at_peer=lost_way is Way.THERE))), "")
    what = labels_of(losses) if only is None else first.label
    evidence = (*seen_of(ctx, losses), *_control(lost_way, views), *state_of(ctx, losses))
    summary = f"{'the answers to ' if answer else ''}{what} {direction_of(ctx, lost_way, views)}"
    named: dict[str, object] = {
        "kind": "segment",
        "from": source,
        "to": target,
        "protocol": first.use.protocol.value,
        "port": first.use.port,
    }
    if only is not None:
        named["payload"] = only.value
    if answer:
        named["answers"] = True
    if first.stateful:
        named["side"] = target
    if len(views) > 1:
        named["hosts"] = [label_of(ctx, view) for view in views]
    found = cause(
        "underlay.filtered",
        host=None,
        object=named,
        confidence=Confidence.LIKELY if xdp else Confidence.PROVEN,
        explanation=_lost_on_the_way(losses, source, target, only, xdp),
        evidence=evidence,
        affects=tuple(text for need, text in _AFFECTED.items() if need in touched),
        remedy=_other_port(losses) if only is Payload.VXLAN else (),
    )
    return ctx.problem(
        _IDS[way],
        f"{summary}: leaves {source} and never arrives at {target}",
        breaks=breaks,
        leaves=touched - breaks,
        subject=subject_of(ctx, views),
        evidence=evidence,
        cause=found,
        next_steps=[
            Step(
                host=f"between {source} and {target}",
                command="",
                why=f"something there must let {what} through: a security group, a router, a virtual switch",
            )
        ],
    )


def _only_payload(losses: Sequence[Judged], judged: Sequence[Judged]) -> Payload | None:
    """The payload that alone is lost, where datagrams to the same port with another one come."""
    lost = {each.probe.payload for each in losses}
    came = {
        each.probe.payload
        for each in judged
        if each.where is Where.CAME and each.use == losses[0].use and any(each.view is other.view for other in losses)
    }
    return next(iter(lost)) if len(lost) == 1 and came and came != lost else None


def _lost_on_the_way(losses: Sequence[Judged], source: str, target: str, only: Payload | None, xdp: str) -> str:
    first = losses[0]
    text = f"It was seen leaving {source}'s device and not on {target}'s, where other packets of {source} were seen."
    if only is Payload.VXLAN:
        text += (
            f" The same datagram without a VXLAN header does arrive at udp/{first.use.port}: a hypervisor or virtual"
            " switch takes VXLAN for its own (VMware NSX does)."
        )
    elif only is Payload.TAG:
        text += " With a VXLAN header it does arrive: something there looks into the packets."
    if first.stateful:
        text += (
            f" After {target} had sent to the very port that it came from, it arrived: a filter that keeps state"
            f" stands on the side of {target}, a security group for example."
        )
    if xdp:
        text += f" An XDP program is attached to {xdp} at {target}: it drops before anything could be seen there."
    if first.probe.heard.icmp is not None:
        text += f" {first.probe.heard.icmp.sender} answers it with an ICMP error."
    return text


def _other_port(losses: Sequence[Judged]) -> tuple[Remedy, ...]:
    port = 7789 if losses[0].use.port != 7789 else 8472
    return (
        Remedy(
            host="a manager",
            summary="the data-path port is chosen when a swarm is made: make it with one that nobody takes for VXLAN",
            commands=(f"docker swarm init --data-path-port {port}",),
            risk=Risk.DISRUPTIVE,
        ),
    )


def _control(way: Way, views: Sequence[PeerView]) -> tuple[Evidence, ...]:
    names = list(dict.fromkeys(name for view in views for name in controls(view, way)))
    return (Evidence("control", f"what did arrive the same way: {', '.join(names)}", {"arrived": names}),)


# --- what is not known, and what came --------------------------------------------------------------------------------


def _why(each: Judged) -> str:
    trace = each.trace
    if each.where is Where.UNKNOWN:
        return each.reason
    if each.where in _LOST_AT_HOST:
        if each.probe.refused and not each.probe.sent and trace is None:
            return f"the kernel refuses to send it: {each.probe.refused}"
        if trace is None:
            return "no more than a few hosts are traced for one kind of loss"
        if trace.trace is None:
            return f"it could not be traced there: {trace.why_not}"
        if each.stateful and each.use.port is None:
            return "it comes through only after that host has sent protocol 50 to the other one itself"
        if trace.trace.verdict.value == "accept":
            return "a packet like it passes the filters there when it is traced: what stops it looks at rate or state"
        return trace.trace.reason or "the trace does not say which rule takes it"
    return ""


def _unexplained(ctx: Context, way: Way, where: object, why: str, losses: Sequence[Judged]) -> Found:
    views = views_of(losses)
    subject, evidence = subject_of(ctx, views), (*seen_of(ctx, losses), *state_of(ctx, losses))
    what = f"{labels_of(losses)} {direction_of(ctx, way, views)}"
    touched, breaks = _needs(ctx, losses)
    if where is Where.PARTLY:
        text = f"{what}: some packets came and some did not: a limit of rate, or loss"
        return ctx.problem(_IDS[way], text, leaves=touched, subject=subject, evidence=evidence)
    if where is Where.PROXIED:
        text = f"{what}: the connection came about, and the other side never saw it: somebody between answers for it"
        return ctx.problem(_IDS[way], text, leaves=touched, subject=subject, evidence=evidence)
    if where is Where.UNKNOWN:
        return ctx.unknown(_IDS[way], f"whether {what} passes", why, leaves=touched, subject=subject, evidence=evidence)
    if all(each.use.port is None and each.stateful for each in losses):
        breaks = set()  # the exchange of keys is followed by packets both ways
    hosts = list(dict.fromkeys(_where_lost(ctx, each) for each in losses))
    verb = "does not leave" if where is Where.SENDER else "arrives and is lost at"
    return ctx.problem(
        _IDS[way],
        f"{what}: {verb} {names_of(hosts)}; {why}",
        breaks=breaks,
        leaves=touched - breaks,
        subject=subject,
        evidence=evidence,
        next_steps=[
            Step(
                host=hosts[0],
                command="netdiag verify swarm",
                why=f"reads the filters of that host, for {labels_of(losses)}",
            )
        ],
    )


def _came(ctx: Context, way: Way, came: Sequence[Judged]) -> Found:
    views = views_of(came)
    return ctx.ok(
        _IDS[way],
        f"{labels_of(came)} {'pass' if ',' in labels_of(came) else 'passes'} {direction_of(ctx, way, views)}",
        subject=subject_of(ctx, views),
        evidence=seen_of(ctx, came, most=8),
    )


# --- needs ---------------------------------------------------------------------------------------------------------


def _needs(ctx: Context, losses: Sequence[Judged]) -> tuple[set[Need], set[Need]]:
    """The questions that the losses touch, and those of them that become a no."""
    another = any(
        probe.tls is not None
        and probe.tls.outcome is TlsOutcome.HANDSHAKE
        and not any(same_address(probe.address, each.view.address) for each in losses)
        for probe in ctx.managers
    )
    touched = {need for each in losses for need in each.use.needs}
    breaks: set[Need] = set()
    for each in losses:
        if each.use.plane is Plane.CONTROL:
            breaks |= set() if another else {Need.JOIN}
        elif (
            each.use.plane is Plane.DATA and each.probe.payload is not Payload.TAG
        ) or each.use.protocol is Protocol.ESP:
            breaks.add(Need.TRAFFIC)
        elif each.use.protocol is Protocol.TCP and _lost_both_ways(ctx, each):
            # Either side begins the exchange of gossip: it takes both to lose it.
            breaks |= {Need.NAMES, Need.TRAFFIC}
    if another:
        touched.discard(Need.JOIN)
    return touched, breaks


def _lost_both_ways(ctx: Context, lost: Judged) -> bool:
    other = [
        each
        for each in judged_paths(ctx)
        if each.view is lost.view and each.use == lost.use and each.probe.way is not lost.probe.way
    ]
    return bool(other) and all(each.where not in (Where.CAME, Where.UNKNOWN) for each in other)


CHECKS = (
    Check(
        id="two-sides.inbound",
        title="What the peers send comes in here",
        explains=(
            "With a participant on the peer (--via) it sends to this host what a swarm needs: tcp and udp 7946, the data path"
            " with a VXLAN header and without, protocol 50 where networks are encrypted, tcp 2377 where this host is a"
            " manager. It is asked first, from ports for which this host has not opened the way, and lost datagrams are"
            " sent again after it has. Packet sockets on both devices and a chain behind all filters say how far each came:"
            " a loss at a host is traced there, and a loss between is one only if something else arrives."
        ),
        remedy="Add an accept in front of the rule that is named; between the hosts, open the port where it is filtered.",
        evaluate=_inbound,
    ),
    Check(
        id="two-sides.outbound",
        title="What this host sends comes in at the peers",
        explains="The same the other way: what this host sends to each peer, and tcp 2377 to managers.",
        remedy="Add an accept in front of the rule that is named; between the hosts, open the port where it is filtered.",
        evaluate=_outbound,
    ),
)
