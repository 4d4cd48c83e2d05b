"""Checks of what this host has to let in: ports that its rules drop for everybody, and rules that were meant for them.

A packet is asked about with nothing known of it but what every such packet has: a source that is not said, and each
device that a rule tells apart. Only what is dropped whatever else it is, is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.firewall.flow import Flow
from netdiag.firewall.lint_asking import ANOTHER, Asking, Stopped
from netdiag.firewall.lint_context import SHOWN, Check, Context, Found, Need
from netdiag.firewall.near_miss import Candidate, candidate, judged
from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.nft.model import NftRule
from netdiag.firewall.netfilter.rules import Rule, Verdict
from netdiag.firewall.standing import Standing, StandingTable
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.firewall_lint import RulePlace, Severity
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Trace, TracedPacket, TracePath, TraceVerdict

_WIDEST = 100
"""Ports of a range that is still taken for a rule about one of them."""


# --- who is meant ---


def _blocked(context: Context) -> Iterator[Found]:
    asking = context.once(Asking)
    for need in context.needs:
        if need.meant or _swarm_is_written(context.standing, need):
            stopped = asking.stopped(need)
            if stopped is not None:
                yield _found(context, stopped)


def _swarm_is_written(standing: Standing, need: Need) -> bool:
    """Whether the rules themselves are those of a swarm's node: its routing mesh has a chain."""
    if standing.facts is not None or not need.only_there or need.port == _MANAGERS_ONLY:
        return False
    return any("DOCKER-INGRESS" in table.chains for table in standing.of("nat", 4))


_MANAGERS_ONLY = 2377


def _found(context: Context, stopped: Stopped) -> Found:
    need = stopped.need
    for_whom = f" from {stopped.peer}" if stopped.peer else ""
    by = _said(stopped)
    near = [
        (table, chain, rule, why)
        for table, chain, rule in _accepts(context, need, strict=False)
        if (why := _why_not(table, chain, rule, stopped)) is not None
    ]
    nearly = f"; meant for it was {near[0][0].name} {near[0][1]} rule {near[0][2].number}: {near[0][3]}" if near else ""
    places = (*_deciding(context, stopped), *(table.place(chain, rule) for table, chain, rule, _ in near[:SHOWN]))
    return Found(
        summary=f"{need.label} ({need.purpose}){for_whom} is not let in: {by}{nearly}",
        places=places,
        severity=Severity.ERROR if need.meant else Severity.WARNING,
    )


def _said(stopped: Stopped) -> str:
    step = stopped.steps[0]
    what = {Verdict.DROP: "drops", Verdict.REJECT: "rejects"}[stopped.verdict]
    by = f"rule {step.rule.number}" if step.rule is not None else "the policy"
    others = len({(each.backend, each.table, each.chain, each.rule and each.rule.number) for each in stopped.steps}) - 1
    return f"{by} of {step.table} {step.chain} ({step.backend}) {what} it" + (
        f", if not {'another rule' if others == 1 else f'{others} other rules'} before" if others else ""
    )


def _deciding(context: Context, stopped: Stopped) -> tuple[RulePlace, ...]:
    found = []
    for step in stopped.steps[:1]:
        rule = step.rule
        if isinstance(rule, NftRule):
            continue  # of a table of nft's own, which has no place here: the summary names it
        for table in context.standing.of(step.table, 4):
            if table.backend == step.backend and step.chain in table.chains:
                found.append(table.place(step.chain, rule))
                break
    return tuple(found)


# --- what is written for it ---


def _near(context: Context) -> Iterator[Found]:
    """Rules that were written for a port, and that do not let it in."""
    asking = context.once(Asking)
    for need in context.needs:
        if need.meant or _swarm_is_written(context.standing, need) or need.port is None:
            continue
        written = [
            each
            for each in _meant(tuple(_accepts(context, need, strict=True)), need)
            if (id(each[0]), each[1], each[2].number) not in context.idle
        ]
        stopped = asking.stopped(need) if written else None
        if stopped is None:
            continue
        told = [
            (table, chain, rule, why)
            for table, chain, rule in written
            if (why := _why_not(table, chain, rule, stopped)) is not None
        ]
        if told:
            table, chain, rule, why = told[0]
            yield Found(
                summary=f"{table.name} {chain} rule {rule.number} is written for {need.label} ({need.purpose}) and does"
                f" not let it in: {why}; {_said(stopped)}",
                places=(table.place(chain, rule), *_deciding(context, stopped)),
            )


_Written = tuple[StandingTable, str, Rule]


