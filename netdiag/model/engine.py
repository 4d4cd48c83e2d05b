"""Facts of a Docker engine: its settings, its swarm, its networks and containers, and what its log says."""

from __future__ import annotations

import enum

import msgspec


class SwarmState(enum.Enum):
    """The engine's ``Swarm.LocalNodeState``."""

    INACTIVE = "inactive"
    PENDING = "pending"
    ACTIVE = "active"
    ERROR = "error"
    LOCKED = "locked"
    UNKNOWN = "unknown"


class SwarmMembership(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What this engine says of its own membership. Cluster fields exist on managers only."""

    state: SwarmState
    node_id: str = ""
    node_address: str = ""
    is_manager: bool = False
    error: str = ""
    remote_managers: tuple[str, ...] = ()
    """``address:port`` of the managers that this node knows."""
    cluster_id: str = ""
    data_path_port: int | None = None
    """None where the engine does not say (workers); 0 in the API means the default, 4789."""
    default_address_pools: tuple[str, ...] = ()
    subnet_size: int | None = None
    managers: int | None = None
    nodes: int | None = None


class ContainerNetwork(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A container's attachment to one network."""

    network: str
    network_id: str = ""
    endpoint_id: str = ""
    address: str = ""
    mac: str = ""
    gateway: str = ""


class Container(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A container of this engine; no environment, no labels but the swarm's own."""

    id: str
    name: str
    image: str = ""
    image_id: str = ""
    running: bool = False
    state: str = ""
    pid: int | None = None
    sandbox_path: str = ""
    networks: tuple[ContainerNetwork, ...] = ()
    network_mode: str = ""
    """As it was started: a network, ``host``, or ``container:ID`` for the namespace of another; empty where unknown."""
    ports: tuple[str, ...] = ()
    """Published ports, ``HOST:PORT->PORT/PROTO``."""
    service: str = ""
    task_id: str = ""


class OverlayPeer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A node that takes part in an overlay, as gossip knows it."""

    name: str
    address: str


class OverlayTask(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A task's endpoint in a verbose network view; ``host_address`` is the VTEP where it lives."""

    service: str
    name: str
    endpoint_id: str
    address: str
    host_address: str = ""


class Network(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A Docker network as this engine sees it."""

    id: str
    name: str
    driver: str
    scope: str
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    encrypted: bool = False
    mtu_bytes: int | None = None
    """The driver option com.docker.network.driver.mtu, when set."""
    vnis: tuple[int, ...] = ()
    bridge: str = ""
    peers: tuple[OverlayPeer, ...] = ()
    tasks: tuple[OverlayTask, ...] = ()
    virtual_addresses: dict[str, str] = msgspec.field(default_factory=dict)
    """Service name to virtual IP."""


class Image(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An image of this engine: every ``name:tag`` it has, its architecture when the engine was asked."""

    id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


class SwarmNode(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A row of the manager's node list."""

    id: str
    hostname: str
    role: str
    state: str
    """ready, down, disconnected or unknown."""
    availability: str
    address: str = ""
    manager_address: str = ""
    reachability: str = ""
    leader: bool = False
    engine_version: str = ""
    message: str = ""
    created_s: float | None = None


class Task(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A swarm task, as the manager knows it."""

    id: str
    service: str
    node_id: str
    state: str
    desired: str
    image: str = ""
    error: str = ""
    slot: int | None = None
    """Its number within the service; None for a global one's."""
    addresses: dict[str, str] = msgspec.field(default_factory=dict)
    """Network id to its address there, with prefix length."""


class Service(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A swarm service. ``replicas`` is None for a global one."""

    id: str
    name: str
    image: str
    replicas: int | None = None
    endpoint_mode: str = "vip"
    published_ports: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


class Cluster(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What only a manager knows; absent as a whole on workers."""

    nodes: tuple[SwarmNode, ...] = ()
    services: tuple[Service, ...] = ()
    tasks: tuple[Task, ...] = ()


class Engine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A Docker engine: version, settings, swarm membership and what it runs. Secrets never enter."""

    version: str
    api_version: str = ""
    root_directory: str = ""
    storage_driver: str = ""
    name: str = ""
    system_time_s: float | None = None
    architecture: str = ""
    live_restore: bool = False
    rootless: bool = False
    firewall_backend: str = ""
    """What the engine says (API 1.49 and later); empty when it does not say."""
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    default_address_pools: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    swarm: SwarmMembership
    networks: tuple[Network, ...] = ()
    containers: tuple[Container, ...] = ()
    images: tuple[Image, ...] = ()
    cluster: Cluster | None = None
    swarm_files: tuple[str, ...] = ()
    """Names (not contents) of files below the engine's swarm directory: leftovers when it is inactive."""
    swarm_files_known: bool = False
    """Whether that directory could be looked at."""


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A line of the engine's log that belongs to a class that netdiag knows (`netdiag.swarm.join_stage`)."""

    unix_s: float | None
    text: str


class EngineLog(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The engine's log of the last hour, reduced to the lines that say something about swarm or networking."""

    source: str
    lines: tuple[LogLine, ...] = ()
