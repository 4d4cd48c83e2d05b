"""This host's own firewall: what stands in it, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks import firewall_ports
from netdiag.checks.context import Check, Context
from netdiag.firewall.nft_text import native_tables
from netdiag.firewall.save_text import nft_family, read_save
from netdiag.model.facts import HOST, Backend, RuleSet
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need

_IPTABLES = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)


def _holds_rules(rules: RuleSet) -> bool:
    return any(
        chain.rules or chain.policy not in (None, "ACCEPT")
        for chains in read_save(rules.text).tables.values()
        for chain in chains.values()
    )


def _backends(ctx: Context) -> Iterator[Found]:
    check = "firewall.backends"
    if HOST not in (ctx.facts.firewall.value or {}):
        return
    used = {
        backend: [rules for rules in ctx.rule_sets() if rules.backend is backend and _holds_rules(rules)]
        for backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)
    }
    if all(used.values()):
        yield ctx.problem(
            check,
            "both iptables-nft and iptables-legacy hold rules: a packet must pass both, whatever one of them accepts",
            evidence=[
                Evidence("rule", f"{rules.backend.value}, IPv{rules.family}: in use", {})
                for both in used.values()
                for rules in both
            ],
            cause=cause(
                "firewall.backend-split",
                host=ctx.host,
                object={"kind": "rule", "backends": [Backend.IPTABLES_NFT.value, Backend.IPTABLES_LEGACY.value]},
                confidence=Confidence.POSSIBLE,
            ),
        )
    else:
        one = next((backend.value for backend, rules in used.items() if rules), None)
        yield ctx.ok(check, f"one iptables backend is in use ({one})" if one else "no iptables rules")


def _services(ctx: Context) -> Iterator[Found]:
    check = "firewall.services"
    saved = ctx.facts.firewall_saved.value
    if saved is None:
        return
    active = [service for service in saved.services if service.active]
    unsure = [service.name for service in saved.services if service.active is None]
    if unsure:
        yield ctx.unknown(check, f"whether {', '.join(unsure)} is active", "nothing that could be read tells")
    elif not active:
        yield ctx.ok(check, "neither firewalld nor ufw is active")
    for service in active:
        opener = {
            "firewalld": "open the ports in the zone of the uplink: firewall-cmd --permanent --add-port=…, then once without --permanent",
            "ufw": "open the ports with 'ufw allow from PEER to any port …'",
        }.get(service.name, "it owns rules here; open the ports through it")
        yield ctx.ok(
            check,
            f"{service.name} is active; {opener}",
            evidence=[Evidence("service", service.evidence, {"name": service.name})],
        )


def _readable(ctx: Context) -> Iterator[Found]:
    check = "firewall.readable"
    section = ctx.facts.firewall
    if section.value is not None and HOST in section.value:
        read = [(rules, read_save(rules.text)) for rules in ctx.rule_sets() if rules.backend in _IPTABLES]
        count = sum(
            len(chain.rules) for _, saved in read for chains in saved.tables.values() for chain in chains.values()
        )
        odd = [
            Evidence("rule", f"{rules.backend.value}, line {problem.line_number}: {problem.text}", {})
            for rules, saved in read
            for problem in saved.problems
        ]
        written = [
            (nft_family(rules.family), name)
            for rules, saved in read
            if rules.backend is Backend.IPTABLES_NFT
            for name in saved.tables
        ]
        native = [
            f"{table.family} {table.name}"
            for rules in ctx.rule_sets()
            if rules.backend is Backend.NFT_NATIVE
            for table in native_tables(rules.text, written)
        ]
        beside = f", nft tables of their own: {', '.join(native)}" if native else ""
        yield ctx.ok(check, f"this host's rules were read ({count} iptables rules{beside})", evidence=odd)
        return
    absent = section.absent or section.partial.get(HOST)
    yield ctx.unknown(
        check,
        "this host's firewall could not be read",
        absent.text if absent is not None else "not collected",
        leaves=(Need.NAMES, Need.TRAFFIC),
    )


CHECKS = (
    Check(
        id="firewall.readable",
        title="The firewall can be read",
        explains="Reading rules needs root. What connects anyway is known without them.",
        remedy="Run netdiag as root.",
        evaluate=_readable,
    ),
    Check(
        id="firewall.backends",
        title="One iptables backend is in use",
        explains="iptables exists twice, over nf_tables and the old one. Rules in both are both applied: a drop in one wins.",
        remedy="Move all rules to one of the two (update-alternatives --config iptables), then flush the other.",
        evaluate=_backends,
        needs=("firewall",),
    ),
    Check(
        id="firewall.services",
        title="Which program owns the firewall",
        explains="Rules that are added by hand beside firewalld or ufw are lost at their next reload.",
        remedy="Open ports through the program that owns the firewall.",
        evaluate=_services,
        needs=("firewall_saved",),
    ),
    *firewall_ports.CHECKS,
)
