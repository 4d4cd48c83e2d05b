"""A fix as what it makes of the rules' own texts: those that the host would list once its commands had been run.

firewalld, ufw and fail2ban are not run for it: what each of them makes of such a command is written where it would write
it (firewalld src/firewall/core/nftables.py and ipXtables.py, ufw src/backend_iptables.py, fail2ban config/action.d).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

import msgspec

from netdiag.firewall import allow_nft
from netdiag.firewall.allow_iptables import Spot, accept_words
from netdiag.firewall.flow import Flow
from netdiag.firewall.save_text import nft_family, split_words
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.fix import Fix

_IPTABLES = re.compile(r"^(ip6?tables)(-nft|-legacy)?$")
_XTABLES = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)
_WHERE = re.compile(r"^--(zone|policy)=(.+)$")
_WAYS = {"in": ("IN",), "out": ("OUT",), "forward": ("FWD", "FWDI", "FWDO")}


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The rules with the fix, and which flows it is for; or why that cannot be told, and then the rules as they were."""

    rule_sets: tuple[RuleSet, ...]
    meant: Flow
    reason: str = ""


class Unwritable(Exception):
    """What a command makes of the rules is not known."""


def change(rule_sets: Sequence[RuleSet], fix: Fix, flow: Flow, beside: FirewallRule) -> Changed:
    """The rule sets as they would be listed with the fix.

    Args:
        rule_sets: As they were listed, nft's with handles.
        fix: What is proposed.
        flow: What it lets through.
        beside: The rule or policy that decides without it: it tells backend and family.
    """
    found, meant = tuple(rule_sets), flow
    try:
        for command in fix.commands:
            argv = _without_namespace(command.argv)
            found = _by_command(found, argv, flow, beside)
            if argv[0] == "fail2ban-client":
                meant = Flow(family=flow.family, protocol="", source=argv[4])
    except Unwritable as error:
        return Changed(rule_sets=tuple(rule_sets), meant=flow, reason=str(error))
    return Changed(rule_sets=found, meant=meant)


def _by_command(
    rule_sets: tuple[RuleSet, ...], argv: tuple[str, ...], flow: Flow, beside: FirewallRule
) -> tuple[RuleSet, ...]:
    if _IPTABLES.match(argv[0]):
        return _by_iptables(rule_sets, argv, beside)
    if argv[:2] in (("nft", "insert"), ("nft", "add")):
        return _by_nft(rule_sets, argv)
    if argv[0] == "ufw":
        return _by_ufw(rule_sets, argv, flow, beside)
    if argv[0] == "firewall-cmd":
        return _by_firewalld(rule_sets, argv, flow)
    if argv[:2] == ("fail2ban-client", "set"):
        return _unbanned(rule_sets, argv[2], argv[4])
    raise Unwritable(f"what {argv[0]} makes of the rules is not known")


def _without_namespace(argv: tuple[str, ...]) -> tuple[str, ...]:
    return argv[argv.index("--") + 1 :] if argv[0] == "nsenter" else argv


def _by_iptables(rule_sets: tuple[RuleSet, ...], argv: tuple[str, ...], beside: FirewallRule) -> tuple[RuleSet, ...]:
    words = list(argv[1:])
    table = "filter"
    if words[0] == "-t":
        table, words = words[1], words[2:]
    verb, chain, *rest = words
    number = int(rest.pop(0)) if verb == "-I" else None
    return _edited(
        rule_sets,
        lambda each: each.backend is beside.backend and nft_family(each.family) == beside.family,
        lambda text: with_rule(text, table, chain, number, rest),
        f"{table} {chain}",
    )


