"""What the next reload or boot makes of a host's firewall: running rules against everything that is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from netdiag.firewall import saved_commands, saved_ipset, saved_nft_changes, saved_rules
from netdiag.firewall.save_text import SavedTables, read_save
from netdiag.firewall.saved_firewalld import (
    SettingDiff,
    configured,
    diff_direct,
    diff_objects,
    direct_keys,
    read_objects,
)
from netdiag.firewall.saved_nft import read_tables
from netdiag.firewall.saved_sources import FIREWALLD, IPTABLES, NFTABLES, PERSISTENT, UFW, Sources, sources_of
from netdiag.firewall.saved_view import Host
from netdiag.model.facts import Backend, FirewallSaved, Identity, RuleSet
from netdiag.model.firewall_diff import (
    Change,
    ChangeKind,
    DiffVerdict,
    FirewallDiff,
    FirewalldTold,
    NotCompared,
    SavedLoads,
    When,
)
from netdiag.shell import shell_text

_WHENS = list(When)
_CONF = "/etc/firewalld/firewalld.conf"
_IPTABLES = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)


def compare(
    running: Sequence[RuleSet],
    saved: FirewallSaved,
    loads: SavedLoads,
    *,
    identity: Identity | None,
    host: str,
    hidden: str = "",
) -> FirewallDiff:
    """Compare one host's running rules with what its mechanisms would load.

    Args:
        running: The rule sets of the host's own namespace.
        saved: What is saved on disk, and which services act on it.
        loads: What the host's own tools made of the saved files.
        identity: Which distribution it is.
        host: Its name, for the document.
        hidden: Why some running rules could not be read.
    """
    sources = sources_of(saved)
    texts = {rules.path: rules.text for rules in saved.rules}
    tables = {(rules.backend, rules.family): read_save(rules.text) for rules in running if rules.backend in _IPTABLES}
    listing = next((rules.text for rules in running if rules.backend is Backend.NFT_NATIVE), "")
    native = saved_nft_changes.Native(
        running=read_tables(listing),
        managed=saved_nft_changes.managed_tables({key: frozenset(each.tables) for key, each in tables.items()}),
        load=next((load for load in loads.loads if load.backend is Backend.NFT_NATIVE), None),
        sources=sources,
        identity=identity,
        programs=saved_commands.programs_own(rules for rules in running if rules.backend is Backend.IPTABLES_NFT)
        or any(saved_nft_changes.is_program_table(name) for _, name in read_tables(listing)),
    )
    rules = Host(
        running=tables,
        loads=loads,
        sources=sources,
        identity=identity,
        ufw_texts={path: text for path, text in texts.items() if path.startswith("/etc/ufw/") or path.endswith("/ufw")},
        elsewhere=native.elsewhere(),
        nft_flushes=native.flushes,
        nft_stops=native.load is not None and sources.acts(NFTABLES),
        firewalld_flushes=_firewalld_flushes(sources),
        direct=direct_keys(loads.firewalld.direct or "") if loads.firewalld is not None else frozenset(),
    )
    changes = [
        *_services(sources),
        *(_firewalld(loads.firewalld, texts.get(_CONF, "")) if loads.firewalld is not None else ()),
        *saved_rules.changes(rules),
        *saved_nft_changes.changes(native),
        *_ipsets(running, loads, sources),
    ]
    changes.sort(key=lambda change: _WHENS.index(change.when))
    unknown = tuple(_unknown(tables, loads, sources, hidden))
    verdict = DiffVerdict.CHANGES if changes else DiffVerdict.UNKNOWN if unknown else DiffVerdict.SAME
    return FirewallDiff(
        host=host,
        verdict=verdict,
        changes=tuple(changes),
        unknown=unknown,
        sources=tuple(sources.by_name.values()),
    )


def _firewalld_flushes(sources: Sources) -> bool:
    """Whether a reload of firewalld is to come: it empties iptables, whatever FlushAllOnReload says."""
    found = sources.by_name.get(FIREWALLD)
    return found is not None and found.active is True


def _services(sources: Sources) -> Iterator[Change]:
    """Mechanisms that run and do not start at boot, or start at boot and do not run now."""
    for name in (FIREWALLD, UFW):
        found = sources.by_name.get(name)
        if found is None or found.active is None or found.enabled is None or found.active == found.enabled:
            continue
        if found.active:
            yield Change(
                kind=ChangeKind.LOST,
                when=When.BOOT,
                mechanism=name,
                file="",
                setting=f"{name} itself",
                commands=(f"systemctl enable {name}",),
                meaning=f"{name} is active and does not start at boot: all its rules are gone then.",
            )
        elif name == FIREWALLD:
            yield Change(
                kind=ChangeKind.RETURNS,
                when=When.BOOT,
                mechanism=name,
                file="",
                setting=f"{name} itself",
                commands=(f"systemctl start {name}",),
                meaning=f"{name} does not run now and starts at boot: its zones decide then, and it empties iptables.",
            )


def _firewalld(told: FirewalldTold, conf: str) -> Iterator[Change]:
    pairs: list[SettingDiff] = []
    if told.zones is not None and told.permanent_zones is not None:
        pairs += diff_objects("zone", read_objects(told.zones), read_objects(told.permanent_zones))
    if told.policies is not None and told.permanent_policies is not None:
        pairs += diff_objects("policy", read_objects(told.policies), read_objects(told.permanent_policies))
    if told.direct is not None and told.permanent_direct is not None:
        pairs += diff_direct(told.direct, told.permanent_direct)
    default, wanted = (told.default_zone or "").strip(), configured(conf, "DefaultZone")
    if default and wanted and default != wanted:
        save = shell_text(["firewall-cmd", f"--set-default-zone={default}"])
        pairs.append(SettingDiff(setting="default zone", only_running=True, runs=default, saved=wanted, save=save))
    for found in pairs:
        commands = tuple(each for each in (found.save, found.restore) if each)[:1]
        if found.runs is not None:
            kind, text = ChangeKind.CHANGED, f"It is {found.runs} now and becomes {found.saved}."
        elif found.only_running:
            kind, text = ChangeKind.LOST, "It was set at run time only."
        else:
            kind, text = ChangeKind.RETURNS, "It is permanent and does not run now."
        # With FlushAllOnReload=no a reload carries direct rules over.
        kept = found.setting.startswith("direct rule") and configured(conf, "FlushAllOnReload").lower() == "no"
        yield Change(
            kind=kind,
            when=When.BOOT if kept else When.RELOAD,
            mechanism=FIREWALLD,
            file="",
            setting=found.setting,
            commands=commands,
            meaning=text,
        )


def _ipsets(running: Sequence[RuleSet], loads: SavedLoads, sources: Sources) -> Iterator[Change]:
    """The operator's ipsets; without a file for them nothing brings them back."""
    text = next((rules.text for rules in running if rules.backend is Backend.IPSET), "")
    mine = saved_ipset.read_sets(text)
    load = next((each for each in loads.loads if each.backend is Backend.IPSET), None)
    path = load.file if load is not None else ""
    at_boot = load is not None and sources.at_boot(load.mechanism)
    listed = (load.text if load.text is not None else load.raw) if load is not None and at_boot else ""
    found = saved_ipset.diff_sets(mine, saved_ipset.read_sets(listed))
    mechanism = load.mechanism if load is not None and at_boot else "none"
    save = saved_commands.save_sets(path) if at_boot else ()
    if not at_boot and PERSISTENT in sources.by_name:
        save = ("apt-get install ipset-persistent", "netfilter-persistent save")
    for name in found.lost_sets:
        meaning = "The set is not saved; rules that ask it cannot be loaded at boot either."
        yield _set(ChangeKind.LOST, When.BOOT, mechanism, path, f"ipset {name}", save, meaning)
    for name, member in found.lost:
        meaning = f"This member is not saved in {path}."
        yield _set(ChangeKind.LOST, When.BOOT, mechanism, path, f"ipset {name}: {member}", save, meaning)
    for name in found.returning_sets:
        meaning = f"The set is saved in {path} and does not exist now."
        yield _set(ChangeKind.RETURNS, When.RESTART, mechanism, path, f"ipset {name}", (), meaning)
    for name, member in found.returns:
        add = saved_commands.add_member(name, member)
        meaning = f"This member is saved in {path} and is not in the running set."
        yield _set(ChangeKind.RETURNS, When.RESTART, mechanism, path, f"ipset {name}: {member}", add, meaning)


