"""Verbs that speak TLS to a peer without trusting it: to read its certificate, and to see which sizes get through."""

import socket
import ssl
import struct
import time
from typing import Any, Dict, List, Optional

from netdiag.participant import h2
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, VerbError
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.tcp import TCP_MAXSEG, connect, receive, send_all, tcp_info
from netdiag.participant.wire import as_bytes

LIMIT_BYTES = 1 << 20
FIRST_BYTES = 64
HANDSHAKE, ALERT = 22, 21
PADDING_EXTENSION = 21
"""RFC 7685."""
HELLO_LIMIT_BYTES = 16000
"""A record holds 16384 bytes at most (RFC 8446 §5.1)."""


def unverified_context(alpn: List[str]) -> ssl.SSLContext:
    """A client's context that accepts any certificate and any version that this OpenSSL still has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")  # an old peer's weak key must not hide what it is
    except ssl.SSLError:
        context.set_ciphers("ALL")
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def tls_exchange(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Connect, shake hands unverified, send bytes, read the answer, close.

    Parameters: ``address``, ``port``, ``source``, ``netns`` as for ``tcp-connect``; ``alpn`` (list); ``send`` (base64);
    ``until``: "h2-end-stream" (acknowledges SETTINGS and PING, stops when stream 1 ends or at GOAWAY) or "close";
    ``limit_bytes``. Data: ``tcp`` (the report of ``tcp-connect``); ``stage``, the last one reached: connect, handshake,
    read, done; ``reason``: "" when done, else refused (see ``tcp``), timeout, closed, not-tls, alert, tls (with
    ``error``), limit; ``error`` (text); ``version``, ``alpn``, ``leaf_der`` (bytes), ``handshake_us``; ``first_bytes``
    (bytes: what the peer sent first, at most 64); ``alert`` (code of an unencrypted alert, or None); ``read`` (bytes,
    decrypted); ``ended``: how the answer ended (end-stream, rst-stream, goaway, close or ""). Errors: those of ``netns``.
    """
    return in_netns(namespace_of(params), lambda: _exchange(params, deadline), Deadline(deadline.left() + 0.2))


