"""Which rules' counters moved between two readings of the same rule set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import SavedChain, nft_family, read_save
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule

_STOPS = frozenset({"DROP", "REJECT", "TARPIT"})
_TEXTS = frozenset({"--comment", "--string", "--hex-string"})


def target_of(words: tuple[str, ...]) -> str:
    """The target a rule jumps or goes to; empty for a rule that only counts."""
    position = 0
    while position < len(words) - 1:
        if words[position] in ("-j", "--jump", "-g", "--goto"):
            return words[position + 1]
        # A text that an operator wrote may look like an option.
        position += 2 if words[position] in _TEXTS else 1
    return ""


def stopping_rules_that_moved(
    before: Iterable[RuleSet], after: Iterable[RuleSet]
) -> Iterator[tuple[FirewallRule, int]]:
    """Rules and policies that drop or reject and whose packet counter grew, with by how much.

    Only iptables' own text is read (both variants): native nft rules count only where somebody asked them to. A rule
    is recognised by its place and text, so a rule set that was changed in between yields nothing for what changed.
    """
    earlier = {(rules.backend, rules.family): rules for rules in before}
    for late in after:
        early = earlier.get((late.backend, late.family))
        if early is None or late.backend not in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
            continue
        early_tables, late_tables = read_save(early.text).tables, read_save(late.text).tables
        for table, chains in late_tables.items():
            for name, chain in chains.items():
                was = early_tables.get(table, {}).get(name)
                if was is not None:
                    yield from _moved(late, table, was, chain, chains)


def _moved(
    rules: RuleSet, table: str, was: SavedChain, chain: SavedChain, chains: Collection[str]
) -> Iterator[tuple[FirewallRule, int]]:
    if chain.policy in _STOPS and chain.packets is not None and was.packets is not None:
        grown = chain.packets - was.packets
        if grown > 0:
            yield (
                FirewallRule(
                    backend=rules.backend,
                    family=nft_family(rules.family),
                    table=table,
                    chain=chain.name,
                    text=f":{chain.name} {chain.policy}",
                    policy=chain.policy,
                ),
                grown,
            )
    for early, late in zip(was.rules, chain.rules, strict=False):
        if early.text != late.text or early.packets is None or late.packets is None:
            continue
        if late.packets > early.packets and target_of(late.words) in _STOPS:
            yield (
                FirewallRule(
                    backend=rules.backend,
                    family=nft_family(rules.family),
                    table=table,
                    chain=chain.name,
                    number=late.number,
                    text=late.text,
                    owner=owner_of(chain.name, late.text, chains=chains),
                ),
                late.packets - early.packets,
            )
