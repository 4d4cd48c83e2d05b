"""A carrier over a byte stream: the requester's side of `netdiag.participant.stream`.

What comes from the other side is not trusted: lines, values and their number are bounded, an answer that was not asked
for is dropped, and whatever cannot be understood becomes an error's one line.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any, Self

from netdiag.carrier.payload import READY
from netdiag.errors import CarrierError
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import PROTOCOL, Answer, Request, WireError, answer_from_values, to_json_values
from netdiag.participant.stream import LIMIT_BYTES as REQUEST_LIMIT_BYTES

PING_S = 5.0
LATENCY_S = 3.0
"""How much longer than its time-out an answer may be on the way."""
LIMIT_BYTES = 96 << 20
"""The longest line that is read: a dump of a large host fits, a hostile peer cannot fill the memory."""
LIMIT_VALUES = 4_000_000
"""The most values in one line: three bytes (``[],``) become sixty-four in memory."""
PREFACE_LIMIT_BYTES = 64 << 10
"""How much may come before the greeting: what a login shell prints."""
_SMALL_BYTES = 1 << 20
"""A line up to this long cannot hold too many values."""
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""What Python makes of JSON that is none, is too deep, or has values of another kind or size than any answer has."""


class NoGreeting(CarrierError):
    """The stream ended, or the time was over, before a participant greeted."""

    def __init__(self, text: str, *, came: Sequence[str] = (), started: bool = False, timed_out: bool = False) -> None:
        super().__init__(text)
        self.came = tuple(came)
        """The last lines that came instead of the greeting."""
        self.started = started
        """Whether an interpreter was there and asked for the program."""
        self.timed_out = timed_out


