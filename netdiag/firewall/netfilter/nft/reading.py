"""Reads ``nft -j list ruleset`` into tables, chains, sets and rules.

Where something of a table is not understood, the table, the rule or the set says so and leaves what depends on it unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from netdiag.firewall.listing import Listing, priority_number
from netdiag.firewall.netfilter.nft.expression_reading import Names, flags_of, read_elements, types_of
from netdiag.firewall.netfilter.nft.model import NftChain, NftRule, NftTable
from netdiag.firewall.netfilter.nft.rendering import rule_text
from netdiag.firewall.netfilter.nft.statement_reading import read_statements, tracks
from netdiag.firewall.netfilter.nft.statements import Nothing, Opaque
from netdiag.firewall.netfilter.nft.text_reading import read_text
from netdiag.firewall.netfilter.nft.types import VERDICT, NotModelled
from netdiag.firewall.netfilter.nft.values import Elements, NamedSet

_HOOKS = {
    "ingress": "INGRESS",
    "egress": "EGRESS",
    "prerouting": "PREROUTING",
    "input": "INPUT",
    "forward": "FORWARD",
    "output": "OUTPUT",
    "postrouting": "POSTROUTING",
}
_OBJECTS = frozenset(
    {
        "metainfo",
        "counter",
        "quota",
        "ct helper",
        "ct timeout",
        "ct expectation",
        "synproxy",
        "secmark",
        "flowtable",
        "tunnel",
    }
)
"""What stands in a table beside chains, rules, sets and limits, and decides about nothing by itself."""
_LOST = "something in its listing is not understood"
_MOST_PROBLEMS = 50


class NftRead(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of a listing, and what of it was not understood, a line each."""

    tables: tuple[NftTable, ...] = ()
    problems: tuple[str, ...] = ()


def read_nft(text: str, listing: Listing | None = None) -> NftRead:
    """Read a whole listing; never raises.

    Args:
        text: ``nft -j list ruleset``.
        listing: The same rules as ``nft -a list ruleset`` prints them: their texts are taken from there, and the devices
            of chains, which JSON does not tell in some versions.
    """
    try:
        whole = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        return NftRead(problems=(f"this is not what nft -j list ruleset prints: {error}",))
    rows = whole.get("nftables") if isinstance(whole, dict) else None
    if not isinstance(rows, list):
        return NftRead(problems=('this is not what nft -j list ruleset prints: it has no list "nftables"',))
    return _Reading(listing or {}).read(rows)


def read_nft_text(text: str) -> NftRead:
    """Read ``nft list ruleset``, with handles or without, or a file of that form that nft reads; never raises."""
    found = read_text(text)
    read = _Reading({}).read(found.rows)
    # What is not understood of the text says more than what is missing for it.
    return NftRead(tables=read.tables, problems=tuple(found.problems) or read.problems)


class _Draft:
    """A table while it is read."""

    def __init__(self, family: str, name: str, *, dormant: bool) -> None:
        self.family = family
        self.name = name
        self.dormant = dormant
        self.missing = ""
        self.chains: dict[str, NftChain] = {}
        self.rules: dict[str, list[Any]] = {}
        self.raw_sets: dict[str, tuple[dict[str, Any], bool]] = {}
        self.limits: dict[str, bool] = {}
        self.tracks = False


