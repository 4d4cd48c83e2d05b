"""RTM_GETQDISC and RTM_GETTFILTER dumps into what may drop a packet before netfilter sees it (linux/pkt_sched.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded, Message, Truncated
from netdiag.model.facts import TcFilter

_TCMSG = struct.Struct("<BxxxiIII")
BODY = bytes(_TCMSG.size)
"""struct tcmsg: the queueing disciplines of every device."""

TCA_KIND, TCA_OPTIONS = 1, 2
_CLSACT_PARENT = 0xFFFFFFF1
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_PARENTS = {_INGRESS: "ingress", _EGRESS: "egress", 0xFFFF0000: "ingress", _CLSACT_PARENT: "ingress"}
_ETHERTYPES = {0x0003: "all", 0x0800: "ip", 0x0806: "arp", 0x86DD: "ipv6", 0x8100: "802.1Q"}
_BPF_NAME, _BPF_ID = 7, 11


def filter_body(index: int, parent: int) -> bytes:
    """A struct tcmsg that asks for the filters of one hook of one device."""
    return _TCMSG.pack(0, index, 0, parent, 0)


def decode_hooks(data: bytes, devices: Mapping[int, str]) -> tuple[Decoded[TcFilter], tuple[tuple[int, int], ...]]:
    """The ingress and clsact disciplines of a dump, and the (index, parent) pairs whose filters should be asked for."""
    rows: list[TcFilter] = []
    hooks: list[tuple[int, int]] = []
    error = ""
    try:
        for message in netlink.messages(data):
            if message.kind != netlink.RTM_NEWQDISC:
                continue
            _, index, _, _, _ = netlink.fields(_TCMSG, data, message)
            found = netlink.attributes(data, message.start + _TCMSG.size, message.end)
            kind = netlink.text(found.get(TCA_KIND))
            if kind in ("ingress", "clsact"):
                device = devices.get(index) or f"if{index}"
                rows.append(TcFilter(device=device, parent="ingress", kind=kind, detail="qdisc"))
                hooks.append((index, _INGRESS if kind == "clsact" else 0xFFFF0000))
                if kind == "clsact":
                    hooks.append((index, _EGRESS))
    except Truncated as damage:
        error = f"tc: {damage}"
    return Decoded(tuple(rows), error), tuple(hooks)


def decode_filters(data: bytes, devices: Mapping[int, str]) -> Decoded[TcFilter]:
    """The filters of a dump; those that only announce a priority (no handle) are left out."""
    rows: list[TcFilter] = []
    error = ""
    try:
        for message in netlink.messages(data):
            if message.kind == netlink.RTM_NEWTFILTER:
                row = _filter(data, message, devices)
                if row is not None:
                    rows.append(row)
    except Truncated as damage:
        error = f"tc: {damage}"
    return Decoded(tuple(rows), error)


def _filter(data: bytes, message: Message, devices: Mapping[int, str]) -> TcFilter | None:
    _, index, handle, parent, info = netlink.fields(_TCMSG, data, message)
    if handle == 0:
        return None
    found = netlink.attributes(data, message.start + _TCMSG.size, message.end)
    kind = netlink.text(found.get(TCA_KIND))
    protocol = int.from_bytes((info & 0xFFFF).to_bytes(2, "little"), "big")
    detail = ""
    if kind == "bpf":
        options = netlink.nested(found.get(TCA_OPTIONS))
        program = netlink.u32(options.get(_BPF_ID))
        detail = " ".join(filter(None, (netlink.text(options.get(_BPF_NAME)), f"id {program}" if program else "")))
    return TcFilter(
        device=devices.get(index) or f"if{index}",
        parent=_PARENTS.get(parent, f"{parent >> 16:x}:{parent & 0xFFFF:x}"),
        kind=kind,
        priority=info >> 16,
        protocol=_ETHERTYPES.get(protocol, f"0x{protocol:04x}"),
        detail=detail,
    )
