"""Whether an engine that cannot be asked has joined a swarm: what it keeps on disk says so."""

from __future__ import annotations

import json

from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Gather, Request

_CONFIGURATION = "/etc/docker/daemon.json"
_DEFAULT_ROOT = "/var/lib/docker"
_STATE = "docker-state.json"
"""Written when a node joins, removed when it leaves (moby, daemon/cluster/cluster.go, ``stateFile``)."""


def gather_joined_on_disk() -> Gather[bool]:
    """Whether the engine's directory holds the state of a member; True too where that cannot be read."""
    first = [Request("file", {"path": _CONFIGURATION}, 1.0), _listing(_DEFAULT_ROOT)]
    configured, listed = yield first
    root = _root(str(configured.data["text"]) if configured.data is not None else "")
    if root != _DEFAULT_ROOT:
        (listed,) = yield [_listing(root)]
    if listed.data is None:
        return listed.error is None or listed.error.kind is not AbsenceKind.MISSING
    return any(entry["name"] == _STATE for entry in listed.data["entries"])


def _listing(root: str) -> Request:
    return Request("list-dir", {"path": f"{root}/swarm"}, 1.0)


def _root(text: str) -> str:
    try:
        configured = json.loads(text)
    except ValueError:
        return _DEFAULT_ROOT
    named = configured.get("data-root") or configured.get("graph") if isinstance(configured, dict) else None
    return named if isinstance(named, str) and named.startswith("/") else _DEFAULT_ROOT
