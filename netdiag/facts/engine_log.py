"""The engine's log of the last hour, from the journal or from the file that older systems write."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator

from netdiag.facts.context import Context, absence, missing
from netdiag.model.engine import EngineLog, LogLine
from netdiag.model.facts import AbsenceKind, Section
from netdiag.model.wire import Gather, Request
from netdiag.swarm.join_stage import redacted

LINES = 20000
KEPT = 2000
TAIL_BYTES = 8 << 20
SPAN_S = 3600.0
"""How far back a log file is read; the journal does that by itself."""
TOKEN_PREFIX = "SWMTKN-"  # noqa: S105 - what all begin with
"""Join tokens begin so; a line that holds one is never kept."""
_PATHS = (
    "/var/log/docker.log",
    "/var/log/docker",
    "/var/log/upstart/docker.log",
    "/var/log/syslog",
    "/var/log/messages",
)
_COMMON = frozenset(_PATHS[3:])
_JOURNAL = Request(
    "command",
    {"argv": ["journalctl", "-u", "docker", "--since=-1h", "-o", "short-iso", "--no-pager", "-q", "-n", str(LINES)]},
    4.0,
)
_TIME_FIELD = re.compile(r'\btime="([^"]+)"')
_LEADING_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*)")
_ENGINE = re.compile(r"\bdockerd\b|\blevel=")


def gather_engine_log(context: Context) -> Gather[Section[EngineLog]]:
    """The lines that the caller's ``keep`` wants, newest last, at most `KEPT`."""
    # Named, so that in a bundle its answer is not that of the section clock, milliseconds apart.
    journal, clock = yield [_JOURNAL, Request("clock", {"for": "engine_log"}, 1.0)]
    now_s = clock.data["unix_ns"] / 1e9 if clock.data is not None else 0.0
    if journal.data is not None and journal.data["code"] == 0 and journal.data["stdout"].strip():
        return Section(value=_log("journalctl -u docker", journal.data["stdout"], context, 0))
    answers = yield [Request("file-tail", {"path": path, "limit_bytes": TAIL_BYTES}, 2.0) for path in _PATHS]
    for path, answer in zip(_PATHS, answers, strict=True):
        # The system's common log counts only where the engine has written into it.
        if answer.data is not None and (path not in _COMMON or "dockerd" in answer.data["text"]):
            return Section(value=_log(path, answer.data["text"], context, now_s - SPAN_S))
    if journal.data is not None and journal.data["code"] == 0:
        return Section(value=EngineLog(source="journalctl -u docker"))
    denied = next((one for one in answers if one.error and one.error.kind is AbsenceKind.PERMISSION), None)
    if denied is not None:
        return Section(absent=absence(denied))
    reason = absence(journal) if journal.data is None else missing("journalctl -u docker: " + journal.data["stderr"])
    return Section(absent=reason)


def interesting(text: str, keep: Callable[[str], bool]) -> Iterator[str]:
    """The lines that ``keep`` wants, without the secrets that engines log (join tokens, the keys of gossip)."""
    for line in text.splitlines():
        if TOKEN_PREFIX not in line and keep(line):
            yield redacted(line)


def _log(source: str, text: str, context: Context, since_s: float) -> EngineLog:
    lines = [
        LogLine(unix_s=_time(line), text=line)
        for line in interesting(text, context.options.keep)
        if not source.startswith("/") or _ENGINE.search(line)
    ]
    recent = [line for line in lines if line.unix_s is None or line.unix_s >= since_s]
    return EngineLog(source=source, lines=tuple(recent[-KEPT:]))


def _time(line: str) -> float | None:
    """When a line was written: the engine's own time="…", else the journal's at the start."""
    match = _TIME_FIELD.search(line) or _LEADING_TIME.match(line)
    if match is None:
        return None
    try:
        return dt.datetime.fromisoformat(match.group(1)).timestamp()
    except ValueError:
        return None
