"""This machine as a carrier: the participant runs in this process, in threads, each request bounded in time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from netdiag import participant
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, Request, WireError, answer_from_values

GUARD_S = 0.5
"""How much longer than its time-out a verb may take before it is given up: it should have ended by itself."""
WORKERS = 16
"""Threads per round. Most requests wait for the kernel or the network, not for the processor."""


class LocalHost:
    """Runs requests on this machine."""

    def __init__(
        self, *, workers: int = WORKERS, run: Callable[[dict[str, Any]], dict[str, Any]] = participant.run
    ) -> None:
        self._workers = workers
        self._run = run

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """Run a round side by side. A verb that overruns its time-out is abandoned and answered for as a time-out."""
        if len(requests) == 1 and requests[0].verb in _PROMPT_VERBS:
            return [self._one(requests[0])]
        return _Round(requests, self._one, self._workers).answers()

    def _one(self, request: Request) -> Answer:
        raw = self._run({"verb": request.verb, "params": request.params, "timeout_s": request.timeout_s})
        try:
            return answer_from_values(raw)
        except ValueError as error:
            return Answer(error=WireError(AbsenceKind.FAILED, f"{request.verb}: {error}"))


_PROMPT_VERBS = frozenset({"identity", "clock"})
"""Verbs that cannot wait for anything: a round of one of them needs no thread."""


class _Round:
    """One round: workers take requests in order; a worker whose request overruns is replaced."""

    def __init__(self, requests: Sequence[Request], run: Callable[[Request], Answer], workers: int) -> None:
        self._requests = requests
        self._run = run
        self._workers = min(workers, len(requests))
        self._lock = threading.Lock()
        self._next = 0
        self._due_s: dict[int, float] = {}
        self._done: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()

    def answers(self) -> list[Answer]:
        for _ in range(self._workers):
            self._start_worker()
        answers: dict[int, Answer] = {}
        while len(answers) < len(self._requests):
            try:
                index, answer = self._done.get(timeout=self._until_due(answers))
            except queue.Empty:
                self._abandon(answers)
                continue
            answers.setdefault(index, answer)
        return [answers[index] for index in range(len(self._requests))]

    def _start_worker(self) -> None:
        threading.Thread(target=self._work, name="netdiag-request", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                index = self._next
                if index >= len(self._requests):
                    return
                self._next += 1
                self._due_s[index] = time.monotonic() + self._requests[index].timeout_s + GUARD_S
            self._done.put((index, self._run(self._requests[index])))
            with self._lock:
                if self._due_s.pop(index, None) is None:
                    return  # this worker had been given up and replaced

    def _until_due(self, answers: dict[int, Answer]) -> float:
        with self._lock:
            due_s = [due for index, due in self._due_s.items() if index not in answers]
        return max(0.001, min(due_s) - time.monotonic()) if due_s else GUARD_S

    def _abandon(self, answers: dict[int, Answer]) -> None:
        now_s = time.monotonic()
        with self._lock:
            late = [index for index, due in self._due_s.items() if due <= now_s and index not in answers]
            for index in late:
                del self._due_s[index]
        for index in late:
            request = self._requests[index]
            text = f"{request.verb}: given up after {request.timeout_s + GUARD_S:g} s"
            answers[index] = Answer(error=WireError(AbsenceKind.TIMEOUT, text), duration_s=request.timeout_s + GUARD_S)
            self._start_worker()
