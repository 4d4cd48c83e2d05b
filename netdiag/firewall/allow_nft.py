"""An accept in a chain that nft wrote."""

from __future__ import annotations

import re

from netdiag.firewall.allow_iptables import UNTRACKED
from netdiag.firewall.around import Around, call_sites, is_block, is_programs_chain, left_by, passed_untracked
from netdiag.firewall.flow import Flow, answers_of
from netdiag.firewall.persist import keep_native
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.fix import HANDLE, Command, Fix, Proposal
from netdiag.model.trace import Trace
from netdiag.shell import shell_text

_NAME = re.compile(r"[A-Za-z_.][\w/.-]*\Z", re.ASCII)
"""What nft takes for a name. The kernel holds any; in a command its blanks and signs would be nft's own (src/scanner.l)."""
_TABLES = {
    Owner.DOCKER: "the engine writes its nft tables itself and has no chain for an operator's rules in them: publish"
    " the port, or connect both containers to one network",
    Owner.SWARM: "the engine writes its nft tables itself and has no chain for an operator's rules in them",
    Owner.KUBE: "kube-proxy writes its nft tables again: what it refuses is a matter of the Service or of its endpoints",
}


def plan_nft(trace: Trace, rule: FirewallRule, flow: Flow, around: Around) -> Proposal:
    """The accept before a rule of nft's, or at the end of a base chain for its policy."""
    left = left_by(trace, rule) if rule.policy is not None else None
    # What leaves a chain before its end never comes to what is added there.
    at = left or rule
    if is_block(rule.chain) or is_programs_chain(rule.chain) or rule.owner in _TABLES:
        sites = [site.rule for site in call_sites(trace, rule)]
        outside = next(
            (
                site
                for site in sites
                if not (is_block(site.chain) or is_programs_chain(site.chain)) and site.owner not in _TABLES
            ),
            None,
        )
        if outside is None:
            return Proposal(reason=_TABLES.get(rule.owner, f"{rule.chain} belongs to {rule.owner.value}"))
        at = outside
    if not all(_NAME.match(name) for name in (at.table, at.chain)):
        return Proposal(reason=f"nft cannot name the chain of {at.place()} in a command")
    if around.is_iptables(at):
        return Proposal(
            reason=f"the chain of {at.place()} is iptables', which does not show this rule as it is: nft's rules do not"
            " belong into it"
        )
    if at.handle is None and at.policy is None:
        return Proposal(reason=f"the handle of {rule.place()} is not known")
    match = match_words(flow, at.family)
    if not match:
        return Proposal(reason=f"family {at.family} has no match for {flow.covers()}")
    chain = [at.family, at.table, at.chain]
    where = ["add", "rule", *chain] if at.policy is not None else ["insert", "rule", *chain, "handle", str(at.handle)]
    place = f"{at.family} {at.table} {at.chain}, " + (
        "behind its last rule" if at.policy is not None else f"before rule {at.number}"
    )
    comment = f"netdiag-{around.rule_id}"
    accepts = {comment: [*match, "accept", "comment", f'"{comment}"']}
    answers = answers_of(flow) if flow.forwarded and passed_untracked(trace) else None
    if answers is not None:
        back = f"{comment}-answers"
        accepts[back] = [*match_words(answers, at.family), "accept", "comment", f'"{back}"']
    notes = [] if at is rule or at is left else [_untouched(rule)]
    fix = Fix(
        host=around.host,
        summary=f"accept this flow in {place}",
        place=place,
        covers=flow.covers() if answers is None else f"{flow.covers()}, and its answers",
        commands=tuple(around.command(["nft", *where, *words]) for words in accepts.values()),
        undo=tuple(_delete(around, chain, each) for each in accepts),
        persist=keep_native(around, at, *(" ".join(words) for words in accepts.values())),
        notes=(*notes, *((UNTRACKED,) if answers is not None else ())),
    )
    return Proposal(fix=fix)


def _delete(around: Around, chain: list[str], comment: str) -> Command:
    """Take the rule with this comment out again: nft deletes by handle only, and the handle is the kernel's to give."""
    listing = around.command(["nft", "-a", "list", "chain", *chain]).text
    delete = ["nft", "delete", "rule", *chain, "handle"]
    script = f's/.* comment "{comment.replace(".", "[.]")}" # handle //p'
    pasted = f"{around.command(delete).text} $({listing} | {shell_text(['sed', '-n', script])})"
    return around.command([*delete, HANDLE], comment=comment, text=pasted)


def _untouched(rule: FirewallRule) -> str:
    if is_block(rule.chain):
        return f"{rule.place()} is in a block of the rule that calls it, which nothing can be added to"
    return f"{rule.chain} is not touched: its owner, {rule.owner.value}, writes it again"


def match_words(flow: Flow, family: str) -> list[str]:
    """The flow in nft's words; empty where the family cannot say it."""
    if flow.protocol == "arp":
        ends = [("saddr", flow.source), ("daddr", flow.destination)]
        words = [word for end, address in ends if address for word in ("arp", end, "ip", address)]
        return words if family in ("arp", "bridge", "netdev") and words else []
    if family == "arp":
        return []
    kind = "ip6" if flow.family == 6 else "ip"
    words = [kind, "saddr", flow.source] if flow.source else []
    words += [kind, "daddr", flow.destination] if flow.destination else []
    if flow.icmp_type is not None:
        return [*words, "icmpv6" if flow.protocol == "icmpv6" else "icmp", "type", str(flow.icmp_type)]
    if flow.source_port is None and flow.destination_port is None:
        return [*words, "meta", "l4proto", flow.protocol]
    words += [flow.protocol, "sport", str(flow.source_port)] if flow.source_port is not None else []
    words += [flow.protocol, "dport", str(flow.destination_port)] if flow.destination_port is not None else []
    return words
