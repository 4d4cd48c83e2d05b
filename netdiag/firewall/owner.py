"""Whose rule: told from the names of chains and from comments that programs leave."""

from __future__ import annotations

import re

from netdiag.model.firewall import Owner

# Sources: moby daemon/libnetwork/iptables, felix rules/rule_defs.go, firewalld src/firewall/core/ipXtables.py,
# ufw src/backend_iptables.py, kubernetes pkg/proxy/iptables/proxier.go, fail2ban action.d/iptables.conf.
_CHAINS: tuple[tuple[re.Pattern[str], Owner], ...] = (
    (re.compile(r"^DOCKER-INGRESS$"), Owner.SWARM),
    # DOCKER-USER is Docker's chain for the operator's rules.
    (re.compile(r"^DOCKER-USER$"), Owner.OPERATOR),
    (re.compile(r"^DOCKER(-|$)"), Owner.DOCKER),
    (re.compile(r"^cali(-|$)"), Owner.CALICO),
    (
        re.compile(r"^(INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING)_(direct|ZONES|POLICIES|IN_ZONES|OUT_ZONES)"),
        Owner.FIREWALLD,
    ),
    (re.compile(r"^(IN|FWD|FWDI|FWDO|PRE|POST)_[A-Za-z]"), Owner.FIREWALLD),
    (re.compile(r"^ufw6?-"), Owner.UFW),
    (re.compile(r"^KUBE-"), Owner.KUBE),
    (re.compile(r"^(f2b|fail2ban)-"), Owner.FAIL2BAN),
    (re.compile(r"^netdiag"), Owner.NETDIAG),
)


# firewalld src/firewall/core/nftables.py, moby daemon/libnetwork/drivers/bridge/internal/nftabler, kube-proxy's nftables
# mode (pkg/proxy/nftables/proxier.go).
_TABLES = {"firewalld": Owner.FIREWALLD, "docker-bridges": Owner.DOCKER, "kube-proxy": Owner.KUBE}


def owner_of(chain: str, text: str, nft_table: str = "") -> Owner:
    """The owner of a rule in a chain; a rule in a built-in chain belongs to whom its target or comment names.

    Args:
        chain: The rule's chain.
        text: The rule as saved.
        nft_table: Its table where no iptables wrote it: programs that write nft have one of their own.
    """
    if nft_table in _TABLES:
        return _TABLES[nft_table]
    for pattern, owner in _CHAINS:
        if pattern.match(chain):
            return owner
    if "cali:" in text:
        return Owner.CALICO
    if "kubernetes" in text:
        return Owner.KUBE
    target = re.search(r"(?:-j|-g) (\S+)", text)
    if target and target[1] != "DOCKER-USER":
        for pattern, owner in _CHAINS:
            if pattern.match(target[1]):
                return owner
    if target and target[1] == "DOCKER-USER":
        return Owner.DOCKER
    if "docker" in text and re.search(r"\b(docker0|docker_gwbridge|br-[0-9a-f]{12})\b", text):
        return Owner.DOCKER
    return Owner.OPERATOR
