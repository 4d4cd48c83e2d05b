"""The participant at the far end of a byte stream: requests come in as lines of JSON, answers go out the same way.

A line in: ``{"id": N, "verb": …, "params": …, "timeout_s": …}`` or ``{"ping": N}``; a line out: ``{"id": N, "data": …}``
or ``{"id": N, "error": …}`` with ``duration_s``, bytes as in `netdiag.participant.wire`. The first line out is the
greeting ``{"protocol": PROTOCOL, …}``. Answers come in the order in which they are ready. The process ends with its
stream: at the end of input, or when nothing has come for `IDLE_S` (the requester pings), so that a network that was cut
leaves nobody behind.
"""

import json
import os
import select
import sys
import threading
from typing import Any, Dict

from netdiag.participant.verbs import run
from netdiag.participant.wire import from_wire, to_wire

PROTOCOL = "netdiag/participant/1"
IDLE_S = 30.0
"""How long the requester may be silent. It pings several times in this time."""
LIMIT_BYTES = 1 << 20
"""The longest request that is read."""
MOST_AT_ONCE = 64
"""Requests that run side by side; more wait for their turn."""


def serve(source: int, target: int) -> None:
    """Answer the requests of one stream, given as two descriptors, until it ends."""
    stream = _Stream(target)
    stream.send({"protocol": PROTOCOL, "python": list(sys.version_info[:3]), "uid": os.geteuid()})
    pending = b""
    while True:
        ready, _, _ = select.select([source], [], [], IDLE_S)
        if not ready:
            return
        data = os.read(source, 1 << 16)
        if not data:
            return
        pending += data
        lines = pending.split(b"\n")
        pending = lines.pop()
        if len(pending) > LIMIT_BYTES:
            return
        for line in lines:
            if line.strip():
                stream.take(line)


class _Stream:
    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(MOST_AT_ONCE)

    def send(self, message: Dict[str, Any]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode("utf-8") + b"\n"
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._target, data) :]
            except OSError:
                os._exit(0)  # nobody is there any more; sockets and tables go with the process

    def take(self, line: bytes) -> None:
        try:
            request = from_wire(json.loads(line.decode("utf-8")))
        except ValueError:
            self.send({"error": {"kind": "failed", "text": "a request that is no JSON"}})
            return
        if not isinstance(request, dict):
            self.send({"error": {"kind": "failed", "text": "a request that is no object"}})
        elif "ping" in request:
            self.send({"pong": request["ping"]})
        else:
            threading.Thread(target=self._answer, args=(request,), name="netdiag-request", daemon=True).start()

    def _answer(self, request: Dict[str, Any]) -> None:
        with self._turns:
            answer = run(request)
        answer["id"] = request.get("id")
        self.send(to_wire(answer))


def main() -> None:
    """Serve standard input and output. What a library prints by mistake must not get between the answers."""
    target = os.dup(1)
    os.dup2(2, 1)
    serve(0, target)
    os._exit(0)
