"""Tables of nf_tables that live no longer than their process: the messages that make them, and that delete our own.

`OwnedTable` carries the flag "owner" (kernel 5.12): nobody else can change it, ``nft flush ruleset`` passes it by, and
the kernel removes it when the socket closes, however its process ends. `SweptTable` is for older kernels: a guard
removes it, or the next start (`netdiag.participant.sweep`). No expression here is a ``ct`` one, because that would
switch connection tracking on. Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c.
"""

import select
import socket
import struct
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Type, Union

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import MISSING, UNSUPPORTED, VerbError, from_errno, from_os_error
from netdiag.participant.life import sign_of_life
from netdiag.participant.netlink import (
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    open_netlink,
)
from netdiag.participant.undo_guard import Guard, Setting

NFPROTO_INET, NFPROTO_ARP, NFPROTO_NETDEV, NFPROTO_BRIDGE = 1, 3, 5, 7
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
INGRESS, EGRESS = 0, 1
"""Hooks of the family netdev."""
ARP_INPUT, ARP_OUTPUT = 0, 1
"""Hooks of the family arp."""
FIRST, LAST = -(1 << 31), (1 << 31) - 2
"""Before and behind everybody else's chains; only conntrack's confirmation comes later (NF_IP_PRI_CONNTRACK_CONFIRM)."""
NETWORK, TRANSPORT = 1, 2
"""Bases of a payload expression."""
META_PROTOCOL, META_OIF, META_NFTRACE, META_L4PROTO = 1, 5, 12, 16
NF_DROP = 0

_SUBSYSTEM = 10
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWOBJECT = 0, 2, 3, 6, 18
_OBJECT_LIMIT, _ONCE = 4, "once"
_BATCH_BEGIN, _BATCH_END = 16, 17
_NLM_F_APPEND = 0x800
_TABLE_F_OWNER = 2
_NESTED = 0x8000
_REGISTER, _REGISTER_VERDICT = 1, 0


class Chain(NamedTuple):
    """A base chain with its rules, each a list of expressions; ``once`` where they ask for `only_once`."""

    family: int
    name: str
    hook: int
    priority: int
    device: str
    rules: Tuple[bytes, ...]
    once: bool = False


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _name(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode("ascii") + b"\0")


def _expression(name: str, *parts: bytes) -> bytes:
    return _nest(1, _name(1, name), _nest(2, *parts))


def _compare(value: bytes, differs: bool = False) -> bytes:
    return _expression("cmp", _u32(1, _REGISTER), _u32(2, int(differs)), _nest(3, attribute(1, value)))


def payload_is(base: int, offset: int, value: bytes) -> bytes:
    """Match when the packet holds ``value`` at ``offset`` of a header."""
    load = _expression("payload", _u32(1, _REGISTER), _u32(2, base), _u32(3, offset), _u32(4, len(value)))
    return load + _compare(value)


def payload_lacks(base: int, offset: int, bits: int) -> bytes:
    """Match when none of some bits of one byte of a header is set."""
    load = _expression("payload", _u32(1, _REGISTER), _u32(2, base), _u32(3, offset), _u32(4, 1))
    mask, xor = _nest(4, attribute(1, bytes([bits]))), _nest(5, attribute(1, b"\0"))
    return (
        load + _expression("bitwise", _u32(1, _REGISTER), _u32(2, _REGISTER), _u32(3, 1), mask, xor) + _compare(b"\0")
    )


def meta_is(key: int, value: bytes, differs: bool = False) -> bytes:
    """Match when what the kernel knows beside the packet is (or is not) ``value``."""
    return _expression("meta", _u32(1, _REGISTER), _u32(2, key)) + _compare(value, differs)


def set_trace() -> bytes:
    """``meta nftrace set 1``."""
    load = _expression("immediate", _u32(1, _REGISTER), _nest(2, attribute(1, b"\1")))
    return load + _expression("meta", _u32(2, META_NFTRACE), _u32(3, _REGISTER))


def only_once() -> bytes:
    """Match the first packet that comes so far in any chain of the table with ``once``, and no other.

    All of them share a bucket of one that a week fills again, so that of packets that come at once only one is met.
    """
    return _expression("objref", _u32(1, _OBJECT_LIMIT), _name(2, _ONCE))


