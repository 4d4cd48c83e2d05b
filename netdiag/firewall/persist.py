"""How a rule that somebody added by hand outlives a reload and a reboot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netdiag.firewall.around import Around
from netdiag.firewall.save_text import read_save
from netdiag.firewall.saved_commands import MECHANISMS, install_keeper, programs_own, save_all, save_into
from netdiag.firewall.saved_sources import IPTABLES
from netdiag.firewall.saved_text import canonical
from netdiag.firewall.saved_view import lines_of
from netdiag.model.facts import HOST, FirewallSaved, Identity, RuleSet
from netdiag.model.firewall import FirewallRule


def keep_rules(
    rules: Sequence[FirewallRule],
    rule_sets: Iterable[RuleSet],
    *,
    identity: Identity | None,
    saved: FirewallSaved | None,
) -> tuple[str, ...]:
    """The commands that keep new rules of iptables' over a boot; none where it is not known what this host keeps them with.

    Args:
        rules: As they are to be written; ``number`` is the place that each is put at, None for the end of its chain.
        rule_sets: What runs.
        identity: Which distribution it is.
        saved: What is saved on disk.
    """
    mechanism = MECHANISMS.get(identity.distribution_id, "") if identity is not None else ""
    if not mechanism or not rules:
        return ()
    rule_sets = tuple(rule_sets)
    install, path = install_keeper(identity, rules[0], whole=not programs_own(rule_sets))
    files = {each.path: each.text for each in (saved.rules if saved is not None else ()) if each.source == mechanism}
    if files or (mechanism == IPTABLES and not programs_own(rule_sets)):
        install = ()
    if not programs_own(rule_sets):
        return (*install, *save_all(mechanism, rules[0].family))
    raw = files.get(path, "")
    said: dict[str, None] = {}
    for rule in rules:
        said.update(dict.fromkeys(save_into(rule, path, raw, _anchor(rule, rule_sets, raw))))
    return (*install, *said)


def _anchor(rule: FirewallRule, rule_sets: Sequence[RuleSet], raw: str) -> str:
    """The line of a file in front of which a rule belongs that is put before what runs at its number."""
    family = 6 if rule.family == "ip6" else 4
    written = lines_of(raw, family).get((rule.table, rule.chain), {})
    for rules in rule_sets if rule.number is not None else ():
        if rules.backend is rule.backend and rules.family == family:
            chain = read_save(rules.text).tables.get(rule.table, {}).get(rule.chain)
            behind = [each for each in (chain.rules if chain is not None else ()) if each.number >= (rule.number or 0)]
            keys = (canonical(each.words, family) for each in behind)
            return next((written[key] for key in keys if key in written), "")
    return ""


def keep_by_hand(around: Around, rules: Sequence[FirewallRule], commands: Sequence[str]) -> tuple[str, ...]:
    """How rules of iptables' are kept, where no program owns their chain."""
    if around.namespace != HOST:
        return lasting(around)
    for name, where in (("ufw", "/etc/ufw/before.init"), ("firewalld", "a unit that starts after firewalld")):
        if around.is_active(name):
            return (
                f"# {name} does not know this rule: put it into {where}, or where the rule that decides comes from",
            )
    return keep_rules(rules, around.rule_sets, identity=around.identity, saved=around.saved) or tuple(
        f"# put it where the rule that decides comes from, before it: {command}" for command in commands
    )


def keep_native(around: Around, rule: FirewallRule, *texts: str) -> tuple[str, ...]:
    """How rules of nft's are kept: lines in the file that their table comes from."""
    if around.namespace != HOST:
        return lasting(around)
    head = f"table {rule.family} {rule.table}"
    files = [rules.path for rules in (around.saved.rules if around.saved is not None else ()) if head in rules.text]
    where = files[0] if files else "the file that makes this table"
    lines = tuple(f"#   {text}" for text in texts)
    if rule.policy is not None:
        return (f"# in {where}, {head}, at the end of chain {rule.chain}:", *lines)
    return (f"# in {where}, {head}, chain {rule.chain}, before the line: {rule.text}", *lines)


def lasting(around: Around) -> tuple[str, ...]:
    """What is said of a namespace that is made again with its owner."""
    kind, _, name = around.namespace.partition(":")
    if kind == "container":
        return (f"# it lasts until container {name} is restarted; its image or its start has to set it",)
    if kind == "overlay":
        return (f"# it lasts until this host makes the namespace of network {name} again",)
    return ("# it lasts as long as this network namespace",)
