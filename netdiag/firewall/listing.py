"""Reads ``nft -a list ruleset``: every chain with its hook and policy, every rule with its handle.

What a rule matches is not interpreted here. A block, as in ``tcp dport 22 jump { … }``, is a chain of its own: the kernel
names it __chain and a number, and nft shows neither that name nor, in most versions, its rules' handles. Format:
nftables src/rule.c (chain_print_declaration, rule_print), src/statement.c (chain_stmt_print).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_BASE = re.compile(r"^type (\S+) hook (\S+) .*?priority ([^;]+);(?: policy (\S+);)?")
_DEVICES = re.compile(r"\bdevices? (?:= )?(\{[^}]*\}|\S+) priority")
_RULE = re.compile(r"^(.*\S)\s+# handle (\d+)$")
_OPENS = re.compile(r"(?:^|\s)(?:jump|goto) \{$")
_CLOSES = re.compile(r"^\}(.*?)\s+# handle (\d+)$")
BLOCK = "__chain"
"""How the kernel names a block's chain, before the number."""
_NAMED = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_NAMED_BRIDGE = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
_PRIORITY = re.compile(r"^([a-z]+)?\s*([+-]?\s*\d+)?$")
_USED = re.compile(r"\b(quota (?:over |until )?\d+ \w+|last) used (?:never|\d+ \w+|\w+)")
_COUNTER = re.compile(r"\bcounter packets (\d+) bytes \d+ ?")


class ListedRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: its number in the chain from 1, its text without counters, and its packet counter if it has one.

    Attributes:
        handle: 0 for a rule of a block whose handle nft does not show.
        block: The name in the listing of the chain that it holds as a block; else empty.
    """

    number: int
    handle: int
    text: str
    packets: int | None = None
    block: str = ""


class ListedChain(msgspec.Struct, frozen=True, kw_only=True):
    """One chain; ``kind`` (filter, nat, route) and ``hook`` are empty and ``policy`` None for one that is only called.

    ``devices`` are those of a chain at ingress or egress; None for any other.
    """

    family: str
    table: str
    name: str
    kind: str = ""
    hook: str = ""
    priority: str = ""
    policy: str | None = None
    rules: tuple[ListedRule, ...] = ()
    devices: frozenset[str] | None = None

    def rule(self, handle: int) -> ListedRule | None:
        """The rule with a handle; None if the chain was changed since it was listed."""
        return next((rule for rule in self.rules if rule.handle == handle), None)


Listing = Mapping[tuple[str, str, str], ListedChain]
"""Chains by family, table and name."""


def read_listing(text: str) -> Listing:
    """Read a whole listing; never raises. Sets, maps and other objects are passed over.

    A block's chain is named ``__chain`` and, in brackets, the handle of the rule that holds it (`named_blocks`).
    """
    chains: dict[tuple[str, str, str], ListedChain] = {}
    table: tuple[str, str] | None = None
    chain: ListedChain | None = None
    rules: list[ListedRule] = []
    outside: tuple[str, list[ListedRule]] | None = None
    for line in text.split("\n"):
        if found := _TABLE.match(line):
            table, chain = (found[1], found[2]), None
        elif (found := _CHAIN.match(line)) and table is not None:
            chain, rules, outside = ListedChain(family=table[0], table=table[1], name=found[1]), [], None
        elif chain is not None and line.startswith("\t}"):
            chains[chain.family, chain.table, chain.name] = msgspec.structs.replace(chain, rules=tuple(rules))
            chain = None
        elif chain is not None:
            body = line.strip()
            if base := _BASE.match(body):
                policy = base[4] or "accept"
                place = {"kind": base[1], "hook": base[2], "priority": base[3], "devices": _devices(body)}
                chain = msgspec.structs.replace(chain, policy=policy, **place)
            elif outside is None and _OPENS.search(body):
                outside, rules = (body, rules), []
            elif outside is not None and (closing := _CLOSES.match(body)):
                block = f"{BLOCK}[{closing[2]}]"
                inner = ListedChain(family=chain.family, table=chain.table, name=block, rules=tuple(rules))
                chains[inner.family, inner.table, block] = inner
                (head, rules), outside = outside, None
                whole = f"{head} {'; '.join(rule.text for rule in inner.rules)} }}{closing[1]}"
                outer = _rule(head, int(closing[2]), len(rules) + 1)
                rules.append(msgspec.structs.replace(outer, text=without_counts(whole), block=block))
            elif rule := _RULE.match(body):
                rules.append(_rule(rule[1], int(rule[2]), len(rules) + 1))
            elif outside is not None and body:
                rules.append(_rule(body, 0, len(rules) + 1))
    return chains


def _devices(body: str) -> frozenset[str] | None:
    found = _DEVICES.search(body)
    if found is None:
        return None
    return frozenset(re.findall(r'[^\s",{}]+', found[1]))


def _rule(text: str, handle: int, number: int) -> ListedRule:
    counter = _COUNTER.search(text)
    packets = int(counter[1]) if counter else None
    return ListedRule(number=number, handle=handle, text=without_counts(text), packets=packets)


def without_counts(body: str) -> str:
    """A rule's text without the numbers of its counters."""
    return _USED.sub(r"\1", _COUNTER.sub("counter ", body)).strip()


