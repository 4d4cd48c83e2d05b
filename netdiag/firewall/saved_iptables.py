"""iptables rules that run against those that a saved file would load, chain by chain."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import SavedChain, SavedRule, SavedTables, nft_family, read_save, split_words
from netdiag.firewall.saved_text import canonical
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule, Owner

_EMPTY = SavedChain(name="", policy=None)
_INSERTS = ("-I", "--insert")


class ChainDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs in one chain: rules that only run, rules that are only saved, and rules that stand elsewhere.

    Rules that are only saved carry the number that they would have in the running chain.
    """

    lost: tuple[FirewallRule, ...] = ()
    returns: tuple[FirewallRule, ...] = ()
    moved: tuple[FirewallRule, ...] = ()


class Policy(msgspec.Struct, frozen=True):
    """A chain's policy that differs: the running one as a rule, and what it becomes."""

    rule: FirewallRule
    becomes: str


def rule_of(
    backend: Backend, family: int, table: str, chain: str, rule: SavedRule, number: int | None = None
) -> FirewallRule:
    """A saved or running rule as every part of netdiag names it."""
    text = rule.text.strip()
    return FirewallRule(
        backend=backend,
        family=nft_family(family),
        table=table,
        chain=chain,
        number=rule.number if number is None else number,
        text=text,
        owner=owner_of(chain, text),
    )


def policy_of(backend: Backend, family: int, table: str, chain: SavedChain) -> FirewallRule:
    """A chain's policy as every part of netdiag names it."""
    return FirewallRule(
        backend=backend,
        family=nft_family(family),
        table=table,
        chain=chain.name,
        text=f":{chain.name} {chain.policy}",
        policy=chain.policy,
    )


def operators(rules: Iterable[SavedRule]) -> list[SavedRule]:
    """The rules that no program writes at its own start."""
    return [rule for rule in rules if owner_of(rule.chain, rule.text) is Owner.OPERATOR]


def diff_chain(
    backend: Backend, family: int, table: str, running: Sequence[SavedRule], saved: Sequence[SavedRule]
) -> ChainDiff:
    """Compare two sequences of rules of one chain by what they mean; their order counts."""
    before = [canonical(rule.words, family) for rule in running]
    after = [canonical(rule.words, family) for rule in saved]
    lost: list[tuple[str, FirewallRule]] = []
    returns: list[tuple[str, FirewallRule]] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            continue
        lost += [(before[i], rule_of(backend, family, table, running[i].chain, running[i])) for i in range(i1, i2)]
        # Behind the running rule that stands before it in the file.
        number = (running[i1 - 1].number if i1 else (running[0].number - 1 if running else 0)) + 1
        returns += [
            (after[j], rule_of(backend, family, table, saved[j].chain, saved[j], number + j - j1))
            for j in range(j1, j2)
        ]
    moved = []
    for key, rule in list(lost):
        twin = next((item for item in returns if item[0] == key), None)
        if twin is not None:
            lost.remove((key, rule))
            returns.remove(twin)
            moved.append(rule)
    return ChainDiff(
        lost=tuple(rule for _, rule in lost), returns=tuple(rule for _, rule in returns), moved=tuple(moved)
    )


def diff_tables(
    backend: Backend,
    family: int,
    running: SavedTables,
    saved: SavedTables,
) -> Iterator[tuple[str, str, ChainDiff]]:
    """The chains whose rules of the operator differ, by table and chain."""
    for table in [*running.tables, *(name for name in saved.tables if name not in running.tables)]:
        mine, theirs = running.tables.get(table, {}), saved.tables.get(table, {})
        for name in [*mine, *(chain for chain in theirs if chain not in mine)]:
            left, right = operators(mine.get(name, _EMPTY).rules), operators(theirs.get(name, _EMPTY).rules)
            found = diff_chain(backend, family, table, left, right)
            if found != ChainDiff():
                yield table, name, found


def diff_policies(backend: Backend, family: int, running: SavedTables, saved: SavedTables) -> Iterator[Policy]:
    """Policies that a load of ``saved`` changes; a table that it does not name keeps its policies."""
    for table, chains in saved.tables.items():
        for name, chain in chains.items():
            now = running.tables.get(table, {}).get(name)
            if chain.policy is None or (now is None and chain.policy == "ACCEPT"):
                continue
            if now is None:
                now = SavedChain(name=name, policy="ACCEPT")
            if now.policy is not None and now.policy != chain.policy:
                yield Policy(policy_of(backend, family, table, now), chain.policy)


def read_file(text: str) -> SavedTables:
    """A hand-written rules file as if it had been loaded: rules without a declared chain, and inserted ones, count.

    For files that no tool could load; what a tool lists needs `read_save` only.
    """
    lines: list[str] = []
    table = ""
    declared: dict[str, set[str]] = {}
    for raw in text.replace("\r", "").split("\n"):
        line = raw.strip()
        if line.startswith("*"):
            table = line[1:].strip()
            declared.setdefault(table, set())
        words = split_words(line)
        if line.startswith(":") and table:
            declared[table].add(line[1:].split()[0])
        elif len(words) > 2 and words[0] in ("-A", "--append", *_INSERTS) and table:
            if words[1] not in declared[table]:
                declared[table].add(words[1])
                lines.append(f":{words[1]} ACCEPT" if words[1].isupper() and "-" not in words[1] else f":{words[1]} -")
            if words[0] in _INSERTS:
                line = _as_first(lines, line, words)
                continue
        lines.append(line)
    return read_save("\n".join(lines))


def _as_first(lines: list[str], line: str, words: Sequence[str]) -> str:
    """Put an inserted rule in front of the rules of its chain that were read before it."""
    rest = line.split(None, 2)[2]
    if words[2].isdecimal():
        rest = rest.split(None, 1)[1] if " " in rest else ""
    appended = f"-A {words[1]} {rest}"
    start = max((at for at, each in enumerate(lines) if each.startswith("*")), default=0)
    first = next((at for at in range(start, len(lines)) if split_words(lines[at])[:2] == ("-A", words[1])), len(lines))
    lines.insert(first, appended)
    return appended
