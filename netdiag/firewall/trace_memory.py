"""Rules for which a packet of ours is not what it seems: they remember its peer, who may be banned for it, or ask for a payload.

Read from the rules' text, conservatively: a rule is passed over only where its text says that the packet never comes
to it. Sources: iptables-extensions(8) (SET, recent), nft(8) (set statement).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from netdiag.firewall.counters import target_of
from netdiag.firewall.listing import ListedChain
from netdiag.firewall.matching import Match, Stage, match_rule
from netdiag.firewall.nft_statement import translates
from netdiag.firewall.save_text import SavedChain
from netdiag.firewall.trace_rules import Rules
from netdiag.model.firewall import Direction, Packet
from netdiag.model.protocols import number_of
from netdiag.model.trace import TracedPacket, TracePath

T = TypeVar("T")
_HOOKS = {
    TracePath.IN: ("ingress", "prerouting", "input"),
    TracePath.FORWARD: ("ingress", "prerouting", "forward", "postrouting", "egress"),
    TracePath.OUT: ("output", "postrouting", "egress"),
}
_BEYOND = ("forward", "postrouting", "egress")
"""Hooks that a packet for this host comes to as well, where a rule gives it another destination."""
_STATES = frozenset({"NEW", "UNTRACKED", "INVALID"})
_TRANSLATES = frozenset({"DNAT", "REDIRECT", "NETMAP"})
_FINAL = frozenset({"ACCEPT", "DROP", "REJECT"})
_RECENT = frozenset({"--set", "--update", "--remove"})
_STATEMENT = re.compile(r"(?:^|\s)(?:add|update|delete) @\S+ \{")
_INSIDE = frozenset({"string", "u32", "bpf"})
"""Matches of iptables' that look into what a packet carries."""
_RAW = re.compile(r"@(?:th|ih),\d+,\d+")
_CALLS = re.compile(r"(?:jump|goto) ([\w.-]+)")
_VALUE = r"(!= )?(\{[^}]*\}|\S+)"
_PORT = re.compile(r"(?:^|\s)(tcp|udp|th) dport " + _VALUE)
_PROTOCOL = re.compile(r"(?:^|\s)(?:meta l4proto|ip protocol|ip6 nexthdr) " + _VALUE)
_SOURCE = re.compile(r"(?:^|\s)ip6? saddr " + _VALUE)
_QUOTED = re.compile(r'"[^"]*"')


def remembering(rules: Rules, packet: TracedPacket) -> str:
    """The first rule that the packet could come to and that would remember its addresses; empty where there is none.

    In words: its place and its text.
    """
    return next((f"{rule.place}: {rule.text}" for rule in _on_its_way(rules, packet) if rule.remembers), "")


def looking_inside(rules: Rules, packet: TracedPacket) -> str:
    """The first rule that the packet could come to and that looks into its payload, in words; empty where none does."""
    return next((f"{rule.place}: {rule.text}" for rule in _on_its_way(rules, packet) if rule.looks_inside), "")


def _on_its_way(rules: Rules, packet: TracedPacket) -> Iterator[_Rule]:
    hooks = _HOOKS[packet.path]
    if packet.path is TracePath.OUT and packet.out_device == "lo":
        hooks = (*hooks, "prerouting", "input")
    before = (rule for rule in _reached(rules, packet, hooks, translated=False) if rule.hook == "prerouting")
    if packet.path is TracePath.IN and any(rule.translates for rule in before):
        return _reached(rules, packet, (*hooks, *_BEYOND), translated=True)
    return _reached(rules, packet, hooks, translated=False)


class _Rule(NamedTuple):
    """A rule that the packet may come to and may match."""

    hook: str
    place: str
    text: str
    remembers: bool
    translates: bool
    looks_inside: bool


def _reached(rules: Rules, packet: TracedPacket, hooks: tuple[str, ...], *, translated: bool) -> Iterator[_Rule]:
    family = "ip6" if ":" in packet.destination else "ip"
    for (kind, table), chains in (*rules.saved.items(), *rules.legacy.items()):
        for chain in chains.values() if kind == family else ():
            hook = chain.name.lower()
            if chain.policy is not None and hook in hooks:
                blurred = translated and hook != "prerouting"
                yield from _Saved(table, chains, _asked(packet, blurred), hook).through(chain.name, ())
    for (kind, table, _), listed in rules.listing.items():
        if listed.hook in hooks and kind not in (_OTHER[family], "arp") and (kind, table) not in rules.saved:
            blurred = translated and listed.hook != "prerouting"
            yield from _Native(rules, kind, table, _asked(packet, blurred), listed.hook).through(listed, ())


_OTHER = {"ip": "ip6", "ip6": "ip"}


