"""The rules that a trace's events are looked up in."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.facts.nft_dump import gather_listing
from netdiag.firewall.listing import has_blocks
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Absence, Backend, Namespace, RuleSet
from netdiag.model.wire import Gather


def gather_rules(rule_sets: Sequence[RuleSet], namespace: Namespace, reading: str = "") -> Gather[Rules]:
    """The rule sets, ready to be looked up by handle; the kernel is asked for what nft does not show of them.

    Without nft the kernel still tells which rule of its chain a handle is, and iptables its text; and of blocks nft
    shows no handles.

    Args:
        rule_sets: Of the namespace, as they were listed.
        namespace: Whose they are.
        reading: As for `netdiag.facts.firewall.gather_firewall`.
    """
    native = [rules.text for rules in rule_sets if rules.backend is Backend.NFT_NATIVE]
    if native and not any(has_blocks(text) for text in native):
        return Rules(rule_sets, namespace.id)
    listing = yield from gather_listing(namespace, reading)
    return Rules(rule_sets, namespace.id, None if isinstance(listing, Absence) else listing)
