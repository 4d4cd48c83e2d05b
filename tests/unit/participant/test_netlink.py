"""What a kernel may do in the middle of a dump: change its mind, overflow, refuse, explain itself."""

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netdiag.participant import netlink, run

DUMP = {"verb": "netlink-dump", "params": {"type": 26}, "timeout_s": 1.0}


def message(kind: int, body: bytes = b"", flags: int = 2) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


DONE = message(3, b"\0\0\0\0")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[int]]]:
    """Plays a kernel: one list of datagrams per socket that is opened. Returns the receive buffers' sizes."""
    kept: list[socket.socket] = []

    def play(*scripts: list[bytes]) -> list[int]:
        waiting = list(scripts)
        opened: list[int] = []

        def open_netlink(protocol: int, tried: str, receive_bytes: int, strict: bool) -> socket.socket:
            opened.append(receive_bytes)
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            mine.setblocking(False)
            kept.append(theirs)
            script = waiting.pop(0)

            def answer() -> None:
                theirs.recv(4096)
                for datagram in script:
                    theirs.send(datagram)

            threading.Thread(target=answer, daemon=True).start()
            return mine

        monkeypatch.setattr(netlink, "open_netlink", open_netlink)
        return opened

    yield play
    for theirs in kept:
        theirs.close()


def test_a_dump_is_joined_and_its_end_is_left_out(kernel: Callable[..., list[int]]) -> None:
    rows = [message(24, b"%04d" % number) for number in range(5)]
    kernel([b"".join(rows[:3]), b"".join(rows[3:]) + DONE])
    assert run(DUMP)["data"] == {"messages": b"".join(rows), "interrupted": False}


def test_a_dump_that_was_interrupted_is_asked_again(kernel: Callable[..., list[int]]) -> None:
    row, marked = message(24, b"good"), message(24, b"torn", flags=2 | 0x10)
    opened = kernel([row, marked + row, DONE], [row, DONE])
    assert run(DUMP)["data"] == {"messages": row, "interrupted": False}
    assert len(opened) == 2


def test_a_table_that_never_rests_is_returned_and_said_to_be_torn(kernel: Callable[..., list[int]]) -> None:
    row = message(24, b"torn", flags=2 | 0x10)
    kernel(*[[row, DONE]] * netlink.ATTEMPTS)
    assert run(DUMP)["data"] == {"messages": row, "interrupted": True}


def test_an_interruption_that_only_the_end_mentions_counts(kernel: Callable[..., list[int]]) -> None:
    opened = kernel([message(24), message(3, b"\0\0\0\0", flags=2 | 0x10)], [DONE])
    assert run(DUMP)["data"]["interrupted"] is False
    assert len(opened) == 2


def test_an_overflow_is_asked_again_with_a_larger_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def open_netlink(protocol: int, tried: str, receive_bytes: int, strict: bool) -> socket.socket:
        asked.append(receive_bytes)
        return socket.socket()

    def dump(*_: Any) -> tuple[bytes, bool]:
        if len(asked) < 3:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return b"rows", False

    monkeypatch.setattr(netlink, "open_netlink", open_netlink)
    monkeypatch.setattr(netlink, "_dump", dump)
    assert run(DUMP)["data"]["messages"] == b"rows"
    assert asked == [netlink.RECEIVE_BYTES, 2 * netlink.RECEIVE_BYTES, 4 * netlink.RECEIVE_BYTES]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EPERM, "permission"), (errno.EOPNOTSUPP, "unsupported"), (errno.EINVAL, "failed")]
)
@pytest.mark.parametrize("how", [2, 3], ids=["error", "done"])
def test_a_refusal_is_told_by_its_errno(kernel: Callable[..., list[int]], number: int, kind: str, how: int) -> None:
    kernel([message(how, struct.pack("=i", -number) + b"\0" * 16)])
    error = run(DUMP)["error"]
    assert (error["kind"], os.strerror(number) in error["text"]) == (kind, True)


def test_the_kernels_own_sentence_is_kept(kernel: Callable[..., list[int]]) -> None:
    text = b"Unknown device type\0"
    extended = struct.pack("=HH", 4 + len(text), 1) + text
    kernel([message(2, struct.pack("=i", -errno.EOPNOTSUPP) + message(16) + extended, flags=0x200 | 0x100)])
    answer = run({**DUMP, "verb": "netlink-get"})
    assert answer["data"]["text"] == "Operation not supported: Unknown device type"


def test_a_kernel_that_says_nothing_is_a_time_out(kernel: Callable[..., list[int]]) -> None:
    kernel([message(24)])
    answer = run({**DUMP, "timeout_s": 0.2})
    assert answer["error"]["kind"] == "timeout"
    assert answer["duration_s"] < 3
