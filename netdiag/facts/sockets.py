"""Listening and bound sockets from /proc/net, and whose they are: a diag socket could load modules."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from netdiag.facts import netlink
from netdiag.facts.context import Context, absence, each_namespace, within
from netdiag.model.facts import Absence, Namespace, Section, Socket
from netdiag.model.wire import Answer, Gather, Request

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_LISTEN = 0x0A
_UNCONNECTED = 0x07


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


def _address(text: str) -> str:
    """An address of /proc/net: 32-bit words in the host's order."""
    raw = bytes.fromhex(text)
    return netlink.address(struct.pack(f">{len(raw) // 4}I", *struct.unpack(f"<{len(raw) // 4}I", raw)))
