"""Whether this host's own filters let through what a swarm sends: by the kernel's trace, else by a plain reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.checks.flows import MOST_TRACED, Verdict, inbound, members_missing, outbound, packet_to, verdict_of
from netdiag.checks.heal import remedy_for
from netdiag.firewall.plain import Outcome
from netdiag.firewall.reasons import unless_saved
from netdiag.model.facts import HOST
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.found import Found
from netdiag.model.probes import TcpOutcome
from netdiag.model.report import Confidence, Evidence, Need, Step, Subject
from netdiag.shell import shell_text
from netdiag.swarm.ports import Plane, PortUse

_AFFECTED = {Need.JOIN: "swarm join", Need.NAMES: "service names", Need.TRAFFIC: "overlay data"}


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One flow that the swarm needs, and what becomes of its first packet here."""

    use: PortUse
    packet: Packet
    verdict: Verdict

    @property
    def other(self) -> str:
        """The other host."""
        inward = self.packet.direction is Direction.IN
        return (self.packet.source if inward else self.packet.destination) or "any host"

    @property
    def label(self) -> str:
        """The port, as operators write it."""
        return self.use.label()


def _inbound(ctx: Context) -> Iterator[Found]:
    if HOST not in (ctx.facts.firewall.value or {}):
        return
    judged = [Judged(use=use, packet=packet, verdict=verdict_of(ctx, packet)) for use, packet in inbound(ctx)]
    yield from _told(ctx, "firewall.inbound", judged)
    if members_missing(ctx):
        yield ctx.unknown(
            "firewall.inbound",
            "other members: not known, give --peer ADDRESS for each of them",
            "a worker is told the managers only, and its ingress network shows no peers",
        )


def _outbound(ctx: Context) -> Iterator[Found]:
    check = "firewall.outbound"
    if HOST not in (ctx.facts.firewall.value or {}):
        return
    for probe in ctx.managers:
        if not probe.address or probe.tcp is None or probe.tcp.outcome is TcpOutcome.CONNECTED:
            # A connection that came about says more than any reading; one that failed is explained where it failed.
            continue
        verdict = verdict_of(ctx, packet_to(probe))
        subject = Subject(host=ctx.host, peer=probe.given)
        what = f"tcp/{probe.port} from here to {probe.given}"
        if verdict.outcome is Outcome.ACCEPT:
            proof = " (a packet was traced)" if verdict.trace is not None else ""
            yield ctx.ok(check, f"this host's own rules let {what} out{proof}", subject=subject)
        elif verdict.outcome is Outcome.UNKNOWN:
            yield ctx.unknown(check, f"whether this host's own rules let {what} out", verdict.reason, subject=subject)
    judged = [Judged(use=use, packet=packet, verdict=verdict_of(ctx, packet)) for use, packet in outbound(ctx)]
    yield from _told(ctx, check, judged)


def _told(ctx: Context, check: str, judged: Sequence[Judged]) -> Iterator[Found]:
    """The findings of one direction: one for each reason, one for each rule, and what passes."""
    let, way = ("in", "from") if check == "firewall.inbound" else ("out", "to")
    undecided: dict[str, list[Judged]] = {}
    by_rule: dict[FirewallRule | None, list[Judged]] = {}
    for one in judged:
        if one.verdict.outcome is Outcome.UNKNOWN:
            undecided.setdefault(one.verdict.reason, []).append(one)
        elif one.verdict.stops:
            by_rule.setdefault(same_rule(one.verdict.rule), []).append(one)
    for reason, flows in undecided.items():
        yield ctx.unknown(
            check,
            f"whether this host's rules let {_labels(flows)} {let} {way} {_others(flows)}",
            reason,
            leaves=[need for one in flows for need in one.use.needs if need is not Need.JOIN],
            next_steps=_would_tell(ctx, flows),
        )
    for losses in by_rule.values():
        yield stopped(ctx, check, losses)
    passing = [one for one in judged if one.verdict.outcome is Outcome.ACCEPT]
    traced = [one for one in passing if one.verdict.trace is not None]
    read = [one for one in passing if one.verdict.trace is None]
    if traced:
        yield ctx.ok(
            check,
            f"this host's rules let {let} {_ways(traced, way)} (a packet of each was traced)",
            evidence=[_traced(traced)],
        )
    if read:
        beyond = any(one.packet.destination_port is not None and not one.verdict.untraced for one in read)
        bound = f": no more than {MOST_TRACED} are in one run" if beyond else ""
        rest = f" (read from the rules; not traced{bound})" if traced else ""
        yield ctx.ok(check, f"this host's rules let {let} {_ways(read, way)}{rest}")


