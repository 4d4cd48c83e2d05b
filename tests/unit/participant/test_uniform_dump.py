"""The quick look at a datagram of a dump sees exactly what a look at each message would see."""

import struct

import pytest

from netdiag.participant.netlink import NLM_F_DUMP_INTR, NLMSG_DONE, _uniform


def message(kind: int = 24, flags: int = 2, body: bytes = bytes(12)) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


@pytest.mark.parametrize(
    ("data", "uniform"),
    [
        (message() * 5, True),
        (message(flags=2 | NLM_F_DUMP_INTR) * 3, True),
        (message() * 3 + message(flags=2 | NLM_F_DUMP_INTR), False),
        (message() * 3 + message(kind=NLMSG_DONE), False),
        (message(kind=NLMSG_DONE), False),
        (message() * 3 + message(body=bytes(16)), False),
        (message(body=bytes(13)), False),
        (message() * 3 + b"\0\0", False),
        (message()[:10], False),
        (bytes(64), False),
        (b"", False),
    ],
)
def test_uniform(data: bytes, uniform: bool) -> None:
    assert _uniform(data) is uniform


def test_differences_in_bodies_do_not_matter() -> None:
    assert _uniform(message(body=bytes(12)) + message(body=b"\xff" * 12))
