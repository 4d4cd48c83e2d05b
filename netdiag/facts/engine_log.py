"""The engine's log of the last hour, reduced to lines that say something about joining or gossip, without secrets."""

from __future__ import annotations

from collections.abc import Iterable

from netdiag.model.facts import Absence, AbsenceKind, EngineLog, LogLine, Section
from netdiag.model.wire import Gather, Request
from netdiag.swarm.join_stage import classify_log, redacted, timestamp_s

_FILES = ("/var/log/docker.log", "/var/log/upstart/docker.log", "/var/log/docker/docker.log")
"""Where an engine that no systemd started writes (sysvinit, upstart, OpenRC)."""
_SINCE_S = 3600.0
_KEPT_LINES = 400
_TAIL_BYTES = 2 << 20


def gather_engine_log(now_s: float) -> Gather[Section[EngineLog]]:
    """The lines of known classes, oldest first.

    Args:
        now_s: This host's clock; lines older than an hour before it are left out where they carry their time.
    """
    journal = ["journalctl", "-u", "docker.service", "--no-pager", "-q", "-o", "cat", "--since", "-1h", "-n", "5000"]
    listed, *files = yield [
        Request("command", {"argv": journal}, 3.0),
        *(Request("file-tail", {"path": path, "limit_bytes": _TAIL_BYTES}) for path in _FILES),
    ]
    if listed.data is not None and listed.data["code"] == 0 and listed.data["stdout"].strip():
        return Section(
            value=EngineLog(source="journalctl -u docker.service", lines=_kept(listed.data["stdout"], now_s))
        )
    for path, answer in zip(_FILES, files, strict=True):
        if answer.data is not None:
            return Section(value=EngineLog(source=path, lines=_kept(answer.data["text"], now_s)))
    tried = ", ".join(("journalctl -u docker.service", *_FILES))
    denied = next((one.error for one in files if one.error and one.error.kind is AbsenceKind.PERMISSION), None)
    if denied is not None:
        return Section(absent=Absence(kind=AbsenceKind.PERMISSION, text=denied.text))
    return Section(absent=Absence(kind=AbsenceKind.MISSING, text=f"no log of the engine found (looked at {tried})"))


def _kept(text: str, now_s: float) -> tuple[LogLine, ...]:
    return tuple(_recent(text.splitlines(), now_s))[-_KEPT_LINES:]


def _recent(lines: Iterable[str], now_s: float) -> Iterable[LogLine]:
    for line in lines:
        if classify_log(line) is None:
            continue
        stamp = timestamp_s(line)
        if stamp is None or now_s - stamp <= _SINCE_S:
            yield LogLine(unix_s=stamp, text=redacted(line)[:1000])
