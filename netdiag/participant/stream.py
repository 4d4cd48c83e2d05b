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
from typing import Any, Callable, Dict, Optional

from netdiag.participant.verbs import run
from netdiag.participant.wire import from_wire, to_wire

PROTOCOL = "netdiag/participant/1"
IDLE_S = 30.0
"""How long the requester may be silent. It pings several times in this time."""
LIMIT_BYTES = 1 << 20
"""The longest request that is read."""
MOST_AT_ONCE = 64
"""Requests that run side by side; more wait for their turn."""
MOST_WAITING = 1024
"""Requests that are held at once; beyond them the requester has to wait."""


class Pipes:
    """Two descriptors as what `serve` reads and writes."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target

    def receive(self, limit_bytes: int, timeout_s: float) -> Optional[bytes]:
        """What has come; b"" at the end of input, None when nothing came in time."""
        ready, _, _ = select.select([self._source], [], [], timeout_s)
        return os.read(self._source, limit_bytes) if ready else None

    def send(self, data: bytes) -> None:
        """Write all of it. Raises OSError when nobody reads any more."""
        while data:
            data = data[os.write(self._target, data) :]

    def close(self) -> None:
        """Nobody is there any more: sockets and tables go with the process."""
        os._exit(0)


def serve(ends: Any, answer: Callable[[Dict[str, Any]], Dict[str, Any]] = run) -> None:
    """Answer the requests of one stream until it ends.

    ``ends`` has ``receive``, ``send`` and ``close`` as `Pipes` has them; ``answer`` makes a request's answer and never
    raises.
    """
    stream = _Stream(ends, answer)
    stream.send({"protocol": PROTOCOL, "python": list(sys.version_info[:3]), "uid": os.geteuid()})
    pending = b""
    while True:
        data = ends.receive(1 << 16, IDLE_S)
        if not data:
            return
        pending += data
        lines = pending.split(b"\n")
        pending = lines.pop()
        if max(len(line) for line in lines + [pending]) > LIMIT_BYTES:
            return
        for line in lines:
            if line.strip():
                stream.take(line)


class _Stream:
    def __init__(self, ends: Any, answer: Callable[[Dict[str, Any]], Dict[str, Any]]) -> None:
        self._ends = ends
        self._run = answer
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._places = threading.BoundedSemaphore(MOST_WAITING)

    def send(self, message: Dict[str, Any]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode("utf-8") + b"\n"
        with self._lock:
            try:
                self._ends.send(data)
            except OSError:
                self._ends.close()

    def take(self, line: bytes) -> None:
        try:
            request = from_wire(json.loads(line.decode("utf-8")))
        except (ValueError, RecursionError):
            self.send({"error": {"kind": "failed", "text": "a request that is no JSON"}})
            return
        if not isinstance(request, dict):
            self.send({"error": {"kind": "failed", "text": "a request that is no object"}})
        elif "ping" in request:
            self.send({"pong": to_wire(request["ping"])})
        else:
            self._places.acquire()  # nothing more is read until there is one
            threading.Thread(target=self._answer, args=(request,), name="netdiag-request", daemon=True).start()

    def _answer(self, request: Dict[str, Any]) -> None:
        try:
            with self._turns:
                answer = self._run(request)
            answer["id"] = request.get("id")
            self.send(to_wire(answer))
        finally:
            self._places.release()


def main() -> None:
    """Serve standard input and output. What a library prints by mistake must not get between the answers."""
    target = os.dup(1)
    os.dup2(2, 1)
    serve(Pipes(0, target))
    os._exit(0)
