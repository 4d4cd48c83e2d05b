"""The rule that likely took a probe which was not traced: read from its host's rules, or proven for others like it.

With many peers only a few losses of one kind are traced. What they share must still be told once, and as what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from netdiag.checks.context import Context
from netdiag.checks.two_sided import Judged, Where
from netdiag.firewall.listing import read_listing
from netdiag.firewall.owner import attribute
from netdiag.firewall.plain import Outcome, read_plainly
from netdiag.model.facts import HOST, Backend, RuleSet
from netdiag.model.firewall import Direction, FirewallRule, Packet

_OF_ONE_SENDER = re.compile(
    r"(?:^| )(?:-s|-d|--src\S*|--dst\S*|--match-set|-m|[sd]addr|ether|limit|@\S+|numgen|quota)(?: |$)"
)
"""Words by which a rule may tell one peer's packets from another's, or one packet from the next."""


def with_supposed(ctx: Context, judged: Sequence[Judged]) -> list[Judged]:
    """The probes; one that a host lost and that was not traced with the rule that likely took it, if there is one."""
    proven: dict[tuple[object, ...], list[FirewallRule]] = {}
    for each in judged:
        if each.rule is not None:
            rules = proven.setdefault(_kind(each), [])
            rules += [each.rule] if each.rule not in rules else []
    return [
        msgspec.structs.replace(each, supposed=_rule(ctx, each, proven.get(_kind(each), ())))
        if each.at_peer is not None and (each.trace is None or each.trace.trace is None)
        else each
        for each in judged
    ]


def packet_of(lost: Judged, *, of_any_peer: bool = False) -> Packet:
    """The probe as its host's filters met it; without the other host's address if it stands for those of all."""
    probe, outward = lost.probe, lost.where is Where.SENDER
    source = probe.source if outward else probe.seen_source or probe.source
    target = probe.destination if outward else probe.seen_destination or probe.destination
    device = lost.view.peer_device if lost.at_peer else lost.view.device
    return Packet(
        direction=Direction.OUT if outward else Direction.IN,
        protocol="50" if probe.protocol == "esp" else probe.protocol,
        family=6 if ":" in probe.destination else 4,
        source="" if of_any_peer and not outward else source,
        destination="" if of_any_peer and outward else target,
        source_port=probe.source_port if outward else probe.seen_source_port or probe.source_port,
        destination_port=probe.port,
        device=device,
    )


def _kind(each: Judged) -> tuple[object, ...]:
    probe = each.probe
    return (each.where, each.at_peer, probe.protocol, probe.port, probe.payload, probe.length_bytes is not None)


def _rule(ctx: Context, lost: Judged, proven: Sequence[FirewallRule]) -> FirewallRule | None:
    facts = lost.view.facts if lost.at_peer else ctx.facts
    rule_sets = (facts.firewall.value or {}).get(HOST, ()) if facts is not None else ()
    if lost.where in (Where.SENDER, Where.RECEIVER) and rule_sets:
        reading = read_plainly(rule_sets, packet_of(lost))
        if reading.outcome in (Outcome.DROP, Outcome.REJECT) and reading.rule is not None:
            return attribute(reading.rule, facts=facts)
    for rule in proven:
        # The host's own rule for one peer is its rule for all, unless it asks who it is.
        if _OF_ONE_SENDER.search(rule.text) is None and (not lost.at_peer or _has(rule_sets, rule)):
            return rule
    return None


def _has(rule_sets: Sequence[RuleSet], rule: FirewallRule) -> bool:
    """Whether a host's listing has a rule of nft's own at the same place."""
    return any(
        one.number == rule.number and one.text == rule.text
        for rules in rule_sets
        if rule.backend is Backend.NFT_NATIVE and rules.backend is Backend.NFT_NATIVE
        for chain in [read_listing(rules.text).get((rule.family, rule.table, rule.chain))]
        if chain is not None
        for one in chain.rules
    )
