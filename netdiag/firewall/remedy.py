"""The least rule that lets a packet through, in front of the rule that stops it, for a packet that was only read about."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from netdiag.firewall.allow_firewalld import rich_rule
from netdiag.firewall.allow_iptables import Spot, accept_words, as_rule, tool_of
from netdiag.firewall.allow_ufw import ufw_words
from netdiag.firewall.around import MARK
from netdiag.firewall.flow import Flow, flow_of_packet
from netdiag.firewall.persist import keep_rules
from netdiag.firewall.plain import left_at
from netdiag.model.facts import FirewallSaved, Identity, RuleSet
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.report import Remedy, Risk
from netdiag.shell import shell_text

ANY_PEER = "<PEER>"
"""Stands for an address that is not known. No tool takes it for one, so that a rule for everybody is never pasted."""


def accept_before(
    rule: FirewallRule,
    packet: Packet,
    *,
    host: str,
    rule_sets: Iterable[RuleSet] = (),
    identity: Identity | None = None,
    saved: FirewallSaved | None = None,
    both_backends: bool = False,
) -> Remedy:
    """An ACCEPT for exactly this flow, placed right before the deciding rule (or at the end, for a policy).

    It is scoped to the other host's address and to the port; no rule is removed and no policy changed. Where the other
    host is not known, its address has to be filled in.

    Args:
        rule: What stops the packet.
        packet: The first packet of the flow.
        host: Where the rule is.
        rule_sets: What runs there.
        identity: Which distribution it is.
        saved: What is saved there.
        both_backends: Both iptables variants hold rules here, so that plain ``iptables`` may mean the other one.
    """
    rule_sets = tuple(rule_sets)
    number = rule.number if rule.policy is None else left_at(rule_sets, rule, packet)
    spot = Spot(chain=rule.chain, number=number)
    flow = _flow(packet)
    accept, undo = accept_words(tool_of(rule, both=both_backends), rule.table, spot, flow, mark=MARK)
    summary, risk = f"accept this flow before {rule.place()}", Risk.LOW
    if ANY_PEER in (flow.source, flow.destination):
        summary = (
            f"accept this flow of each peer before {rule.place()}: put a peer's address for {ANY_PEER}, or ask again with"
            " --peer ADDRESS (a rule without an address would open the port to everybody)"
        )
        risk = Risk.OPENS
    return Remedy(
        host=host,
        summary=summary,
        commands=(shell_text(accept),),
        undo=(shell_text(undo),),
        persist=persist_commands(identity, saved, packet, rules=(as_rule(accept, rule),), rule_sets=rule_sets),
        risk=risk,
    )


def persist_commands(
    identity: Identity | None,
    saved: FirewallSaved | None,
    packet: Packet,
    *,
    rules: tuple[FirewallRule, ...],
    rule_sets: Iterable[RuleSet],
) -> tuple[str, ...]:
    """How an accept for a packet outlives a reload and a reboot; empty where it is not known.

    A program that owns the firewall writes its own rules again at every reload, so it must be told itself.
    """
    active = {service.name for service in (saved.services if saved is not None else ()) if service.active}
    if not active & {"firewalld", "ufw"}:
        return keep_rules(rules, rule_sets, identity=identity, saved=saved)
    if packet.direction is not Direction.IN:
        return ()
    flow = _flow(packet)
    if "firewalld" in active:
        return (shell_text(["firewall-cmd", "--permanent", f"--add-rich-rule={rich_rule(flow)}"]),)
    words = ufw_words(flow)
    return (shell_text(["ufw", *words, "comment", MARK]),) if words else ()


def _flow(packet: Packet) -> Flow:
    """The flow; a peer that is not known has to be filled in."""
    flow = flow_of_packet(packet)
    if flow.source or flow.destination:
        return flow
    end = "destination" if flow.outward else "source"
    return msgspec.structs.replace(flow, **{end: ANY_PEER})