def with_rule(text: str, table: str, chain: str, number: int | None, words: Sequence[str]) -> str | None:
    """A save with one rule more: before rule ``number`` of its chain, or behind its last; None without that chain."""
    lines = text.split("\n")
    inside = there = False
    seen = 0
    added = f"-A {chain} {' '.join(_quoted(word) for word in words)}"
    for at, line in enumerate(lines):
        bare = line.strip()
        if bare.startswith("*"):
            inside = bare[1:] == table
        elif inside and bare.startswith(f":{chain} "):
            there = True
        elif inside and split_words(re.sub(r"^\[\d+:\d+\] ", "", bare))[:2] == ("-A", chain):
            seen += 1
            if seen == number:
                return "\n".join([*lines[:at], added, *lines[at:]])
        elif inside and bare == "COMMIT":
            if not there or (number is not None and number != seen + 1):
                return None
            return "\n".join([*lines[:at], added, *lines[at:]])
    return None


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[^\s\"\\]+", word) else '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def _by_nft(rule_sets: tuple[RuleSet, ...], argv: tuple[str, ...]) -> tuple[RuleSet, ...]:
    family, table, chain, *rest = argv[3:]
    handle = rest[1] if rest[:1] == ["handle"] else ""
    words = rest[2:] if handle else rest
    return _edited(
        rule_sets,
        lambda each: each.backend is Backend.NFT_NATIVE,
        lambda text: _with_nft_rule(text, (family, table, chain), " ".join(words), handle=handle),
        f"{family} {table} {chain}",
    )


def _with_nft_rule(text: str, place: tuple[str, str, str], rule: str, *, handle: str = "", first: bool = False) -> str:
    """A listing with one rule more: before the one with a handle, as the chain's first, or as its last.

    Raises Unwritable where the chain, or the handle in it, is not listed.
    """
    family, table, chain = place
    lines = text.split("\n")
    in_table = in_chain = False
    for at, line in enumerate(lines):
        if line.startswith("table "):
            in_table = line.startswith(f"table {family} {table} {{")
        elif in_table and line.startswith("\tchain "):
            in_chain = line.startswith(f"\tchain {chain} {{")
        elif in_table and in_chain:
            ends = line.startswith("\t}")
            head = line.startswith(("\t\ttype ", "\t\tpolicy ", "\t\tcomment "))
            if handle and line.endswith(f" # handle {handle}"):
                begins = _begin_of_block(lines, at) if line.startswith("\t\t}") else at
                return "\n".join([*lines[:begins], f"\t\t{rule}", *lines[begins:]])
            if (first and not head) or (ends and not handle and not first):
                return "\n".join([*lines[:at], f"\t\t{rule}", *lines[at:]])
            in_chain = not ends
    raise Unwritable(f"{' '.join(place)} is not as it was listed")


def _begin_of_block(lines: Sequence[str], end: int) -> int:
    """The line on which a rule with a block begins; its handle stands behind the block."""
    return next(at for at in range(end - 1, -1, -1) if re.match(r"\t\t[^\t}]", lines[at]))


def _by_ufw(
    rule_sets: tuple[RuleSet, ...], argv: tuple[str, ...], flow: Flow, beside: FirewallRule
) -> tuple[RuleSet, ...]:
    six = "6" if flow.family == 6 else ""
    way = "forward" if flow.forwarded else "output" if flow.outward else "input"
    chain = f"ufw{six}-user-{way}"
    # ufw keeps comments in its own files.
    command, _ = accept_words("", "filter", Spot(chain=chain, number=None), flow, mark="")
    words = [*command[3 : command.index("-m", 3)], "-j", "ACCEPT"]
    number = 1 if {"insert", "prepend"} & set(argv) else None
    return _edited(
        rule_sets,
        lambda each: each.backend in _XTABLES and nft_family(each.family) == ("ip6" if six else "ip"),
        lambda text: with_rule(text, "filter", chain, number, words),
        f"filter {chain} beside {beside.place()}",
    )


