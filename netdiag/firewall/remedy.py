"""The least rule that lets a packet through, in front of the rule that stops it."""

from __future__ import annotations

from netdiag.model.facts import Backend, FirewallSaved, Identity
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.report import Remedy


def accept_before(
    rule: FirewallRule, packet: Packet, *, host: str, persist: tuple[str, ...] = (), both_backends: bool = False
) -> Remedy:
    """An ACCEPT for exactly this flow, placed right before the deciding rule (or at the end, for a policy).

    It is scoped to the other host's address and to the port; no rule is removed and no policy changed.

    Args:
        both_backends: Both iptables variants hold rules here, so that plain ``iptables`` may mean the other one.
    """
    tool = "iptables" if rule.family == "ip" else "ip6tables"
    if rule.backend is Backend.IPTABLES_LEGACY:
        tool += "-legacy"
    elif both_backends:
        tool += "-nft"
    table = "" if rule.table == "filter" else f"-t {rule.table} "
    match = " ".join(_match(packet))
    place = f"-A {rule.chain}" if rule.number is None else f"-I {rule.chain} {rule.number}"
    return Remedy(
        host=host,
        summary=f"accept this flow before {rule.place()}",
        commands=(f"{tool} {table}{place} {match} -j ACCEPT",),
        undo=(f"{tool} {table}-D {rule.chain} {match} -j ACCEPT",),
        persist=persist,
    )


def persist_commands(
    identity: Identity | None, saved: FirewallSaved | None = None, packet: Packet | None = None
) -> tuple[str, ...]:
    """How an accept for a packet outlives a reload and a reboot; empty where it is not known.

    A program that owns the firewall writes its own rules again at every reload, so it must be told itself.
    """
    active = {service.name for service in (saved.services if saved is not None else ()) if service.active}
    if "firewalld" in active:
        return _firewalld(packet) if packet is not None else ()
    if "ufw" in active:
        return _ufw(packet) if packet is not None else ()
    if identity is None:
        return ()
    if identity.distribution_id in ("debian", "ubuntu", "raspbian", "linuxmint"):
        saves = any(rules.source == "netfilter-persistent" for rules in (saved.rules if saved is not None else ()))
        # Debian has no service for iptables of its own; this package brings one.
        return (*(() if saves else ("apt-get install iptables-persistent",)), "netfilter-persistent save")
    if identity.distribution_id in ("rhel", "centos", "fedora", "rocky", "almalinux", "ol", "amzn"):
        return ("service iptables save",)
    return ()


def _firewalld(packet: Packet) -> tuple[str, ...]:
    if packet.direction is not Direction.IN:
        return ()
    family = "ipv6" if packet.family == 6 else "ipv4"
    words = [f'rule family="{family}"']
    if packet.source:
        words.append(f'source address="{packet.source}"')
    if packet.destination_port is not None:
        words.append(f'port port="{packet.destination_port}" protocol="{packet.protocol}"')
    elif packet.source_port is not None:
        words.append(f'source-port port="{packet.source_port}" protocol="{packet.protocol}"')
    else:
        words.append(f'protocol value="{_name(packet)}"')
    return (f"firewall-cmd --permanent --add-rich-rule='{' '.join(words)} accept'",)


def _ufw(packet: Packet) -> tuple[str, ...]:
    source = packet.source or "any"
    if packet.direction is not Direction.IN or packet.source_port is not None:
        return ()
    if packet.destination_port is None:
        return (f"ufw allow proto {_name(packet)} from {source}",)
    return (f"ufw allow from {source} to any port {packet.destination_port} proto {packet.protocol}",)


def _name(packet: Packet) -> str:
    return {"50": "esp", "51": "ah"}.get(packet.protocol, packet.protocol)


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
