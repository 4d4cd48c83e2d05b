"""Whether one rule is saved: the "because" of a rule that decides, and that nobody saved or nobody loads.

Told from facts alone, so that a bundle answers as well. Texts are brought to one spelling and compared; what a file
includes or computes is not followed, so that the answer can be "not known".
"""

from __future__ import annotations

import msgspec

from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import split_words
from netdiag.firewall.saved_iptables import read_file
from netdiag.firewall.saved_nft import declared_tables
from netdiag.firewall.saved_sources import NFTABLES, UFW, Sources, sources_of
from netdiag.firewall.saved_text import canonical
from netdiag.model.facts import Backend, FirewallSaved
from netdiag.model.firewall import FirewallRule, Owner

_SIX = ("ip6", "6.rules", ".v6")


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a rule comes back at the next boot; None where that is not known, and why in one sentence."""

    saved: bool | None
    why: str
    file: str = ""


def saved_state(rule: FirewallRule, saved: FirewallSaved) -> SavedState:
    """Whether a running rule is in a file that a service of this host loads at boot.

    A rule that a program writes at its own start needs no saving, and counts as saved. Policies are not told here.
    """
    native = rule.table if rule.backend is Backend.NFT_NATIVE else ""
    owner = owner_of(rule.chain, rule.text, native)
    if owner not in (Owner.OPERATOR, Owner.UFW):
        return SavedState(saved=True, why=f"{owner.value} writes it at its own start")
    if rule.policy is not None:
        return SavedState(saved=None, why="whether a policy is saved is not told from texts alone")
    sources = sources_of(saved)
    if rule.backend is Backend.NFT_NATIVE:
        return _native(rule, saved, sources)
    family = 6 if rule.family == "ip6" else 4
    key = canonical(split_words(rule.text)[2:], family)
    asleep = ""
    for rules in saved.rules:
        if rules.source == NFTABLES or _is_six(rules.path) is not (family == 6):
            continue
        chain = read_file(rules.text).tables.get(rule.table, {}).get(rule.chain)
        if chain is None or all(canonical(each.words, family) != key for each in chain.rules):
            continue
        found = sources.by_name.get(rules.source)
        if found is not None and found.enabled and sources.at_boot(rules.source, family):
            return SavedState(saved=True, why=f"it is saved in {rules.path}", file=rules.path)
        if found is not None and found.enabled is None:
            why = f"it is saved in {rules.path}; whether {rules.source} starts at boot is not known"
            return SavedState(saved=None, why=why, file=rules.path)
        asleep = asleep or rules.path
    if asleep:
        return SavedState(saved=False, why=f"it is saved in {asleep}, which nothing loads at boot", file=asleep)
    if owner is Owner.UFW and not rule.chain.startswith(("ufw-user", "ufw6-user")):
        starts = sources.at_boot(UFW)
        return SavedState(saved=starts, why="ufw writes it when it starts" if starts else "ufw does not start at boot")
    return SavedState(saved=False, why="no file that is loaded at boot has it")


def _native(rule: FirewallRule, saved: FirewallSaved, sources: Sources) -> SavedState:
    files = [rules for rules in saved.rules if rules.source == NFTABLES]
    has = next((rules for rules in files if (rule.family, rule.table) in declared_tables(rules.text)), None)
    if not sources.at_boot(NFTABLES):
        return SavedState(saved=False, why="nftables.service does not start at boot", file=has.path if has else "")
    if has is not None:
        words = " ".join(rule.text.split())
        if words in " ".join(has.text.split()):
            return SavedState(saved=True, why=f"it is saved in {has.path}", file=has.path)
        why = f"{has.path} has its table; its own tool must say whether the rule is in it (netdiag firewall diff)"
        return SavedState(saved=None, why=why, file=has.path)
    if any("include" in rules.text for rules in files):
        return SavedState(saved=None, why="a file that is loaded at boot includes others, which were not followed")
    return SavedState(saved=False, why=f"no file of nftables.service has the table {rule.family} {rule.table}")


def _is_six(path: str) -> bool:
    return any(mark in path for mark in _SIX)
