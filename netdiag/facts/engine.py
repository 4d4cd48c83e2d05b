"""The Docker engine, from its API over the unix socket; the participant has removed what is secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netdiag.facts.engine_objects import container, image, network, node, service, task, unix_s
from netdiag.facts.reading import absent
from netdiag.model.facts import (
    Absence,
    AbsenceKind,
    Cluster,
    Container,
    Engine,
    Network,
    Section,
    SwarmMembership,
    SwarmState,
)
from netdiag.model.wire import Answer, Gather, Request
from netdiag.swarm.engine_rules import may_poll_networkdb
from netdiag.swarm.engine_version import parse_engine_version

_WAIT_S = 3.0
_VERBOSE_NETWORKS = 20
"""How many overlay networks are asked for their peers: each costs the engine a walk through its gossip tables."""
_INSPECTED = 200
"""How many running containers are asked for their namespace."""


def gather_engine(docker_socket: str) -> Gather[Section[Engine]]:
    """Version, settings, membership, networks, containers and images; on a manager the cluster's lists as well.

    An engine that answers nothing in time costs this section's time-out and no more.
    """

    def get(path: str) -> Request:
        return Request("docker-get", {"path": path, "socket": docker_socket}, _WAIT_S)

    answers = yield [get("/version"), get("/info")]
    version, info = answers
    for answer in answers:
        if answer.data is None:
            return absent(answer)
        if answer.data["status"] != 200:
            said = (answer.data["json"] or {}).get("message", f"status {answer.data['status']}")
            return Section(absent=Absence(kind=AbsenceKind.FAILED, text=f"the engine refuses: {said}"))
    assert version.data is not None  # noqa: S101 - both were just seen
    assert info.data is not None  # noqa: S101
    about, state = version.data["json"] or {}, info.data["json"] or {}
    is_manager = bool((state.get("Swarm") or {}).get("ControlAvailable"))
    root = str(state.get("DockerRootDir") or "/var/lib/docker")
    paths = ["/networks", "/containers/json?all=1", "/images/json"]
    paths += ["/nodes", "/services", "/tasks"] if is_manager else []
    *lists, files = yield [*(get(path) for path in paths), Request("list-dir", {"path": f"{root}/swarm", "depth": 3})]
    rows = [_rows(answer) for answer in lists]
    networks = yield from _networks(rows[0], str(about.get("Version", "")), get)
    containers = yield from _containers(rows[1], get)
    return Section(
        value=_engine(about, state, networks, containers, rows, is_manager=is_manager, root=root, files=files)
    )


def _rows(answer: Answer) -> list[dict[str, Any]]:
    if answer.data is None or answer.data["status"] != 200 or not isinstance(answer.data["json"], list):
        return []
    return [row for row in answer.data["json"] if isinstance(row, dict)]


def _networks(
    rows: Sequence[Mapping[str, Any]], version: str, get: Callable[[str], Request]
) -> Gather[tuple[Network, ...]]:
    """Networks; overlays with their peers, unless this version can crash when it is asked for them (moby#47728)."""
    parsed = parse_engine_version(version)
    overlays = [row["Id"] for row in rows if row.get("Driver") == "overlay" and row.get("Id")][:_VERBOSE_NETWORKS]
    if parsed is not None and not may_poll_networkdb(parsed):
        # Without verbose the peers come too, only services and tasks do not.
        asked = [get(f"/networks/{one}") for one in overlays]
    else:
        asked = [get(f"/networks/{one}?verbose=true") for one in overlays]
    answers = (yield asked) if asked else []
    detailed = {
        one: answer.data["json"]
        for one, answer in zip(overlays, answers, strict=True)
        if answer.data is not None and answer.data["status"] == 200
    }
    return tuple(network(detailed.get(row.get("Id"), row)) for row in rows)


def _containers(rows: Sequence[Mapping[str, Any]], get: Callable[[str], Request]) -> Gather[tuple[Container, ...]]:
    running = [row["Id"] for row in rows if row.get("State") == "running" and row.get("Id")][:_INSPECTED]
    answers = (yield [get(f"/containers/{one}/json") for one in running]) if running else []
    inspected = {
        one: answer.data["json"]
        for one, answer in zip(running, answers, strict=True)
        if answer.data is not None and answer.data["status"] == 200
    }
    return tuple(container(row, inspected.get(row.get("Id"))) for row in rows)


def _engine(
    about: Mapping[str, Any],
    info: Mapping[str, Any],
    networks: tuple[Network, ...],
    containers: tuple[Container, ...],
    rows: Sequence[Sequence[Mapping[str, Any]]],
    *,
    is_manager: bool,
    root: str,
    files: Answer,
) -> Engine:
    entries = files.data["entries"] if files.data is not None else []
    return Engine(
        version=str(about.get("Version", "")),
        api_version=str(about.get("ApiVersion", "")),
        root_directory=root,
        storage_driver=str(info.get("Driver", "")),
        name=str(info.get("Name", "")),
        system_time_s=unix_s(info.get("SystemTime")),
        architecture=str(info.get("Architecture", "")),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        rootless=any("rootless" in str(option) for option in info.get("SecurityOptions") or ()),
        firewall_backend=str((info.get("FirewallBackend") or {}).get("Driver", "")),
        http_proxy=str(info.get("HttpProxy") or ""),
        https_proxy=str(info.get("HttpsProxy") or ""),
        no_proxy=str(info.get("NoProxy") or ""),
        default_address_pools=tuple(
            f"{pool.get('Base')} size {pool.get('Size')}" for pool in info.get("DefaultAddressPools") or ()
        ),
        warnings=tuple(str(warning) for warning in info.get("Warnings") or ()),
        swarm=_membership(info.get("Swarm") or {}),
        networks=networks,
        containers=containers,
        images=tuple(image(row) for row in rows[2]),
        cluster=_cluster(rows[3:]) if is_manager else None,
        swarm_files=tuple(entry["name"] for entry in entries if entry["type"] == "file"),
        swarm_files_known=files.data is not None
        or (files.error is not None and files.error.kind is AbsenceKind.MISSING),
    )


def _cluster(rows: Sequence[Sequence[Mapping[str, Any]]]) -> Cluster:
    nodes, services, tasks = rows
    names = {str(row.get("ID")): str((row.get("Spec") or {}).get("Name", "")) for row in services}
    return Cluster(
        nodes=tuple(node(row) for row in nodes),
        services=tuple(service(row) for row in services),
        tasks=tuple(task(row, names) for row in tasks),
    )


def _membership(swarm: Mapping[str, Any]) -> SwarmMembership:
    state = str(swarm.get("LocalNodeState") or "")
    cluster = swarm.get("Cluster") or {}
    port = cluster.get("DataPathPort")
    return SwarmMembership(
        state=SwarmState(state) if state in {one.value for one in SwarmState} else SwarmState.UNKNOWN,
        node_id=str(swarm.get("NodeID") or ""),
        node_address=str(swarm.get("NodeAddr") or ""),
        is_manager=bool(swarm.get("ControlAvailable")),
        error=str(swarm.get("Error") or ""),
        remote_managers=tuple(str(one.get("Addr", "")) for one in swarm.get("RemoteManagers") or ()),
        cluster_id=str(cluster.get("ID") or ""),
        # The API says 0 for the default (moby daemon/cluster), and nothing at all on workers.
        data_path_port=(port or 4789) if cluster.get("ID") else None,
        default_address_pools=tuple(str(pool) for pool in cluster.get("DefaultAddrPool") or ()),
        subnet_size=cluster.get("SubnetSize") or None,
        managers=swarm.get("Managers") or None,
        nodes=swarm.get("Nodes") or None,
    )
