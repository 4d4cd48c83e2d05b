"""Finds in the text of ``nft list ruleset`` the tables that no iptables wrote, and the hooks they stand at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_HOOK = re.compile(r"type \S+ hook (\S+)")
# iptables-nft keeps its five tables under these names in the families ip and ip6 (iptables/nft.c).
_IPTABLES_TABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})


class NftTable(msgspec.Struct, frozen=True):
    """One native table: family, name, the hooks that its base chains stand at, and the text of its body."""

    family: str
    name: str
    hooks: frozenset[str]
    text: str

    def stops(self) -> bool:
        """Whether anything in it can drop or reject (a table that only accepts or marks never loses a packet)."""
        return bool(re.search(r"\b(drop|reject|queue|jump|goto|vmap)\b", self.text))


def native_tables(text: str, iptables_nft_families: Iterable[int]) -> Iterator[NftTable]:
    """The tables of a listing that are not iptables-nft's own.

    Args:
        text: ``nft list ruleset``.
        iptables_nft_families: 4 and 6 as far as iptables-nft's save holds rules, so that its tables are recognised
            also where nft prints no warning above them (before 1.0.3).
    """
    managed = {"ip" if family == 4 else "ip6" for family in iptables_nft_families}
    lines: list[str] = []
    head: tuple[str, str] | None = None
    for line in text.splitlines():
        found = _TABLE.match(line)
        if found:
            head, lines = (found[1], found[2]), []
        elif head is not None and line.startswith("}"):
            if not (head[0] in managed and head[1] in _IPTABLES_TABLES):
                body = "\n".join(lines)
                yield NftTable(head[0], head[1], frozenset(_HOOK.findall(body)), body)
            head = None
        elif head is not None:
            lines.append(line)
