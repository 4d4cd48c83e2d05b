"""A rule of ufw's, where its own chains come before what decides; else a rule in front, and the line for its file.

Order of the chains: ufw-before-*, which calls ufw-user-* at its end, then ufw-after-*, ufw-reject-* and the policy
(ufw src/backend_iptables.py, /etc/ufw/before.rules).
"""

from __future__ import annotations

import re

import msgspec

from netdiag.firewall.allow_iptables import Spot, accept_words, fix_at
from netdiag.firewall.around import Around
from netdiag.firewall.flow import Flow
from netdiag.firewall.save_text import BUILT_IN
from netdiag.model.firewall import FirewallRule
from netdiag.model.fix import Fix, Proposal
from netdiag.model.trace import Trace
from netdiag.shell import shell_text

_CHAIN = re.compile(r"^ufw6?-(.+)$")
_BEFORE = ("before-", "not-local")
_AFTER = ("after-", "reject-", "skip-to-policy-")
_PROTOCOLS = ("tcp", "udp", "esp", "ah", "gre")
"""What a rule of ufw's can name; ICMP is a matter of its files."""


def ufw_words(flow: Flow) -> list[str]:
    """The flow as ufw says it behind its verb; empty where it has no words for it."""
    protocol = {"50": "esp", "51": "ah"}.get(flow.protocol, flow.protocol)
    if protocol not in _PROTOCOLS or flow.source_port is not None:
        return []
    words = ["allow", *(("out",) if flow.outward else ())]
    if flow.destination_port is None:
        words += ["proto", protocol]
    words += [] if flow.outward else ["from", flow.source or "any"]
    if flow.destination_port is not None:
        return [*words, "to", flow.destination or "any", "port", str(flow.destination_port), "proto", protocol]
    return [*words, "to", flow.destination] if flow.destination else words


def is_ufws_policy(rule: FirewallRule, around: Around) -> bool:
    """Whether a policy is the last word behind ufw's chains."""
    if rule.policy is None or rule.table != "filter" or rule.chain not in BUILT_IN:
        return False
    chain = around.saved_chain(rule, rule.chain)
    return chain is not None and any(word.startswith(("ufw-", "ufw6-")) for each in chain.rules for word in each.words)


def plan_ufw(trace: Trace, rule: FirewallRule, flow: Flow, around: Around) -> Proposal:
    """The rule for ufw, or the one before its own, or why there is none."""
    found = _CHAIN.match(rule.chain)
    part = found[1] if found is not None else "after-policy"
    before, in_user = part.startswith(_BEFORE), part.startswith("user-")
    if not before and not in_user and not part.startswith(_AFTER):
        return Proposal(reason=f"{rule.chain} is none of the chains of ufw that netdiag knows")
    words = ufw_words(flow)
    if before or not words:
        return _in_front(trace, rule, flow, around, in_place=before)
    if _is_there(rule, flow, around):
        return Proposal(
            reason=f"ufw has this rule already, behind {rule.place()}: delete it"
            f" ({shell_text(['ufw', 'delete', *words])}) and ask again"
        )
    first = (["prepend"] if flow.family == 6 else ["insert", "1"]) if in_user else []
    route = ["route"] if flow.forwarded else []
    signed = [*words, "comment", around.mark]
    add = around.command(["ufw", *route, *first, *signed])
    return Proposal(
        fix=Fix(
            host=around.host,
            summary="let ufw allow this flow",
            place="ufw, as its first rule" if first else "ufw, behind its other rules",
            covers=flow.covers(),
            commands=(add,),
            undo=(around.command(["ufw", *route, "delete", *signed]),),
            persist=("# ufw writes it into its own files: nothing more is to be done",),
        )
    )


def _in_front(trace: Trace, rule: FirewallRule, flow: Flow, around: Around, *, in_place: bool) -> Proposal:
    """An accept in the chains of before.rules, which come before the user's."""
    six = "6" if rule.family == "ip6" else ""
    way = "forward" if flow.forwarded else "output" if flow.outward else "input"
    spot = Spot(chain=rule.chain, number=rule.number)
    behind = f"before the line: {rule.text}"
    if not in_place:
        name = f"ufw{six}-before-{way}"
        chain, user = around.saved_chain(rule, name), f"ufw{six}-user-{way}"
        number = next((each.number for each in (chain.rules if chain else ()) if user in each.words), None)
        if chain is None:
            return Proposal(reason=f"ufw has no words for {flow.protocol} in its own rules, and no chain {name}")
        spot, behind = Spot(chain=name, number=number), "before the line COMMIT"
    fix = fix_at(spot, rule, flow, around, trace)
    persist = (f"# in /etc/ufw/before{six}.rules, {behind}", f"#   {_line(spot, flow, around)}")
    return Proposal(fix=msgspec.structs.replace(fix, persist=persist))


def _line(spot: Spot, flow: Flow, around: Around) -> str:
    """The rule as a file for iptables-restore has it."""
    accept, _ = accept_words("", "filter", Spot(chain=spot.chain, number=None), flow, mark=around.mark)
    return " ".join(accept[1:])


def _is_there(rule: FirewallRule, flow: Flow, around: Around) -> bool:
    """Whether ufw has exactly this rule: adding it again would change nothing, and undoing would take it away."""
    six = "6" if rule.family == "ip6" else ""
    way = "forward" if flow.forwarded else "output" if flow.outward else "input"
    chain = around.saved_chain(rule, f"ufw{six}-user-{way}")
    length = "/128" if six else "/32"
    wanted = ["-s", flow.source + length] if flow.source else []
    wanted += ["-d", flow.destination + length] if flow.destination else []
    wanted += ["-p", flow.protocol]
    if flow.destination_port is not None:
        wanted += ["-m", flow.protocol, "--dport", str(flow.destination_port)]
    return chain is not None and any(each.words == (*wanted, "-j", "ACCEPT") for each in chain.rules)
