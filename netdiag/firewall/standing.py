"""Rule sets as they stand, ready to be read by people and checks: who calls a chain, whose a rule is, in which file.

Sources of the order of hooks: include/uapi/linux/netfilter_ipv4.h.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from netdiag.firewall.explain import RuleSets, merged, read_rule_file, read_rule_sets
from netdiag.firewall.netfilter.rules import HOOKS_OF, Chain, Jump, Rule, Table, TableSet
from netdiag.firewall.netfilter.skb import Host
from netdiag.firewall.nft_text import NftTable, native_tables
from netdiag.firewall.owner import attribute
from netdiag.firewall.save_text import nft_family
from netdiag.model.facts import HOST, Backend, Facts
from netdiag.model.facts import RuleSet as ListedRules
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.firewall_lint import RulePlace

_DEEPEST_OWNER = 8
_OF_NATIVE = (
    "of rules of nft's own only what has to come in is asked, and JSON is not laid out (netdiag firewall explain asks them"
    " about one packet)"
)


class Call(msgspec.Struct, frozen=True, gc=False):
    """A rule that leads to a chain: its own chain and its place there, from 0."""

    chain: str
    at: int


class StandingTable:
    """One table of iptables', with what follows from all of it."""

    def __init__(self, tables: TableSet, table: Table, file: str, facts: Facts | None, namespace: str) -> None:
        """Take it as it was read."""
        self.backend = tables.backend
        self.family = tables.family
        self.name = table.name
        self.table = table
        self.file = file
        self._facts = facts
        self._namespace = namespace
        self._names = frozenset(table.chains)

    @property
    def chains(self) -> Mapping[str, Chain]:
        """By name, in the order of the text."""
        return self.table.chains

    @property
    def bases(self) -> tuple[str, ...]:
        """Its base chains that are there, in the order in which a packet comes to them."""
        return tuple(name for name in HOOKS_OF.get(self.name, ()) if name in self.table.chains)

    @functools.cached_property
    def calls(self) -> Mapping[str, tuple[Call, ...]]:
        """The rules that lead to each chain."""
        found: dict[str, list[Call]] = {}
        for chain in self.table.chains.values():
            for at, rule in enumerate(chain.rules):
                if isinstance(rule.target, Jump):
                    found.setdefault(rule.target.chain, []).append(Call(chain.name, at))
        return {name: tuple(calls) for name, calls in found.items()}

    def reached_from(self, base: str) -> frozenset[str]:
        """A base chain and all that it leads to."""
        return self._reached.get(base, frozenset())

    @functools.cached_property
    def _reached(self) -> Mapping[str, frozenset[str]]:
        leads = {
            chain.name: {rule.target.chain for rule in chain.rules if isinstance(rule.target, Jump)}
            for chain in self.table.chains.values()
        }
        found = {}
        for base in self.bases:
            seen, todo = {base}, [base]
            while todo:
                for name in leads.get(todo.pop(), ()):
                    if name not in seen and name in leads:
                        seen.add(name)
                        todo.append(name)
            found[base] = frozenset(seen)
        return found

    @functools.cached_property
    def reached(self) -> frozenset[str]:
        """All chains that some packet may come to."""
        return frozenset().union(*self._reached.values())

    @functools.cached_property
    def _callers(self) -> Mapping[str, tuple[FirewallRule, ...]]:
        return self._led_by(0)

    @functools.cached_property
    def _other_callers(self) -> Mapping[str, tuple[FirewallRule, ...]]:
        return self._led_by(-1)

    def _led_by(self, which: int) -> Mapping[str, tuple[FirewallRule, ...]]:
        """By chain, the rules that led there, innermost first; of several the first, or the last."""
        found: dict[str, tuple[FirewallRule, ...]] = {}
        for name in self.table.chains:
            way: list[FirewallRule] = []
            at, seen = name, {name}
            while (calls := self.calls.get(at)) and calls[which].chain not in seen and len(way) < _DEEPEST_OWNER:
                call = calls[which]
                way.append(self._bare(call.chain, self.table.chains[call.chain].rules[call.at]))
                at = call.chain
                seen.add(at)
            found[name] = tuple(way)
        return found

    def _bare(self, chain: str, rule: Rule) -> FirewallRule:
        return FirewallRule(
            backend=Backend(self.backend),
            family=nft_family(self.family),
            table=self.name,
            chain=chain,
            number=rule.number,
            text=rule.text,
            namespace=self._namespace,
        )

    def attributed(self, chain: str, rule: Rule) -> FirewallRule:
        """A rule with its owner; what it serves is left out where that depends on which rule led to its chain."""
        bare = self._bare(chain, rule)
        found = attribute(bare, self._callers[chain], self._facts, chains=self._names)
        if found.belongs_to and self._callers[chain] != self._other_callers[chain]:
            other = attribute(bare, self._other_callers[chain], self._facts, chains=self._names)
            if other.belongs_to != found.belongs_to:
                return msgspec.structs.replace(found, belongs_to="")
        return found

    def owner(self, chain: str) -> Owner:
        """Whose chain it is: that of a rule in it that everybody could write; of a base chain, who set its policy."""
        found = self.table.chains[chain]
        base = chain in HOOKS_OF.get(self.name, ())
        said = FirewallRule(
            backend=Backend(self.backend),
            family=nft_family(self.family),
            table=self.name,
            chain=chain,
            text=f":{chain} {found.policy}" if base else f"-A {chain}",
            namespace=self._namespace,
            policy=str(found.policy or "ACCEPT") if base else None,
        )
        if not base and chain == "DOCKER-USER":
            return Owner.DOCKER  # the engine makes it; what is in it is the operator's
        return attribute(said, self._callers[chain], self._facts, chains=self._names).owner

    def place(self, chain: str, rule: Rule | None = None) -> RulePlace:
        """Where a rule or a chain stands."""
        owner = self.attributed(chain, rule).owner if rule is not None else self.owner(chain)
        return RulePlace(
            backend=self.backend,
            family=nft_family(self.family),
            table=self.name,
            chain=chain,
            number=rule.number if rule is not None else None,
            text=rule.text if rule is not None else "",
            owner=owner,
            namespace=self._namespace,
            file=self.file,
            line=rule.line_number if rule is not None and self.file else None,
        )


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """One rule set as it was given: its name (a file's; empty for a running one), and what was read of it."""

    name: str
    rule_sets: RuleSets
    sure_backend: bool = True
    """Whether it says itself which variant wrote it."""


