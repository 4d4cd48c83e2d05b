"""The least rule that lets a packet through, in front of the rule that stops it."""

from __future__ import annotations

from netdiag.model.facts import Backend, FirewallSaved, Identity
from netdiag.model.firewall import Direction, FirewallRule, Owner, Packet
from netdiag.model.report import Remedy


def accept_before(
    rule: FirewallRule, packet: Packet, *, host: str, persist: tuple[str, ...] = (), both_backends: bool = False
) -> Remedy:
    """An ACCEPT for exactly this flow, placed right before the deciding rule (or at the end, for a policy).

    It is scoped to the other host's address and to the port; no rule is removed and no policy changed.

    Args:
        both_backends: Both iptables variants hold rules here, so that plain ``iptables`` may mean the other one.
    """
    if rule.owner is Owner.FIREWALLD and packet.direction is Direction.IN:
        return _through_firewalld(packet, host, persist)
    if rule.backend is Backend.NFT_NATIVE:
        return _nft(rule, packet, host)
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


def _through_firewalld(packet: Packet, host: str, persist: tuple[str, ...]) -> Remedy:
    """Firewalld writes its chains again at every reload, so a rule among them would not last."""
    rule = _rich_rule(packet)
    return Remedy(
        host=host,
        summary="accept this flow in firewalld's zone",
        commands=(f"firewall-cmd --add-rich-rule='{rule}'",),
        undo=(f"firewall-cmd --remove-rich-rule='{rule}'",),
        persist=persist or _firewalld(packet),
    )


def _nft(rule: FirewallRule, packet: Packet, host: str) -> Remedy:
    """The same in a table that no iptables wrote. Its undo finds the new rule by the flow in its comment."""
    chain = f"{rule.family} {rule.table} {rule.chain}"
    place = f"add rule {chain}" if rule.handle is None else f"insert rule {chain} handle {rule.handle}"
    version = "ip6" if packet.family == 6 else "ip"
    inward = packet.direction is Direction.IN
    other = packet.source if inward else packet.destination
    words = [f"{version} {'saddr' if inward else 'daddr'} {other}"] if other else []
    if packet.destination_port is not None:
        words.append(f"{packet.protocol} dport {packet.destination_port}")
    elif packet.source_port is not None:
        words.append(f"{packet.protocol} sport {packet.source_port}")
    else:
        words.append(f"meta l4proto {packet.protocol}")
    mark = "-".join(
        ["netdiag", other or "any", packet.protocol, str(packet.destination_port or packet.source_port or "")]
    )
    find = f"nft -a list chain {chain} | sed -n 's/.*\"{mark}\" # handle //p'"
    return Remedy(
        host=host,
        summary=f"accept this flow before {rule.place()}",
        commands=(f"nft {place} {' '.join(words)} accept comment '\"{mark}\"'",),
        undo=(f"nft delete rule {chain} handle $({find})",),
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
    return (f"firewall-cmd --permanent --add-rich-rule='{_rich_rule(packet)}'",)


def _rich_rule(packet: Packet) -> str:
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
    return f"{' '.join(words)} accept"


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
