"""Verbs that tell how a container resolves names, and ask its name server from its network namespace."""

import os
import select
import socket
import stat
import struct
from typing import Any, Dict, List, Tuple

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, TIMEOUT, UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.netns import in_netns, namespace_of

TYPES = {"A": 1, "AAAA": 28, "PTR": 12}
_CLASS_IN = 1
_ANSWER, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0200, 0x0100
_MOST_BYTES = 4096
_FILE_BYTES = 64 << 10


def dns_query(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """One question to one name server; over UDP, and over TCP when the answer does not fit.

    Parameters: ``server`` (an address), ``port`` (default 53), ``name`` (complete; no search list is applied), ``type``
    (A, AAAA or PTR), ``netns``. Data: ``rcode`` (RFC 1035: 0 is an answer, 3 that there is no such name), ``addresses`` (of
    the type that was asked, in the answer's order, aliases followed; none of PTR), ``tcp`` (it was asked over TCP). Errors: timeout
    (the server does not answer), failed (it refuses, or answers what is none), unsupported (a name or type that cannot
    be asked), missing (the namespace).
    """
    name, kind = str(params["name"]), str(params.get("type") or "A")
    server, port = str(params["server"]), int(params.get("port") or 53)
    if kind not in TYPES:
        raise VerbError(UNSUPPORTED, "ask for {}: {} only".format(kind, " and ".join(sorted(TYPES))))
    tried = "ask {} for {} {}".format(server, name, kind)
    identity = struct.unpack("=H", os.urandom(2))[0]
    question = _question(name, TYPES[kind], tried)
    message = struct.pack(">6H", identity, _RECURSION_DESIRED, 1, 0, 0, 0) + question

    def work() -> Dict[str, Any]:
        try:
            raw, tcp = _over_udp(server, port, message, deadline), False
            if struct.unpack_from(">H", raw, 2)[0] & _TRUNCATED:
                raw, tcp = _over_tcp(server, port, message, deadline), True
        except socket.timeout:
            raise VerbError(TIMEOUT, tried + ": no answer")
        except OSError as error:
            raise from_os_error(error, tried)
        try:
            rcode, addresses = _answer(raw, len(question), TYPES[kind])
        except (struct.error, IndexError, ValueError):
            raise VerbError(FAILED, tried + ": what came back is no answer")
        return {"rcode": rcode, "addresses": addresses, "tcp": tcp}

    return in_netns(namespace_of(params), work, Deadline(deadline.left() + 0.2))


def resolver_files(params: Dict[str, Any], _deadline: Deadline) -> Dict[str, Any]:
    """The files by which a process resolves names: /etc/resolv.conf and /etc/hosts of its own root.

    No symbolic link is followed: one that a container made would lead to a file of this host. Parameters: ``pid``.
    Data: ``resolv_conf``, ``hosts`` (text, "" where there is none). Errors: missing (the process has ended), permission.
    """
    etc = open_etc(int(params["pid"]), "read the resolver's files of process {}".format(int(params["pid"])))
    try:
        return {"resolv_conf": text_at(etc, "resolv.conf"), "hosts": text_at(etc, "hosts")}
    finally:
        os.close(etc)


def open_etc(pid: int, tried: str) -> int:
    """A descriptor of /etc in the root of a process, reached over no symbolic link. Raises VerbError."""
    try:
        root = os.open("/proc/{}/root".format(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, tried)
    try:
        return os.open("etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError as error:
        raise from_os_error(error, tried)
    finally:
        os.close(root)


def text_at(directory: int, name: str) -> str:
    """The beginning of a plain file of a directory; empty for what is none."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, _FILE_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _question(name: str, kind: int, tried: str) -> bytes:
    try:
        labels = [part.encode("ascii") for part in name.rstrip(".").split(".")]
    except UnicodeError:
        labels = []
    if not labels or not all(0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise VerbError(UNSUPPORTED, tried + ": not a name")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack(">HH", kind, _CLASS_IN)


def _over_udp(server: str, port: int, message: bytes, deadline: Deadline) -> bytes:
    """The first answer to this very question; it is asked twice at most, for a packet may be lost."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect((server, port))
        sock.setblocking(False)
        for share in (2.0, 1.0):
            sock.send(message)
            until = Deadline(deadline.left() / share)
            while until.left() > 0:
                if not select.select([sock], [], [], until.left())[0]:
                    break
                raw = sock.recv(_MOST_BYTES)
                if len(raw) >= 12 and raw[:2] == message[:2] and raw[2] & 0x80:
                    return raw
    raise socket.timeout()


def _over_tcp(server: str, port: int, message: bytes, deadline: Deadline) -> bytes:
    with socket.create_connection((server, port), deadline.left()) as sock:
        sock.sendall(struct.pack(">H", len(message)) + message)
        head = _exactly(sock, 2, deadline)
        return _exactly(sock, struct.unpack(">H", head)[0], deadline)


def _exactly(sock: socket.socket, count: int, deadline: Deadline) -> bytes:
    data = b""
    while len(data) < count:
        sock.settimeout(max(0.01, deadline.left()))
        chunk = sock.recv(count - len(data))
        if not chunk or not deadline.left():
            raise socket.timeout()
        data += chunk
    return data


def _answer(raw: bytes, question_bytes: int, kind: int) -> Tuple[int, List[str]]:
    """The answer's code, and the addresses of its records of one type."""
    _, flags, questions, answers, _, _ = struct.unpack_from(">6H", raw)
    if not flags & _ANSWER or questions != 1:
        raise ValueError("no answer")
    at = 12 + question_bytes
    found = []
    for _ in range(answers):
        at = _behind_name(raw, at)
        record, _, _, length = struct.unpack_from(">HHIH", raw, at)
        data = raw[at + 10 : at + 10 + length]
        at += 10 + length
        if record == kind and kind != TYPES["PTR"] and len(data) == (4 if kind == TYPES["A"] else 16):
            found.append(socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data))
    return flags & 0x000F, found


def _behind_name(raw: bytes, at: int) -> int:
    """Where a name ends: at an empty label, or at a pointer to another (RFC 1035 §4.1.4)."""
    for _ in range(128):
        length = raw[at]
        if length & 0xC0 == 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
    raise ValueError("a name without an end")
