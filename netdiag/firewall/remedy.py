"""The least rule that lets a packet through, in front of the rule that stops it, for a packet that was only read about."""

from __future__ import annotations

from netdiag.firewall.allow_firewalld import rich_rule
from netdiag.firewall.allow_iptables import Spot, accept_words, tool_of
from netdiag.firewall.allow_ufw import ufw_words
from netdiag.firewall.around import MARK
from netdiag.firewall.flow import flow_of_packet
from netdiag.firewall.persist import saving_commands
from netdiag.model.facts import FirewallSaved, Identity
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.report import Remedy
from netdiag.shell import shell_text


def accept_before(
    rule: FirewallRule, packet: Packet, *, host: str, persist: tuple[str, ...] = (), both_backends: bool = False
) -> Remedy:
    """An ACCEPT for exactly this flow, placed right before the deciding rule (or at the end, for a policy).

    It is scoped to the other host's address and to the port; no rule is removed and no policy changed.

    Args:
        both_backends: Both iptables variants hold rules here, so that plain ``iptables`` may mean the other one.
    """
    spot = Spot(chain=rule.chain, number=rule.number)
    accept, undo = accept_words(tool_of(rule, both=both_backends), rule.table, spot, flow_of_packet(packet), mark=MARK)
    return Remedy(
        host=host,
        summary=f"accept this flow before {rule.place()}",
        commands=(shell_text(accept),),
        undo=(shell_text(undo),),
        persist=persist,
    )


def persist_commands(
    identity: Identity | None, saved: FirewallSaved | None = None, packet: Packet | None = None
) -> tuple[str, ...]:
    """How an accept for a packet outlives a reload and a reboot; empty where it is not known.

    A program that owns the firewall writes its own rules again at every reload, so it must be told itself.
    """
    active = {service.name for service in (saved.services if saved is not None else ()) if service.active}
    if not active & {"firewalld", "ufw"}:
        return saving_commands(identity, saved)
    if packet is None or packet.direction is not Direction.IN:
        return ()
    flow = flow_of_packet(packet)
    if "firewalld" in active:
        return (shell_text(["firewall-cmd", "--permanent", f"--add-rich-rule={rich_rule(flow)}"]),)
    words = ufw_words(flow)
    return (shell_text(["ufw", *words, "comment", MARK]),) if words else ()