def _asked(packet: TracedPacket, blurred: bool) -> Packet:
    """The packet for a plain reading; ``blurred`` where a rule may have changed where it goes to."""
    return Packet(
        direction=Direction.OUT if packet.path is TracePath.OUT else Direction.IN,
        protocol=packet.protocol,
        family=6 if ":" in packet.destination else 4,
        source=packet.source,
        destination="" if blurred else packet.destination,
        source_port=packet.source_port,
        destination_port=None if blurred else packet.destination_port,
        device=packet.out_device if packet.path is TracePath.OUT else packet.in_device,
    )


class _Saved(NamedTuple):
    """A table of iptables', met at one hook."""

    table: str
    chains: Mapping[str, SavedChain]
    packet: Packet
    hook: str

    def through(self, name: str, inside: tuple[str, ...]) -> Iterator[_Rule]:
        """The rules of a chain and of those that it calls, up to one that surely ends the packet's way here."""
        chain = self.chains.get(name)
        for rule in chain.rules if chain is not None and name not in inside else ():
            words = rule.words
            found = match_rule(_without_devices(words, self.hook), self.packet, _stage(self.packet))
            if found is Match.NO:
                continue
            target = target_of(words)
            remembers = target == "SET" or ("recent" in words and bool(_RECENT & set(words)))
            place = f"{self.table} {name} rule {rule.number}"
            yield _Rule(self.hook, place, rule.text, remembers, target in _TRANSLATES, bool(_INSIDE & set(words)))
            if found is Match.YES and target in _FINAL:
                return
            yield from self.through(target, (*inside, name))


def _stage(packet: Packet) -> Stage:
    return Stage(_STATES, frozenset({"SYN"}) if packet.protocol == "tcp" else frozenset())


def _without_devices(words: tuple[str, ...], hook: str) -> tuple[str, ...]:
    """The words without what they ask of devices, where the packet has two of them or another one than at first."""
    if hook not in ("forward", "postrouting"):
        return words
    kept: list[str] = []
    position = 0
    while position < len(words):
        if words[position] in ("-i", "-o", "--in-interface", "--out-interface"):
            position += 2
            if kept and kept[-1] == "!":
                kept.pop()
            continue
        kept.append(words[position])
        position += 1
    return tuple(kept)


class _Native(NamedTuple):
    """A table of nft's own, met at one hook."""

    rules: Rules
    family: str
    table: str
    packet: Packet
    hook: str

    def through(self, chain: ListedChain, inside: tuple[str, ...]) -> Iterator[_Rule]:
        """The rules of a chain and of those that it may call, also by a map."""
        if chain.name in inside:
            return
        for rule in chain.rules:
            text = _QUOTED.sub('""', rule.text)
            if not _may_match(text, self.packet):
                continue
            place = f"{self.table} {chain.name} rule {rule.number}"
            yield _Rule(
                self.hook,
                place,
                rule.text,
                bool(_STATEMENT.search(text)),
                translates(rule.text),
                bool(_RAW.search(text)),
            )
            for called in self._called(text, rule.block):
                yield from self.through(called, (*inside, chain.name))

    def _called(self, text: str, block: str) -> Iterator[ListedChain]:
        names = {*_CALLS.findall(text), block}
        any_of_them = "vmap @" in text  # what the map holds is not in the rule
        for (family, table, name), chain in self.rules.listing.items():
            if (family, table) == (self.family, self.table) and (name in names or (any_of_them and not chain.hook)):
                yield chain


def _may_match(text: str, packet: Packet) -> bool:
    """False only where the text asks for another port, protocol or source than the packet's."""
    for protocol, negated, value in _PORT.findall(text):
        if protocol not in ("th", packet.protocol):
            return False
        if packet.destination_port is not None and _holds(value, packet.destination_port, _in_range) is bool(negated):
            return False
    number = number_of(packet.protocol)
    for negated, value in _PROTOCOL.findall(text):
        if _holds(value, number, lambda each, wanted: number_of(each) == wanted) is bool(negated):
            return False
    for negated, value in _SOURCE.findall(text):
        if _holds(value, packet.source, _in_network) is bool(negated):
            return False
    return True


def _holds(value: str, wanted: T, test: Callable[[str, T], bool]) -> bool | None:
    """Whether a value or a set of values in a rule's text holds the packet's; None where the text does not tell."""
    each = [part.strip() for part in value.strip("{} ").split(",")]
    try:
        return any(test(part, wanted) for part in each)
    except ValueError:
        return None


def _in_range(text: str, port: int) -> bool:
    low, _, high = text.partition("-")
    return int(low) <= port <= int(high or low)


def _in_network(text: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(text, strict=False)
