"""The least rule that lets a packet through, in front of the rule that stops it."""

from __future__ import annotations

from netdiag.model.facts import Backend, Identity
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.report import Remedy


def accept_before(rule: FirewallRule, packet: Packet, *, host: str, persist: tuple[str, ...] = ()) -> Remedy:
    """An ACCEPT for exactly this flow, placed right before the deciding rule (or at the end, for a policy).

    It is scoped to the other host's address and to the port; no rule is removed and no policy changed.
    """
    tool = ("iptables" if rule.family == "ip" else "ip6tables") + (
        "-legacy" if rule.backend is Backend.IPTABLES_LEGACY else ""
    )
    table = "" if rule.table == "filter" else f"-t {rule.table} "
    match = " ".join(_match(packet))
    place = f"-A {rule.chain}" if rule.number is None else f"-I {rule.chain} {rule.number}"
    undo = f"{tool} {table}-D {rule.chain} {match} -j ACCEPT"
    return Remedy(
        host=host,
        summary=f"accept this flow before {rule.place()}",
        commands=(f"{tool} {table}{place} {match} -j ACCEPT",),
        undo=(undo,),
        persist=persist,
    )


def persist_commands(identity: Identity | None) -> tuple[str, ...]:
    """How running iptables rules are kept over a reboot on this distribution; empty where it is not known."""
    if identity is None:
        return ()
    if identity.distribution_id in ("debian", "ubuntu", "raspbian", "linuxmint"):
        return ("netfilter-persistent save",)
    if identity.distribution_id in ("rhel", "centos", "fedora", "rocky", "almalinux", "ol", "amzn"):
        return ("service iptables save",)
    return ()


def _match(packet: Packet) -> list[str]:
    words: list[str] = []
    if packet.source and packet.direction is Direction.IN:
        words += ["-s", packet.source]
    if packet.destination and packet.direction is Direction.OUT:
        words += ["-d", packet.destination]
    words += ["-p", packet.protocol]
    if packet.source_port is not None:
        words += ["--sport", str(packet.source_port)]
    if packet.destination_port is not None:
        words += ["--dport", str(packet.destination_port)]
    return words
