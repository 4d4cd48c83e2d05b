"""BIRD's protocols, from its control socket."""

from __future__ import annotations

import re

from netdiag.facts.context import Context, absence, missing
from netdiag.model.facts import Absence, Bird, BirdProtocol, Section
from netdiag.model.wire import Gather, Request

_DIRECTORIES = ("/run/bird", "/var/run/calico", "/run/calico", "/var/run/bird")
_SOCKET = re.compile(r"^bird6?\.ctl$")
_VERSION = re.compile(r"^0001 BIRD (\S+) ready", re.MULTILINE)
_ROW = re.compile(r"^(?:1002-|1002 | )(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+(?: \d\d:\d\d:\d\d\S*)?)[ \t]*(.*)$")


def gather_bird(_context: Context) -> Gather[Section[Bird]]:
    """The first BIRD whose control socket answers."""
    listed = yield [Request("list-dir", {"path": path, "limit": 50}, 1.0) for path in _DIRECTORIES]
    sockets = [
        f"{directory}/{entry['name']}"
        for directory, answer in zip(_DIRECTORIES, listed, strict=True)
        if answer.data is not None
        for entry in answer.data["entries"]
        if entry["type"] == "socket" and _SOCKET.match(entry["name"])
    ]
    if not sockets:
        return Section(absent=missing(f"no control socket of BIRD in {', '.join(_DIRECTORIES[:2])}"))
    answers = yield [Request("unix-ask", {"path": path, "send": "show protocols"}, 2.0) for path in sockets]
    reason: Absence | None = None
    for path, answer in zip(sockets, answers, strict=True):
        if answer.data is not None:
            return Section(value=decode(path, answer.data["text"]))
        reason = reason or absence(answer)
    return Section(absent=reason)


def decode(path: str, text: str) -> Bird:
    """The rows of ``show protocols``; the heading (code 2002) is left out."""
    version = _VERSION.search(text)
    rows = []
    for line in text.splitlines():
        match = _ROW.match(line)
        if match is not None:
            name, protocol, table, state, since, info = match.groups()
            rows.append(
                BirdProtocol(name=name, protocol=protocol, table=table, state=state, since=since, info=info.strip())
            )
    return Bird(version=version.group(1) if version else "", socket=path, protocols=tuple(rows))
