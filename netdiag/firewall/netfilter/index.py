"""Which rules of a long chain a packet can meet at all, without asking each.

For every field that many rules name alone (protocol, addresses, ports, devices) the rules that a value leaves are kept
as the bits of one number, and a packet's are taken together. A rule that names no value of a field is left by each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.kernel import State
from netdiag.firewall.netfilter.rules import Rule
from netdiag.firewall.netfilter.skb import Skb

SHORTEST = 24
"""Rules of a chain for which it is worth it."""
_MOST_CACHED = 512
_WIDEST = 16
"""Ports of a range that are kept one by one."""


class _Field:
    """One field: the rules that each of its values leaves."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._any = bytearray(b"\xff" * (count // 8 + 1))
        self._exact: dict[object, list[int]] = {}
        self._ranges: list[tuple[int, int, int]] = []
        self._masks: dict[int, dict[int, list[int]]] = {}
        self._cache: dict[object, int] = {}
        self.used = False

    def _named(self, rule: int) -> None:
        self._any[rule >> 3] &= ~(1 << (rule & 7))
        self.used = True

    def exact(self, rule: int, value: object) -> None:
        self._named(rule)
        self._exact.setdefault(value, []).append(rule)

    def network(self, rule: int, network: int, mask: int) -> None:
        self._named(rule)
        self._masks.setdefault(mask, {}).setdefault(network, []).append(rule)

    def between(self, rule: int, first: int, last: int) -> None:
        self._named(rule)
        if last - first < _WIDEST:
            for value in range(first, last + 1):
                self._exact.setdefault(value, []).append(rule)
        else:
            self._ranges.append((first, last, rule))

    def left(self, value: object) -> int:
        """The rules that a value leaves, as bits."""
        found = self._cache.get(value)
        if found is None:
            bits = bytearray(self._any)
            for rule in self._exact.get(value, ()):
                bits[rule >> 3] |= 1 << (rule & 7)
            if isinstance(value, int):
                for mask, networks in self._masks.items():
                    for rule in networks.get(value & mask, ()):
                        bits[rule >> 3] |= 1 << (rule & 7)
                for rule in [rule for first, last, rule in self._ranges if first <= value <= last]:
                    bits[rule >> 3] |= 1 << (rule & 7)
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            found = self._cache[value] = int.from_bytes(bits, "little")
        return found


class Index:
    """The rules of one chain, by what they name."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._count = len(rules)
        self._fields = {
            name: _Field(self._count)
            for name in (
                "protocol",
                "source",
                "destination",
                "source_port",
                "destination_port",
                "in_device",
                "out_device",
                "state",
            )
        }
        for at, rule in enumerate(rules):
            for name, match in _first_of_each(rule):
                field = self._fields[name]
                if isinstance(match, header.Protocol):
                    field.exact(at, match.number)
                elif isinstance(match, header.Network):
                    field.network(at, match.network, match.mask)
                elif isinstance(match, header.Ports):
                    field.between(at, match.first, match.last)
                elif isinstance(match, header.Multiport):
                    for first, last in match.ranges:
                        field.between(at, first, last)
                elif isinstance(match, State):
                    for state in match.wanted:
                        field.exact(at, state)
                else:
                    field.exact(at, match.name)
        self._fields = {name: field for name, field in self._fields.items() if field.used}

    def candidates(self, skb: Skb, start: int) -> Iterator[int]:
        """The rules that may match, from one on, in their order."""
        bits = (1 << self._count) - 1
        for name, field in self._fields.items():
            value = getattr(skb, name)
            if value is not None:
                bits &= field.left(value)
        ones = bin(bits)[:1:-1]
        at = ones.find("1", start)
        while at >= 0:
            yield at
            at = ones.find("1", at + 1)


_Indexed = header.Protocol | header.Network | header.Ports | header.Multiport | header.Device | State
_TRANSLATED = frozenset({"DNAT", "SNAT"})
"""What a packet can be beside its state."""


def _first_of_each(rule: Rule) -> Iterator[tuple[str, _Indexed]]:
    """The first condition on each field; one is enough to leave a rule out."""
    seen: set[str] = set()
    for match in rule.matches:
        if not isinstance(match, _Indexed) or match.negated:
            continue
        if isinstance(match, header.Protocol):
            name = "protocol" if match.number else ""
        elif isinstance(match, header.Network):
            name = match.side if match.mask else ""
        elif isinstance(match, header.Ports):
            name = f"{match.side}_port"
        elif isinstance(match, header.Multiport):
            name = f"{match.sides[0]}_port" if len(match.sides) == 1 else ""
        elif isinstance(match, State):
            name = "" if match.wanted & _TRANSLATED else "state"
        else:
            name = "" if match.name.endswith("+") else f"{match.side}_device"
        if name and name not in seen:
            seen.add(name)
            yield name, match
