"""Changes among the rules of iptables: what a boot loses, what it brings back, what a restart throws away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from netdiag.firewall import saved_commands as commands
from netdiag.firewall import saved_ufw as ufw
from netdiag.firewall.save_text import SavedChain, SavedRule, SavedTables, read_save, split_words
from netdiag.firewall.saved_iptables import (
    diff_chain,
    diff_policies,
    diff_tables,
    operators,
    policy_of,
    read_file,
    rule_of,
)
from netdiag.firewall.saved_owner import owner_at_start
from netdiag.firewall.saved_sources import FIREWALLD, IPTABLES, NFTABLES, PERSISTENT, UFW, Sources
from netdiag.firewall.saved_text import canonical
from netdiag.model.facts import Backend, Identity
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.firewall_diff import Change, ChangeKind, SavedLoad, SavedLoads, When

_WHOLE = (PERSISTENT, IPTABLES)


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

    def flusher(self, backend: Backend) -> str:
        """The mechanism whose reload empties the tables of a variant; empty where none does."""
        if self.firewalld_flushes and backend is (self.loads.plain or backend):
            return FIREWALLD
        return NFTABLES if self.nft_flushes and backend is Backend.IPTABLES_NFT else ""


def tables_of(load: SavedLoad) -> SavedTables:
    """What a saved file makes: as the tool listed it, else as it is written."""
    return read_save(load.text) if load.text is not None else read_file(load.raw)


def changes(host: Host) -> Iterator[Change]:
    """All changes among the rules of iptables."""
    for backend, family in sorted(
        {*host.running, *((load.backend, load.family) for load in host.loads.loads if load.family)},
        key=lambda each: (each[0].value, each[1]),
    ):
        running = host.running.get((backend, family), SavedTables(tables={}))
        yield from _Family(host, backend, family, running).changes()


class _Family:
    """One variant and family of one host."""

    def __init__(self, host: Host, backend: Backend, family: int, running: SavedTables) -> None:
        self._host = host
        self._backend = backend
        self._family = family
        name = "ip6" if family == 6 else "ip"
        kept = {table: chains for table, chains in running.tables.items() if (name, table) not in host.elsewhere}
        self._running = SavedTables(tables=kept if backend is Backend.IPTABLES_NFT else running.tables)
        mine = [load for load in host.loads.loads if (load.backend, load.family) == (backend, family)]
        self._boot = [load for load in mine if host.sources.at_boot(load.mechanism)]
        self._asleep = [load for load in mine if not host.sources.at_boot(load.mechanism)]
        self._programs = any(
            owner_at_start(rule.chain, rule.text) is not Owner.OPERATOR
            for chains in running.tables.values()
            for chain in chains.values()
            for rule in chain.rules
        )

    def changes(self) -> Iterator[Change]:
        yield from self._operator_rules()
        yield from self._policies()
        for load in self._boot:
            if load.mechanism in _WHOLE:
                yield from self._duplicates(load)
            else:
                yield from self._ufw_chains(load)
        yield from self._wipes()

    # --- the operator's rules ---------------------------------------------------------------------------------------

    def _operator_rules(self) -> Iterator[Change]:
        saved = _merged([tables_of(load) for load in self._boot])
        for table, name, found in diff_tables(self._backend, self._family, self._running, saved):
            chain = self._running.tables.get(table, {}).get(name, SavedChain(name=name, policy=None))
            for rule in found.lost:
                if (self._family, table, name, _key(rule, self._family)) not in self._host.direct:
                    yield self._lost(rule, chain)
            for rule in found.returns:
                yield self._returns(rule)
            for rule in found.moved:
                load = self._load_with(table)
                yield Change(
                    kind=ChangeKind.CHANGED,
                    when=When.BOOT,
                    mechanism=load.mechanism,
                    file=load.file,
                    rule=rule,
                    commands=self._whole_save(rule, load),
                    meaning="It is saved at another place of its chain, so that other rules decide before it.",
                )

    def _load_with(self, table: str) -> SavedLoad:
        """The load that has a table, or the first one there is."""
        return next((load for load in self._boot if table in tables_of(load).tables), self._boot[0])

    def _lost(self, rule: FirewallRule, chain: SavedChain) -> Change:
        flusher = self._host.flusher(self._backend)
        when = When.RELOAD if flusher else When.BOOT
        asleep = self._asleep_with(rule)
        keeper = next((load for load in self._boot if load.mechanism in _WHOLE), None)
        if asleep is not None and not flusher:
            return Change(
                kind=ChangeKind.LOST,
                when=when,
                mechanism=asleep.mechanism,
                file=asleep.file,
                rule=rule,
                commands=(f"systemctl enable {_unit(asleep.mechanism, self._family)}",),
                meaning=f"It is saved in {asleep.file}, but {asleep.mechanism} does not start at boot.",
            )
        if flusher == FIREWALLD:
            return Change(
                kind=ChangeKind.LOST,
                when=when,
                mechanism=FIREWALLD,
                file="",
                rule=rule,
                commands=commands.save_direct(rule),
                meaning="firewalld empties iptables at every reload and start, and this rule is not firewalld's.",
            )
        if keeper is not None:
            return Change(
                kind=ChangeKind.LOST,
                when=when,
                mechanism=flusher or keeper.mechanism,
                file=keeper.file,
                rule=rule,
                commands=self._save(rule, keeper, chain),
                meaning=f"It runs and is not saved in {keeper.file}.",
            )
        if self._host.sources.at_boot(UFW):
            return Change(
                kind=ChangeKind.LOST,
                when=when,
                mechanism=flusher or UFW,
                file="/etc/ufw/before6.rules" if self._family == 6 else "/etc/ufw/before.rules",
                rule=rule,
                commands=commands.save_ufw(rule),
                meaning="It stands beside ufw, which saves only what it was told itself.",
            )
        install, path = commands.install_keeper(self._host.identity, rule)
        save = commands.save_into(rule, path, "", ()) if path and self._programs else ()
        if path and not self._programs and path.startswith("/etc/sysconfig"):
            save = commands.save_all(IPTABLES, rule.family)
        elif path and not self._programs:
            save = commands.save_all(PERSISTENT, rule.family)
        return Change(
            kind=ChangeKind.LOST,
            when=when,
            mechanism=flusher or "none",
            file="",
            rule=rule,
            commands=(*install, *save),
            meaning="Nothing on this host loads saved iptables rules at boot, so this one is gone then.",
        )

    def _asleep_with(self, rule: FirewallRule) -> SavedLoad | None:
        key = _key(rule, self._family)
        for load in self._asleep:
            chain = tables_of(load).tables.get(rule.table, {}).get(rule.chain)
            if chain is not None and any(canonical(each.words, self._family) == key for each in chain.rules):
                return load
        return None

    def _save(self, rule: FirewallRule, load: SavedLoad, chain: SavedChain) -> tuple[str, ...]:
        if not self._programs:
            return commands.save_all(load.mechanism, rule.family)
        following = [canonical(each.words, self._family) for each in chain.rules if each.number > (rule.number or 0)]
        return commands.save_into(rule, load.file, load.raw, following)

    def _whole_save(self, rule: FirewallRule, load: SavedLoad) -> tuple[str, ...]:
        return commands.save_all(load.mechanism, rule.family) if not self._programs and load.mechanism in _WHOLE else ()

    def _returns(self, rule: FirewallRule) -> Change:
        load = next(
            (
                load
                for load in self._boot
                if any(
                    canonical(each.words, self._family) == _key(rule, self._family)
                    for each in tables_of(load)
                    .tables.get(rule.table, {})
                    .get(rule.chain, SavedChain(name="", policy=None))
                    .rules
                )
            ),
            self._boot[0],
        )
        path, does = load.file, commands.bring_back(rule, self._host.loads.plain)
        if load.mechanism == UFW:
            does = ("ufw reload",) if ufw.is_own(rule.chain) else does
            path = ufw.file_of(rule.chain, rule.table, self._host.ufw_texts, self._family)
        return Change(
            kind=ChangeKind.RETURNS,
            when=When.RESTART if load.mechanism != UFW else When.RELOAD if ufw.is_own(rule.chain) else When.BOOT,
            mechanism=load.mechanism,
            file=path,
            rule=rule,
            commands=does,
            meaning=f"It is saved in {path} and does not run: somebody took it out by hand, or it was never loaded.",
        )

    # --- policies ---------------------------------------------------------------------------------------------------

    def _policies(self) -> Iterator[Change]:
        seen: set[tuple[str, str]] = set()
        for load in self._boot:
            saved = self._ufw_policies() if load.mechanism == UFW else tables_of(load)
            for found in diff_policies(self._backend, self._family, self._running, saved):
                if not self._by_engine(found.rule):
                    yield self._policy(load.mechanism, load.file, found.rule, found.becomes, When.RESTART)
            seen |= {(table, chain) for table, chains in saved.tables.items() for chain in chains}
        # firewalld's reload empties chains and leaves policies; throwing nft's tables away takes policies along.
        flusher = NFTABLES if self._host.flusher(self._backend) == NFTABLES else ""
        for table, chains in self._running.tables.items():
            for chain in chains.values():
                if chain.policy in (None, "ACCEPT") or (table, chain.name) in seen:
                    continue
                rule = policy_of(self._backend, self._family, table, chain)
                if not self._by_engine(rule):
                    yield self._policy(flusher or "none", "", rule, "ACCEPT", When.RELOAD if flusher else When.BOOT)

    def _by_engine(self, policy: FirewallRule) -> bool:
        """The engine sets FORWARD to DROP itself when it starts."""
        engine = self._host.loads.engine or self._programs
        return engine and (policy.table, policy.chain, policy.policy) == ("filter", "FORWARD", "DROP")

    def _ufw_policies(self) -> SavedTables:
        wanted = ufw.policies(self._host.ufw_texts.get("/etc/default/ufw", ""))
        return SavedTables(
            tables={"filter": {name: SavedChain(name=name, policy=policy) for name, policy in wanted.items()}}
        )

    def _policy(self, mechanism: str, path: str, rule: FirewallRule, becomes: str, when: When) -> Change:
        return Change(
            kind=ChangeKind.CHANGED,
            when=when,
            mechanism=mechanism,
            file=path if mechanism != UFW else "/etc/default/ufw",
            rule=rule,
            commands=commands.set_policy(rule, becomes, self._host.loads.plain),
            meaning=f"The policy is {rule.policy} now and becomes {becomes}.",
        )

    # --- what programs wrote ----------------------------------------------------------------------------------------

    def _duplicates(self, load: SavedLoad) -> Iterator[Change]:
        for table, chain, rule in _each(tables_of(load)):
            named = rule_of(self._backend, self._family, table, chain.name, rule)
            if named.owner in (Owner.OPERATOR, Owner.FIREWALLD, Owner.UFW):
                continue
            yield Change(
                kind=ChangeKind.DUPLICATE,
                when=When.BOOT,
                mechanism=load.mechanism,
                file=load.file,
                rule=named,
                commands=(f"sed -i '\\|^{commands.sed_line(rule.text)}$|d' {load.file}",),
                meaning=(
                    f"A rule of {named.owner.value} was saved: it is loaded before {named.owner.value} starts and"
                    " stays, also when its container or network is gone."
                ),
            )

    def _wipes(self) -> Iterator[Change]:
        flusher = self._host.flusher(self._backend)
        loads = [load for load in self._boot + self._asleep if load.mechanism in _WHOLE]
        loads = [load for load in loads if self._host.sources.acts(load.mechanism)]
        stops = self._host.nft_stops and self._backend is Backend.IPTABLES_NFT
        if not flusher and not loads and not stops:
            return
        for table, chain, rule in _each(self._running):
            named = rule_of(self._backend, self._family, table, chain.name, rule)
            if named.owner in (Owner.OPERATOR, Owner.FIREWALLD, Owner.UFW, Owner.NETDIAG):
                continue
            load = next((each for each in loads if table in tables_of(each).tables), None)
            if not flusher and load is None and not stops:
                continue
            mechanism = flusher or (load.mechanism if load is not None else NFTABLES)
            yield Change(
                kind=ChangeKind.WIPES,
                when=When.RELOAD if flusher else When.RESTART,
                mechanism=mechanism,
                file="" if load is None or flusher else load.file,
                rule=named,
                commands=_restart(named.owner),
                meaning=(
                    f"{mechanism} throws away what stands in the table {table}, the rules of {named.owner.value}"
                    " included."
                ),
            )

    # --- ufw --------------------------------------------------------------------------------------------------------

    def _ufw_chains(self, load: SavedLoad) -> Iterator[Change]:
        saved, names = tables_of(load), ufw.declared(self._host.ufw_texts, self._family)
        for table, chains in names.items():
            for name in sorted(chains):
                mine = self._running.tables.get(table, {}).get(name, SavedChain(name=name, policy=None)).rules
                theirs = saved.tables.get(table, {}).get(name, SavedChain(name=name, policy=None)).rules
                found = diff_chain(self._backend, self._family, table, _of_ufw(mine), _of_ufw(theirs))
                path = ufw.file_of(name, table, self._host.ufw_texts, self._family)
                for rule in found.lost:
                    yield Change(
                        kind=ChangeKind.LOST,
                        when=When.RELOAD,
                        mechanism=UFW,
                        file=path,
                        rule=rule,
                        commands=self._into_ufw(rule, path),
                        meaning=f"It was added to a chain of ufw by hand and is not in {path}.",
                    )
                for rule in (*found.returns, *found.moved):
                    yield self._returns(rule)

    def _into_ufw(self, rule: FirewallRule, path: str) -> tuple[str, ...]:
        if "/user" in path or path == ufw.DIRECTORY:
            return commands.save_ufw(rule)
        return commands.save_into(rule, path, self._host.ufw_texts.get(path, ""), ())


def _of_ufw(rules: tuple[SavedRule, ...]) -> list[SavedRule]:
    return [rule for rule in rules if owner_at_start(rule.chain, rule.text) is Owner.UFW]


def _each(tables: SavedTables) -> Iterator[tuple[str, SavedChain, SavedRule]]:
    for table, chains in tables.tables.items():
        for chain in chains.values():
            for rule in chain.rules:
                yield table, chain, rule


def _merged(parts: list[SavedTables]) -> SavedTables:
    """Several saves as one: the operator's rules of each, one after the other."""
    tables: dict[str, dict[str, SavedChain]] = {}
    for part in parts:
        for table, chains in part.tables.items():
            kept = tables.setdefault(table, {})
            for name, chain in chains.items():
                earlier = kept[name].rules if name in kept else ()
                kept[name] = msgspec.structs.replace(chain, rules=(*earlier, *operators(chain.rules)))
    return SavedTables(tables=tables)


def _key(rule: FirewallRule, family: int) -> str:
    return canonical(split_words(rule.text)[2:], family)


def _unit(mechanism: str, family: int) -> str:
    if mechanism == IPTABLES:
        return "ip6tables" if family == 6 else "iptables"
    return mechanism


def _restart(owner: Owner) -> tuple[str, ...]:
    """What makes a program write its rules again, after the fact."""
    units = {Owner.DOCKER: "docker", Owner.SWARM: "docker", Owner.FAIL2BAN: "fail2ban", Owner.KUBE: "kube-proxy"}
    return (f"systemctl restart {units[owner]}",) if owner in units else ()
