"""Objects of the Docker Engine's API into facts; nothing here knows how they were fetched."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from netdiag.model.engine import (
    Cluster,
    Container,
    ContainerNetwork,
    Engine,
    Image,
    Network,
    OverlayPeer,
    OverlayTask,
    Service,
    SwarmMembership,
    SwarmNode,
    SwarmState,
    Task,
)

_MTU_OPTION = "com.docker.network.driver.mtu"
_VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list"
_BRIDGE_OPTION = "com.docker.network.bridge.name"
_ENGINE_REFUSES_ADDRESS = "<nil>"


def engine(
    version: Mapping[str, Any],
    info: Mapping[str, Any],
    *,
    swarm: SwarmMembership,
    networks: tuple[Network, ...],
    containers: tuple[Container, ...],
    images: tuple[Image, ...],
    cluster: Cluster | None,
    swarm_files: tuple[str, ...],
    swarm_files_known: bool,
) -> Engine:
    """The engine itself, from /version and /info, with what belongs to it."""
    backend = info.get("FirewallBackend")
    return Engine(
        version=_text(version, "Version") or _text(info, "ServerVersion"),
        api_version=_text(version, "ApiVersion"),
        root_directory=_text(info, "DockerRootDir"),
        storage_driver=_text(info, "Driver"),
        name=_text(info, "Name"),
        system_time_s=seconds(_text(info, "SystemTime")),
        architecture=_text(info, "Architecture"),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        rootless=any("rootless" in str(item) for item in info.get("SecurityOptions") or ()),
        firewall_backend=_text(backend, "Driver") if isinstance(backend, dict) else str(backend or ""),
        http_proxy=_text(info, "HttpProxy"),
        https_proxy=_text(info, "HttpsProxy"),
        no_proxy=_text(info, "NoProxy"),
        default_address_pools=tuple(
            f"{pool.get('Base', '')}/{pool.get('Size', '')}" for pool in info.get("DefaultAddressPools") or ()
        ),
        warnings=tuple(str(item) for item in info.get("Warnings") or ()),
        swarm=swarm,
        networks=networks,
        containers=containers,
        images=images,
        cluster=cluster,
        swarm_files=swarm_files,
        swarm_files_known=swarm_files_known,
    )


def membership(info: Mapping[str, Any]) -> SwarmMembership:
    """The engine's own place in a swarm, from /info."""
    swarm = info.get("Swarm") or {}
    cluster = swarm.get("Cluster") or {}
    states = {state.value for state in SwarmState}
    state = _text(swarm, "LocalNodeState")
    return SwarmMembership(
        state=SwarmState(state) if state in states else SwarmState.UNKNOWN,
        node_id=_text(swarm, "NodeID"),
        node_address=_text(swarm, "NodeAddr"),
        is_manager=bool(swarm.get("ControlAvailable")),
        error=_text(swarm, "Error"),
        remote_managers=tuple(_text(item, "Addr") for item in swarm.get("RemoteManagers") or ()),
        cluster_id=_text(cluster, "ID"),
        data_path_port=cluster.get("DataPathPort"),
        default_address_pools=tuple(str(item) for item in cluster.get("DefaultAddrPool") or ()),
        subnet_size=cluster.get("SubnetSize"),
        managers=swarm.get("Managers"),
        nodes=swarm.get("Nodes"),
    )


def network(item: Mapping[str, Any]) -> Network:
    """A network, from the list or (with peers and services) from its own page."""
    options = item.get("Options") or {}
    ipam = [part for part in ((item.get("IPAM") or {}).get("Config") or ()) if isinstance(part, dict)]
    services = item.get("Services") or {}
    mtu = options.get(_MTU_OPTION, "")
    return Network(
        id=_text(item, "Id"),
        name=_text(item, "Name"),
        driver=_text(item, "Driver"),
        scope=_text(item, "Scope"),
        subnets=tuple(_text(part, "Subnet") for part in ipam if part.get("Subnet")),
        gateways=tuple(_text(part, "Gateway") for part in ipam if part.get("Gateway")),
        internal=bool(item.get("Internal")),
        attachable=bool(item.get("Attachable")),
        ingress=bool(item.get("Ingress")),
        encrypted="encrypted" in options,
        mtu_bytes=int(mtu) if str(mtu).isdigit() else None,
        vnis=tuple(int(word) for word in str(options.get(_VNI_OPTION, "")).split(",") if word.strip().isdigit()),
        bridge=_text(options, _BRIDGE_OPTION),
        peers=tuple(OverlayPeer(name=_text(p, "Name"), address=_text(p, "IP")) for p in item.get("Peers") or ()),
        tasks=tuple(
            OverlayTask(
                service=name,
                name=_text(row, "Name"),
                endpoint_id=_text(row, "EndpointID"),
                address=_text(row, "EndpointIP"),
                host_address=_text(row.get("Info") or {}, "Host IP"),
            )
            for name, service_view in sorted(services.items())
            for row in service_view.get("Tasks") or ()
        ),
        virtual_addresses={
            name: view["VIP"]
            for name, view in sorted(services.items())
            if name and view.get("VIP") and view["VIP"] != _ENGINE_REFUSES_ADDRESS
        },
    )


