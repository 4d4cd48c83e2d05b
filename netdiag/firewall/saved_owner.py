"""Whose a rule is when the question is who brings it back: a program at its start, or nobody."""

from __future__ import annotations

import re

from netdiag.firewall.owner import owner_of
from netdiag.model.firewall import Owner

_NFT_CALL = re.compile(r"\b(jump|goto) (\S+)")
# What the engine writes for a bridge network names its device and nothing else of Docker's.
_BRIDGE_DEVICE = re.compile(r"\b(docker0|docker_gwbridge|br-[0-9a-f]{12})\b")
_ENGINE_TARGET = re.compile(r"\bMASQUERADE\b|\bmasquerade\b|--ctstate RELATED,ESTABLISHED")
_NATIVE_TABLES = re.compile(
    r"^(firewalld|docker-bridges|kube-proxy|netdiag-\w+|f2b-table|cali\S*|lxc\S*|libvirt_network)$"
)


def owner_at_start(chain: str, text: str, table: str = "") -> Owner:
    """Who writes a rule at its own start; the operator's is what nobody does.

    Args:
        chain: The rule's chain.
        text: The rule as iptables or nft prints it.
        table: Its native nft table, else empty.
    """
    if table.startswith("f2b-"):
        return Owner.FAIL2BAN
    # The engine ends the chain that it leaves to the operator with this rule.
    if chain == "DOCKER-USER" and text.split() in (["-A", "DOCKER-USER", "-j", "RETURN"], ["counter", "return"]):
        return Owner.DOCKER
    owner = owner_of(chain, _NFT_CALL.sub(r"-j \2", text), table)
    if owner is Owner.OPERATOR and chain != "DOCKER-USER" and _BRIDGE_DEVICE.search(text):
        return Owner.DOCKER if _ENGINE_TARGET.search(text) else owner
    return owner


def is_program_table(name: str) -> bool:
    """Whether a native nft table is one that a program makes for itself."""
    return bool(_NATIVE_TABLES.match(name))