def drop() -> bytes:
    """``drop``."""
    return _expression("immediate", _u32(1, _REGISTER_VERDICT), _nest(2, _nest(2, _u32(1, NF_DROP))))


class OwnedTable:
    """A table (one in each family that its chains need) that the kernel removes with this object's socket."""

    def __init__(self, name: str, chains: List[Chain], deadline: Deadline) -> None:
        """Make it in the calling thread's namespace. Raises VerbError as the kernel refuses."""
        self.name = name
        tried = "make an nft table of our own"
        self._sock = open_netlink(NETLINK_NETFILTER, tried, 1 << 18, False)
        try:
            _commit(self._sock, _making(name, chains, (), _TABLE_F_OWNER), deadline, tried)
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        """Let the kernel remove it."""
        self._sock.close()


class SweptTable:
    """The same without the flag "owner": a guard removes it after a kill, and after the guard's own the next start.

    As long as the owner or the guard lives, so does the `sign_of_life` of the table's name.
    """

    def __init__(
        self,
        name: str,
        chains: List[Chain],
        deadline: Deadline,
        settings: Sequence[Setting] = (),
        keep: Sequence[int] = (),
    ) -> None:
        """Make it in the calling thread's namespace. Raises VerbError as the kernel refuses.

        Whoever removes the table puts ``settings`` (loggers of nf_log) back as well; the table says so to the next
        start by chains without a hook. The guard keeps the descriptors in ``keep`` open until it is done.
        """
        self.name = name
        self._settings = tuple(settings)
        self._tried = "make an nft table that is removed at the end"
        marks = [RESTORE + "{}-{}".format(setting.path.rpartition("/")[2], setting.before) for setting in settings]
        families = sorted({chain.family for chain in chains} or {NFPROTO_INET})
        self._removal = [removing(family, name) for family in families]
        self._guard: Optional[Guard] = None
        self._holder = sign_of_life(name, self._tried)
        try:
            self._sock = open_netlink(NETLINK_NETFILTER, self._tried, 1 << 18, False)
        except BaseException:
            self._holder.close()
            raise
        try:
            self._guard = Guard(self._settings, self._removal, (self._holder.fileno(), *keep), deadline)
            _commit(self._sock, _making(name, chains, marks, 0), deadline, self._tried)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Put the settings back, remove the table, and send the guard home."""
        for setting in self._settings:
            put_back(setting)
        for batch in self._removal:
            self._sock.send(batch)  # the kernel does it before it returns; a table that is gone already is as good
        if self._guard is not None:
            self._guard.close()
        self._holder.close()
        self._sock.close()


def make_table(level: str, name: str, chains: List[Chain], deadline: Deadline) -> Union[OwnedTable, SweptTable]:
    """The table of a trace at one of the levels `TABLES`. Raises VerbError, unsupported for any other."""
    kind = TABLES.get(level)
    if kind is None:
        raise VerbError(UNSUPPORTED, "trace at the level {!r}: only {}".format(level, ", ".join(sorted(TABLES))))
    return kind(name, chains, deadline)


TABLES: Dict[str, Union[Type[OwnedTable], Type[SweptTable]]] = {"owned-trace": OwnedTable, "swept-trace": SweptTable}


RESTORE = "restore-"
"""How the chain of a `SweptTable` begins that says "FAMILY-LOGGER": the logger that nf_log had for the family."""


def put_back(setting: Setting) -> None:
    """Write a setting's earlier value unless somebody else has changed it. Never raises."""
    try:
        with open(setting.path) as found:
            now = found.read().strip()
        if now == setting.ours:
            with open(setting.path, "w") as changed:
                changed.write(setting.before)
    except OSError:
        pass


def removing(family: int, name: str) -> bytes:
    """The batch that deletes one table, for a socket on which no answer is awaited."""
    message = _message(_SUBSYSTEM << 8 | _DELTABLE, family, _name(1, name), 0, 1)
    return _batch([message])


