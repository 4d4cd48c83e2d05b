"""Verbs that read over netlink and return the messages as the kernel wrote them.

Only requests that read are sent. Protocols other than NETLINK_ROUTE load modules merely by being opened or asked, so
they need ``may_load``; NETLINK_XFRM is never asked, for its answers hold the keys of encrypted networks.
"""

import errno
import os
import select
import socket
import struct
from typing import Any, Dict, List, Tuple

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, UNSUPPORTED, WITHHELD, VerbError, from_errno, from_os_error
from netdiag.participant.netns import in_netns, in_scratch_netns, namespace_of
from netdiag.participant.wire import as_bytes

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port id."""
_HEAD = struct.Struct("=IHH")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 1, 2, 4, 0x10, 0x300
NLM_F_CREATE, NLM_F_EXCL, NLM_F_ACK_TLVS = 0x400, 0x200, 0x200
SOL_NETLINK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 11, 12
SO_RCVBUFFORCE = 33
NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
RECEIVE_BYTES = 8 << 20
ATTEMPTS = 4

SOCK_DIAG_BY_FAMILY = 20
_NETFILTER_READS = frozenset(
    # subsystem << 8 | message: conntrack get, its statistics, and the nf_tables readers
    [0x0101, 0x0104, 0x0105, 0x0A01, 0x0A04, 0x0A07, 0x0A0A, 0x0A0D, 0x0A10]
)


def _check(protocol: int, kind: int, params: Dict[str, Any]) -> None:
    """Raise unless the request only reads, and loads nothing unless that is allowed."""
    if protocol == NETLINK_ROUTE:
        reads = kind >= 16 and kind & 3 == 2  # rtnetlink: NEW, DEL, GET, SET by the two lowest bits
    elif protocol == NETLINK_SOCK_DIAG:
        reads = kind == SOCK_DIAG_BY_FAMILY
    elif protocol == NETLINK_NETFILTER:
        reads = kind in _NETFILTER_READS
    else:
        reads = False
    if not reads:
        raise VerbError(UNSUPPORTED, "netlink protocol {} type {}: not among what is read".format(protocol, kind))
    if protocol != NETLINK_ROUTE and not params.get("may_load"):
        raise VerbError(WITHHELD, "netlink protocol {}: asking could load a kernel module".format(protocol))


def _body(params: Dict[str, Any]) -> bytes:
    """What follows the header. To a message with less than struct rtgenmsg rtnetlink gives no answer at all."""
    return as_bytes(params.get("body")) or b"\0" * 4


def netlink_dump(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """A whole dump, repeated until the kernel says that nothing changed meanwhile.

    Parameters: ``protocol`` (0 is NETLINK_ROUTE), ``type`` (RTM_GETLINK 18, RTM_GETROUTE 26 …), ``body`` (base64 of
    what follows the header, e.g. struct rtmsg; default: any family), ``netns``, ``strict`` (NETLINK_GET_STRICT_CHK: the
    kernel honours the body's filters), ``may_load``. Data: ``messages`` (bytes: all messages one after the other,
    header included, without the final DONE), ``interrupted`` (the table kept changing: some entries may be missing or
    twice). Errors: unsupported, withheld, permission, missing (namespace), timeout, failed.
    """
    protocol, kind, body = int(params.get("protocol") or 0), int(params["type"]), _body(params)
    _check(protocol, kind, params)
    tried = "netlink dump, protocol {} type {}".format(protocol, kind)
    strict = bool(params.get("strict"))

    def work() -> Dict[str, Any]:
        answer: Dict[str, Any] = {"messages": b"", "interrupted": True}
        for attempt in range(ATTEMPTS):
            with open_netlink(protocol, tried, RECEIVE_BYTES << attempt, strict) as sock:
                try:
                    messages, interrupted = _dump(sock, kind, body, deadline, tried)
                except OSError as error:
                    if error.errno in (errno.ENOBUFS, errno.EINTR):
                        continue
                    raise from_os_error(error, tried)
            answer = {"messages": messages, "interrupted": interrupted}
            if not interrupted:
                return answer
        if not answer["messages"]:
            raise VerbError(FAILED, tried + ": the receive buffer overflowed {} times".format(ATTEMPTS))
        return answer

    return in_netns(namespace_of(params), work, deadline)


def netlink_get(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """One request that is no dump, such as RTM_GETROUTE for a route lookup.

    Parameters: as for ``netlink-dump``. Data: ``messages`` (bytes, as there), ``errno`` (0, or the kernel's answer:
    ENETUNREACH to a lookup is an answer, not a failure) and ``text`` (that errno in words). Errors: as for
    ``netlink-dump``.
    """
    protocol, kind, body = int(params.get("protocol") or 0), int(params["type"]), _body(params)
    _check(protocol, kind, params)
    tried = "netlink request, protocol {} type {}".format(protocol, kind)

    def work() -> Dict[str, Any]:
        with open_netlink(protocol, tried, 1 << 20, bool(params.get("strict"))) as sock:
            return request(sock, kind, NLM_F_REQUEST, body, deadline, tried)

    return in_netns(namespace_of(params), work, deadline)


def open_netlink(protocol: int, tried: str, receive_bytes: int, strict: bool) -> socket.socket:
    """A bound, non-blocking netlink socket of the calling thread's namespace."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise from_os_error(error, tried)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_bytes)
    except OSError:  # without CAP_NET_ADMIN the host's limit applies
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    for option, wanted in ((NETLINK_EXT_ACK, True), (NETLINK_GET_STRICT_CHK, strict)):
        try:
            sock.setsockopt(SOL_NETLINK, option, int(wanted))
        except OSError:  # an old kernel: less text in errors, filters not honoured
            continue
    try:
        sock.bind((0, 0))
    except OSError as error:
        sock.close()
        raise from_os_error(error, tried)
    sock.setblocking(False)
    return sock


