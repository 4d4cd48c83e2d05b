"""The typed model of a rule set: tables, chains, rules, matches and targets."""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec

from netdiag.firewall.netfilter.skb import Host, Skb, Truth, Unknown

HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
HOOKS_OF = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": HOOKS,
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The base chains of each of iptables' tables (net/ipv4/netfilter/iptable_*.c)."""


class Match(Protocol):
    """One condition of a rule."""

    def holds(self, skb: Skb, host: Host) -> Truth:
        """Whether the packet meets it."""
        ...


class NotUnderstood(msgspec.Struct, frozen=True, gc=False):
    """A condition that is kept, and about which nothing can be said."""

    reason: str

    def holds(self, skb: Skb, host: Host) -> Truth:  # noqa: ARG002 - as Match wants it
        """It cannot be told."""
        return Unknown(self.reason)


class Verdict(enum.Enum):
    """What becomes of a packet."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    UNKNOWN = "unknown"


class Decide(msgspec.Struct, frozen=True, gc=False):
    """A target that ends a packet's way through its table."""

    verdict: Verdict
    reason: str = ""
    """Why it is not known."""


class Return(msgspec.Struct, frozen=True, gc=False):
    """Back to the chain that called, or to the policy."""


class Jump(msgspec.Struct, frozen=True, gc=False):
    """On to a chain, and back behind this rule unless it is a goto."""

    chain: str
    goto: bool = False


class Pass(msgspec.Struct, frozen=True, gc=False):
    """A target that changes nothing that a rule asks for, or no target at all."""

    name: str = ""


class Changing(msgspec.Struct, frozen=True):
    """A target behind which the packet is another, and goes on."""

    def change(self, skb: Skb) -> Skb:
        """The packet behind it."""
        raise NotImplementedError


class Translating(msgspec.Struct, frozen=True):
    """A target of the table nat that rewrites addresses and ends the packet's way through that table."""

    def may_lead_to(self, skb: Skb) -> bool:
        """Whether a packet may have its destination from here."""
        raise NotImplementedError

    def translate(self, skb: Skb, host: Host) -> Skb:
        """The packet behind it."""
        raise NotImplementedError


Target = Decide | Return | Jump | Pass | Changing | Translating


class Rule(msgspec.Struct, frozen=True, gc=False):
    """One rule: its text, place, counters and comment, what it asks for and what it does."""

    text: str
    number: int
    line_number: int
    matches: tuple[Match, ...]
    target: Target
    packets: int | None = None
    bytes: int | None = None
    comment: str = ""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain; ``policy`` is None for a user-defined one, and for a base chain of which the text does not say it."""

    name: str
    policy: str | None
    rules: tuple[Rule, ...] = ()
    packets: int | None = None
    bytes: int | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table. ``missing`` says why some of its rules are not known at all; ``cut_off``, why its end is not."""

    name: str
    chains: dict[str, Chain]
    missing: str = ""
    cut_off: str = ""


class Problem(msgspec.Struct, frozen=True):
    """A line that was not understood, or cannot be loaded, and why."""

    line_number: int
    text: str
    reason: str = "not understood"

    def said(self) -> str:
        """In a line."""
        return f"line {self.line_number}: {self.reason}: {self.text}"


class TableSet(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of one family, as one variant of iptables keeps them."""

    family: int
    tables: dict[str, Table]
    problems: tuple[Problem, ...] = ()
    backend: str = "iptables"
