"""Facts as tables for people: one row an object, the namespace first where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netdiag.facts.sections import SECTIONS
from netdiag.model.engine import Engine, EngineLog
from netdiag.model.facts import Clock, Facts, FirewallSaved, Kernel, Route, Section

_Column = tuple[str, Callable[[Any], object]]
_ROOMY = 110
"""From this width on a table has a column for the namespace."""
_KEEP_WHOLE = frozenset({"device", "state", "table", "vni", "mtu", "port", "priority", "proto", "metric"})


def _ways(route: Route) -> str:
    if not route.next_hops:
        return "" if route.type == "unicast" else route.type
    return ", ".join(f"{hop.gateway or 'link'} dev {hop.device}" for hop in route.next_hops)


def _vxlan(link: Any) -> str:
    return f"{link.vxlan.vni} udp/{link.vxlan.port}" if link.vxlan is not None else ""


COLUMNS: dict[str, tuple[_Column, ...]] = {
    "links": (
        ("device", lambda x: x.name),
        ("kind", lambda x: x.kind),
        ("state", lambda x: x.operstate if x.up else "off"),
        ("mtu", lambda x: x.mtu_bytes),
        ("mac", lambda x: x.mac),
        ("vxlan", _vxlan),
        ("xdp", lambda x: x.xdp_mode),
    ),
    "addresses": (
        ("device", lambda x: x.device),
        ("address", lambda x: x.cidr),
        ("scope", lambda x: x.scope),
        ("peer", lambda x: x.peer),
    ),
    "routes": (
        ("destination", lambda x: x.destination),
        ("via", _ways),
        ("table", lambda x: x.table),
        ("protocol", lambda x: x.protocol),
        ("metric", lambda x: x.metric or ""),
        ("source", lambda x: x.source),
    ),
    "rules": (
        ("priority", lambda x: x.priority),
        ("family", lambda x: f"IPv{x.family}"),
        ("from", lambda x: x.source or "all"),
        ("to", lambda x: x.destination or "all"),
        ("mark", lambda x: "" if x.mark is None else f"{x.mark:#x}"),
        ("action", lambda x: f"{x.action} {x.table}" if x.action == "lookup" else x.action),
    ),
    "neighbours": (
        ("device", lambda x: x.device),
        ("address", lambda x: x.address),
        ("mac", lambda x: x.mac),
        ("state", lambda x: " ".join(x.states)),
    ),
    "fdb": (
        ("device", lambda x: x.device),
        ("mac", lambda x: x.mac),
        ("vtep", lambda x: x.vtep),
        ("state", lambda x: " ".join(x.states)),
        ("of", lambda x: " ".join(word for word, flag in (("self", x.on_self), ("master", x.on_master)) if flag)),
    ),
    "tc": (
        ("device", lambda x: x.device),
        ("parent", lambda x: x.parent),
        ("kind", lambda x: x.kind),
        ("priority", lambda x: x.priority or ""),
        ("detail", lambda x: x.detail),
    ),
    "sockets": (
        ("proto", lambda x: x.protocol),
        ("address", lambda x: x.address),
        ("port", lambda x: x.port),
        ("process", lambda x: f"{x.process} ({x.pid})" if x.pid else ""),
    ),
    "firewall": (
        ("backend", lambda x: x.backend.value),
        ("family", lambda x: f"IPv{x.family}" if x.family else "all"),
        ("lines", lambda x: len(x.text.splitlines())),
        ("sha256", lambda x: x.sha256[:12]),
    ),
    "namespaces": (
        ("path", lambda x: x.path),
        ("inode", lambda x: x.inode),
        ("processes", lambda x: len(x.pids)),
    ),
    "conntrack": (
        ("entries", lambda x: x.count),
        ("maximum", lambda x: x.maximum),
        ("insert failed", lambda x: x.insert_failed),
        ("dropped", lambda x: x.dropped),
    ),
    "nics": (
        ("device", lambda x: x.name),
        ("driver", lambda x: x.driver),
        ("offloads", lambda x: sum(x.offloads.values())),
    ),
    "bird": (
        ("name", lambda x: x.name),
        ("protocol", lambda x: x.protocol),
        ("state", lambda x: x.state),
        ("since", lambda x: x.since),
        ("info", lambda x: x.info),
    ),
}
"""How the rows of a section are shown; what has no row here is shown as names and values."""

_PER_NAMESPACE = frozenset(
    name for name, reader in SECTIONS.items() if name != "nics" and "namespaces" in (name, *reader.after)
)


def overview(facts: Facts, width: int) -> RenderableType:
    """Every section: how much it holds, how long it took, or why it is absent."""
    table = _table([("section", {}), ("holds", {"ratio": 1}), ("ms", {"justify": "right"})], width)
    for name in SECTIONS:
        section: Section[Any] = getattr(facts, name)
        table.add_row(name, _holds(name, section), f"{section.duration_s * 1000:.0f}")
    return table


def _holds(name: str, section: Section[Any]) -> Text:
    if section.absent is not None:
        return Text(f"absent ({section.absent.kind.value}): {section.absent.text}", style="yellow")
    value = section.value
    said = _summary(name, value)
    if section.partial:
        said += f"; not read in {len(section.partial)}: {next(iter(section.partial.values())).text}"
    return Text(said)


def _summary(name: str, value: Any) -> str:
    if isinstance(value, dict) and name in _PER_NAMESPACE and name != "namespaces":
        sized = [len(item) for item in value.values() if isinstance(item, tuple | dict)]
        return f"{sum(sized) if sized else len(value)} in {len(value)} namespace{'s' if len(value) != 1 else ''}"
    if isinstance(value, Kernel):
        absent = [feature.name for feature in value.features.values() if feature.state.value == "missing"]
        return f"{len(value.features)} features" + (f"; missing: {', '.join(absent)}" if absent else "")
    if isinstance(value, Engine):
        return f"Docker {value.version}, swarm {value.swarm.state.value}, {len(value.containers)} containers"
    if isinstance(value, EngineLog):
        return f"{len(value.lines)} lines of {value.source}"
    if isinstance(value, FirewallSaved):
        active = [service.name for service in value.services if service.active]
        return f"{len(value.rules)} files; active: {', '.join(active) or 'none that is known'}"
    if isinstance(value, Clock):
        known = {True: "synchronised", False: "not synchronised", None: "not known whether synchronised"}
        return known[value.synchronised]
    if isinstance(value, tuple | dict):
        return str(len(value))
    first = [f"{field} {getattr(value, field)}" for field in value.__struct_fields__[:2]]
    return ", ".join(text for text in first if len(text) < 60) or "read"


def section_table(name: str, section: Section[Any], width: int) -> RenderableType:
    """One section in full."""
    parts: list[RenderableType] = []
    if section.absent is not None:
        parts.append(_holds(name, section))
    elif isinstance(section.value, Kernel):
        parts.append(_features(section.value, width))
    elif name in COLUMNS:
        parts.append(_rows(name, section.value, width))
    else:
        parts.append(_pairs(section.value, width))
    parts.extend(Text(f"{where}: {reason.text}", style="yellow") for where, reason in section.partial.items())
    return Group(*parts)


def _features(kernel: Kernel, width: int) -> RenderableType:
    table = _table([("feature", {}), ("state", {}), ("evidence", {"ratio": 1})], width)
    for feature in kernel.features.values():
        style = {"missing": "red", "unknown": "yellow"}.get(feature.state.value, "")
        table.add_row(feature.name, Text(feature.state.value, style=style), feature.evidence)
    return table


def _rows(name: str, value: Any, width: int) -> RenderableType:
    if width < _ROOMY and name in _PER_NAMESPACE and name != "namespaces" and len(value) > 1:
        # Too narrow for a column of namespaces: each gets a heading and a table of its own.
        parts: list[RenderableType] = []
        for where, items in value.items():
            if items:
                parts += [Text(where, style="bold underline"), _rows(name, {where: items}, width)]
        return Group(*parts) if parts else Text("none")
    columns = COLUMNS[name]
    by_namespace = name in _PER_NAMESPACE
    flat: list[tuple[str, Any]] = []
    if by_namespace:
        for where, items in value.items():
            flat.extend((where, item) for item in (items if isinstance(items, tuple) else (items,)))
    else:
        flat = [("", item) for item in (value.protocols if name == "bird" else value)]
    shown = [column for column in columns if any(str(column[1](item) or "") for _, item in flat)] or list(columns)
    heads: list[tuple[str, Mapping[str, Any]]] = [(head, {}) for head, _ in shown]
    several = by_namespace and len({where for where, _ in flat}) > 1
    if several or name == "namespaces":
        heads.insert(0, ("namespace", {}))
    table = _table(heads, width)
    last = ""
    for where, item in flat:
        cells = ["" if (text := show(item)) is None else str(text) for _, show in shown]
        if several or name == "namespaces":
            cells.insert(0, where if where != last else "")
            last = where
        table.add_row(*cells)
    if not flat:
        return Text("none")
    return table


def _pairs(value: Any, width: int) -> RenderableType:
    table = _table([("name", {}), ("value", {"ratio": 1})], width)
    items: Iterable[tuple[str, Any]]
    if isinstance(value, dict):
        items = [
            (f"{where}  {key}" if isinstance(inner, dict) else where, item)
            for where, inner in value.items()
            for key, item in (inner.items() if isinstance(inner, dict) else (("", inner),))
        ]
    else:
        items = [(field, getattr(value, field)) for field in value.__struct_fields__]
    for key, item in items:
        table.add_row(key, _short(item))
    return table


def _short(item: Any) -> str:
    if item is None or item == "":
        return ""
    if isinstance(item, tuple):
        if all(isinstance(part, str) for part in item):
            return ", ".join(item)
        named = [
            str(getattr(part, "name", "") or getattr(part, "path", "") or getattr(part, "text", "")) for part in item
        ]
        return "\n".join(text for text in named if text) or str(len(item))
    if hasattr(item, "__struct_fields__"):
        shown = ((field, getattr(item, field)) for field in item.__struct_fields__)
        return "\n".join(f"{field}: {_short(part)}" for field, part in shown if part not in (None, "", (), {}, False))
    return str(getattr(item, "value", item))


def _table(columns: Iterable[tuple[str, Mapping[str, Any]]], width: int) -> Table:
    """A table without lines; what does not fit is folded, never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", width=None)
    for head, options in columns:
        settings = {key: item for key, item in options.items() if key != "ratio"}
        whole = head in _KEEP_WHOLE and width >= 60
        table.add_column(head, overflow="fold", no_wrap=whole, **settings)
    return table