def _ways(flows: Sequence[Judged], way: str) -> str:
    return ", ".join(f"{one.label} {way} {one.other}" for one in flows)


def same_rule(rule: FirewallRule | None) -> FirewallRule | None:
    """The rule without the way that led to it and what only a trace knows of it: it is one rule, however it was met."""
    if rule is None:
        return None
    handle = rule.handle if rule.number is None else None
    return msgspec.structs.replace(rule, call_site=None, handle=handle, belongs_to="")


def _labels(flows: Sequence[Judged]) -> str:
    return ", ".join(dict.fromkeys(one.label for one in flows))


def _others(flows: Sequence[Judged]) -> str:
    return ", ".join(dict.fromkeys(one.other for one in flows))


def _traced(flows: Sequence[Judged]) -> Evidence:
    """The packets that were traced, each with the rule that decided about it and how soon that was known."""
    packets = [
        {
            "port": one.label,
            "direction": one.packet.direction.value,
            "peer": one.other,
            "verdict": trace.verdict.value,
            "rule": one.verdict.rule.place() if one.verdict.rule is not None else None,
            "elapsed_ms": trace.elapsed_ms,
        }
        for one in flows
        if (trace := one.verdict.trace) is not None
    ]
    times = [one.verdict.trace.elapsed_ms for one in flows if one.verdict.trace and one.verdict.trace.elapsed_ms]
    slowest = f", decided within {max(times):g} ms" if times else ""
    count = "1 packet" if len(packets) == 1 else f"{len(packets)} packets"
    return Evidence("trace", f"{count} traced by the kernel{slowest}", {"packets": packets})


def _would_tell(ctx: Context, flows: Sequence[Judged]) -> list[Step]:
    """What the operator can do where neither a trace nor a plain reading of iptables rules decides."""
    steps: list[Step] = []
    first = next((one for one in flows if one.verdict.would_load), None)
    if first is not None and first.other != "any host":
        out = first.packet.direction is Direction.OUT
        way = ["--path", "out", "--dst", first.other] if out else ["--src", first.other]
        port = first.packet.destination_port
        ports = ["--proto", first.packet.protocol, *(("--dport", str(port)) if port is not None else ())]
        steps.append(
            Step(
                host=ctx.host,
                command=shell_text(["netdiag", "firewall", "trace", *way, *ports, "--load-modules"]),
                why=f"asks the kernel itself; here {first.verdict.untraced}, which has to be allowed",
            )
        )
    saved = ctx.facts.firewall_saved.value
    inward = any(one.packet.direction is Direction.IN for one in flows)
    if inward and saved is not None and any(one.name == "firewalld" and one.active for one in saved.services):
        steps.append(
            Step(
                host=ctx.host,
                command="firewall-cmd --list-all",
                why=f"firewalld decides here: {_labels(flows)} must be among its ports, or open them with"
                " firewall-cmd --add-port=… (and again with --permanent)",
            )
        )
    return steps


def stopped(
    ctx: Context, check: str, losses: Sequence[Judged], *, whose: str = "this host's", subject: Subject | None = None
) -> Found:
    """The finding for flows that one rule or policy of this host stops.

    Args:
        ctx: The host whose rule it is.
        check: The check that says it.
        losses: The flows; all have the same rule.
        whose: The host in words.
        subject: What the finding is about, if not this host alone.
    """
    traced = [one for one in losses if one.verdict.trace is not None]
    rule = (traced or losses)[0].verdict.rule
    assert rule is not None  # noqa: S101 - what stops a packet is named
    touched, breaks = _needs(ctx, losses)
    seen = Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}", rule.as_object())
    kept = unless_saved(rule, ctx.facts.firewall_saved.value)
    evidence = (seen, *([_traced(traced)] if traced else []), *kept.evidence)
    remedies = {
        remedy.commands: remedy for one in losses for remedy in remedy_for(ctx, rule, one.packet, one.verdict.trace)
    }
    if losses[0].packet.direction is Direction.IN:
        summary = f"{whose} {rule.place()} keeps {_labels(losses)} out (from {_others(losses)})"
    else:
        summary = f"{whose} {rule.place()} does not let {_labels(losses)} out (to {_others(losses)})"
    return ctx.problem(
        check,
        summary,
        breaks=breaks,
        leaves=touched - breaks,
        subject=subject,
        evidence=evidence,
        cause=cause(
            "firewall.policy" if rule.policy is not None else "firewall.rule",
            host=ctx.host,
            object=rule.as_object(),
            confidence=_sureness(traced),
            explanation=_explained(rule, losses, traced),
            because=kept.because,
            evidence=evidence,
            affects=tuple(text for need, text in _AFFECTED.items() if need in touched),
            remedy=tuple(remedies.values()),
        ),
    )


