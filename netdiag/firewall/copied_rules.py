"""Rule sets as texts that the host's own tools load into an empty network namespace.

A rule that does not load is replaced by one that matches everything and only counts: the numbers of all others stay,
and whoever comes to it is seen to.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import msgspec

from netdiag.firewall.save_text import nft_family, parse_save, split_words
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule

_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_OWNED = re.compile(r"^\tflags (?:owner|persist)(?:,\s*(?:owner|persist))*;?$")
_RULE_LINE = re.compile(r"^(\[\d+:\d+\] )?-A (\S+)")
_SET_LINE = re.compile(r"(?:create|add) ")
_SAVE_LINE = re.compile(r"(?:\*|:\S|(?:\[\d+:\d+\] )?-A |COMMIT\s*$)")
_QUOTED = re.compile(r'"[^"]*"')
_FREE_TEXT = ("--comment", "--log-prefix", "--nflog-prefix", "--string", "--hex-string")
_HEADER = ("-s", "-d", "-i", "-o", "-p", "--sport", "--dport")
_SAID_LINE = re.compile(r"\bline:? (\d+)", re.IGNORECASE)
_NFT_LINE = re.compile(r"(?:^|/dev/stdin|\binput):(\d+):\d+-\d+: Error")
_NFT_FRAME = re.compile(r"^\t\t(?:type |policy |comment |elements |\}|devices? )")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One text and the tool that reads it from its standard input. Root may load what others wrote."""

    backend: Backend
    family: int
    argv: tuple[str, ...]
    text: str
    never: tuple[int, ...] = ()
    """Lines of rules that are not loaded, from 0: the tool could do more for them than load a rule."""

    def rule_lines(self) -> tuple[int, ...]:
        """The lines, from 0, that are rules of iptables."""
        return tuple(number for number, line in enumerate(self.text.split("\n")) if _RULE_LINE.match(line))

    def without(self, lines: Iterable[int], bare: Collection[int] = ()) -> Load:
        """The same with these lines' rules as ones that only count: whoever could meet the rule itself meets them.

        Args:
            lines: Their lines, from 0.
            bare: Those of them of which nothing loads: everybody meets these.
        """
        rows = self.text.split("\n")
        for number in lines:
            found = _RULE_LINE.match(rows[number])
            if found is None:
                rows[number] = "\t\tcounter"
            else:
                kept = (
                    [] if number in bare else _always_there(split_words(rows[number].removeprefix(found[1] or ""))[2:])
                )
                rows[number] = " ".join(["-A", found[2], *kept])
        return msgspec.structs.replace(self, text="\n".join(rows))

    def rules_at(self, lines: Iterable[int]) -> tuple[FirewallRule, ...]:
        """The rules of these lines."""
        wanted = set(lines)
        if self.backend is Backend.NFT_NATIVE:
            return tuple(rule for at, rule in _native_rules(self.text) if at in wanted)
        found = [
            FirewallRule(
                backend=self.backend,
                family=nft_family(self.family),
                table=table,
                chain=rule.chain,
                number=rule.number,
                text=rule.text,
            )
            for table, chains in parse_save(self.text).tables.items()
            for chain in chains.values()
            for rule in chain.rules
            if rule.line_number - 1 in wanted
        ]
        return tuple(found)

    def refused(self, said: str) -> tuple[int, ...]:
        """The lines of rules that the tool's own words name; empty where it names none that can be left out."""
        rows = self.text.split("\n")
        if self.backend is Backend.NFT_NATIVE:
            numbers = {int(number) - 1 for number in _NFT_LINE.findall(said)}
            rules = {at for at, _ in _native_rules(self.text)}
            return tuple(sorted(numbers & rules)) if numbers <= rules else ()
        numbers = {int(number) - 1 for number in _SAID_LINE.findall(said)}
        return tuple(sorted(at for at in numbers if at < len(rows) and _RULE_LINE.match(rows[at])))


def _always_there(words: Sequence[str]) -> list[str]:
    """Of a rule's words those that every kernel and tool knows: addresses, devices, the protocol, and its ports."""
    kept: list[str] = []
    at = 0
    while at < len(words):
        not_ = words[at] == "!"
        start, at = at, at + not_
        if at + 1 < len(words) and (
            words[at] in _HEADER or (words[at] == "-m" and words[at + 1] in ("tcp", "udp") and not not_)
        ):
            kept += words[start : at + 2]
            at += 2
        else:
            at += 1
    return kept


