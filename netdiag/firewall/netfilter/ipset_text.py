"""What ``ipset save`` and ``ipset list`` print. Source: ipset's lib/session.c."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from netdiag.firewall.netfilter.addresses import read_address, read_network, read_number
from netdiag.firewall.netfilter.names import ICMP_TYPES, ICMPV6_TYPES
from netdiag.firewall.netfilter.rules import Problem
from netdiag.firewall.netfilter.sets import DIMENSIONS, IpSet, device_number
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, TCP
from netdiag.model.protocols import number_of

_OLD = {
    "iphash": "hash:ip",
    "nethash": "hash:net",
    "ipmap": "bitmap:ip",
    "portmap": "bitmap:port",
    "setlist": "list:set",
}
_COMMANDS = {
    "create": "create", "-N": "create", "add": "add", "-A": "add", "del": "del", "-D": "del", "flush": "flush",
    "-F": "flush", "destroy": "destroy", "-X": "destroy", "swap": "swap", "-W": "swap", "rename": "rename",
    "-E": "rename",
}  # fmt: skip
_QUOTED = re.compile(r'"[^"]*"?|[^\s"]+')
_LONGEST = 1 << 16
"""Characters of a line that is looked into."""


class _Building:
    """A set while its lines are read."""

    def __init__(self, name: str, kind: str, words: list[str]) -> None:
        self.name = name
        self.kind = _OLD.get(kind, kind)
        self.family = 6 if "inet6" in words else 4
        self.reason = "" if self.kind in DIMENSIONS else f"sets of the type {kind} are not modelled"
        self.netmask = -1
        self.markmask = 0xFFFFFFFF
        self.nested: list[str] = []
        self.members: dict[tuple[int, ...], dict[tuple[int, ...], bool]] = {}
        for option, value in itertools.pairwise(words):
            if option == "netmask":
                bits = 128 if self.family == 6 else 32
                width = read_number(value, bits)
                self.netmask = ((1 << width) - 1) << (bits - width)
            elif option == "markmask":
                self.markmask = read_number(value, 0xFFFFFFFF)
            elif option == "bitmask":
                self.reason = "a set with a bitmask is not modelled"

    def add(self, written: str, options: list[str]) -> None:
        """Add a member. Raises ValueError for one that is not understood."""
        if self.reason:
            return
        if self.kind == "list:set":
            self.nested.append(written)  # which comes first does not matter: none of them holds exceptions of another
            return
        if "wildcard" in options or "physdev:" in written:
            raise ValueError("a port of a bridge, or devices that begin so")
        for key in self._keys(written):
            masks = tuple(mask for _, mask in key)
            values = tuple(value for value, _ in key)
            self.members.setdefault(masks, {})[values] = "nomatch" in options

    def remove(self, written: str) -> None:
        """Take a member away. Raises ValueError for one that is not understood, or not there as it is written."""
        if self.reason:
            return
        if self.kind == "list:set":
            self.nested.remove(written)
            return
        for key in self._keys(written):
            masks = tuple(mask for _, mask in key)
            if self.members.get(masks, {}).pop(tuple(value for value, _ in key), None) is None:
                raise ValueError("it is in no member, or in a larger one")

    def _keys(self, written: str) -> Iterable[tuple[tuple[int, int], ...]]:
        parts = written.split(",")
        dimensions = DIMENSIONS[self.kind]
        if len(parts) != len(dimensions):
            raise ValueError(f"{len(dimensions)} parts are wanted")
        return _product([list(self._part(what, part)) for what, part in zip(dimensions, parts, strict=True)])

    def _part(self, what: str, text: str) -> Iterator[tuple[int, int]]:
        """Values and masks of one part of a member; ranges give several."""
        if what in ("ip", "net"):
            low, dash, high = text.partition("-")
            if dash:
                yield from _networks(read_address(low, self.family), read_address(high, self.family), self.family)
                return
            network, mask = read_network(text, self.family)
            if what == "ip" and self.netmask != -1:
                network, mask = network & self.netmask, -1
            elif what == "ip" and "/" not in text:
                mask = -1
            yield network, mask
        elif what == "mark":
            yield read_number(text, 0xFFFFFFFF) & self.markmask, -1
        elif what == "mac":
            yield int(text.replace(":", ""), 16), -1
        elif what == "iface":
            yield device_number(text), -1
        else:
            protocol, colon, ports = text.rpartition(":")
            number = 0 if what == "bare-port" else number_of(protocol.lower()) if colon else TCP
            if number is None:
                raise ValueError(f"protocol {protocol}")
            if number in (ICMP, ICMPV6) and (not ports.isdigit() or ports == "0"):
                yield number << 16 | _icmp(ports, number), -1
                return
            low, dash, high = ports.partition("-")
            first, last = read_number(low, 65535), read_number(high if dash else low, 65535)
            yield from ((number << 16 | port, -1) for port in range(first, last + 1))

    def built(self) -> IpSet:
        """The set, its most specific masks first."""
        order = sorted(self.members, key=lambda masks: [-_width(mask) for mask in masks])
        reason = self.reason
        exceptions = any(any(keys.values()) for keys in self.members.values())
        if exceptions and len(order) > 1 and len(order[0]) > 1:
            reason = "exceptions among members of several networks are not modelled"
        return IpSet(
            name=self.name,
            kind=self.kind,
            family=self.family,
            members={masks: self.members[masks] for masks in order},
            netmask=self.netmask,
            markmask=self.markmask,
            nested=tuple(self.nested),
            reason=reason,
        )


def _icmp(text: str, protocol: int) -> int:
    """Type and code as one number, of ``8/0`` or a name, which stands for one code. Raises ValueError."""
    named = (ICMP_TYPES if protocol == ICMP else ICMPV6_TYPES).get(text)
    if named is not None:
        return named[0] << 8 | named[1]
    kind, _, code = text.partition("/")
    return read_number(kind, 255) << 8 | read_number(code or "0", 255)


def _width(mask: int) -> int:
    return 1 << 10 if mask == -1 else mask.bit_count()


def _product(choices: list[list[tuple[int, int]]]) -> Iterable[tuple[tuple[int, int], ...]]:
    found: list[tuple[tuple[int, int], ...]] = [()]
    for several in choices:
        if len(found) * len(several) > 1 << 17:
            raise ValueError("too many members in one")
        found = [(*begun, one) for begun in found for one in several]
    return found


def _networks(first: int, last: int, family: int) -> Iterator[tuple[int, int]]:
    """The fewest networks that make up a range."""
    bits = 128 if family == 6 else 32
    full = (1 << bits) - 1
    while first <= last:
        size = (first & -first).bit_length() - 1 if first else bits
        while size and first + (1 << size) - 1 > last:
            size -= 1
        yield first, full ^ ((1 << size) - 1)
        first += 1 << size


def read_sets(text: str) -> tuple[dict[str, IpSet], tuple[Problem, ...]]:
    """The sets of ``ipset save`` or ``ipset list``, or what ``ipset restore`` reads; never raises.

    A line that is not understood makes the answers of its set unknown.
    """
    reading = _Reading()
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw[:_LONGEST].strip()
        if line and not line.startswith("#"):
            reading.line(number, line, _words(line))
    return {name: built.built() for name, built in reading.sets.items()}, tuple(reading.problems)


def _words(line: str) -> list[str]:
    """The words of a line; what stands between quotes, a comment, is one."""
    if '"' not in line:
        return line.split(None, 64)
    return [word.strip('"') if word.startswith('"') else word for word in _QUOTED.findall(line)][:64]


class _Reading:
    """A text while its lines are read."""

    def __init__(self) -> None:
        self.sets: dict[str, _Building] = {}
        self.problems: list[Problem] = []
        self._name = ""
        self._listed: _Building | None = None
        self._in_members = False

    def line(self, number: int, line: str, words: list[str]) -> None:
        words = [word for word in words if word not in ("-exist", "-!")]
        command = _COMMANDS.get(words[0], "") if words else ""
        target = self.sets.get(words[1]) if command and len(words) > 1 else None
        try:
            if command == "create" and len(words) >= 3:
                self._listed = None
                self.sets.setdefault(words[1], _Building(words[1], words[2], words[3:]))
            elif command and command != "create":
                self._command(command, target, words)
            elif not self._heading(words):
                target = self._listed if self._in_members else None
                if target is None:
                    self.problems.append(Problem(number, line[:200]))
                else:
                    target.add(words[0], words[1:])
        except (ValueError, OverflowError) as error:
            self.problems.append(Problem(number, line[:200], f"not understood ({error})"))
            if target is not None:
                target.reason = f"line {number} is not understood"
            elif command == "create":
                self.sets[words[1]] = _Building(words[1], words[2], [])
                self.sets[words[1]].reason = f"line {number} is not understood"

    def _command(self, command: str, target: _Building | None, words: list[str]) -> None:
        """What a line does to sets that are there. Raises ValueError."""
        if command in ("flush", "destroy") and len(words) == 1:
            for name, each in list(self.sets.items()):
                self._emptied(command, name, each)
            return
        if target is None:
            raise ValueError("no such set was created")
        if command in ("flush", "destroy"):
            self._emptied(command, words[1], target)
            return
        if len(words) < 3:
            raise ValueError("a word is missing")
        if command == "add":
            target.add(words[2], words[3:])
        elif command == "del":
            target.remove(words[2])
        elif command == "rename":
            self.sets[words[2]] = self.sets.pop(words[1])
        else:  # swap: the names change hands, and whoever matches a name meets the other's members
            other = self.sets.get(words[2])
            if other is None:
                raise ValueError("no such set was created")
            self.sets[words[1]], self.sets[words[2]] = other, target

    def _emptied(self, command: str, name: str, target: _Building) -> None:
        if command == "destroy":
            del self.sets[name]
        else:
            target.members.clear()
            target.nested.clear()

    def _heading(self, words: list[str]) -> bool:
        """Whether it is a line that ``ipset list`` puts before the members of a set. Raises ValueError."""
        if words[0] == "COMMIT" and not self._in_members:
            return True  # a restore of old ends with it
        if words[0] == "Name:" and len(words) == 2:
            self._name, self._in_members, self._listed = words[1], False, None
        elif words[0] == "Type:" and self._name and len(words) == 2:
            self._listed = self.sets[self._name] = _Building(self._name, words[1], [])
        elif words[0] == "Header:" and self._listed is not None:
            self._listed = self.sets[self._name] = _Building(self._name, self._listed.kind, words[1:])
        elif words[0] == "Members:" and self._listed is not None:
            self._in_members = True
        else:
            return words[0] in ("Revision:", "Size", "References:", "Number")
        return True
