"""One packet's way through the packet filters, as the kernel told it."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.firewall import FirewallRule

SCHEMA = "netdiag/trace/1"


class TraceKind(enum.Enum):
    """What an event tells of."""

    RULE = "rule"
    POLICY = "policy"
    RETURN = "return"


class TraceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. ``verdict`` in nft's words; ``target`` is the chain of a jump or goto."""

    family: str
    table: str
    chain: str
    kind: TraceKind
    handle: int | None = None
    verdict: str = "continue"
    target: str = ""


class TraceVerdict(enum.Enum):
    """What became of the packet."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    UNKNOWN = "unknown"


class TracePath(enum.Enum):
    """Which way the packet meets this host."""

    IN = "in"
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


class TracedPacket(msgspec.Struct, frozen=True, kw_only=True):
    """The packet that was sent; None where its protocol has no such field, or the kernel chose."""

    path: TracePath
    device: str
    source: str
    destination: str
    protocol: str
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    tcp_flags: str | None = None
    ttl: int | None = None
    length: int | None = None


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``netdiag firewall trace``.

    Attributes:
        rule: The rule that decided; None where a policy did, or where nothing is known.
        policy: The chain whose policy decided.
        reason: Why it is not known; empty otherwise.
        level: How it was found out; a `netdiag.facts.level.Level`.
        elapsed_ms: From sending to the rule's name.
    """

    schema: str = SCHEMA
    verdict: TraceVerdict
    rule: FirewallRule | None
    policy: FirewallRule | None
    path: tuple[TraceStep, ...]
    level: str
    elapsed_ms: float | None
    reason: str
    packet: TracedPacket
