"""By which of its addresses other hosts reach a host, as far as its own devices tell; pure."""

from __future__ import annotations

import ipaddress
import re

from netdiag.model.facts import HOST, Facts

_INWARD_KINDS = ("dummy", "vxlan", "ipip", "tun")
"""Devices that lead to nobody, or to somebody inside. A veth may be the card of a host that is a container itself."""
_INWARD_BRIDGES = re.compile(r"docker|br-[0-9a-f]{12}$|virbr|cni|lxcbr|lxdbr|podman|kube|flannel|cilium|cali")
"""Bridges that programs make for their own machines and containers; one of any other name may hold a network card."""

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def outward_address(facts: Facts, other: Facts | None = None) -> str:
    """The address of a network card: one on a network of the other host's, else the first; empty where none has any."""
    own = _outward(facts)
    theirs = _outward(other) if other is not None else []
    near = (one for one in own if any(each.ip in one.network for each in theirs))
    found = next(near, next(iter(own), None))
    return str(found.ip) if found is not None else ""


def _outward(facts: Facts) -> list[Interface]:
    links = {link.name: link for link in (facts.links.value or {}).get(HOST, ())}
    found = []
    for row in (facts.addresses.value or {}).get(HOST, ()):
        link = links.get(row.device)
        loopback = row.device == "lo" or (link is not None and link.loopback)
        inward = link is not None and link.kind in _INWARD_KINDS
        if row.scope == "global" and not loopback and not inward and not _INWARD_BRIDGES.match(row.device):
            found.append(ipaddress.ip_interface(row.cidr))
    return sorted(found, key=lambda each: each.version)
