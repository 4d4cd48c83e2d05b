"""One variant and family of iptables on one host: what runs, and what the saved files of each mechanism make of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import msgspec

from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import SavedChain, SavedRule, SavedTables, read_save, split_words
from netdiag.firewall.saved_iptables import operators, read_file
from netdiag.firewall.saved_sources import FIREWALLD, IPTABLES, NFTABLES, PERSISTENT, Sources
from netdiag.firewall.saved_text import canonical
from netdiag.model.facts import Backend, Identity
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.firewall_diff import SavedLoad, SavedLoads

WHOLE = (PERSISTENT, IPTABLES)
"""They load whole tables: whatever stands in one goes before."""
EMPTY = SavedChain(name="", policy=None)


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one host.

    Attributes:
        running: The rules of iptables by variant and family.
        ufw_texts: ufw's files by path.
        elsewhere: (family, table) of tables that nftables.service loads: they are compared as nft's.
        nft_flushes: A reload of nftables.service throws away what iptables-nft runs.
        nft_stops: nftables.service is in use: it throws everything away when it stops.
        firewalld_flushes: A reload of firewalld empties iptables.
        direct: firewalld's direct rules that run, as `netdiag.firewall.saved_firewalld.direct_keys` has them.
    """

    running: Mapping[tuple[Backend, int], SavedTables]
    loads: SavedLoads
    sources: Sources
    identity: Identity | None
    ufw_texts: Mapping[str, str]
    elsewhere: frozenset[tuple[str, str]] = frozenset()
    nft_flushes: bool = False
    nft_stops: bool = False
    firewalld_flushes: bool = False
    direct: frozenset[tuple[int, str, str, str]] = frozenset()


class Saved:
    """A load and what it makes, read once."""

    def __init__(self, load: SavedLoad) -> None:
        self.load = load
        self.mechanism = load.mechanism
        self.file = load.file
        # As the tool listed it, else as it is written.
        self.tables = read_save(load.text) if load.text is not None else read_file(load.raw)

    @functools.cached_property
    def keys(self) -> Mapping[tuple[str, str], frozenset[str]]:
        """The one spelling of every rule, by table and chain."""
        return {
            (table, name): frozenset(canonical(rule.words, self.load.family) for rule in chain.rules)
            for table, chains in self.tables.tables.items()
            for name, chain in chains.items()
        }

    @functools.cached_property
    def lines(self) -> Mapping[tuple[str, str], Mapping[str, str]]:
        """The line of every rule as it is written in the file, by table and chain and then by its one spelling."""
        return lines_of(self.load.raw, self.load.family)

    def has(self, rule: FirewallRule, key: str) -> bool:
        """Whether a rule is among those that it makes."""
        return key in self.keys.get((rule.table, rule.chain), frozenset())


def lines_of(raw: str, family: int) -> Mapping[tuple[str, str], Mapping[str, str]]:
    """The lines of a rules file by table and chain and then by the one spelling of their rules."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    table = ""
    for line in raw.split("\n"):
        if line.startswith("*"):
            table = line[1:].strip()
        words = split_words(line.strip())
        if len(words) > 2 and words[0] == "-A":
            found.setdefault((table, words[1]), {}).setdefault(canonical(words[2:], family), line)
    return found


class View:
    """One variant and family of one host."""

    def __init__(self, host: Host, backend: Backend, family: int) -> None:
        self.host = host
        self.backend = backend
        self.family = family
        running = host.running.get((backend, family), SavedTables(tables={}))
        name = "ip6" if family == 6 else "ip"
        kept = {table: chains for table, chains in running.tables.items() if (name, table) not in host.elsewhere}
        self.running = SavedTables(tables=kept) if backend is Backend.IPTABLES_NFT else running
        mine = [Saved(load) for load in host.loads.loads if (load.backend, load.family) == (backend, family)]
        self.boot = [saved for saved in mine if host.sources.at_boot(saved.mechanism, family)]
        self.asleep = [saved for saved in mine if not host.sources.at_boot(saved.mechanism, family)]
        # A whole save writes both families.
        self.programs = any(
            owner_of(rule.chain, rule.text) is not Owner.OPERATOR
            for tables in host.running.values()
            for _, _, rule in each_rule(tables)
        )
        # The mechanism whose reload empties these tables; empty where none does.
        self.flusher = ""
        if host.firewalld_flushes and backend is (host.loads.plain or backend):
            self.flusher = FIREWALLD
        elif host.nft_flushes and backend is Backend.IPTABLES_NFT:
            self.flusher = NFTABLES

    def key(self, rule: FirewallRule) -> str:
        """A rule in its one spelling."""
        return canonical(split_words(rule.text)[2:], self.family)

    def chain(self, table: str, name: str) -> SavedChain:
        """A running chain; an empty one where there is none."""
        return self.running.tables.get(table, {}).get(name, EMPTY)

    def merged(self) -> SavedTables:
        """The operator's rules of everything that is loaded at boot, one file after the other."""
        tables: dict[str, dict[str, SavedChain]] = {}
        for saved in self.boot:
            for table, chains in saved.tables.tables.items():
                kept = tables.setdefault(table, {})
                for name, chain in chains.items():
                    earlier = kept[name].rules if name in kept else ()
                    kept[name] = msgspec.structs.replace(chain, rules=(*earlier, *operators(chain.rules)))
        return SavedTables(tables=tables)


def views(host: Host) -> Iterator[View]:
    """Every variant and family that runs or is saved."""
    pairs = {*host.running, *((load.backend, load.family) for load in host.loads.loads if load.family)}
    for backend, family in sorted(pairs, key=lambda each: (each[0].value, each[1])):
        yield View(host, backend, family)


def each_rule(tables: SavedTables) -> Iterator[tuple[str, SavedChain, SavedRule]]:
    """Every rule with its table and chain."""
    for table, chains in tables.tables.items():
        for chain in chains.values():
            for rule in chain.rules:
                yield table, chain, rule
