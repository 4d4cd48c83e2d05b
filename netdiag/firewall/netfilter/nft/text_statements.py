"""Reads the statements of nft's own language into the words of ``nft -j``. Format: nft(8), nftables src/parser_bison.y."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from netdiag.firewall.netfilter.nft.lexing import Cursor, Strange
from netdiag.firewall.netfilter.nft.text_expressions import (
    Json,
    begins_expression,
    constant,
    counts,
    read_constants,
    read_data,
    read_elements,
    read_key,
    read_left,
    read_right,
)

_ORDERS = ("==", "!=", "<", ">", "<=", ">=", "!")
_BITMASKS = ({"payload": {"protocol": "tcp", "field": "flags"}}, {"ct": {"key": "state"}}, {"ct": {"key": "status"}})
_NAT_FLAGS = ("random", "fully-random", "persistent")
_LOG = ("prefix", "level", "group", "snaplen", "queue-threshold", "flags")
_RATE = re.compile(r"(\d+)/(second|minute|hour|day|week)")
_PORT = re.compile(r"(.*):(\d+)(?:-(\d+))?")


def read_statement(cursor: Cursor) -> Json:
    """One statement. Raises Strange for one that is not understood; the cursor is then anywhere in it."""
    token = cursor.peek()
    if not token.quoted and token.text in _STATEMENTS:
        read = _STATEMENTS[token.text]
        mark = cursor.mark()
        cursor.take()
        found = read(cursor)
        if found is not None:
            return found
        cursor.back(mark)
    if begins_expression(cursor):
        return _of_expression(cursor)
    raise Strange(f"the statement {token.text[:40]!r} is not understood", token.line_number)


def _of_expression(cursor: Cursor) -> Json:
    """A match, a verdict map, or a field that is set."""
    left = read_key(cursor)
    if cursor.skips("vmap"):
        return {"vmap": {"key": left, "data": read_map_data(cursor)}}
    if cursor.skips("set"):
        return {"mangle": {"key": left, "value": read_new(cursor)}}
    operator = cursor.take().text if cursor.is_(*_ORDERS) else ""
    right = read_right(cursor)
    if cursor.skips("/"):
        # "tcp flags syn / syn,ack": what is set of a mask.
        mask = read_right(cursor)
        left = {"&": [left, mask]}
        return {"match": {"op": operator or "==", "left": left, "right": right}}
    plain = left in _BITMASKS and not (isinstance(right, dict) and "set" in right) and not isinstance(right, str)
    named = isinstance(right, str) and not right.startswith("@")
    if not operator and left in _BITMASKS and (plain or named):
        operator = "in"
    return {"match": {"op": operator or "==", "left": left, "right": right}}


def read_map_data(cursor: Cursor) -> object:
    """A map, or its name."""
    if cursor.is_("{"):
        return {"set": read_elements(cursor, is_map=True)}
    return cursor.word()


def read_new(cursor: Cursor) -> object:
    """What a field is set to: an expression, perhaps looked up in a map."""
    if cursor.is_("{"):
        raise Strange("a set stands where a value should", cursor.peek().line_number)
    found = read_key(cursor) if begins_expression(cursor) else read_constants(cursor)
    if cursor.skips("map"):
        return {"map": {"key": found, "data": read_map_data(cursor)}}
    return found


def _verdict(word: str) -> Callable[[Cursor], Json]:
    return lambda cursor: {word: None}  # noqa: ARG005


def _call(word: str) -> Callable[[Cursor], Json]:
    return lambda cursor: {word: {"target": cursor.word()}}


def _counter(cursor: Cursor) -> Json:
    if cursor.skips("name"):
        return {"counter": cursor.word()}
    return {"counter": counts(cursor)}


def _log(cursor: Cursor) -> Json:
    found: Json = {}
    while cursor.is_(*_LOG):
        key = cursor.word()
        words = [cursor.word()]
        if key == "flags" and words[0] not in ("all", "skuid", "ether"):
            words.append(cursor.word())
            while cursor.skips(","):
                words.append(cursor.word())
        found[key] = words[0] if len(words) == 1 else words
    return {"log": found or None}


def rate(cursor: Cursor) -> Json:
    """``rate over 10/second burst 5 packets``, behind the first word."""
    found: Json = {"inv": True} if cursor.skips("over") else {}
    token = cursor.peek()
    word = cursor.word()
    if "/" not in word:
        word += "/" + cursor.word().partition("/")[2]
    said = _RATE.fullmatch(word)
    if said is None:
        raise Strange(f"the rate {word[:40]!r} is not understood", token.line_number)
    if cursor.skips("burst"):
        found["burst"] = cursor.word()
        cursor.word()
    return {"rate": int(said[1]), "per": said[2], **found}


def _limit(cursor: Cursor) -> Json:
    if cursor.skips("name"):
        return {"limit": cursor.word()}
    cursor.take("rate")
    return {"limit": rate(cursor)}


def _quota(cursor: Cursor) -> Json:
    if cursor.skips("name"):
        return {"quota": cursor.word()}
    found: Json = {"inv": True} if cursor.skips("over") else {}
    cursor.skips("until")
    found |= {"val": cursor.word(), "val_unit": cursor.word()}
    if cursor.skips("used"):
        cursor.word()
        cursor.word()
    return {"quota": found}


def _last(cursor: Cursor) -> Json:
    if cursor.skips("used"):
        cursor.word()
    return {"last": None}


def _reject(cursor: Cursor) -> Json:
    if not cursor.skips("with"):
        return {"reject": None}
    kind = cursor.word()
    if kind == "tcp":
        cursor.take("reset")
        return {"reject": {"type": "tcp reset"}}
    cursor.skips("type")
    return {"reject": {"type": kind, "expr": cursor.word()}}


def _flags(cursor: Cursor) -> Json:
    found: list[str] = []
    while cursor.is_(*_NAT_FLAGS):
        found.append(cursor.word())
        cursor.skips(",")
    return {"flags": found} if found else {}


def _nat(kind: str) -> Callable[[Cursor], Json]:
    def read(cursor: Cursor) -> Json:
        found: Json = {}
        if cursor.is_("ip", "ip6") and cursor.peek(1).text in ("to", "prefix", "addr", "interval"):
            found["family"] = cursor.word()
        while cursor.is_("prefix", "interval", "addr", "port", "."):
            word = cursor.take().text
            if word == "prefix":
                found["type_flags"] = "prefix"
        cursor.skips("to")
        found |= _target(cursor)
        return {kind: {**found, **_flags(cursor)} or None}

    return read


def _target(cursor: Cursor) -> Json:
    """An address with a port behind it, either alone, or a map's."""
    if cursor.peek().ends or cursor.is_(*_NAT_FLAGS):
        return {}
    if begins_expression(cursor):
        return {"addr": read_new(cursor)}
    word = cursor.word()
    port: object = None
    bracketed = word.startswith("[")
    found = _PORT.fullmatch(word)
    if found is not None and (bracketed or found[1] == "" or found[1].count(":") == 0):
        port = int(found[2]) if found[3] is None else {"range": [int(found[2]), int(found[3])]}
        word = found[1]
    if bracketed:
        first, dash, last = word.partition("]-[")
        word = f"{first.strip('[]')}{dash and '-'}{last.strip('[]')}"
    address = {"addr": constant(word)} if word else {}
    return {**address, **({"port": port} if port is not None else {})}