class Standing:
    """All that filters in one network namespace, or in the files that were given."""

    def __init__(
        self,
        texts: Sequence[Text],
        *,
        host: Host | None = None,
        facts: Facts | None = None,
        namespace: str = HOST,
        natives: Iterable[NftTable] = (),
        unknown: Sequence[str] = (),
    ) -> None:
        """Take all of it.

        Args:
            texts: What was read.
            host: What is known of the host beside its rules.
            facts: What is known of it at all; None for files.
            namespace: Whose rules.
            natives: The tables that nft wrote itself.
            unknown: What could not be read, a line each.
        """
        self.texts = tuple(texts)
        self.host = host or Host()
        self.facts = facts
        self.namespace = namespace
        self.natives = tuple(natives)
        self.unknown = tuple(unknown)
        self.tables = tuple(
            StandingTable(tables, table, text.name, facts, namespace)
            for text in texts
            for tables in text.rule_sets.tables
            for table in tables.tables.values()
        )
        sets = [text.rule_sets.sets for text in texts if text.rule_sets.sets is not None]
        self.sets = {name: found for each in sets for name, found in each.items()} if sets else None

    def of(self, table: str, family: int) -> Iterator[StandingTable]:
        """The tables of this name and family, of each variant."""
        return (each for each in self.tables if (each.name, each.family) == (table, family))

    @property
    def rules(self) -> int:
        """How many rules of iptables' there are."""
        return sum(len(chain.rules) for table in self.tables for chain in table.chains.values())

    @property
    def asks_native(self) -> bool:
        """Whether packets can be asked of nft's own tables as well: none is there, or they were read."""
        return not self.natives or any(text.rule_sets.native is not None for text in self.texts)

    def asked(self) -> RuleSets:
        """The rules to ask a packet of, nft's own among them.

        Where those could not be read, a table that only stops packets is left out: what a rule of iptables' drops it
        cannot bring back.
        """
        whole = merged([text.rule_sets for text in self.texts])
        if self.asks_native:
            return whole
        foreign = {}
        hooks = {"prerouting": "PREROUTING", "input": "INPUT", "ingress": "PREROUTING", "output": "OUTPUT"}
        for native in self.natives:
            for hook in native.hooks if native.alters() else ():
                for family in {"ip": (4,), "ip6": (6,)}.get(native.family, (4, 6)):
                    if hook in hooks:
                        foreign[family, hooks[hook]] = f"nft's own table {native.family} {native.name} alters packets"
        return RuleSets(tables=whole.tables, sets=self.sets, foreign=foreign)


def of_files(files: Sequence[tuple[str, str]]) -> Standing:
    """What saved files hold.

    Args:
        files: Names and texts.
    """
    texts: list[Text] = []
    unknown: list[str] = []
    natives: list[NftTable] = []
    for name, text in files:
        read = read_rule_file(text)
        if read.native is not None:
            natives += native_tables(text, ())
            unknown.append(f"{name}: {_OF_NATIVE}")
        elif not read.tables and read.sets is None:
            unknown.append(f"{name}: {read.problems[0] if read.problems else 'no rules'}")
        texts.append(Text(name=name, rule_sets=read, sure_backend=_says_variant(text)))
    return Standing(texts, natives=natives, unknown=unknown)


def _says_variant(text: str) -> bool:
    return any(line.startswith("# Generated by ip") and "save v1." in line for line in text[: 1 << 16].split("\n"))


def of_listed(
    rule_sets: Iterable[ListedRules], *, host: Host, facts: Facts, namespace: str, unknown: Sequence[str] = ()
) -> Standing:
    """The running rules of a namespace, as each tool shows them."""
    rule_sets = tuple(rule_sets)
    read = read_rule_sets(rule_sets)
    written = [(nft_family(each.family), name) for each in read.tables for name in each.tables]
    nft = [rules.text for rules in rule_sets if rules.backend is Backend.NFT_NATIVE]
    return Standing(
        (Text(name="", rule_sets=read),),
        host=host,
        facts=facts,
        namespace=namespace,
        natives=[table for text in nft for table in native_tables(text, written)],
        unknown=unknown,
    )
