"""From the text of ``iptables-save`` and ``ip6tables-save`` to the model.

Every rule keeps its text. What of it is not understood makes a match that cannot be told; a line of which not even the
chain is known makes its whole table unknown. Sources: iptables/iptables-restore.c, iptables/xshared.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.addresses import read_network
from netdiag.firewall.netfilter.extensions import EXTENSIONS, Extension
from netdiag.firewall.netfilter.grammar import Option
from netdiag.firewall.netfilter.rules import (
    HOOKS_OF,
    Chain,
    Decide,
    Jump,
    Match,
    NotUnderstood,
    Pass,
    Problem,
    Rule,
    Table,
    TableSet,
    Target,
    Verdict,
)
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, WITH_PORTS
from netdiag.firewall.netfilter.target_grammar import NO_TARGET, TARGET_OPTIONS, VALUED, read_target
from netdiag.firewall.save_text import SavedChain, SavedRule, SavedTables, parse_save
from netdiag.model.protocols import number_of

_GENERIC = {
    "-p": "-p", "--protocol": "-p", "--proto": "-p",
    "-s": "-s", "--source": "-s", "--src": "-s",
    "-d": "-d", "--destination": "-d", "--dst": "-d",
    "-i": "-i", "--in-interface": "-i",
    "-o": "-o", "--out-interface": "-o",
    "-f": "-f", "--fragment": "-f",
    "-m": "-m", "--match": "-m",
    "-j": "-j", "--jump": "-j",
    "-g": "-g", "--goto": "-g",
    "-c": "-c", "--set-counters": "-c",
    "-4": "-4", "--ipv4": "-4", "-6": "-6", "--ipv6": "-6",
}  # fmt: skip
_BY_PROTOCOL = {6: "tcp", 17: "udp", 136: "udplite", 132: "sctp", 33: "dccp", 1: "icmp", 58: "icmp6"}
_NEEDS = {"tcp": {6}, "udp": {17}, "udplite": {136}, "sctp": {132}, "dccp": {33}, "icmp": {ICMP}, "icmp6": {ICMPV6}}
"""Protocols that a match wants its rule to name; multiport wants one of those with ports."""
_EXTENSION_NAMES = {"icmpv6": "icmp6"}
_BARE = Pass()
_SHORTEST = 5
_Loaded = tuple[str, Extension | None, list[Option]]


class _Reader:
    """Reads the rules of one text; conditions that are written alike are made once."""

    def __init__(self, family: int) -> None:
        self.family = family
        self.problems: list[Problem] = []
        self._known: dict[tuple[object, ...], tuple[Match, ...]] = {}

    def rule(self, saved: SavedRule, chains: frozenset[str]) -> Rule:
        """One rule of a table that has these chains."""
        line = _Line(self, saved, chains)
        try:
            matches, target = line.read()
        except ValueError as error:
            self.problems.append(Problem(saved.line_number, saved.text[:200], str(error)))
            reason = f"line {saved.line_number} is not understood: {error}"
            matches, target = (NotUnderstood(reason),), Decide(Verdict.UNKNOWN, reason)
        return Rule(
            text=saved.text,
            number=saved.number,
            line_number=saved.line_number,
            matches=matches,
            target=target,
            packets=saved.packets if line.counters is None else line.counters[0],
            bytes=saved.bytes if line.counters is None else line.counters[1],
            comment=line.comment,
        )

    def built(self, extension: Extension, name: str, options: list[Option]) -> tuple[Match, ...]:
        """The conditions of one match. Raises ValueError."""
        key = (name, *options)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(extension.build(options, self.family))
        return found

    def network(self, side: header.Side, text: str, negated: bool) -> Match:
        """A condition on an address. Raises ValueError."""
        if "," in text:
            raise ValueError(f"several addresses in one rule: {text[:60]}")
        return header.Network(side, *read_network(text, self.family), negated)

    def protocol(self, text: str, negated: bool) -> tuple[Match, int]:
        """A condition on the protocol, and its number. Raises ValueError."""
        number = 0 if text.lower() == "all" else number_of(text.lower())
        if number is None or number > 255:
            raise ValueError(f"protocol {text[:40]!r} is not known")
        key = ("-p", number, negated)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = (header.Protocol(number, negated),)
        return found[0], number


class _Line:
    """One rule while its words are read."""

    def __init__(self, reader: _Reader, saved: SavedRule, chains: frozenset[str]) -> None:
        self._reader = reader
        self._words = saved.words
        self._chains = chains
        self._matches: list[Match] = []
        self._loaded: list[_Loaded] = []
        self._before_target = 0
        self._protocol = 0
        self._target: tuple[str, bool] | None = None
        self._target_options: list[Option] = []
        self.comment = ""
        self.counters: tuple[int, int] | None = None

    def read(self) -> tuple[tuple[Match, ...], Target]:
        """Its conditions and what it does. Raises ValueError."""
        words, at, negated = self._words, 0, False
        while at < len(words):
            word = words[at]
            at += 1
            if word == "!":
                negated = True
                continue
            generic = _GENERIC.get(word)
            at = self._generic(generic, at, negated) if generic is not None else self._option(word, at, negated)
            negated = False
        if negated:
            raise ValueError("nothing behind !")
        for name, extension, options in self._loaded:
            self._matches += self._conditions(name, extension, options)
        return tuple(self._matches), self._does()

    def _value(self, option: str, at: int, negated: bool) -> tuple[str, int, bool]:
        """An option's value; an old spelling has the negation between them."""
        if at < len(self._words) and self._words[at] == "!":
            at, negated = at + 1, not negated
        if at >= len(self._words):
            raise ValueError(f"{option} without a value")
        return self._words[at], at + 1, negated

    def _generic(self, option: str, at: int, negated: bool) -> int:
        """An option that every rule may have; the place behind it."""
        if option == "-f":
            self._matches.append(header.Always(negated))
            return at
        if option in ("-4", "-6"):
            if int(option[1]) != self._reader.family:
                raise ValueError(f"a rule for the other family ({option})")
            return at
        value, at, negated = self._value(option, at, negated)
        if option in ("-p", "-s", "-d", "-i", "-o"):
            self._header(option, value, negated)
            return at
        if negated:
            raise ValueError(f"! before {option}")
        if option == "-m":
            name = _EXTENSION_NAMES.get(value, value)
            if name == "icmp" and self._protocol == ICMPV6:
                name = "icmp6"
            self._loaded.append((name, EXTENSIONS.get(name), []))
        elif option == "-c":
            if at >= len(self._words) or not (value.isdigit() and self._words[at].isdigit()):
                raise ValueError("-c wants two numbers")
            self.counters = int(value[:20]), int(self._words[at][:20])
            at += 1
        elif self._target is not None:
            raise ValueError("two targets")
        else:
            self._target, self._before_target = (value, option == "-g"), len(self._loaded)
        return at

    def _header(self, option: str, value: str, negated: bool) -> None:
        reader = self._reader
        if option == "-p":
            condition, number = reader.protocol(value, negated)
            self._protocol = 0 if negated else number
            if number or negated:
                self._matches.append(condition)
        elif option in ("-s", "-d"):
            self._matches.append(reader.network("source" if option == "-s" else "destination", value, negated))
        else:
            self._matches.append(_device(option, value, negated))

    def _option(self, word: str, at: int, negated: bool) -> int:
        """An option of a match or target; the place behind it. Whose it is, getopt decides by what is loaded so far."""
        if self._target is not None and word.startswith("-"):
            behind = self._of_loaded(word, at, negated, self._loaded[self._before_target :])
            if behind is None and word not in TARGET_OPTIONS:
                behind = self._of_loaded(word, at, negated, self._loaded) or self._of_implied(word, at, negated)
            return self._of_target(word, at, negated) if behind is None else behind
        behind = self._of_loaded(word, at, negated, self._loaded)
        if behind is None:
            behind = self._of_implied(word, at, negated)
        if behind is not None:
            return behind
        if self._loaded and self._loaded[-1][1] is None and (word.startswith("-") or self._loaded[-1][2]):
            # A match that is not modelled takes its words, whatever they are.
            self._loaded[-1][2].append(Option(word, (), negated))
            return at
        raise ValueError(f"{word[:60]!r} is no option here")

    def _of_loaded(self, word: str, at: int, negated: bool, loaded: Sequence[_Loaded]) -> int | None:
        for _, extension, options in reversed(loaded):
            if extension is not None and word in extension.options:
                return self._of_match(word, extension.options[word], options, at, negated)
        if not word.startswith("--") or len(word) < _SHORTEST:
            return None
        # As getopt_long has it, an option may be cut short while it means one only.
        meant = [
            (name, extension, options)
            for _, extension, options in loaded
            if extension is not None
            for name in extension.options
            if name.startswith(word)
        ]
        if len({name for name, _, _ in meant}) != 1:
            return None
        name, extension, options = meant[-1]
        return self._of_match(name, extension.options[name], options, at, negated)

    def _of_implied(self, word: str, at: int, negated: bool) -> int | None:
        """An option of the protocol's own match, which need not be named."""
        implied = _BY_PROTOCOL.get(self._protocol)
        if implied is None or word not in EXTENSIONS[implied].options:
            return None
        self._loaded.append((implied, EXTENSIONS[implied], []))
        return self._of_match(word, EXTENSIONS[implied].options[word], self._loaded[-1][2], at, negated)

    def _of_match(self, word: str, count: int, options: list[Option], at: int, negated: bool) -> int:
        values: tuple[str, ...] = ()
        if count:
            first, at, negated = self._value(word, at, negated)
            values = (first, *self._words[at : at + count - 1])
            at += count - 1
            if len(values) < count:
                raise ValueError(f"{word} wants {count} values")
        if word == "--comment":
            self.comment = values[0]
            return at
        options.append(Option(word, values, negated))
        return at

    def _of_target(self, word: str, at: int, negated: bool) -> int:
        """Options of targets take what follows up to the next word that begins with a dash."""
        values: list[str] = []
        while at < len(self._words) and not (self._words[at].startswith("--") or self._words[at] in _GENERIC):
            values.append(self._words[at])
            at += 1
        self._target_options.append(Option(word, tuple(values), negated))
        return at

    def _conditions(self, name: str, extension: Extension | None, options: list[Option]) -> Sequence[Match]:
        if extension is None:
            return (NotUnderstood(f"the match {name} is not modelled"),)
        needed = _NEEDS.get(name) or (WITH_PORTS if name == "multiport" else None)
        if needed is not None and self._protocol not in needed:
            raise ValueError(f"-m {name} without its protocol")
        return self._reader.built(extension, name, options)

    def _does(self) -> Target:
        if self._target is None:
            return _BARE
        name, goto = self._target
        for option in self._target_options:
            if not option.values and option.name in VALUED:
                raise ValueError(f"{option.name} without a value")
        return read_target(name, self._target_options, self._reader.family, goto=goto, is_chain=name in self._chains)


