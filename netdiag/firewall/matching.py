"""Whether one ``iptables-save`` rule matches a packet: yes, no, or not known.

A plain reading: what is understood is decided, everything else makes the answer *maybe*, never wrong. The packet is
the first of a new flow (a SYN for tcp) unless `Stage` says otherwise. Sources: net/netfilter/xt_*.c,
net/ipv4/netfilter/ip_tables.c; names of protocols as iptables prints them (iptables/xshared.c, /etc/protocols).
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable

import msgspec

from netdiag.model.firewall import Direction, Packet
from netdiag.model.protocols import number_of


class Match(enum.Enum):
    """Three-valued: a rule that asks for what the packet does not say, or in words not understood, is MAYBE."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"


class Stage(msgspec.Struct, frozen=True):
    """Which packet of its flow it is: the states that conntrack may give it, and its TCP flags.

    Attributes:
        translated: A rule of the table nat may have given it another destination before.
    """

    states: frozenset[str]
    flags: frozenset[str]
    translated: bool = False


OPENING = Stage(frozenset({"NEW"}), frozenset({"SYN"}))
"""The first packet of a new flow."""
UNTRACKED = frozenset({"NEW", "UNTRACKED"})
"""The states of a first packet that a rule in the table raw may have taken from conntrack."""
ANSWER = Stage(frozenset({"ESTABLISHED"}), frozenset({"SYN", "ACK"}))
"""What comes back for the first packet."""

_ALL_FLAGS = frozenset({"SYN", "ACK", "FIN", "RST", "URG", "PSH"})


def match_rule(words: tuple[str, ...], packet: Packet, stage: Stage = OPENING) -> Match:
    """Match the words of a rule (after its chain, up to its target) against a packet."""
    result = Match.YES
    position = 0
    negated = False
    while position < len(words):
        word = words[position]
        position += 1
        if word == "!":
            negated = True
            continue
        if word in ("-j", "--jump", "-g", "--goto"):
            break
        if word in ("-m", "--match", "--comment"):
            position += 1
            continue
        arguments = _ARGUMENTS.get(word, 0)
        values = words[position : position + arguments]
        test = _TESTS.get(word)
        found = test(values, packet, stage) if test is not None and len(values) == arguments else Match.MAYBE
        if test is not None:
            position += arguments
        if negated and found is not Match.MAYBE:
            found = Match.NO if found is Match.YES else Match.YES
        negated = False
        if found is Match.NO:
            return Match.NO
        if found is Match.MAYBE:
            result = Match.MAYBE
    return result


def _truth(value: bool) -> Match:
    return Match.YES if value else Match.NO


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _protocol(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    wanted, actual = number_of(values[0]), number_of(packet.protocol)
    if values[0] == "all" or wanted == 0:
        return Match.YES
    if wanted is None or actual is None:
        return Match.MAYBE
    return _truth(wanted == actual)


def _in_network(address: str, network: str) -> Match:
    if not address:
        return Match.MAYBE
    try:
        return _truth(ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False))
    except ValueError:
        return Match.MAYBE


def _device(wanted: str, actual: str) -> Match:
    if not actual:
        return Match.MAYBE
    if wanted.endswith("+"):
        return _truth(actual.startswith(wanted[:-1]))
    return _truth(actual == wanted)


def _in_device(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    return _device(values[0], packet.device) if packet.direction is Direction.IN else Match.NO


def _out_device(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    return _device(values[0], packet.device) if packet.direction is Direction.OUT else Match.NO


def _ports(spec: str, port: int | None) -> Match:
    """``80``, ``80:90``, ``:90``, and multiport's comma-separated list of those."""
    if port is None:
        return Match.MAYBE
    for part in spec.split(","):
        low, colon, high = part.partition(":")
        bounds = (low or "0", (high or "65535") if colon else low)
        if not all(_is_number(bound) and len(bound) <= 5 for bound in bounds):
            return Match.MAYBE
        if int(bounds[0]) <= port <= int(bounds[1]):
            return Match.YES
    return Match.NO


def _destination_port(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    return _ports(values[0], packet.destination_port)


def _source_port(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    return _ports(values[0], packet.source_port)


def _either_port(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    found = {_ports(values[0], packet.source_port), _ports(values[0], packet.destination_port)}
    if Match.YES in found:
        return Match.YES
    return Match.MAYBE if Match.MAYBE in found else Match.NO


def _state(values: tuple[str, ...], _: Packet, stage: Stage) -> Match:
    wanted = frozenset(values[0].upper().split(","))
    if stage.states <= wanted:
        return Match.YES
    # DNAT is true beside the others; a new packet meets SNAT only behind every rule that is read here.
    if wanted & stage.states or (stage.translated and "DNAT" in wanted):
        return Match.MAYBE
    return Match.NO


def _tcp_flags(values: tuple[str, ...], packet: Packet, stage: Stage) -> Match:
    if packet.protocol != "tcp":
        return Match.NO
    mask, wanted = (_flags(value) for value in values)
    return _truth(stage.flags & mask == wanted)


def _flags(text: str) -> frozenset[str]:
    named = frozenset(text.upper().split(",")) - {"NONE"}
    return _ALL_FLAGS if "ALL" in named else named


def _syn(_: tuple[str, ...], packet: Packet, stage: Stage) -> Match:
    return _truth(packet.protocol == "tcp" and "ACK" not in stage.flags)


def _destination_type(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    # What is asked about goes from one host to another: it is local where it comes in, and never a broadcast.
    if packet.direction is not Direction.IN:
        return Match.MAYBE
    wanted = frozenset(values[0].upper().split(","))
    if "LOCAL" in wanted:
        return Match.YES
    return Match.NO if wanted <= {"BROADCAST", "MULTICAST", "ANYCAST"} else Match.MAYBE


def _packet_type(values: tuple[str, ...], packet: Packet, _: Stage) -> Match:
    if packet.direction is not Direction.IN:
        return Match.MAYBE
    return _truth(values[0].lower() in ("unicast", "host"))


def _fragment(_: tuple[str, ...], __: Packet, ___: Stage) -> Match:
    return Match.NO


_Test = Callable[[tuple[str, ...], Packet, Stage], Match]

_TESTS: dict[str, _Test] = {}
_ARGUMENTS: dict[str, int] = {}


def _option(names: str, arguments: int, test: _Test) -> None:
    for name in names.split():
        _TESTS[name] = test
        _ARGUMENTS[name] = arguments


_option("-p --protocol", 1, _protocol)
_option("-s --source", 1, lambda values, packet, _: _in_network(packet.source, values[0]))
_option("-d --destination", 1, lambda values, packet, _: _in_network(packet.destination, values[0]))
_option("-i --in-interface", 1, _in_device)
_option("-o --out-interface", 1, _out_device)
_option("--dport --destination-port --dports --destination-ports", 1, _destination_port)
_option("--sport --source-port --sports --source-ports", 1, _source_port)
_option("--ports", 1, _either_port)
_option("--state --ctstate", 1, _state)
_option("--tcp-flags", 2, _tcp_flags)
_option("--syn", 0, _syn)
_option("--dst-type", 1, _destination_type)
_option("--pkt-type", 1, _packet_type)
_option("-f --fragment", 0, _fragment)
