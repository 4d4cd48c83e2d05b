"""``ip route``, ``ip rule``, ``ip neigh`` and ``bridge fdb`` into what their netlink dumps give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netdiag.facts.netlink import Decoded
from netdiag.facts.routes import PROTOCOLS
from netdiag.facts.script_tables import Values, canonical, decoded, number, options, prefix_of, text_of
from netdiag.model.facts import FdbEntry, Neighbour, NextHop, PolicyRule, Route

_TABLES = {"local": 255, "main": 254, "default": 253, "unspec": 0}
_TYPES = frozenset(
    ("unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat")
)
_WITHOUT_HOP = frozenset({"blackhole", "unreachable", "prohibit", "throw"})
_ROUTE_OPTIONS = frozenset(
    {"via", "dev", "table", "proto", "scope", "metric", "src", "mtu", "advmss", "pref", "realm", "realms", "nhid"}
    | {"error", "expires", "hoplimit", "initcwnd", "initrwnd", "rto_min", "weight", "congctl", "features", "encap"}
)
_FAMILY_WORDS = ("inet", "inet6")


def table_names(text: str) -> dict[str, int]:
    """The tables of a file rt_tables (``number name`` lines) by name, with those that every host has."""
    names = dict(_TABLES)
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[0].isdigit():
            names[words[1]] = int(words[0])
    return names


def _table(names: Mapping[str, int], shown: object, usual: int) -> int:
    if shown in (None, ""):
        return usual
    found = number(shown)
    return found if found is not None else names[str(shown)]


# --- routes ----------------------------------------------------------------------------------------------------------


def routes(text: str, family: int, tables: Mapping[str, int] = _TABLES) -> Decoded[Route]:
    """The rows of ``ip -j route show table all`` or ``ip -o route show table all``, of one family (4 or 6)."""
    # busybox never shows who made a route; ip(8) shows all but "boot".
    usual = "boot" if " proto " in text else ""
    return decoded(
        "routes",
        text,
        lambda item: [_route_json(item, family, tables)],
        lambda lines: [_route_lines(lines, family, tables, usual)],
    )


def _route_json(item: Values, family: int, tables: Mapping[str, int]) -> Route:
    kind = text_of(item, "type") or "unicast"
    metrics: Any = next(iter(item.get("metrics") or ()), {})
    parts = item.get("nexthops") or ()
    hops = tuple(_hop_json(part) for part in parts) if parts else (_hop_json(item),)
    if kind in _WITHOUT_HOP or not (parts or hops[0].gateway or hops[0].device):
        hops = ()
    return Route(
        destination=prefix_of(str(item["dst"]), family),
        table=_table(tables, item.get("table"), 254),
        type=kind,
        protocol=_protocol(text_of(item, "protocol") or "boot"),
        scope=text_of(item, "scope") or "global",
        metric=number(item.get("metric")) or 0,
        source=canonical(str(item["prefsrc"])) if item.get("prefsrc") else "",
        mtu_bytes=number(metrics.get("mtu")) if isinstance(metrics, dict) else None,
        next_hops=hops,
    )


def _hop_json(item: Values) -> NextHop:
    via = item.get("via")
    gateway = text_of(item, "gateway") or (text_of(via, "host") if isinstance(via, dict) else "")
    return NextHop(
        gateway=canonical(gateway) if gateway else "",
        device=text_of(item, "dev"),
        weight=number(item.get("weight")) or 1,
        onlink="onlink" in (item.get("flags") or ()),
    )


def _protocol(shown: str) -> str:
    """The protocol's name: a number where ip's own list lacks it."""
    return PROTOCOLS.get(int(shown), shown) if shown.isdigit() else shown


def _route_lines(lines: list[str], family: int, tables: Mapping[str, int], usual: str) -> Route:
    words = " ".join(lines).split()
    kind = words.pop(0) if words[0] in _TYPES else "unicast"
    destination = words.pop(0)
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "nexthop":
            parts.append([])
        else:
            parts[-1].append(word)
    found = options(_without_noise(parts[0]), _ROUTE_OPTIONS)
    listed = parts[1:] or [parts[0]]
    hops = tuple(_hop_words(part) for part in listed)
    if kind in _WITHOUT_HOP or not (parts[1:] or hops[0].gateway or hops[0].device):
        hops = ()
    return Route(
        destination=prefix_of(destination, family),
        table=_table(tables, found.get("table"), 254),
        type=kind,
        protocol=_protocol(found.get("proto", usual)),
        scope=found.get("scope") or "global",
        metric=number(found.get("metric")) or 0,
        source=canonical(found["src"]) if found.get("src") else "",
        mtu_bytes=number(found.get("mtu")),
        next_hops=hops,
    )


def _without_noise(words: list[str]) -> list[str]:
    """Without what stands between an option and its value: "via inet6 fe80::1", "mtu lock 1400"."""
    return [word for word in words if word not in (*_FAMILY_WORDS, "lock")]


def _hop_words(words: list[str]) -> NextHop:
    found = options(_without_noise(words), _ROUTE_OPTIONS)
    return NextHop(
        gateway=canonical(found["via"]) if found.get("via") else "",
        device=found.get("dev", ""),
        weight=number(found.get("weight")) or 1,
        onlink="onlink" in found,
    )


# --- policy rules ----------------------------------------------------------------------------------------------------

_RULE_OPTIONS = frozenset(
    {"from", "to", "iif", "oif", "fwmark", "lookup", "table", "goto", "ipproto", "sport", "dport"}
)
_RULE_ACTIONS = ("unreachable", "blackhole", "prohibit", "nop")


def rules(text: str, family: int, tables: Mapping[str, int] = _TABLES) -> Decoded[PolicyRule]:
    """The rows of ``ip -j rule show`` or ``ip -o rule show``, of one family (4 or 6)."""
    return decoded(
        "rules",
        text,
        lambda item: [_rule_json(item, family, tables)],
        lambda lines: [_rule_words(" ".join(lines).split(), family, tables)],
    )


def _rule_json(item: Values, family: int, tables: Mapping[str, int]) -> PolicyRule:
    mark = number(item.get("fwmark"))
    return PolicyRule(
        priority=number(item.get("priority")) or 0,
        family=family,
        source=_selector(text_of(item, "src"), text_of(item, "srclen"), family),
        destination=_selector(text_of(item, "dst"), text_of(item, "dstlen"), family),
        in_device=text_of(item, "iif"),
        out_device=text_of(item, "oif"),
        mark=mark,
        mask=_mask(mark, number(item.get("fwmask"))),
        table=_table(tables, item.get("table"), 0),
        action=text_of(item, "action") or ("goto" if "goto" in item else "lookup"),
        invert="not" in item,
    )


def _rule_words(words: list[str], family: int, tables: Mapping[str, int]) -> PolicyRule:
    priority, invert = int(words[0].rstrip(":")), "not" in words
    found = options([word for word in words[1:] if word != "not"], _RULE_OPTIONS)
    shown, _, mask = found.get("fwmark", "").partition("/")
    mark = number(shown) if shown else None
    action = next((word for word in _RULE_ACTIONS if word in found), "goto" if "goto" in found else "lookup")
    return PolicyRule(
        priority=priority,
        family=family,
        source=_selector(found.get("from", ""), "", family),
        destination=_selector(found.get("to", ""), "", family),
        in_device=found.get("iif", ""),
        out_device=found.get("oif", ""),
        mark=mark,
        mask=_mask(mark, number(mask) if mask else None),
        table=_table(tables, found.get("lookup") or found.get("table"), 0),
        action=action,
        invert=invert,
    )


def _selector(shown: str, length: str, family: int) -> str:
    if shown in ("", "all"):
        return ""
    return prefix_of(f"{shown}/{length}" if length else shown, family)


def _mask(mark: int | None, mask: int | None) -> int | None:
    """A mask of all bits is not shown."""
    return None if mark is None else (0xFFFFFFFF if mask is None else mask)


# --- neighbours ------------------------------------------------------------------------------------------------------

_NEIGHBOUR_OPTIONS = frozenset({"dev", "lladdr", "ref", "used", "probes", "protocol"})
_NEIGHBOUR_STATES = frozenset(
    ("incomplete", "reachable", "stale", "delay", "probe", "failed", "noarp", "permanent", "none")
)


def neighbours(text: str) -> Decoded[Neighbour]:
    """The rows of ``ip -j neigh show nud all`` or of its text."""
    return decoded("neighbours", text, _neighbour_json, lambda lines: _neighbour_words(" ".join(lines).split()))


def _neighbour_json(item: Values) -> list[Neighbour]:
    states = tuple(str(state).lower() for state in item.get("state") or ())
    return [
        Neighbour(
            device=str(item["dev"]),
            address=canonical(str(item["dst"])),
            mac=text_of(item, "lladdr"),
            states=tuple(state for state in states if state in _NEIGHBOUR_STATES and state != "none"),
            proxy="proxy" in item,
        )
    ]


def _neighbour_words(words: list[str]) -> list[Neighbour]:
    found = options(words[1:], _NEIGHBOUR_OPTIONS)
    states = (word.lower() for word in found)
    return [
        Neighbour(
            device=found["dev"],
            address=canonical(words[0]),
            mac=found.get("lladdr", ""),
            states=tuple(state for state in states if state in _NEIGHBOUR_STATES and state != "none"),
            proxy="proxy" in found,
        )
    ]


# --- forwarding entries ----------------------------------------------------------------------------------------------

_FDB_OPTIONS = frozenset({"dev", "dst", "vlan", "master", "link-netnsid", "port", "vni", "via", "nhid", "src_vni"})
_FDB_STATES = {"permanent": "permanent", "static": "noarp", "stale": "stale", "": "reachable"}
"""What bridge(8) calls the states of an entry; a learned one has no word."""


def fdb(text: str) -> Decoded[FdbEntry]:
    """The rows of ``bridge -j fdb show`` or of its text."""
    return decoded("fdb", text, _fdb_json, lambda lines: _fdb_words(" ".join(lines).split()))


def _fdb_json(item: Values) -> list[FdbEntry]:
    flags: Any = item.get("flags") or ()
    state = text_of(item, "state")
    return [_entry(item, text_of(item, "ifname"), flags, state)]


def _fdb_words(words: list[str]) -> list[FdbEntry]:
    found = options(words[1:], _FDB_OPTIONS)
    state = next((word for word in ("permanent", "static", "stale") if word in found), "")
    item: Values = {"mac": words[0], **{name: found[name] for name in ("dst", "vlan", "master") if name in found}}
    return [_entry(item, found["dev"], tuple(found), state)]


def _entry(item: Values, device: str, flags: Any, state: str) -> FdbEntry:  # noqa: ANN401 - words or a list of them
    vtep = text_of(item, "dst")
    return FdbEntry(
        device=device,
        mac=str(item["mac"]),
        vtep=canonical(vtep) if vtep else "",
        vlan=number(item.get("vlan")),
        states=(_FDB_STATES.get(state, state),),
        on_self="self" in flags,
        on_master=bool(item.get("master")) or "master" in flags,
    )
