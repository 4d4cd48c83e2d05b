"""The names of a trace's tables, and how a table without an owner shows that who made it is alive.

The sign is a raw socket of a protocol that nobody speaks (RFC 3692), bound to the name's four bytes as an address: only
root can have one, anybody sees it, it belongs to one network namespace, and it is gone with its last descriptor. An
abstract socket's name, or a file's, could be taken by every user. Source: net/ipv4/raw.c (raw_sock_seq_show).
"""

import os
import re
import socket
import struct
from typing import Set

from netdiag.participant.errors import from_os_error

_PREFIX = "netdiag-"
_NAME = re.compile("^" + _PREFIX + r"[0-9a-f]{8}$")
_EXPERIMENTAL, _IP_FREEBIND = 253, 15


def new_table_name() -> str:
    """A name that no other table has."""
    return _PREFIX + os.urandom(4).hex()


def is_table_name(name: str) -> bool:
    """Whether a table of this name can be a trace's."""
    return _NAME.match(name) is not None


def sign_of_life(name: str, tried: str) -> socket.socket:
    """A socket that says in the calling thread's namespace that somebody lives who has this table. Raises VerbError."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _EXPERIMENTAL)
    except OSError as error:
        raise from_os_error(error, tried)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind((socket.inet_ntoa(bytes.fromhex(name[len(_PREFIX) :])), 0))
    except OSError as error:
        sock.close()
        raise from_os_error(error, tried)
    return sock


def living() -> Set[str]:
    """The names of all tables in the calling thread's namespace whose owner or guard lives. Raises OSError."""
    with open("/proc/thread-self/net/raw") as table:
        return names_of(table.read())


def names_of(table: str) -> Set[str]:
    """The names for which root shows a sign of life, in the text of ``/proc/net/raw``."""
    names = set()
    for row in [line.split() for line in table.splitlines()[1:]]:
        address, _, protocol = row[1].partition(":")
        if int(protocol, 16) == _EXPERIMENTAL and row[7] == "0":
            names.add(_PREFIX + struct.pack("=I", int(address, 16)).hex())
    return names
