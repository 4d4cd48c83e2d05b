"""A carrier over a byte stream: the requester's side of `netdiag.participant.stream`."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any, Self

from netdiag.errors import CarrierError
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, Request, WireError, answer_from_values, to_json_values

PROTOCOL = "netdiag/participant/1"
PING_S = 5.0
LATENCY_S = 3.0
"""How much longer than its time-out an answer may be on the way."""
LIMIT_BYTES = 96 << 20
"""The longest line that is read: a dump of a large host fits, a hostile peer cannot fill the memory."""


class StreamCarrier:
    """A participant behind two file objects. ``ask`` may be called from several threads at once."""

    def __init__(
        self, name: str, source: IO[bytes], target: IO[bytes], *, greet_s: float, close: Callable[[], None]
    ) -> None:
        """Wait for the greeting.

        Args:
            name: The host, as the operator typed it.
            source: What the participant sends.
            target: What it is sent.
            greet_s: The longest that the greeting may take.
            close: Ends whatever carries the stream; called once.

        Raises CarrierError when no greeting comes, or one of another protocol.
        """
        self.name = name
        self._source, self._target, self._end = source, target, close
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Answer]] = {}
        self._next = 0
        self._lost = ""
        self._greeting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        threading.Thread(target=self._read, name=f"netdiag-from-{name}", daemon=True).start()
        try:
            greeting = self._greeting.get(timeout=greet_s)
        except queue.Empty:
            greeting = None
            self._fail(f"no answer within {greet_s:g} s")
        if greeting is None:
            self.close()
            raise CarrierError(f"{name}: {self._lost}")
        if greeting.get("protocol") != PROTOCOL:
            self.close()
            spoken = str(greeting.get("protocol"))[:60]
            raise CarrierError(f"{name}: it speaks {spoken!r}, this netdiag speaks {PROTOCOL}: use the same version")
        self.is_root = greeting.get("uid") == 0
        threading.Thread(target=self._ping, name=f"netdiag-ping-{name}", daemon=True).start()

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """Have all requests run there side by side; one answer each, in order. Never raises."""
        numbered = [self._send(request) for request in requests]
        end_s = time.monotonic()
        answers = []
        for request, (number, answers_to) in zip(requests, numbered, strict=True):
            left_s = max(0.0, end_s + request.timeout_s + LATENCY_S - time.monotonic())
            try:
                answers.append(answers_to.get(timeout=left_s))
            except queue.Empty:
                text = f"{request.verb}: no answer from {self.name} within {request.timeout_s + LATENCY_S:g} s"
                answers.append(Answer(error=WireError(AbsenceKind.TIMEOUT, text)))
            with self._lock:
                self._waiting.pop(number, None)
        return answers

    def close(self) -> None:
        """End the stream, and with it the participant."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(OSError):
                self._target.close()
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: Request) -> tuple[int, queue.SimpleQueue[Answer]]:
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        with self._lock:
            self._next += 1
            number = self._next
            if not self._lost:
                self._waiting[number] = answers
        message = {"id": number, "verb": request.verb, "params": to_json_values(request.params)}
        lost = self._lost or self._write({**message, "timeout_s": request.timeout_s})
        if lost:
            answers.put(Answer(error=WireError(AbsenceKind.FAILED, f"{request.verb}: {self.name}: {lost}")))
        return number, answers

    def _write(self, message: dict[str, Any]) -> str:
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        # A lock of its own: a write waits for the far end to read, which may wait for this side to take its answers.
        with self._writing:
            try:
                self._target.write(data)
                self._target.flush()
            except (OSError, ValueError) as error:
                return f"the connection is gone ({error})"
        return ""

    def _ping(self) -> None:
        while not self._closed.wait(PING_S) and not self._write({"ping": 1}):
            pass

    def _read(self) -> None:
        try:
            while True:
                line = self._source.readline(LIMIT_BYTES)
                if not line:
                    self._fail("the connection was closed")
                    return
                if not line.endswith(b"\n"):
                    self._fail("an answer that is cut or longer than any should be")
                    return
                message = json.loads(line)
                if not isinstance(message, dict):
                    self._fail("an answer that is no object")
                    return
                self._take(message)
        except (OSError, ValueError) as error:
            self._fail(f"an answer that cannot be read ({type(error).__name__})")

    def _take(self, message: dict[str, Any]) -> None:
        if "protocol" in message:
            self._greeting.put(message)
            return
        number = message.get("id")
        with self._lock:
            waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is None:
            return
        try:
            waiting.put(answer_from_values(message))
        except (ValueError, TypeError) as error:
            waiting.put(Answer(error=WireError(AbsenceKind.FAILED, f"{self.name}: {error}")))

    def _fail(self, why: str) -> None:
        with self._lock:
            self._lost = self._lost or why
            waiting, self._waiting = self._waiting, {}
        self._greeting.put(None)
        for answers in waiting.values():
            answers.put(Answer(error=WireError(AbsenceKind.FAILED, f"{self.name}: {why}")))
