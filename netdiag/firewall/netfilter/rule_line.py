"""From the words of one rule to its conditions and its target.

Whose an option is, getopt decides by what is loaded so far: of the matches and the target that the rule has named the
newest first, then iptables' own options, then one that is cut short, then the match of the protocol that need not be
named. Sources: iptables/xshared.c (do_parse, command_default), libxtables/xtables.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.addresses import read_network, read_number
from netdiag.firewall.netfilter.extensions import BARE, EXTENSIONS, Extension
from netdiag.firewall.netfilter.grammar import Option
from netdiag.firewall.netfilter.rules import Decide, Match, NotUnderstood, Pass, Problem, Rule, Target, Verdict
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, WITH_PORTS
from netdiag.firewall.netfilter.target_grammar import read_target
from netdiag.firewall.netfilter.target_options import TARGETS
from netdiag.firewall.save_text import SavedRule
from netdiag.model.protocols import number_of

_SHORT = frozenset({"-p", "-s", "-d", "-i", "-o", "-f", "-m", "-j", "-g", "-c", "-4", "-6", "-M"})
_LONG = {
    "--protocol": "-p",
    "--source": "-s", "--src": "-s",
    "--destination": "-d", "--dst": "-d",
    "--in-interface": "-i", "--out-interface": "-o",
    "--fragments": "-f", "--fragment": "-f",
    "--match": "-m",
    "--jump": "-j", "--goto": "-g",
    "--set-counters": "-c",
    "--ipv4": "-4", "--ipv6": "-6",
    "--modprobe": "-M",
}  # fmt: skip
_ONCE = frozenset({"-p", "-s", "-d", "-i", "-o", "-f"})
_BY_PROTOCOL = {6: "tcp", 17: "udp", 136: "udplite", 132: "sctp", 33: "dccp", 1: "icmp", 58: "icmp6", 50: "esp"}
_NEEDS = {
    "tcp": {6},
    "udp": {17},
    "udplite": {136},
    "sctp": {132},
    "dccp": {33},
    "icmp": {ICMP},
    "icmp6": {ICMPV6},
    "esp": {50},
    "multiport": WITH_PORTS,
}
"""Protocols that a match wants its rule to name."""
_NAMED = {"all": 0, "ip": 0, "hopopt": 0, "ipip": 94}
"""What iptables reads otherwise than netdiag: of /etc/protocols, 4 is ipencap."""
_EXTENSION_NAMES = {"icmpv6": "icmp6"}
_NEGATED_FIRST = frozenset({"--comment", "--string", "--hex-string"})
"""Options whose value may be an exclamation mark."""
_HOST = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
_SHORTEST = 4
"""Characters of an option that is cut short."""
_BARE = Pass()


class Reader:
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
        try:
            return header.Network(side, *read_network(text, self.family), negated)
        except ValueError:
            name, slash, mask = text.partition("/")
            if name == "localhost":
                return self.network(side, f"{'127.0.0.1' if self.family == 4 else '::1'}{slash}{mask}", negated)
            if "." in name and _HOST.fullmatch(name):
                return NotUnderstood(f"which address {name} has is not known")
            raise

    def device(self, option: str, name: str, negated: bool) -> Match:
        """A condition on a device. Raises ValueError."""
        key = (option, name, negated)
        found = self._known.get(key)
        if found is None:
            if not name or len(name) > 15:
                raise ValueError(f"no name of an interface: {name[:40]!r}")
            found = self._known[key] = (header.Device("in" if option == "-i" else "out", name, negated),)
        return found[0]

    def protocol(self, text: str, negated: bool) -> tuple[Match, int]:
        """A condition on the protocol, and its number. Raises ValueError."""
        key = ("-p", text, negated)
        found = self._known.get(key)
        if found is None:
            number = read_number(text, 255) if text[:1].isdigit() else _NAMED.get(text.lower(), number_of(text.lower()))
            if number is None or number > 255:
                raise ValueError(f"protocol {text[:40]!r} is not known")
            if negated and not number:
                raise ValueError("no packet is of no protocol (! -p all)")
            found = self._known[key] = (header.Protocol(number, negated),)
        condition = found[0]
        return condition, condition.number if isinstance(condition, header.Protocol) else 0


class _Loaded:
    """A match that the rule has named, or its target: its options, and those that were given."""

    __slots__ = ("extension", "given", "name", "takes")

    def __init__(self, name: str, extension: Extension | None) -> None:
        self.name = name
        self.extension = extension
        self.takes = extension.options if extension is not None else {}
        self.given: list[Option] = []


class _Line:
    """One rule while its words are read."""

    def __init__(self, reader: Reader, saved: SavedRule, chains: frozenset[str]) -> None:
        self._reader = reader
        self._words = saved.words
        self._chains = chains
        self._matches: list[Match] = []
        self._loaded: list[_Loaded] = []
        self._seen: list[str] = []
        self._protocol = 0
        self._target: _Loaded | None = None
        self._is_goto = False
        self.comment = ""
        self.counters: tuple[int, int] | None = None

    def read(self) -> tuple[tuple[Match, ...], Target]:
        """Its conditions and what it does. Raises ValueError."""
        words, at, negated = self._words, 0, False
        while at < len(words):
            word = words[at]
            at += 1
            if word == "!":
                if negated:
                    raise ValueError("two ! behind each other")
                negated = True
                continue
            at = self._take(word, at, negated)
            negated = False
        if negated:
            raise ValueError("nothing behind !")
        for loaded in self._loaded:
            if loaded is not self._target:
                self._matches += self._conditions(loaded)
        return tuple(self._matches), self._does()

    def _take(self, word: str, at: int, negated: bool) -> int:
        """One option with its values; the place behind it."""
        if word in _SHORT:
            return self._generic(word, at, negated, None)
        given: str | None = None
        if word.startswith("--") and "=" in word:
            word, _, given = word.partition("=")
        for loaded in reversed(self._loaded):
            if word in loaded.takes:
                return self._option(loaded, word, at, negated, given)
        long = _LONG.get(word)
        if long is not None:
            return self._generic(long, at, negated, given)
        return self._cut_short(word, at, negated, given)

    def _cut_short(self, word: str, at: int, negated: bool, given: str | None) -> int:
        """An option that no match has by this name: cut short, of a match that is implied, or not understood."""
        # What a match that is not modelled calls its options nobody here knows: there an option must be whole.
        cut = word.startswith("--") and len(word) >= _SHORTEST and all(each.extension for each in self._loaded)
        if cut:
            meant = {name: each for each in self._loaded for name in each.takes if name.startswith(word)}
            generic = {name: short for name, short in _LONG.items() if name.startswith(word)}
            if len(meant) + len(set(generic.values())) > 1:
                raise ValueError(f"{word[:60]!r} may mean several options")
            for name, loaded in meant.items():
                return self._option(loaded, name, at, negated, given)
            for short in generic.values():
                return self._generic(short, at, negated, given)
        implied = _BY_PROTOCOL.get(self._protocol)
        if implied is not None and word.startswith("--"):
            takes = EXTENSIONS[implied].options
            names = [word] if word in takes else [name for name in takes if cut and name.startswith(word)]
            if len(names) == 1:
                self._loaded.append(_Loaded(implied, EXTENSIONS[implied]))
                return self._option(self._loaded[-1], names[0], at, negated, given)
        last = self._loaded[-1] if self._loaded else None
        if last is not None and last.extension is None and (word.startswith("-") or last.given):
            # A match or target that is not modelled takes its words, whatever they are.
            last.given.append(Option(word, (), negated))
            return at
        raise ValueError(f"{word[:60]!r} is no option here")

    def _value(self, option: str, at: int, negated: bool, given: str | None) -> tuple[str, int, bool]:
        """An option's value; an old spelling has the negation between them."""
        if given is not None:
            return given, at, negated
        if at < len(self._words) and self._words[at] == "!":
            if negated:
                raise ValueError("two ! for one option")
            at, negated = at + 1, True
        if at >= len(self._words):
            raise ValueError(f"{option} without a value")
        return self._words[at], at + 1, negated

    def _generic(self, option: str, at: int, negated: bool, given: str | None) -> int:
        """An option that every rule may have; the place behind it."""
        if option == "-m" or option not in _ONCE:
            return self._module(option, at, negated, given)
        if option in self._seen:
            raise ValueError(f"{option} twice")
        self._seen.append(option)
        if option == "-f":
            self._matches.append(header.Always(negated))
            return at
        value, at, negated = self._value(option, at, negated, given)
        self._header(option, value, negated)
        return at

    def _module(self, option: str, at: int, negated: bool, given: str | None) -> int:
        """A match, a target, counters, or what says nothing of the packet; the place behind it."""
        if option in ("-4", "-6"):
            if int(option[1]) != self._reader.family:
                raise ValueError(f"a rule for the other family ({option})")
            return at
        value, at, negated = self._value(option, at, negated, given)
        if negated:
            raise ValueError(f"! before {option}")
        if option == "-m":
            name = _EXTENSION_NAMES.get(value, value)
            if name == "icmp" and self._protocol == ICMPV6:
                name = "icmp6"
            self._loaded.append(_Loaded(name, EXTENSIONS.get(name)))
        elif option == "-c":
            at = self._counters(value, at)
        elif option in ("-j", "-g"):
            self._to(value, goto=option == "-g")
        return at

    def _counters(self, value: str, at: int) -> int:
        packets, comma, size = value.partition(",")
        if not comma:
            size = self._words[at] if at < len(self._words) else ""
            at += 1
        if not (packets.isascii() and packets.isdigit() and size.isascii() and size.isdigit()):
            raise ValueError("-c wants two numbers")
        self.counters = int(packets[:20]), int(size[:20])
        return at

    def _to(self, name: str, *, goto: bool) -> None:
        if self._target is not None:
            raise ValueError("two targets")
        extension = _JUMP if goto or name in self._chains else _TARGETS.get(name)
        self._target, self._is_goto = _Loaded(name, extension), goto
        self._loaded.append(self._target)

    def _header(self, option: str, value: str, negated: bool) -> None:
        reader = self._reader
        if option == "-p":
            condition, number = reader.protocol(value, negated)
            self._protocol = 0 if negated else number
            if number:
                self._matches.append(condition)
        elif option in ("-s", "-d"):
            self._matches.append(reader.network("source" if option == "-s" else "destination", value, negated))
        else:
            self._matches.append(reader.device(option, value, negated))

    def _option(self, loaded: _Loaded, word: str, at: int, negated: bool, given: str | None) -> int:
        """An option of a match or of the target; the place behind it."""
        count = loaded.takes[word]
        values: tuple[str, ...] = ()
        if count:
            if word in _NEGATED_FIRST or loaded is self._target:
                if given is None and at >= len(self._words):
                    raise ValueError(f"{word} without a value")
                first, at = (given, at) if given is not None else (self._words[at], at + 1)
            else:
                first, at, negated = self._value(word, at, negated, given)
            values = (first, *self._words[at : at + count - 1])
            at += count - 1
            if len(values) < count:
                raise ValueError(f"{word} wants {count} values")
        elif given is not None:
            raise ValueError(f"{word} takes no value")
        if word == "--comment":
            self.comment = values[0]
        if loaded.given and word not in _SEVERAL and any(word == option.name for option in loaded.given):
            raise ValueError(f"{word} twice")
        loaded.given.append(Option(word, values, negated))
        return at

    def _conditions(self, loaded: _Loaded) -> Sequence[Match]:
        name, extension = loaded.name, loaded.extension
        if extension is None:
            return (NotUnderstood(f"the match {name[:40]} is not modelled"),)
        needed = _NEEDS.get(name)
        if needed is not None and self._protocol not in needed:
            raise ValueError(f"-m {name} without its protocol")
        if not loaded.given and name not in BARE:
            raise ValueError(f"-m {name} without an option")
        return self._reader.built(extension, name, loaded.given)

    def _does(self) -> Target:
        if self._target is None:
            return _BARE
        name, given = self._target.name, self._target.given
        if given and any(option.negated for option in given):
            raise ValueError(f"{name} has no negation")
        is_chain = name in self._chains
        return read_target(name, given, self._reader.family, goto=self._is_goto, is_chain=is_chain)


_SEVERAL = frozenset({"--to-destination", "--to-source", "--to"})
"""Options that old versions took several times."""


def _no_match(options: Sequence[Option], family: int) -> Sequence[Match]:  # noqa: ARG001 - as every Build
    return ()


_JUMP = Extension({}, _no_match)
_TARGETS = {name: Extension(takes, _no_match) for name, takes in TARGETS.items()}
