"""Protocols above IP by name and number, as netdiag names them and as iptables' saved rules do.

Sources: IANA's protocol numbers; iptables/xshared.c (xtables_chain_protos), /etc/protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

NUMBERS: Mapping[str, int] = MappingProxyType(
    {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "esp": 50, "ah": 51, "gre": 47, "ipip": 4}
)
"""Those that netdiag knows by a name; the participant has the same (`netdiag.participant.packets.PROTOCOLS`)."""
_NAMES = {number: name for name, number in NUMBERS.items()}
_WRITTEN = {
    "igmp": 2,
    "ggp": 3,
    "egp": 8,
    "igp": 9,
    "ipencap": 4,
    "ipv4": 4,
    "dccp": 33,
    "ipv6": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "rsvp": 46,
    "ipv6-crypt": 50,
    "ipv6-auth": 51,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "eigrp": 88,
    "ospf": 89,
    "ospfigp": 89,
    "etherip": 97,
    "encap": 98,
    "pim": 103,
    "vrrp": 112,
    "ipcomp": 108,
    "l2tp": 115,
    "isis": 124,
    "sctp": 132,
    "ipv6-mh": 135,
    "mobility-header": 135,
    "mh": 135,
    "udplite": 136,
}
"""Further names that rules are written with."""


def name_of(number: int) -> str:
    """The name, or the number as text where netdiag has none."""
    return _NAMES.get(number, str(number))


def number_of(written: str) -> int | None:
    """The number of a protocol that is written by name or number; None for a name that is not known."""
    if written.isascii() and written.isdigit():
        return int(written)
    return NUMBERS.get(written, _WRITTEN.get(written))