def remove(family: int, name: str, deadline: Deadline) -> bool:
    """Delete one table of the calling thread's namespace; False when it was gone already."""
    tried = "remove the nft table " + name
    with open_netlink(NETLINK_NETFILTER, tried, 1 << 16, False) as sock:
        message = _message(_SUBSYSTEM << 8 | _DELTABLE, family, _name(1, name), NLM_F_ACK, 1)
        try:
            _commit(sock, [message], deadline, tried)
        except VerbError as error:
            if error.kind == MISSING:
                return False
            raise
    return True


def _making(name: str, chains: Sequence[Chain], marks: Sequence[str], table_flags: int) -> List[bytes]:
    """The messages that make a table in each family that its chains need, each to be acknowledged."""
    parts: List[bytes] = []

    def add(kind: int, family: int, body: bytes, flags: int) -> None:
        parts.append(_message(_SUBSYSTEM << 8 | kind, family, body, NLM_F_ACK | NLM_F_CREATE | flags, len(parts) + 1))

    for family in sorted({chain.family for chain in chains} or {NFPROTO_INET}):
        add(_NEWTABLE, family, _name(1, name) + (_u32(2, table_flags) if table_flags else b""), 0)
    for family in sorted({chain.family for chain in chains if chain.once}):
        week = attribute(1, struct.pack(">Q", 1)) + attribute(2, struct.pack(">Q", 7 * 86400))
        data = _nest(4, week, _u32(3, 1), _u32(4, 0))
        add(_NEWOBJECT, family, _name(1, name) + _name(2, _ONCE) + _u32(3, _OBJECT_LIMIT) + data, 0)
    for mark in marks:
        add(_NEWCHAIN, NFPROTO_INET, _name(1, name) + _name(3, mark), 0)
    for chain in chains:
        hook = _u32(1, chain.hook) + _u32(2, chain.priority)
        if chain.device:
            hook += _name(3, chain.device)
        body = _name(1, name) + _name(3, chain.name) + _nest(4, hook) + _name(7, "filter")
        add(_NEWCHAIN, chain.family, body, 0)
        for rule in chain.rules:
            body = _name(1, name) + _name(2, chain.name) + _nest(4, rule)
            add(_NEWRULE, chain.family, body, _NLM_F_APPEND)
    return parts


def _message(kind: int, family: int, body: bytes, flags: int, sequence: int) -> bytes:
    body = struct.pack(">BBH", family, 0, 0) + body
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def _batch(messages: Sequence[bytes]) -> bytes:
    begin = HEADER.pack(HEADER.size + 4, _BATCH_BEGIN, NLM_F_REQUEST, 0, 0) + struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    end = HEADER.pack(HEADER.size + 4, _BATCH_END, NLM_F_REQUEST, 0, 0) + struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    return begin + b"".join(messages) + end


def _commit(sock: socket.socket, messages: Sequence[bytes], deadline: Deadline, tried: str) -> None:
    """Send a batch and read one acknowledgement for each message; they come when all of it is in, or refused."""
    try:
        sock.send(_batch(messages))
        _await(sock, len(messages), deadline, tried)
    except OSError as error:
        raise from_os_error(error, tried)


def _await(sock: socket.socket, messages: int, deadline: Deadline, tried: str) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    acknowledged = 0
    while acknowledged < messages:
        if not poller.poll(int(deadline.require(tried) * 1000) + 1):
            continue
        data = sock.recv(1 << 16)
        offset = 0
        while offset + HEADER.size + 4 <= len(data):
            length, kind, _, _, _ = HEADER.unpack_from(data, offset)
            number = -struct.unpack_from("=i", data, offset + HEADER.size)[0] if kind == NLMSG_ERROR else 0
            if number:
                raise from_errno(number, tried)
            acknowledged += 1
            offset += (length + 3) & ~3


def open_traces(tried: str) -> socket.socket:
    """A non-blocking socket that receives the trace events of the calling thread's namespace (NFNLGRP_NFTRACE)."""
    sock = open_netlink(NETLINK_NETFILTER, tried, 8 << 20, False)
    try:
        sock.setsockopt(270, 1, 9)  # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP
    except OSError as error:
        sock.close()
        raise from_os_error(error, tried)
    return sock
