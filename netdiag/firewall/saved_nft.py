"""nftables: the tables that a saved file makes against those that run.

Both texts come from ``nft list ruleset``, so that nft itself has spelt them. Counters, handles, and elements that come
and go by themselves (a timeout, a dynamic set) are no differences.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

import msgspec

from netdiag.firewall.owner import owner_of
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule

_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_BLOCK = re.compile(r"^\t(chain|set|map|counter|quota|limit|flowtable|ct \w+|secmark|synproxy) (\S+) \{")
_HANDLE = re.compile(r"\s*# handle \d+$")
_COUNTER = re.compile(r"\bcounter packets \d+ bytes \d+")
_QUOTA = re.compile(r"\s+used \d+ \w+")
_FLAG_TRANSIENT = re.compile(r"^flags .*\b(timeout|dynamic)\b|^timeout ")
_POLICY = re.compile(r"policy (\S+);")
_DECLARED = re.compile(
    r"^\s*(?:add\s+|create\s+)?table\s+(?:(ip6?|inet|arp|bridge|netdev)\s+)?([\w./-]+)", re.MULTILINE
)
_FLUSH = re.compile(r"^\s*flush\s+ruleset\s*(?:;|#|$)", re.MULTILINE)


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain: its hook line without the policy (empty if it is only called), its policy, its rules."""

    name: str
    hook: str = ""
    policy: str | None = None
    rules: tuple[str, ...] = ()


class ElementSet(msgspec.Struct, frozen=True, kw_only=True):
    """A set or map: its members, unless they come and go by themselves."""

    kind: str
    name: str
    transient: bool = False
    elements: frozenset[str] = frozenset()


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table of a listing."""

    family: str
    name: str
    chains: dict[str, Chain]
    sets: dict[str, ElementSet]


class TableDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs in one table: rules, policies ("drop" becomes "accept"), and members by their set."""

    family: str
    table: str
    lost: tuple[FirewallRule, ...] = ()
    returns: tuple[FirewallRule, ...] = ()
    policies: tuple[tuple[FirewallRule, str], ...] = ()
    lost_elements: tuple[tuple[str, str], ...] = ()
    returning_elements: tuple[tuple[str, str], ...] = ()


def declared_tables(raw: str) -> frozenset[tuple[str, str]]:
    """The tables that a file names, read plainly: for a file that could not be loaded."""
    return frozenset((family or "ip", name) for family, name in _DECLARED.findall(raw))


def flushes_all(raw: str) -> bool:
    """Whether a file begins by throwing everything away."""
    return bool(_FLUSH.search(raw))


def read_tables(listing: str) -> dict[tuple[str, str], Table]:
    """The tables of ``nft list ruleset`` by family and name; never raises."""
    tables: dict[tuple[str, str], Table] = {}
    head: tuple[str, str] | None = None
    block: tuple[str, str] | None = None
    body: list[str] = []
    for raw in listing.split("\n"):
        line = _HANDLE.sub("", raw.rstrip())
        if found := _TABLE.match(line):
            head = (found[1], found[2])
            tables[head] = Table(family=found[1], name=found[2], chains={}, sets={})
        elif head is None:
            continue
        elif found := _BLOCK.match(line):
            block, body = (found[1], found[2]), []
        elif line == "\t}" and block is not None:
            _keep(tables[head], block, body)
            block = None
        elif line == "}":
            head = None
        elif block is not None and line.strip():
            body.append(line.strip())
    return tables


def _keep(table: Table, block: tuple[str, str], body: list[str]) -> None:
    kind, name = block
    if kind == "chain":
        hook, policy = "", None
        rules = []
        for line in body:
            if line.startswith("type ") and " hook " in line:
                found = _POLICY.search(line)
                hook, policy = _POLICY.sub("", line).strip(), found[1] if found else "accept"
            else:
                rules.append(_QUOTA.sub("", _COUNTER.sub("counter", line)))
        table.chains[name] = Chain(name=name, hook=hook, policy=policy, rules=tuple(rules))
    elif kind in ("set", "map"):
        joined = " ".join(body)
        found = re.search(r"elements = \{(.*)\}", joined)
        elements = frozenset(
            _COUNTER.sub("", part).strip() for part in (found[1].split(",") if found else ()) if part.strip()
        )
        transient = any(_FLAG_TRANSIENT.match(line) for line in body)
        table.sets[name] = ElementSet(kind=kind, name=name, transient=transient, elements=elements)


def rules_of(table: Table) -> Iterator[FirewallRule]:
    """Every rule of a table, with its owner."""
    for chain in table.chains.values():
        for number, text in enumerate(chain.rules, start=1):
            yield _rule(table, chain.name, number, text)


def _rule(table: Table, chain: str, number: int, text: str) -> FirewallRule:
    return FirewallRule(
        backend=Backend.NFT_NATIVE,
        family=table.family,
        table=table.name,
        chain=chain,
        number=number,
        text=text,
        owner=owner_of(chain, text, table.name),
    )


def _policy(table: Table, chain: Chain) -> FirewallRule:
    return FirewallRule(
        backend=Backend.NFT_NATIVE,
        family=table.family,
        table=table.name,
        chain=chain.name,
        text=f"{chain.hook} policy {chain.policy};",
        policy=chain.policy,
    )


def diff_table(running: Table | None, saved: Table | None) -> TableDiff:
    """Compare one table; None where there is none."""
    shown = running or saved
    assert shown is not None  # noqa: S101 - one of the two was listed
    lost: list[FirewallRule] = []
    returns: list[FirewallRule] = []
    policies: list[tuple[FirewallRule, str]] = []
    mine: Mapping[str, Chain] = running.chains if running is not None else {}
    theirs: Mapping[str, Chain] = saved.chains if saved is not None else {}
    for name in dict.fromkeys((*mine, *theirs)):
        left, right = mine.get(name, Chain(name=name)), theirs.get(name, Chain(name=name))
        matcher = difflib.SequenceMatcher(None, left.rules, right.rules, autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            if tag != "equal":
                lost += [_rule(shown, name, i + 1, left.rules[i]) for i in range(i1, i2)]
                returns += [_rule(shown, name, i1 + 1 + j - j1, right.rules[j]) for j in range(j1, j2)]
        becomes = right.policy or "accept"
        if (left.policy or "accept") != becomes:
            policies.append(
                (_policy(shown, left if left.policy else msgspec.structs.replace(right, policy="accept")), becomes)
            )
    gone, back = _elements(running, saved)
    return TableDiff(
        family=shown.family,
        table=shown.name,
        lost=tuple(lost),
        returns=tuple(returns),
        policies=tuple(policies),
        lost_elements=tuple(gone),
        returning_elements=tuple(back),
    )


def _elements(running: Table | None, saved: Table | None) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Members by the name of their set, of sets that both have."""
    gone: list[tuple[str, str]] = []
    back: list[tuple[str, str]] = []
    if running is not None and saved is not None:
        for name, mine in running.sets.items():
            theirs = saved.sets.get(name)
            if theirs is not None and not mine.transient and not theirs.transient:
                gone += [(name, element) for element in sorted(mine.elements - theirs.elements)]
                back += [(name, element) for element in sorted(theirs.elements - mine.elements)]
    return gone, back
