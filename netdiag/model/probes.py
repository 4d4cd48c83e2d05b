"""Observations: what probes sent from this host came back with.

A probe that was not made is None in the struct that would hold it; one that was made and failed says how.
"""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.facts import Absence
from netdiag.model.firewall import FirewallRule, Packet
from netdiag.model.icmp import IcmpError
from netdiag.model.trace import Trace
from netdiag.model.two_sided import PeerView


class TcpOutcome(enum.Enum):
    """How a TCP connection attempt ended, told apart by what came back, not by errno alone."""

    CONNECTED = "connected"
    RESET = "reset"
    """A RST: nobody listens there, or a filter answers with tcp-reset."""
    ICMP = "icmp"
    """An ICMP error came back; see its type and code (RFC 792, RFC 1812 §5.2.7.1)."""
    SILENT = "silent"
    """Nothing came back at all."""
    NO_ROUTE = "no-route"
    """This host itself has no usable route, or its neighbour did not answer ARP/ND."""
    LOCAL_DENIED = "local-denied"
    """This host's own kernel refused to send (EPERM, EACCES)."""


class TcpProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One connection attempt. ``connect_us`` is the time to the handshake's end, or to the error."""

    address: str
    port: int
    outcome: TcpOutcome
    source: str = ""
    """Local address that routing chose."""
    icmp: IcmpError | None = None
    connect_us: int | None = None
    waited_s: float = 0.0
    error: str = ""


class TlsOutcome(enum.Enum):
    """How a TLS handshake (unverified) ended."""

    HANDSHAKE = "handshake"
    NOT_TLS = "not-tls"
    """Something answered that is not TLS."""
    ALERT = "alert"
    """TLS, but the peer ended the handshake."""
    SILENT = "silent"
    """Connected, the hello was sent, and nothing came back in time."""
    CLOSED = "closed"


class TlsProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An unverified TLS handshake. ``leaf_der`` is the certificate that the peer showed."""

    outcome: TlsOutcome
    version: str = ""
    alpn: str = ""
    leaf_der: bytes = b""
    first_bytes: bytes = b""
    """What a peer that does not speak TLS said first (at most 64 bytes)."""
    error: str = ""
    handshake_us: int | None = None


class CaOutcome(enum.Enum):
    """How the unauthenticated root-CA call of swarmkit ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """gRPC answered with an error status."""
    NOT_GRPC = "not-grpc"
    SILENT = "silent"


class CaProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """swarmkit's unauthenticated ``GetRootCACertificate``; ``root_pem`` is the bundle exactly as it came."""

    outcome: CaOutcome
    root_pem: bytes = b""
    grpc_status: int | None = None
    message: str = ""


class SizeOutcome(enum.Enum):
    """What became of one packet of a given size with DF set."""

    ANSWERED = "answered"
    SILENT = "silent"
    TOO_BIG = "too-big"
    """ICMP "fragmentation needed" / "packet too big" came back: the path says so, as it should."""
    LOCAL = "local"
    """This host's own kernel refused: larger than the device's or the route's MTU."""


class SizeProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One ICMP echo of ``size_bytes`` (whole IP packet) with DF set."""

    size_bytes: int
    outcome: SizeOutcome
    attempts: int = 1
    mtu_bytes: int | None = None
    sender: str = ""
    rtt_us: int | None = None


class PathSizes(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A sweep of sizes toward one peer; meaningless without its control (the smallest echo must be answered)."""

    peer: str
    device: str
    device_mtu_bytes: int
    control_answered: bool
    sizes: tuple[SizeProbe, ...] = ()
    largest_answered_bytes: int | None = None
    smallest_lost_bytes: int | None = None
    icmp_came: bool = False


class HelloProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Two TLS hellos on fresh connections: one small, one padded beyond a segment of the device's MTU."""

    small_answered: bool
    padded_answered: bool
    padded_bytes: int
    largest_segment_bytes: int
    """MSS that the connection used: what one segment could carry."""


class RouteChoice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the kernel's own lookup says for one destination; ``absent`` when it has no route."""

    source: str = ""
    device: str = ""
    gateway: str = ""
    mtu_bytes: int | None = None
    absent: Absence | None = None


class ManagerProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything that was asked of one manager. ``given`` is as the operator typed it."""

    given: str
    address: str = ""
    port: int = 2377
    unresolved: str = ""
    """Why the name did not resolve; empty when it did."""
    route: RouteChoice | None = None
    tcp: TcpProbe | None = None
    tls: TlsProbe | None = None
    ca: CaProbe | None = None
    sizes: PathSizes | None = None
    hello: HelloProbe | None = None


class RegistryProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Whether the engine could obtain an image: the registry's answer through the engine's distribution call."""

    image: str
    obtainable: bool | None
    """None when the engine could not say."""
    architectures: tuple[str, ...] = ()
    error: str = ""


class MovedCounter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A rule (or a chain's policy) that drops and whose counter moved with a burst of probes, and by exactly as many."""

    rule: FirewallRule
    packets: int
    """By how many packets it moved."""
    port: int
    """Destination port of the burst."""
    address: str
    """Destination address of the burst."""


class TracedFlow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the kernel said of the first packet of one new flow at this host's own filters.

    Attributes:
        packet: As a check asks about it; what it left open is filled in the trace's own packet.
        trace: None when no packet was sent.
        why_not: Why none was sent; empty when one was.
        would_load: It was not sent only because that would have loaded a kernel module.
    """

    packet: Packet
    trace: Trace | None = None
    why_not: str = ""
    would_load: bool = False


class Observations(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """All that a one-sided preflight asked the network."""

    managers: tuple[ManagerProbe, ...] = ()
    registry: tuple[RegistryProbe, ...] = ()
    moved: tuple[MovedCounter, ...] = ()
    moved_known: bool = False
    """Whether counters could be read before and after."""
    traced: tuple[TracedFlow, ...] = ()
    """Flows whose first packet was traced through this host's filters, or was to be."""
    peers: tuple[PeerView, ...] = ()
    """What was found out together with each peer that was named."""
