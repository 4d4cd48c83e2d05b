"""Reads ``nft -a list ruleset``: every chain with its hook and policy, every rule with its handle.

What a rule matches is not interpreted here. Format: nftables src/rule.c (chain_print_declaration, rule_print).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_BASE = re.compile(r"^type (\S+) hook (\S+) .*?priority ([^;]+);(?: policy (\S+);)?")
_RULE = re.compile(r"^(.*\S)\s+# handle (\d+)$")
_NAMED = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_NAMED_BRIDGE = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
_PRIORITY = re.compile(r"^([a-z]+)?\s*([+-]?\s*\d+)?$")
_COUNTER = re.compile(r"\bcounter packets (\d+) bytes \d+ ?")


class ListedRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: its number in the chain from 1, its text without counters, and its packet counter if it has one."""

    number: int
    handle: int
    text: str
    packets: int | None = None


class ListedChain(msgspec.Struct, frozen=True, kw_only=True):
    """One chain; ``kind`` (filter, nat, route) and ``hook`` are empty and ``policy`` None for one that is only called."""

    family: str
    table: str
    name: str
    kind: str = ""
    hook: str = ""
    priority: str = ""
    policy: str | None = None
    rules: tuple[ListedRule, ...] = ()

    def rule(self, handle: int) -> ListedRule | None:
        """The rule with a handle; None if the chain was changed since it was listed."""
        return next((rule for rule in self.rules if rule.handle == handle), None)


Listing = Mapping[tuple[str, str, str], ListedChain]
"""Chains by family, table and name."""


def read_listing(text: str) -> Listing:
    """Read a whole listing; never raises. Sets, maps and other objects are passed over."""
    chains: dict[tuple[str, str, str], ListedChain] = {}
    table: tuple[str, str] | None = None
    chain: ListedChain | None = None
    rules: list[ListedRule] = []
    for line in text.split("\n"):
        if found := _TABLE.match(line):
            table, chain = (found[1], found[2]), None
        elif (found := _CHAIN.match(line)) and table is not None:
            chain, rules = ListedChain(family=table[0], table=table[1], name=found[1]), []
        elif chain is not None and line.startswith("\t}"):
            chains[chain.family, chain.table, chain.name] = msgspec.structs.replace(chain, rules=tuple(rules))
            chain = None
        elif chain is not None:
            body = line.strip()
            if base := _BASE.match(body):
                policy = base[4] or "accept"
                chain = msgspec.structs.replace(chain, kind=base[1], hook=base[2], priority=base[3], policy=policy)
            elif rule := _RULE.match(body):
                counter = _COUNTER.search(rule[1])
                rules.append(
                    ListedRule(
                        number=len(rules) + 1,
                        handle=int(rule[2]),
                        text=_COUNTER.sub("counter ", rule[1]).strip(),
                        packets=int(counter[1]) if counter else None,
                    )
                )
    return chains


def priority_number(text: str, family: str) -> int | None:
    """The number of a priority as nft lists it: "filter", "dstnat - 5", "-150"; None for what is none."""
    found = _PRIORITY.match(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    names = _NAMED_BRIDGE if family == "bridge" else _NAMED
    if found[1] and found[1] not in names:
        return None
    return names.get(found[1] or "", 0) + int((found[2] or "0").replace(" ", ""))
