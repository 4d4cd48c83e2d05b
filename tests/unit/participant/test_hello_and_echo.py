"""The bytes that probes send: held to OpenSSL's own server, and to scapy's packets."""

import ssl
import struct

import pytest

from netdiag.participant import h2
from netdiag.participant.echo import echo_request
from netdiag.participant.errors import VerbError
from netdiag.participant.tls import pad_hello, padded_hello


def _extensions(record: bytes) -> list[tuple[int, int]]:
    assert struct.unpack_from(">H", record, 3)[0] == len(record) - 5
    assert int.from_bytes(record[6:9], "big") == len(record) - 9
    position = 43
    position += 1 + record[position]
    position += 2 + struct.unpack_from(">H", record, position)[0]
    position += 1 + record[position]
    assert struct.unpack_from(">H", record, position)[0] == len(record) - position - 2
    position += 2
    found = []
    while position < len(record):
        kind, length = struct.unpack_from(">HH", record, position)
        found.append((kind, length))
        position += 4 + length
    assert position == len(record)
    return found


@pytest.mark.parametrize("alpn", [[], ["h2"]])
@pytest.mark.parametrize("length", [600, 1500, 9000, 16000])
def test_a_padded_hello_has_the_length_asked_and_padding_once(length: int, alpn: list[str]) -> None:
    record = padded_hello(length, alpn)
    assert len(record) == length
    kinds = [kind for kind, _ in _extensions(record)]
    assert kinds.count(21) == 1
    assert len(kinds) == len(set(kinds))


def test_a_hello_is_never_cut() -> None:
    assert len(padded_hello(10, [])) >= 200
    assert len(padded_hello(100_000, [])) == 16000


def test_openssls_own_server_accepts_a_padded_hello() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(padded_hello(3000, ["h2"]))
    # It has no certificate, so this is as far as it gets: the hello itself was understood.
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        server.do_handshake()


def test_what_is_no_hello_is_refused() -> None:
    with pytest.raises(VerbError):
        pad_hello(b"SSH-2.0-x" * 10, 1000)


def test_echo_requests_are_scapys(monkeypatch: pytest.MonkeyPatch) -> None:
    from scapy.config import conf

    monkeypatch.setattr(conf, "route_autoload", False)
    monkeypatch.setattr(conf, "route6_autoload", False)
    from scapy.layers.inet import ICMP
    from scapy.layers.inet6 import ICMPv6EchoRequest

    for length in (8, 9, 64, 1401):
        payload = (b"tagtagta" + b"\0" * length)[: length - 8]
        expected = bytes(ICMP(type=8, id=0x1234, seq=5) / payload)
        assert echo_request(False, 0x1234, 5, b"tagtagta", length) == expected
        six = bytes(ICMPv6EchoRequest(id=0x1234, seq=5, cksum=0, data=payload))
        assert echo_request(True, 0x1234, 5, b"tagtagta", length) == six


# --- HTTP/2 ----------------------------------------------------------------------------------------------------------


def test_settings_and_ping_are_acknowledged_byte_by_byte() -> None:
    reader = h2.Reader()
    stream = (
        h2.frame(h2.SETTINGS, 0, 0, b"") + h2.frame(h2.SETTINGS, h2.ACK, 0, b"") + h2.frame(h2.PING, 0, 0, b"12345678")
    )
    replies = b"".join(reader.feed(stream[index : index + 1]) for index in range(len(stream)))
    assert replies == h2.frame(h2.SETTINGS, h2.ACK, 0, b"") + h2.frame(h2.PING, h2.ACK, 0, b"12345678")
    assert reader.ended == ""


@pytest.mark.parametrize(
    ("frame", "ended"),
    [
        (h2.frame(h2.HEADERS, h2.END_STREAM | 4, 1, b"x"), "end-stream"),
        (h2.frame(h2.DATA, h2.END_STREAM, 1, b""), "end-stream"),
        (h2.frame(h2.DATA, h2.END_STREAM, 3, b""), ""),
        (h2.frame(h2.DATA, 0, 1, b"abc"), ""),
        (h2.frame(h2.RST_STREAM, 0, 1, b"\0\0\0\2"), "rst-stream"),
        (h2.frame(h2.GOAWAY, 0, 0, b"\0" * 8), "goaway"),
    ],
)
def test_how_a_stream_ends(frame: bytes, ended: str) -> None:
    reader = h2.Reader()
    reader.feed(h2.frame(h2.SETTINGS, 0, 0, b"") + frame)
    assert reader.ended == ended
