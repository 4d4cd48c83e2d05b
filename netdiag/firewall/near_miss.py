"""A rule that was meant to accept a packet, and why it does not: read from the rules around the one that decided.

Only a rule that names the flow's very port is taken for one that was meant; of what it asks beside, the first part that
the packet lacks is told. What a rule asks in words that are not understood makes it no near miss.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from netdiag.firewall.clues import Clues, clues
from netdiag.firewall.flow import Flow
from netdiag.firewall.nft_text import native_tables
from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import BUILT_IN, nft_family, read_save
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.protocols import number_of
from netdiag.model.trace import Trace

_PORTS = ("--dport", "--dports")
_KNOWN = frozenset((*_PORTS, "-p", "-s", "-d", "-i", "-o", "--ctstate"))
_HOOKS = {"INPUT": "input", "OUTPUT": "output", "FORWARD": "forward", "DOCKER-USER": "forward"}
_HANDLE = re.compile(r"\s+# handle \d+$")
_COUNTER = re.compile(r"\bcounter packets \d+ bytes \d+ ?")
_CHAIN = re.compile(r"^\s*chain (\S+) \{")
_HOOK = re.compile(r"^\s*type \S+ hook (\S+)")
_PROGRAMS = (Owner.DOCKER, Owner.SWARM, Owner.CALICO, Owner.KUBE, Owner.FAIL2BAN, Owner.LIBVIRT, Owner.PODMAN)


class NearMiss(msgspec.Struct, frozen=True, kw_only=True):
    """The rule, where it stands, and the part that keeps it from accepting the packet.

    ``elsewhere`` is the backend that it is in, where it asks for nothing that the packet lacks and stands at the hook of
    the rule that decided, in another backend than that one.
    """

    place: str
    text: str
    why: str
    elsewhere: Backend | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that accepts and may have been meant; ``hook`` is where it stands, empty where that is not known."""

    backend: Backend
    table: str
    chain: str
    number: int
    text: str
    hook: str
    asks: Clues


def near_misses(trace: Trace, flow: Flow, rule_sets: Sequence[RuleSet]) -> tuple[NearMiss, ...]:
    """The rules that name the flow's port and accept, and do not accept it; those that it came by first, are left out.

    Args:
        trace: Of a packet that a rule or policy stopped.
        flow: The packet as that rule saw it.
        rule_sets: The rules of its namespace.
    """
    decided = trace.rule or trace.policy
    if decided is None:
        return ()
    ports = {flow.destination_port, flow.opened_by.destination_port if flow.opened_by is not None else None} - {None}
    met = {
        (step.rule.backend, step.rule.table, step.rule.chain, step.rule.number, step.rule.text) for step in trace.path
    }
    found = []
    for each in _accepting(rule_sets, flow.family):
        if (each.backend, each.table, each.chain, each.number, each.text) in met or not _names(each.asks, ports):
            continue
        one = judged(each, trace, flow, decided)
        if one is not None:
            found.append(one)
    return tuple(found)


def judged(each: Candidate, trace: Trace, flow: Flow, decided: FirewallRule) -> NearMiss | None:
    """Why a rule that names the flow's port does not accept it; None where that cannot be told."""
    lacking = _lacking(each.asks, trace, flow)
    if lacking is None:
        return None
    place = f"{each.table} {each.chain} rule {each.number} ({each.backend.value})"
    hook = "output" if flow.outward else "forward" if flow.forwarded else "input"
    if lacking:
        return NearMiss(place=place, text=each.text, why=lacking)
    if each.hook and each.hook != hook:
        why = f"it stands at {each.hook}, and this packet is at {hook}"
    elif each.backend is not decided.backend:
        why = f"it is in {each.backend.value}, and {decided.backend.value} drops the packet: both must accept it"
        return NearMiss(place=place, text=each.text, why=why, elsewhere=each.backend if each.hook == hook else None)
    elif (each.table, each.chain) == (decided.table, decided.chain):
        why = "it stands behind the one that decides"
    else:
        why = f"the packet does not come to {each.chain}, or only behind the rule that decides"
    return NearMiss(place=place, text=each.text, why=why)


