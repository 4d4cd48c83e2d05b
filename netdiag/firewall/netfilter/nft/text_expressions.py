"""Reads the expressions of nft's own language into the words of ``nft -j``. Format: nft(8), nftables src/parser_bison.y."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from netdiag.firewall.netfilter.nft.lexing import Cursor, Strange

_HEADERS = frozenset(
    "ip ip6 tcp udp udplite sctp dccp icmp icmpv6 igmp th ether vlan arp esp ah comp gre".split()  # noqa: SIM905 - one name a word
)
_BARE_META = frozenset(
    "iif oif iifname oifname iiftype oiftype iifgroup oifgroup mark skuid skgid pkttype".split()  # noqa: SIM905 - one name a word
)
"""Keys that nft takes without ``meta`` before them."""
_EXTENSIONS = frozenset({"frag", "hbh", "dst", "mh", "rt"})
_DIRECTIONS = ("original", "reply")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")
_NUMBERS = re.compile(rf"({_NUMBER.pattern})-({_NUMBER.pattern})")
_RAW = re.compile(r"@(ll|nh|th|ih),(\d+),(\d+)")
_FLAGS = frozenset({"saddr", "daddr", "mark", "iif", "oif"})
Json = dict[str, Any]


def begins_expression(cursor: Cursor) -> bool:
    """Whether what stands here is loaded of a packet."""
    token = cursor.peek()
    if token.quoted or token.ends:
        return False
    known = token.text in _HEADERS or token.text in _BARE_META or token.text in _LOADERS
    return known or bool(_RAW.fullmatch(token.text)) or token.text == "("


def read_key(cursor: Cursor) -> object:
    """One expression, or several with dots between."""
    found = [read_left(cursor)]
    while cursor.skips("."):
        found.append(read_left(cursor))
    return found[0] if len(found) == 1 else {"concat": found}


def read_left(cursor: Cursor) -> object:
    """An expression with what is done to its bits."""
    return _by_precedence(cursor, 0, read_atom)


_OPERATORS: tuple[Mapping[str, str], ...] = (
    {"|": "|", "or": "|"},
    {"^": "^", "xor": "^"},
    {"&": "&", "and": "&"},
    {"<<": "<<", "lshift": "<<", ">>": ">>", "rshift": ">>"},
)
_OPERATES = frozenset(word for level in _OPERATORS for word in level)


def _by_precedence(cursor: Cursor, level: int, atom: Callable[[Cursor], object]) -> object:
    if level == len(_OPERATORS):
        return atom(cursor)
    found = _by_precedence(cursor, level + 1, atom)
    while cursor.is_(*_OPERATORS[level]):
        operator = _OPERATORS[level][cursor.take().text]
        found = {operator: [found, _by_precedence(cursor, level + 1, atom)]}
    return found


def read_atom(cursor: Cursor) -> object:
    """A field, an expression in brackets, or a constant."""
    if cursor.skips("("):
        inside = read_left(cursor)
        cursor.take(")")
        return inside
    token = cursor.peek()
    if token.quoted or not begins_expression(cursor):
        return read_value(cursor)
    word = cursor.take().text
    if raw := _RAW.fullmatch(word):
        return {"payload": {"base": raw[1], "offset": int(raw[2]), "len": int(raw[3])}}
    if word in _BARE_META:
        return {"meta": {"key": word}}
    if word == "ip" and cursor.skips("option"):
        return {"ip option": _named_field(cursor)}
    if word == "tcp" and cursor.skips("option"):
        return {"tcp option": _named_field(cursor)}
    if word in ("sctp", "dccp") and cursor.is_("chunk", "option"):
        raise Strange(f"{word} {cursor.peek().text} is not understood", token.line_number)
    if word in _LOADERS and word not in _HEADERS:
        return _LOADERS[word](cursor, word)
    return {"payload": {"protocol": word, "field": cursor.word()}}


def _named_field(cursor: Cursor) -> Json:
    found: Json = {"name": cursor.word()}
    token = cursor.peek()
    if not token.quoted and token.text.isalpha() and token.text not in ("exists", "missing", "set"):
        found["field"] = cursor.word()
    return found


def _meta(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    return {"meta": {"key": cursor.word()}}


def _ct(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    found: Json = {}
    if cursor.is_(*_DIRECTIONS):
        found["dir"] = cursor.word()
    key = cursor.word()
    if key in ("ip", "ip6"):
        key = f"{key} {cursor.word()}"
    return {"ct": {"key": key, **found}}


def _fib(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    flags = [cursor.word()]
    while cursor.skips("."):
        flags.append(cursor.word())
    if not set(flags) <= _FLAGS:
        raise Strange(f"fib {' . '.join(flags)[:40]} is not understood", cursor.peek().line_number)
    result = cursor.word()
    return {"fib": {"result": result, "flags": flags}}


def _rt(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    found: Json = {}
    if cursor.is_("ip", "ip6"):
        found["family"] = cursor.word()
    return {"rt": {"key": cursor.word(), **found}}


def _socket(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    found: Json = {"key": cursor.word()}
    if cursor.skips("level"):
        cursor.word()
    return {"socket": found}


def _extension(cursor: Cursor, word: str) -> Json:
    if word == "exthdr":
        return {"exthdr": {"name": cursor.word()}}
    return {"exthdr": {"name": word, "field": cursor.word()}}


def _numgen(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    mode = cursor.word()
    cursor.take("mod")
    found: Json = {"mode": mode, "mod": _integer(cursor), "offset": 0}
    if cursor.skips("offset"):
        found["offset"] = _integer(cursor)
    return {"numgen": found}


def _hash(cursor: Cursor, word: str) -> Json:
    inner: Json = {}
    if word == "jhash":
        inner["expr"] = read_key(cursor)
    cursor.take("mod")
    inner["mod"] = _integer(cursor)
    for option in ("seed", "offset"):
        if cursor.skips(option):
            inner[option] = _integer(cursor)
    return {word: inner}


def _osf(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    if cursor.skips("ttl"):
        cursor.word()
    return {"osf": {"key": cursor.word()}}


def _ipsec(cursor: Cursor, word: str) -> Json:  # noqa: ARG001
    words = [cursor.word()]
    if cursor.skips("spnum"):
        cursor.word()
    while cursor.is_("ip", "ip6", "saddr", "daddr", "reqid", "spi"):
        words.append(cursor.word())
    return {"ipsec": {"key": " ".join(words)}}


_LOADERS: Mapping[str, Callable[[Cursor, str], Json]] = {
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "rt": _rt,
    "socket": _socket,
    "exthdr": _extension,
    **dict.fromkeys(_EXTENSIONS - {"rt"}, _extension),
    "numgen": _numgen,
    "jhash": _hash,
    "symhash": _hash,
    "osf": _osf,
    "ipsec": _ipsec,
}


def _integer(cursor: Cursor) -> int:
    token = cursor.peek()
    word = cursor.word()
    if not _NUMBER.fullmatch(word):
        raise Strange(f"{word[:40]!r} is no number", token.line_number)
    return int(word, 0)


def read_value(cursor: Cursor) -> object:
    """A constant, a range, a prefix or a name."""
    token = cursor.peek()
    word = cursor.word()
    if token.quoted:
        if cursor.peek().text.startswith("-") and cursor.peek(1).quoted and not cursor.peek().quoted:
            cursor.take()
            return {"range": [word, cursor.word()]}
        return word
    if "$" in word:
        raise Strange(f"the variable {word[:40]} is not understood", token.line_number)
    return constant(word)


def constant(word: str) -> object:
    """What a bare word stands for."""
    if _NUMBER.fullmatch(word):
        return int(word, 0) if word.startswith("0x") or not word.startswith("0") else int(word)
    if found := _NUMBERS.fullmatch(word):
        return {"range": [int(found[1], 0), int(found[2], 0)]}
    first, dash, last = word.partition("-")
    if dash and _is_address(first) and _is_address(last):
        return {"range": [first, last]}
    address, slash, length = word.partition("/")
    if slash and length.isdigit():
        return {"prefix": {"addr": constant(address), "len": int(length)}}
    if word in ("exists", "missing"):
        return word == "exists"
    return word


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text.count(":") == 5
    return True


def read_constants(cursor: Cursor) -> object:
    """A constant with flags that are added, in brackets or not."""

    def atom(inner: Cursor) -> object:
        if inner.skips("("):
            found = read_constants(inner)
            inner.take(")")
            return found
        return read_value(inner)

    if not cursor.is_("("):
        # Most constants are one word, and sets are long.
        mark = cursor.mark()
        found = read_value(cursor)
        if not cursor.is_(*_OPERATES):
            return found
        cursor.back(mark)
    return _flat(_by_precedence(cursor, 0, atom))


def _flat(value: object) -> object:
    """``a | b | c`` as one list of flags."""
    if isinstance(value, dict) and len(value) == 1 and "|" in value:
        rows: list[Any] = []
        for each in value["|"]:
            inner = _flat(each)
            rows += inner["|"] if isinstance(inner, dict) and "|" in inner else [inner]
        return {"|": rows}
    return value


def read_right(cursor: Cursor) -> object:
    """What a field is compared with: a set, its name, a list of flags, a value, or several with dots between."""
    if cursor.is_("{"):
        return {"set": read_elements(cursor, is_map=False)}
    token = cursor.peek()
    if not token.quoted and token.text.startswith("@") and not _RAW.fullmatch(token.text):
        return cursor.word()
    found = read_concat(cursor)
    if cursor.is_(","):
        rows = [found]
        while cursor.skips(","):
            rows.append(read_constants(cursor))
        return rows
    return found


def read_concat(cursor: Cursor) -> object:
    """A constant, or several with dots between."""
    parts = [read_constants(cursor)]
    while cursor.skips("."):
        parts.append(read_constants(cursor))
    return parts[0] if len(parts) == 1 else {"concat": parts}


def read_elements(cursor: Cursor, *, is_map: bool) -> list[Any]:
    """The elements of a set or a map, in braces."""
    cursor.take("{")
    rows: list[Any] = []
    cursor.skip_ends()
    while not cursor.skips("}"):
        key, attributes = read_concat(cursor), _attributes(cursor)
        element = {"elem": {"val": key, **attributes}} if attributes else key
        if is_map:
            cursor.take(":")
            cursor.skip_ends()
            rows.append([element, read_data(cursor)])
        else:
            rows.append(element)
        cursor.skip_ends()
        if not cursor.is_("}"):
            cursor.take(",")
        cursor.skip_ends()
    return rows


def read_data(cursor: Cursor) -> object:
    """What a map has for a key: a verdict, or a value."""
    if cursor.is_("accept", "drop", "return", "continue", "queue"):
        return {cursor.word(): None}
    if cursor.is_("jump", "goto"):
        verdict = cursor.word()
        return {verdict: {"target": cursor.word()}}
    return read_concat(cursor)


def _attributes(cursor: Cursor) -> Json:
    """What stands behind an element's key."""
    found: Json = {}
    while not cursor.is_(",", "}", ":") and not cursor.peek().ends:
        token = cursor.peek()
        word = cursor.word()
        if word in ("timeout", "expires"):
            found[word] = cursor.word()
        elif word == "comment":
            found["comment"] = cursor.word()
        elif word == "counter":
            found["counter"] = counts(cursor)
        elif word in ("limit", "quota", "ct"):
            found["ct count" if word == "ct" else word] = {}
            while not cursor.is_(",", "}", ":", "counter", "comment") and not cursor.peek().ends:
                cursor.word()
        elif word == "last":
            cursor.skips("used")
            cursor.word()
        else:
            raise Strange(f"{word[:40]!r} behind an element is not understood", token.line_number)
    return found


def counts(cursor: Cursor) -> Json | None:
    """``packets N bytes N`` of a counter, if it is there."""
    if not cursor.skips("packets"):
        return None
    packets = _integer(cursor)
    cursor.take("bytes")
    return {"packets": packets, "bytes": _integer(cursor)}