class StreamCarrier:
    """A participant behind two file objects. ``ask`` may be called from several threads at once."""

    def __init__(
        self,
        name: str,
        source: IO[bytes],
        target: IO[bytes],
        *,
        greet_s: float,
        close: Callable[[], None],
        program: bytes = b"",
        last_words: Callable[[], str] = str,
    ) -> None:
        """Wait for the greeting.

        Args:
            name: The host, as the operator typed it.
            source: What the participant sends.
            target: What it is sent.
            greet_s: The longest that the greeting may take.
            close: Ends whatever carries the stream, within a second or two, also one that is stuck; called once.
            program: The participant itself, for an interpreter that asks for it with `READY`.
            last_words: Why the stream ended, as whatever carries it says; empty when it says nothing.

        Raises NoGreeting when no greeting comes, and CarrierError for one of another protocol.
        """
        self.name = name
        self._source, self._target, self._end = source, target, close
        self._program, self._last_words = program, last_words
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Answer]] = {}
        self._next = 0
        self._lost = ""
        self._came: list[bytes] = []
        self._started = False
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._greeting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        for body in (self._read, self._write):
            threading.Thread(target=body, name=f"netdiag{body.__name__}-{name}", daemon=True).start()
        greeting = self._greeted(greet_s)
        uid = greeting.get("uid")
        self.is_root = uid == 0 and not isinstance(uid, bool)
        """Whether the participant runs as root there."""
        self.restriction = ""
        """What cannot be asked there and why, in one line for the operator; empty for root."""
        if not self.is_root:
            self.restriction = f"{name}: not root there: no rule is traced, and other namespaces are not seen"
        threading.Thread(target=self._ping, name=f"netdiag-ping-{name}", daemon=True).start()

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """Have all requests run there side by side; one answer each, in order. Never raises, never waits for ever."""
        numbered = [self._send(request) for request in requests]
        start_s = time.monotonic()
        answers = []
        for request, (number, answers_to) in zip(requests, numbered, strict=True):
            left_s = max(0.0, start_s + request.timeout_s + LATENCY_S - time.monotonic())
            try:
                answers.append(answers_to.get(timeout=left_s))
            except queue.Empty:
                text = f"{request.verb}: no answer from {self.name} within {request.timeout_s + LATENCY_S:g} s"
                answers.append(Answer(error=WireError(AbsenceKind.TIMEOUT, text)))
                with self._lock:
                    self._waiting.pop(number, None)
        return answers

    def close(self) -> None:
        """End the stream, and with it the participant. Whoever still waits for an answer gets an error."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._fail("the connection was ended from here")
        self._outgoing.put(None)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def lost(self) -> str:
        """Why nothing more can be asked; empty as long as it can."""
        return self._lost

    # ---- asking

    def _send(self, request: Request) -> tuple[int, queue.SimpleQueue[Answer]]:
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        with self._lock:
            self._next += 1
            number = self._next
        message = {"id": number, "verb": request.verb, "params": to_json_values(request.params)}
        data = _line({**message, "timeout_s": request.timeout_s})
        problem = f"a request of {len(data)} bytes is too long" if len(data) > REQUEST_LIMIT_BYTES else ""
        with self._lock:
            problem = problem or self._lost
            if not problem:
                self._waiting[number] = answers
        if problem:
            answers.put(_failed(f"{request.verb}: {self.name}: {problem}"))
        else:
            self._outgoing.put(data)
        return number, answers

    def _ping(self) -> None:
        while not self._closed.wait(PING_S) and not self._lost:
            self._outgoing.put(_line({"ping": 1}))

    def _write(self) -> None:
        """A thread of its own: a stream that takes nothing more must not hold up whoever asks."""
        try:
            while (data := self._outgoing.get()) is not None:
                self._target.write(data)
                self._target.flush()
        except (OSError, ValueError) as error:
            self._fail(f"the connection is gone ({plain(str(error))})")
        finally:
            with contextlib.suppress(OSError, ValueError):
                self._target.close()

    # ---- hearing

    def _greeted(self, greet_s: float) -> dict[str, Any]:
        timed_out = False
        try:
            greeting = self._greeting.get(timeout=greet_s)
        except queue.Empty:
            greeting, timed_out = None, True
            self._fail(f"no answer within {greet_s:g} s")
        if greeting is None:
            # Made before the end: what is freed by that, and then goes wrong, is not the reason.
            failure = NoGreeting(
                f"{self.name}: {self._lost}",
                came=[text for each in self._came if (text := plain(each.decode("utf-8", "replace"), 200))],
                started=self._started,
                timed_out=timed_out,
            )
            self.close()
            raise failure
        if greeting["protocol"] != PROTOCOL:
            self.close()
            spoken = plain(str(greeting["protocol"]), 60)
            raise CarrierError(
                f"{self.name}: it speaks {spoken!r}, this netdiag speaks {PROTOCOL}: use the same version"
            )
        return greeting

    def _read(self) -> None:
        try:
            if self._preface():
                while self._take(self._source.readline(LIMIT_BYTES)):
                    pass
        except (OSError, ValueError) as error:
            self._fail(f"the connection is gone ({plain(str(error))})")
        finally:
            with contextlib.suppress(OSError, ValueError):
                self._source.close()

    def _preface(self) -> bool:
        """Read up to the greeting and hand it over; False when none comes."""
        left = PREFACE_LIMIT_BYTES
        while left > 0:
            line = self._source.readline(left)
            left -= len(line)
            if not line:
                self._fail("the connection was closed")
                return False
            if self._program and line.strip() == READY.encode():
                self._started = True
                self._outgoing.put(self._program)
                self._program = b""
            elif line.startswith(b"{") and isinstance((message := _object(line) or {}).get("protocol"), str):
                self._greeting.put(message)
                return True
            elif line.strip():
                self._came = [*self._came[-4:], line]
        self._fail("it sends something else than a greeting")
        return False

    def _take(self, line: bytes) -> bool:
        """Give one line to whoever waits for it; False when nothing more can be read."""
        if not line:
            self._fail("the connection was closed")
            return False
        if not line.endswith(b"\n"):
            self._fail("an answer that is cut, or longer than any should be")
            return False
        message = _object(line)
        if message is None:
            self._fail("an answer that cannot be read")
            return False
        number = message.get("id")
        with self._lock:
            waiting = self._waiting.pop(number, None) if type(number) is int else None
        if waiting is not None:
            waiting.put(self._answer(message))
        return True

    def _answer(self, message: dict[str, Any]) -> Answer:
        try:
            answer = answer_from_values(message)
        except _UNREADABLE as error:
            return _failed(f"{self.name}: {plain(str(error))}")
        took_s = answer.duration_s if math.isfinite(answer.duration_s) else 0.0
        if answer.error is None:
            return Answer(data=answer.data, duration_s=max(0.0, took_s))
        return Answer(error=WireError(answer.error.kind, plain(answer.error.text, 500)), duration_s=max(0.0, took_s))

    def _fail(self, why: str) -> None:
        said = "" if self._closed.is_set() or self._lost else plain(self._last_words())
        with self._lock:
            self._lost = self._lost or (f"{why} ({said})" if said else why)
            why = self._lost
            waiting, self._waiting = self._waiting, {}
        self._greeting.put(None)
        for answers in waiting.values():
            answers.put(_failed(f"{self.name}: {why}"))


def plain(text: str, limit: int = 300) -> str:
    """Text of another host as one line for the operator: no control characters, not longer than ``limit``."""
    return " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * limit]).split())[:limit]


def _failed(text: str) -> Answer:
    return Answer(error=WireError(AbsenceKind.FAILED, text))


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None when it is none, or would need far more memory than it has bytes."""
    if len(line) > _SMALL_BYTES and sum(line.count(each) for each in (b"[", b"{", b",")) > LIMIT_VALUES:
        return None
    text = line.decode("utf-8", "replace")
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPE.sub(_whole, text)
    try:
        message = json.loads(text)
    except _UNREADABLE:
        return None
    return message if isinstance(message, dict) else None


_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|.)", re.DOTALL)
_HALF = re.compile(r"\\u[dD][89a-fA-F]..")


def _whole(escape: re.Match[str]) -> str:
    """Half a surrogate pair is no text: nothing could be written that holds it."""
    return "\\ufffd" if _HALF.fullmatch(escape[0]) else escape[0]
