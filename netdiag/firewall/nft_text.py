"""Finds in the text of ``nft list ruleset`` the tables that no iptables wrote, and the hooks they stand at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_HOOK = re.compile(r"type \S+ hook (\S+)")
# A jump or a verdict map loses nothing by itself: the verdict stands in the same table.
_STOPS = re.compile(r"\b(drop|reject|queue|synproxy)\b")

_ALTERS = re.compile(
    r"\b(?:(?:dnat|redirect|notrack|tproxy|fwd)\b|(?:mark|dscp|ttl|hoplimit|saddr|daddr|sport|dport) set )"
)


class NftTable(msgspec.Struct, frozen=True):
    """One native table: family, name, the hooks that its base chains stand at, and the text of its body."""

    family: str
    name: str
    hooks: frozenset[str]
    text: str

    def stops(self) -> bool:
        """Whether anything in it can drop or reject (a table that only accepts or marks never loses a packet)."""
        return bool(_STOPS.search(self.text))

    def alters(self) -> bool:
        """Whether anything in it makes of a packet another one, which rules behind it see."""
        return bool(_ALTERS.search(self.text))


def native_tables(text: str, iptables_nft_tables: Iterable[tuple[str, str]]) -> Iterator[NftTable]:
    """The tables of a listing that are not iptables-nft's own.

    Args:
        text: ``nft list ruleset``.
        iptables_nft_tables: (family, name) of the tables that iptables-nft's save shows. A table of the same name that
            nft wrote is not among them: iptables calls it incompatible and shows nothing of it.
    """
    managed = frozenset(iptables_nft_tables)
    lines: list[str] = []
    head: tuple[str, str] | None = None
    for line in text.splitlines():
        found = _TABLE.match(line)
        if found:
            head, lines = (found[1], found[2]), []
        elif head is not None and line.startswith("}"):
            if head not in managed:
                body = "\n".join(lines)
                yield NftTable(head[0], head[1], frozenset(_HOOK.findall(body)), body)
            head = None
        elif head is not None:
            lines.append(line)
