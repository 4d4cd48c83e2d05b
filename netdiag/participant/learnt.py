"""What a bridge knows of a link address, put back when a frame of ours has gone by: a bridge learns from every frame.

An address that the bridge knew at another port would draw that station's frames to the wrong one until it speaks again.
Sources: linux/rtnetlink.h, linux/neighbour.h, net/bridge/br_fdb.c.
"""

import base64
import socket
import struct
from typing import Dict, NamedTuple, Optional

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import VerbError
from netdiag.participant.netlink import (
    HEADER,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    attribute,
    netlink_dump,
    open_netlink,
    request,
)
from netdiag.participant.trace_events import attributes

_NEW, _DELETE, _GET, _NLM_F_REPLACE = 28, 29, 30, 0x100
_NDMSG = struct.Struct("=BxxxiHBB")
_AF_BRIDGE, _NTF_MASTER, _NTF_EXTERNAL = 7, 4, 0x10
_ADDRESS, _VLAN, _MASTER = 2, 5, 9
_REACHABLE, _STATIC, _OWN = 0x02, 0x40, 0x80
_RESTORE_S = 1.0


class _Entry(NamedTuple):
    port: int
    state: int
    flags: int


class Learnt:
    """A bridge's entries of one link address as they are now, by VLAN."""

    def __init__(self, device: str, mac: bytes, deadline: Deadline) -> None:
        """Look at the bridge whose port ``device`` is. Raises VerbError."""
        self._mac = mac
        self._index = socket.if_nametoindex(device)
        self._before = self._entries(deadline)

    def restore(self) -> None:
        """Put back what a frame from ``device`` has changed. Never raises: the answer is worth more than the entry."""
        deadline = Deadline(_RESTORE_S)
        try:
            now = self._entries(deadline)
            for vlan, entry in now.items():
                was = self._before.get(vlan)
                if entry.port != self._index or entry.state & _OWN:
                    continue
                if was is None:
                    self._change(_DELETE, vlan, entry, deadline)
                elif was.port != self._index:
                    self._change(_NEW, vlan, was, deadline)
            # An entry that is made without a VLAN comes in each VLAN of its port as well.
            for vlan, entry in self._entries(deadline).items():
                if vlan is not None and vlan not in now:
                    self._change(_DELETE, vlan, entry, deadline)
        except (OSError, VerbError):
            return

    def _change(self, kind: int, vlan: Optional[int], entry: _Entry, deadline: Deadline) -> None:
        flags = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_CREATE | _NLM_F_REPLACE if kind == _NEW else 0)
        state, external = entry.state & _STATIC or _REACHABLE, entry.flags & _NTF_EXTERNAL
        body = _NDMSG.pack(_AF_BRIDGE, entry.port, state, _NTF_MASTER | external, 0) + attribute(_ADDRESS, self._mac)
        if vlan is not None:
            body += attribute(_VLAN, struct.pack("=H", vlan))
        tried = "have a bridge know again what it knew"
        with open_netlink(NETLINK_ROUTE, tried, 1 << 16, False) as sock:
            request(sock, kind, flags, body, deadline, tried)

    def _entries(self, deadline: Deadline) -> "Dict[Optional[int], _Entry]":
        body = base64.b64encode(_NDMSG.pack(_AF_BRIDGE, 0, 0, 0, 0)).decode("ascii")
        data = netlink_dump({"protocol": NETLINK_ROUTE, "type": _GET, "body": body}, deadline)["messages"]
        bridge, found, offset = b"", [], 0
        while offset + HEADER.size + _NDMSG.size <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if length < HEADER.size + _NDMSG.size:
                break
            if kind == _NEW:
                _, port, state, flags, _ = _NDMSG.unpack_from(data, offset + HEADER.size)
                told = attributes(data[offset + HEADER.size + _NDMSG.size : offset + length])
                if port == self._index and _MASTER in told:
                    bridge = told[_MASTER]  # each port has an entry of its own address
                if told.get(_ADDRESS) == self._mac and _MASTER in told:
                    vlan = struct.unpack("=H", told[_VLAN])[0] if len(told.get(_VLAN, b"")) == 2 else None
                    found.append((told[_MASTER], vlan, _Entry(port, state, flags)))
            offset += (length + 3) & ~3
        return {vlan: entry for master, vlan, entry in found if master == bridge}
