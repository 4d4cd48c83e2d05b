"""Rules that ask whose a packet is: what one user's attempt meets says nothing of another's; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from netdiag.firewall.clues import clues
from netdiag.firewall.listing import read_listing
from netdiag.firewall.matching import Match, match_rule
from netdiag.firewall.save_text import nft_family, read_save
from netdiag.model.facts import HOST, Backend, RuleSet
from netdiag.model.firewall import FirewallRule, Packet

_OWNER = re.compile(r"--(?:uid|gid)-owner\b|\bsk[ug]id\b")
"""iptables-extensions(8), owner; nft(8), meta expressions."""
_ONLY_NOTES = frozenset(("LOG", "NFLOG", "MARK", "CONNMARK", "TRACE", "AUDIT", "ULOG", "CHECKSUM", "DSCP", "TOS"))


def user_rules(rule_sets: Sequence[RuleSet], packet: Packet, namespace: str = HOST) -> tuple[FirewallRule, ...]:
    """The rules of a namespace that decide by user or group about what it sends, and may be for this packet.

    A rule that accepts counts as one that drops: behind it others may be refused. What a rule asks for besides must not
    rule the packet out; whether it is come to is not known.

    Args:
        rule_sets: The namespace's.
        packet: One that leaves.
        namespace: Its name, for the rules.
    """
    # nft lists what iptables-nft wrote as well.
    written = {
        (nft_family(rules.family), table, chain)
        for rules in rule_sets
        if rules.backend is Backend.IPTABLES_NFT
        for table, chains in read_save(rules.text).tables.items()
        for chain in chains
    }
    found = [each for rules in rule_sets for each in _of(rules, packet, namespace)]
    native = Backend.NFT_NATIVE
    return tuple(
        each for each in found if each.backend is not native or (each.family, each.table, each.chain) not in written
    )


def _of(rules: RuleSet, packet: Packet, namespace: str) -> Iterator[FirewallRule]:
    if rules.backend is Backend.NFT_NATIVE:
        yield from _native(rules, packet, namespace)
        return
    if rules.backend not in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY) or rules.family != packet.family:
        return
    for table, chains in read_save(rules.text).tables.items():
        for rule in (each for chain in chains.values() for each in chain.rules):
            if not _OWNER.search(rule.text) or match_rule(rule.words, packet) is Match.NO:
                continue
            if clues(rule.text).target in _ONLY_NOTES:
                continue
            yield FirewallRule(
                backend=rules.backend,
                family=nft_family(rules.family),
                table=table,
                chain=rule.chain,
                number=rule.number,
                text=rule.text,
                namespace=namespace,
            )


def _native(rules: RuleSet, packet: Packet, namespace: str) -> Iterator[FirewallRule]:
    families = ("inet", nft_family(packet.family))
    for chain in read_listing(rules.text).values():
        for rule in chain.rules if chain.family in families else ():
            if not _OWNER.search(rule.text) or _is_for_another(rule.text, packet):
                continue
            yield FirewallRule(
                backend=rules.backend,
                family=chain.family,
                table=chain.table,
                chain=chain.name,
                number=rule.number,
                handle=rule.handle or None,
                text=rule.text,
                namespace=namespace,
            )


def _is_for_another(text: str, packet: Packet) -> bool:
    """Whether a rule of nft's names another port, protocol or destination, in plain words."""
    matches = clues(text).matches
    port, protocol, destination = (matches.get(name, "") for name in ("--dport", "-p", "-d"))
    if port.isdigit() and packet.destination_port is not None and int(port) != packet.destination_port:
        return True
    if protocol in ("tcp", "udp", "icmp") and protocol != packet.protocol:
        return True
    plain = bool(destination) and all(each in "0123456789.:abcdef" for each in destination)
    return plain and destination != packet.destination
