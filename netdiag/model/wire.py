"""Requests to a participant and its raw answers: what crosses between an adapter and the rooms that decode.

A request is a verb of the participant with its parameters; its answer holds either raw data or one typed error. Both
serialise to JSON, so that a host behind ssh, a bundle and the local host are read by the same code.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import msgspec

from netdiag.model.facts import AbsenceKind


class Request(msgspec.Struct, frozen=True):
    """One thing to do on a host: ``verb`` of the participant, its parameters, and the longest it may take.

    ``params`` holds JSON values only. No secret ever goes into a request: requests are kept in bundles.
    """

    verb: str
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    timeout_s: float = 5.0

    def key(self) -> str:
        """What identifies this request in a bundle: equal requests have equal keys, time-outs apart."""
        return self.verb + " " + msgspec.json.encode(self.params, order="deterministic").decode()


class WireError(msgspec.Struct, frozen=True):
    """Why a request gave no data, in one line."""

    kind: AbsenceKind
    text: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The raw answer to one request: ``data`` (text, JSON values, or bytes) or ``error``, never both."""

    data: dict[str, Any] | None = None
    error: WireError | None = None
    duration_s: float = 0.0


R = TypeVar("R")

Gather = Generator[Sequence[Request], Sequence[Answer], R]
"""A reading in rounds: yields requests, is sent the answers in the same order, and returns what it made of them.

It knows no host: whoever drives it sends the requests to a participant, or looks them up in a bundle.
"""