def virtual_addresses(network_id: str, services: list[dict[str, Any]]) -> dict[str, str]:
    """Service name to virtual address in one network, from a manager's services."""
    found: dict[str, str] = {}
    for item in services:
        for row in (item.get("Endpoint") or {}).get("VirtualIPs") or ():
            if row.get("NetworkID") == network_id and row.get("Addr"):
                found[_text(item.get("Spec") or {}, "Name")] = str(row["Addr"]).partition("/")[0]
    return found


def container(item: Mapping[str, Any], details: Mapping[str, Any]) -> Container:
    """A container, from the list and, when it runs, from its own page."""
    labels = item.get("Labels") or {}
    settings = item.get("NetworkSettings") or {}
    pid = (details.get("State") or {}).get("Pid")
    names = item.get("Names") or [""]
    return Container(
        id=_text(item, "Id"),
        name=str(names[0]).removeprefix("/"),
        image=_text(item, "Image"),
        image_id=_text(item, "ImageID"),
        running=item.get("State") == "running",
        state=_text(item, "State"),
        pid=int(pid) if pid else None,
        sandbox_path=_text(details.get("NetworkSettings") or {}, "SandboxKey"),
        networks=tuple(
            ContainerNetwork(
                network=name,
                network_id=_text(end, "NetworkID"),
                endpoint_id=_text(end, "EndpointID"),
                address=_text(end, "IPAddress"),
                mac=_text(end, "MacAddress"),
                gateway=_text(end, "Gateway"),
            )
            for name, end in sorted((settings.get("Networks") or {}).items())
            if isinstance(end, dict)
        ),
        network_mode=_text(item.get("HostConfig") or {}, "NetworkMode"),
        ports=tuple(_port(port) for port in item.get("Ports") or () if port.get("PublicPort")),
        service=_text(labels, "com.docker.swarm.service.name"),
        task_id=_text(labels, "com.docker.swarm.task.id"),
    )


def _port(port: Mapping[str, Any]) -> str:
    address = str(port.get("IP") or "")
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{port['PublicPort']}->{port.get('PrivatePort')}/{port.get('Type', 'tcp')}"


def image(item: Mapping[str, Any]) -> Image:
    """An image; the placeholder of an untagged one is left out."""
    tags = (str(tag) for tag in item.get("RepoTags") or ())
    digests = (str(digest) for digest in item.get("RepoDigests") or ())
    return Image(
        id=_text(item, "Id"),
        tags=tuple(tag for tag in tags if "<none>" not in tag),
        digests=tuple(digest for digest in digests if "<none>" not in digest),
    )


def node(item: Mapping[str, Any]) -> SwarmNode:
    """A row of the manager's node list."""
    spec, status = item.get("Spec") or {}, item.get("Status") or {}
    described, manager = item.get("Description") or {}, item.get("ManagerStatus") or {}
    return SwarmNode(
        id=_text(item, "ID"),
        hostname=_text(described, "Hostname"),
        role=_text(spec, "Role"),
        state=_text(status, "State"),
        availability=_text(spec, "Availability"),
        address=_text(status, "Addr"),
        manager_address=_text(manager, "Addr"),
        reachability=_text(manager, "Reachability"),
        leader=bool(manager.get("Leader")),
        engine_version=_text(described.get("Engine") or {}, "EngineVersion"),
        message=_text(status, "Message"),
        created_s=seconds(_text(item, "CreatedAt")),
    )


def task(item: Mapping[str, Any]) -> Task:
    """A task; ``error`` is the engine's own sentence (No such image …)."""
    status, spec = item.get("Status") or {}, item.get("Spec") or {}
    return Task(
        id=_text(item, "ID"),
        service=_text(item, "ServiceID"),
        node_id=_text(item, "NodeID"),
        state=_text(status, "State"),
        desired=_text(item, "DesiredState"),
        image=_text(spec.get("ContainerSpec") or {}, "Image"),
        error=_text(status, "Err"),
        slot=item.get("Slot"),
        addresses={
            _text(row.get("Network") or {}, "ID"): str(row["Addresses"][0])
            for row in item.get("NetworksAttachments") or ()
            if row.get("Addresses")
        },
    )


def service(item: Mapping[str, Any], networks: Mapping[str, str]) -> Service:
    """A service; ``networks`` names network ids."""
    spec, endpoint = item.get("Spec") or {}, item.get("Endpoint") or {}
    template = spec.get("TaskTemplate") or {}
    replicated = (spec.get("Mode") or {}).get("Replicated")
    attached = template.get("Networks") or spec.get("Networks") or ()
    targets = [_text(part, "Target") for part in attached]
    return Service(
        id=_text(item, "ID"),
        name=_text(spec, "Name"),
        image=_text(template.get("ContainerSpec") or {}, "Image"),
        replicas=replicated.get("Replicas") if isinstance(replicated, dict) else None,
        endpoint_mode=_text(endpoint.get("Spec") or spec.get("EndpointSpec") or {}, "Mode") or "vip",
        published_ports=tuple(
            f"{port.get('PublishedPort')}->{port.get('TargetPort')}/{port.get('Protocol', 'tcp')}"
            + ("" if port.get("PublishMode", "ingress") == "ingress" else " host")
            for port in endpoint.get("Ports") or ()
        ),
        networks=tuple(networks.get(target, target) for target in targets),
    )


def seconds(text: str) -> float | None:
    """Unix seconds of an RFC 3339 time; None for none."""
    try:
        return dt.datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def _text(item: object, key: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    return "" if value is None else str(value)