def _sureness(traced: Sequence[Judged]) -> Confidence:
    """That of the surest trace; without one the rules were only read."""
    found = [one.verdict.trace.confidence for one in traced if one.verdict.trace is not None]
    return min(found, key=list(Confidence).index, default=Confidence.LIKELY)


def _explained(rule: FirewallRule, losses: Sequence[Judged], traced: Sequence[Judged]) -> str:
    way = "from" if losses[0].packet.direction is Direction.IN else "to"
    called = f" It is called from {rule.call_site}." if rule.call_site else ""
    whose = f" It is {rule.owner.value}'s ({rule.belongs_to})." if rule.belongs_to else ""
    rest = [one for one in losses if one.verdict.trace is None]
    if traced:
        text = (
            f"A packet for {'each of ' if len(traced) > 1 else ''}{_labels(traced)} {way} {_others(traced)} was traced through this host's filters, and"
            f' the kernel named what takes it: {rule.place()}, "{rule.text}".{called}{whose}'
        )
        if rest:
            text += (
                f" For {_labels(rest)} {way} {_others(rest)} the same was read from the rules (no packet was traced)."
            )
        return text
    why = next((one.verdict.untraced for one in losses if one.verdict.untraced), "")
    return (
        f"Read from the rules as they are (no packet was traced{': ' + why if why else ''}): {rule.place()},"
        f' "{rule.text}", is the first that decides about {_labels(losses)} {way} {_others(losses)}.{called}'
    )


def _needs(ctx: Context, losses: Sequence[Judged]) -> tuple[set[Need], set[Need]]:
    """The questions that the losses touch, and those of them that become a no."""
    engine = ctx.facts.engine.value
    serves_joining = engine is not None and engine.swarm.is_manager
    touched = {
        need
        for one in losses
        for need in one.use.needs
        if need is not Need.JOIN or serves_joining or ctx.options.manager_role or one.packet.direction is Direction.OUT
    }
    # Gossip goes between one pair of sockets and ESP between one pair of addresses: what the other side sends first
    # opens the way back in conntrack. VXLAN leaves from a port that differs by flow, so its answers are new flows.
    breaks = {
        need
        for one in losses
        for need in one.use.needs
        if need in touched
        and (one.use.plane is Plane.CONTROL or (one.use.plane is Plane.DATA and one.use.port is not None))
    }
    return touched, breaks


CHECKS = (
    Check(
        id="firewall.outbound",
        title="This host's rules let the swarm out",
        explains=(
            "The connection to each manager (unless it came about just now), gossip (tcp and udp 7946) and the data path (udp"
            " 4789) to each node that is known. As root a packet of each is traced through the kernel's own filters and"
            " taken away behind them, so that nobody receives it; where that is not possible the rules are read."
        ),
        remedy="Add an accept in front of the rule that stops it.",
        evaluate=_outbound,
        needs=("firewall",),
    ),
    Check(
        id="firewall.inbound",
        title="This host's rules let the swarm in",
        explains=(
            "What peers will send to this host: gossip (tcp and udp 7946), the data path (udp 4789), and on managers tcp"
            " 2377. As root a packet of each is put on this host's own interface, as from the peer, and traced: the"
            f" kernel names the rule that decides. No more than {MOST_TRACED} are traced in one run; the rest, and all"
            " where a trace is not possible, is a plain reading of the rules, and what that does not understand it calls"
            " unknown. A stock stateful INPUT (established, icmp, ssh, reject) lets a node join, and names may resolve"
            " because the node's own gossip opens the way back, and then all traffic between containers is lost."
        ),
        remedy="Add an accept, scoped to the peers, in front of the rule that stops it.",
        evaluate=_inbound,
        needs=("firewall",),
    ),
)
