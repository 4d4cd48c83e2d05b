"""The typed model of nft's rule sets: tables, chains, rules and their statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from netdiag.firewall.netfilter.nft.values import Break, NamedSet, Scene
from netdiag.firewall.netfilter.rules import Decide, Jump, Return, Translating
from netdiag.firewall.netfilter.skb import Skb

Said = Decide | Jump | Return | Translating
"""What ends a rule, if its verdict is not to go on."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What a statement may come to: the packet behind it, and whether the rule goes on, breaks off or has a verdict.

    Attributes:
        said: None goes on, `BREAK` does not match.
        doubt: Why it is not known whether it comes to this; empty where it is.
    """

    skb: Skb
    said: Said | Break | None = None
    doubt: str = ""


class Statement(Protocol):
    """One statement of a rule: a match, something that is done, or a verdict."""

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Everything that it may come to."""
        ...

    @property
    def tracks(self) -> bool:
        """Whether a rule with it makes the kernel track connections (nf_ct_netns_get)."""
        ...

    def tracking(self) -> Statement:
        """The same, with that."""
        ...


class NftRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: its text as nft prints it without counters, its number in the chain from 1, its handle and counter."""

    text: str
    number: int
    statements: tuple[Statement, ...]
    handle: int | None = None
    packets: int | None = None
    bytes: int | None = None
    comment: str = ""


class NftChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain; one without a hook is only called.

    Attributes:
        kind: filter, nat or route.
        hook: As `netdiag.firewall.netfilter.rules.HOOKS` has it, or INGRESS or EGRESS.
        policy: ACCEPT or DROP; of a base chain only.
        devices: Of INGRESS and EGRESS; None where they are not told.
    """

    name: str
    rules: tuple[NftRule, ...] = ()
    kind: str = ""
    hook: str = ""
    priority: int = 0
    policy: str | None = None
    devices: frozenset[str] | None = None


class NftTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table with its chains in the order in which they were made. ``missing`` says why some of it is not known."""

    family: str
    name: str
    chains: dict[str, NftChain]
    sets: dict[str, NamedSet] = msgspec.field(default_factory=dict)
    missing: str = ""
    dormant: bool = False

    def bases(self) -> list[NftChain]:
        """The chains that stand at hooks."""
        return [] if self.dormant else [chain for chain in self.chains.values() if chain.hook]

    def tracks(self) -> bool:
        """Whether one of its rules makes the kernel track connections."""
        return bool(self.missing) or any(
            statement.tracks for chain in self.chains.values() for rule in chain.rules for statement in rule.statements
        )


FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6), "netdev": (4, 6), "bridge": (4, 6)}
"""The packets that the chains of each family see; arp sees none of IP."""


def of_family(tables: Iterable[NftTable], family: int) -> list[NftTable]:
    """The tables that see packets of one family."""
    return [table for table in tables if family in FAMILIES.get(table.family, ())]
