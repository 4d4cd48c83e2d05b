"""Rules that no packet meets, put together by the rule that takes their packets."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.firewall.lint_context import Group, is_operators
from netdiag.firewall.lint_covers import demands, is_kept, is_mutable
from netdiag.firewall.lint_order import Order, Taken
from netdiag.firewall.netfilter.kernel import Bucket
from netdiag.firewall.netfilter.rules import Changing, Decide, Jump, NotUnderstood, Return, Rule
from netdiag.firewall.standing import StandingTable

DUPLICATE, BEHIND, SHADOWED, REDUNDANT = "lint.duplicate", "lint.after-verdict", "lint.shadowed", "lint.redundant"


def groups_of(table: StandingTable, order: Order) -> Iterator[Group]:
    """Everything that is to be said of a table's order; what programs do among themselves is left out."""
    copies = {(chain, rule.number): first for chain, rule, first in _copies(table, order)}
    by: dict[tuple[str, str, int | None], list[Taken]] = {}
    for taken in order.taken():
        if (taken.chain, taken.rule.number) in copies and taken.by_chain == taken.chain:
            continue
        key = taken.by_chain if taken.by is not None else taken.chain, *_of(taken, order)
        by.setdefault(key, []).append(taken)
    for (chain, number), first in copies.items():
        rule = table.chains[chain].rules[number - 1]
        if is_operators(table, chain, rule):
            yield Group(kind=DUPLICATE, table=table, rules=((chain, rule),), by_chain=chain, by=first, differs=False)
    for (_, kind, _), all_taken in by.items():
        first_taken = all_taken[0]
        by_operator = first_taken.by is not None and is_operators(table, first_taken.by_chain, first_taken.by)
        concerned = [
            taken
            for taken in all_taken
            if is_operators(table, taken.chain, taken.rule) or (by_operator and kind != REDUNDANT)
        ]
        if concerned:
            yield Group(
                kind=kind,
                table=table,
                rules=tuple((taken.chain, taken.rule) for taken in concerned),
                by_chain=first_taken.by_chain,
                by=first_taken.by,
                differs=kind != REDUNDANT,
            )


def _of(taken: Taken, order: Order) -> tuple[str, int | None]:
    """What is said of it, and because of which rule."""
    if taken.by is None:
        return SHADOWED, None
    if order.outcome(taken.rule) == order.outcome(taken.by):
        return REDUNDANT, taken.by.number
    return SHADOWED if demands(taken.by) else BEHIND, taken.by.number


def _copies(table: StandingTable, order: Order) -> Iterator[tuple[str, Rule, Rule]]:
    """Rules that stand twice in one chain, each with the first."""
    for chain in table.chains.values():
        seen: dict[tuple[object, ...], int] = {}
        for at, rule in enumerate(chain.rules):
            if isinstance(rule.target, Changing) or any(
                isinstance(match, NotUnderstood | Bucket) for match in rule.matches
            ):
                continue  # by chance, by turns or by a rate of its own: two of them do more than one
            # What is not kept of a rule is in its text, with its comment.
            kept = all(map(is_kept, rule.matches)) and isinstance(rule.target, Decide | Return | Jump)
            key = (rule.matches, rule.target) if kept else (rule.text,)
            first = seen.setdefault(key, at)
            if first != at:
                marks_steady, all_steady = order.steady(chain.name, first + 1, at)
                if all_steady and (marks_steady or not any(map(is_mutable, rule.matches))):
                    yield chain.name, rule, chain.rules[first]
