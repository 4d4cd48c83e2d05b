"""The bytes under ``recorded`` were read from dockerd 20.10.24 in answer to `request_bytes` over TLS 1.3."""

import struct
from pathlib import Path

import hpack
import pytest

from netdiag.swarm.ca_call import PATH, CaOutcome, parse_response, request_bytes
from netdiag.swarm.token import digest_of_ca

RECORDED = Path(__file__).parent / "recorded"
DIGEST = "01d8f3e2790f09c1d08bf0a0e766a45de22484f340b4921e4151222ef8929ab0"
PEM = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + body


def message(protobuf: bytes) -> bytes:
    return struct.pack(">BI", 0, len(protobuf)) + protobuf


def headers(*fields: tuple[str, str]) -> bytes:
    return hpack.Encoder().encode(list(fields))


SETTINGS = frame(4, 0, 0, b"")
ROOT = b"\x0a" + bytes([len(PEM)]) + PEM
OK_TRAILERS = frame(1, 5, 1, headers(("grpc-status", "0")))


def test_a_manager_gives_the_root_that_stands_in_its_tokens() -> None:
    answer = parse_response((RECORDED / "root-ca.http2").read_bytes())
    assert answer.outcome is CaOutcome.CERTIFICATE
    assert (answer.http_status, answer.grpc_status) == (200, 0)
    assert digest_of_ca(answer.root_pem) == DIGEST


@pytest.mark.parametrize(
    ("recorded", "status", "text"),
    [
        ("unknown-method.http2", 12, "unknown method NoSuchCall for service docker.swarmkit.v1.CA"),
        ("malformed-path.http2", 8, 'malformed method name: "nopath"'),
    ],
)
def test_a_refusal_is_read_from_the_trailers(recorded: str, status: int, text: str) -> None:
    answer = parse_response((RECORDED / recorded).read_bytes())
    assert (answer.outcome, answer.grpc_status, answer.text) == (CaOutcome.REFUSED, status, text)


def test_every_beginning_of_an_answer_is_incomplete() -> None:
    whole = (RECORDED / "root-ca.http2").read_bytes()
    assert {parse_response(whole[:end]).outcome for end in range(len(whole))} == {CaOutcome.INCOMPLETE}


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP/1"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="SSH"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", id="TLS alert"),
        pytest.param(frame(0, 0, 1, b"data first"), id="another frame first"),
    ],
)
def test_other_protocols_are_not_http2(stream: bytes) -> None:
    assert parse_response(stream).outcome is CaOutcome.NOT_HTTP2


@pytest.mark.parametrize(
    ("frames", "outcome"),
    [
        pytest.param(frame(0, 1, 1, message(ROOT)), CaOutcome.CERTIFICATE, id="no headers at all"),
        pytest.param(frame(1, 4, 1, b"\xff\xff") + frame(0, 0, 1, message(ROOT)) + OK_TRAILERS,
                     CaOutcome.CERTIFICATE, id="headers that cannot be decoded"),
        pytest.param(frame(0, 0, 1, message(ROOT)[:9]) + frame(0, 0, 1, message(ROOT)[9:]) + OK_TRAILERS,
                     CaOutcome.CERTIFICATE, id="a message in two frames"),
        pytest.param(frame(0, 9, 1, b"\x03" + message(ROOT) + bytes(3)), CaOutcome.CERTIFICATE, id="padded data"),
        pytest.param(frame(0, 1, 1, message(b"\x10\x96\x01\x1a\x02xx" + ROOT)), CaOutcome.CERTIFICATE,
                     id="unknown fields first"),
        pytest.param(frame(0, 1, 1, message(b"")), CaOutcome.MALFORMED, id="an empty answer"),
        pytest.param(frame(0, 1, 1, b""), CaOutcome.MALFORMED, id="no message"),
        pytest.param(frame(0, 1, 1, message(ROOT)[:-1]), CaOutcome.MALFORMED, id="a message cut short"),
        pytest.param(frame(0, 1, 1, b"\x01" + message(ROOT)[1:]), CaOutcome.MALFORMED, id="compressed"),
        pytest.param(frame(0, 1, 1, message(b"\x0a\x02no")), CaOutcome.MALFORMED, id="not a certificate"),
        pytest.param(frame(1, 5, 1, headers((":status", "404"))), CaOutcome.REFUSED, id="HTTP status"),
        pytest.param(frame(3, 0, 1, b"\0\0\0\x07"), CaOutcome.RESET, id="stream reset"),
        pytest.param(frame(7, 0, 0, struct.pack(">II", 0, 1) + b"bad client"), CaOutcome.RESET, id="connection ended"),
        pytest.param(frame(7, 0, 0, struct.pack(">II", 1, 0)) + frame(0, 1, 1, message(ROOT)), CaOutcome.CERTIFICATE,
                     id="graceful end after the answer"),
    ],
)  # fmt: skip
def test_what_a_server_may_do(frames: bytes, outcome: CaOutcome) -> None:
    assert parse_response(SETTINGS + frames).outcome is outcome


def test_the_peer_s_reason_for_a_reset_is_kept() -> None:
    answer = parse_response(SETTINGS + frame(7, 0, 0, struct.pack(">II", 0, 11) + b"calm\r\ndown"))
    assert (answer.http2_error, answer.text) == (11, "calm down")


@pytest.mark.parametrize(
    "authority", ["10.9.8.1:2377", "x" * 300 + ":2377"], ids=["short", "longer than one length byte"]
)
def test_the_request_is_one_call_with_an_empty_message(authority: str) -> None:
    request = request_bytes(authority)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert request.startswith(preface + SETTINGS + frame(4, 1, 0, b""))
    block = request[len(preface) + 18 + 9 : -14]
    assert dict(hpack.Decoder().decode(block)) == {
        ":method": "POST",
        ":scheme": "https",
        ":path": PATH,
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    assert request.endswith(frame(0, 1, 1, bytes(5)))
