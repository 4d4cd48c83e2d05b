"""The engine's log of the last hour, from the journal or from the file that older systems write."""

from __future__ import annotations

import datetime as dt
import re

from netdiag.facts.context import Context, absence, files_request, missing, texts
from netdiag.model.facts import EngineLog, LogLine, Section
from netdiag.model.wire import Gather, Request

LINES = 20000
KEPT = 2000
_SPAN_S = 3600.0
TOKEN_PREFIX = "SWMTKN-"  # noqa: S105 - what all begin with
"""Join tokens begin so; a line that holds one is never kept."""
_PATHS = (
    "/var/log/docker.log",
    "/var/log/docker",
    "/var/log/upstart/docker.log",
    "/var/log/syslog",
    "/var/log/messages",
)
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
    journal, clock = yield [_JOURNAL, Request("clock", {}, 1.0)]
    # Whole minutes, so that a bundle (where the clock's answer is another section's, milliseconds apart) says the same.
    now_s = clock.data["unix_ns"] // 60_000_000_000 * 60 if clock.data is not None else 0
    if journal.data is not None and journal.data["code"] == 0 and journal.data["stdout"].strip():
        return Section(value=_log("journalctl -u docker", journal.data["stdout"], context, 0))
    (answer,) = yield [files_request([f"{path[:-1]}[{path[-1]}]" for path in _PATHS], limit_bytes=16 << 20)]
    found = texts(answer)
    for path in _PATHS:
        # The system's common log counts only where the engine has written into it.
        if path in found and (path not in _PATHS[3:] or "dockerd" in found[path]):
            return Section(value=_log(path, found[path], context, now_s - _SPAN_S))
    if journal.data is not None and journal.data["code"] == 0:
        return Section(value=EngineLog(source="journalctl -u docker"))
    reason = absence(journal) if journal.data is None else missing("journalctl -u docker: " + journal.data["stderr"])
    return Section(absent=reason)


def _log(source: str, text: str, context: Context, since_s: float) -> EngineLog:
    kept: list[LogLine] = []
    for line in text.splitlines():
        if TOKEN_PREFIX in line or not context.options.keep(line):
            continue
        if source.startswith("/") and not _ENGINE.search(line):
            continue
        unix_s = _time(line)
        if unix_s is None or unix_s >= since_s:
            kept.append(LogLine(unix_s=unix_s, text=line))
    return EngineLog(source=source, lines=tuple(kept[-KEPT:]))


def _time(line: str) -> float | None:
    """When a line was written: the engine's own time="…", else the journal's at the start."""
    match = _TIME_FIELD.search(line) or _LEADING_TIME.match(line)
    if match is None:
        return None
    try:
        return dt.datetime.fromisoformat(match.group(1)).timestamp()
    except ValueError:
        return None
