"""RTM_GETADDR dumps into addresses (linux/if_addr.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded, Truncated
from netdiag.model.facts import Address

BODY = bytes(8)
"""struct ifaddrmsg: all families, all devices."""

_IFADDRMSG = struct.Struct("<BBBBI")
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
_IFA_F_SECONDARY = 1


def decode(data: bytes, devices: Mapping[int, str]) -> Decoded[Address]:
    """All addresses of a dump; ``devices`` names interface indexes, an unknown one stays "if12"."""
    rows: list[Address] = []
    error = ""
    try:
        for message in netlink.messages(data):
            if message.kind != netlink.RTM_NEWADDR:
                continue
            family, length, flags, scope, index = netlink.fields(_IFADDRMSG, data, message)
            if family not in netlink.FAMILIES:
                continue
            found = netlink.attributes(data, message.start + _IFADDRMSG.size, message.end)
            flags = netlink.u32(found.get(IFA_FLAGS)) or flags
            # With a peer (point to point) IFA_LOCAL is ours and IFA_ADDRESS the peer's; IPv6 without one has no LOCAL.
            address = netlink.address(found.get(IFA_ADDRESS))
            local = netlink.address(found.get(IFA_LOCAL)) or address
            if not local:
                continue
            rows.append(
                Address(
                    device=devices.get(index) or f"if{index}",
                    cidr=f"{local}/{length}",
                    scope=netlink.SCOPES.get(scope, str(scope)),
                    # On IPv6 the same bit means "temporary" (RFC 8981).
                    secondary=family == netlink.AF_INET and bool(flags & _IFA_F_SECONDARY),
                    peer=address if address != local else "",
                )
            )
    except Truncated as damage:
        error = f"addresses: {damage}"
    return Decoded(tuple(rows), error)