def _meant(written: Sequence[_Written], need: Need) -> Sequence[_Written]:
    """Of rules that name the port those of its protocol, if there are any: then the others mean what they say."""
    same = [each for each in written if _protocols(each[2]) == {_NUMBERS[need.protocol]}]
    return same or written


def _protocols(rule: Rule) -> set[int]:
    return {match.number for match in rule.matches if isinstance(match, header.Protocol) and not match.negated}


def _accepts(context: Context, need: Need, *, strict: bool) -> Iterator[_Written]:
    """Rules of no program's that accept and name the port; ``strict``: only where nothing else can be meant."""
    has_engine = any(name.startswith("DOCKER") for table in context.standing.of("filter", 4) for name in table.chains)
    for each in context.once(Asking).accepts:
        if need.port is None or not each.names(need.port, 1 if strict else _WIDEST):
            continue
        inward = each.chain in each.table.reached_from("INPUT")
        onward = each.chain in each.table.reached_from("FORWARD")
        here = inward or (onward and has_engine and need.only_there)
        if not strict or (here and _means(each.rule, need, inward=inward)):
            yield each.table, each.chain, each.rule


def _means(rule: Rule, need: Need, *, inward: bool) -> bool:
    """Whether a rule that names the port can only mean these packets."""
    same = _protocols(rule) == {_NUMBERS[need.protocol]}
    if any(isinstance(match, header.Device) for match in rule.matches):
        return False  # it may be for the packets of that device alone
    if not inward:
        return same and not any(isinstance(match, header.Network) for match in rule.matches)
    return same or need.only_there


_NUMBERS = {"tcp": 6, "udp": 17, "esp": 50}


def _why_not(table: StandingTable, chain: str, rule: Rule, stopped: Stopped) -> str | None:
    """As `netdiag.firewall.near_miss` tells it."""
    hook = (
        "input" if chain in table.reached_from("INPUT") else "forward" if chain in table.reached_from("FORWARD") else ""
    )
    found = next(candidate(Backend(table.backend), table.name, chain, rule.number, rule.text, ""), None)
    if found is None:
        return None
    step, need = stopped.steps[0], stopped.need
    decided = FirewallRule(
        backend=Backend(step.backend),
        family="ip",
        table=step.table,
        chain=step.chain,
        number=step.rule.number if step.rule is not None else None,
        text=step.rule.text if step.rule is not None else f":{step.chain} {step.verdict.upper()}",
        policy=step.verdict.upper() if step.rule is None else None,
    )
    packet = TracedPacket(
        path=TracePath.IN,
        in_device="" if stopped.device == ANOTHER else stopped.device,
        source=stopped.peer,
        destination=need.destination,
        protocol=need.protocol,
        destination_port=need.port,
    )
    trace = Trace(
        verdict=TraceVerdict(stopped.verdict.value),
        rule=decided if decided.policy is None else None,
        policy=decided if decided.policy is not None else None,
        confidence=Confidence.LIKELY,
        path=(),
        level=Level.FACTS,
        elapsed_ms=None,
        reason="",
        packet=packet,
    )
    flow = Flow(family=4, protocol=need.protocol, source=stopped.peer, destination_port=need.port)
    known: Candidate = msgspec.structs.replace(found, hook=found.hook or hook)
    miss = judged(known, trace, flow, decided)
    return None if miss is None else miss.why


CHECKS = (
    Check(
        id="lint.blocked-port",
        title="ports of the swarm, of Calico and of etcd that are dropped for everybody",
        explains=(
            "This host is a member of a swarm or of a Calico network (by its facts, or since the rules are those of a"
            " swarm's node), and its rules drop what the other members send: the join times out, names are not found, or"
            " containers do not reach each other. Told only where no source and no device gets through, or, with facts,"
            " a member that is known does not."
        ),
        remedy="netdiag firewall allow proposes the one rule, where it belongs; see it first with --plan.",
        severities=(Severity.ERROR, Severity.WARNING),
        run=_blocked,
    ),
    Check(
        id="lint.near-miss",
        title="rules that were written for such a port, and do not let it in",
        explains=(
            "A rule accepts a port that only a swarm has, or this very port and protocol, and the packets are dropped all"
            " the same: tcp for udp, FORWARD or DOCKER-USER for a packet to the host itself, behind the rule that drops,"
            " in the other backend, a state that a new flow does not have."
        ),
        remedy="Write the rule so that it matches, where the packet comes by: netdiag firewall allow proposes it.",
        severities=(Severity.WARNING,),
        run=_near,
    ),
)
