"""Rules that programs wrote: saved by mistake, and thrown away together with the operator's."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.firewall import saved_commands as commands
from netdiag.firewall.saved_iptables import rule_of
from netdiag.firewall.saved_sources import NFTABLES
from netdiag.firewall.saved_view import WHOLE, Saved, View, each_rule
from netdiag.model.facts import Backend
from netdiag.model.firewall import Owner
from netdiag.model.firewall_diff import Change, ChangeKind, When

_OTHERS = frozenset({Owner.OPERATOR, Owner.FIREWALLD, Owner.UFW, Owner.NETDIAG})


def duplicates(view: View, saved: Saved) -> Iterator[Change]:
    """Rules of programs in a file that is loaded at boot."""
    for table, chain, rule in each_rule(saved.tables):
        named = rule_of(view.backend, view.family, table, chain.name, rule)
        if named.owner in _OTHERS:
            continue
        line = saved.lines.get((table, chain.name), {}).get(view.key(named))
        yield Change(
            kind=ChangeKind.DUPLICATE,
            when=When.BOOT,
            mechanism=saved.mechanism,
            file=saved.file,
            rule=named,
            commands=commands.delete_line(line, saved.file) if line is not None else (),
            meaning=(
                f"A rule of {named.owner.value} was saved: it is loaded before {named.owner.value} starts and"
                " stays, also when its container or network is gone."
            ),
        )


def wipes(view: View) -> Iterator[Change]:
    """Rules of programs that a reload or restart of a mechanism in use throws away."""
    sources = view.host.sources
    loads = [saved for saved in (*view.boot, *view.asleep) if saved.mechanism in WHOLE]
    loads = [saved for saved in loads if sources.acts(saved.mechanism)]
    stops = view.host.nft_stops and view.backend is Backend.IPTABLES_NFT
    for table, chain, rule in each_rule(view.running):
        named = rule_of(view.backend, view.family, table, chain.name, rule)
        saved = next((each for each in loads if table in each.tables.tables), None)
        mechanism = view.flusher or (saved.mechanism if saved is not None else NFTABLES if stops else "")
        if not mechanism or named.owner in _OTHERS:
            continue
        yield Change(
            kind=ChangeKind.WIPES,
            when=When.RELOAD if view.flusher else When.RESTART,
            mechanism=mechanism,
            file=saved.file if saved is not None and not view.flusher else "",
            rule=named,
            meaning=(
                f"{mechanism} throws away what stands in the table {table}, the rules of {named.owner.value} included,"
                f" until {named.owner.value} writes them again."
            ),
        )
