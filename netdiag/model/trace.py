"""One packet's way through the packet filters, as the kernel told it."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.facts import HOST
from netdiag.model.firewall import FirewallRule
from netdiag.model.level import Level
from netdiag.model.report import Confidence

SCHEMA = "netdiag/trace/1"


class TraceKind(enum.Enum):
    """What an event tells of."""

    RULE = "rule"
    POLICY = "policy"
    RETURN = "return"


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends to whom, as one place on the way sees it; ports are None where the protocol has none."""

    source: str
    destination: str
    source_port: int | None = None
    destination_port: int | None = None


class TraceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        verdict: In nft's words.
        target: The chain of a jump or goto.
        endpoints: The packet's addresses at this moment; only the first event of a base chain tells them.
        protocol: The number of its transport protocol, where ``endpoints`` are told.
        in_index: Interface index of the device that it came in by; 0 where it has none (yet).
        out_index: The same of the device that it leaves by.
        id: The kernel's number for the packet at this moment; it changes on the way, and is used again for others.
    """

    family: str
    table: str
    chain: str
    kind: TraceKind
    handle: int | None = None
    verdict: str = "continue"
    target: str = ""
    endpoints: Endpoints | None = None
    protocol: int | None = None
    in_index: int = 0
    out_index: int = 0
    id: int = 0


class TraceVerdict(enum.Enum):
    """What became of the packet."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    UNKNOWN = "unknown"


class TracePath(enum.Enum):
    """Which way the packet meets this host."""

    IN = "in"
    FORWARD = "forward"
    OUT = "out"


class TraceStep(msgspec.Struct, frozen=True, kw_only=True):
    """One rule or policy that had a say.

    Attributes:
        hook: The hook at which the packet was, as nft names it; empty where the listing does not tell.
        rule: The rule, or the chain's policy where ``rule.policy`` is set.
        verdict: What it said, as nft names it.
        packets: The rule's or policy's counter before this packet; None where it does not count.
    """

    hook: str
    rule: FirewallRule
    verdict: str
    packets: int | None = None


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """What address translation made of the packet; ``rule`` is None where the kernel did it without telling which."""

    before: Endpoints
    after: Endpoints
    rule: FirewallRule | None = None


class TracedPacket(msgspec.Struct, frozen=True, kw_only=True):
    """The packet that was sent, or waited for; None or empty where it has no such field, or the kernel chose.

    Attributes:
        namespace: Whose filters it met: ``host``, ``container:NAME`` or ``overlay:NETWORK``.
        in_device: The device that it arrives on; empty when this namespace sends it.
        out_device: The device that it leaves by; empty when it is for this namespace.
        mac: The source address of its frame, for a packet that arrives.
        vxlan: It carried a VXLAN header.
    """

    path: TracePath
    namespace: str = HOST
    in_device: str = ""
    out_device: str = ""
    source: str
    destination: str
    protocol: str
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    tcp_flags: str | None = None
    ttl: int | None = None
    length: int | None = None
    mac: str | None = None
    vxlan: bool = False


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``netdiag firewall trace``.

    Attributes:
        rule: The rule that decided; None where a policy did, or where nothing is known.
        policy: The chain whose policy decided.
        confidence: How sure the verdict is: proven by the kernel's word for this packet, or less.
        path: Every rule and policy that had a say, in the packet's order.
        nat: Every rewriting of its addresses on the way.
        reason: Why it is not known, or what the answer does not cover; empty otherwise.
        level: How it was found out; see `netdiag facts level`.
        elapsed_ms: From sending to the rule's name.
    """

    schema: str = SCHEMA
    verdict: TraceVerdict
    rule: FirewallRule | None
    policy: FirewallRule | None
    confidence: Confidence
    path: tuple[TraceStep, ...]
    nat: tuple[Rewrite, ...] = ()
    level: Level
    elapsed_ms: float | None
    reason: str
    packet: TracedPacket
