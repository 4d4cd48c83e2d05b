"""What a check of a rule set is, what it is given, and how it says what it found."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from netdiag.firewall.lint_order import Order
from netdiag.firewall.netfilter.rules import Rule
from netdiag.firewall.standing import Standing, StandingTable
from netdiag.model.firewall import Owner
from netdiag.model.firewall_lint import RulePlace, Severity

T = TypeVar("T")
SHOWN = 8
"""Places that one finding names."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Packets that have to come in, and why.

    Attributes:
        label: As operators write it: "udp/4789".
        port: None for a protocol without ports.
        purpose: What travels there.
        meant: Whether it is known that this host is there for them; else only what is written tells.
        peers: Addresses from which they come, where known.
        device: The device that they arrive on; empty where that is not known.
        destination: Which of this host's addresses they are for; empty where that is not known.
        only_there: Whether nothing else has this port: a rule that names it means these packets.
    """

    label: str
    protocol: str
    port: int | None
    purpose: str
    meant: bool = False
    peers: tuple[str, ...] = ()
    device: str = ""
    destination: str = ""
    only_there: bool = False


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of a check; ``remedy`` where it is another than the check's own."""

    summary: str
    places: tuple[RulePlace, ...] = ()
    severity: Severity = Severity.WARNING
    remedy: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Rules of one table that no packet meets, all because of one rule; the same is said of them.

    Attributes:
        kind: The check that says it.
        by: The rule that takes their packets; None where the rules that lead to their chain leave nothing.
    """

    kind: str
    table: StandingTable
    rules: tuple[tuple[str, Rule], ...]
    by_chain: str
    by: Rule | None
    differs: bool
    """Whether it does something else with a packet than they would."""


class Context:
    """A rule set, and what several checks need to know of it."""

    def __init__(self, standing: Standing, needs: Sequence[Need] = ()) -> None:
        """Take both; nothing is computed before a check asks."""
        self.standing = standing
        self.needs = tuple(needs)
        self._made: dict[object, object] = {}

    def once(self, make: Callable[[Standing], T]) -> T:
        """What several checks make of the rule set, made once."""
        if make not in self._made:
            self._made[make] = make(self.standing)
        return cast("T", self._made[make])

    @functools.cached_property
    def orders(self) -> Mapping[int, Order]:
        """The order of each table's rules, by the table's place in the rule set."""
        whole = [(at, table) for at, table in enumerate(self.standing.tables) if not table.table.missing]
        return {at: Order(table) for at, table in whole}

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """All rules that no packet meets and in which an operator has a hand."""
        from netdiag.firewall.lint_groups import groups_of

        return tuple(group for at, order in self.orders.items() for group in groups_of(self.standing.tables[at], order))

    @functools.cached_property
    def idle(self) -> frozenset[tuple[int, str, int]]:
        """The rules of those groups, by table (its identity), chain and number."""
        return frozenset((id(group.table), chain, rule.number) for group in self.groups for chain, rule in group.rules)

    @property
    def bounded(self) -> tuple[str, ...]:
        """What of the order was looked at only in part."""
        return tuple(
            f"{table.backend} {table.name} {chain}: too many rules ask alike, and not all were compared with each other"
            for at, order in self.orders.items()
            for table in (self.standing.tables[at],)
            for chain in order.bounded
        )


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A check: its stable id, what it looks at, why that matters, what to do, and the function that looks.

    ``severities`` are those that its findings may have, the worst first.
    """

    id: str
    title: str
    explains: str
    remedy: str
    severities: tuple[Severity, ...]
    run: Callable[[Context], Iterator[Found]]


def is_operators(table: StandingTable, chain: str, rule: Rule) -> bool:
    """Whether somebody wrote it by hand, as far as its place and form tell."""
    return table.attributed(chain, rule).owner is Owner.OPERATOR
