"""Readings side by side: several that each go in rounds, as one whose rounds ask for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netdiag.model.wire import Answer, Gather, Request


def together(gathers: Sequence[Gather[Any]]) -> Gather[list[Any]]:
    """Run readings in step: each round asks what all of them ask next. Returns their results, in order.

    A reading whose answers came early waits for the round's slowest; a reading that raises ends all.
    """
    results: list[Any] = [None] * len(gathers)
    waiting: list[tuple[int, Sequence[Request]]] = []
    for index, gather in enumerate(gathers):
        try:
            waiting.append((index, next(gather)))
        except StopIteration as stop:
            results[index] = stop.value
    while waiting:
        answers = list((yield [request for _, requests in waiting for request in requests]))
        following: list[tuple[int, Sequence[Request]]] = []
        for index, requests in waiting:
            own: list[Answer] = answers[: len(requests)]
            del answers[: len(requests)]
            try:
                following.append((index, gathers[index].send(own)))
            except StopIteration as stop:
                results[index] = stop.value
        waiting = following
    return results
