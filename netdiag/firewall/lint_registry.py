"""All checks of a rule set, and how they are run.

A new check is a `Check` in one of the modules below, and a row of ``tests/unit/firewall/lint_cases.py`` that it finds; a
new module is one more row here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from netdiag.firewall import lint_chains, lint_names, lint_ports, lint_rules
from netdiag.firewall.lint_context import Check, Context, Need
from netdiag.firewall.owner import owner_of
from netdiag.firewall.standing import Standing
from netdiag.model.firewall import Owner
from netdiag.model.firewall_lint import FirewallLint, LintFinding, LintVerdict, Severity

LINT: tuple[Check, ...] = (*lint_ports.CHECKS, *lint_chains.CHECKS, *lint_rules.CHECKS, *lint_names.CHECKS)
LINT_CHECKS: Mapping[str, Check] = MappingProxyType({check.id: check for check in LINT})
_WORST = tuple(Severity)
_INWARD = frozenset({"ingress", "prerouting", "input"})
_DECIDE = (Owner.OPERATOR, Owner.FIREWALLD, Owner.CALICO)
"""Whose tables say what a host lets in; what the engine and its like drop there is for their containers."""


def lint(standing: Standing, needs: Sequence[Need] = (), *, subject: str) -> FirewallLint:
    """Everything that is wrong with a rule set, the worst first.

    Args:
        standing: The rules.
        needs: What has to come in.
        subject: Whose rules, for people.
    """
    context = Context(standing, needs)
    findings = [
        LintFinding(
            code=check.id,
            severity=found.severity,
            summary=found.summary,
            places=found.places,
            why=check.explains,
            remedy=found.remedy or check.remedy,
        )
        for check in LINT
        for found in check.run(context)
    ]
    findings.sort(key=lambda each: _WORST.index(each.severity))
    unknown = (*standing.unknown, *_missing(standing), *_not_asked(standing, needs))
    worse = any(each.severity is not Severity.INFO for each in findings)
    verdict = LintVerdict.FINDINGS if worse else LintVerdict.UNKNOWN if unknown else LintVerdict.CLEAN
    return FirewallLint(
        subject=subject,
        verdict=verdict,
        rules=standing.rules,
        findings=tuple(findings),
        unknown=unknown,
        bounded=context.bounded,
    )


def _missing(standing: Standing) -> tuple[str, ...]:
    return tuple(
        f"{f'{table.file}, ' if table.file else ''}{table.backend} table {table.name}:"
        f" {table.table.missing or table.table.cut_off}"
        for table in standing.tables
        if table.table.missing or table.table.cut_off
    )


def _not_asked(standing: Standing, needs: Sequence[Need]) -> tuple[str, ...]:
    """The tables of nft's own that may drop what has to come in, and that no packet is asked of, as they were not read."""
    if standing.asks_native or not any(need.meant for need in needs):
        return ()
    return tuple(
        f"whether nft's own table {native.family} {native.name} lets in what this host is there for: it could not be read"
        " (netdiag firewall trace asks the kernel)"
        for native in standing.natives
        if native.hooks & _INWARD
        and native.family in ("ip", "inet", "netdev")
        and native.stops()
        and owner_of("", "", native.name) in _DECIDE
    )
