"""RTM_GETNEIGH dumps into ARP and ND entries and, for AF_BRIDGE, forwarding entries (linux/neighbour.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded, Truncated
from netdiag.model.facts import FdbEntry, Neighbour

_NDMSG = struct.Struct("<BxxxiHBB")
BODY = bytes(_NDMSG.size)
"""struct ndmsg: ARP and ND of every device."""
FDB_BODY = _NDMSG.pack(netlink.AF_BRIDGE, 0, 0, 0, 0)
"""struct ndmsg: forwarding entries of every bridge and VXLAN device."""

NDA_DST, NDA_LLADDR, NDA_VLAN, NDA_MASTER = 1, 2, 5, 9
_NTF_SELF, _NTF_MASTER, _NTF_PROXY = 2, 4, 8
_STATES = {
    1: "incomplete",
    2: "reachable",
    4: "stale",
    8: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}


def decode(data: bytes, devices: Mapping[int, str]) -> Decoded[Neighbour]:
    """The ARP and ND entries of a dump."""
    rows: list[Neighbour] = []
    error = ""
    try:
        for message in netlink.messages(data):
            if message.kind != netlink.RTM_NEWNEIGH:
                continue
            family, index, state, flags, _ = netlink.fields(_NDMSG, data, message)
            if family not in netlink.FAMILIES:
                continue
            found = netlink.attributes(data, message.start + _NDMSG.size, message.end)
            address = netlink.address(found.get(NDA_DST))
            if address:
                rows.append(
                    Neighbour(
                        device=devices.get(index) or f"if{index}",
                        address=address,
                        mac=netlink.mac(found.get(NDA_LLADDR)),
                        states=netlink.flag_names(state, _STATES),
                        proxy=bool(flags & _NTF_PROXY),
                    )
                )
    except Truncated as damage:
        error = f"neighbours: {damage}"
    return Decoded(tuple(rows), error)


def decode_fdb(data: bytes, devices: Mapping[int, str]) -> Decoded[FdbEntry]:
    """The forwarding entries of a dump. A row with a VTEP is a VXLAN device's own; the bridge's row has none."""
    rows: list[FdbEntry] = []
    error = ""
    try:
        for message in netlink.messages(data):
            if message.kind != netlink.RTM_NEWNEIGH:
                continue
            family, index, state, flags, _ = netlink.fields(_NDMSG, data, message)
            if family != netlink.AF_BRIDGE:
                continue
            found = netlink.attributes(data, message.start + _NDMSG.size, message.end)
            vlan = found.get(NDA_VLAN)
            rows.append(
                FdbEntry(
                    device=devices.get(index) or f"if{index}",
                    mac=netlink.mac(found.get(NDA_LLADDR)),
                    vtep=netlink.address(found.get(NDA_DST)),
                    vlan=int.from_bytes(vlan, "little") if vlan and len(vlan) == 2 else None,
                    states=netlink.flag_names(state, _STATES),
                    on_self=bool(flags & _NTF_SELF),
                    # The bridge's rows carry the master; older kernels set the flag as well.
                    on_master=NDA_MASTER in found or bool(flags & _NTF_MASTER),
                )
            )
    except Truncated as damage:
        error = f"fdb: {damage}"
    return Decoded(tuple(rows), error)
