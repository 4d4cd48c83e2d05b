"""Driving readings: a `Gather` yields requests, and whoever drives it gets them answered by a carrier."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, Gather, Request, WireError

R = TypeVar("R")
NOT_RECORDED = "not probed when the bundle was made"


class Carrier(Protocol):
    """A way to a host's participant. ``ask`` may be called from several threads at once."""

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """Have all requests of a round run side by side; one answer each, in the same order.

        Never raises for a host that answers badly: that is an answer with an error.
        """


class Driven(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """How a reading ended: its value, or why there is none; and how long it took."""

    value: R | None = None
    error: WireError | None = None
    duration_s: float = 0.0


def drive(gather: Gather[R], carrier: Carrier) -> R:
    """Run one reading to its end and return what it made of the answers. What it raises is raised."""
    try:
        requests = next(gather)
        while True:
            requests = gather.send(carrier.ask(requests))
    except StopIteration as stop:
        result: R = stop.value
        return result


def drive_all(gathers: Mapping[str, Gather[Any]], carrier: Carrier, deadline_s: float) -> dict[str, Driven[Any]]:
    """Run several readings side by side, each on its own: one that fails or hangs costs the others nothing.

    After ``deadline_s`` seconds those that are not done are given up (error timeout) and left to end by themselves.
    """
    start_s = time.monotonic()
    done: queue.SimpleQueue[tuple[str, Driven[Any]]] = queue.SimpleQueue()

    def body(name: str, gather: Gather[Any]) -> None:
        try:
            driven = Driven[Any](value=drive(gather, carrier), duration_s=time.monotonic() - start_s)
        except Exception as error:  # noqa: BLE001  a fault in one section's decoder must not cost the others
            text = f"section {name}: {type(error).__name__}: {error}"
            driven = Driven[Any](error=WireError(AbsenceKind.FAILED, text), duration_s=time.monotonic() - start_s)
        done.put((name, driven))

    for name, gather in gathers.items():
        threading.Thread(target=body, args=(name, gather), name=f"netdiag-{name}", daemon=True).start()
    results: dict[str, Driven[Any]] = {}
    while len(results) < len(gathers):
        try:
            name, driven = done.get(timeout=max(0.0, start_s + deadline_s - time.monotonic()))
        except queue.Empty:
            break
        results[name] = driven
    for name in gathers:
        if name not in results:
            text = f"section {name}: not done within {deadline_s:g} s"
            results[name] = Driven[Any](error=WireError(AbsenceKind.TIMEOUT, text), duration_s=deadline_s)
    return {name: results[name] for name in gathers}


def not_understood(error: Exception) -> str:
    """What is said of an answer that took a reader by surprise: another host's words, kept short."""
    text = " ".join(str(error).split())[:120]
    return f"its answer could not be understood ({type(error).__name__}{': ' if text else ''}{text})"


class Recorder:
    """A carrier that keeps every answer that passes through it, by its request's key: what a bundle holds."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """Pass the round on, and remember its answers; the first one stays when a request is repeated."""
        answers = self._carrier.ask(requests)
        with self._lock:
            for request, answer in zip(requests, answers, strict=True):
                self._answers.setdefault(request.key(), answer)
        return answers

    def answers(self) -> dict[str, Answer]:
        """Everything that was recorded so far."""
        with self._lock:
            return dict(self._answers)


class Replay:
    """A carrier that answers from what was recorded; anything else is absent, as not probed."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = dict(answers)

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """The recorded answers."""
        return [self._answers.get(request.key()) or _not_recorded(request) for request in requests]


def _not_recorded(request: Request) -> Answer:
    return Answer(error=WireError(AbsenceKind.NOT_PROBED, f"{request.verb}: {NOT_RECORDED}"))