def _set(
    kind: ChangeKind, when: When, mechanism: str, path: str, setting: str, commands: tuple[str, ...], meaning: str
) -> Change:
    return Change(
        kind=kind, when=when, mechanism=mechanism, file=path, setting=setting, commands=commands, meaning=meaning
    )


def _unknown(
    tables: Mapping[tuple[Backend, int], SavedTables], loads: SavedLoads, sources: Sources, hidden: str
) -> Iterator[NotCompared]:
    if hidden:
        yield NotCompared(mechanism="running rules", file="", reason=hidden)
    for (_, family), found in tables.items():
        for problem in found.problems:
            if "is incompatible" in problem.text:
                continue  # a table that nft wrote: it is compared as nft's
            where = f"running rules, {'ip6' if family == 6 else 'ip'}"
            yield NotCompared(mechanism=where, file="", reason=problem.text)
    for load in loads.loads:
        if load.reason and (sources.at_boot(load.mechanism) or sources.acts(load.mechanism)):
            yield NotCompared(mechanism=load.mechanism, file=load.file, reason=load.reason)
    for reason in loads.firewalld.failed if loads.firewalld is not None else ():
        yield NotCompared(mechanism=FIREWALLD, file="", reason=reason)
    for name, source in sources.by_name.items():
        if source.enabled is None and name in (IPTABLES, PERSISTENT, UFW, FIREWALLD):
            reason = f"whether {name} starts at boot is not known, and is taken for a yes"
            yield NotCompared(
                mechanism=name, file="", reason=f"{reason}: {source.evidence}" if source.evidence else reason
            )
