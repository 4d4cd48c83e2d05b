"""Listening and bound sockets of every namespace, from /proc/net: no diag socket is opened, so no module is loaded."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from netdiag.facts.reading import absence_of, texts
from netdiag.model.facts import Absence, Namespace, Section, Socket
from netdiag.model.wire import Gather, Request

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_LISTEN = "0A"
"""TCP_LISTEN of include/net/tcp_states.h."""


def gather_sockets(namespaces: Mapping[str, Namespace]) -> Gather[Section[dict[str, tuple[Socket, ...]]]]:
    """TCP sockets that listen and UDP sockets that are bound, with the process that holds each."""
    holders, *answers = yield [
        Request("process-sockets"),
        *(
            Request("files", {"globs": [f"/proc/net/{table}" for table in _TABLES], "netns": namespace.path})
            for namespace in namespaces.values()
        ),
    ]
    owners: dict[str, list[object]] = holders.data["sockets"] if holders.data is not None else {}
    found: dict[str, tuple[Socket, ...]] = {}
    partial: dict[str, Absence] = {}
    for name, answer in zip(namespaces, answers, strict=True):
        if answer.data is None:
            partial[name] = absence_of(answer)
            continue
        read = texts(answer)
        found[name] = tuple(
            one for table in _TABLES for one in read_table(table, read.get(f"/proc/net/{table}", ""), owners)
        )
    if not found and partial:
        return Section(absent=next(iter(partial.values())))
    return Section(value=found, partial=partial)


def read_table(table: str, content: str, owners: Mapping[str, list[object]]) -> Iterator[Socket]:
    """The listening or bound sockets of one file (net/ipv4/tcp_ipv4.c and udp.c, ``*_seq_show``).

    Args:
        table: tcp, tcp6, udp or udp6: the protocol of the sockets.
        content: The file's text.
        owners: Socket inode to process id and command.
    """
    for line in content.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or ":" not in fields[1]:
            continue
        address, _, port = fields[1].partition(":")
        if table.startswith("tcp") and fields[3] != _LISTEN:
            continue
        try:
            number, inode = int(port, 16), int(fields[9])
            shown = _address(address)
        except ValueError:
            continue
        holder = owners.get(fields[9])
        # For a listener the kernel shows the accept queue's length as rx_queue (tcp_seq_show).
        queue = int(fields[4].partition(":")[2] or "0", 16)
        yield Socket(
            protocol=table,
            address=shown,
            port=number,
            inode=inode,
            pid=int(str(holder[0])) if holder else None,
            process=str(holder[1]) if holder else "",
            queue=queue,
        )


def _address(text: str) -> str:
    """An address as /proc/net writes it: 32-bit words in the host's byte order (little-endian)."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
