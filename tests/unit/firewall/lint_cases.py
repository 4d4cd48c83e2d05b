"""Rule sets as programs write them, in which nothing is wrong; and one change in each that one check finds.

``stock/``: swarm-*, ufw*, firewalld* and fail2ban* were recorded in the lab; the others are as their programs' sources
and documentation have them.
"""

from pathlib import Path
from typing import NamedTuple

STOCK = {file.stem: file.read_text() for file in sorted((Path(__file__).parent / "stock").glob("*.rules"))}


class Change(NamedTuple):
    """One change to a stock rule set: a line that is put before, behind or in the place of another; and who tells."""

    stock: str
    how: str
    """before, behind, instead or without."""
    line: str
    new: str
    code: str
    names: str
    """What its summary has to name."""


CHANGES = [
    # --- behind a rule that takes everything ---
    Change(
        "iptables-service",
        "behind",
        "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
        "-A INPUT -p tcp --dport 2377 -j ACCEPT",
        "lint.after-verdict",
        "INPUT rule 6",
    ),
    Change(
        "swarm-ingress",
        "behind",
        "-A DOCKER-USER -j RETURN",
        "-A DOCKER-USER -s 192.0.2.7 -j DROP",
        "lint.after-verdict",
        "DOCKER-USER rule 2",
    ),
    Change(
        "swarm-ingress",
        "before",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j ACCEPT",
        "lint.after-verdict",
        "FORWARD rule 2 and",
    ),
    Change("by-hand", "behind", "-A LOGDROP -j DROP", "-A LOGDROP -j ACCEPT", "lint.after-verdict", "LOGDROP rule 3"),
    # --- taken by a wider rule ---
    Change(
        "by-hand",
        "before",
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -p tcp --dport 2377 -j DROP",
        "lint.shadowed",
        "SWARM rule 1 matches no packet: INPUT rule 1",
    ),
    Change(
        "by-hand",
        "behind",
        "-A SWARM -p esp -j ACCEPT",
        "-A SWARM -s 10.1.0.0/16 -p udp --dport 500 -j ACCEPT",
        "lint.shadowed",
        "the rules that lead to SWARM leave no such packet",
    ),
    Change(
        "by-hand",
        "behind",
        "-A INPUT -s 10.0.0.0/24 -j SWARM",
        "-A INPUT -p tcp --dport 22 -s 10.0.0.5 -m conntrack --ctstate ESTABLISHED -j DROP",
        "lint.shadowed",
        "INPUT rule 8 matches no packet: INPUT rule 2",
    ),
    Change(
        "by-hand",
        "behind",
        "-A SWARM -p esp -j ACCEPT",
        "-A SWARM -m conntrack --ctstate INVALID -j LOG",
        "lint.shadowed",
        "SWARM rule 5 matches no packet: INPUT rule 3",
    ),
    Change(
        "by-hand",
        "behind",
        "-A INPUT -m conntrack --ctstate INVALID -j DROP",
        "-A INPUT -i lo -p tcp --dport 80 -j ACCEPT",
        "lint.redundant",
        "INPUT rule 4",
    ),
    # --- twice ---
    Change(
        "by-hand",
        "behind",
        "-A SWARM -p tcp -m tcp --dport 2377 -j ACCEPT",
        '-A SWARM -p tcp --dport 2377 -m comment --comment "join" -j ACCEPT',
        "lint.duplicate",
        "SWARM rule 2 is the same as rule 1",
    ),
    # --- chains ---
    Change("by-hand", "without", "-A INPUT -s 10.0.0.0/24 -j SWARM", "", "lint.unreachable-chain", "SWARM"),
    Change("swarm-ingress", "without", "-A FORWARD -j DOCKER-USER", "", "lint.engine-jumps", "DOCKER-USER"),
    Change("engine28", "without", "-A FORWARD -j DOCKER-FORWARD", "", "lint.engine-jumps", "DOCKER-FORWARD"),
    Change(
        "swarm-ingress",
        "without",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS",
        "",
        "lint.engine-jumps",
        "nat PREROUTING does not lead to DOCKER-INGRESS",
    ),
    Change(
        "swarm-ingress",
        "without",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "",
        "lint.engine-jumps",
        "nat PREROUTING does not lead to DOCKER:",
    ),
    Change("swarm-ingress", "without", "-A FORWARD -j DOCKER-INGRESS", "", "lint.engine-jumps", "DOCKER-INGRESS"),
    Change(
        "felix",
        "without",
        '-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT',
        "",
        "lint.calico-jumps",
        "filter INPUT does not lead to cali-INPUT",
    ),
    # --- ports ---
    Change(
        "swarm-ingress",
        "behind",
        ":DOCKER-USER - [0:0]",
        "-A INPUT -p udp -m udp --dport 4789 -j DROP",
        "lint.blocked-port",
        "udp/4789",
    ),
    Change(
        "swarm-ingress",
        "behind",
        ":DOCKER-USER - [0:0]",
        "-A INPUT ! -i lo -p tcp -m multiport --dports 7946,9000 -j REJECT",
        "lint.blocked-port",
        "rule 1 of filter INPUT (iptables-nft) rejects it",
    ),
    Change(
        "iptables-service",
        "before",
        "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
        "-A INPUT -p tcp -m tcp --dport 4789 -j ACCEPT",
        "lint.near-miss",
        "written for udp/4789",
    ),
    Change(
        "iptables-service",
        "before",
        "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
        "-A INPUT -p tcp -m tcp --dport 179 -m state --state ESTABLISHED -j ACCEPT",
        "lint.redundant",
        "INPUT rule 5",
    ),
    Change(
        "swarm-ufw",
        "before",
        "-A DOCKER-USER -j RETURN",
        "-A DOCKER-USER -p tcp -m tcp --dport 2377 -j ACCEPT",
        "lint.near-miss",
        "it stands at forward",
    ),
    # --- lines and sets ---
    Change("by-hand", "behind", "-A INPUT -i lo -j ACCEPT", "-A INPUT -j NOSUCH", "lint.not-understood", "line 9"),
    Change(
        "fail2ban-ipset",
        "before",
        "-A INPUT -p tcp -m multiport --dports 22 -m set --match-set f2b-sshd src -j REJECT --reject-with icmp-port-unreachable",
        "-A INPUT -m set --match-set banned src -j DROP",
        "lint.no-such-set",
        "banned",
    ),
]


def changed(change):
    """The rule set with the change in it."""
    lines = STOCK[change.stock].split("\n")
    found = [at for at, line in enumerate(lines) if line.partition("] ")[2] == change.line or line == change.line]
    assert len(found) == 1, (change, found)
    at = found[0]
    new = {
        "before": [change.new, lines[at]],
        "behind": [lines[at], change.new],
        "instead": [change.new],
        "without": [],
    }[change.how]
    return "\n".join([*lines[:at], *new, *lines[at + 1 :]])
