"""How a rule that somebody added by hand outlives a reload and a reboot."""

from __future__ import annotations

from netdiag.firewall.around import Around
from netdiag.model.facts import HOST, FirewallSaved, Identity
from netdiag.model.firewall import FirewallRule

DEBIAN = frozenset({"debian", "ubuntu", "raspbian", "linuxmint"})
RED_HAT = frozenset({"rhel", "centos", "fedora", "rocky", "almalinux", "ol", "amzn"})
"""Distributions by their ID in os-release, with what keeps iptables rules there."""


def saving_commands(identity: Identity | None, saved: FirewallSaved | None) -> tuple[str, ...]:
    """What saves iptables' running rules on this distribution; empty where it is not known."""
    if identity is None:
        return ()
    if identity.distribution_id in DEBIAN:
        saves = any(rules.source == "netfilter-persistent" for rules in (saved.rules if saved is not None else ()))
        # Debian has no service for iptables of its own; this package brings one.
        return (*(() if saves else ("apt-get install iptables-persistent",)), "netfilter-persistent save")
    if identity.distribution_id in RED_HAT:
        return ("service iptables save",)
    return ()


def keep_by_hand(around: Around, command: str) -> tuple[str, ...]:
    """How a rule of iptables' is kept, where no program owns its chain."""
    if around.namespace != HOST:
        return lasting(around)
    for name, where in (("ufw", "/etc/ufw/before.init"), ("firewalld", "a unit that starts after firewalld")):
        if around.is_active(name):
            return (
                f"# {name} does not know this rule: put it into {where}, or where the rule that decides comes from",
            )
    return saving_commands(around.identity, around.saved) or (
        f"# put it where the rule that decides comes from, before it: {command}",
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
