"""Writes a rule of ``nft -j`` as ``nft list ruleset`` does, where that text is not at hand.

Format: nftables src/statement.c, src/expression.c. What is not known is written as its JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_QUOTED_KEYS = frozenset({"iif", "oif", "iifname", "oifname"})
_OPERATORS = ("&", "|", "^", "<<", ">>")
_DEEPEST = 40


def rule_text(statements: object, comment: str = "") -> str:
    """The rule in a line, without its counters' numbers."""
    rows = statements if isinstance(statements, list) else []
    words = [_statement(each) for each in rows]
    if comment:
        words.append(f'comment "{comment}"')
    return " ".join(word for word in words if word)


def expression_text(value: object, *, quoted: bool = False, depth: int = 0) -> str:
    """An expression or a constant."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, list):
        return ",".join(expression_text(each, quoted=quoted, depth=depth + 1) for each in value)
    if isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        return _object(str(name), inner, quoted=quoted, depth=depth)
    if isinstance(value, bool):
        return "exists" if value else "missing"
    if isinstance(value, str):
        return f'"{value}"' if quoted and not value.startswith("@") else value
    return _as_json(value)


def _object(name: str, inner: object, *, quoted: bool, depth: int) -> str:
    if isinstance(inner, list) and name in _OPERATORS:
        return f" {name} ".join(_operand(each, name, depth) for each in inner)
    if isinstance(inner, list) and name in ("set", "concat", "range"):
        rows = [_pair(each, quoted=quoted, depth=depth) for each in inner]
        return {"set": f"{{ {', '.join(rows)} }}", "concat": " . ".join(rows), "range": "-".join(rows)}[name]
    if isinstance(inner, dict):
        if name == "elem":
            return expression_text(inner.get("val"), quoted=quoted, depth=depth + 1)
        write = _EXPRESSIONS.get(name)
        if write is not None:
            return write(inner, depth)
    return _as_json({name: inner})


def _as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _operand(value: object, operator: str, depth: int) -> str:
    text = expression_text(value, depth=depth + 1)
    if isinstance(value, list):
        return f"({text.replace(',', ' | ')})"
    own = next(iter(value)) if isinstance(value, dict) and len(value) == 1 else ""
    return f"({text})" if own in _OPERATORS and own != operator else text


def _pair(value: object, *, quoted: bool, depth: int) -> str:
    """A member; of a map with what it has for it."""
    if not isinstance(value, list) or len(value) != 2:
        return expression_text(value, quoted=quoted, depth=depth + 1)
    said = value[1]
    verdict = isinstance(said, dict) and len(said) == 1 and next(iter(said)) in _VERDICTS
    right = _statement(said) if verdict else expression_text(said, depth=depth + 1)
    return f"{expression_text(value[0], quoted=quoted, depth=depth + 1)} : {right}"


def _payload(inner: Mapping[str, Any], depth: int) -> str:  # noqa: ARG001
    if "base" in inner:
        return f"@{inner['base']},{inner.get('offset')},{inner.get('len')}"
    return f"{inner.get('protocol')} {inner.get('field')}"


def _meta(inner: Mapping[str, Any], depth: int) -> str:  # noqa: ARG001
    key = str(inner.get("key"))
    return key if key in _QUOTED_KEYS else f"meta {key}"


def _ct(inner: Mapping[str, Any], depth: int) -> str:  # noqa: ARG001
    return " ".join(str(each) for each in ("ct", inner.get("dir"), inner.get("family"), inner.get("key")) if each)


def _fib(inner: Mapping[str, Any], depth: int) -> str:  # noqa: ARG001
    flags = inner.get("flags") or []
    return f"fib {' . '.join(map(str, flags if isinstance(flags, list) else [flags]))} {inner.get('result')}"


def _map(inner: Mapping[str, Any], depth: int) -> str:
    key = expression_text(inner.get("key"), depth=depth + 1)
    return f"{key} map {expression_text(inner.get('data'), depth=depth + 1)}"


def _prefix(inner: Mapping[str, Any], depth: int) -> str:  # noqa: ARG001
    return f"{inner.get('addr')}/{inner.get('len')}"


def _named(word: str) -> Callable[[Mapping[str, Any], int], str]:
    def write(inner: Mapping[str, Any], depth: int) -> str:  # noqa: ARG001
        found = [str(inner[name]) for name in ("family", "name", "key", "field") if inner.get(name) is not None]
        return " ".join((word, *found))

    return write


def _numgen(inner: Mapping[str, Any], depth: int) -> str:  # noqa: ARG001
    offset = f" offset {inner['offset']}" if inner.get("offset") else ""
    return f"numgen {inner.get('mode')} mod {inner.get('mod')}{offset}"


_EXPRESSIONS: Mapping[str, Callable[[Mapping[str, Any], int], str]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "map": _map,
    "prefix": _prefix,
    "numgen": _numgen,
    "rt": _named("rt"),
    "socket": _named("socket"),
    "exthdr": _named("exthdr"),
    "tcp option": _named("tcp option"),
    "ip option": _named("ip option"),
}
_VERDICTS = ("accept", "drop", "continue", "return", "jump", "goto", "queue")


def _statement(value: object) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if not isinstance(value, dict) or len(value) != 1:
        return _as_json(value)
    ((name, inner),) = value.items()
    if name in ("accept", "drop", "continue", "return", "notrack"):
        return str(name)
    if inner is None:
        return str(name)
    write = _STATEMENTS.get(name)
    return write(inner) if write is not None and isinstance(inner, dict) else _plain(name, inner)


def _plain(name: str, inner: object) -> str:
    if isinstance(inner, str) and name in ("counter", "limit", "quota", "ct helper", "ct timeout"):
        return f'{name} {"set" if name.startswith("ct") else "name"} "{inner}"'
    return _as_json({name: inner})


def _match(inner: Mapping[str, Any]) -> str:
    left = inner.get("left")
    quoted = isinstance(left, dict) and _is_device(left)
    right = expression_text(inner.get("right"), quoted=quoted)
    operator = str(inner.get("op", "=="))
    masked = isinstance(left, dict) and len(left) == 1 and next(iter(left)) in _OPERATORS
    shown = "" if operator == "in" or (operator == "==" and not masked) else f"{operator} "
    return f"{expression_text(left)} {shown}{right}"


def _is_device(left: Mapping[str, Any]) -> bool:
    parts = left["concat"] if isinstance(left.get("concat"), list) else [left]
    keys = [each.get("meta") for each in parts if isinstance(each, dict)]
    return any(isinstance(key, dict) and key.get("key") in _QUOTED_KEYS for key in keys)


def _vmap(inner: Mapping[str, Any]) -> str:
    key = inner.get("key")
    quoted = isinstance(key, dict) and _is_device(key)
    return f"{expression_text(key)} vmap {expression_text(inner.get('data'), quoted=quoted)}"


def _nat(name: str) -> Callable[[Mapping[str, Any]], str]:
    def write(inner: Mapping[str, Any]) -> str:
        family = f" {inner['family']}" if inner.get("family") else ""
        address = expression_text(inner["addr"]) if "addr" in inner else ""
        six = inner.get("family") == "ip6" and "port" in inner and address
        port = f":{expression_text(inner['port'])}" if "port" in inner else ""
        to = f" to {f'[{address}]' if six else address}{port}" if address or port else ""
        flags = inner.get("flags")
        said = f" {expression_text(flags)}" if flags else ""
        return f"{name}{family if address else ''}{to}{said}"

    return write


def _reject(inner: Mapping[str, Any]) -> str:
    kind, code = inner.get("type"), inner.get("expr")
    if kind is None:
        return "reject"
    if kind == "icmpx" and code == "port-unreachable":
        return "reject"
    return f"reject with {kind}" + (f" {code}" if code is not None else "")


def _limit(inner: Mapping[str, Any]) -> str:
    over = "over " if inner.get("inv") else ""
    unit = f" {inner['rate_unit']}" if inner.get("rate_unit") not in (None, "packets") else ""
    burst = inner.get("burst")
    more = f" burst {burst} {inner.get('burst_unit', 'packets')}" if burst not in (None, 0, 5) else ""
    return f"limit rate {over}{inner.get('rate')}{unit}/{inner.get('per')}{more}"


def _log(inner: Mapping[str, Any]) -> str:
    words = ["log"]
    for key, value in inner.items():
        words.append(f'{key} "{value}"' if key == "prefix" else f"{key} {expression_text(value)}")
    return " ".join(words)


def _mangle(inner: Mapping[str, Any]) -> str:
    return f"{expression_text(inner.get('key'))} set {expression_text(inner.get('value'))}"


def _dynamic(inner: Mapping[str, Any]) -> str:
    element = inner.get("elem")
    statements = inner.get("stmt") or []
    words = [
        expression_text(element),
        *(_statement(each) for each in (statements if isinstance(statements, list) else [])),
    ]
    timeout = (
        element["elem"].get("timeout") if isinstance(element, dict) and isinstance(element.get("elem"), dict) else None
    )
    if timeout is not None:
        words.insert(1, f"timeout {timeout}s")
    return f"{inner.get('op')} {inner.get('set') or inner.get('map')} {{ {' '.join(words)} }}"


def _count(inner: Mapping[str, Any]) -> str:
    return f"ct count {'over ' if inner.get('inv') else ''}{inner.get('val')}"


def _quota(inner: Mapping[str, Any]) -> str:
    return f"quota {'over ' if inner.get('inv') else ''}{inner.get('val')} {inner.get('val_unit', 'bytes')}"


_STATEMENTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "match": _match,
    "vmap": _vmap,
    "counter": lambda inner: "counter",  # noqa: ARG005
    "jump": lambda inner: f"jump {inner.get('target')}",
    "goto": lambda inner: f"goto {inner.get('target')}",
    "dnat": _nat("dnat"),
    "snat": _nat("snat"),
    "masquerade": _nat("masquerade"),
    "redirect": _nat("redirect"),
    "reject": _reject,
    "limit": _limit,
    "log": _log,
    "mangle": _mangle,
    "set": _dynamic,
    "map": _dynamic,
    "ct count": _count,
    "quota": _quota,
    "xt": lambda inner: f'xt {inner.get("type", "")} "{inner.get("name", "")}"',
    "flow": lambda inner: f"flow {inner.get('op', 'add')} {inner.get('flowtable', '')}",
}
