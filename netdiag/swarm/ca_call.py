"""The bytes of swarmkit's call for the root CA, which anybody may make before joining.

``/docker.swarmkit.v1.CA/GetRootCACertificate`` (swarmkit ``api/ca.proto``: authorised without a certificate) takes an
empty message and returns the PEM bundle whose SHA-256 stands in join tokens. The TLS connection below shows only the
manager's own certificate, never the root, so this call is the only way to compare a token with a manager. Nothing here
opens a connection: whoever does needs TLS 1.2 or later with ALPN ``h2`` and verification off (there is nothing to
verify with yet; the digest is the verification), sends `request_bytes` and reads until the stream ends (a frame with END_STREAM) or its deadline.

One request with an empty body needs neither flow control nor a stream machine, so the frames (RFC 9113) are written and
read here. Header blocks of the answer use Huffman coding and the dynamic table (RFC 7541); the library ``hpack``
decodes them, which is pure Python, has no dependencies, and is imported only when an answer is read (30 ms, 4 MB).
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Iterator

import msgspec

PATH = "/docker.swarmkit.v1.CA/GetRootCACertificate"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM = 1
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 7, 9
_ACK = END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_FRAME_HEAD = 9


class CaOutcome(enum.Enum):
    """How the call ended."""

    CERTIFICATE = "certificate"
    INCOMPLETE = "incomplete"
    """What came so far is right, but the answer is not all there."""
    REFUSED = "refused"
    """gRPC or HTTP answered with an error: something speaks gRPC there, but gives no root CA."""
    RESET = "reset"
    """The peer ended the stream or the connection with an HTTP/2 error."""
    NOT_HTTP2 = "not-http2"
    MALFORMED = "malformed"
    """HTTP/2, but no answer that this call can have."""


class CaResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a manager, or whatever answered in its place, said.

    Attributes:
        root_pem: The bundle exactly as it came, for `netdiag.swarm.token.digest_of_ca`; empty unless it came whole.
        grpc_status: 0 is success, 12 is "no such call" (not a manager, but a gRPC server); None when not said.
        http2_error: Code of a RST_STREAM or GOAWAY (RFC 9113 section 7).
        text: What the peer said about it, or what is wrong; one line.
    """

    outcome: CaOutcome
    root_pem: bytes = b""
    http_status: int | None = None
    grpc_status: int | None = None
    http2_error: int | None = None
    text: str = ""


class _Malformed(Exception):
    """The bytes break a rule of HTTP/2, gRPC or protobuf."""


class _Frame(msgspec.Struct, frozen=True):
    kind: int
    flags: int
    stream: int
    body: bytes


