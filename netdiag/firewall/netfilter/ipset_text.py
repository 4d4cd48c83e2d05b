"""What ``ipset save`` and ``ipset list`` print. Source: ipset's lib/session.c."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from netdiag.firewall.netfilter.addresses import read_address, read_network, read_number
from netdiag.firewall.netfilter.names import ICMP_TYPES, ICMPV6_TYPES
from netdiag.firewall.netfilter.rules import Problem
from netdiag.firewall.netfilter.sets import DIMENSIONS, IpSet
from netdiag.firewall.netfilter.skb import ICMP, ICMPV6, TCP
from netdiag.model.protocols import number_of

_OLD = {
    "iphash": "hash:ip",
    "nethash": "hash:net",
    "ipmap": "bitmap:ip",
    "portmap": "bitmap:port",
    "setlist": "list:set",
}


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
            if option == "netmask" and value.isdigit():
                bits = 128 if self.family == 6 else 32
                self.netmask = ((1 << int(value)) - 1) << max(0, bits - int(value))
            elif option == "markmask":
                self.markmask = read_number(value, 0xFFFFFFFF)
            elif option == "bitmask":
                self.reason = "a set with a bitmask is not modelled"

    def add(self, written: str, options: list[str]) -> None:
        """Add a member. Raises ValueError for one that is not understood."""
        if self.reason:
            return
        if self.kind == "list:set":
            if any(option in ("before", "after") for option in options):
                raise ValueError("its place in the list")
            self.nested.append(written)
            return
        parts = written.split(",")
        dimensions = DIMENSIONS[self.kind]
        if len(parts) != len(dimensions):
            raise ValueError(f"{len(dimensions)} parts are wanted")
        choices = [list(self._part(what, part)) for what, part in zip(dimensions, parts, strict=True)]
        for key in _product(choices):
            masks = tuple(mask for _, mask in key)
            values = tuple(value for value, _ in key)
            self.members.setdefault(masks, {})[values] = "nomatch" in options

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
    """The sets of ``ipset save`` or ``ipset list``; never raises. A bad line makes its set's answers unknown."""
    reading = _Reading()
    for number, raw in enumerate(text.split("\n"), start=1):
        words = raw.split(None, 64)
        if words and not words[0].startswith("#"):
            reading.line(number, raw.strip(), words)
    return {name: built.built() for name, built in reading.sets.items()}, tuple(reading.problems)


class _Reading:
    """A text while its lines are read."""

    def __init__(self) -> None:
        self.sets: dict[str, _Building] = {}
        self.problems: list[Problem] = []
        self._name = ""
        self._listed: _Building | None = None
        self._in_members = False

    def line(self, number: int, line: str, words: list[str]) -> None:
        target: _Building | None = None
        try:
            if words[0] in ("create", "-N") and len(words) >= 3:
                self._listed = None
                self.sets[words[1]] = _Building(words[1], words[2], words[3:])
            elif words[0] in ("add", "-A") and len(words) >= 3 and words[1] in self.sets:
                target = self.sets[words[1]]
                target.add(words[2], words[3:])
            elif not self._heading(words):
                target = self._listed if self._in_members else None
                if target is None:
                    self.problems.append(Problem(number, line[:200]))
                else:
                    target.add(words[0], words[1:])
        except ValueError as error:
            self.problems.append(Problem(number, line[:200], f"not understood ({error})"))
            if target is not None:
                target.reason = f"line {number} is not understood"

    def _heading(self, words: list[str]) -> bool:
        """Whether it is a line that ``ipset list`` puts before the members of a set. Raises ValueError."""
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
