"""The verb that opens a connection and waits for what the server says first; nothing is said to it."""

import time
from typing import Any, Dict

from netdiag.participant.deadline import Deadline
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.tcp import connect, receive

_KEPT_BYTES = 256


def tcp_follow(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """One TCP connection that stays open until the server has said something, or time is up.

    Parameters: ``address``, ``port``, ``source``, ``netns``, ``as_pid``, ``as_user``, ``as_group`` as for ``tcp-connect``; ``wait_ms`` (how long the first
    byte is waited for, default 400). Data: that of ``tcp-connect``, and ``first_byte_us`` (from the end of the
    handshake; None where none came), ``closed`` (the server ended the connection before), ``greeting`` (the first 256
    bytes of it). Errors: those of ``tcp-connect``.
    """
    wait_s = float(params.get("wait_ms") or 400) / 1000.0

    def work() -> Dict[str, Any]:
        sock, report = connect(params, deadline)
        report.update(first_byte_us=None, closed=False, greeting=b"")
        if sock is None:
            return report
        start_s = time.monotonic()
        try:
            came = receive(sock, Deadline(min(wait_s, deadline.left())))
        except OSError:  # a reset
            came = b""
        finally:
            sock.close()
        if came:
            report["first_byte_us"] = int((time.monotonic() - start_s) * 1e6)
            report["greeting"] = came[:_KEPT_BYTES]
        report["closed"] = came == b""
        return report

    return in_netns(namespace_of(params), work, Deadline(deadline.left() + 0.2))
