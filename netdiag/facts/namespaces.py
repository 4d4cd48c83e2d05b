"""Which network namespaces are in use, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from netdiag.facts.context import Context, absence, files_request, texts
from netdiag.model.engine import Engine
from netdiag.model.facts import HOST, Absence, AbsenceKind, Namespace, Section
from netdiag.model.wire import Gather, Request

_CONTAINER_ID = re.compile(r"(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?:/|$)", re.MULTILINE)
_OVERLAY = re.compile(r"^\d+-(.+)$")
_MOUNTS = ("/run/docker/netns/", "/var/run/docker/netns/")


def gather_namespaces(context: Context) -> Gather[Section[dict[str, Namespace]]]:
    """Every network namespace, each once, named by the container or network that it belongs to.

    The engine names what it owns; without it, a container is known by the id in its processes' control group, and
    anything else by its mount or by its first process.
    """
    (answer,) = yield [Request("namespaces", {}, 3.0)]
    if answer.data is None:
        return Section(absent=absence(answer))
    rows = [row for row in answer.data["namespaces"] if row["paths"]]
    first = [row["pids"][0] for row in rows if row["pids"] and not row["own"]]
    wanted = [path for pid in first for path in (f"/proc/{pid}/comm", f"/proc/{pid}/cgroup")]
    about: dict[str, str] = {}
    if wanted:
        (details,) = yield [files_request(wanted)]
        about = texts(details)
    owners = _Owners(context.engine)
    found: dict[str, Namespace] = {}
    for row in rows:
        namespace = owners.name(row, about)
        # Two sandboxes of one network are met for a moment while it is made anew: both are kept.
        name = namespace.id if namespace.id not in found else f"netns:{row['inode']}"
        found[name] = Namespace(**{**_fields(namespace), "id": name})
    ordered = sorted(found.items(), key=lambda item: (item[0] != HOST, item[0]))
    hidden = answer.data.get("unreadable") or 0
    partial = {}
    if hidden:
        text = f"{hidden} processes of other users could not be looked at: their namespaces may be missing"
        partial["processes"] = Absence(kind=AbsenceKind.PERMISSION, text=text)
    return Section(value=dict(ordered), partial=partial)


def _fields(namespace: Namespace) -> dict[str, Any]:
    return {field: getattr(namespace, field) for field in namespace.__struct_fields__}


class _Owners:
    """Names for namespaces, from what the engine told."""

    def __init__(self, engine: Engine | None) -> None:
        containers = engine.containers if engine is not None else ()
        self.networks = engine.networks if engine is not None else ()
        self.by_pid = {container.pid: container for container in containers if container.pid}
        self.by_id = {container.id: container for container in containers}
        self.by_sandbox = {
            _basename(container.sandbox_path): container for container in containers if container.sandbox_path
        }

    def name(self, row: Mapping[str, Any], about: Mapping[str, str]) -> Namespace:
        """One namespace, named."""
        paths, pids = list(row["paths"]), tuple(row["pids"])
        path = paths[0]
        made = {"path": path, "inode": row["inode"], "pids": pids}
        if row["own"]:
            return Namespace(id=HOST, **made)
        mount = next((_basename(item) for item in paths if item.startswith(_MOUNTS)), "")
        container = self.by_sandbox.get(mount) or next((self.by_pid[pid] for pid in pids if pid in self.by_pid), None)
        group = _CONTAINER_ID.search(about.get(f"/proc/{pids[0]}/cgroup", "")) if pids else None
        if container is None and group is not None:
            container = self.by_id.get(group.group(1))
        if container is not None:
            return Namespace(id=f"container:{container.name}", owner=container.name, owner_id=container.id, **made)
        if mount:
            named = self._of_network(mount, made)
            if named is not None:
                return named
        if group is not None:
            short = group.group(1)[:12]
            return Namespace(id=f"container:{short}", owner=short, owner_id=group.group(1), **made)
        if not path.startswith("/proc/"):
            return Namespace(id=f"netns:{_basename(path)}", **made)
        command = about.get(f"/proc/{pids[0]}/comm", "").strip()
        return Namespace(id=f"netns:pid-{pids[0]}", owner=command, **made)

    def _of_network(self, mount: str, made: Mapping[str, Any]) -> Namespace | None:
        if mount == "ingress_sbox":
            return Namespace(id="ingress", owner="ingress", **made)
        kind, prefix = "", ""
        overlay = _OVERLAY.match(mount)
        if overlay:
            kind, prefix = "overlay", overlay.group(1)
        elif mount.startswith("lb_"):
            kind, prefix = "lb", mount[3:]
        if not prefix:
            return None
        for network in self.networks:
            if network.id.startswith(prefix):
                return Namespace(id=f"{kind}:{network.name}", owner=network.name, owner_id=network.id, **made)
        # Without the engine the network's id has to do for its name.
        return Namespace(id=f"{kind}:{prefix}", owner_id=prefix, **made)


def _basename(path: str) -> str:
    return path.rpartition("/")[2]
