"""Checks of what rules name: interfaces and sets that are not there, and lines that are not understood."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netdiag.firewall.lint_context import SHOWN, Check, Context, Found
from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.rules import Rule
from netdiag.firewall.netfilter.sets import SetMatch
from netdiag.firewall.standing import StandingTable
from netdiag.model.firewall import Owner
from netdiag.model.firewall_lint import RulePlace, Severity

_COMES_AND_GOES = re.compile(
    r"^(tun|tap|ppp|wg|veth|br-|docker|cali|vnet|virbr|lxc|lxd|cni|flannel|vxlan|tunl|ipsec|xfrm|usb|wlan|wl|wwan|bnep"
    r"|ifb|dummy|macv|ipv|gre|sit|ip6tnl|podman|kube|weave|tailscale|zt|nebula)"
)
"""Names of devices that programs make and take away: a rule for one that is not there now is no mistake."""


def _interfaces(context: Context) -> Iterator[Found]:
    standing = context.standing
    links = standing.facts.links.value if standing.facts is not None else None
    known = {link.name for link in links[standing.namespace]} if links and standing.namespace in links else set()
    if not known:
        return
    by: dict[str, list[RulePlace]] = {}
    for table in standing.tables:
        for chain, rule in _rules(table):
            for match in rule.matches:
                if isinstance(match, header.Device) and not match.name.endswith("+") and match.name not in known:
                    place = table.place(chain, rule)
                    if place.owner is Owner.OPERATOR:
                        by.setdefault(match.name, []).append(place)
    for name, places in by.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        yield Found(
            summary=f"{places[0].said()}{more} asks for the interface {name}, and this host has none of that name",
            places=tuple(places[:SHOWN]),
            severity=Severity.INFO if _COMES_AND_GOES.match(name) else Severity.WARNING,
        )


def _sets(context: Context) -> Iterator[Found]:
    known = context.standing.sets
    if known is None:
        return
    by: dict[str, list[RulePlace]] = {}
    for table in context.standing.tables:
        for chain, rule in _rules(table):
            for match in rule.matches:
                if isinstance(match, SetMatch) and match.name not in known:
                    by.setdefault(match.name, []).append(table.place(chain, rule))
    for name, places in by.items():
        yield Found(
            summary=f"{places[0].said()} asks for the set {name}, which is not among the sets that were given",
            places=tuple(places[:SHOWN]),
        )


def _rules(table: StandingTable) -> Iterator[tuple[str, Rule]]:
    for chain in table.chains.values():
        for rule in chain.rules:
            yield chain.name, rule


def _not_understood(context: Context) -> Iterator[Found]:
    for text in context.standing.texts:
        for tables in text.rule_sets.tables:
            for problem in tables.problems:
                where = f"{text.name} line {problem.line_number}" if text.name else f"{tables.backend}"
                place = RulePlace(
                    backend=tables.backend,
                    family="ip6" if tables.family == 6 else "ip",
                    table="",
                    text=problem.text,
                    file=text.name,
                    line=problem.line_number if text.name else None,
                )
                yield Found(
                    summary=f"{where}: {problem.reason}: {problem.text[:80]}", places=(place,), severity=Severity.INFO
                )


CHECKS = (
    Check(
        id="lint.no-such-interface",
        title="rules for interfaces that this host does not have",
        explains=(
            "A rule that names an interface which is not there matches nothing, and with ! everything. Interfaces change"
            " their names with a new kernel, card or machine (eth0, ens3). Only where the host's links are known; devices"
            " that programs make and take away are told as info."
        ),
        remedy="Compare with ip link, and write the name that the interface has now.",
        severities=(Severity.WARNING, Severity.INFO),
        run=_interfaces,
    ),
    Check(
        id="lint.no-such-set",
        title="rules for sets that are not there",
        explains=(
            "iptables-restore refuses a whole table in which one rule names a set that does not exist. Only where sets were"
            " given with the rules."
        ),
        remedy="Create the set before the rules are loaded (ipset restore), or take the rule out.",
        severities=(Severity.WARNING,),
        run=_sets,
    ),
    Check(
        id="lint.not-understood",
        title="lines that are not understood, or cannot be loaded",
        explains=(
            "The line is no rule that the model knows, or one that iptables-restore refuses (a jump to a chain that is not"
            " there, a loop). Nothing is said of packets that may come to it."
        ),
        remedy="Try the file with iptables-restore --test on a host that has all of its extensions.",
        severities=(Severity.INFO,),
        run=_not_understood,
    ),
)
