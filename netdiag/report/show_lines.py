"""``netdiag firewall show`` for people: a heading for each table and owner, a line for each rule, wrapped to the width."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence

from netdiag.model.firewall import Owner
from netdiag.model.firewall_show import FirewallShow, ShownChain, ShownRule, ShownTable
from netdiag.report.explain_lines import problem_lines
from netdiag.report.trace_lines import wrapped
from netdiag.report.wording import visible_line

_CALLS = 4
"""Callers that are named one by one."""
_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def lines(found: FirewallShow, width: int) -> list[str]:
    """The whole answer, a line each."""
    said: list[str] = []
    for table in found.tables:
        said += [*([""] if said else []), *_table(table, width)]
    if found.sets:
        said += ["", "ipset"]
        for each in found.sets:
            said += wrapped(f"{each.name}  {each.kind}, {each.members} members", width, indent=2)
    if found.problems:
        said += ["", "Not understood, or not read:"]
        for problem in problem_lines(found.problems):
            said += wrapped(problem, width, indent=2)
    return [visible_line(line) for line in said or ["no rules"]]


def _table(table: ShownTable, width: int) -> Iterator[str]:
    file = f"  ({table.file})" if table.file else ""
    yield f"{table.backend} {table.family} {table.name}{file}"
    if table.missing:
        yield from wrapped(f"not all of it is known: {table.missing}", width, indent=2)
    groups = itertools.groupby(table.chains, key=lambda chain: None if chain.hook else chain.owner)
    for owner, chains in groups:
        several = list(chains)
        if owner is not None:
            yield f"  -- chains of {'the operator' if owner is Owner.OPERATOR else owner.value} --"
        empty = [chain.name for chain in several if owner is not None and not chain.rules and not chain.hidden]
        for chain in several:
            if chain.name not in empty:
                yield from _chain(chain, width)
        if empty:
            yield from textwrap.wrap(
                f"without rules: {', '.join(empty)}",
                max(40, width),
                initial_indent="  ",
                subsequent_indent="      ",
                break_long_words=False,
                break_on_hyphens=False,
            )


def _chain(chain: ShownChain, width: int) -> Iterator[str]:
    words = [chain.name]
    if chain.policy is not None:
        counts = f" [{_short(chain.packets)} packets]" if chain.packets is not None else ""
        words.append(f"policy {chain.policy}{counts}")
        words += [f"owner {chain.owner.value}"] if chain.owner is not Owner.OPERATOR else []
    elif chain.hook:
        words.append("policy not said")
    if chain.hook and chain.hook != chain.name:
        words.append(f"at {chain.hook}")
    if not chain.hook:
        words.append(f"from {_callers(chain)}" if chain.called_from else "not called")
    if not chain.rules and not chain.hidden:
        words.append("no rules")
    yield from textwrap.wrap(
        "  ".join(words),
        max(40, width),
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    columns = _columns(chain.rules, of_everybody=bool(chain.hook) or chain.name == "DOCKER-USER")
    for rule, head in zip(chain.rules, columns, strict=True):
        yield from _rule(rule, head, chain.name, width)
    if chain.hidden:
        yield f"    … and {chain.hidden} more"


def _callers(chain: ShownChain) -> str:
    told = [f"{call.chain} {call.number}" for call in chain.called_from[:_CALLS]]
    more = len(chain.called_from) - len(told)
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def _columns(rules: Sequence[ShownRule], *, of_everybody: bool) -> list[str]:
    """Number, counters and, where several write, the owner of each rule, in columns."""
    numbers = [str(rule.number) for rule in rules]
    counts = ["" if rule.packets is None else f"{_short(rule.packets)}/{_short(rule.bytes)}" for rule in rules]
    owners = [rule.owner.value if of_everybody else "" for rule in rules]
    widths = [max(map(len, column), default=0) for column in (numbers, counts, owners)]
    heads = []
    for number, count, owner in zip(numbers, counts, owners, strict=True):
        parts = [number.rjust(widths[0])]
        parts += [count.rjust(widths[1])] if widths[1] else []
        parts += [owner.ljust(widths[2])] if widths[2] else []
        heads.append("    " + "  ".join(parts) + "  ")
    return heads


def _rule(rule: ShownRule, head: str, chain: str, width: int) -> list[str]:
    text = rule.text.removeprefix(f"-A {chain}").strip() or "(counts only)"
    text += f"  ({rule.belongs_to})" if rule.belongs_to and rule.owner is not Owner.OPERATOR else ""
    # A rule is broken between its words only, so that what is copied is still a rule.
    return textwrap.wrap(
        visible_line(text),
        max(60, width),
        initial_indent=head,
        subsequent_indent=" " * (len(head) + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _short(number: int | None) -> str:
    """A count with three digits: 999, 12k, 3.4M."""
    if number is None:
        return "?"
    for size, unit in _UNITS:
        if number >= size:
            scaled = number / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{int(scaled)}{unit}"
    return str(number)