def _by_firewalld(rule_sets: tuple[RuleSet, ...], argv: tuple[str, ...], flow: Flow) -> tuple[RuleSet, ...]:
    kind, name = next(found.groups() for word in argv if (found := _WHERE.match(word)))
    early = any("priority=" in word for word in argv)
    ways = _WAYS["forward" if flow.forwarded else "out" if flow.outward else "in"]
    ends = [f"{way}_{'policy_' if kind == 'policy' else ''}{name}_{'pre' if early else 'allow'}" for way in ways]
    native = [each for each in rule_sets if each.backend is Backend.NFT_NATIVE]
    for end in ends:
        if any(f"\tchain filter_{end} {{" in each.text for each in native):
            rule = " ".join([*allow_nft.match_words(flow, "inet"), "accept"])
            place = ("inet", "firewalld", f"filter_{end}")
            edit = functools.partial(_with_nft_rule, place=place, rule=rule, first=early)
            return _edited(rule_sets, lambda each: each.backend is Backend.NFT_NATIVE, edit, " ".join(place))
        command, _ = accept_words("", "filter", Spot(chain=end, number=None), flow, mark="")
        words = [*command[3 : command.index("-m", 3)], "-j", "ACCEPT"]
        family = "ip6" if flow.family == 6 else "ip"
        for each in rule_sets:
            if (
                each.backend in _XTABLES
                and nft_family(each.family) == family
                and re.search(rf"^:{re.escape(end)} ", each.text, re.MULTILINE)
            ):
                text = with_rule(each.text, "filter", end, 1 if early else None, words)
                if text is not None:
                    return tuple(_with_text(each, text) if one is each else one for one in rule_sets)
    raise Unwritable(f"firewalld's chain for {kind} {name} is not listed")


def _unbanned(rule_sets: tuple[RuleSet, ...], jail: str, address: str) -> tuple[RuleSet, ...]:
    """Without what fail2ban has put in for an address: its rules in the jail's chain, its place in the jail's sets."""
    chains, ours = rf"(?:f2b|fail2ban)-{re.escape(jail)}", re.escape(address)
    rule = re.compile(rf"^(?:\[\d+:\d+\] )?-A {chains} -s {ours}(?:/32|/128)? .*\n", re.MULTILINE)
    member = re.compile(rf"^add {chains}\S* {ours}(?: .*)?\n", re.MULTILINE)
    found = []
    for each in rule_sets:
        text = each.text
        if each.backend in _XTABLES:
            text = rule.sub("", text)
        elif each.backend is Backend.IPSET:
            text = member.sub("", text)
        else:
            text = re.sub(
                rf"(\tset addr6?-set-{re.escape(jail)} \{{.*?)(\n\t\}})",
                lambda one: _without_element(one[1], address) + one[2],
                text,
                flags=re.DOTALL,
            )
        found.append(_with_text(each, text))
    if all(one.text == each.text for one, each in zip(found, rule_sets, strict=True)):
        raise Unwritable(f"where fail2ban keeps {address} of its jail {jail} is not known")
    return tuple(found)


def _without_element(text: str, address: str) -> str:
    head, sign, elements = text.partition("elements = {")
    if not sign:
        return text
    kept = [each for each in elements.rstrip(" }\n\t").split(",") if each.split()[:1] not in ([], [address])]
    return head.rstrip() if not kept else f"{head}{sign}{','.join(kept)} }}"


def _edited(
    rule_sets: tuple[RuleSet, ...],
    which: Callable[[RuleSet], bool],
    edit: Callable[[str], str | None],
    place: str,
) -> tuple[RuleSet, ...]:
    """The rule sets with the first one edited that has the place. Raises Unwritable where none has."""
    for at, each in enumerate(rule_sets):
        text = edit(each.text) if which(each) else None
        if text is not None:
            return (*rule_sets[:at], _with_text(each, text), *rule_sets[at + 1 :])
    raise Unwritable(f"{place} is not among the rules that were listed")


def _with_text(rules: RuleSet, text: str) -> RuleSet:
    return msgspec.structs.replace(rules, text=text)