class _Reading:
    """One listing while it is read."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._drafts: dict[tuple[str, str], _Draft] = {}
        self._problems: list[str] = []
        self._lost = ""
        """Why any table may hold more: an entry of which nothing tells which table it changes."""

    def read(self, rows: Sequence[Any]) -> NftRead:
        for row in rows:
            if not isinstance(row, dict) or len(row) != 1:
                self._problem(f"an entry is not understood: {str(row)[:80]}")
                self._lost = _LOST
                continue
            ((kind, inner),) = row.items()
            if kind in ("add", "create", "insert") and isinstance(inner, dict) and len(inner) == 1:
                ((kind, inner),) = inner.items()
            if kind in _OBJECTS and kind != "metainfo" and isinstance(inner, dict):
                self._object(kind, inner)
            elif kind in ("table", "chain", "rule", "set", "map", "limit") and isinstance(inner, dict):
                self._entry(kind, inner)
            elif kind != "metainfo":
                self._problem(f"an entry is not understood: {str(kind)[:60]}")
                self._lost = _LOST
        tables = tuple(self._table(draft) for draft in self._drafts.values())
        return NftRead(tables=tables, problems=tuple(self._problems))

    def _problem(self, text: str) -> None:
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(text)

    def _object(self, kind: str, inner: Mapping[str, Any]) -> None:
        draft = self._drafts.get((str(inner.get("family")), str(inner.get("table"))))
        if draft is not None and kind in ("ct helper", "ct timeout", "ct expectation", "synproxy"):
            draft.tracks = True

    def _entry(self, kind: str, inner: dict[str, Any]) -> None:
        family, name = inner.get("family"), inner.get("name")
        if kind == "table":
            if not isinstance(family, str) or not isinstance(name, str):
                self._problem("a table has no family or no name")
                return
            # Versions before 1.0.7 cut the flag's name short.
            dormant = any(flag.startswith("dor") for flag in flags_of(inner.get("flags")))
            self._drafts.setdefault((family, name), _Draft(family, name, dormant=dormant))
            return
        draft = self._drafts.get((str(family), str(inner.get("table"))))
        if draft is None:
            # An entry of a table that is not listed, as in a listing of one chain.
            if not isinstance(family, str) or not isinstance(inner.get("table"), str):
                self._problem(f"a {kind} names no table")
                self._lost = _LOST
                return
            draft = self._drafts[family, inner["table"]] = _Draft(family, inner["table"], dormant=False)
        if kind == "rule":
            chain = inner.get("chain")
            if isinstance(chain, str):
                draft.rules.setdefault(chain, []).append(self._with_blocks(draft, chain, inner))
            else:
                draft.missing = draft.missing or "a rule names no chain"
                self._problem(f"a rule of {draft.family} {draft.name} names no chain")
        elif not isinstance(name, str):
            draft.missing = draft.missing or f"a {kind} has no name"
            self._problem(f"a {kind} of {draft.family} {draft.name} has no name")
        elif kind == "chain":
            self._chain(draft, name, inner)
        elif kind == "limit":
            draft.limits[name] = inner.get("inv") is True
        else:
            draft.raw_sets[name] = inner, kind == "map"

    def _with_blocks(self, draft: _Draft, chain: str, raw: dict[str, Any]) -> dict[str, Any]:
        """A rule whose blocks are chains; nft's JSON has them as text."""
        expressions = raw.get("expr")
        if not isinstance(expressions, list) or not any(isinstance(each, str) for each in expressions):
            return raw
        whole: list[Any] = []
        for each in expressions:
            if not isinstance(each, str):
                whole.append(each)
                continue
            place = f"table {draft.family} {draft.name} {{\nchain {chain} {{\n"
            read = read_text(f"{place}{each} # handle {raw.get('handle', 0)}\n}}\n}}\n")
            rows = [inner for row in read.rows for kind, inner in row.items() if kind == "rule"]
            outer = next((row for row in rows if row.get("chain") == chain), None)
            if outer is None or read.problems:
                whole.append({"not understood": "what a chain inside of it holds"})
                continue
            whole += outer["expr"]
            for row in read.rows:
                ((kind, inner),) = row.items()
                if kind in ("chain", "rule") and inner is not outer and inner.get("name", "") != chain:
                    self._entry(kind, inner)
        return {**raw, "expr": whole, "text": raw.get("text") or rule_text(expressions, str(raw.get("comment") or ""))}

    def _chain(self, draft: _Draft, name: str, inner: Mapping[str, Any]) -> None:
        if "hook" not in inner:
            draft.chains[name] = NftChain(name=name)
            return
        hook = _HOOKS.get(str(inner.get("hook")))
        priority = inner.get("prio", 0)
        if isinstance(priority, str):
            priority = priority_number(priority, draft.family)
        policy = str(inner.get("policy") or "accept").upper()
        if hook is None or not isinstance(priority, int) or policy not in ("ACCEPT", "DROP"):
            draft.missing = draft.missing or f"where its chain {name} stands is not understood"
            self._problem(f"where the chain {name} of {draft.family} {draft.name} stands is not understood")
            return
        draft.chains[name] = NftChain(
            name=name,
            kind=str(inner.get("type", "filter")),
            hook=hook,
            priority=priority,
            policy=policy,
            devices=self._devices(draft, name, inner),
        )

    def _devices(self, draft: _Draft, name: str, inner: Mapping[str, Any]) -> frozenset[str] | None:
        found = inner.get("dev")
        if isinstance(found, str | list):
            return frozenset(flags_of(found))
        listed = self._listing.get((draft.family, draft.name, name))
        return listed.devices if listed is not None else None

    def _table(self, draft: _Draft) -> NftTable:
        for called in draft.rules:
            if called not in draft.chains and not draft.missing:
                draft.missing = f"it has rules in a chain {called[:60]}, which is not listed"
                self._problem(f"{draft.family} {draft.name}: {draft.missing}")
        sets: dict[str, NamedSet] = {}
        # A set's type may be that of an expression, which may ask a map.
        for name, (raw, is_map) in draft.raw_sets.items():
            try:
                sets[name] = _named_set(name, raw, Names(sets), draft.family, is_map=is_map)
            except NotModelled as error:
                self._problem(f"set {name} of {draft.family} {draft.name}: {error}")
        names = Names(sets)
        chains: dict[str, NftChain] = {}
        for name, chain in draft.chains.items():
            listed = self._listing.get((draft.family, draft.name, name))
            texts = {rule.handle: rule.text for rule in listed.rules} if listed is not None else {}
            rules = tuple(
                self._rule(draft, name, raw, number, names, texts)
                for number, raw in enumerate(draft.rules.get(name, ()), start=1)
            )
            chains[name] = msgspec.structs.replace(chain, rules=rules)
        if draft.tracks or any(tracks(raw.get("elem")) for raw, _ in draft.raw_sets.values()):
            # A chain that nobody calls holds what its objects ask for.
            rule = NftRule(text="", number=1, statements=(Nothing(tracks=True),))
            chains[""] = NftChain(name="", rules=(rule,))
        return NftTable(
            family=draft.family,
            name=draft.name,
            chains=chains,
            sets=sets,
            missing=draft.missing or self._lost,
            dormant=draft.dormant,
        )

    def _rule(
        self, draft: _Draft, chain: str, raw: Mapping[str, Any], number: int, names: Names, texts: Mapping[int, str]
    ) -> NftRule:
        expressions = raw.get("expr")
        handle = raw.get("handle")
        handle = handle if isinstance(handle, int) else None
        comment = raw.get("comment")
        comment = comment if isinstance(comment, str) else ""
        own = raw.get("text")
        text = texts.get(handle or 0) or (own if isinstance(own, str) else rule_text(expressions, comment))
        if not isinstance(expressions, list):
            self._problem(f"rule {number} of {draft.family} {draft.name} {chain} is not understood")
            return NftRule(text=text, number=number, statements=(Opaque(reason="it is not understood", tracks=True),))
        statements = read_statements(expressions, names, draft.family, draft.limits)
        counter: dict[str, Any] = next(
            (
                each["counter"]
                for each in expressions
                if isinstance(each, dict) and isinstance(each.get("counter"), dict)
            ),
            {},
        )
        packets, octets = counter.get("packets"), counter.get("bytes")
        return NftRule(
            text=text,
            number=number,
            statements=statements,
            handle=handle,
            packets=packets if isinstance(packets, int) else None,
            bytes=octets if isinstance(octets, int) else None,
            comment=comment,
        )


def _named_set(name: str, raw: Mapping[str, Any], names: Names, family: str, *, is_map: bool) -> NamedSet:
    keys = types_of(raw.get("type"), names, family)
    data = types_of(raw.get("map"), names, family) if is_map else ()
    size = raw.get("size")
    elements = read_elements(raw.get("elem"), keys, data)
    if data and data[0] is VERDICT and len(data) > 1:
        elements = Elements((), reason="its verdicts are not understood")
    return NamedSet(name=name, keys=keys, elements=elements, data=data, size=size if isinstance(size, int) else 0)
