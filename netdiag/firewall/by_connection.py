"""Whether what stopped a packet goes by connections: one that is made up is then no likeness of a real answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from netdiag.firewall.clues import clues
from netdiag.model.facts import RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import Trace

_APPENDS = re.compile(r"(?:\[\d+:\d+\] )?-A (\S+) ")
"""A rule as iptables-save prints it, with its counters or without."""
_STATE = re.compile(r"--ctstate\b|--state\b|\bct state\b|--ctdir\b|\bct direction\b|-m connmark\b|\bct mark\b")


def judges_connections(trace: Trace, rule_sets: Sequence[RuleSet]) -> bool:
    """Whether a rule of the chains that the packet met, or of a rule set of nft's own, asks for a connection's state.

    Args:
        trace: What became of a packet that was made up.
        rule_sets: The rules of its namespace.
    """
    decided = trace.rule or trace.policy
    chains = {step.rule.chain for step in trace.path} | ({decided.chain} if decided is not None else set())
    for line in (line for rules in rule_sets for line in rules.text.splitlines() if _STATE.search(line)):
        appends = _APPENDS.match(line)
        if appends is None or appends[1] in chains:
            return True
    return False


def asks_for_invalid(rule: FirewallRule) -> bool:
    """Whether a rule takes what connection tracking calls invalid, and nothing that it knows.

    Such a packet belongs to no connection (``nf_ct_get`` gives none for it), so that nothing that asks for one of the
    connection's own properties matches it.
    """
    states = clues(rule.text).matches.get("--ctstate", "").replace("{", "").replace("}", "").replace(",", " ")
    return [state.upper() for state in states.split()] == ["INVALID"]
