"""The Docker engine: what it says of itself, its swarm, its networks, containers and images.

An engine that hangs fails the first, smallest question, and only that question's time-out is lost. What a later
question cannot tell is in the section's ``partial``, by the path that was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from netdiag.facts import engine_objects as objects
from netdiag.facts.context import Context, absence
from netdiag.model.engine import Cluster, Container, Engine, Network
from netdiag.model.facts import Absence, AbsenceKind, Section
from netdiag.model.wire import Answer, Gather, Request
from netdiag.swarm.engine_rules import may_poll_networkdb
from netdiag.swarm.engine_version import parse_engine_version

INSPECTED_CONTAINERS = 256
"""How many running containers are inspected for their process and sandbox; the others are known by their group."""
INSPECTED_NETWORKS = 64
_FIRST_TIMEOUT_S = 1.5
_TIMEOUT_S = 3.0


def gather_engine(context: Context) -> Gather[Section[Engine]]:
    """One engine through its socket. Secrets never leave the host: the participant drops them from every answer."""
    asker = _Asker(context.options.docker_socket)
    (first,) = yield [asker.get("/version", _FIRST_TIMEOUT_S)]
    version = asker.json("/version", first)
    if not isinstance(version, dict):
        return Section(absent=asker.partial["/version"])
    paths = ["/info", "/networks", "/containers/json?all=1", "/images/json"]
    info, networks, containers, images = asker.all(paths, (yield [asker.get(path) for path in paths]))
    if not isinstance(info, dict):
        return Section(absent=asker.partial["/info"])
    swarm = objects.membership(info)
    networks, containers = _list(networks), _list(containers)
    inspected = [
        f"/containers/{item['Id']}/json" for item in containers if item.get("State") == "running" and item.get("Id")
    ][:INSPECTED_CONTAINERS]
    parsed = parse_engine_version(str(version.get("Version", "")))
    # Without a lock in the engine, a verbose read during a change can crash it (moby#47728).
    suffix = "?verbose=true" if parsed is not None and may_poll_networkdb(parsed) else ""
    overlays = [f"/networks/{item['Id']}{suffix}" for item in networks if item.get("Driver") == "overlay"]
    overlays = overlays[:INSPECTED_NETWORKS]
    of_manager = ["/nodes", "/services", "/tasks"] if swarm.is_manager else []
    root = str(info.get("DockerRootDir") or "")
    listing = Request("list-dir", {"path": f"{root}/swarm", "depth": 2, "limit": 200}, 1.0)
    wanted = [*inspected, *overlays, *of_manager]
    answers = list((yield [*(asker.get(path) for path in wanted), listing]))
    files, files_known = _swarm_files(answers.pop())
    found = dict(zip(wanted, asker.all(wanted, answers), strict=True))
    details = {item["Id"]: item for path in inspected if isinstance(item := found[path], dict) and "Id" in item}
    views = {item["Id"]: item for path in overlays if isinstance(item := found[path], dict) and "Id" in item}
    rows = [objects.network({**item, **views.get(item.get("Id", ""), {})}) for item in networks]
    cluster = None
    if swarm.is_manager and any(isinstance(found[path], list) for path in of_manager):
        names = {row.id: row.name for row in rows}
        services = _list(found["/services"])
        cluster = Cluster(
            nodes=tuple(objects.node(item) for item in _list(found["/nodes"])),
            services=tuple(objects.service(item, names) for item in services),
            tasks=tuple(objects.task(item) for item in _list(found["/tasks"])),
        )
        rows = [_with_virtual(row, services) for row in rows]
    value = objects.engine(
        version,
        info,
        swarm=swarm,
        networks=tuple(rows),
        containers=_containers(containers, details),
        images=tuple(objects.image(item) for item in _list(images)),
        cluster=cluster,
        swarm_files=files,
        swarm_files_known=files_known,
    )
    return Section(value=value, partial=asker.partial)


class _Asker:
    """Questions to one engine, and why some were not answered."""

    def __init__(self, socket: str | None) -> None:
        self._socket = {"socket": socket} if socket else {}
        self.partial: dict[str, Absence] = {}

    def get(self, path: str, timeout_s: float = _TIMEOUT_S) -> Request:
        return Request("docker-get", {"path": path, **self._socket}, timeout_s)

    def json(self, path: str, answer: Answer) -> Any:  # noqa: ANN401 - whatever the engine said
        """The JSON of an answer; None, and the reason kept, when there is none."""
        if answer.data is None:
            self.partial[path] = absence(answer)
            return None
        status, body = answer.data["status"], answer.data["json"]
        if status != 200:
            said = body.get("message", "") if isinstance(body, dict) else ""
            text = f"GET {path}: the engine answered {status} {said}".rstrip()
            self.partial[path] = Absence(kind=AbsenceKind.FAILED, text=text)
            return None
        return body

    def all(self, paths: Sequence[str], answers: Sequence[Answer]) -> list[Any]:
        return [self.json(path, answer) for path, answer in zip(paths, answers, strict=True)]


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _containers(listed: list[dict[str, Any]], details: dict[str, dict[str, Any]]) -> tuple[Container, ...]:
    return tuple(objects.container(item, details.get(item.get("Id", ""), {})) for item in listed)


def _with_virtual(network: Network, services: list[dict[str, Any]]) -> Network:
    """A network with the virtual addresses that the manager knows, where its own view has none."""
    found = {**objects.virtual_addresses(network.id, services), **network.virtual_addresses}
    return msgspec.structs.replace(network, virtual_addresses=found) if found else network


def _swarm_files(answer: Answer) -> tuple[tuple[str, ...], bool]:
    """Names below the engine's swarm directory. That it does not exist is an answer, too: it is known to be empty."""
    if answer.data is None:
        return (), answer.error is not None and answer.error.kind is AbsenceKind.MISSING
    return tuple(item["name"] for item in answer.data["entries"] if item["type"] != "directory"), True