def _to_port(kind: str) -> Callable[[Cursor], Json]:
    def read(cursor: Cursor) -> Json:
        found: Json = {}
        if cursor.skips("to"):
            found = _target(cursor)
            if "addr" in found:
                found = {"port": found["addr"]}
        found |= _flags(cursor)
        return {kind: found or None}

    return read


def _queue(cursor: Cursor) -> Json:
    while not cursor.peek().ends:
        cursor.take()
    return {"queue": {}}


def _dynamic(operator: str) -> Callable[[Cursor], Json]:
    def read(cursor: Cursor) -> Json:
        name = cursor.word()
        return {"set": {"op": operator, "set": name, **_element(cursor)}}

    return read


def _meter(cursor: Cursor) -> Json:
    name = cursor.word()
    if cursor.skips("size"):
        cursor.word()
    inner = _element(cursor)
    return {"meter": {"name": name, "key": inner.pop("elem"), **inner}}


def _element(cursor: Cursor) -> Json:
    """What is added to a set, in braces, with its statements."""
    cursor.take("{")
    found: Json = {"elem": read_key(cursor)}
    statements: list[Json] = []
    while not cursor.skips("}"):
        if cursor.skips("timeout", "expires"):
            cursor.word()
        elif cursor.skips(":"):
            found["data"] = read_data(cursor)
        else:
            statements.append(read_statement(cursor))
    return {**found, **({"stmt": statements} if statements else {})}


def _ct(cursor: Cursor) -> Json | None:
    """``ct count``, and what gives a flow a helper; anything else is an expression."""
    if cursor.is_("count") and not cursor.peek(1).ends:
        cursor.take()
        over = {"inv": True} if cursor.skips("over") else {}
        return {"ct count": {"val": cursor.word(), **over}}
    if cursor.is_("helper", "timeout", "expectation") and cursor.peek(1).text == "set":
        kind = cursor.word()
        cursor.take()
        return {f"ct {kind}": cursor.word()}
    return None


def _flow(cursor: Cursor) -> Json:
    operator = cursor.word()
    return {"flow": {"op": operator, "flowtable": cursor.word()}}


def _xt(cursor: Cursor) -> Json:
    kind = cursor.word()
    return {"xt": {"type": kind, "name": cursor.word()}}


def _rest(word: str) -> Callable[[Cursor], Json]:
    """A statement that nothing is asked of but that it stands there."""

    def read(cursor: Cursor) -> Json:
        while not cursor.peek().ends:
            cursor.take()
        return {word: {}}

    return read


def _dup(cursor: Cursor) -> Json:
    if cursor.skips("to"):
        read_left(cursor)
    if cursor.skips("device"):
        read_left(cursor)
    return {"dup": {}}


_STATEMENTS: Mapping[str, Callable[[Cursor], Json | None]] = {
    **{word: _verdict(word) for word in ("accept", "drop", "return", "continue", "notrack")},
    "jump": _call("jump"),
    "goto": _call("goto"),
    "counter": _counter,
    "log": _log,
    "limit": _limit,
    "quota": _quota,
    "last": _last,
    "reject": _reject,
    "dnat": _nat("dnat"),
    "snat": _nat("snat"),
    "masquerade": _to_port("masquerade"),
    "redirect": _to_port("redirect"),
    "queue": _queue,
    **{word: _dynamic(word) for word in ("add", "update", "delete")},
    "meter": _meter,
    "ct": _ct,
    "flow": _flow,
    "xt": _xt,
    "dup": _dup,
    "fwd": _rest("fwd"),
    "tproxy": _rest("tproxy"),
    "synproxy": _rest("synproxy"),
}
