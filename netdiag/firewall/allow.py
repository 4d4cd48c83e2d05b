"""From the rule that the kernel named to the least rule that lets the packet through: whose rule it is decides how.

Nothing is proposed for a rule that is not understood, and never a flush, a policy, a reload or a restart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from netdiag.firewall.allow_firewalld import is_firewallds_end, plan_firewalld
from netdiag.firewall.allow_iptables import plan_iptables
from netdiag.firewall.allow_nft import plan_nft
from netdiag.firewall.allow_ufw import is_ufws_policy, plan_ufw
from netdiag.firewall.around import Around, left_by
from netdiag.firewall.flow import Flow, flow_of_trace
from netdiag.model.facts import HOST, Backend
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.fix import Fix, Proposal
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Trace, TraceVerdict

_JAILS = (
    re.compile(r"^jail ([^\s,]+)"),
    re.compile(r"^(?:f2b|fail2ban)-(?!chain$)(\S+)$"),
    re.compile(r"--match-set f2b-(\S+)"),
    re.compile(r"@addr6?-set-(\S+)"),
)
_ENCRYPTED = re.compile(r"--dir (?:in|out) --pol none\b")
_DAEMONS = (Owner.FIREWALLD, Owner.UFW, Owner.FAIL2BAN)


def plan(trace: Trace, around: Around, *, answers_to: Endpoints | None = None) -> Proposal:
    """The smallest fix for a traced packet, or why there is none.

    Args:
        trace: The trace.
        around: What else the host says.
        answers_to: What the packet answers, as connection tracking here knows it; None for one that opens a flow.
    """
    if trace.verdict is TraceVerdict.ACCEPT:
        return Proposal(reason="the packet is let through already")
    if trace.verdict is TraceVerdict.UNKNOWN:
        return Proposal(reason=f"it is not known what stops the packet: {trace.reason}")
    rule = trace.rule or trace.policy
    if rule is None:
        return Proposal(reason=trace.reason or "the rule that decided is not known")
    if rule.policy is None and not rule.text:
        return Proposal(reason=trace.reason or f"the text of {rule.place()} is not known: trace again")
    flow = flow_of_trace(trace, answers_to)
    found = _by_owner(trace, rule, flow, around, _owner(trace, rule, around))
    doubt = unproven(trace)
    if found.fix is None or not doubt:
        return found
    note = f"{doubt}: the rule may be of no use"
    return Proposal(fix=msgspec.structs.replace(found.fix, notes=(note, *found.fix.notes)))


def unproven(trace: Trace) -> str:
    """Why a verdict is no ground to change anything yet; empty where the kernel has shown it."""
    if trace.confidence is Confidence.PROVEN:
        return ""
    why = f" ({trace.reason})" if trace.reason else ""
    return f"what decides is {trace.confidence.value}, not proven{why}"


def _owner(trace: Trace, rule: FirewallRule, around: Around) -> Owner:
    """Whose verdict it is; a last word in a built-in chain belongs to the program whose chains stand before it."""
    if rule.owner is Owner.OPERATOR and rule.backend is not Backend.NFT_NATIVE:
        left = left_by(trace, rule) if rule.policy is not None else None
        if is_ufws_policy(rule, around) and (left is None or left.owner is Owner.UFW):
            return Owner.UFW
        if is_firewallds_end(trace, rule):
            return Owner.FIREWALLD
    return rule.owner


def _by_owner(trace: Trace, rule: FirewallRule, flow: Flow, around: Around, owner: Owner) -> Proposal:
    reason = _untouchable(rule, around, owner)
    if reason:
        return Proposal(reason=reason)
    if flow.source_port is not None and owner in (Owner.FIREWALLD, Owner.UFW):
        return Proposal(
            reason=f"{rule.place()} stops an answer, which {owner.value} lets through by itself where it tracks"
            " connections: see why it does not"
        )
    return _PLANNERS[owner](trace, rule, flow, around)


def _untouchable(rule: FirewallRule, around: Around, owner: Owner) -> str:
    """Why nothing is proposed against a rule, though something may be against others of its owner's; empty otherwise."""
    if owner in (Owner.DOCKER, Owner.SWARM) and _ENCRYPTED.search(rule.text):
        return (
            f"{rule.place()} drops what should have come encrypted in an encrypted network{_belongs(rule)}: letting it"
            " through would carry the network's packets in the clear; see why this peer has no encryption (keys, ESP)"
        )
    if owner is Owner.KUBE and "no endpoints" in rule.text:
        return f"{rule.place()} refuses because the Service has no endpoints{_belongs(rule)}: no accept can reach any"
    if owner is Owner.KUBE and rule.chain.startswith(("KUBE-NWPLCY", "KUBE-POD-FW")):
        return f"{rule.place()} is the verdict of a network policy{_belongs(rule)}: allow the flow there"
    if around.namespace != HOST and owner in _DAEMONS:
        return f"{rule.place()} is {owner.value}'s inside {around.namespace}: only {owner.value} there can change it"
    return ""


