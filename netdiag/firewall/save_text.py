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
_BUILT_IN_OF = {
    "raw": frozenset({"PREROUTING", "OUTPUT"}),
    "nat": BUILT_IN - {"FORWARD"},
    "filter": frozenset({"INPUT", "FORWARD", "OUTPUT"}),
    "security": frozenset({"INPUT", "FORWARD", "OUTPUT"}),
    "mangle": BUILT_IN,
}
_LONGEST = 1 << 16
"""Characters of a line that is looked into: no rule that a kernel takes is written with as many."""
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
    bytes: int | None = None
    line_number: int = 0


class SavedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain; ``policy`` is None for a user-defined one."""

    name: str
    policy: str | None
    packets: int | None = None
    bytes: int | None = None
    rules: tuple[SavedRule, ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """A line that was not understood, the table in which it stands, and why."""

    line_number: int
    text: str
    table: str = ""
    reason: str = "not understood"


class SavedTables(msgspec.Struct, frozen=True, kw_only=True):
    """Tables by name, each with its chains by name, in the order of the text.

    Attributes:
        begins: The line at which each table begins.
        committed: Tables that the text ends with COMMIT.
    """

    tables: dict[str, dict[str, SavedChain]]
    problems: tuple[Problem, ...] = ()
    begins: dict[str, int] = msgspec.field(default_factory=dict)
    committed: frozenset[str] = frozenset()


def nft_family(ip_version: int) -> str:
    """What nft calls the family of iptables (4) and ip6tables (6)."""
    return "ip6" if ip_version == 6 else "ip"


def split_words(line: str) -> tuple[str, ...]:
    """Split a rule into words as iptables-restore does: double quotes group, a backslash escapes inside them."""
    if "\\" not in line and line.isascii():
        quick = _split_quickly(line)
        if quick is not None:
            return quick
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


def _split_quickly(line: str) -> tuple[str, ...] | None:
    """The words of a line in which quotes stand around whole words only; None for another."""
    if '"' not in line:
        return tuple(line.split())
    parts = line.split('"')
    last = len(parts) - 1
    if last % 2:
        return None
    words: list[str] = []
    for at, part in enumerate(parts):
        if at % 2:
            words.append(part)
            continue
        begins, ends = part[:1] in (" ", "\t"), part[-1:] in (" ", "\t")
        if (at and not begins and (part or at < last)) or (at < last and not ends):
            return None
        words += part.split()
    return tuple(words)


@functools.lru_cache(
    maxsize=4
)  # both families of both variants: one packet after another is read against the same text
def read_save(text: str) -> SavedTables:
    """Read a whole save; never raises. The answer is shared between callers and must not be changed.

    Args:
        text: Output of ``iptables-save``, with or without ``-c``; CRLF is accepted.
    """
    return parse_save(text)


def parse_save(text: str) -> SavedTables:
    """As `read_save`, for a text that is read once: nothing of it is kept."""
    reading = _Reading()
    # Only a line feed ends a line: a comment may hold what Unicode calls a line break.
    for line_number, raw in _lines(text):
        reading.line(line_number, raw.strip(" \t\r"))
    return reading.tables()


class _Reading:
    """A save while its lines are read."""

    def __init__(self) -> None:
        self._chains: dict[str, dict[str, SavedChain]] = {}
        self._rules: dict[tuple[str, str], list[SavedRule]] = {}
        self._problems: list[Problem] = []
        self._begins: dict[str, int] = {}
        self._committed: set[str] = set()
        self._table = ""

    def line(self, line_number: int, line: str) -> None:
        if line.startswith("#") and "is incompatible" in line:
            # iptables-nft-save says so of a table that nft wrote, and shows none of its rules.
            self._problem(line_number, line, re.sub(r"^#\s*Table `?(\w+).*$", r"\1", line))
        if not line or line.startswith("#"):
            return
        table = self._table
        if line == "COMMIT":
            self._committed.add(table)
        elif line.startswith("*"):
            self._table = line[1:].strip()
            self._chains.setdefault(self._table, {})
            self._begins.setdefault(self._table, line_number)
            self._committed.discard(self._table)
        elif table and line.startswith(":") and len(line) <= _LONGEST and (found := _CHAIN.match(line)):
            name, policy, packets, size = found.groups()
            self._chains[table][name] = SavedChain(
                name=name,
                policy=None if policy == "-" else policy,
                packets=None if packets is None else int(packets),
                bytes=None if size is None else int(size),
            )
        elif len(line) > _LONGEST:
            self._problem(line_number, line, table, f"a line of {len(line)} characters")
        else:
            self._rule(line_number, line)

    def _rule(self, line_number: int, line: str) -> None:
        rule = _rule(line, self._rules, self._table, line_number) if self._table else None
        if rule is None:
            self._problem(line_number, line, self._table)
            return
        chains = self._chains[self._table]
        if rule.chain not in chains:
            if rule.chain not in _BUILT_IN_OF.get(self._table, ()):
                self._problem(line_number, line, "", f"{self._table} has no chain {rule.chain[:60]}")
                return
            chains[rule.chain] = SavedChain(name=rule.chain, policy=None)  # it is there anyway
        self._rules.setdefault((self._table, rule.chain), []).append(rule)

    def _problem(self, line_number: int, line: str, table: str, reason: str = "not understood") -> None:
        self._problems.append(Problem(line_number, line[:200], table, reason))

    def tables(self) -> SavedTables:
        return SavedTables(
            tables={
                name: {
                    chain: msgspec.structs.replace(kept, rules=tuple(self._rules.get((name, chain), ())))
                    for chain, kept in by_name.items()
                }
                for name, by_name in self._chains.items()
            },
            problems=tuple(self._problems),
            begins=self._begins,
            committed=frozenset(self._committed),
        )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Every line with its number, from 1; a rule whose comment holds line feeds is one."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line, behind = lines[at], at + 1
        if '"' in line and len(line) <= _LONGEST and _opens_quote(line):
            for end in range(behind, min(len(lines), behind + _MOST_LINES)):
                whole = "\n".join(lines[at : end + 1])
                if len(whole) > _LONGEST:
                    break
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


def _rule(line: str, rules: dict[tuple[str, str], list[SavedRule]], table: str, line_number: int) -> SavedRule | None:
    counters = _COUNTERS.match(line)
    body = line[counters.end() :] if counters else line
    if not body.startswith(("-A", "--append")):
        return None
    words = split_words(body)
    if len(words) < 2 or words[0] not in ("-A", "--append"):
        return None
    return SavedRule(
        chain=words[1],
        number=len(rules.get((table, words[1]), ())) + 1,
        text=body,
        words=words[2:],
        packets=int(counters[1]) if counters else None,
        bytes=int(counters[2]) if counters else None,
        line_number=line_number,
    )
