"""Packets, and rule sets of a few lines."""

from __future__ import annotations

from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import Direction, Packet

PEER, OWN = "192.0.2.10", "192.0.2.20"


def vxlan(**fields):
    return Packet(
        **{
            "direction": Direction.IN,
            "protocol": "udp",
            "source": PEER,
            "destination_port": 4789,
            "device": "eth0",
            **fields,
        }
    )


def syn(**fields):
    return Packet(
        **{
            "direction": Direction.OUT,
            "protocol": "tcp",
            "source": OWN,
            "destination": PEER,
            "destination_port": 2377,
            "device": "eth0",
            **fields,
        }
    )


def save(*lines, input_policy="ACCEPT", output_policy="ACCEPT", chains=(), table="filter"):
    heads = [f":INPUT {input_policy} [0:0]", f":OUTPUT {output_policy} [0:0]", *(f":{one} - [0:0]" for one in chains)]
    return "\n".join([f"*{table}", *heads, *(f"[0:0] {line}" for line in lines), "COMMIT", ""])


def rule_set(text, backend=Backend.IPTABLES_NFT, family=4):
    return RuleSet(backend=backend, family=family, text=text, sha256="0")


def nft(text):
    return rule_set(text, Backend.NFT_NATIVE, 0)