def _exchange(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    sock, report = connect(params, deadline)
    answer: Dict[str, Any] = {
        "tcp": report,
        "stage": "connect",
        "reason": "",
        "error": report["error"],
        "version": "",
        "alpn": "",
        "leaf_der": b"",
        "handshake_us": None,
        "first_bytes": b"",
        "alert": None,
        "read": b"",
        "ended": "",
    }
    if sock is None:
        answer["reason"] = "timeout" if report["timed_out"] else "refused"
        return answer
    try:
        _Session(sock, params, deadline, answer).run()
    finally:
        sock.close()
    return answer


class _Stop(Exception):
    """The exchange cannot go on: a reason, and text for the operator."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.text = text


class _Session:
    """One exchange over a connected socket. Records are moved by hand so that a peer's very first bytes are known."""

    def __init__(self, sock: socket.socket, params: Dict[str, Any], deadline: Deadline, answer: Dict[str, Any]) -> None:
        self._sock = sock
        self._deadline = deadline
        self._answer = answer
        self._send = as_bytes(params.get("send"))
        self._until = str(params.get("until") or "close")
        self._limit = int(params.get("limit_bytes") or LIMIT_BYTES)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        context = unverified_context([str(name) for name in params.get("alpn") or []])
        self._tls = context.wrap_bio(self._incoming, self._outgoing)

    def run(self) -> None:
        answer = self._answer
        try:
            answer["stage"] = "handshake"
            self._handshake()
            answer["stage"] = "read"
            self._read()
            answer["stage"] = "done"
        except _Stop as stop:
            answer["reason"], answer["error"] = stop.reason, stop.text
        except ssl.SSLError as error:
            answer["reason"], answer["error"] = "tls", str(error.reason or error)
        except OSError as error:
            answer["reason"], answer["error"] = "closed", str(error.strerror or error)
        answer["first_bytes"] = answer["first_bytes"][:FIRST_BYTES]

    def _handshake(self) -> None:
        start_s = time.monotonic()
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._take()
        self._flush()
        answer = self._answer
        answer["handshake_us"] = int((time.monotonic() - start_s) * 1e6)
        answer["version"] = self._tls.version() or ""
        answer["alpn"] = self._tls.selected_alpn_protocol() or ""
        answer["leaf_der"] = self._tls.getpeercert(True) or b""

    def _read(self) -> None:
        answer = self._answer
        reader: Optional[h2.Reader] = h2.Reader() if self._until == "h2-end-stream" else None
        if self._send:
            self._tls.write(self._send)
            self._flush()
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._take()
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                answer["ended"] = "close"
                return
            answer["read"] += data
            if reader is not None:
                replies = reader.feed(data)
                if replies:
                    self._tls.write(replies)
                    self._flush()
                if reader.ended:
                    answer["ended"] = reader.ended
                    return
            if len(answer["read"]) >= self._limit:
                raise _Stop("limit", "more than {} bytes".format(self._limit))

    def _flush(self) -> None:
        if self._outgoing.pending and not send_all(self._sock, self._outgoing.read(), self._deadline):
            raise _Stop("timeout")

    def _take(self) -> None:
        """Move what the peer sends into the TLS engine."""
        data = receive(self._sock, self._deadline)
        if data is None:
            raise _Stop("timeout")
        answer = self._answer
        if answer["stage"] == "handshake":
            answer["first_bytes"] += data[:FIRST_BYTES]
            self._judge(answer["first_bytes"])
        if not data:
            if answer["stage"] == "read":
                self._incoming.write_eof()
                return
            raise _Stop("closed", "the peer closed the connection during the handshake")
        self._incoming.write(data)

    def _judge(self, first: bytes) -> None:
        """Stop when what the peer said first is no TLS, or is an alert in the clear (RFC 8446 §5.1, §6)."""
        if first and (first[0] not in (HANDSHAKE, ALERT) or (len(first) > 1 and first[1] != 3)):
            raise _Stop("not-tls")
        if len(first) >= 7 and first[0] == ALERT:
            self._answer["alert"] = first[6]
            raise _Stop("alert", "alert {}".format(first[6]))


def tls_hello(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Send one ClientHello, padded to a given length, and see whether anything at all comes back.

    A small and a padded hello on fresh connections tell a path that swallows full segments, also where ICMP echo is
    filtered. Parameters: ``address``, ``port``, ``source``, ``netns``; ``pad_bytes``: the record is made at least this
    long by the padding extension (0: as it is); ``alpn`` (list). Data: ``tcp`` (the report of ``tcp-connect``);
    ``hello_bytes``; ``answered`` (bool), ``answer_us``, ``first_bytes`` (at most 64), ``closed`` (the peer ended the
    connection); ``maxseg_bytes`` (TCP_MAXSEG); ``info`` (TCP_INFO at the end: retransmits, unacked, send_mss, path_mtu,
    total_retransmits). Errors: those of ``netns``.
    """
    return in_netns(namespace_of(params), lambda: _hello(params, deadline), Deadline(deadline.left() + 0.2))


def _hello(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    hello = padded_hello(int(params.get("pad_bytes") or 0), [str(name) for name in params.get("alpn") or []])
    sock, report = connect(params, deadline)
    answer: Dict[str, Any] = {
        "tcp": report,
        "hello_bytes": len(hello),
        "answered": False,
        "answer_us": None,
        "first_bytes": b"",
        "closed": False,
        "maxseg_bytes": 0,
        "info": {},
    }
    if sock is None:
        return answer
    with sock:
        try:
            answer["maxseg_bytes"] = sock.getsockopt(socket.IPPROTO_TCP, TCP_MAXSEG)
            start_s = time.monotonic()
            send_all(sock, hello, deadline)
            data = receive(sock, deadline)
            if data:
                answer["answered"] = True
                answer["answer_us"] = int((time.monotonic() - start_s) * 1e6)
                answer["first_bytes"] = data[:FIRST_BYTES]
            answer["closed"] = data == b""
        except OSError:
            answer["closed"] = True  # a RST is an end, too
        answer["info"] = tcp_info(sock)
    return answer


def padded_hello(length: int, alpn: List[str]) -> bytes:
    """A real ClientHello record of this interpreter's OpenSSL, with padding so that it is at least ``length`` bytes."""
    outgoing = ssl.MemoryBIO()
    session = unverified_context(alpn).wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        record = outgoing.read()
    if length <= len(record):
        return record
    return pad_hello(record, min(length, HELLO_LIMIT_BYTES))


def pad_hello(record: bytes, length: int) -> bytes:
    """``record`` (one ClientHello) made ``length`` bytes long by a padding extension, with all lengths put right.

    OpenSSL pads some hellos itself, and an extension may stand only once: its padding is replaced. Raises VerbError
    when the record is no ClientHello.
    """
    if len(record) < 48 or record[0] != HANDSHAKE or record[5] != 1:
        raise VerbError(FAILED, "pad a ClientHello: this is none")
    # Before the extensions: version, random, session id, cipher suites, compression methods (RFC 8446 §4.1.2).
    position: int = 9 + 2 + 32
    position += 1 + record[position]
    position += 2 + struct.unpack_from(">H", record, position)[0]
    position += 1 + record[position]
    extensions = _without_padding(record[position + 2 :])
    padding = max(0, length - position - 2 - len(extensions) - 4)
    extensions += struct.pack(">HH", PADDING_EXTENSION, padding) + b"\0" * padding
    body = record[9:position] + struct.pack(">H", len(extensions)) + extensions
    handshake = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return record[:3] + struct.pack(">H", len(handshake)) + handshake


def _without_padding(extensions: bytes) -> bytes:
    kept = b""
    position = 0
    while position + 4 <= len(extensions):
        kind, length = struct.unpack_from(">HH", extensions, position)
        if kind != PADDING_EXTENSION:
            kept += extensions[position : position + 4 + length]
        position += 4 + length
    return kept
