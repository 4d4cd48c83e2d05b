"""Reads the expressions and constants of ``nft -j``. Format: libnftables-json(5), nftables src/json.c, src/parser_json.c."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netdiag.firewall.netfilter.nft import kernel
from netdiag.firewall.netfilter.nft.fields import payload, raw_payload
from netdiag.firewall.netfilter.nft.rendering import expression_text
from netdiag.firewall.netfilter.nft.types import (
    TYPES,
    NotModelled,
    Type,
    read_interval,
    read_literal,
    type_named,
)
from netdiag.firewall.netfilter.nft.values import (
    BREAK,
    Binary,
    Constant,
    Element,
    Elements,
    Expression,
    Loaded,
    Lookup,
    NamedSet,
    NotKnown,
)
from netdiag.firewall.netfilter.rules import Decide, Jump, Return, Verdict

_Object = Mapping[str, Any]
_OPERATORS = ("&", "|", "^", "<<", ">>")
_DOUBTFUL = {
    "limit": "whether the rate of its element in the set is used up is not known",
    "quota": "whether the quota of its element in the set is used up is not known",
    "ct count": "how many connections its element in the set has is not known",
}


class Names:
    """The named sets of a table, and where its rules look them up."""

    def __init__(self, sets: Mapping[str, NamedSet]) -> None:
        """Remember them."""
        self.sets = sets

    def data(self, name: str) -> tuple[Type, ...]:
        """The types of what a map has. Raises NotModelled for one that is not listed."""
        found = self.sets.get(name)
        if found is None:
            raise NotModelled(f"what the map {name} holds is not known")
        return found.data


def only(value: object) -> tuple[str, Any]:
    """The one name and value of an object. Raises NotModelled."""
    if not isinstance(value, dict) or len(value) != 1:
        raise NotModelled(f"{expression_text(value)[:60]} is not understood")
    ((name, inner),) = value.items()
    return str(name), inner


def text_of(value: object, key: str) -> str:
    """A text of an object. Raises NotModelled where it has none."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise NotModelled(f"{expression_text(value)[:60]} is not understood")
    return found


def number_of(value: object, key: str, default: int | None = None) -> int:
    """A number of an object. Raises NotModelled."""
    found = value.get(key, default) if isinstance(value, dict) else None
    if not isinstance(found, int):
        raise NotModelled(f"{expression_text(value)[:60]} is not understood")
    return int(found)


def flags_of(value: object) -> tuple[str, ...]:
    """Flags, which are a text where there is only one."""
    found = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(each for each in found if isinstance(each, str))


def read_key(value: object, names: Names, family: str) -> tuple[Expression, ...]:
    """What is looked up, one expression a dimension. Raises NotModelled."""
    if isinstance(value, dict) and "concat" in value and isinstance(value["concat"], list):
        if not value["concat"]:
            raise NotModelled("nothing is looked up")
        return tuple(read_expression(each, names, family) for each in value["concat"])
    return (read_expression(value, names, family),)


def read_expression(value: object, names: Names, family: str, kind: Type | None = None) -> Expression:
    """One expression; ``kind`` is the type of a constant. Raises NotModelled."""
    if not isinstance(value, dict):
        if kind is None:
            raise NotModelled(f"{expression_text(value)[:60]} is not understood")
        return Constant(expression_text(value), kind, read_literal(value, kind))
    name, inner = only(value)
    if name in _OPERATORS:
        return _binary(name, inner, names, family, kind)
    if name == "map":
        return _map(value, inner, names, family)
    read = _READERS.get(name)
    if read is not None:
        return read(inner if isinstance(inner, dict) else {}, family)
    if name in _HIDDEN:
        text = expression_text(value)
        return NotKnown(text, TYPES["integer"], f"what {text} says is not known")
    if kind is not None:
        low, high = read_interval(value, kind)
        if low == high:
            return Constant(expression_text(value), kind, low)
    raise NotModelled(f"{expression_text(value)[:60]} is not understood")