def _lacking(asks: Clues, trace: Trace, flow: Flow) -> str | None:
    """What the packet has not that a rule asks for, empty for nothing; None where that cannot be told."""
    found: list[str] = []
    devices = {"-i": trace.packet.in_device, "-o": trace.packet.out_device}
    for name, value in asks.matches.items():
        plain = name.removeprefix("!")
        if plain not in _KNOWN or asks.sets or (name != plain and plain in _PORTS):
            return None
        fits = _fits(plain, value, flow, devices, trace)
        if fits is None:
            return None
        if fits is (name != plain):
            has = _has(plain, flow, devices, trace)
            found.append(
                f"it asks for {'not ' if name != plain else ''}{_word(plain)} {value}, and the packet has {has}"
            )
    return "; ".join(found)


def _fits(name: str, value: str, flow: Flow, devices: Mapping[str, str], trace: Trace) -> bool | None:
    if name in _PORTS:
        return True
    if name == "-p":
        return number_of(value) == number_of(flow.protocol)
    if name in devices:
        actual = devices[name]
        wanted = value.strip('"')
        return None if not actual else actual.startswith(wanted[:-1]) if wanted[-1:] in "+*" else actual == wanted
    if name == "--ctstate":
        return "NEW" in value.upper()
    address = trace.packet.source if name == "-s" else trace.packet.destination
    try:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(each, strict=False) for each in _listed(value))
    except ValueError:
        return None


def _has(name: str, flow: Flow, devices: Mapping[str, str], trace: Trace) -> str:
    told = {"-p": flow.protocol, "-s": trace.packet.source, "-d": trace.packet.destination, "--ctstate": "state NEW"}
    return told.get(name) or devices.get(name) or "another"


def _word(name: str) -> str:
    words = {"-p": "protocol", "-s": "source", "-d": "destination", "-i": "device in", "-o": "device out"}
    return words.get(name, "state")


def _names(asks: Clues, ports: Iterable[int | None]) -> bool:
    """Whether a rule asks for one of the ports, alone or among others."""
    value = next((asks.matches[name] for name in _PORTS if name in asks.matches), "")
    for each in _listed(value):
        low, _, high = each.replace("-", ":").partition(":")
        if low.isdigit() and any(
            port is not None and int(low) <= port <= int(high if high.isdigit() else low) for port in ports
        ):
            return True
    return False


def _listed(value: str) -> list[str]:
    return [part for part in value.strip("{} ").replace(",", " ").split() if part]


def _accepting(rule_sets: Sequence[RuleSet], family: int) -> Iterator[Candidate]:
    managed: set[tuple[str, str]] = set()
    for rules in rule_sets:
        if rules.backend not in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
            continue
        tables = read_save(rules.text).tables
        if rules.backend is Backend.IPTABLES_NFT:
            managed |= {(nft_family(rules.family), name) for name in tables}
        if rules.family == family:
            for table, chains in tables.items():
                for chain in chains.values():
                    for rule in chain.rules:
                        yield from candidate(rules.backend, table, chain.name, rule.number, rule.text, "")
    for rules in rule_sets:
        if rules.backend is Backend.NFT_NATIVE:
            for native in native_tables(rules.text, managed):
                if native.family in ("inet", nft_family(family)):
                    yield from _native(native.name, native.text)


def _native(table: str, text: str) -> Iterator[Candidate]:
    chain, hook, number = "", "", 0
    for line in text.splitlines():
        if (named := _CHAIN.match(line)) is not None:
            chain, hook, number = named[1], "", 0
        elif (base := _HOOK.match(line)) is not None:
            hook = base[1]
        elif chain and line.strip() not in ("", "}"):
            number += 1
            rule = _COUNTER.sub("counter ", _HANDLE.sub("", line)).strip()
            yield from candidate(Backend.NFT_NATIVE, table, chain, number, rule, hook)


def candidate(backend: Backend, table: str, chain: str, number: int, text: str, hook: str) -> Iterator[Candidate]:
    """The rule, if it accepts and is no program's.

    Args:
        backend: Its own.
        table: Its table.
        chain: Its chain.
        number: Its place there, from 1.
        text: As it is listed.
        hook: As nft names it, of a chain that is known to be entered there; else empty.
    """
    if table in ("nat", "raw", "mangle") and backend is not Backend.NFT_NATIVE:
        return
    asks = clues(text)
    operators = (
        chain == "DOCKER-USER" or owner_of(chain, text, table if backend is Backend.NFT_NATIVE else "") not in _PROGRAMS
    )
    if asks.target == "ACCEPT" and operators:
        at = hook or (_HOOKS.get(chain, "") if chain in (*BUILT_IN, "DOCKER-USER") else "")
        yield Candidate(backend=backend, table=table, chain=chain, number=number, text=text, hook=at, asks=asks)
