"""RTM_GETLINK dumps into links (linux/if_link.h)."""

from __future__ import annotations

import struct

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded, Message, Truncated
from netdiag.model.facts import Link, LinkStats, Vxlan

BODY = bytes(16)
"""struct ifinfomsg: all links."""

_IFINFOMSG = struct.Struct("<BxHiII")
_IFF_UP, _IFF_LOOPBACK, _IFF_PROMISC = 1, 8, 0x100
_STATS64 = struct.Struct("<8Q")
_STATS32 = struct.Struct("<8I")

_OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
_OTHER_HOST, _OTHER_HOST_AT = struct.Struct("<Q"), 24 * 8
_OTHER_HOST_END = _OTHER_HOST_AT + _OTHER_HOST.size
"""Where struct rtnl_link_stats64 has rx_otherhost_dropped (kernel 5.19)."""
_XDP_MODES = {1: "driver", 2: "generic", 3: "offloaded", 4: "multi"}

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_STATS, IFLA_MASTER = 1, 3, 4, 5, 7, 10
IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_STATS64, IFLA_PROMISCUITY = 16, 18, 23, 30
IFLA_LINK_NETNSID, IFLA_XDP = 37, 43
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_XDP_ATTACHED, IFLA_XDP_PROG_ID = 2, 4


def decode(data: bytes) -> Decoded[Link]:
    """All links of a dump; a message that is too short is named in the error and left out."""
    rows: list[Link] = []
    error = ""
    try:
        rows.extend(_link(data, message) for message in netlink.messages(data) if message.kind == netlink.RTM_NEWLINK)
    except Truncated as damage:
        error = f"links: {damage}"
    return Decoded(tuple(rows), error)


def _link(data: bytes, message: Message) -> Link:
    _, _, index, flags, _ = netlink.fields(_IFINFOMSG, data, message)
    found = netlink.attributes(data, message.start + _IFINFOMSG.size, message.end)
    info = netlink.nested(found.get(IFLA_LINKINFO))
    kind = netlink.text(info.get(IFLA_INFO_KIND))
    xdp = netlink.nested(found.get(IFLA_XDP))
    state = netlink.u8(found.get(IFLA_OPERSTATE)) or 0
    return Link(
        index=index,
        name=netlink.text(found.get(IFLA_IFNAME)),
        kind=kind,
        mtu_bytes=netlink.u32(found.get(IFLA_MTU)) or 0,
        mac=netlink.mac(found.get(IFLA_ADDRESS)),
        up=bool(flags & _IFF_UP),
        operstate=_OPERSTATES[state] if state < len(_OPERSTATES) else str(state),
        loopback=bool(flags & _IFF_LOOPBACK),
        # The flag shows only what user space asked for; the counter also what a bridge or a packet socket did.
        promiscuous=bool(flags & _IFF_PROMISC) or bool(netlink.u32(found.get(IFLA_PROMISCUITY))),
        master=netlink.u32(found.get(IFLA_MASTER)),
        peer_index=netlink.u32(found.get(IFLA_LINK)),
        peer_netnsid=netlink.i32(found.get(IFLA_LINK_NETNSID)),
        vxlan=_vxlan(info.get(IFLA_INFO_DATA)) if kind == "vxlan" else None,
        xdp_mode=_XDP_MODES.get(netlink.u8(xdp.get(IFLA_XDP_ATTACHED)) or 0, ""),
        xdp_program_id=netlink.u32(xdp.get(IFLA_XDP_PROG_ID)),
        stats=_stats(found),
    )


def _stats(found: dict[int, bytes]) -> LinkStats | None:
    for kind, layout in ((IFLA_STATS64, _STATS64), (IFLA_STATS, _STATS32)):
        value = found.get(kind)
        if value and len(value) >= layout.size:
            # rtnl_link_stats: packets rx, tx; bytes rx, tx; errors rx, tx; dropped rx, tx.
            rx, tx, _, _, rx_errors, tx_errors, rx_dropped, tx_dropped = layout.unpack_from(value)
            other = _OTHER_HOST.unpack_from(value, _OTHER_HOST_AT)[0] if len(value) >= _OTHER_HOST_END else 0
            return LinkStats(
                rx_otherhost=other,
                rx_packets=rx,
                tx_packets=tx,
                rx_errors=rx_errors,
                tx_errors=tx_errors,
                rx_dropped=rx_dropped,
                tx_dropped=tx_dropped,
            )
    return None


def _vxlan(value: bytes | None) -> Vxlan:
    found = netlink.nested(value)
    checksum = netlink.u8(found.get(18))
    return Vxlan(
        vni=netlink.u32(found.get(1)) or 0,
        port=netlink.u16be(found.get(15)) or 0,
        local=netlink.address(found.get(4) or found.get(17)),
        group=netlink.address(found.get(2) or found.get(16)),
        learning=bool(netlink.u8(found.get(7))),
        proxy=bool(netlink.u8(found.get(11))),
        l2miss=bool(netlink.u8(found.get(13))),
        l3miss=bool(netlink.u8(found.get(14))),
        ageing_s=netlink.u32(found.get(8)),
        udp_checksum=None if checksum is None else bool(checksum),
        external=bool(netlink.u8(found.get(25))),
    )
