"""Changes among native nft tables: what a boot loses, what it brings back, what a reload throws away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from netdiag.firewall import saved_commands as commands
from netdiag.firewall.owner import owner_of
from netdiag.firewall.saved_commands import RED_HAT
from netdiag.firewall.saved_nft import (
    Table,
    TableDiff,
    declared_tables,
    diff_table,
    flushes_all,
    read_tables,
    rules_of,
)
from netdiag.firewall.saved_sources import NFTABLES, Sources
from netdiag.model.facts import Backend, Identity
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.firewall_diff import Change, ChangeKind, SavedLoad, When

_Key = tuple[str, str]


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """The native tables of one host, running and saved.

    Attributes:
        managed: Those that iptables-nft made.
        programs: Programs own rules that run here, in tables of nft's or of iptables-nft's.
    """

    running: Mapping[_Key, Table]
    managed: frozenset[_Key]
    load: SavedLoad | None
    sources: Sources
    identity: Identity | None
    programs: bool = False

    @property
    def at_boot(self) -> bool:
        """Whether the saved tables are loaded at boot."""
        return self.load is not None and self.sources.at_boot(NFTABLES)

    @property
    def begins_to_flush(self) -> bool:
        """Whether nftables.service, once it is in use, will throw away what programs wrote."""
        flushes = self.load is not None and flushes_all(self.load.raw)
        return self.programs and flushes and not self.sources.acts(NFTABLES)

    @property
    def flushes(self) -> bool:
        """Whether a reload of nftables.service, that is to be expected, throws away all tables."""
        return self.load is not None and self.sources.acts(NFTABLES) and flushes_all(self.load.raw)

    def saved(self) -> Mapping[_Key, Table]:
        """The saved tables; empty when they could not be loaded."""
        return read_tables(self.load.text) if self.load is not None and self.load.text is not None else {}

    def elsewhere(self) -> frozenset[_Key]:
        """Tables of iptables-nft that the file loads at boot: compared here, and not as iptables' rules."""
        if self.load is None or not self.at_boot:
            return frozenset()
        return frozenset(self.saved() if self.load.text is not None else declared_tables(self.load.raw))


def changes(host: Native) -> Iterator[Change]:
    """All changes among native tables."""
    saved = host.saved()
    unread = declared_tables(host.load.raw) if host.load is not None and host.load.text is None else frozenset()
    for key in dict.fromkeys((*host.running, *saved)):
        running = host.running.get(key)
        if key in unread and host.at_boot:
            continue
        if host.at_boot and key in saved:
            yield from _both(host, diff_table(running, saved[key]), known=running is not None)
        elif running is not None and key not in host.managed and not is_program_table(key[1]):
            yield from _only_running(host, running, saved.get(key), in_file=key in unread)
    if host.load is not None and host.sources.acts(NFTABLES):
        yield from _wipes(host, saved)


def _when(host: Native) -> When:
    return When.RELOAD if host.flushes else When.BOOT


def _change(
    host: Native,
    kind: ChangeKind,
    when: When,
    meaning: str,
    *,
    rule: FirewallRule | None = None,
    setting: str = "",
    does: tuple[str, ...] = (),
    mechanism: str = NFTABLES,
) -> Change:
    return Change(
        kind=kind,
        when=when,
        mechanism=mechanism,
        file=host.load.file if host.load is not None and mechanism == NFTABLES else "",
        rule=rule,
        setting=setting,
        commands=does,
        meaning=meaning,
    )


