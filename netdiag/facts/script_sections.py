"""The table of sections for what a shell script collected: ip(8) and bridge(8) tell what netlink dumps would.

Every other section is read by the same code as for a live host: the script prints the files and commands that it asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from netdiag.facts import script_links, script_routes
from netdiag.facts.context import Context, absence, each_namespace, files_request, texts, within
from netdiag.facts.netlink import Decoded
from netdiag.facts.sections import SECTIONS, SectionReader
from netdiag.model.facts import (
    Absence,
    AbsenceKind,
    Address,
    FdbEntry,
    Link,
    Namespace,
    Neighbour,
    PolicyRule,
    Route,
    Section,
)
from netdiag.model.wire import Answer, Gather, Request

Row = TypeVar("Row")

PURPOSE = "script collect"
"""The purpose of a bundle that was made from a script's output."""

LINKS = (
    ("ip", "-j", "-d", "-s", "link", "show"),
    ("ip", "-o", "-d", "-s", "link", "show"),
    ("ip", "-o", "link", "show"),
)
ADDRESSES = (("ip", "-j", "addr", "show"), ("ip", "-o", "addr", "show"))
NEIGHBOURS = (("ip", "-j", "neigh", "show", "nud", "all"), ("ip", "-o", "neigh", "show", "nud", "all"))
FDB = (("bridge", "-j", "fdb", "show"), ("bridge", "fdb", "show"))
ROUTES = {
    family: tuple(("ip", form, f"-{family}", "route", "show", "table", "all") for form in ("-j", "-o"))
    for family in (4, 6)
}
RULES = {family: tuple(("ip", form, f"-{family}", "rule", "show") for form in ("-j", "-o")) for family in (4, 6)}
"""The ways to ask for one table, the best first; the script takes the first that the host's tool knows."""

RT_TABLES = ("/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables", "/usr/lib/iproute2/rt_tables")
_PLAIN = "the host's ip does not say of what kind devices are: bridges and VXLAN devices are not known as such"

NOT_ASKED = {
    "nics": "the script does not ask NICs for their offloads",
    "tc": "the script does not list tc filters",
    "engine_log": "the script leaves the engine's log alone: a log may hold anything",
    "calico": "the script does not read Calico's datastore",
    "bird": "the script does not ask BIRD",
}
"""Sections that no script gives, and why."""


def _first(namespace: Namespace, ways: Sequence[Sequence[str]]) -> list[Request]:
    return [Request("command", within(namespace, {"argv": list(argv)})) for argv in ways]


def _output(answers: Sequence[Answer]) -> tuple[str | None, Absence | None]:
    """The output of the first way that worked; else why the one that was tried did not."""
    reasons: list[Absence] = []
    for answer in answers:
        if answer.data is None:
            reasons.append(absence(answer))
        elif answer.data["code"] == 0:
            return answer.data["stdout"], None
        else:
            said = (answer.data["stderr"].strip() or f"exit code {answer.data['code']}").splitlines()[0]
            reasons.append(Absence(kind=AbsenceKind.FAILED, text=said))
    tried = [reason for reason in reasons if reason.kind is not AbsenceKind.NOT_PROBED]
    return None, (tried or reasons)[0]


def _table(
    ways: Sequence[Sequence[str]], decode: Callable[[str], Decoded[Row]], limit: Callable[[str], str] = lambda _: ""
) -> Callable[[Context], Gather[Section[dict[str, tuple[Row, ...]]]]]:
    """A reader of one table of every namespace. ``limit`` says what a listing as it is cannot tell."""

    def read(_namespace: Namespace, answers: Sequence[Answer]) -> tuple[tuple[Row, ...] | None, Absence | None]:
        text, reason = _output(answers)
        if text is None:
            return None, reason
        rows, error = decode(text)
        wrong = error or limit(text)
        return rows, Absence(kind=AbsenceKind.FAILED, text=wrong) if wrong else None

    return lambda context: each_namespace(context, lambda namespace: _first(namespace, ways), read)


def _of_both(
    ways: Mapping[int, Sequence[Sequence[str]]], decode: Callable[[str, int, Mapping[str, int]], Decoded[Row]]
) -> Callable[[Context], Gather[Section[dict[str, tuple[Row, ...]]]]]:
    """A reader of a table that ip lists one family at a time, with names of routing tables."""

    def gather(context: Context) -> Gather[Section[dict[str, tuple[Row, ...]]]]:
        (answer,) = yield [files_request(RT_TABLES)]
        names = script_routes.table_names("\n".join(texts(answer).values()))

        def ask(namespace: Namespace) -> list[Request]:
            return [request for family in ways for request in _first(namespace, ways[family])]

        def read(_namespace: Namespace, answers: Sequence[Answer]) -> tuple[tuple[Row, ...] | None, Absence | None]:
            rows: list[Row] = []
            reasons: list[Absence] = []
            given = 0
            for family, each in ways.items():
                own, answers = answers[: len(each)], answers[len(each) :]
                text, reason = _output(own)
                if text is None:
                    # A kernel without IPv6 has no such table.
                    reasons += [reason] if reason is not None and family == 4 else []
                    continue
                given += 1
                found = decode(text, family, names)
                rows += found.rows
                if found.error:
                    reasons.append(Absence(kind=AbsenceKind.FAILED, text=found.error))
            return (tuple(rows) if given else None), (reasons[0] if reasons else None)

        return (yield from each_namespace(context, ask, read))

    return gather


gather_links: Callable[[Context], Gather[Section[dict[str, tuple[Link, ...]]]]] = _table(
    LINKS, script_links.links, lambda text: "" if text.startswith("[") or script_links.has_details(text) else _PLAIN
)
gather_addresses: Callable[[Context], Gather[Section[dict[str, tuple[Address, ...]]]]] = _table(
    ADDRESSES, script_links.addresses
)
gather_neighbours: Callable[[Context], Gather[Section[dict[str, tuple[Neighbour, ...]]]]] = _table(
    NEIGHBOURS, script_routes.neighbours
)
gather_fdb: Callable[[Context], Gather[Section[dict[str, tuple[FdbEntry, ...]]]]] = _table(FDB, script_routes.fdb)
gather_routes: Callable[[Context], Gather[Section[dict[str, tuple[Route, ...]]]]] = _of_both(
    ROUTES, script_routes.routes
)
gather_rules: Callable[[Context], Gather[Section[dict[str, tuple[PolicyRule, ...]]]]] = _of_both(
    RULES, script_routes.rules
)

SCRIPT_SECTIONS: dict[str, SectionReader] = {
    **SECTIONS,
    **{
        name: SECTIONS[name]._replace(asks=asks, gather=gather)
        for name, asks, gather in (
            ("links", "ip link", gather_links),
            ("addresses", "ip addr", gather_addresses),
            ("routes", "ip route", gather_routes),
            ("rules", "ip rule", gather_rules),
            ("neighbours", "ip neigh", gather_neighbours),
            ("fdb", "bridge fdb", gather_fdb),
        )
    },
}