def _binary(operator: str, inner: object, names: Names, family: str, kind: Type | None) -> Expression:
    if not isinstance(inner, list) or len(inner) < 2:
        raise NotModelled(f"the operands of {operator} are not understood")
    try:
        found = read_expression(inner[0], names, family, kind)
    except NotModelled:
        # A constant before what tells of which type it is.
        found = read_expression(inner[-1], names, family, kind)
        inner = [inner[-1], *inner[:-1]]
        if operator in ("<<", ">>"):
            raise
    of = TYPES["integer"] if operator in ("<<", ">>") else found.type
    for each in inner[1:]:
        right = read_expression(each, names, family, of)
        found = Binary(f"{found.text} {operator} {right.text}", found.type, operator, found, right)
    return found


def _map(value: object, inner: object, names: Names, family: str) -> Expression:
    if not isinstance(inner, dict):
        raise NotModelled("a map is not understood")
    key = read_key(inner.get("key"), names, family)
    data = inner.get("data")
    text = expression_text(value)
    if isinstance(data, str) and data.startswith("@"):
        types = names.data(data[1:])
        return Lookup(text, types[0] if types else TYPES["integer"], key, data[1:], types)
    # Of which type an anonymous map's values are is told by what they are for.
    raise NotModelled(f"{text[:60]} is not understood")


def read_map(value: object, names: Names, family: str, data_types: tuple[Type, ...]) -> Expression:
    """A value that is an expression, or a map whose values are of some types. Raises NotModelled."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("map"), dict):
        inner = value["map"]
        data = inner.get("data")
        if isinstance(data, dict):
            key = read_key(inner.get("key"), names, family)
            types = tuple(each.type for each in key)
            elements = read_elements(data.get("set"), types, data_types)
            return Lookup(expression_text(value), data_types[0], key, elements, data_types)
    return read_expression(value, names, family, data_types[0])


def _payload(inner: _Object, family: str) -> Expression:  # noqa: ARG001
    if "base" in inner:
        return raw_payload(text_of(inner, "base"), number_of(inner, "offset"), number_of(inner, "len"))
    return payload(text_of(inner, "protocol"), text_of(inner, "field"))


def _meta(inner: _Object, family: str) -> Expression:  # noqa: ARG001
    return kernel.meta(text_of(inner, "key"))


def _ct(inner: _Object, family: str) -> Expression:
    return kernel.ct(text_of(inner, "key"), str(inner.get("dir", "")), str(inner.get("family", family)))


def _fib(inner: _Object, family: str) -> Expression:  # noqa: ARG001
    return kernel.fib(text_of(inner, "result"), flags_of(inner.get("flags")))


def _numgen(inner: _Object, family: str) -> Expression:  # noqa: ARG001
    return kernel.numgen(number_of(inner, "mod"), number_of(inner, "offset", 0))


def _tcp_option(inner: _Object, family: str) -> Expression:  # noqa: ARG001
    return kernel.tcp_option(text_of(inner, "name") if "name" in inner else "")


def _extension_header(inner: _Object, family: str) -> Expression:  # noqa: ARG001
    """The packets of the model have none: whether there is one is answered, and its fields are not there."""
    name = text_of(inner, "name")
    if "field" in inner:
        text = f"{name} {inner['field']}"
        return Loaded(text, TYPES["integer"], lambda skb, scene: (BREAK,))  # noqa: ARG005
    return Loaded(
        f"exthdr {name}",
        TYPES["boolean"],
        lambda skb, scene: (0,) if skb.family == 6 else (BREAK,),  # noqa: ARG005
    )


_READERS: Mapping[str, Callable[[_Object, str], Expression]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "numgen": _numgen,
    "tcp option": _tcp_option,
    "exthdr": _extension_header,
}
_HIDDEN = (
    "rt",
    "socket",
    "osf",
    "jhash",
    "symhash",
    "ipsec",
    "ip option",
    "sctp chunk",
    "dccp option",
    "tunnel",
    "xfrm",
)


def read_elements(found: object, keys: Sequence[Type], data: Sequence[Type] = ()) -> Elements:
    """The elements of a set or map; those that are not understood make of what is not found something unknown.

    Args:
        found: A list as nft has it; None for an empty one.
        keys: The types of the dimensions.
        data: The types of a map's values; `VERDICT` alone for a verdict map.
    """
    elements: list[Element] = []
    catch_all: Element | None = None
    reason = ""
    rows = [found] if isinstance(found, str | int | dict) else found
    if rows is None:
        rows = []
    if not isinstance(rows, list):
        return Elements((), reason="the elements of a set are not understood")
    for row in rows:
        try:
            key, value = (row if isinstance(row, list) and len(row) == 2 else (row, None)) if data else (row, None)
            key, doubtful = _unwrapped(key)
            one = _data(value, data) if data else None
            if key == "*":
                catch_all = Element(lows=(), highs=(), data=one, doubtful=doubtful)
                continue
            ranges = _ranges(key, keys)
            lows, highs = tuple(low for low, _ in ranges), tuple(high for _, high in ranges)
            elements.append(Element(lows=lows, highs=highs, data=one, doubtful=doubtful))
        except NotModelled as error:
            reason = reason or f"an element of a set: {error}"
    return Elements(elements, catch_all, reason)


def _unwrapped(key: object) -> tuple[object, str]:
    """An element's key, and why it may not count where it is met."""
    if not isinstance(key, dict) or not isinstance(key.get("elem"), dict):
        return key, ""
    inner = key["elem"]
    if "val" not in inner:
        raise NotModelled("it has no value")
    words = {*inner, *(name for each in inner.get("stmt") or () if isinstance(each, dict) for name in each)}
    return inner["val"], next((reason for name, reason in _DOUBTFUL.items() if name in words), "")


