"""Fills a host's connection tracking table, as `python -m netdiag.lab.fill_conntrack` (linux/nfnetlink_conntrack.h).

Its maximum belongs to the whole machine and cannot be lowered in a lab, so that entries are made until it is reached:
datagrams between addresses for benchmarks (RFC 2544) that nobody has.
"""

from __future__ import annotations

import argparse
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from netdiag.participant.netlink import NETLINK_NETFILTER, NLA_F_NESTED, NLM_F_CREATE, NLM_F_REQUEST, attribute

_CT_NEW = 1 << 8
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _TIMEOUT = 1, 2, 3, 7
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SEEN_REPLY, _ASSURED, _CONFIRMED = 2, 4, 8
"""An assured entry is not given up for another one (nf_conntrack_core.c, early_drop)."""
_BATCH = 1000
_UDP, _PORT = 17, 9
_TARGET = struct.pack(">I", (198 << 24) + (19 << 16) + 1)
_SO_SNDBUFFORCE = 32


def _tuple(kind: int, source: bytes, destination: bytes, ports: tuple[int, int]) -> bytes:
    addresses = attribute(1, source) + attribute(2, destination)
    protocol = (
        attribute(1, bytes([_UDP]))
        + attribute(2, struct.pack(">H", ports[0]))
        + attribute(3, struct.pack(">H", ports[1]))
    )
    inner = attribute(_TUPLE_IP | NLA_F_NESTED, addresses) + attribute(_TUPLE_PROTO | NLA_F_NESTED, protocol)
    return attribute(kind | NLA_F_NESTED, inner)


def entries(count: int, timeout_s: int) -> Iterator[bytes]:
    """So many messages, each for a connection of its own."""
    end = attribute(_STATUS, struct.pack(">I", _SEEN_REPLY | _ASSURED | _CONFIRMED))
    end += attribute(_TIMEOUT, struct.pack(">I", timeout_s))
    for number in range(count):
        source = struct.pack(">I", (198 << 24) + (18 << 16) + (number >> 14))
        port = 1024 + (number & 0x3FFF)
        body = struct.pack("=BBH", socket.AF_INET, 0, 0)
        body += _tuple(_TUPLE_ORIG, source, _TARGET, (port, _PORT)) + _tuple(
            _TUPLE_REPLY, _TARGET, source, (_PORT, port)
        )
        body += end
        yield struct.pack("=IHHII", 16 + len(body), _CT_NEW, NLM_F_REQUEST | NLM_F_CREATE, number, 0) + body


def main() -> None:
    """Fill it to a share of its maximum."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--percent", type=int, default=100)
    parser.add_argument("--timeout-s", type=int, default=600)
    asked = parser.parse_args()
    maximum = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text(encoding="ascii"))
    # A few more than fit: what the kernel refuses then is what was wanted.
    count = maximum + _BATCH if asked.percent >= 100 else maximum * asked.percent // 100
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 22)
        batch: list[bytes] = []
        for message in entries(count, asked.timeout_s):
            batch.append(message)
            if len(batch) == _BATCH:
                sock.send(b"".join(batch))
                batch.clear()
        if batch:
            sock.send(b"".join(batch))


if __name__ == "__main__":
    main()
