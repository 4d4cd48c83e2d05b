"""Changes among the operator's rules of iptables: what a boot loses, what it brings back."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netdiag.firewall import saved_commands as commands
from netdiag.firewall import saved_ufw as ufw
from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import SavedChain, SavedRule
from netdiag.firewall.saved_iptables import diff_chain, diff_tables
from netdiag.firewall.saved_policies import policies
from netdiag.firewall.saved_programs import duplicates, wipes
from netdiag.firewall.saved_sources import FIREWALLD, IPTABLES, PERSISTENT, UFW
from netdiag.firewall.saved_text import canonical
from netdiag.firewall.saved_view import EMPTY, WHOLE, Host, Saved, View, views
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.firewall_diff import Change, ChangeKind, When


def changes(host: Host) -> Iterator[Change]:
    """All changes among the rules of iptables."""
    for view in views(host):
        yield from _operator_rules(view)
        yield from policies(view)
        for saved in view.boot:
            yield from duplicates(view, saved) if saved.mechanism in WHOLE else _ufw_chains(view)
        yield from wipes(view)


def _operator_rules(view: View) -> Iterator[Change]:
    for table, name, found in diff_tables(view.backend, view.family, view.running, view.merged()):
        anchors = _anchors(view, table, view.chain(table, name))
        for rule in found.lost:
            if (view.family, table, name, view.key(rule)) not in view.host.direct:
                yield _lost(view, rule, anchors.get(rule.number or 0, ""))
        for rule in found.returns:
            yield _returns(view, rule)
        for rule in found.moved:
            key = view.key(rule)
            saved = next(each for each in view.boot if each.has(rule, key))
            whole = not view.programs and saved.mechanism in WHOLE
            yield Change(
                kind=ChangeKind.CHANGED,
                when=When.BOOT,
                mechanism=saved.mechanism,
                file=saved.file,
                rule=rule,
                commands=commands.save_all(saved.mechanism, rule.family) if whole else (),
                meaning="It is saved at another place of its chain, so that other rules decide before it.",
            )


def _anchors(view: View, table: str, chain: SavedChain) -> dict[int, str]:
    """For every running rule of a chain the line of the file in front of which it belongs, by its number."""
    keeper = _keeper(view)
    lines = keeper.lines.get((table, chain.name), {}) if keeper is not None else {}
    found: dict[int, str] = {}
    following = ""
    for rule in reversed(chain.rules):
        found[rule.number] = following
        following = lines.get(canonical(rule.words, view.family), following)
    return found


def _keeper(view: View) -> Saved | None:
    """The file that whole tables are loaded from at boot."""
    return next((saved for saved in view.boot if saved.mechanism in WHOLE), None)


def _lost(view: View, rule: FirewallRule, anchor: str) -> Change:
    key = view.key(rule)
    asleep = next((saved for saved in view.asleep if saved.has(rule, key)), None)
    keeper = _keeper(view)
    mechanism, path = view.flusher or "none", ""
    if view.flusher == FIREWALLD:
        does = commands.save_direct(rule)
        meaning = "firewalld empties iptables at every reload and start, and this rule is not firewalld's."
    elif asleep is not None:
        mechanism, path = view.flusher or asleep.mechanism, asleep.file
        does = (f"systemctl enable {_unit(asleep.mechanism, view.family)}",)
        meaning = f"It is saved in {path}, but {asleep.mechanism} does not start at boot."
    elif keeper is not None:
        mechanism, path = view.flusher or keeper.mechanism, keeper.file
        whole = commands.save_all(keeper.mechanism, rule.family)
        does = commands.save_into(rule, path, keeper.load.raw, anchor) if view.programs else whole
        meaning = f"It runs and is not saved in {path}."
    elif (loader := _loader(view)) and view.backend is not (view.host.loads.plain or view.backend):
        mechanism = view.flusher or loader
        twin = msgspec.structs.replace(rule, backend=view.host.loads.plain, number=None)
        does = (
            *commands.bring_back(twin, twin.backend),
            *(() if view.programs else commands.save_all(loader, rule.family)),
        )
        meaning = f"{loader} saves the rules of the plain iptables, which is the other variant here."
    elif loader:
        mechanism, path = view.flusher or loader, commands.FILES[loader, view.family]
        whole = commands.save_all(loader, rule.family)
        does = commands.save_into(rule, path, "", "") if view.programs else whole
        meaning = f"It runs, and {loader} has no file {path}."
    elif view.host.sources.at_boot(UFW):
        mechanism, path = view.flusher or UFW, f"/etc/ufw/before{'6' if view.family == 6 else ''}.rules"
        does = commands.save_ufw(rule)
        meaning = "It stands beside ufw, which saves only what it was told itself."
    else:
        does = _with_new_keeper(view, rule)
        meaning = "Nothing on this host loads saved iptables rules at boot, so this one is gone then."
    return Change(
        kind=ChangeKind.LOST,
        when=When.RELOAD if view.flusher else When.BOOT,
        mechanism=mechanism,
        file=path,
        rule=rule,
        commands=does,
        meaning=meaning,
    )


def _loader(view: View) -> str:
    """The mechanism that would load whole tables at boot; empty where there is none."""
    return next((name for name in WHOLE if view.host.sources.at_boot(name, view.family)), "")


def _with_new_keeper(view: View, rule: FirewallRule) -> tuple[str, ...]:
    """What this distribution keeps rules with: install it, and save."""
    install, path = commands.install_keeper(view.host.identity, rule, whole=not view.programs)
    if not path:
        return ()
    if view.programs:
        return (*install, *commands.save_into(rule, path, "", ""))
    mechanism = IPTABLES if path.startswith("/etc/sysconfig") else PERSISTENT
    return (*install, *commands.save_all(mechanism, rule.family))


def _returns(view: View, rule: FirewallRule) -> Change:
    key = view.key(rule)
    saved = next((each for each in view.boot if each.has(rule, key)), view.boot[0])
    line = saved.lines.get((rule.table, rule.chain), {}).get(key)
    path, when, does = saved.file, When.RESTART, commands.bring_back(rule, view.host.loads.plain)
    if saved.mechanism == UFW:
        path, when = ufw.file_of(rule.chain, rule.table, view.host.ufw_texts, view.family), When.BOOT
        if ufw.is_own(rule.chain):
            when, does = When.RELOAD, ("ufw reload",)
    return Change(
        kind=ChangeKind.RETURNS,
        when=when,
        mechanism=saved.mechanism,
        file=path,
        rule=rule,
        commands=does,
        otherwise=commands.delete_line(line, path) if line is not None and saved.mechanism in WHOLE else (),
        meaning=f"It is saved in {path} and does not run: somebody took it out by hand, or it was never loaded.",
    )


def _unit(mechanism: str, family: int) -> str:
    if mechanism == IPTABLES:
        return "ip6tables" if family == 6 else "iptables"
    return mechanism


# --- ufw's own chains ------------------------------------------------------------------------------------------------


def _ufw_chains(view: View) -> Iterator[Change]:
    """Rules in the chains that ufw's files make, and its calls in the built-in ones."""
    texts = view.host.ufw_texts
    (saved,) = [each for each in view.boot if each.mechanism == UFW]
    for table, chains in ufw.declared(texts, view.family).items():
        for name in sorted(chains):
            mine = view.chain(table, name).rules
            theirs = saved.tables.tables.get(table, {}).get(name, EMPTY).rules
            found = diff_chain(view.backend, view.family, table, _of_ufw(mine), _of_ufw(theirs))
            path = ufw.file_of(name, table, texts, view.family)
            for rule in found.lost:
                by_hand = "/user" in path or path == ufw.DIRECTORY
                yield Change(
                    kind=ChangeKind.LOST,
                    when=When.RELOAD,
                    mechanism=UFW,
                    file=path,
                    rule=rule,
                    commands=commands.save_ufw(rule) if by_hand else commands.save_into(rule, path, texts[path], ""),
                    meaning=f"It was added to a chain of ufw by hand and is not in {path}.",
                )
            for rule in (*found.returns, *found.moved):
                yield _returns(view, rule)


def _of_ufw(rules: tuple[SavedRule, ...]) -> list[SavedRule]:
    return [rule for rule in rules if owner_of(rule.chain, rule.text) is Owner.UFW]
