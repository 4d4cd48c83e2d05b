"""Reads the statements of ``nft -j``. Format: libnftables-json(5), nftables src/json.c, src/parser_json.c."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netdiag.firewall.netfilter.nft.expression_reading import (
    Names,
    only,
    read_elements,
    read_expression,
    read_key,
    read_map,
    read_verdict,
    text_of,
)
from netdiag.firewall.netfilter.nft.fields import adjoin, has_header
from netdiag.firewall.netfilter.nft.model import Statement
from netdiag.firewall.netfilter.nft.rendering import expression_text
from netdiag.firewall.netfilter.nft.statements import (
    REJECT,
    AddElement,
    Apart,
    Between,
    Change,
    Flags,
    Member,
    Nothing,
    Offload,
    Opaque,
    Perhaps,
    Rate,
    Says,
    SetField,
    ToAddress,
    ToHere,
    VerdictMap,
    is_tcp,
    of_version,
)
from netdiag.firewall.netfilter.nft.types import TYPES, VERDICT, NotModelled, Type, read_interval, read_literal
from netdiag.firewall.netfilter.nft.values import Element, Elements, Expression, NotKnown
from netdiag.firewall.netfilter.targets import Template, ToSource, Untrack

_Object = Mapping[str, Any]
_TRACKS = frozenset(
    {
        "ct",
        "dnat",
        "snat",
        "masquerade",
        "redirect",
        "flow",
        "synproxy",
        "ct count",
        "ct helper",
        "ct timeout",
        "ct expectation",
        "xt",
    }
)
"""What calls nf_ct_netns_get (net/netfilter/nft_*.c)."""
_ORDERS = ("<", ">", "<=", ">=")
_ELSEWHERE = {
    "queue": "somebody else decides (queue)",
    "tproxy": "tproxy is not modelled",
    "synproxy": "synproxy answers for the server",
    "fwd": "fwd gives it to another device",
}
_PLAIN = frozenset({"val", "timeout", "expires", "comment"})
"""What of an element asks nothing."""
_CHECKED = ("checksum", "csum", "id", "flowlabel")
_DEEPEST = 60


def read_statement(raw: object, names: Names, family: str, limits: Mapping[str, bool]) -> Statement:
    """One statement; never raises.

    Args:
        raw: As nft's JSON has it.
        names: The table's sets.
        family: The table's.
        limits: The table's named limits, and whether each matches beyond its rate.
    """
    try:
        found = _read(raw, names, family, limits)
    except NotModelled as error:
        is_match = isinstance(raw, dict) and "match" in raw
        return (Perhaps if is_match else Opaque)(reason=str(error), tracks=True)
    return found.tracking() if tracks(raw) else found


def _read(raw: object, names: Names, family: str, limits: Mapping[str, bool]) -> Statement:
    name, inner = only(raw)
    if name == "limit" and isinstance(inner, str):
        known = inner in limits
        return Rate(over=limits[inner]) if known else Perhaps(reason=f"the limit {inner[:40]} is not listed")
    if name in _ELSEWHERE:
        return Opaque(reason=_ELSEWHERE[name])
    if name not in _READERS:
        raise NotModelled(f"the statement {name[:40]} is not understood")
    return _READERS[name](inner if isinstance(inner, dict) else {}, names, family)


def read_statements(
    rows: Sequence[object], names: Names, family: str, limits: Mapping[str, bool]
) -> tuple[Statement, ...]:
    """The statements of a rule; never raises."""
    found: list[Statement] = []
    for raw in rows:
        statement = read_statement(raw, names, family, limits)
        last = found[-1] if found else None
        if _differs(statement) and isinstance(last, Between | Apart):
            before = last.parts if isinstance(last, Apart) else (last,) if _differs(last) else ()
            if before and isinstance(statement, Between) and adjoin(before[-1].left.text, statement.left.text):
                found[-1] = Apart(parts=(*before, statement), tracks=last.tracks or statement.tracks)
                continue
        found.append(statement)
    return tuple(found)


def _differs(statement: Statement) -> bool:
    return isinstance(statement, Between) and statement.negated and statement.low == statement.high


def tracks(raw: object, depth: int = 0) -> bool:
    """Whether something in it makes the kernel track connections."""
    if depth > _DEEPEST:
        return True
    if isinstance(raw, dict):
        return any(key in _TRACKS or tracks(value, depth + 1) for key, value in raw.items())
    return isinstance(raw, list) and any(tracks(value, depth + 1) for value in raw)


def _match(inner: _Object, names: Names, family: str) -> Statement:
    operator = text_of(inner, "op")
    if "left" not in inner or "right" not in inner:
        raise NotModelled("a match lacks a side")
    right = inner["right"]
    key = read_key(inner["left"], names, family)
    if any(each.text.startswith("arp ") for each in key):
        return Says(said=None, only=lambda skb: False)  # noqa: ARG005 - no packet of IP has such a header
    hidden = next((each for each in key if isinstance(each, NotKnown)), None)
    if hidden is not None:
        return Perhaps(reason=hidden.reason)
    if operator in _ORDERS:
        return _order(operator, key, right)
    if operator not in ("==", "!=", "in", "!"):
        raise NotModelled(f"the comparison {operator[:20]} is not understood")
    negated = operator in ("!=", "!")
    if isinstance(right, str) and right.startswith("@"):
        return Member(key=key, elements=right[1:], negated=negated)
    types = tuple(each.type for each in key)
    if isinstance(right, dict) and "set" in right:
        return Member(key=key, elements=read_elements(right["set"], types), negated=negated)
    if len(key) > 1:
        return Member(key=key, elements=_constant(right, types), negated=negated)
    (left,) = key
    if left.type.bitmask and (operator in ("in", "!") or (operator == "!=" and isinstance(right, list))):
        return Flags(left=left, mask=read_literal(right, left.type), negated=negated)
    if left.text == "ct status":
        raise NotModelled("which other flags its connection has is not known")
    low, high = read_interval(right, left.type)
    return Between(left=left, low=low, high=high, negated=negated)


def _order(operator: str, key: Sequence[Expression], right: object) -> Statement:
    if len(key) != 1 or key[0].type.name in ("ifname", "iface_index"):
        raise NotModelled(f"the comparison {operator} is not understood here")
    (left,) = key
    value = read_literal(right, left.type)
    most = 1 << max(left.type.bits, 1) + 1
    low, high = {"<": (0, value - 1), "<=": (0, value), ">": (value + 1, most), ">=": (value, most)}[operator]
    return Between(left=left, low=low, high=high)


def _constant(right: object, types: Sequence[Type]) -> Elements:
    parts = right.get("concat") if isinstance(right, dict) else None
    if not isinstance(parts, list) or len(parts) != len(types):
        raise NotModelled(f"{expression_text(right)[:60]} is not understood")
    ranges = [read_interval(part, kind) for part, kind in zip(parts, types, strict=True)]
    return Elements([Element(lows=tuple(low for low, _ in ranges), highs=tuple(high for _, high in ranges))])


def _vmap(inner: _Object, names: Names, family: str) -> Statement:
    key = read_key(inner.get("key"), names, family)
    data = inner.get("data")
    if isinstance(data, str) and data.startswith("@"):
        return VerdictMap(key=key, elements=data[1:])
    if not isinstance(data, dict):
        raise NotModelled("a verdict map is not understood")
    types = tuple(each.type for each in key)
    return VerdictMap(key=key, elements=read_elements(data.get("set"), types, (VERDICT,)))


def _verdict(name: str) -> Callable[[_Object, Names, str], Statement]:
    def read(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
        return Says(said=read_verdict({name: inner}))

    return read


def _nothing(name: str) -> Callable[[_Object, Names, str], Statement]:
    def read(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
        return Nothing(name=name)

    return read


def _perhaps(reason: str) -> Callable[[_Object, Names, str], Statement]:
    def read(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
        return Perhaps(reason=reason)

    return read


def _limit(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
    return Rate(over=inner.get("inv") is True)


def _reject(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
    kind = inner.get("type")
    if kind == "tcp reset":
        return Says(said=REJECT, only=is_tcp)
    if kind in ("icmp", "icmpv6"):
        return Says(said=REJECT, only=of_version(4 if kind == "icmp" else 6))
    return Says(said=REJECT)


def _notrack(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
    return Change(target=Untrack())


def _mangle(inner: _Object, names: Names, family: str) -> Statement:
    if "value" not in inner:
        raise NotModelled("what is set is not understood")
    name, key = only(inner.get("key"))
    value = inner["value"]
    what = str(key.get("key") or key.get("field") or "") if isinstance(key, dict) else ""
    if name in ("meta", "ct") and what == "mark":
        number = read_map(value, names, family, (TYPES["mark"],))
        return SetField(field="mark" if name == "meta" else "connmark", value=number)
    if name == "ct" and what == "zone":
        return Change(target=Template())
    if (name == "meta" and what in ("priority", "nftrace", "secmark")) or name == "ct":
        return Nothing(name=f"{name} {what} set")
    if name in ("tcp option", "exthdr"):
        return Perhaps(reason=f"whether it has a {name} to set is not known")
    protocol = str(key.get("protocol", "")) if isinstance(key, dict) else ""
    if name == "payload" and protocol in ("ip", "ip6"):
        version = of_version(4 if protocol == "ip" else 6)
        if what in ("ttl", "hoplimit"):
            return SetField(field="ttl", value=read_expression(value, names, family, Type("integer", 8)), only=version)
        if what == "dscp":
            return SetField(field="dscp", value=read_map(value, names, family, (TYPES["dscp"],)), only=version)
        if what == "ecn":
            return SetField(field="ecn", value=read_map(value, names, family, (TYPES["ecn"],)), only=version)
    if name == "payload" and what in _CHECKED:
        return Says(said=None, only=lambda skb: has_header(protocol, skb))
    raise NotModelled(f"{expression_text(inner.get('key'))[:60]} is set: what becomes of the packet is not modelled")


def _address(inner: _Object, names: Names, family: str, *, source: bool) -> Statement:
    found = inner
    said = found.get("family", family)
    number = {"ip": 4, "ip6": 6}.get(str(said))
    if "addr" in found and number is None:
        raise NotModelled("of which family its new address is, is not told")
    kind = TYPES["ipv6_addr" if number == 6 else "ipv4_addr"]
    address = _chosen(found["addr"], names, family, kind) if "addr" in found else None
    port = _chosen(found["port"], names, family, TYPES["inet_service"]) if "port" in found else None
    own = number if said != family or family in ("ip", "ip6") else None
    return ToAddress(source=source, family=own, address=address, port=port, keeps_port="port" not in found)


def _chosen(value: object, names: Names, family: str, kind: Type) -> Expression:
    """An address or port; one of a range or a network is the kernel's choice."""
    if isinstance(value, dict) and ("range" in value or "prefix" in value):
        return NotKnown(expression_text(value), kind, "which of several the kernel chooses is not known")
    rows = value["map"].get("data") if isinstance(value, dict) and isinstance(value.get("map"), dict) else None
    pairs = rows.get("set") if isinstance(rows, dict) else None
    first = pairs[0] if isinstance(pairs, list) and pairs else None
    ported = isinstance(first, list) and len(first) == 2 and isinstance(first[1], dict) and "concat" in first[1]
    return read_map(value, names, family, (kind, TYPES["inet_service"]) if ported else (kind,))


