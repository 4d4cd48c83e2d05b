"""Listening and bound sockets from /proc/net, and whose they are: a diag socket could load modules."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from netdiag.facts import netlink
from netdiag.facts.context import Context, absence, each_namespace, texts, within
from netdiag.model.facts import Absence, Namespace, Section, Socket
from netdiag.model.wire import Answer, Gather, Request

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_LISTEN = 0x0A
_UNCONNECTED = 0x07
_TCP_STATES = {0x01: "established", 0x03: "syn-recv", 0x08: "close-wait"}


def gather_sockets(context: Context) -> Gather[Section[dict[str, tuple[Socket, ...]]]]:
    """Per namespace: TCP listeners and UDP sockets that are bound and unconnected, with process where that is allowed.

    A socket of the kernel (VXLAN's udp/4789) has no process.
    """
    (owners,) = yield [Request("process-sockets", {}, 3.0)]
    held = owners.data["sockets"] if owners.data is not None else {}

    def ask(namespace: Namespace) -> list[Request]:
        globs = [f"/proc/net/{table}" for table in _TABLES]
        return [Request("files", within(namespace, {"globs": globs, "limit_bytes": 32 << 20}), 3.0)]

    def read(_namespace: Namespace, answers: Sequence[Answer]) -> tuple[tuple[Socket, ...] | None, Absence | None]:
        if answers[0].data is None:
            return None, absence(answers[0])
        rows: list[Socket] = []
        for path, text in answers[0].data["files"].items():
            rows.extend(decode(path.rpartition("/")[2], text, held))
        return tuple(rows), None

    return (yield from each_namespace(context, ask, read))


def decode(table: str, text: str, held: Mapping[str, Sequence[object]]) -> list[Socket]:
    """The listening or unbound-peer rows of one table of /proc/net (net/ipv4/tcp_ipv4.c, udp.c)."""
    rows: list[Socket] = []
    wanted = _LISTEN if table.startswith("tcp") else _UNCONNECTED
    for line in text.splitlines()[1:]:
        words = line.split()
        try:
            address, _, port = words[1].partition(":")
            if int(words[3], 16) != wanted:
                continue
            inode = int(words[9])
            owner = held.get(str(inode))
            rows.append(
                Socket(
                    protocol=table.removesuffix("6"),
                    address=_address(address),
                    port=int(port, 16),
                    inode=inode,
                    pid=int(str(owner[0])) if owner else None,
                    process=str(owner[1]) if owner else "",
                    # A listener's receive queue counts connections that wait for accept(); its limit is not shown.
                    queue=int(words[4].partition(":")[2], 16),
                )
            )
        except (IndexError, ValueError, struct.error):
            continue  # a line cut short: the table changes while it is read
    return rows


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A TCP connection of a namespace, as its own side has it.

    ``accepted`` is false while it waits for the program to accept it: until then the kernel gives it no inode.
    """

    address: str
    port: int
    peer: str
    peer_port: int
    state: str
    accepted: bool
    unread_bytes: int


def gather_connections(netns: str = "") -> Gather[tuple[Connection, ...]]:
    """The connections of a namespace ("" is the host's own) that are open or being opened; none that cannot be read."""
    params: dict[str, Any] = {"globs": [f"/proc/net/{table}" for table in ("tcp", "tcp6")], "limit_bytes": 32 << 20}
    (answer,) = yield [Request("files", {**params, "netns": netns} if netns else params, 3.0)]
    return tuple(row for text in texts(answer).values() for row in connections(text))


def connections(text: str) -> list[Connection]:
    """The rows of /proc/net/tcp or tcp6 that are connections (net/ipv4/tcp_ipv4.c, get_tcp4_sock)."""
    rows = []
    for line in text.splitlines()[1:]:
        words = line.split()
        try:
            state = _TCP_STATES.get(int(words[3], 16))
            if state is None:
                continue
            (address, _, port), (peer, _, peer_port) = words[1].partition(":"), words[2].partition(":")
            rows.append(
                Connection(
                    address=_address(address),
                    port=int(port, 16),
                    peer=_address(peer),
                    peer_port=int(peer_port, 16),
                    state=state,
                    accepted=words[9] != "0",
                    unread_bytes=int(words[4].partition(":")[2], 16),
                )
            )
        except (IndexError, ValueError, struct.error):
            continue  # a line cut short, as above
    return rows


def _address(text: str) -> str:
    """An address of /proc/net: 32-bit words in the host's order."""
    raw = bytes.fromhex(text)
    return netlink.address(struct.pack(f">{len(raw) // 4}I", *struct.unpack(f"<{len(raw) // 4}I", raw)))