def _both(host: Native, found: TableDiff, *, known: bool) -> Iterator[Change]:
    """One table that the file has."""
    assert host.load is not None  # noqa: S101 - the file has a table
    path = host.load.file
    for rule in found.lost:
        if rule.owner is Owner.OPERATOR:
            text = f"It runs and is not saved in {path}."
            does = commands.save_nft(rule, path)
            yield _change(host, ChangeKind.LOST, _when(host), text, rule=rule, does=does)
    for rule in found.returns:
        if rule.owner is Owner.OPERATOR:
            text = f"It is saved in {path} and does not run: somebody took it out by hand, or it was never loaded."
            does = commands.bring_back(rule, None) if known else commands.load_file(path)
            yield _change(host, ChangeKind.RETURNS, When.RELOAD, text, rule=rule, does=does)
        else:
            text = f"A rule of {rule.owner.value} was saved: it is loaded before {rule.owner.value} starts, and stays."
            yield _change(host, ChangeKind.DUPLICATE, When.BOOT, text, rule=rule)
    for rule, becomes in found.policies:
        does = commands.set_policy(rule, becomes, None) if known else commands.load_file(path)
        text = f"The policy is {rule.policy} now and becomes {becomes}."
        yield _change(host, ChangeKind.CHANGED, When.RELOAD, text, rule=rule, does=does)
    family, table = found.family, found.table
    for name, member in found.lost_elements:
        text = f"This member is not saved in {path}."
        does = commands.save_element(family, table, name, member, path)
        setting = f"{family} {table} set {name}: {member}"
        yield _change(host, ChangeKind.LOST, _when(host), text, setting=setting, does=does)
    for name, member in found.returning_elements:
        text = f"This member is saved in {path} and is not in the running set."
        does = commands.add_element(family, table, name, member)
        setting = f"{family} {table} set {name}: {member}"
        yield _change(host, ChangeKind.RETURNS, When.RELOAD, text, setting=setting, does=does)


def _only_running(host: Native, table: Table, asleep: Table | None, *, in_file: bool) -> Iterator[Change]:
    """One table of the operator's that no file brings back at boot."""
    asleep_rules = {(rule.chain, rule.text) for rule in rules_of(asleep)} if asleep is not None else set()
    for rule in rules_of(table):
        if rule.owner is not Owner.OPERATOR:
            continue
        if host.load is not None and ((rule.chain, rule.text) in asleep_rules or in_file) and not host.at_boot:
            text = f"It is saved in {host.load.file}, but nftables.service does not start at boot."
            enable = ("systemctl enable nftables",)
            yield _change(host, ChangeKind.LOST, When.BOOT, text + _warning(host), rule=rule, does=enable)
            continue
        does = commands.save_nft_table(table.family, table.name, _path(host), enable=not host.at_boot)
        text = f"No file that is loaded at boot has the table {table.family} {table.name}." + _warning(host)
        mechanism = NFTABLES if host.at_boot else "none"
        yield _change(host, ChangeKind.LOST, _when(host), text, rule=rule, does=does, mechanism=mechanism)
    for rule, becomes in diff_table(table, None).policies:
        does = commands.save_nft_table(table.family, table.name, _path(host), enable=not host.at_boot)
        text = f"The policy is {rule.policy} now; without the table it is {becomes}." + _warning(host)
        yield _change(host, ChangeKind.CHANGED, _when(host), text, rule=rule, does=does, mechanism="none")


def _warning(host: Native) -> str:
    """What the command that enables nftables.service brings along."""
    if not host.begins_to_flush:
        return ""
    return (
        f' But {_path(host)} has "flush ruleset", and programs have rules here: once nftables.service is enabled, a'
        " start, reload or stop of it by hand throws away theirs as well, until they write them again; at boot it comes"
        " before them. Do not start or reload it while they run."
    )


def _path(host: Native) -> str:
    if host.load is not None:
        return host.load.file
    distribution = host.identity.distribution_id if host.identity is not None else ""
    return "/etc/sysconfig/nftables.conf" if distribution in RED_HAT else "/etc/nftables.conf"


def _wipes(host: Native, saved: Mapping[_Key, Table]) -> Iterator[Change]:
    """Tables that programs made themselves, and that go with everything else."""
    for key, table in host.running.items():
        if key in host.managed or not is_program_table(table.name) or key in saved or table.name.startswith("netdiag"):
            continue
        when = When.RELOAD if host.flushes else When.RESTART
        text = (
            "nftables.service throws away every table when it is reloaded, this one included."
            if host.flushes
            else "nftables.service throws away every table when it stops, this one included."
        )
        yield _change(host, ChangeKind.WIPES, when, text, setting=f"table {key[0]} {key[1]}")


def managed_tables(tables: Mapping[tuple[Backend, int], frozenset[str]]) -> frozenset[_Key]:
    """The nft tables that iptables-nft made, from the names of its tables by variant and family."""
    return frozenset(
        ("ip6" if family == 6 else "ip", name)
        for (backend, family), names in tables.items()
        if backend is Backend.IPTABLES_NFT
        for name in names
    )


def is_program_table(name: str) -> bool:
    """Whether a native nft table is one that a program makes for itself, at its own start."""
    return owner_of("", "", name) is not Owner.OPERATOR or name.startswith(("cali", "lxc"))
