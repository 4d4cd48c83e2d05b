"""A rule set as an operator wants to read it: base chains first, then the chains of each owner, each with its callers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.rules import Chain, Rule
from netdiag.firewall.nft_statement import verdict_of
from netdiag.firewall.nft_text import NftTable
from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import nft_family
from netdiag.firewall.standing import Standing, StandingTable
from netdiag.model.facts import Backend
from netdiag.model.firewall import Owner
from netdiag.model.firewall_show import CallSite, FirewallShow, ShownChain, ShownRule, ShownSet, ShownTable
from netdiag.model.protocols import number_of

_CHAIN = re.compile(r"^\s*chain (\S+) \{")
_BASE = re.compile(r"^\s*type (\S+) hook (\S+) .*?priority ([^;]+);(?: policy (\S+);)?")
_HANDLE = re.compile(r"\s+# handle \d+$")
_COUNTER = re.compile(r"\bcounter packets (\d+) bytes (\d+) ?")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What of a rule set is asked for; empty and None are "all".

    Attributes:
        port: Only rules that name it, as destination or source.
        protocol: Only rules that name it.
    """

    table: str = ""
    chain: str = ""
    owner: Owner | None = None
    port: int | None = None
    protocol: str = ""

    def of_rules(self) -> bool:
        """Whether rules are asked for by what they are, so that a chain without any is not shown."""
        return self.owner is not None or self.port is not None or bool(self.protocol)


def laid_out(standing: Standing, *, subject: str, wanted: Wanted | None = None) -> FirewallShow:
    """The whole rule set, or what is wanted of it."""
    asked = wanted or Wanted()
    tables = [_table(table, asked) for table in standing.tables if not asked.table or table.name == asked.table]
    tables += [_native(native, asked) for native in standing.natives if not asked.table or native.name == asked.table]
    sets = [] if asked != Wanted() else sorted((standing.sets or {}).values(), key=lambda each: each.name)
    return FirewallShow(
        subject=subject,
        namespace=standing.namespace,
        tables=tuple(table for table in tables if table.chains or (table.missing and not asked.of_rules())),
        sets=tuple(
            ShownSet(
                name=each.name,
                kind=each.kind,
                members=len(each.nested) + sum(len(keys) for keys in each.members.values()),
            )
            for each in sets
        ),
        problems=(
            *standing.unknown,
            *(
                f"{text.name + ', ' if text.name else ''}{problem}"
                for text in standing.texts
                for problem in text.rule_sets.problems
            ),
        ),
    )


def _table(table: StandingTable, asked: Wanted) -> ShownTable:
    chains = [_chain(table, chain, asked) for chain in table.chains.values()]
    order = {name: at for at, name in enumerate(table.bases)}
    owners = list(Owner)
    # Base chains in the packet's order; then an owner's chains together, in the order of the text.
    shown = sorted(
        (chain for chain in chains if chain is not None),
        key=lambda chain: (0, order[chain.name]) if chain.name in order else (1, owners.index(chain.owner)),
    )
    return ShownTable(
        backend=table.backend,
        family=nft_family(table.family),
        name=table.name,
        file=table.file,
        missing=table.table.missing or table.table.cut_off,
        chains=tuple(shown),
    )


def _chain(table: StandingTable, chain: Chain, asked: Wanted) -> ShownChain | None:
    if asked.chain and chain.name != asked.chain:
        return None
    owner = table.owner(chain.name)
    rules = []
    for rule in chain.rules:
        attributed = table.attributed(chain.name, rule)
        if not _is_wanted(rule, attributed.owner, asked):
            continue
        rules.append(
            ShownRule(
                number=rule.number,
                text=rule.text,
                owner=attributed.owner,
                belongs_to=attributed.belongs_to,
                packets=rule.packets,
                bytes=rule.bytes,
                line=rule.line_number if table.file else None,
            )
        )
    if asked.of_rules() and not rules:
        return None
    calls = table.calls.get(chain.name, ())
    return ShownChain(
        name=chain.name,
        owner=owner,
        hook=chain.name if chain.name in table.bases else "",
        policy=chain.policy,
        packets=chain.packets,
        bytes=chain.bytes,
        called_from=tuple(CallSite(chain=call.chain, number=call.at + 1) for call in calls),
        rules=tuple(rules),
        hidden=len(chain.rules) - len(rules),
    )


def _is_wanted(rule: Rule, owner: Owner, asked: Wanted) -> bool:
    if asked.owner is not None and owner is not asked.owner:
        return False
    if asked.protocol:
        number = number_of(asked.protocol)
        if not any(
            isinstance(match, header.Protocol) and match.number == number and not match.negated
            for match in rule.matches
        ):
            return False
    return asked.port is None or any(_names(match, asked.port) for match in rule.matches)


def _names(match: object, port: int) -> bool:
    if isinstance(match, header.Ports):
        return match.first <= port <= match.last
    return isinstance(match, header.Multiport) and any(first <= port <= last for first, last in match.ranges)


# --- tables that nft wrote, by their text ---


def _native(table: NftTable, asked: Wanted) -> ShownTable:
    chains = list(_native_chains(table))
    calls: dict[str, list[CallSite]] = {}
    for name, rules, _ in chains:
        for number, text, _, _ in rules:
            verdict = verdict_of(text)
            if verdict is not None and verdict.chain:
                calls.setdefault(verdict.chain, []).append(CallSite(chain=name, number=number))
    owner = owner_of("", "", table.name)
    shown = []
    for name, rules, base in chains:
        kept = tuple(
            ShownRule(number=number, text=text, owner=owner, packets=packets, bytes=size)
            for number, text, packets, size in rules
            if _text_is_wanted(text, owner, asked)
        )
        if (asked.chain and name != asked.chain) or (asked.of_rules() and not kept):
            continue
        shown.append(
            ShownChain(
                name=name,
                owner=owner,
                hook=base[0],
                policy=base[1],
                called_from=tuple(calls.get(name, ())),
                rules=kept,
                hidden=len(rules) - len(kept),
            )
        )
    return ShownTable(backend=Backend.NFT_NATIVE.value, family=table.family, name=table.name, chains=tuple(shown))


_Lines = list[tuple[int, str, int | None, int | None]]


def _native_chains(table: NftTable) -> Iterator[tuple[str, _Lines, tuple[str, str | None]]]:
    """Name, rules, and hook with policy of each chain."""
    name = ""
    base: tuple[str, str | None] = ("", None)
    rules: _Lines = []
    for line in table.text.split("\n"):
        if found := _CHAIN.match(line):
            name, base, rules = found[1], ("", None), []
        elif name and line.startswith("\t}"):
            yield name, rules, base
            name = ""
        elif name and (said := _BASE.match(line)):
            base = f"{said[2]} priority {said[3]}", (said[4] or "accept").upper()
        elif name and line.strip():
            counter = _COUNTER.search(line)
            text = _COUNTER.sub("", _HANDLE.sub("", line)).strip()
            packets, size = (int(counter[1]), int(counter[2])) if counter else (None, None)
            rules.append((len(rules) + 1, text, packets, size))


def _text_is_wanted(text: str, owner: Owner, asked: Wanted) -> bool:
    if asked.owner is not None and owner is not asked.owner:
        return False
    if asked.protocol and asked.protocol not in text.split():
        return False
    return asked.port is None or re.search(rf"\b{asked.port}\b", text) is not None