def _dnat(inner: _Object, names: Names, family: str) -> Statement:
    return _address(inner, names, family, source=False)


def _snat(inner: _Object, names: Names, family: str) -> Statement:
    return _address(inner, names, family, source=True)


def _masquerade(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
    return Says(said=ToSource())


def _redirect(inner: _Object, names: Names, family: str) -> Statement:
    if "port" not in inner:
        return ToHere()
    return ToHere(port=_chosen(inner["port"], names, family, TYPES["inet_service"]), keeps_port=False)


def _dynamic(inner: _Object, names: Names, family: str) -> Statement:
    name = inner.get("set") or inner.get("map") or inner.get("name")
    if not isinstance(name, str):
        raise NotModelled("to which set it is added is not understood")
    element = inner.get("elem", inner.get("key"))
    statements = inner.get("stmt") or []
    conditions = [_condition(each) for each in (statements if isinstance(statements, list) else [statements])]
    if isinstance(element, dict) and isinstance(element.get("elem"), dict):
        own = element["elem"]
        element = own.get("val")
        conditions += [_condition({name: own[name]}) for name in own if name not in _PLAIN]
    key = read_key(element, names, family)
    return AddElement(
        name=name.removeprefix("@"), key=key, conditions=tuple(conditions), deletes=inner.get("op") == "delete"
    )


def _condition(raw: object) -> Rate | Perhaps | Nothing:
    name, inner = only(raw)
    if name == "limit" and isinstance(inner, dict):
        return Rate(over=inner.get("inv") is True)
    if name in ("counter", "last"):
        return Nothing(name=name)
    return Perhaps(reason=f"what {name} of its element in the set says is not known")


def _flow(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
    return Offload()


def _xt(inner: _Object, names: Names, family: str) -> Statement:  # noqa: ARG001
    kind = inner.get("type")
    what = f"what iptables' {inner.get('name', '')} says is not told by nft"
    if kind == "match":
        return Perhaps(reason=what)
    raise NotModelled(what if kind else "nft does not tell what iptables' own matches and targets say")


_READERS: Mapping[str, Callable[[_Object, Names, str], Statement]] = {
    "match": _match,
    "vmap": _vmap,
    **{name: _verdict(name) for name in ("accept", "drop", "jump", "goto", "return", "continue")},
    **{
        name: _nothing(name)
        for name in ("counter", "log", "last", "secmark", "ct helper", "ct timeout", "ct expectation", "dup", "comment")
    },
    "limit": _limit,
    "quota": _perhaps("whether its quota is used up is not known"),
    "ct count": _perhaps("how many connections there are is not known"),
    "reject": _reject,
    "notrack": _notrack,
    "mangle": _mangle,
    "dnat": _dnat,
    "snat": _snat,
    "masquerade": _masquerade,
    "redirect": _redirect,
    "set": _dynamic,
    "map": _dynamic,
    "meter": _dynamic,
    "flow": _flow,
    "xt": _xt,
}
