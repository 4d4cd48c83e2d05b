"""The sections that are rtnetlink dumps, in every network namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netdiag.facts import addresses, links, neighbours, netlink, routes, rules, tc
from netdiag.facts.context import Context, dump_each, dump_request, each_namespace, read_dump
from netdiag.model.facts import (
    TCX,
    Absence,
    Address,
    FdbEntry,
    Link,
    Namespace,
    Neighbour,
    PolicyRule,
    Route,
    Section,
    TcFilter,
)
from netdiag.model.wire import Answer, Gather, Request


def gather_links(context: Context) -> Gather[Section[dict[str, tuple[Link, ...]]]]:
    """Every network device of every namespace."""
    return dump_each(context, netlink.RTM_GETLINK, links.BODY, lambda data, _: links.decode(data))


def gather_addresses(context: Context) -> Gather[Section[dict[str, tuple[Address, ...]]]]:
    """Every address of every device."""
    return dump_each(context, netlink.RTM_GETADDR, addresses.BODY, addresses.decode)


def gather_routes(context: Context) -> Gather[Section[dict[str, tuple[Route, ...]]]]:
    """The routes of every table, both families."""
    return dump_each(context, netlink.RTM_GETROUTE, routes.BODY, routes.decode)


def gather_rules(context: Context) -> Gather[Section[dict[str, tuple[PolicyRule, ...]]]]:
    """The policy rules, both families."""
    return dump_each(context, netlink.RTM_GETRULE, rules.BODY, rules.decode)


def gather_neighbours(context: Context) -> Gather[Section[dict[str, tuple[Neighbour, ...]]]]:
    """ARP and ND."""
    return dump_each(context, netlink.RTM_GETNEIGH, neighbours.BODY, neighbours.decode)


def gather_fdb(context: Context) -> Gather[Section[dict[str, tuple[FdbEntry, ...]]]]:
    """Forwarding entries of bridges and VXLAN devices; namespaces without such devices are not asked."""

    def bridged(namespace: Namespace) -> bool:
        return any(link.kind in ("bridge", "vxlan") for link in context.links.get(namespace.id, ()))

    def read(namespace: Namespace, answers: Sequence[Answer]) -> tuple[tuple[FdbEntry, ...] | None, Absence | None]:
        if not answers:
            return (), None
        return read_dump(answers[0], lambda data: neighbours.decode_fdb(data, context.devices(namespace.id)))

    return each_namespace(
        context,
        lambda namespace: (
            [dump_request(namespace, netlink.RTM_GETNEIGH, neighbours.FDB_BODY)] if bridged(namespace) else []
        ),
        read,
    )


def gather_tc(context: Context) -> Gather[Section[dict[str, tuple[TcFilter, ...]]]]:
    """Ingress and clsact disciplines, then the filters of those devices only."""
    hooks: dict[str, tuple[tuple[int, int], ...]] = {}

    def read_hooks(namespace: Namespace, answers: Sequence[Answer]) -> tuple[Any, Absence | None]:
        def decode(data: bytes) -> netlink.Decoded[TcFilter]:
            rows, hooks[namespace.id] = tc.decode_hooks(data, context.devices(namespace.id))
            return rows

        return read_dump(answers[0], decode)

    section: Section[dict[str, tuple[TcFilter, ...]]] = yield from each_namespace(
        context, lambda namespace: [dump_request(namespace, netlink.RTM_GETQDISC, tc.BODY)], read_hooks
    )
    if section.value is None or not any(hooks.values()):
        return section

    def read(namespace: Namespace, answers: Sequence[Answer]) -> tuple[tuple[TcFilter, ...], Absence | None]:
        rows = list((section.value or {}).get(namespace.id, ()))
        reason = section.partial.get(namespace.id)
        for answer in answers:
            more, wrong = read_dump(answer, lambda data: tc.decode_filters(data, context.devices(namespace.id)))
            rows.extend(more or ())
            reason = reason or wrong
        return tuple(rows), reason

    return (
        yield from each_namespace(
            context,
            lambda namespace: [
                dump_request(namespace, netlink.RTM_GETTFILTER, tc.filter_body(index, parent))
                for index, parent in hooks.get(namespace.id, ())
            ],
            read,
        )
    )


def gather_tcx(namespace: Namespace, devices: Sequence[str]) -> Gather[tuple[TcFilter, ...]]:
    """The programs at TCX of some devices, which no dump of filters shows; none where they cannot be asked for.

    ``kind`` is "tcx", ``detail`` the program's name and id, and the id of the link that holds it, where one does.
    """
    params = {"devices": list(devices), **({"netns": namespace.path} if namespace.path else {})}
    (answer,) = yield [Request("tcx-programs", params, 2.0)]
    rows = answer.data["programs"] if answer.data is not None else ()
    return tuple(
        TcFilter(
            device=row["device"],
            parent=row["hook"],
            kind=TCX,
            detail=" ".join(
                filter(None, (row["name"], f"id {row['id']}", f"link {row['link']}" if row["link"] else ""))
            ),
        )
        for row in rows
    )
