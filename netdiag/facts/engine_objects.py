"""The objects of the Docker API as facts: networks, containers, images, nodes, services, tasks."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping
from typing import Any

from netdiag.model.facts import (
    Container,
    ContainerNetwork,
    Image,
    Network,
    OverlayPeer,
    OverlayTask,
    Service,
    SwarmNode,
    Task,
)

_MTU = "com.docker.network.driver.mtu"
_VNIS = "com.docker.network.driver.overlay.vxlanid_list"
_BRIDGE = "com.docker.network.bridge.name"

Row = Mapping[str, Any]


def unix_s(stamp: object) -> float | None:
    """Unix time of a time stamp of the API (RFC 3339 with up to nine digits of a second); None when it is none."""
    if not isinstance(stamp, str) or not stamp:
        return None
    try:
        return dt.datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None


def network(row: Row) -> Network:
    """``GET /networks/ID``, verbose or not."""
    options = row.get("Options") or {}
    pools = [pool for pool in (row.get("IPAM") or {}).get("Config") or () if isinstance(pool, dict)]
    services = row.get("Services") or {}
    mtu = str(options.get(_MTU, ""))
    return Network(
        id=str(row.get("Id", "")),
        name=str(row.get("Name", "")),
        driver=str(row.get("Driver", "")),
        scope=str(row.get("Scope", "")),
        subnets=tuple(str(pool["Subnet"]) for pool in pools if pool.get("Subnet")),
        gateways=tuple(str(pool["Gateway"]) for pool in pools if pool.get("Gateway")),
        internal=bool(row.get("Internal")),
        attachable=bool(row.get("Attachable")),
        ingress=bool(row.get("Ingress")),
        encrypted="encrypted" in options,
        mtu_bytes=int(mtu) if mtu.isdigit() else None,
        vnis=tuple(int(one) for one in str(options.get(_VNIS, "")).split(",") if one.isdigit()),
        bridge=str(options.get(_BRIDGE, "")),
        peers=tuple(
            OverlayPeer(name=str(peer.get("Name", "")), address=str(peer.get("IP", "")))
            for peer in row.get("Peers") or ()
        ),
        tasks=tuple(
            OverlayTask(
                service=name,
                name=str(one.get("Name", "")),
                endpoint_id=str(one.get("EndpointID", "")),
                address=str(one.get("EndpointIP", "")),
                host_address=str((one.get("Info") or {}).get("Host IP", "")),
            )
            for name, about in services.items()
            for one in about.get("Tasks") or ()
        ),
        virtual_addresses={
            name: str(about["VIP"]) for name, about in services.items() if about.get("VIP") not in (None, "", "<nil>")
        },
    )


def container(row: Row, inspected: Row | None) -> Container:
    """``GET /containers/json`` with, for a running one, ``GET /containers/ID/json``."""
    settings = ((inspected or row).get("NetworkSettings")) or {}
    state = (inspected or {}).get("State")
    labels = row.get("Labels") or {}
    names = row.get("Names") or [row.get("Id", "")[:12]]
    return Container(
        id=str(row.get("Id", "")),
        name=str(names[0]).lstrip("/"),
        image=str(row.get("Image", "")),
        image_id=str(row.get("ImageID", "")),
        running=row.get("State") == "running",
        state=str(row.get("State", "")),
        pid=(state.get("Pid") or None) if isinstance(state, dict) else None,
        sandbox_path=str(settings.get("SandboxKey") or ""),
        networks=tuple(
            ContainerNetwork(
                network=name,
                network_id=str(one.get("NetworkID") or ""),
                endpoint_id=str(one.get("EndpointID") or ""),
                address=str(one.get("IPAddress") or ""),
                mac=str(one.get("MacAddress") or ""),
                gateway=str(one.get("Gateway") or ""),
            )
            for name, one in (settings.get("Networks") or {}).items()
        ),
        ports=tuple(
            f"{port.get('IP', '')}:{port['PublicPort']}->{port.get('PrivatePort')}/{port.get('Type')}"
            for port in row.get("Ports") or ()
            if port.get("PublicPort")
        ),
        service=str(labels.get("com.docker.swarm.service.name", "")),
        task_id=str(labels.get("com.docker.swarm.task.id", "")),
    )


def image(row: Row) -> Image:
    """A row of ``GET /images/json``; the engine writes ``<none>`` for what has no name."""
    return Image(
        id=str(row.get("Id", "")),
        tags=tuple(str(tag) for tag in row.get("RepoTags") or () if "<none>" not in str(tag)),
        digests=tuple(str(one) for one in row.get("RepoDigests") or () if "<none>" not in str(one)),
    )


def node(row: Row) -> SwarmNode:
    """A row of ``GET /nodes``."""
    spec, status = row.get("Spec") or {}, row.get("Status") or {}
    description, manager = row.get("Description") or {}, row.get("ManagerStatus") or {}
    return SwarmNode(
        id=str(row.get("ID", "")),
        hostname=str(description.get("Hostname") or ""),
        role=str(spec.get("Role", "")),
        state=str(status.get("State", "")),
        availability=str(spec.get("Availability", "")),
        address=_node_address(str(status.get("Addr") or ""), str(manager.get("Addr") or "")),
        manager_address=str(manager.get("Addr") or ""),
        reachability=str(manager.get("Reachability") or ""),
        leader=bool(manager.get("Leader")),
        engine_version=str((description.get("Engine") or {}).get("EngineVersion") or ""),
        message=str(status.get("Message") or ""),
        created_s=unix_s(row.get("CreatedAt")),
    )


def _node_address(status: str, manager: str) -> str:
    """Where a node is. A manager that has not seen itself over the network shows 0.0.0.0 in its status."""
    try:
        unspecified = ipaddress.ip_address(status).is_unspecified
    except ValueError:
        unspecified = True
    return manager.rpartition(":")[0].strip("[]") if unspecified and manager else ("" if unspecified else status)


def service(row: Row) -> Service:
    """A row of ``GET /services``."""
    spec, endpoint = row.get("Spec") or {}, row.get("Endpoint") or {}
    template = spec.get("TaskTemplate") or {}
    replicated = (spec.get("Mode") or {}).get("Replicated")
    return Service(
        id=str(row.get("ID", "")),
        name=str(spec.get("Name", "")),
        image=str((template.get("ContainerSpec") or {}).get("Image", "")),
        replicas=int(replicated.get("Replicas") or 0) if isinstance(replicated, dict) else None,
        endpoint_mode=str((spec.get("EndpointSpec") or {}).get("Mode") or "vip"),
        published_ports=tuple(
            f"{port.get('PublishedPort')}->{port.get('TargetPort')}/{port.get('Protocol')} {port.get('PublishMode')}"
            for port in endpoint.get("Ports") or ()
        ),
        networks=tuple(str(one.get("NetworkID", "")) for one in endpoint.get("VirtualIPs") or ()),
    )


def task(row: Row, service_names: Mapping[str, str]) -> Task:
    """A row of ``GET /tasks``."""
    status, spec = row.get("Status") or {}, row.get("Spec") or {}
    service_id = str(row.get("ServiceID", ""))
    return Task(
        id=str(row.get("ID", "")),
        service=service_names.get(service_id, service_id),
        node_id=str(row.get("NodeID") or ""),
        state=str(status.get("State", "")),
        desired=str(row.get("DesiredState", "")),
        image=str((spec.get("ContainerSpec") or {}).get("Image", "")),
        error=str(status.get("Err") or ""),
    )
