"""What iptables' own tables and targets mean to the kernel, the same for both variants.

Source: include/uapi/linux/netfilter_ipv4.h (enum nf_ip_hook_priorities), net/ipv4/netfilter/iptable_nat.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from netdiag.model.trace import TraceVerdict

TAKES: Mapping[str, TraceVerdict] = MappingProxyType(
    {"DROP": TraceVerdict.DROP, "TARPIT": TraceVerdict.DROP, "REJECT": TraceVerdict.REJECT}
)
"""Targets that take a packet for good, and what becomes of it."""
_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_NAT_DESTINATION, _NAT_SOURCE = -100, 100


def priority_of(table: str, hook: str) -> int:
    """The priority at which a table stands at a hook; 0 for a table that the kernel does not know.

    Destinations are translated before routing decides, sources behind it: nat therefore stands at two places.
    """
    if table == "nat":
        return _NAT_DESTINATION if hook in ("prerouting", "output") else _NAT_SOURCE
    return _PRIORITIES.get(table, 0)