def _device(option: str, name: str, negated: bool) -> Match:
    if not name or len(name) > 15:
        raise ValueError(f"no name of an interface: {name[:40]!r}")
    return header.Device("in" if option == "-i" else "out", name, negated)


def family_of(text: str) -> int:
    """4 or 6: whose save it is, by its first line, else by what its rules name."""
    if re.search(r"^# Generated by ip6tables", text, re.MULTILINE):
        return 6
    if re.search(r"^# Generated by iptables", text, re.MULTILINE):
        return 4
    sixes = len(re.findall(r" (?:-s|-d|--source|--destination) (?:! )?[0-9a-fA-F]*:[0-9a-fA-F:]*:|icmp6|icmpv6", text))
    fours = len(re.findall(r" (?:-s|-d|--source|--destination) (?:! )?\d+\.\d+\.| -p icmp ", text))
    return 6 if sixes > fours else 4


def read_iptables(text: str, family: int | None = None, backend: str = "iptables") -> TableSet:
    """Read a whole save; never raises.

    Args:
        text: Output of ``iptables-save``, with or without ``-c``; CRLF is accepted.
        family: 4 or 6; None takes it from the text.
        backend: Which variant wrote it, in a word.
    """
    family = family_of(text) if family is None else family
    saved = parse_save(text)
    reader = _Reader(family)
    reader.problems += [Problem(each.line_number, each.text, each.reason) for each in saved.problems]
    tables = {name: _table(name, chains, saved, reader) for name, chains in saved.tables.items()}
    for each in saved.problems:
        if each.table in HOOKS_OF and each.table not in tables:  # one that iptables-nft cannot show
            tables[each.table] = Table(name=each.table, chains={}, missing=f"{each.text} (line {each.line_number})")
    for table in tables.values():
        reader.problems += _unloadable(table)
    problems = sorted(set(reader.problems), key=lambda problem: problem.line_number)
    return TableSet(family=family, tables=tables, problems=tuple(problems), backend=backend)