def _ranges(key: object, keys: Sequence[Type]) -> list[tuple[int, int]]:
    parts = key["concat"] if isinstance(key, dict) and isinstance(key.get("concat"), list) else [key]
    if len(parts) != len(keys):
        raise NotModelled(f"{expression_text(key)[:60]} has another number of parts than its set")
    return [read_interval(part, kind) for part, kind in zip(parts, keys, strict=True)]


def _data(value: object, data: Sequence[Type]) -> int | tuple[int, ...] | Decide | Jump | Return | None:
    if data[0].name == "verdict":
        return read_verdict(value)
    if isinstance(value, dict) and isinstance(value.get("concat"), list):
        if len(value["concat"]) != len(data):
            raise NotModelled("it has another number of values than its map")
        return tuple(read_literal(each, kind) for each, kind in zip(value["concat"], data, strict=True))
    low, high = read_interval(value, data[0])
    if low != high:
        raise NotModelled("its value is one of several")
    return low


def read_verdict(value: object) -> Decide | Jump | Return | None:
    """A verdict; None is to go on. Raises NotModelled."""
    name, inner = only(value)
    if name in ("accept", "drop"):
        return Decide(Verdict.ACCEPT if name == "accept" else Verdict.DROP)
    if name in ("jump", "goto"):
        return Jump(text_of(inner, "target"), goto=name == "goto")
    if name == "return":
        return Return()
    if name == "continue":
        return None
    if name == "queue":
        return Decide(Verdict.UNKNOWN, "somebody else decides (queue)")
    raise NotModelled(f"the verdict {name[:40]} is not understood")


def types_of(value: object, names: Names, family: str) -> tuple[Type, ...]:
    """The types of a named set's dimensions, or of a map's values. Raises NotModelled."""
    if isinstance(value, str):
        return tuple(type_named(each.strip()) for each in value.split("."))
    if isinstance(value, list):
        return tuple(kind for each in value for kind in types_of(each, names, family))
    if isinstance(value, dict) and "typeof" in value:
        return tuple(each.type for each in read_key(value["typeof"], names, family))
    raise NotModelled("its type is not understood")
