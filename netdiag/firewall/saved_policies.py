"""Policies of iptables' chains that a boot, a restart or a reload changes."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.firewall import saved_commands as commands
from netdiag.firewall import saved_ufw as ufw
from netdiag.firewall.save_text import SavedChain, SavedTables
from netdiag.firewall.saved_iptables import diff_policies, policy_of
from netdiag.firewall.saved_sources import NFTABLES, UFW
from netdiag.firewall.saved_view import View
from netdiag.model.firewall import FirewallRule
from netdiag.model.firewall_diff import Change, ChangeKind, When


def policies(view: View) -> Iterator[Change]:
    """Policies that are saved otherwise, and those that nobody saves."""
    seen: set[tuple[str, str]] = set()
    for saved in view.boot:
        tables = _of_ufw(view) if saved.mechanism == UFW else saved.tables
        path = ufw.DEFAULTS if saved.mechanism == UFW else saved.file
        for found in diff_policies(view.backend, view.family, view.running, tables):
            if not _by_engine(view, found.rule):
                yield _change(view, saved.mechanism, path, found.rule, found.becomes, When.RESTART)
        seen |= {(table, chain) for table, chains in tables.tables.items() for chain in chains}
    # A reload of firewalld empties chains and leaves policies; throwing nft's tables away takes policies along.
    flusher = NFTABLES if view.flusher == NFTABLES else ""
    for table, chains in view.running.tables.items():
        for chain in chains.values():
            if chain.policy in (None, "ACCEPT") or (table, chain.name) in seen:
                continue
            rule = policy_of(view.backend, view.family, table, chain)
            if not _by_engine(view, rule):
                when = When.RELOAD if flusher else When.BOOT
                yield _change(view, flusher or "none", "", rule, "ACCEPT", when)


def _by_engine(view: View, policy: FirewallRule) -> bool:
    """The engine sets FORWARD to DROP itself when it starts."""
    engine = view.host.loads.engine or view.programs
    return engine and (policy.table, policy.chain, policy.policy) == ("filter", "FORWARD", "DROP")


def _of_ufw(view: View) -> SavedTables:
    wanted = ufw.policies(view.host.ufw_texts.get(ufw.DEFAULTS, ""))
    return SavedTables(
        tables={"filter": {name: SavedChain(name=name, policy=policy) for name, policy in wanted.items()}}
    )


def _change(view: View, mechanism: str, path: str, rule: FirewallRule, becomes: str, when: When) -> Change:
    return Change(
        kind=ChangeKind.CHANGED,
        when=when,
        mechanism=mechanism,
        file=path,
        rule=rule,
        commands=commands.set_policy(rule, becomes, view.host.loads.plain),
        meaning=f"The policy is {rule.policy} now and becomes {becomes}.",
    )
