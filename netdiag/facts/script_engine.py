"""What the script's docker commands printed, in the shape of the engine's own API, so that the same code reads it.

The script names every field that it asks for; what it does not name is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from netdiag.facts.script_text import Block, Recorded
from netdiag.model.facts import Absence, AbsenceKind

_DECODER = json.JSONDecoder()
_NONE = "<none>"


def answer(recorded: Recorded, path: str) -> tuple[Any, Absence | None]:
    """The JSON that the engine would have answered to ``GET path``; or why there is none."""
    bare = path.partition("?")[0]
    if bare in _WHOLE:
        return _WHOLE[bare](recorded)
    for start, end, listed in (("/networks/", "", "networks"), ("/containers/", "/json", "containers")):
        if bare.startswith(start) and bare.endswith(end):
            wanted = bare.removeprefix(start).removesuffix(end)
            rows, reason = _objects(recorded, listed)
            found = next((row for row in rows or () if row.get("Id") == wanted), None)
            if found is None:
                return None, reason or _not_listed(path)
            return (_details(found) if listed == "containers" else found), None
    return None, Absence(kind=AbsenceKind.NOT_PROBED, text=f"GET {path}: the script does not ask the engine for it")


def _not_listed(path: str) -> Absence:
    return Absence(kind=AbsenceKind.MISSING, text=f"GET {path}: the script's output does not list it")


def _objects(recorded: Recorded, name: str) -> tuple[list[dict[str, Any]] | None, Absence | None]:
    """The objects of one block, in order; None and the reason where there is no such block or nothing in it counts."""
    block = recorded.get(f"docker {name}")
    if block is None:
        version = recorded.get("docker version")
        why = _failure(version) if version is not None else None
        text = f"docker {name}: the script's output does not hold it"
        return None, why or Absence(kind=AbsenceKind.NOT_PROBED, text=text)
    rows = objects_of(block.text)
    failed = _failure(block)
    if failed is not None and not rows:
        return None, failed
    return rows, None


def _failure(block: Block) -> Absence | None:
    if block.absent is not None:
        return block.absent
    if block.code != 0:
        said = block.errors.strip().partition("\n")[0] or f"exit code {block.code}"
        kind = AbsenceKind.PERMISSION if "permission denied" in said.lower() else AbsenceKind.FAILED
        return Absence(kind=kind, text=f"{block.name}: {said}")
    return None


def objects_of(text: str) -> list[dict[str, Any]]:
    """The JSON objects that stand one after the other in a text; a damaged one costs no other."""
    found: list[dict[str, Any]] = []
    position = 0
    while (position := text.find("{", position)) >= 0:
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            # An object begins its line; what continues one is indented.
            following = text.find("\n{", position)
            if following < 0:
                break
            position = following + 1
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


# --- the pages of the API --------------------------------------------------------------------------------------------

_Page = tuple[Any, Absence | None]


def _one(recorded: Recorded, name: str) -> tuple[dict[str, Any] | None, Absence | None]:
    rows, reason = _objects(recorded, name)
    if rows:
        return rows[0], None
    return None, reason or Absence(kind=AbsenceKind.FAILED, text=f"docker {name}: no JSON object in its output")


def _version(recorded: Recorded) -> _Page:
    return _one(recorded, "version")


def _info(recorded: Recorded) -> _Page:
    info, reason = _one(recorded, "info")
    if info is None:
        return None, reason
    for name in ("info-pools", "info-firewall"):
        # What this version of the engine does not know is not there.
        more, _ = _one(recorded, name)
        info = {**info, **(more or {})}
    cluster, _ = _one(recorded, "info-cluster")
    if cluster is not None and isinstance(info.get("Swarm"), dict):
        info = {**info, "Swarm": {**info["Swarm"], "Cluster": cluster}}
    return info, None


def _listed(name: str) -> Callable[[Recorded], _Page]:
    return lambda recorded: _objects(recorded, name)


def _containers(recorded: Recorded) -> _Page:
    rows, reason = _objects(recorded, "containers")
    return (None if rows is None else [_container(row) for row in rows]), reason


def _container(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the list of containers."""
    labels = {"com.docker.swarm.service.name": row.get("Service"), "com.docker.swarm.task.id": row.get("Task")}
    ends = [end for end in row.get("Networks") or () if isinstance(end, dict)]
    return {
        "Id": row.get("Id"),
        "Names": [row.get("Name") or ""],
        "Image": row.get("Image"),
        "ImageID": row.get("ImageID"),
        "State": row.get("State"),
        "Labels": {name: value for name, value in labels.items() if value},
        "NetworkSettings": {"Networks": {str(end.get("Network")): end for end in ends}},
        "Ports": _ports(row.get("Ports")),
    }


def _ports(published: object) -> list[dict[str, Any]]:
    """``{"80/tcp": [{"HostIp": …, "HostPort": …}]}`` as the list of containers has it."""
    found = []
    for inside, bindings in published.items() if isinstance(published, dict) else ():
        port, _, protocol = str(inside).partition("/")
        for binding in bindings or ():
            outside = str(binding.get("HostPort") or "")
            if outside.isdigit() and port.isdigit():
                address = binding.get("HostIp")
                found.append(
                    {"IP": address, "PublicPort": int(outside), "PrivatePort": int(port), "Type": protocol or "tcp"}
                )
    return found


def _details(row: Mapping[str, Any]) -> dict[str, Any]:
    """A container's own page."""
    return {
        "Id": row.get("Id"),
        "State": {"Pid": row.get("Pid")},
        "NetworkSettings": {"SandboxKey": row.get("SandboxKey")},
    }


def _images(recorded: Recorded) -> _Page:
    rows, reason = _objects(recorded, "images")
    if rows is None:
        return None, reason
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        image = found.setdefault(str(row.get("Id")), {"Id": row.get("Id"), "RepoTags": [], "RepoDigests": []})
        name, tag, digest = (str(row.get(key) or _NONE) for key in ("Repository", "Tag", "Digest"))
        for key, shown, joined in (("RepoTags", tag, f"{name}:{tag}"), ("RepoDigests", digest, f"{name}@{digest}")):
            if _NONE not in (name, shown) and joined not in image[key]:
                image[key].append(joined)
    return list(found.values()), None


_WHOLE: dict[str, Callable[[Recorded], _Page]] = {
    "/version": _version,
    "/info": _info,
    "/networks": _listed("networks"),
    "/containers/json": _containers,
    "/images/json": _images,
    "/nodes": _listed("nodes"),
    "/services": _listed("services"),
    "/tasks": _listed("tasks"),
}