def _table(name: str, chains: dict[str, SavedChain], saved: SavedTables, reader: _Reader) -> Table:
    names = frozenset(chains)
    built_in = HOOKS_OF.get(name, ())
    begun = saved.begins.get(name, 0)
    if name not in HOOKS_OF:
        reader.problems.append(Problem(begun, f"*{name}", "iptables has no such table"))
    read = {
        chain.name: Chain(
            name=chain.name,
            policy=chain.policy if chain.name in built_in else None,
            packets=chain.packets,
            bytes=chain.bytes,
            rules=tuple(reader.rule(rule, names) for rule in chain.rules),
        )
        for chain in chains.values()
    }
    missing = next((each for each in saved.problems if each.table == name), None)
    cut_off = ""
    if name not in saved.committed:
        reader.problems.append(Problem(begun, f"*{name}", "a table without COMMIT: the text may be cut off"))
        cut_off = f"table {name} ends without COMMIT: rules may be missing"
    return Table(
        name=name,
        chains=read,
        missing=f"line {missing.line_number} of it is not understood" if missing is not None else "",
        cut_off=cut_off,
    )


def _unloadable(table: Table) -> list[Problem]:
    """Jumps that no kernel takes: to a chain that is not there, or back to one that called."""
    found: list[Problem] = []
    jumps = {
        chain.name: [(rule, rule.target) for rule in chain.rules if isinstance(rule.target, Jump)]
        for chain in table.chains.values()
    }
    for each in jumps.values():
        for rule, jump in each:
            if jump.chain not in table.chains:
                found.append(Problem(rule.line_number, rule.text[:200], f"{table.name} has no chain {jump.chain}"))
            elif table.chains[jump.chain].name in HOOKS_OF.get(table.name, ()):
                found.append(Problem(rule.line_number, rule.text[:200], f"{jump.chain} is a base chain"))
    found += [
        Problem(rule.line_number, rule.text[:200], rule.target.reason)
        for chain in table.chains.values()
        for rule in chain.rules
        if isinstance(rule.target, Decide) and rule.target.reason.endswith(NO_TARGET)
    ]
    return found + _loops(table, jumps)


def _loops(table: Table, jumps: dict[str, list[tuple[Rule, Jump]]]) -> list[Problem]:
    found: list[Problem] = []
    done: set[str] = set()
    for start in table.chains:
        if start in done:
            continue
        way = [(start, iter(jumps[start]))]
        open_chains = {start}
        while way:
            name, rest = way[-1]
            for rule, jump in rest:
                if jump.chain in open_chains:
                    found.append(Problem(rule.line_number, rule.text[:200], f"a loop: {jump.chain} leads here"))
                elif jump.chain in jumps and jump.chain not in done:
                    open_chains.add(jump.chain)
                    way.append((jump.chain, iter(jumps[jump.chain])))
                    break
            else:
                way.pop()
                open_chains.discard(name)
                done.add(name)
    return found
