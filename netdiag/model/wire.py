"""Requests to a participant and its raw answers: what crosses between an adapter and the rooms that decode.

A request is a verb of the participant with its parameters; its answer holds either raw data or one typed error. Both
serialise to JSON, so that a host behind ssh, a bundle and the local host are read by the same code.
"""

from __future__ import annotations

import base64
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


_BYTES_TAG = "$b64"


def to_json_values(value: object) -> object:
    """The same value with every `bytes` in it as ``{"$b64": text}``: JSON carries it, `from_json_values` undoes it."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {_BYTES_TAG: base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {str(key): to_json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_values(item) for item in value]
    return value


def from_json_values(value: object) -> object:
    """The inverse of `to_json_values`. Raises ValueError for base64 that is none."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(text := value.get(_BYTES_TAG), str):
            return base64.b64decode(text, validate=True)
        return {key: from_json_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json_values(item) for item in value]
    return value


def answer_from_values(values: dict[str, Any]) -> Answer:
    """A participant's answer, as it came in this process or (bytes tagged) from JSON.

    Raises ValueError when it is no answer: neither data nor a known kind of error.
    """
    duration_s = float(values.get("duration_s") or 0.0)
    error = values.get("error")
    if isinstance(error, dict):
        return Answer(error=WireError(AbsenceKind(error.get("kind")), str(error.get("text"))), duration_s=duration_s)
    data = from_json_values(values.get("data"))
    if not isinstance(data, dict):
        raise ValueError("an answer with neither data nor error")  # noqa: TRY004  it is the value that is wrong
    return Answer(data=data, duration_s=duration_s)


def values_from_answer(answer: Answer) -> dict[str, Any]:
    """An answer as JSON values, for a bundle; `answer_from_values` undoes it."""
    values: dict[str, Any] = {"duration_s": answer.duration_s}
    if answer.error is not None:
        values["error"] = {"kind": answer.error.kind.value, "text": answer.error.text}
    else:
        values["data"] = to_json_values(answer.data)
    return values


# ---- the lines of a byte stream (docs/reference/participant.md)


PROTOCOL = "netdiag/participant/1"
"""What both sides speak; the participant, which stands alone, has the same word."""


class Greeting(msgspec.Struct, frozen=True):
    """The participant's first line."""

    protocol: str
    """``netdiag/participant/1``; another number is another language."""
    python: list[int]
    """The interpreter's version, three numbers."""
    uid: int
    """Effective user id; 0 is root."""


class RequestLine(msgspec.Struct, frozen=True):
    """The requester asks for one thing."""

    id: int
    """Its number in this stream; the answer carries it."""
    verb: str
    params: dict[str, Any]
    """The verb's own; bytes as ``{"$b64": TEXT}``."""
    timeout_s: float
    """How long the verb may take, from its start there, in seconds."""


class DataLine(msgspec.Struct, frozen=True):
    """An answer with data."""

    id: int
    data: dict[str, Any]
    """The verb's own; bytes as ``{"$b64": TEXT}``."""
    duration_s: float
    """How long the verb took, in seconds."""


class ErrorLine(msgspec.Struct, frozen=True):
    """An answer that says why there is no data; without an ``id`` for a line that was no request."""

    error: WireError
    id: int | None = None
    duration_s: float = 0.0


class PingLine(msgspec.Struct, frozen=True):
    """The requester is still there."""

    ping: int


class PongLine(msgspec.Struct, frozen=True):
    """The answer to a ping."""

    pong: int


LINES = (Greeting, RequestLine, DataLine, ErrorLine, PingLine, PongLine)
"""Every kind of line that crosses a stream."""
