"""Facts: one host's state at one moment, section by section.

A section that could not be read is *absent with its reason*, never empty. Sections that exist once per network
namespace map a namespace id to its value; a namespace that alone could not be read is in ``partial``.

Namespace ids: ``host``, ``container:NAME``, ``overlay:NETWORK`` (the overlay sandbox), ``lb:NETWORK`` (the load
balancer's sandbox), ``ingress`` and ``netns:NAME`` for what nobody claims.

Addresses and prefixes are text in canonical form ("10.0.0.1", "10.0.0.0/24"); they are parsed where they are compared.
"""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeVar

import msgspec

from netdiag.model.engine import Engine, EngineLog

SCHEMA = "netdiag/facts/1"
HOST = "host"
"""The id of the host's own network namespace."""

T = TypeVar("T")


class AbsenceKind(enum.Enum):
    """Why a fact is not there."""

    PERMISSION = "permission"
    MISSING = "missing"
    """What would tell does not exist on this host (no such file, tool or service)."""
    TIMEOUT = "timeout"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    NOT_PROBED = "not-probed"
    WITHHELD = "withheld"
    """Asking would have changed the host (a module would be loaded)."""


class Absence(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a section, or one namespace of it, could not be read; one line that names what was tried."""

    kind: AbsenceKind
    text: str


class Section(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True, kw_only=True):
    """One section: its value, or why there is none; and how long reading it took."""

    value: T | None = None
    absent: Absence | None = None
    partial: dict[str, Absence] = msgspec.field(default_factory=dict)
    duration_s: float = 0.0


# --- the host itself -------------------------------------------------------------------------------------------------


class Identity(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who this host is. ``machine_id`` and ``boot_id`` may be empty; neither is unique for sure (cloned images)."""

    hostname: str
    machine_id: str = ""
    boot_id: str = ""
    kernel_release: str = ""
    architecture: str = ""
    distribution_id: str = ""
    """ID of os-release: debian, ubuntu, centos …"""
    distribution_version: str = ""
    distribution_name: str = ""
    dmi_vendor: str = ""
    dmi_product: str = ""
    uptime_s: float | None = None
    is_root: bool = False
    python: str = ""


class Clock(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """This host's clock. ``synchronised`` is what the kernel says (adjtimex), None when it does not say."""

    unix_s: float
    synchronised: bool | None = None
    estimated_error_us: int | None = None


class FeatureState(enum.Enum):
    """How a kernel feature is there."""

    BUILTIN = "builtin"
    LOADED = "loaded"
    LOADABLE = "loadable"
    """A module on disk for this kernel; nothing has loaded it."""
    MISSING = "missing"
    UNKNOWN = "unknown"


class Feature(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One kernel feature and the evidence for its state ("CONFIG_VXLAN=y in /proc/config.gz")."""

    name: str
    state: FeatureState
    evidence: str


class Kernel(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Kernel features by their name in `netdiag.facts.features`: vxlan, bridge, veth, ip_vs, xt_addrtype and so on."""

    features: dict[str, Feature]
    taints: str = ""


class Nic(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A physical or virtual NIC of the host as its driver shows it; ``offloads`` by ethtool feature name."""

    name: str
    driver: str = ""
    offloads: dict[str, bool] = msgspec.field(default_factory=dict)


# --- per network namespace -------------------------------------------------------------------------------------------


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A network namespace in use; ``path`` is what setns takes on that host, ``owner`` a container or network."""

    id: str
    path: str
    inode: int
    owner: str = ""
    owner_id: str = ""
    pids: tuple[int, ...] = ()


class Vxlan(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A VXLAN device. ``port`` is the UDP destination port; ``local`` and ``group`` are addresses or empty."""

    vni: int
    port: int
    local: str = ""
    group: str = ""
    learning: bool = False
    proxy: bool = False
    l2miss: bool = False
    l3miss: bool = False
    ageing_s: int | None = None
    udp_checksum: bool | None = None
    external: bool = False
    """Metadata mode (collect_md): one device for all VNIs, as OVS and Cilium use it."""


class LinkStats(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Counters of a device since it exists."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    rx_otherhost: int = 0
    """Frames for other stations, which the stack leaves alone; 0 where the kernel does not tell."""


class Link(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A network device. ``kind`` is the rtnl link kind ("veth", "bridge", "vxlan", "" for a plain NIC)."""

    index: int
    name: str
    kind: str = ""
    mtu_bytes: int = 0
    mac: str = ""
    up: bool = False
    """IFF_UP: administratively up."""
    operstate: str = ""
    """RFC 2863 state as the kernel names it: up, down, lowerlayerdown, dormant, unknown …"""
    loopback: bool = False
    promiscuous: bool = False
    master: int | None = None
    peer_index: int | None = None
    peer_netnsid: int | None = None
    vxlan: Vxlan | None = None
    xdp_mode: str = ""
    """Empty without an XDP program; else generic, driver, offloaded or multi."""
    xdp_program_id: int | None = None
    stats: LinkStats | None = None


class Address(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An address of a device, ``cidr`` with its prefix length."""

    device: str
    cidr: str
    scope: str = "global"
    secondary: bool = False
    peer: str = ""


class NextHop(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where a route leads: gateway (empty when on the link), device (empty for blackhole and its kin), weight."""

    gateway: str = ""
    device: str = ""
    weight: int = 1
    onlink: bool = False


class Route(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A route.

    ``type`` is unicast, local, blackhole, unreachable, prohibit or throw; the default's destination is "0.0.0.0/0".
    """

    destination: str
    table: int = 254
    type: str = "unicast"
    protocol: str = ""
    scope: str = ""
    metric: int = 0
    source: str = ""
    """Preferred source address (``src``)."""
    mtu_bytes: int | None = None
    next_hops: tuple[NextHop, ...] = ()


class PolicyRule(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A routing policy rule; empty fields match everything."""

    priority: int
    family: int
    """4 or 6."""
    source: str = ""
    destination: str = ""
    in_device: str = ""
    out_device: str = ""
    mark: int | None = None
    mask: int | None = None
    table: int = 0
    action: str = "lookup"
    invert: bool = False


class Neighbour(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An ARP or ND entry; ``states`` in the kernel's words: reachable, stale, failed, permanent, incomplete."""

    device: str
    address: str
    mac: str = ""
    states: tuple[str, ...] = ()
    proxy: bool = False


class FdbEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A bridge or VXLAN forwarding entry. ``on_master`` marks the bridge's own learned row (no VTEP)."""

    device: str
    mac: str
    vtep: str = ""
    vlan: int | None = None
    states: tuple[str, ...] = ()
    on_self: bool = False
    on_master: bool = False


TCX = "tcx"
"""The kind of a program at TCX: it stands before the classic filters of its hook, and no counter of theirs counts it."""


class TcFilter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A traffic-control filter or an ingress/clsact hook that can drop before netfilter."""

    device: str
    parent: str
    """ingress, egress, or the qdisc's handle."""
    kind: str
    priority: int = 0
    protocol: str = ""
    detail: str = ""


class Backend(enum.Enum):
    """Which of the kernel's packet filters a text describes."""

    NFT_NATIVE = "nft-native"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"
    IPSET = "ipset"


class RuleSet(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The raw text of a running rule set with counters, and the SHA-256 of that text without counters."""

    backend: Backend
    family: int
    """4 or 6; 0 where one text holds both (nft, ipset)."""
    text: str
    sha256: str
    json: str = ""
    """The same rules of nft's as ``nft -j list ruleset`` tells them; empty where it did not."""


class SavedRules(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Rules that a boot or a reload would install. ``source`` names the mechanism (firewalld, iptables.service, …)."""

    source: str
    path: str
    text: str


class FirewallService(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A program that owns rules (firewalld, ufw, …): whether it is installed and whether it is active now."""

    name: str
    active: bool | None
    evidence: str


class FirewallBoot(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Whether a service that loads rules starts at boot; None where nothing tells."""

    name: str
    enabled: bool | None
    evidence: str


class FirewallSaved(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is saved on disk, which programs would act on it, and which services load rules at boot."""

    rules: tuple[SavedRules, ...] = ()
    services: tuple[FirewallService, ...] = ()
    boot: tuple[FirewallBoot, ...] = ()


class Socket(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A listening (tcp) or bound (udp) socket. ``process`` is empty for a kernel socket or without permission."""

    protocol: str
    address: str
    port: int
    inode: int = 0
    pid: int | None = None
    process: str = ""
    queue: int | None = None
    backlog: int | None = None


class Conntrack(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Totals of the connection-tracking table; None where the kernel does not say."""

    count: int | None = None
    maximum: int | None = None
    insert_failed: int | None = None
    dropped: int | None = None
    early_drop: int | None = None


# --- Calico and BIRD -------------------------------------------------------------------------------------------------


class Calico(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What this host says of Calico: where its datastore is and what the datastore held, raw keys to values."""

    endpoints: tuple[str, ...] = ()
    configured_by: str = ""
    version: str = ""
    """v1 (etcd v2 keys) or v3 (etcd v3 resources)."""
    keys: dict[str, Any] = msgspec.field(default_factory=dict)


class BirdProtocol(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A row of BIRD's ``show protocols``."""

    name: str
    protocol: str
    table: str
    state: str
    since: str
    info: str = ""


class Bird(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A running BIRD and its protocols."""

    version: str
    socket: str
    protocols: tuple[BirdProtocol, ...] = ()


# --- the whole -------------------------------------------------------------------------------------------------------


def _absent() -> Absence:
    return Absence(kind=AbsenceKind.NOT_PROBED, text="not collected")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One host's state at one moment; every section on its own."""

    schema: str = SCHEMA
    collected_s: float
    """Unix time on this host when collection began."""
    duration_s: float = 0.0
    identity: Section[Identity] = Section(absent=_absent())
    clock: Section[Clock] = Section(absent=_absent())
    kernel: Section[Kernel] = Section(absent=_absent())
    nics: Section[tuple[Nic, ...]] = Section(absent=_absent())
    namespaces: Section[dict[str, Namespace]] = Section(absent=_absent())
    links: Section[dict[str, tuple[Link, ...]]] = Section(absent=_absent())
    addresses: Section[dict[str, tuple[Address, ...]]] = Section(absent=_absent())
    routes: Section[dict[str, tuple[Route, ...]]] = Section(absent=_absent())
    rules: Section[dict[str, tuple[PolicyRule, ...]]] = Section(absent=_absent())
    neighbours: Section[dict[str, tuple[Neighbour, ...]]] = Section(absent=_absent())
    fdb: Section[dict[str, tuple[FdbEntry, ...]]] = Section(absent=_absent())
    tc: Section[dict[str, tuple[TcFilter, ...]]] = Section(absent=_absent())
    sysctls: Section[dict[str, dict[str, str]]] = Section(absent=_absent())
    firewall: Section[dict[str, tuple[RuleSet, ...]]] = Section(absent=_absent())
    firewall_saved: Section[FirewallSaved] = Section(absent=_absent())
    sockets: Section[dict[str, tuple[Socket, ...]]] = Section(absent=_absent())
    conntrack: Section[dict[str, Conntrack]] = Section(absent=_absent())
    engine: Section[Engine] = Section(absent=_absent())
    engine_log: Section[EngineLog] = Section(absent=_absent())
    calico: Section[Calico] = Section(absent=_absent())
    bird: Section[Bird] = Section(absent=_absent())


SECTIONS: tuple[str, ...] = tuple(
    field for field in Facts.__struct_fields__ if field not in {"schema", "collected_s", "duration_s"}
)
"""The names of all sections, in the order in which they are shown."""
