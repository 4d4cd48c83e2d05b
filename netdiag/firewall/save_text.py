"""Reads the text of ``iptables-save -c`` and ``ip6tables-save -c`` into chains and rules.

What a rule matches is not interpreted here; a line that is no rule, chain, table or comment is reported with its
number and never fails the rest. Format: iptables/iptables-save.c, iptables/xshared.c.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import msgspec

BUILT_IN = frozenset({"INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING"})
"""Chains of iptables that the kernel has itself: no program owns them, and everybody writes there."""
_MOST_LINES = 256
"""A comment of iptables' has no more characters (xt_comment.h)."""
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_COUNTERS = re.compile(r"^\[([0-9]{1,20}):([0-9]{1,20})\]\s*")
_CHAIN = re.compile(r"^:(\S+)\s+(\S+)(?:\s+\[([0-9]{1,20}):([0-9]{1,20})\])?\s*$")


class SavedRule(msgspec.Struct, frozen=True, kw_only=True):
    """One ``-A`` line: its words as a shell would split them, and its counters when the save had them."""

    chain: str
    number: int
    text: str
    words: tuple[str, ...]
    packets: int | None = None


class SavedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain; ``policy`` is None for a user-defined one."""

    name: str
    policy: str | None
    packets: int | None = None
    rules: tuple[SavedRule, ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """A line that was not understood."""

    line_number: int
    text: str


class SavedTables(msgspec.Struct, frozen=True, kw_only=True):
    """Tables by name, each with its chains by name, in the order of the text."""

    tables: dict[str, dict[str, SavedChain]]
    problems: tuple[Problem, ...] = ()


def nft_family(ip_version: int) -> str:
    """What nft calls the family of iptables (4) and ip6tables (6)."""
    return "ip6" if ip_version == 6 else "ip"


def split_words(line: str) -> tuple[str, ...]:
    """Split a rule into words as iptables-restore does: double quotes group, a backslash escapes inside them."""
    words: list[str] = []
    current: list[str] = []
    quoted = started = escaped = False
    for char in line:
        if escaped:
            current.append(char)
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
            started = True
        elif char in " \t" and not quoted:
            if started:
                words.append("".join(current))
                current, started = [], False
        else:
            current.append(char)
            started = True
    if started:
        words.append("".join(current))
    return tuple(words)


@functools.lru_cache(
    maxsize=4
)  # both families of both variants: one packet after another is read against the same text
def read_save(text: str) -> SavedTables:
    """Read a whole save; never raises. The answer is shared between callers and must not be changed.

    Args:
        text: Output of ``iptables-save``, with or without ``-c``; CRLF is accepted.
    """
    chains: dict[str, dict[str, SavedChain]] = {}
    rules: dict[tuple[str, str], list[SavedRule]] = {}
    problems: list[Problem] = []
    table = ""
    # Only a line feed ends a line: a comment may hold what Unicode calls a line break.
    for line_number, raw in _lines(text):
        line = raw.strip(" \t\r")
        if line.startswith("#") and "is incompatible" in line:
            # iptables-nft-save says so of a table that nft wrote, and shows none of its rules.
            problems.append(Problem(line_number, line[:200]))
        if not line or line.startswith("#") or line == "COMMIT":
            continue
        if line.startswith("*"):
            table = line[1:].strip()
            chains.setdefault(table, {})
            continue
        found = _CHAIN.match(line)
        if found and table:
            name, policy, packets = found[1], found[2], found[3]
            chains[table][name] = SavedChain(
                name=name, policy=None if policy == "-" else policy, packets=None if packets is None else int(packets)
            )
            continue
        rule = _rule(line, rules, table) if table else None
        if rule is None or rule.chain not in chains[table]:
            problems.append(Problem(line_number, line[:200]))
            continue
        rules.setdefault((table, rule.chain), []).append(rule)
    tables = {
        name: {
            chain: msgspec.structs.replace(kept, rules=tuple(rules.get((name, chain), ())))
            for chain, kept in by_name.items()
        }
        for name, by_name in chains.items()
    }
    return SavedTables(tables=tables, problems=tuple(problems))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Every line with its number, from 1; a rule whose comment holds line feeds is one."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line, behind = lines[at], at + 1
        if '"' in line and _opens_quote(line):
            for end in range(behind, min(len(lines), behind + _MOST_LINES)):
                whole = "\n".join(lines[at : end + 1])
                if not _opens_quote(whole):
                    line, behind = whole, end + 1
                    break
        yield at + 1, line
        at = behind


def _opens_quote(line: str) -> bool:
    """Whether a rule's line ends between its quotes."""
    if not line.lstrip().startswith(("-A ", "--append ", "[")):
        return False
    return _ESCAPED.sub("", line).count('"') % 2 == 1


def _rule(line: str, rules: dict[tuple[str, str], list[SavedRule]], table: str) -> SavedRule | None:
    counters = _COUNTERS.match(line)
    body = line[counters.end() :] if counters else line
    words = split_words(body)
    if len(words) < 2 or words[0] not in ("-A", "--append"):
        return None
    return SavedRule(
        chain=words[1],
        number=len(rules.get((table, words[1]), ())) + 1,
        text=body,
        words=words[2:],
        packets=int(counters[1]) if counters else None,
    )