def request_bytes(authority: str) -> bytes:
    """Everything that the client ever sends, in one piece.

    The acknowledgement of the peer's SETTINGS is among it, ahead of time: the RFC does not foresee that, grpc-go takes
    it. Its PING is a measurement of its own and may stay unanswered for the length of this call. A manager keeps the
    connection open after its answer, so reading until it closes never ends: stop at END_STREAM.

    Args:
        authority: ``address:port`` as dialled; managers do not look at it.
    """
    fields = (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", PATH),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    block = b"".join(b"\x00" + _hpack_string(name) + _hpack_string(value) for name, value in fields)
    empty_message = b"\x00" + struct.pack(">I", 0)
    return (
        _PREFACE
        + _frame_bytes(_SETTINGS, 0, 0, b"")
        + _frame_bytes(_SETTINGS, _ACK, 0, b"")
        + _frame_bytes(_HEADERS, _END_HEADERS, _STREAM, block)
        + _frame_bytes(_DATA, END_STREAM, _STREAM, empty_message)
    )


def parse_response(stream: bytes) -> CaResponse:
    """Judge everything that the peer has sent so far, from its first byte on; never raises."""
    if not _may_begin_http2(stream):
        return CaResponse(outcome=CaOutcome.NOT_HTTP2, text="the first bytes are no HTTP/2 SETTINGS frame")
    try:
        return _parse_frames(stream)
    except _Malformed as problem:
        return CaResponse(outcome=CaOutcome.MALFORMED, text=str(problem))


def _parse_frames(stream: bytes) -> CaResponse:
    data, blocks, ended = b"", list[bytes](), False
    for frame in _frames(stream):
        if frame.kind == _GOAWAY and len(frame.body) >= 8:
            last_stream, code = struct.unpack_from(">II", frame.body)
            # A graceful GOAWAY (code 0) may precede the answer to a stream that it still covers.
            if code or last_stream & 0x7FFFFFFF < _STREAM:
                return CaResponse(outcome=CaOutcome.RESET, http2_error=code, text=_text(frame.body[8:]))
        if frame.stream != _STREAM:
            continue
        if frame.kind == _RST_STREAM and len(frame.body) == 4 and not ended:
            return CaResponse(outcome=CaOutcome.RESET, http2_error=struct.unpack(">I", frame.body)[0])
        if frame.kind == _DATA:
            data += _unpadded(frame)
        elif frame.kind == _HEADERS:
            blocks.append(_unpadded(frame))
        elif frame.kind == _CONTINUATION and blocks:
            blocks[-1] += frame.body
        ended = ended or (frame.kind in {_DATA, _HEADERS} and bool(frame.flags & END_STREAM))
    return _conclude(data, _headers(blocks) if ended else {}, ended=ended)


def _conclude(data: bytes, headers: dict[str, str], *, ended: bool) -> CaResponse:
    """The answer from the stream's data and decoded headers (empty while the stream is open)."""
    if not ended:
        return CaResponse(outcome=CaOutcome.INCOMPLETE)
    http_status, grpc_status = _number(headers.get(":status")), _number(headers.get("grpc-status"))
    text = _percent_decoded(headers.get("grpc-message", ""))
    if grpc_status or (http_status is not None and http_status != 200):
        return CaResponse(outcome=CaOutcome.REFUSED, http_status=http_status, grpc_status=grpc_status, text=text)
    root_pem = _first_field(_grpc_message(data))
    if not root_pem.lstrip().startswith(b"-----BEGIN CERTIFICATE-----"):
        raise _Malformed("the answer holds no PEM certificate")
    return CaResponse(
        outcome=CaOutcome.CERTIFICATE, root_pem=root_pem, http_status=http_status, grpc_status=grpc_status, text=text
    )


def _may_begin_http2(stream: bytes) -> bool:
    """Whether these bytes begin with SETTINGS, as a server's first frame must (RFC 9113 section 3.4)."""
    head = stream[:_FRAME_HEAD]
    expected = ((0, {0}), (3, {_SETTINGS}), (4, {0}), (5, {0}), (6, {0}), (7, {0}), (8, {0}))
    return all(head[at] in values for at, values in expected if at < len(head))


def _frames(stream: bytes) -> Iterator[_Frame]:
    """The frames that are there as a whole."""
    at = 0
    while at + _FRAME_HEAD <= len(stream):
        length = int.from_bytes(stream[at : at + 3], "big")
        kind, flags, number = struct.unpack_from(">BBI", stream, at + 3)
        end = at + _FRAME_HEAD + length
        if end > len(stream):
            return
        yield _Frame(kind, flags, number & 0x7FFFFFFF, stream[at + _FRAME_HEAD : end])
        at = end


def _unpadded(frame: _Frame) -> bytes:
    body, padding = frame.body, 0
    if frame.flags & _PADDED:
        if not body:
            raise _Malformed("a padded frame is empty")
        padding, body = body[0], body[1:]
    if frame.kind == _HEADERS and frame.flags & _PRIORITY:
        body = body[5:]
    if padding > len(body):
        raise _Malformed("a frame's padding is longer than the frame")
    return body[: len(body) - padding]


def _headers(blocks: list[bytes]) -> dict[str, str]:
    """All header fields and trailers. What cannot be decoded is left out: the certificate counts, not its envelope."""
    import hpack

    decoder, fields = hpack.Decoder(), dict[str, str]()
    for block in blocks:
        try:
            decoded = decoder.decode(block, raw=True)
        except hpack.HPACKError:
            break  # the dynamic table is lost with this block
        fields.update((_text(bytes(name)), _text(bytes(value))) for name, value in decoded)
    return fields


def _grpc_message(data: bytes) -> bytes:
    """The one message of a unary answer: a flag, a length of four bytes, the message (gRPC over HTTP/2)."""
    if len(data) < 5:
        raise _Malformed("the answer ended without a message")
    compressed, length = struct.unpack_from(">BI", data)
    if compressed:
        raise _Malformed("the answer is compressed, which was not offered")
    if len(data) < 5 + length:
        raise _Malformed("the answer ended within its message")
    return data[5 : 5 + length]


def _first_field(message: bytes) -> bytes:
    """Field 1 (bytes) of a protobuf message; other fields are passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            _, at = _varint(message, at)
        elif key & 7 == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise _Malformed("a field is longer than its message")
            if key >> 3 == 1:
                return message[at : at + length]
            at += length
        elif key & 7 in {1, 5}:
            at += 8 if key & 7 == 1 else 4
        else:
            raise _Malformed("a field has a type that protobuf does not know")
    raise _Malformed("the answer holds no certificate")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte, at = message[at], at + 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise _Malformed("a number in the answer does not end")


def _frame_bytes(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _hpack_string(text: str) -> bytes:
    """A string literal without Huffman coding (RFC 7541 sections 5.1 and 5.2)."""
    raw = text.encode("ascii")
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, length = len(raw) - 127, bytearray(b"\x7f")
    while rest >= 128:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + raw


def _percent_decoded(text: str) -> str:
    """``grpc-message`` as its sender meant it (gRPC over HTTP/2, "Percent-Encoded")."""
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda code: bytes([int(code[1], 16)]), text.encode())
    return _text(raw)


def _text(raw: bytes) -> str:
    """Text of a peer that may send anything: one line, at most 300 characters."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", raw.decode("utf-8", "replace")).strip()[:300]


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None