def _belongs(rule: FirewallRule) -> str:
    return f" ({rule.belongs_to})" if rule.belongs_to else ""


def _in_front(trace: Trace, rule: FirewallRule, flow: Flow, around: Around) -> Proposal:
    """An accept that comes before what decides, or before the call of a program's chain."""
    plan_rule = plan_nft if rule.backend is Backend.NFT_NATIVE else plan_iptables
    return plan_rule(trace, rule, flow, around)


def _of_netdiag(_trace: Trace, rule: FirewallRule, _flow: Flow, _around: Around) -> Proposal:
    return Proposal(reason=f"{rule.place()} is netdiag's own")


def _of_calico(_trace: Trace, rule: FirewallRule, _flow: Flow, _around: Around) -> Proposal:
    return Proposal(
        reason=f"{rule.place()} is the verdict of Calico's policy{_belongs(rule)}: allow the flow in the profile or policy"
        " that selects this endpoint; Felix writes its chains again and an accept before them would go round the policy"
    )


def _unban(_trace: Trace, rule: FirewallRule, flow: Flow, around: Around) -> Proposal:
    """Ask fail2ban to let the address go."""
    jail = next(
        (
            found[1]
            for pattern in _JAILS
            for text in (rule.belongs_to, rule.chain, rule.text)
            if (found := pattern.search(text))
        ),
        None,
    )
    if jail is None or not flow.source:
        return Proposal(reason=f"{rule.place()} is fail2ban's, and of which jail is not known")
    head = ["fail2ban-client", "set", jail]
    fix = Fix(
        host=around.host,
        summary=f"have fail2ban let {flow.source} go",
        place=f"jail {jail} of fail2ban",
        covers=f"everything from {flow.source} that the jail {jail} stops",
        commands=(around.command([*head, "unbanip", flow.source]),),
        undo=(around.command([*head, "banip", flow.source]),),
        persist=(
            f"# new failures ban it again: add {flow.source} to ignoreip of [{jail}] in /etc/fail2ban/jail.local",
        ),
    )
    return Proposal(fix=fix)


_PLANNERS: Mapping[Owner, Callable[[Trace, FirewallRule, Flow, Around], Proposal]] = {
    Owner.OPERATOR: _in_front,
    Owner.DOCKER: _in_front,
    Owner.SWARM: _in_front,
    Owner.CALICO: _of_calico,
    Owner.FIREWALLD: plan_firewalld,
    Owner.UFW: plan_ufw,
    Owner.KUBE: _in_front,
    Owner.FAIL2BAN: _unban,
    Owner.PODMAN: _in_front,
    Owner.LIBVIRT: _in_front,
    Owner.NETDIAG: _of_netdiag,
}
"""How each owner is told; none is left to how an operator's own rules are treated."""
