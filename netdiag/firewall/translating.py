"""Which running rules may give a packet that this host sends another address: a plain reading, never a proof."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from netdiag.firewall.counters import target_of
from netdiag.firewall.listing import read_listing
from netdiag.firewall.matching import Match, match_rule
from netdiag.firewall.owner import attribute
from netdiag.firewall.save_text import nft_family, read_save
from netdiag.model.facts import Backend, Facts, RuleSet
from netdiag.model.firewall import FirewallRule, Packet

_TARGETS = {True: ("SNAT", "MASQUERADE", "NETMAP"), False: ("DNAT", "REDIRECT", "NETMAP")}
_STATEMENTS = {
    True: re.compile(r"(?:^| )(?:snat|masquerade)(?: |$)"),
    False: re.compile(r"(?:^| )(?:dnat|redirect)(?: |$)"),
}
_HOOKS = {True: "postrouting", False: "output"}


def translating(
    rule_sets: Iterable[RuleSet], packet: Packet, facts: Facts | None, *, source: bool
) -> tuple[FirewallRule, ...]:
    """The rules that may do it; a rule that surely does not match is none of them.

    Args:
        rule_sets: The host's running rules.
        packet: As the host's program sends it.
        facts: Of the host, for the rules' owners.
        source: Its source is changed; else its destination.
    """
    rule_sets = tuple(rule_sets)
    saved = [rules for rules in rule_sets if rules.backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)]
    written = {
        (nft_family(rules.family), table)
        for rules in saved
        if rules.backend is Backend.IPTABLES_NFT
        for table in read_save(rules.text).tables
    }
    found = [rule for rules in saved if rules.family == packet.family for rule in _saved(rules, packet, source=source)]
    for rules in rule_sets:
        if rules.backend is Backend.NFT_NATIVE:
            found += _native(rules, packet, written, source=source)
    return tuple(attribute(rule, facts=facts) for rule in found)


def _saved(rules: RuleSet, packet: Packet, *, source: bool) -> Iterator[FirewallRule]:
    for chain in read_save(rules.text).tables.get("nat", {}).values():
        for rule in chain.rules:
            if target_of(rule.words) in _TARGETS[source] and match_rule(rule.words, packet) is not Match.NO:
                yield FirewallRule(
                    backend=rules.backend,
                    family=nft_family(rules.family),
                    table="nat",
                    chain=chain.name,
                    number=rule.number,
                    text=rule.text,
                )


def _native(rules: RuleSet, packet: Packet, written: set[tuple[str, str]], *, source: bool) -> Iterator[FirewallRule]:
    for (family, table, name), chain in read_listing(rules.text).items():
        mine = family in ("inet", nft_family(packet.family)) and (family, table) not in written
        if not mine or (chain.kind, chain.hook) != ("nat", _HOOKS[source]):
            continue
        for rule in chain.rules:
            if _STATEMENTS[source].search(rule.text):
                yield FirewallRule(
                    backend=rules.backend,
                    family=family,
                    table=table,
                    chain=name,
                    number=rule.number,
                    handle=rule.handle or None,
                    text=rule.text,
                )