def loads_of(rule_sets: Sequence[RuleSet], *, plain: Backend | None) -> tuple[Load, ...]:
    """What is to be loaded, in the order in which it can be: sets, then what names them.

    Args:
        rule_sets: Of one namespace, as the host's tools list them.
        plain: Which variant the name ``iptables`` is; None where that is not known.
    """
    loads = [
        Load(backend=each.backend, family=0, argv=("ipset", "restore"), text=_sets(each.text))
        for each in rule_sets
        if each.backend is Backend.IPSET
    ]
    managed: set[tuple[str, str]] = set()
    for each in rule_sets:
        if each.backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
            if each.backend is Backend.IPTABLES_NFT:
                managed |= {(nft_family(each.family), table) for table in parse_save(each.text).tables}
            text = _saved(each.text)
            never = tuple(at for at, line in enumerate(text.split("\n")) if _does_more(line))
            loads.append(
                Load(backend=each.backend, family=each.family, argv=(_restore(each, plain),), text=text, never=never)
            )
    loads += [
        Load(backend=each.backend, family=0, argv=("nft", "-f", "-"), text=text)
        for each in rule_sets
        if each.backend is Backend.NFT_NATIVE and (text := _native(each.text, managed)).strip()
    ]
    return tuple(loads)


def _restore(rules: RuleSet, plain: Backend | None) -> str:
    tool = "ip6tables" if rules.family == 6 else "iptables"
    variant = "" if plain is rules.backend else "-nft" if rules.backend is Backend.IPTABLES_NFT else "-legacy"
    return f"{tool}{variant}-restore"


def _sets(text: str) -> str:
    """The sets and their members. Other commands, and options, can have ipset read and write files (-file)."""
    lines = [
        line for line in text.split("\n") if _SET_LINE.match(line) and not re.search(r"\s-", _QUOTED.sub("", line))
    ]
    return "\n".join([*lines, ""])


def _saved(text: str) -> str:
    """Tables, chains and rules, each on the line on which it was."""
    return "\n".join([*(line if _SAVE_LINE.match(line) else "" for line in text.rstrip("\n").split("\n")), ""])


def _does_more(line: str) -> bool:
    """Whether a rule names a program to run (``-M``, ``--modprobe``, as getopt takes it), or an extension by a path."""
    found = _RULE_LINE.match(line)
    if found is None:
        return False
    words = split_words(line.removeprefix(found[1] or ""))
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        if before in _FREE_TEXT:
            continue
        name = word.partition("=")[0]
        if len(name) > 2 and "--modprobe".startswith(name):
            return True
        if re.match(r"-[^-\s]*M", word) or (before in ("-m", "-j", "-g", "--match", "--jump") and "/" in word):
            return True
    return False


def _native(text: str, managed: set[tuple[str, str]]) -> str:
    """The tables that iptables does not write.

    A table's owner would take it away when the tool that loads it ends. No listing includes a file.
    """
    kept: list[str] = []
    keeps = False
    for line in text.split("\n"):
        found = _TABLE.match(line)
        if found:
            keeps = (found[1], found[2]) not in managed
        if keeps and not _OWNED.match(line) and not line.lstrip().startswith("include"):
            kept.append(line)
        if line.startswith("}"):
            keeps = False
    return "\n".join([*kept, ""])


def _native_rules(text: str) -> list[tuple[int, FirewallRule]]:
    """The rules of a listing of nft's that stand on a line each, with the line's number from 0."""
    found: list[tuple[int, FirewallRule]] = []
    family = table = chain = ""
    number = 0
    for at, line in enumerate(text.split("\n")):
        if head := _TABLE.match(line):
            family, table, chain = head[1], head[2], ""
        elif head := _CHAIN.match(line):
            chain, number = head[1], 0
        elif line.startswith("\t}"):
            chain = ""
        elif chain and line.startswith("\t\t") and not line.startswith("\t\t\t") and not _NFT_FRAME.match(line):
            number += 1
            if not line.endswith("{"):
                body = re.sub(r" # handle \d+$", "", line.strip())
                rule = FirewallRule(
                    backend=Backend.NFT_NATIVE, family=family, table=table, chain=chain, number=number, text=body
                )
                found.append((at, rule))
    return found
