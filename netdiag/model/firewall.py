"""A firewall rule as every part of netdiag names it, and the packet that is asked about."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from netdiag.model.facts import HOST, Backend


class Owner(enum.Enum):
    """Whose rule it is: the program that wrote it, or the operator."""

    OPERATOR = "operator"
    DOCKER = "docker"
    SWARM = "swarm"
    CALICO = "calico"
    FIREWALLD = "firewalld"
    UFW = "ufw"
    KUBE = "kube"
    FAIL2BAN = "fail2ban"
    PODMAN = "podman"
    LIBVIRT = "libvirt"
    NETDIAG = "netdiag"


class FirewallRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, or a chain's policy where ``policy`` says which.

    Attributes:
        family: As nft names it: ip, ip6, inet, bridge, arp or netdev.
        namespace: ``host``, ``container:NAME`` or ``overlay:NETWORK``.
        number: Position in its chain, from 1, as ``iptables -L --line-numbers`` counts; None where it is not known, and
            for a policy.
        text: The rule as ``iptables-save`` or ``nft`` prints it, without counters.
        belongs_to: What of its owner's it serves, in a few words: "zone public", "network app", "jail sshd"; empty
            where that is not known.
        call_site: The rule that jumped to this chain, where that is what an operator has to know.
    """

    backend: Backend
    family: str
    table: str
    chain: str
    text: str
    namespace: str = HOST
    number: int | None = None
    handle: int | None = None
    owner: Owner = Owner.OPERATOR
    belongs_to: str = ""
    call_site: str | None = None
    policy: str | None = None

    def as_object(self) -> dict[str, Any]:
        """The ``object`` of a cause."""
        return {"kind": "rule" if self.policy is None else "policy", **msgspec.to_builtins(self)}

    def place(self) -> str:
        """Where it stands, in a few words: "filter INPUT rule 4" or "filter INPUT policy"; without a number its handle."""
        if self.policy is not None:
            return f"{self.table} {self.chain} policy"
        if self.number is not None:
            return f"{self.table} {self.chain} rule {self.number}"
        return f"{self.table} {self.chain} rule" + (f" (handle {self.handle})" if self.handle is not None else "")


class Direction(enum.Enum):
    """Which way a packet meets this host."""

    IN = "in"
    OUT = "out"


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """A new flow's first packet. Empty text and None mean: not said, so a rule that asks for it is undecided.

    ``protocol`` is tcp, udp, icmp, icmpv6 or a number as text; ``device`` the NIC it enters or leaves by; ``length``
    that of the whole IP packet, None the least; ``vxlan``: it carries a VXLAN header.
    """

    direction: Direction
    protocol: str
    family: int = 4
    source: str = ""
    destination: str = ""
    source_port: int | None = None
    destination_port: int | None = None
    device: str = ""
    length: int | None = None
    vxlan: bool = False
