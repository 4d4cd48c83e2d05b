"""What surrounds a rule that decided: the other rules of its namespace, and how its chain was come to."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from netdiag.firewall.counters import target_of
from netdiag.firewall.listing import BLOCK
from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import BUILT_IN, SavedChain, nft_family, read_save, split_words
from netdiag.model.facts import HOST, Backend, FirewallSaved, Identity, RuleSet
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.fix import Command
from netdiag.model.trace import Trace, TraceStep
from netdiag.shell import shell_text

MARK = "netdiag"
"""Signs a rule where nothing says when, and for which change, it is added."""
_CALL = re.compile(r"\b(?:jump|goto) (\S+)")
_QUOTED = re.compile(r'"[^"]*"')


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner is told beside the trace.

    Attributes:
        host: Its name, for the answer.
        rule_sets: The rules of the namespace that the packet was traced in.
        plain: Which variant the name ``iptables`` is here; None where that is not known.
        netns: The file that names the namespace, where it is not the host's own.
        rule_id: What is written into the comment of a rule of nft's, so that it is found again.
        mark: The comment of a rule of iptables' or ufw's: it says who has added it, and keeps its undo from a rule of
            the operator's that is spelt the same.
        half: Only one direction of the connection passes this host, so that its tracking does not know it.
    """

    host: str
    rule_sets: tuple[RuleSet, ...]
    identity: Identity | None = None
    saved: FirewallSaved | None = None
    plain: Backend | None = None
    namespace: str = HOST
    netns: str = ""
    rule_id: str
    mark: str = MARK
    half: bool = False

    def saved_chain(self, rule: FirewallRule, chain: str) -> SavedChain | None:
        """A chain of the rule's own table, as iptables shows it; None where it does not."""
        for rules in self.rule_sets:
            if rules.backend is rule.backend and nft_family(rules.family) == rule.family:
                return read_save(rules.text).tables.get(rule.table, {}).get(chain)
        return None

    def is_iptables(self, rule: FirewallRule) -> bool:
        """Whether iptables-nft made the chain of a rule that is told in nft's words."""
        return any(
            rules.backend is Backend.IPTABLES_NFT
            and nft_family(rules.family) == rule.family
            and rule.chain in read_save(rules.text).tables.get(rule.table, {})
            for rules in self.rule_sets
        )

    def both_variants(self) -> bool:
        """Whether both iptables variants hold rules here."""
        return {Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY} <= {rules.backend for rules in self.rule_sets}

    def tracks(self, rule: FirewallRule) -> bool:
        """Whether the rules of a family make the kernel track connections, by translating or by asking for a state."""
        for rules in self.rule_sets:
            if rules.backend is Backend.NFT_NATIVE and re.search(r"\bct \w+|type nat hook", rules.text):
                return True
            if rules.backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
                tables = read_save(rules.text).tables if nft_family(rules.family) == rule.family else {}
                if "nat" in tables or any(
                    word in ("conntrack", "state")
                    for chains in tables.values()
                    for chain in chains.values()
                    for each in chain.rules
                    for word in each.words
                ):
                    return True
        return False

    def is_active(self, service: str) -> bool:
        """Whether a program that owns rules runs on this host."""
        services = self.saved.services if self.saved is not None else ()
        return any(each.name == service and each.active for each in services)

    def command(self, argv: Sequence[str], *, comment: str = "", text: str = "") -> Command:
        """A command in the namespace that the packet was traced in."""
        prefix = ("nsenter", f"--net={self.netns}", "--") if self.netns else ()
        whole = (*prefix, *argv)
        return Command(argv=whole, text=text or shell_text(whole), comment=comment)


def called(rule: FirewallRule) -> str:
    """The chain that a rule jumps or goes to; empty where it does neither."""
    if rule.text.startswith("-A "):
        return target_of(split_words(rule.text))
    found = _CALL.search(_QUOTED.sub("", rule.text))
    return found[1] if found is not None else ""


def call_sites(trace: Trace, rule: FirewallRule) -> tuple[TraceStep, ...]:
    """The rules that led the packet into the chain of ``rule``, the nearest one first."""
    sites: list[TraceStep] = []
    chain = rule.chain
    for step in reversed(trace.path):
        at = step.rule
        if (
            step.verdict in ("jump", "goto")
            and (at.family, at.table) == (rule.family, rule.table)
            and (called(at) == chain or (is_block(chain) and at.text.endswith("}")))
        ):
            sites.append(step)
            chain = at.chain
    return tuple(sites)


def left_by(trace: Trace, policy: FirewallRule) -> FirewallRule | None:
    """The rule by which the packet left a base chain before its end, for the policy; None where it passed all rules."""
    for step in reversed(trace.path):
        at = step.rule
        if (at.backend, at.family, at.table, at.chain) == (
            policy.backend,
            policy.family,
            policy.table,
            policy.chain,
        ) and at.policy is None:
            return at if step.verdict in ("goto", "return") else None
    return None


def passed_untracked(trace: Trace) -> bool:
    """Whether a rule kept the packet from connection tracking."""
    return any(_untracks(step.rule) for step in trace.path)


def _untracks(rule: FirewallRule) -> bool:
    if rule.backend is Backend.NFT_NATIVE:
        return "notrack" in _QUOTED.sub("", rule.text).split()
    words = split_words(rule.text)
    target = target_of(words)
    return target == "NOTRACK" or (target == "CT" and "--notrack" in words)


def is_block(chain: str) -> bool:
    """Whether a chain of nft's is a block of the rule that calls it: the kernel lets nobody add to it."""
    return chain.startswith(BLOCK)


def is_programs_chain(chain: str) -> bool:
    """Whether a program writes this chain again whenever it likes."""
    return chain not in BUILT_IN and owner_of(chain, "") is not Owner.OPERATOR
