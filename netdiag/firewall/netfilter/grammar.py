"""From the options of iptables' matches to what is asked of the packet, one function a match extension.

`netdiag.firewall.netfilter.extensions` says which options each has. Sources: iptables/extensions/lib{xt,ipt,ip6t}_*.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from netdiag.firewall.netfilter import header, kernel
from netdiag.firewall.netfilter.addresses import read_masked, read_network, read_number, read_range
from netdiag.firewall.netfilter.names import DSCP_CLASSES, ICMP_TYPES, ICMPV6_TYPES, SERVICES, TOS_NAMES
from netdiag.firewall.netfilter.rules import Match, NotUnderstood
from netdiag.firewall.netfilter.sets import SetMatch
from netdiag.firewall.netfilter.skb import ACK, CWR, ECE, FIN, RST, STATES, SYN, TCP_FLAGS
from netdiag.model.protocols import number_of

_U32 = 0xFFFFFFFF
_MOST_PORTS = 15  # XT_MULTI_PORTS; a range counts twice
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,30}")
_ALL_FLAGS = 0x3F


class Option(NamedTuple):
    """One option as it was written."""

    name: str
    values: tuple[str, ...]
    negated: bool


Build = Callable[[Sequence[Option], int], Sequence[Match]]
"""From the options of one match and the family to its conditions. Raises ValueError for what is not understood."""


class NoSuchService(ValueError):
    """A service that may be in the host's own list (/etc/services), and is not in ours."""


def read_port(text: str) -> int:
    """A port by number or service. Raises ValueError, NoSuchService for a name that is not known."""
    if text[:1].isdigit():
        return read_number(text, 65535)
    found = SERVICES.get(text)
    if found is None and _SERVICE.fullmatch(text):
        raise NoSuchService(f"the port of the service {text} is not known")
    return read_number(text, 65535) if found is None else found


def read_ports(text: str) -> tuple[int, int]:
    """``80``, ``80:90``, ``:90``, ``80:``. Raises ValueError."""
    low, colon, high = text.partition(":")
    first = read_port(low) if low or not colon else 0
    last = first if not colon else read_port(high) if high else 65535
    if last < first:
        raise ValueError(f"{text[:60]!r} ends before it begins")
    return first, last


def _flags(text: str) -> int:
    found = 0
    for name in text.split(","):
        upper = name.upper()
        if upper == "ALL":
            found |= _ALL_FLAGS
        elif upper != "NONE":
            bit = TCP_FLAGS.get(name.lower(), 0x40)
            if bit > _ALL_FLAGS:
                raise ValueError(f"no TCP flag: {name[:20]!r}")
            found |= bit
    return found


_PORT_OPTIONS: Mapping[str, header.Side] = {
    "--sport": "source",
    "--source-port": "source",
    "--dport": "destination",
    "--destination-port": "destination",
}


def _ports(side: header.Side, text: str, negated: bool) -> Match:
    try:
        return header.Ports(side, *read_ports(text), negated)
    except NoSuchService as error:
        return NotUnderstood(str(error))