def request(sock: socket.socket, kind: int, flags: int, body: bytes, deadline: Deadline, tried: str) -> Dict[str, Any]:
    """Send one request and read its one answer, in the shape of ``netlink-get``."""
    _send(sock, kind, flags, body, tried)
    data = _receive(sock, deadline, tried)
    length, answer_kind, answer_flags = _HEAD.unpack_from(data)
    if answer_kind == NLMSG_ERROR:
        number, text = _error(data, length, answer_flags)
        return {"messages": b"", "errno": number, "text": text}
    return {"messages": data, "errno": 0, "text": ""}


def _send(sock: socket.socket, kind: int, flags: int, body: bytes, tried: str) -> None:
    try:
        sock.send(HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body)
    except OSError as error:
        raise from_os_error(error, tried)


def _receive(sock: socket.socket, deadline: Deadline, tried: str) -> bytes:
    """One datagram. Raises OSError as recv does (ENOBUFS), and VerbError at the deadline."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    while not poller.poll(int(deadline.require(tried) * 1000) + 1):
        pass
    # The kernel fills skbs up to the size that the reader asks for, 32 KiB at most; nothing is cut.
    return sock.recv(1 << 17)


def _dump(sock: socket.socket, kind: int, body: bytes, deadline: Deadline, tried: str) -> Tuple[bytes, bool]:
    _send(sock, kind, NLM_F_REQUEST | NLM_F_DUMP, body, tried)
    chunks: List[bytes] = []
    interrupted = False
    unpack = _HEAD.unpack_from
    while True:
        data = _receive(sock, deadline, tried)
        offset, end = 0, len(data)
        if _uniform(data):
            offset = end
            interrupted = interrupted or bool(unpack(data)[2] & NLM_F_DUMP_INTR)
        while offset + HEADER.size <= end:
            length, message, flags = unpack(data, offset)
            if flags & NLM_F_DUMP_INTR:
                interrupted = True
            if message == NLMSG_ERROR or message == NLMSG_DONE:
                number, text = _error(data[offset:], length, flags)
                if number:
                    raise _refused(number, text, tried)
                chunks.append(data[:offset])
                return b"".join(chunks), interrupted
            if length < HEADER.size:
                raise VerbError(FAILED, tried + ": a message of impossible length came")
            offset += (length + 3) & ~3
        chunks.append(data)


def _uniform(data: bytes) -> bool:
    """Whether all messages of a datagram have the first one's length, type and flags, and it does not end the dump.

    Large dumps mostly consist of such datagrams, and comparing every eighth part at once spares a look at each message.
    """
    if len(data) < HEADER.size:
        return False
    length, kind, _ = _HEAD.unpack_from(data)
    count = len(data) // length if length >= HEADER.size else 0
    if kind in (NLMSG_ERROR, NLMSG_DONE) or length % 4 or count * length != len(data):
        return False
    return all(data[at::length] == data[at : at + 1] * count for at in range(_HEAD.size))


def _refused(number: int, text: str, tried: str) -> VerbError:
    error = from_errno(number, tried)
    return VerbError(error.kind, "{}: {}".format(tried, text))


def _error(data: bytes, length: int, flags: int) -> Tuple[int, str]:
    """The errno (positive, 0 for none) and text of an ERROR or DONE message at the start of ``data``."""
    if length < HEADER.size + 4:
        return 0, ""
    number = -struct.unpack_from("=i", data, HEADER.size)[0]
    if number <= 0:
        return 0, ""
    text = os.strerror(number)
    if flags & NLM_F_ACK_TLVS:
        # An extended acknowledgement follows the copy of the request; its attribute 1 is the kernel's own sentence.
        copied = HEADER.size if length < HEADER.size + 4 + HEADER.size else _HEAD.unpack_from(data, HEADER.size + 4)[0]
        capped = flags & 0x100
        offset = HEADER.size + 4 + (HEADER.size if capped else (copied + 3) & ~3)
        while offset + 4 <= min(length, len(data)):
            size, attribute = struct.unpack_from("=HH", data, offset)
            if size < 4:
                break
            if attribute == 1:
                text += ": " + data[offset + 4 : offset + size].rstrip(b"\0").decode("utf-8", "replace")
            offset += (size + 3) & ~3
    return number, text


RTM_NEWLINK = 16
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA = 3, 18, 1, 2
NLA_F_NESTED = 0x8000


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def create_device(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Whether the kernel can create a device of a kind: tried in a scratch namespace that dies with it.

    This may load the kind's module, so the request must carry ``may_load``. Parameters: ``kind`` ("vxlan", "ipip"),
    ``data`` (base64 of IFLA_INFO_DATA's attributes, optional), ``may_load``. Data: ``created`` (bool), ``errno``,
    ``text``. Errors: withheld, permission, timeout.
    """
    kind = str(params["kind"])
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "create a device of kind {}: it could load a kernel module".format(kind))
    info = attribute(IFLA_INFO_KIND, kind.encode("ascii") + b"\0")
    data = as_bytes(params.get("data"))
    if data:
        info += attribute(IFLA_INFO_DATA | NLA_F_NESTED, data)
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0)  # struct ifinfomsg, nothing asked for
    body += attribute(IFLA_IFNAME, b"netdiag0\0") + attribute(IFLA_LINKINFO | NLA_F_NESTED, info)
    tried = "create a device of kind " + kind

    def work() -> Dict[str, Any]:
        with open_netlink(NETLINK_ROUTE, tried, 1 << 16, False) as sock:
            flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
            answer = request(sock, RTM_NEWLINK, flags, body, deadline, tried)
        return {"created": answer["errno"] == 0, "errno": answer["errno"], "text": answer["text"]}

    return in_scratch_netns(work, deadline)