def named_blocks(listing: Listing, kernel: Listing) -> Listing:
    """The listing with its blocks' chains named, and their rules' handles, as the kernel has them.

    A block is made at once and before the rule that holds it, so that of the handles behind its own the nearest is that
    rule's. Where both do not fit together the rules were changed between, and the block keeps the name of the listing.

    Args:
        listing: As nft shows it.
        kernel: Chains with their rules' handles as the kernel dumps them.
    """
    renamed: dict[tuple[str, str, str], ListedChain] = {}
    for chain in kernel.values():
        if not chain.name.startswith(BLOCK) or not chain.rules:
            continue
        last = max(rule.handle for rule in chain.rules)
        holders = [
            rule
            for holding in listing.values()
            for rule in holding.rules
            if rule.block and rule.handle > last and (holding.family, holding.table) == (chain.family, chain.table)
        ]
        if not holders:
            continue
        place = (chain.family, chain.table, min(holders, key=lambda rule: rule.handle).block)
        block = listing[place]
        if len(block.rules) == len(chain.rules):
            rules = zip(block.rules, chain.rules, strict=True)
            renamed[place] = msgspec.structs.replace(
                block,
                name=chain.name,
                rules=tuple(msgspec.structs.replace(rule, handle=known.handle) for rule, known in rules),
            )
    named = [renamed.get(place, chain) for place, chain in listing.items()]
    return {(chain.family, chain.table, chain.name): _with_names(chain, renamed) for chain in named}


def _with_names(chain: ListedChain, renamed: Mapping[tuple[str, str, str], ListedChain]) -> ListedChain:
    """The chain whose rules call their blocks by the kernel's names."""
    if not any(rule.block for rule in chain.rules):
        return chain
    rules: list[ListedRule] = []
    for rule in chain.rules:
        block = renamed.get((chain.family, chain.table, rule.block))
        rules.append(rule if block is None else msgspec.structs.replace(rule, block=block.name))
    return msgspec.structs.replace(chain, rules=tuple(rules))


def has_blocks(text: str) -> bool:
    """Whether a rule of a listing holds a block."""
    return any(_OPENS.search(line) for line in text.split("\n") if line.endswith("{"))


def priority_number(text: str, family: str) -> int | None:
    """The number of a priority as nft lists it: "filter", "dstnat - 5", "-150"; None for what is none."""
    found = _PRIORITY.match(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    names = _NAMED_BRIDGE if family == "bridge" else _NAMED
    if found[1] and found[1] not in names:
        return None
    return names.get(found[1] or "", 0) + int((found[2] or "0").replace(" ", ""))
