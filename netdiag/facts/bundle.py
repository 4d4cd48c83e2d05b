"""Bundles: recorded raw answers in one compressed, versioned document, so that the evidence itself can be kept.

A bundle is gzip over one JSON object. Decoding the answers again, on any machine, gives the facts that were collected.
Secrets never enter: what a participant has not withheld already is withheld here, before anything is written.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from netdiag.errors import BundleError
from netdiag.facts.calico import redacted_configuration, redacted_keys
from netdiag.facts.context import keep_line
from netdiag.facts.engine_log import TOKEN_PREFIX, interesting
from netdiag.model.facts import Absence
from netdiag.model.wire import Answer, answer_from_values, values_from_answer

SCHEMA = "netdiag/bundle/1"
_FAMILY = "netdiag/bundle/"
LIMIT_BYTES = 256 << 20
"""How large a bundle may be when it is unpacked."""
_TOKEN = re.compile(r"SWMTKN-[A-Za-z0-9-]+")
_WITHHELD_TOKEN = "SWMTKN-(withheld)"  # noqa: S105 - what stands in its place
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]+@")
_LOGS = ("journalctl", "/var/log/")


class Ended(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How reading one section went: its duration, and why it was given up, if it was."""

    duration_s: float
    given_up: Absence | None = None


class Collection(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How the facts were collected; what is needed to ask the same questions of the recorded answers.

    Attributes:
        names: The sections that were asked for; empty for all.
        etcd: Variables of the shell for Calico's datastore, without user and password.
    """

    collected_s: float
    duration_s: float = 0.0
    names: tuple[str, ...] = ()
    docker_socket: str | None = None
    load_modules: bool = False
    etcd: dict[str, str] = msgspec.field(default_factory=dict)
    ended: dict[str, Ended] = msgspec.field(default_factory=dict)


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds.

    Attributes:
        tool: Version of the netdiag that made it.
        created_s: Unix time on that machine.
        purpose: The command that made it ("collect", "preflight swarm").
        arguments: What that command needs to read its own answers again; no secret.
        answers: Recorded answers by `Request.key`.
    """

    tool: str
    created_s: float
    purpose: str
    collection: Collection
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    answers: dict[str, Answer] = msgspec.field(default_factory=dict)


class _Document(msgspec.Struct, kw_only=True):
    schema: str
    tool: str
    created_s: float
    purpose: str
    collection: Collection
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    answers: dict[str, Any] = msgspec.field(default_factory=dict)


def encode(bundle: Bundle) -> bytes:
    """The bundle's bytes. Equal bundles have equal bytes: neither a clock nor a name is written besides the content."""
    document = _Document(
        schema=SCHEMA,
        tool=bundle.tool,
        created_s=bundle.created_s,
        purpose=bundle.purpose,
        collection=bundle.collection,
        arguments=_scrubbed(bundle.arguments),
        answers={key: values_from_answer(withheld(key, answer)) for key, answer in sorted(bundle.answers.items())},
    )
    return gzip.compress(msgspec.json.encode(document), compresslevel=6, mtime=0)


def decode(data: bytes, name: str) -> Bundle:
    """A bundle from its bytes; ``name`` is what the operator called it.

    Raises BundleError, in one line that names it, for what is truncated, foreign, of another version or too large.
    """
    if not data:
        raise BundleError(f"{name}: empty, not a bundle of netdiag")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            text = packed.read(LIMIT_BYTES + 1)
    except EOFError as error:
        raise BundleError(f"{name}: truncated; copy the bundle again") from error
    except gzip.BadGzipFile as error:
        raise BundleError(f"{name}: not a bundle of netdiag (not compressed by gzip, or damaged)") from error
    except (OSError, zlib.error) as error:
        raise BundleError(f"{name}: damaged; copy the bundle again") from error
    if len(text) > LIMIT_BYTES:
        raise BundleError(f"{name}: unpacks to more than {LIMIT_BYTES >> 20} MiB; no bundle of netdiag is so large")
    return _checked(text, name)


class _Head(msgspec.Struct):
    schema: str = ""


def _checked(text: bytes, name: str) -> Bundle:
    try:
        schema = msgspec.json.decode(text, type=_Head).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{name}: not a bundle of netdiag (its content is no JSON object)") from error
    if not schema.startswith(_FAMILY):
        raise BundleError(f"{name}: not a bundle of netdiag (schema {schema[:60]!r})")
    if schema != SCHEMA:
        raise BundleError(f"{name}: {schema[:60]} was made by another version; this netdiag reads {SCHEMA}")
    try:
        document = msgspec.json.decode(text, type=_Document)
        answers = {key: answer_from_values(values) for key, values in document.answers.items()}
    except (msgspec.DecodeError, ValueError, TypeError, AttributeError, RecursionError) as error:
        what = " ".join(str(error).split())[:120]
        raise BundleError(f"{name}: damaged ({what})") from error
    return Bundle(
        tool=document.tool,
        created_s=document.created_s,
        purpose=document.purpose,
        collection=document.collection,
        arguments=document.arguments,
        answers=answers,
    )


def withheld(key: str, answer: Answer) -> Answer:
    """An answer without what no bundle may hold: join tokens, passwords, Calico's secrets, foreign log lines."""
    if answer.data is None:
        return answer
    data: Any = answer.data
    verb = key.partition(" ")[0]
    if verb == "command" and "journalctl" in key:
        data = {**data, "stdout": _log_lines(str(data.get("stdout", "")))}
    elif verb == "file-tail":
        data = {**data, "text": _log_lines(str(data.get("text", "")))}
    elif verb == "http-get" and "/v2/keys" in key:
        data = {**data, "text": redacted_keys(str(data.get("text", "")))}
    elif verb == "files" and isinstance(data.get("files"), dict):
        data = {**data, "files": {path: _file(path, text) for path, text in data["files"].items()}}
    return Answer(data=_scrubbed(data), error=answer.error, duration_s=answer.duration_s)


def _file(path: str, text: str) -> str:
    if path.endswith("calicoctl.cfg"):
        return redacted_configuration(text)
    return text


def _log_lines(text: str) -> str:
    """Only the lines that are of interest: a log may hold anything."""
    return "".join(line + "\n" for line in interesting(text, keep_line))


def _scrubbed(value: Any) -> Any:  # noqa: ANN401 - JSON values
    """The value with join tokens and the users and passwords of URLs replaced wherever they stand."""
    if isinstance(value, str):
        if "://" in value:
            value = _USERINFO.sub(r"\1***@", value)
        return _TOKEN.sub(_WITHHELD_TOKEN, value) if TOKEN_PREFIX in value else value
    if isinstance(value, Mapping):
        return {name: _scrubbed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(item) for item in value]
    return value
