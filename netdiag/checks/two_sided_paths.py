"""Whether each port passes between this host and its peers, both ways: seen from both sides, grouped by cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, same_address
from netdiag.checks.heal import remedy_for
from netdiag.checks.two_sided import Judged, Where, judged_paths, label_of, names_of, peers
from netdiag.checks.two_sided_between import between
from netdiag.checks.two_sided_needs import affected, needs_of
from netdiag.checks.two_sided_supposed import packet_of, with_supposed
from netdiag.checks.two_sided_why import LOST_AT_HOST, why_lost
from netdiag.checks.two_sided_words import (
    direction_of,
    labels_of,
    seen_of,
    state_of,
    subject_of,
    views_of,
)
from netdiag.model.facts import Backend
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.found import Found
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Step
from netdiag.model.two_sided import PeerView, Way

_IDS = {Way.BACK: "two-sides.inbound", Way.THERE: "two-sides.outbound"}
_LOST_BETWEEN = (Where.BETWEEN, Where.ANSWER_BETWEEN)


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
    everything = tuple(judged_paths(ctx))
    judged = with_supposed(ctx, [each for each in everything if each.probe.way is way])
    by_rule: dict[tuple[object, ...], list[Judged]] = {}
    lost_between: dict[tuple[object, ...], list[Judged]] = {}
    unexplained: dict[tuple[object, ...], list[Judged]] = {}
    for each in judged:
        if each.where in LOST_AT_HOST and each.rule is not None:
            key = (each.at_peer, *_place_of(each.rule).items())
            by_rule.setdefault(key, []).append(each)
        elif each.where in _LOST_BETWEEN:
            lost_between.setdefault(_kind_between(each), []).append(each)
        elif each.where is not Where.CAME:
            unexplained.setdefault((each.where, _between_devices(each) or why_lost(ctx, each)), []).append(each)
    for losses in by_rule.values():
        yield _by_rule(ctx, way, losses, everything)
    for losses in lost_between.values():
        yield between(ctx, _IDS[way], losses, everything)
    for (_, why), losses in unexplained.items():
        yield _unexplained(ctx, way, str(why), losses, everything)
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


def _kind_between(each: Judged) -> tuple[object, ...]:
    """What is told together of what is lost between."""
    return (each.where, each.use.protocol, each.use.port, each.stateful, each.lossy)


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


def _by_rule(ctx: Context, way: Way, losses: Sequence[Judged], everything: Sequence[Judged]) -> Found:
    losses = sorted(losses, key=lambda each: each.stopping is None)
    rule = losses[0].rule
    assert rule is not None  # noqa: S101 - grouped by it
    hosts = list(dict.fromkeys(_where_lost(ctx, each) for each in losses))
    touched, breaks = needs_of(ctx, losses, everything)
    traced = [each.trace for each in losses if each.stopping is not None]
    crafted = bool(traced) and all(trace is not None and trace.answer for trace in traced)
    seen = Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}", rule.as_object())
    evidence = (*seen_of(ctx, losses), seen, *state_of(ctx, losses))
    what = "lets no answer out" if crafted else "stops"
    at = f"{names_of(hosts)}: {'their' if len(hosts) > 1 else 'its'} {rule.place()}"
    summary = f"{at} {what} {labels_of(losses)} {direction_of(ctx, way, views_of(losses))}"
    failed = next((each.trace.why_not for each in losses if each.trace is not None and each.trace.why_not), "")
    if not traced:
        summary += (
            f", by a reading of the rules; it could not be traced there: {failed}" if failed else ", by a reading"
        )
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
            affects=affected(touched),
            remedy=_remedies(ctx, losses),
        ),
    )


def min_confidence(losses: Iterable[Judged]) -> Confidence:
    """As sure as the surest trace: the same rule is meant. What was only read is likely."""
    found = {each.stopping.confidence for each in losses if each.stopping is not None}
    return next((each for each in Confidence if each in found), Confidence.LIKELY)


def _where_lost(ctx: Context, lost: Judged) -> str:
    return label_of(ctx, lost.view) if lost.at_peer else ctx.host


def _explained(rule: FirewallRule, losses: Sequence[Judged], hosts: Sequence[str]) -> str:
    first = losses[0]
    arrives = "arrives on its device" if first.where is not Where.SENDER else "never leaves its device"
    host = names_of(hosts)
    called = first.stopping.rule.call_site if first.stopping is not None and first.stopping.rule is not None else None
    by_trace = [each for each in losses if each.stopping is not None]
    how = "Traced" if by_trace else "By a reading of the rules"
    text = f"{labels_of(losses)} {arrives} and goes no further. {how} on {host}, it ends in {rule.place()}"
    text += f', "{rule.text}"' + (f", which is called from {called}" if called else "") + "."
    if 0 < len(by_trace) < len(losses):
        text += f" {len(by_trace)} of {len(losses)} such losses were traced; the rest is likely the same by the rules."
    if rule.belongs_to:
        text += f" It is {rule.owner.value}'s ({rule.belongs_to})."
    return text


def _remedies(ctx: Context, losses: Sequence[Judged]) -> tuple[Remedy, ...]:
    """What heals each host; where the commands are the same on several, once for all of them."""
    hosts: dict[tuple[str, ...], list[str]] = {}
    kept: dict[tuple[str, ...], Remedy] = {}
    untraced_here = 0
    for lost in losses:
        trace, rule, facts = lost.stopping, lost.rule, lost.view.facts if lost.at_peer else ctx.facts
        if rule is None or facts is None or (trace is None and rule.backend is Backend.NFT_NATIVE):
            continue
        if trace is None and not lost.at_peer:
            untraced_here += 1
            if untraced_here > 1:
                continue  # one line for each of hundreds of peers would help nobody
        there = Context(facts=facts, options=ctx.options)
        packet = _packet(lost) if trace is not None else packet_of(lost, of_any_peer=not lost.at_peer)
        for remedy in remedy_for(there, rule, packet, trace):
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


# --- what is not known, and what came --------------------------------------------------------------------------------


def _between_devices(each: Judged) -> str:
    """That a host lost it between two devices of its own, and no rule is known to have taken it; else empty."""
    if each.where not in LOST_AT_HOST or each.probe.short_of is None:
        return ""
    seen, awaited = each.probe.short_of
    return f"it is seen on {seen} and not on {awaited}: a filter of bridged frames, or a program on one of them"


def _unexplained(ctx: Context, way: Way, why: str, losses: Sequence[Judged], everything: Sequence[Judged]) -> Found:
    where, views = losses[0].where, views_of(losses)
    subject, evidence = subject_of(ctx, views), (*seen_of(ctx, losses), *state_of(ctx, losses))
    what = f"{labels_of(losses)} {direction_of(ctx, way, views)}"
    touched, breaks = needs_of(ctx, losses, everything)
    if where is Where.PARTLY:
        else_ = ", or a filter that keeps state" if any(each.use.port is None for each in losses) else ""
        text = f"{what}: some packets came and some did not: a limit of rate, or loss{else_}"
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
