"""What ip(8) and bridge(8) print, as rows: JSON where they know it, lines of words where they are too old for it.

Nothing here raises: what is neither is no row, and is said in the error.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from netdiag.facts.netlink import Decoded

Row = TypeVar("Row")
Values = Mapping[str, Any]

_CONTINUED = re.compile(r"\n[ \t]+")


def decoded(
    what: str,
    text: str,
    from_json: Callable[[Values], Sequence[Row]],
    from_line: Callable[[list[str]], Sequence[Row]],
) -> Decoded[Row]:
    """The rows of one listing.

    Args:
        what: The table's name, for the error.
        text: What the tool printed.
        from_json: One object's rows.
        from_line: One entry's rows; the entry as its lines, which ``-o`` joins by a backslash.
    """
    if text.lstrip()[:1] == "[":
        return _from_json(what, text, from_json)
    rows: list[Row] = []
    strange = ""
    for line in _CONTINUED.sub("\\\\ ", text.strip("\n")).split("\n"):
        if not line.strip():
            continue
        try:
            rows.extend(from_line(line.split("\\")))
        except (ValueError, IndexError, KeyError):
            strange = strange or f"{what}: not understood: {' '.join(line.split())[:80]}"
    return Decoded(tuple(rows), strange)


def _from_json(what: str, text: str, from_json: Callable[[Values], Sequence[Row]]) -> Decoded[Row]:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return Decoded((), f"{what}: the JSON is damaged")
    rows: list[Row] = []
    strange = ""
    for item in listed:
        if not item:
            continue  # iproute2 before 5.0 prints an empty object for what a filter left out
        try:
            rows.extend(from_json(item))
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            strange = strange or f"{what}: an entry was not understood: {json.dumps(item)[:80]}"
    return Decoded(tuple(rows), strange)


def options(words: Sequence[str], valued: frozenset[str]) -> dict[str, str]:
    """Words as options: those in ``valued`` with the word that follows, the others with an empty text."""
    found: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        if word in valued and position + 1 < len(words):
            position += 1
            found.setdefault(word, words[position])
        else:
            found.setdefault(word, "")
        position += 1
    return found


def number(value: object) -> int | None:
    """A number, also written as text, in hexadecimal too; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        return int(str(value), 0)
    except ValueError:
        return None


def text_of(item: Values, key: str) -> str:
    """A member's text; "" where it is not there."""
    value = item.get(key)
    return "" if value is None else str(value)


def canonical(address: str) -> str:
    """An address in canonical text. Raises ValueError for what is none."""
    return str(ipaddress.ip_address(address.partition("%")[0]))


def prefix_of(text: str, family: int) -> str:
    """A destination as routes have it: with its length, "default" and "all" as the network of length 0.

    Raises ValueError for what is none.
    """
    if text in ("default", "all", "any"):
        return "0.0.0.0/0" if family == 4 else "::/0"
    address, slash, length = text.partition("/")
    if family == 4 and slash and address.count(".") < 3:
        address += ".0" * (3 - address.count("."))  # ip(8) shortens 10.0.0.0/8 in old versions
    return with_length(address, length if slash else "")


def with_length(address: str, length: object = "") -> str:
    """An address with the length of its prefix; without one, that of a single address.

    Raises ValueError for an address that is none, and for a length that it cannot have.
    """
    whole = canonical(address)
    bits = 32 if ":" not in whole else 128
    shown = str(length) or str(bits)
    if not (shown.isdecimal() and len(shown) <= 3 and int(shown) <= bits):
        raise ValueError(f"{address}/{length}")
    return f"{whole}/{int(shown)}"