def build_transport(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001 - as every Build
    """``-m tcp``, ``udp``, ``sctp`` and ``dccp``."""
    found: list[Match] = []
    for name, values, negated in options:
        if name in _PORT_OPTIONS:
            found.append(_ports(_PORT_OPTIONS[name], values[0], negated))
        elif name == "--tcp-flags":
            found.append(header.Flags(_flags(values[0]), _flags(values[1]), negated))
        elif name == "--syn":
            found.append(header.Flags(SYN | RST | ACK | FIN, SYN, negated))
        else:
            found.append(NotUnderstood(f"{name} is not modelled"))
    return found


def _one_beginning(text: str, names: Iterable[str], what: str) -> str:
    """The name that a text is or begins, in either case, as strncasecmp has it. Raises ValueError for none or several."""
    lower = text.lower()
    found = [name for name in names if lower and name.lower().startswith(lower)]
    if len(found) != 1 and lower not in map(str.lower, found):
        raise ValueError(f"no {what}: {text[:40]!r}")
    return found[0] if len(found) == 1 else next(name for name in found if name.lower() == lower)


def _icmp_type(text: str, names: Mapping[str, tuple[int, int, int]]) -> tuple[int, int, int]:
    if text[:1].isalpha():
        return names[_one_beginning(text, names, "type of ICMP")]
    kind, slash, code = text.partition("/")
    number = read_number(kind, 255)
    return (number, read_number(code, 255), read_number(code, 255)) if slash else (number, 0, 255)


def build_icmp(options: Sequence[Option], family: int) -> list[Match]:
    """``-m icmp`` and ``icmp6``."""
    six = family == 6
    names = ICMPV6_TYPES if six else ICMP_TYPES
    return [header.Icmp(*_icmp_type(values[0], names), negated, six) for _, values, negated in options]


def build_multiport(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m multiport``."""
    found: list[Match] = []
    for name, values, negated in options:
        sides: tuple[header.Side, ...] = ("source",) if name in ("--sports", "--source-ports") else ("destination",)
        try:
            ranges = tuple(read_ports(part) for part in values[0].split(","))
        except NoSuchService as error:
            found.append(NotUnderstood(str(error)))
            continue
        if sum(1 + (last > first) for first, last in ranges) > _MOST_PORTS:
            raise ValueError("more than 15 ports")
        found.append(header.Multiport(("source", "destination") if name == "--ports" else sides, ranges, negated))
    return found


def build_state(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m state``."""
    found: list[Match] = []
    for _, values, negated in options:
        found.append(kernel.State(_states(values[0], STATES), negated))
    return found


def _states(text: str, names: frozenset[str]) -> frozenset[str]:
    """A list of states, each of which may be cut short (libxt_conntrack.c, conntrack_ps_state). Raises ValueError."""
    parts = text.upper().split(",")
    return frozenset(part if part in names else _one_beginning(part, names, "state") for part in parts)


_FLOW_ADDRESSES: Mapping[str, Literal["source", "destination"]] = {
    "--ctorigsrc": "source",
    "--ctorigdst": "destination",
}
_FLOW_PORTS: Mapping[str, Literal["source_port", "destination_port"]] = {
    "--ctorigsrcport": "source_port",
    "--ctorigdstport": "destination_port",
}


def _protocol(text: str) -> int | None:
    return read_number(text, 255) if text[:1].isdigit() else number_of(text.lower())


def build_conntrack(options: Sequence[Option], family: int) -> list[Match]:
    """``-m conntrack``."""
    found: list[kernel.OfFlow] = []
    for name, values, negated in options:
        if name == "--ctstate":
            found.append(kernel.State(_states(values[0], STATES | {"SNAT", "DNAT"}), negated))
        elif name == "--ctproto" and (number := _protocol(values[0])) is not None:
            found.append(kernel.FlowProtocol(number, negated))
        elif name in _FLOW_ADDRESSES:
            network, mask = read_network(values[0], family)
            found.append(kernel.FlowEnd(_FLOW_ADDRESSES[name], network, network, mask, negated))
        elif name in _FLOW_PORTS:
            found.append(kernel.FlowEnd(_FLOW_PORTS[name], *read_ports(values[0]), -1, negated))
        elif name == "--ctdir" and values[0].upper() in ("ORIGINAL", "REPLY"):
            found.append(kernel.OriginalDirection(values[0].upper() == "ORIGINAL", negated))
        else:
            found.append(NotUnderstood(f"{name} is not modelled"))
    if len(found) > 1 and any(isinstance(each, kernel.State) for each in found):
        # Where there is no flow, the state alone decides (xt_conntrack.c, conntrack_mt).
        return [kernel.StateFirst(tuple(found))]
    return list(found)


def build_addrtype(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m addrtype``."""
    found: list[Match] = []
    for name, values, negated in options:
        if name.startswith("--limit-iface"):
            return [NotUnderstood(f"{name} is not modelled")]
        wanted = frozenset(_one_beginning(part, kernel.TYPES, "type of address") for part in values[0].split(","))
        found.append(kernel.AddressType("source" if name == "--src-type" else "destination", wanted, negated))
    return found


def build_iprange(options: Sequence[Option], family: int) -> list[Match]:
    """``-m iprange``."""
    return [
        # iptables warns of a range that ends before it begins, and loads it.
        header.Range("source" if name == "--src-range" else "destination", *read_range(values[0], family), negated)
        for name, values, negated in options
    ]


def build_mark(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m mark``."""
    return [kernel.Mark(*read_masked(values[0], _U32), negated) for _, values, negated in options]


def build_connmark(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m connmark``."""
    return [kernel.ConnMark(*read_masked(values[0], _U32), negated) for _, values, negated in options]


def build_length(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m length``."""
    found: list[Match] = []
    for _, values, negated in options:
        low, colon, high = values[0].partition(":")
        first = read_number(low, 65535) if low or not colon else 0
        last = first if not colon else read_number(high, 65535) if high else 65535
        found.append(header.Between("length", first, last, negated))
    return found


def build_ttl(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m ttl`` and ``hl``."""
    found: list[Match] = []
    for name, values, negated in options:
        number = read_number(values[0], 255)
        if negated and name[-2:] in ("lt", "gt"):
            raise ValueError(f"{name} has no negation")
        low, high = {"lt": (0, number - 1), "gt": (number + 1, 255)}.get(name[-2:], (number, number))
        found.append(header.Between("ttl", low, high, negated))
    return found


def build_dscp(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m dscp``."""
    found: list[Match] = []
    for name, values, negated in options:
        if name == "--dscp-class" and values[0].upper() not in DSCP_CLASSES:
            raise ValueError(f"no DSCP class: {values[0][:20]!r}")
        number = DSCP_CLASSES[values[0].upper()] if name == "--dscp-class" else read_number(values[0], 63)
        found.append(header.Tos(number << 2, 0xFC, negated))
    return found


def build_tos(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m tos``."""
    found: list[Match] = []
    for _, values, negated in options:
        # A name stands for the bits of RFC 1349 alone (libxt_tos.c, tos_mt_parse).
        named = TOS_NAMES.get(values[0].lower())
        value, mask = (named, 0x3F) if named is not None else read_masked(values[0], 255)
        found.append(header.Tos(value, mask, negated))
    return found


def build_mac(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m mac``."""
    found: list[Match] = []
    for _, values, negated in options:
        digits = values[0].lower().split(":")
        if len(digits) != 6 or any(
            len(part) not in (1, 2) or not set(part) <= set("0123456789abcdef") for part in digits
        ):
            raise ValueError(f"no MAC address: {values[0][:40]!r}")
        found.append(header.Mac(":".join(part.zfill(2) for part in digits), negated))
    return found


def build_pkttype(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m pkttype``."""
    kinds: Mapping[str, Literal["unicast", "broadcast", "multicast"]] = {
        "unicast": "unicast",
        "host": "unicast",
        "broadcast": "broadcast",
        "multicast": "multicast",
    }
    found: list[Match] = []
    for _, values, negated in options:
        kind = kinds.get(values[0].lower())
        found.append(NotUnderstood(f"--pkt-type {values[0]}") if kind is None else header.PacketType(kind, negated))
    return found


def build_set(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m set``."""
    found: list[Match] = []
    for name, values, negated in options:
        if name in ("--update-counters", "--update-subcounters"):
            continue  # counts, and asks nothing
        if name not in ("--match-set", "--set"):
            found.append(NotUnderstood(f"{name} is not modelled"))
            continue
        flags = tuple(values[1].split(","))
        if not set(flags) <= {"src", "dst"} or len(flags) > 6:
            raise ValueError(f"no flags of a set: {values[1][:40]!r}")
        found.append(SetMatch(values[0], flags, negated))
    return found


def build_limit(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m limit``."""
    if any(option.negated for option in options):
        raise ValueError("limit has no negation")
    return [kernel.Bucket("limit")]


def build_hashlimit(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m hashlimit``."""
    rate = next(
        (option for option in options if option.name in ("--hashlimit", "--hashlimit-upto", "--hashlimit-above")), None
    )
    if rate is None:
        raise ValueError("no rate")
    return [kernel.Bucket("hashlimit", rate.name == "--hashlimit-above", rate.negated)]


def build_physdev(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m physdev``."""
    return [kernel.PhysicalDevice(any(not option.negated for option in options))]


def build_policy(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m policy``."""
    said = {option.name: option.values[0] for option in options if option.values}
    if said.get("--dir") not in ("in", "out") or said.get("--pol") not in ("none", "ipsec"):
        raise ValueError("--dir and --pol are wanted")
    return [kernel.Ipsec(said["--dir"] == "in", said["--pol"] == "none")]


def build_owner(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m owner``."""
    return [kernel.Owner(all(option.negated for option in options))]


def build_helper(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m helper``."""
    return [kernel.Helper(any(option.negated for option in options))]


def build_ecn(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m ecn``."""
    found: list[Match] = []
    for name, values, negated in options:
        if name == "--ecn-ip-ect":
            found.append(header.Tos(read_number(values[0], 3), 3, negated))
        else:
            found.append(header.EcnFlag(CWR if name == "--ecn-tcp-cwr" else ECE, negated))
    return found


def build_recent(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m recent``: ``--set`` always holds, what else it asks depends on what came before."""
    for option in options:
        if option.name == "--set":
            return [header.Always(not option.negated)]
    return [NotUnderstood("whether its address was seen recently is not known")]


def build_rpfilter(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m rpfilter``."""
    return [kernel.ReversePath(any(option.name == "--invert" for option in options))]


def build_spi(options: Sequence[Option], family: int) -> list[Match]:
    """``-m esp`` and ``ah``: of a packet's security parameter index nothing is known."""
    if family == 6 or options:
        return [NotUnderstood("the header of IPsec is not modelled")]
    return []


def build_statistic(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """``-m statistic``."""
    return [NotUnderstood("a rule that chooses by chance or by turns (statistic)")]


def build_nothing(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """A match that every packet meets."""
    return []


def build_absent(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    """A match for an extension header, which no packet of the model has."""
    return [header.Always(False)]
