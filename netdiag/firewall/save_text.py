"""Reads the text of ``iptables-save -c`` and ``ip6tables-save -c`` into chains and rules.

What a rule matches is not interpreted here; a line that is no rule, chain, table or comment is reported with its
number and never fails the rest. What iptables-restore takes besides (-I, -D, -R, -F, -N, -X, -P) is done as it does it.
Format: iptables/iptables-save.c, iptables-restore.c, xshared.c.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

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
_MOST_MADE = 4096
"""Rules that one line may make."""
_COMMANDS = {
    "-A": "A", "--append": "A", "-I": "I", "--insert": "I", "-D": "D", "--delete": "D", "-R": "R", "--replace": "R",
    "-F": "F", "--flush": "F", "-N": "N", "--new-chain": "N", "--new": "N", "-X": "X", "--delete-chain": "X",
    "-P": "P", "--policy": "P", "-Z": "Z", "--zero": "Z", "-C": "C", "--check": "C",
}  # fmt: skip
"""What a line of iptables-restore may do to its table; -E is not among them."""
_SEVERAL = re.compile(r"(?:-s|-d|--source|--src|--destination|--dst)\s+[^\s,]+,")
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
        elif char == '"' and quoted:
            # A closing quote ends the word, whatever stands behind it (xshared.c, add_param_to_argv).
            words.append("".join(current))
            current, started, quoted = [], False, False
        elif char == '"':
            quoted = started = True
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


def parse_save(text: str, table: str = "", first_line: int = 1) -> SavedTables:
    """As `read_save`, for a text that is read once: nothing of it is kept.

    Args:
        text: As there.
        table: The table that it begins in, for the output of ``iptables -S``, which names none.
        first_line: The number of its first line.
    """
    reading = _Reading(table)
    # Only a line feed ends a line: a comment may hold what Unicode calls a line break.
    for line_number, raw in _lines(text):
        reading.line(line_number + first_line - 1, raw.strip(" \t\r"))
    return reading.tables()


class _Reading:
    """A save while its lines are read."""

    def __init__(self, table: str = "") -> None:
        self._chains: dict[str, dict[str, SavedChain]] = {}
        self._rules: dict[tuple[str, str], list[SavedRule]] = {}
        self._moved: set[tuple[str, str]] = set()
        self._problems: list[Problem] = []
        self._begins: dict[str, int] = {}
        self._committed: set[str] = set()
        self._table = table
        if table:
            self._chains[table] = {}
            self._begins[table] = 1
            self._committed.add(table)

    def line(self, line_number: int, line: str) -> None:
        if line.startswith("-A ") and self._table and len(line) <= _LONGEST:
            self._rule(line_number, line)
            return
        if line.startswith("#") and "is incompatible" in line:
            # iptables-nft-save says so of a table that nft wrote, and shows none of its rules.
            self._problem(line_number, line, re.sub(r"^#\s*Table `?(\w+).*$", r"\1", line))
        if not line or line.startswith("#"):
            return
        table = self._table
        if line == "COMMIT":
            self._committed.add(table)
            self._table = ""
        elif line.startswith("*") and len(line) > 1:
            self._begin(line_number, line[1:].split(maxsplit=1)[0])
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

    def _begin(self, line_number: int, name: str) -> None:
        """A table begins; one that was there before is emptied, as iptables-restore does. Its policies stay."""
        self._table = name
        self._chains[name] = {
            chain: msgspec.structs.replace(kept, rules=())
            for chain, kept in self._chains.get(name, {}).items()
            if chain in _BUILT_IN_OF.get(name, ())
        }
        for key in [key for key in self._rules if key[0] == name]:
            del self._rules[key]
        self._begins.setdefault(name, line_number)
        self._committed.discard(name)

    def _rule(self, line_number: int, line: str) -> None:
        table = self._table
        counters = _COUNTERS.match(line) if line.startswith("[") else None
        body = line[counters.end() :] if counters else line
        words = split_words(body)
        command = _COMMANDS.get(words[0], "") if words else ""
        if not table or not command or (len(words) < 2 and command not in "FXZ"):
            self._problem(line_number, line, table)
            return
        if command != "A":
            try:
                self._command(command, words, line_number, body)
            except ValueError as error:
                self._problem(line_number, line, table, str(error) or "not understood")
            return
        kept = self._kept(words[1])
        if kept is None:
            self._problem(line_number, line, "", f"{table} has no chain {words[1][:60]}")
            return
        kept += self._made(words[1], words[2:], len(kept), line_number, body, counters)

    def _kept(self, chain: str) -> list[SavedRule] | None:
        """The rules of a chain of this table; None where it has no such chain."""
        chains = self._chains[self._table]
        if chain not in chains:
            if chain not in _BUILT_IN_OF.get(self._table, ()):
                return None
            chains[chain] = SavedChain(name=chain, policy=None)  # it is there anyway
        return self._rules.setdefault((self._table, chain), [])

    def _made(
        self,
        chain: str,
        words: tuple[str, ...],
        before: int,
        line_number: int,
        body: str,
        counters: re.Match[str] | None = None,
    ) -> list[SavedRule]:
        """The rules that a line makes: several where it names several addresses."""
        packets, size = (int(counters[1]), int(counters[2])) if counters else (None, None)
        several = _single_addresses(words) if "," in body and _SEVERAL.search(body) else (words,)
        return [
            SavedRule(
                chain=chain,
                number=number,
                text=body,
                words=each,
                packets=packets,
                bytes=size,
                line_number=line_number,
            )
            for number, each in enumerate(several, before + 1)
        ]

    def _command(self, command: str, words: tuple[str, ...], line_number: int, body: str) -> None:
        """What a line of iptables-restore does that appends no rule. Raises ValueError for what no kernel would do."""
        table, chains = self._table, self._chains[self._table]
        if command in "ZC":
            return  # counters, and a question: nothing changes
        if len(words) == 1:
            for chain in list(chains):
                self._emptied(command, chain)
            return
        name = words[1]
        if command == "N":
            chains.setdefault(name, SavedChain(name=name, policy=None))
            return
        kept = self._kept(name)
        if kept is None:
            raise ValueError(f"{table} has no chain {name[:60]}")
        if command == "P":
            if name not in _BUILT_IN_OF.get(table, ()) or len(words) < 3:
                raise ValueError
            chains[name] = msgspec.structs.replace(chains[name], policy=words[2])
        elif command in "FX":
            self._emptied(command, name)
        else:
            self._moved.add((table, name))
            self._placed(command, kept, words, line_number, body)

    def _emptied(self, command: str, chain: str) -> None:
        """Flush a chain, or delete one that is empty. Raises ValueError."""
        if command == "F":
            self._rules.pop((self._table, chain), None)
        elif chain not in _BUILT_IN_OF.get(self._table, ()):
            self._without(chain)

    def _without(self, chain: str) -> None:
        if self._rules.get((self._table, chain)):
            raise ValueError(f"chain {chain[:60]} is not empty")
        self._chains[self._table].pop(chain, None)

    def _placed(self, command: str, kept: list[SavedRule], words: tuple[str, ...], line_number: int, body: str) -> None:
        """Insert, replace or delete a rule. Raises ValueError for a place or a rule that is not there."""
        named = len(words) > 2 and words[2].isascii() and words[2].isdigit()
        at = int(words[2][:9]) - 1 if named else 0
        if named and not 0 <= at < len(kept) + (command == "I"):
            raise ValueError(f"{words[1][:60]} has no rule {words[2][:9]}")
        if command == "D":
            if not named:
                at = next((at for at, rule in enumerate(kept) if rule.words == words[2:]), -1)
                if at < 0:
                    raise ValueError(f"{words[1][:60]} has no such rule to delete")
            del kept[at]
            return
        if command == "R" and not named:
            raise ValueError("-R without a number")
        made = self._made(words[1], words[3:] if named else words[2:], 0, line_number, body)
        if command == "R" and len(made) > 1:
            raise ValueError("a rule is replaced by one")
        # Of several addresses each is put before the one that was inserted just now.
        kept[at : at + (command == "R")] = made[::-1]

    def _problem(self, line_number: int, line: str, table: str, reason: str = "not understood") -> None:
        self._problems.append(Problem(line_number, line[:200], table, reason))

    def tables(self) -> SavedTables:
        for key in self._moved & self._rules.keys():
            self._rules[key] = [
                msgspec.structs.replace(rule, number=number) for number, rule in enumerate(self._rules[key], 1)
            ]
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
    if not line.lstrip().startswith(("-A ", "--append ", "-I ", "--insert ", "[")):
        return False
    return _ESCAPED.sub("", line).count('"') % 2 == 1


def _single_addresses(words: tuple[str, ...]) -> Sequence[tuple[str, ...]]:
    """The rules that one line is, which names several sources or destinations (xshared.c, xtables_ipparse_multiple)."""
    several: list[tuple[str, ...]] = [words]
    for options in (("-s", "--source", "--src"), ("-d", "--destination", "--dst")):
        at = next((at for at, word in enumerate(words[:-1]) if word in options), None)
        if at is None or "," not in words[at + 1] or words[max(0, at - 1)] == "!":
            continue
        addresses = words[at + 1].split(",")
        if len(addresses) * len(several) > _MOST_MADE:
            return (words,)
        several = [(*begun[: at + 1], each, *begun[at + 2 :]) for begun in several for each in addresses]
    return several
