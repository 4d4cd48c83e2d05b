"""Devices that stand on others: what a packet passes below the device that has the addresses, and above a port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdiag.model.facts import Link

_ON_A_PARENT = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")
_NOT_THROUGH_THEIR_MASTER = ("vrf", "openvswitch")
"""Kinds of master that group devices; packets do not pass them as a device below or above."""


def below(links: Sequence[Link], name: str) -> tuple[str, ...]:
    """Everything that a device stands on, nearest first: ports of a bridge, members of a bond, a VLAN's parent."""
    found: dict[str, None] = {}
    pending = [name]
    while pending:
        for lower in _directly(links, pending.pop(0)):
            if lower not in found and lower != name:
                found[lower] = None
                pending.append(lower)
    return tuple(found)


def _directly(links: Sequence[Link], name: str) -> Iterator[str]:
    device = next((link for link in links if link.name == name), None)
    if device is None:
        return
    for link in links:
        member = link.master == device.index and device.kind not in _NOT_THROUGH_THEIR_MASTER
        parent = device.kind in _ON_A_PARENT and link.index == device.peer_index and device.peer_netnsid is None
        if member or parent:
            yield link.name
