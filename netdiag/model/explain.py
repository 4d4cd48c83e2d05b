"""The answer of ``netdiag firewall explain``: what a rule set does with a packet, computed without a kernel."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import Endpoints, TracePath, TraceStep, TraceVerdict

SCHEMA = "netdiag/explain/1"


class Hook(enum.Enum):
    """A place at which netfilter asks its rules."""

    PREROUTING = "PREROUTING"
    INPUT = "INPUT"
    FORWARD = "FORWARD"
    OUTPUT = "OUTPUT"
    POSTROUTING = "POSTROUTING"


class PacketLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The packet that is asked about, with the names of the command's options; what is not said is None.

    Attributes:
        path: None takes it from the hook, else ``in``.
        proto: A name or a number; by default tcp where ports are named, else an echo request.
        icmp_type: A number or one of iptables' names; by default an echo request.
        icmp_code: By default 0 for types that have no other code, else not known.
        state: What conntrack calls it; by default what it calls such a packet of which it knows no flow.
        mark: Its mark before the first rule, decimal or 0x…; by default 0.
        bucket: Whether the buckets of limit and hashlimit are full; by default that is not known.
    """

    path: TracePath | None = None
    hook: str | None = None
    in_device: str | None = msgspec.field(default=None, name="in")
    out_device: str | None = msgspec.field(default=None, name="out")
    source: str | None = msgspec.field(default=None, name="src")
    destination: str | None = msgspec.field(default=None, name="dst")
    proto: str | int | None = None
    sport: int | None = None
    dport: int | None = None
    icmp_type: int | str | None = None
    icmp_code: int | None = None
    tcp_flags: str | None = None
    mac: str | None = None
    ttl: int | None = None
    length: int | None = None
    state: str | None = None
    mark: str | int | None = None
    bucket: Literal["full", "empty"] | None = None


class Dependence(msgspec.Struct, frozen=True, kw_only=True):
    """What the outcome depends on: why it is not known, and the rule where that matters, if it is one."""

    reason: str
    rule: FirewallRule | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the packet.

    Attributes:
        verdict: Unknown where several remain possible, or the rule that decides is not known.
        rule: The rule that decides; None where a policy does, or where it is not known.
        policy: The policy that decides; None where a rule does, no table stands at the hook, or it is not known.
        possible: The verdicts that remain possible.
        depends: The rules on which that depends, and why; empty where the verdict is known.
        path: The rules that match on the way, and policies; of several ways that remain, what all of them meet.
        after: Its addresses behind all rules, where these differ from what was asked about.
        reason: Why it is not known, in a line; empty otherwise.
    """

    schema: str = SCHEMA
    verdict: TraceVerdict
    rule: FirewallRule | None
    policy: FirewallRule | None = None
    possible: tuple[TraceVerdict, ...]
    depends: tuple[Dependence, ...] = ()
    path: tuple[TraceStep, ...] = ()
    after: Endpoints | None = None
    reason: str = ""
