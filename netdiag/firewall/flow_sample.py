"""Flows to try a change of rules on: what rules themselves draw lines at, and what a cluster needs.

A rule tells flows apart by ports, addresses, protocols and devices. So the sample takes every such value that a rule
names and what lies right beside it, crossed with the packet that the change is for.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from netdiag.model.facts import Backend, RuleSet
from netdiag.model.protocols import NUMBERS, name_of
from netdiag.model.trace import TracedPacket, TracePath

LIMIT = 150
_FORWARDED = 40
"""Flows of the other way, between passing through and ending here, at most."""
_NAMED = 60
"""Values of one kind that are taken from rules, at most."""
Target = tuple[str, int | None]
"""Protocol, and port; None where it has none."""
CLUSTER: tuple[Target, ...] = (
    ("tcp", 22),
    ("tcp", 2377),
    ("tcp", 7946),
    ("udp", 7946),
    ("udp", 4789),
    ("esp", None),
    ("icmp", None),
    ("tcp", 179),
    ("ipip", None),
    ("tcp", 5473),
    ("tcp", 2379),
    ("tcp", 2376),
    ("tcp", 80),
    ("tcp", 443),
    ("udp", 53),
)
"""ssh, a swarm's management, gossip and data path (also encrypted), Calico's BGP, IP in IP, Typha and etcd, the engine."""
_PORTS = re.compile(r"(?:--(?:dport|dports|destination-port)|\b(?:tcp|udp|th) dport) (?:!= )?(\{[^}]*\}|[\d:,-]+)")
_PROTOCOL = re.compile(r"(?:-p|--protocol) (\w+)|\b(tcp|udp|icmp|icmpv6) (?:dport|sport|type|flags)\b|l4proto (\w+)")
_FROM = re.compile(r"(?:-s|--source) (\S+)|\bip6? saddr (?:!= )?(\{[^}]*\}|[\w.:/]+)")
_TO = re.compile(r"(?:-d|--destination) (\S+)|\bip6? daddr (?:!= )?(\{[^}]*\}|[\w.:/]+)|--to-destination (\S+)")
_DEVICE = re.compile(r"-i (\S+)|\biifname (?:!= )?\"([^\"]+)\"")
_MEMBER = re.compile(r"^add \S+ ([\da-f.:]+(?:/\d+)?)", re.MULTILINE)
_STRANGER = {4: "203.0.113.77", 6: "2001:db8:7777::77"}
"""Nobody's (RFC 5737, RFC 3849)."""


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """What rules draw lines at."""

    targets: tuple[Target, ...]
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    devices: tuple[str, ...]


def edges_of(rule_sets: Sequence[RuleSet], family: int) -> Edges:
    """The values that rules of one family name, and the ones right beside them; each kind in the rules' order."""
    targets: dict[Target, None] = {}
    sources: dict[str, None] = {}
    destinations: dict[str, None] = {}
    devices: dict[str, None] = {}
    for rules in rule_sets:
        if rules.backend is Backend.IPSET:
            for text in itertools.islice(_MEMBER.findall(rules.text), _NAMED):
                sources.update(dict.fromkeys(_beside(text, family)))
            continue
        if rules.family not in (0, family):
            continue
        for line in rules.text.split("\n"):
            if not line.startswith(("-A", "[", "\t\t")):
                continue
            protocols = [word for found in _PROTOCOL.findall(line) for word in found if word] or ["tcp"]
            ports = [port for found in _PORTS.findall(line) for port in _port_edges(found)]
            for protocol in protocols:
                named = _named(protocol)
                if named in ("tcp", "udp"):
                    targets.update(dict.fromkeys((named, port) for port in ports))
                elif named:
                    targets[named, None] = None
            for pattern, kept in ((_FROM, sources), (_TO, destinations)):
                for found in pattern.findall(line):
                    kept.update(dict.fromkeys(_addresses("".join(found), family)))
            devices.update(dict.fromkeys("".join(found) for found in _DEVICE.findall(line)))
    return Edges(
        targets=tuple(targets)[: 2 * _NAMED],
        sources=tuple(sources)[:_NAMED],
        destinations=tuple(destinations)[:_NAMED],
        devices=tuple(each for each in devices if not each.endswith(("+", "*")))[:_NAMED],
    )


def sample(
    packet: TracedPacket, rule_sets: Sequence[RuleSet], *, own: Sequence[str], devices: Sequence[str]
) -> tuple[TracedPacket, ...]:
    """At most `LIMIT` flows beside a packet, those that differ from it in one thing only first.

    Args:
        packet: What the change is for; it is not in the answer.
        rule_sets: The rules of its namespace, without the change.
        own: The namespace's own addresses.
        devices: Its devices by which packets can arrive.
    """
    family = 6 if ":" in packet.source + packet.destination else 4
    edges = edges_of(rule_sets, family)
    mine = frozenset(own)
    base = msgspec.structs.replace(
        packet, source_port=None, tcp_flags=None, length=None, ttl=None, mac=None, vxlan=False
    )
    known = [_of_family(target, family) for target in (*CLUSTER, *edges.targets)]
    targets = list(dict.fromkeys((_target(packet), *known)))
    others = list(dict.fromkeys(_strangers(packet, edges, mine, family)))
    flows = itertools.chain(
        (_aimed(base, target) for target in targets),
        (_from(base, other) for other in others),
        _elsewhere(base, own, devices, family),
        itertools.islice(_crossing(base, edges, targets, mine, own), _FORWARDED),
        (_from(_aimed(base, target), other) for target, other in itertools.product(targets, others)),
    )
    own_flow = _from(_aimed(base, targets[0]), base.source)
    return tuple(itertools.islice((flow for flow in dict.fromkeys(flows) if flow != own_flow), LIMIT))


def _target(packet: TracedPacket) -> Target:
    return packet.protocol, packet.destination_port


def _of_family(target: Target, family: int) -> Target:
    """ICMP by the family's own name."""
    return ("icmpv6" if family == 6 else "icmp", None) if target[0] in ("icmp", "icmpv6") else target


def _aimed(base: TracedPacket, target: Target) -> TracedPacket:
    protocol, port = target
    kept = base.icmp_type if protocol == base.protocol else None
    return msgspec.structs.replace(base, protocol=protocol, destination_port=port, icmp_type=kept)


def _from(base: TracedPacket, other: str) -> TracedPacket:
    """The flow with another peer: its source, or where it goes if this host sends it."""
    if base.path is TracePath.OUT:
        return msgspec.structs.replace(base, destination=other)
    return msgspec.structs.replace(base, source=other)


def _strangers(packet: TracedPacket, edges: Edges, own: frozenset[str], family: int) -> Iterator[str]:
    """Other peers: next to the packet's own, those that rules name, and somebody whom no rule can know."""
    outward = packet.path is TracePath.OUT
    peer = packet.destination if outward else packet.source
    named = edges.destinations if outward else edges.sources
    for address in (*_beside(peer, family)[1:], _STRANGER[family], *named):
        if address not in own and address != peer:
            yield address


def _elsewhere(base: TracedPacket, own: Sequence[str], devices: Sequence[str], family: int) -> Iterator[TracedPacket]:
    """The same flow by another device, and to this host's other addresses."""
    if base.path is TracePath.OUT:
        return
    for device in devices:
        yield msgspec.structs.replace(base, in_device=device)
    if base.path is TracePath.IN:
        for address in own:
            if (":" in address) == (family == 6) and not ipaddress.ip_address(address).is_link_local:
                yield msgspec.structs.replace(base, destination=address)


def _crossing(
    base: TracedPacket, edges: Edges, targets: Sequence[Target], mine: frozenset[str], own: Sequence[str]
) -> Iterator[TracedPacket]:
    """Flows of the other way: passing through to whom rules name, for a packet that ends here; or ending here."""
    if base.path is TracePath.OUT:
        return
    if base.path is TracePath.FORWARD:
        version = ":" in base.destination
        here = next((each for each in own if (":" in each) == version), None)
        if here is not None:
            ending = msgspec.structs.replace(base, path=TracePath.IN, destination=here, out_device="")
            yield from (_aimed(ending, target) for target in targets)
        return
    passing = msgspec.structs.replace(base, path=TracePath.FORWARD)
    away = [each for each in edges.destinations if each not in mine and each != base.source]
    for target, destination in itertools.product(targets[:8], away):
        yield msgspec.structs.replace(_aimed(passing, target), destination=destination)


def _named(protocol: str) -> str:
    """A protocol as packets here are called; empty for one that cannot be made."""
    lower = protocol.lower()
    name = {"ipv6-icmp": "icmpv6", "4": "ipip", "ipencap": "ipip"}.get(lower) or (
        name_of(int(lower)) if lower.isdigit() and int(lower) < 256 else lower
    )
    return name if name in NUMBERS else ""


def _port_edges(text: str) -> Iterator[int]:
    for part in text.strip("{} ").split(","):
        ends = [end for end in re.split(r"[:-]", part.strip()) if end.isdigit()]
        for port in ends:
            yield int(port)
        if ends:
            yield from (port for port in (int(ends[0]) - 1, int(ends[-1]) + 1) if 0 < port < 65536)


def _addresses(text: str, family: int) -> Iterable[str]:
    for part in text.strip("{} ").split(","):
        address = part.strip()
        if re.fullmatch(r"[\d.]+:\d+", address):
            address = address.partition(":")[0]
        yield from _beside(address, family)


def _beside(text: str, family: int) -> tuple[str, ...]:
    """An address of a network that a rule names, and the first one behind the network; none for what is no network."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return ()
    if network.version != family or network.prefixlen == 0 or network.is_multicast or network.is_loopback:
        return ()
    inside = network.network_address + (1 if network.num_addresses > 2 else 0)
    try:
        behind = network.broadcast_address + 1
    except ValueError:
        return (str(inside),)
    # A broadcast address or a group is nobody's.
    return (str(inside), str(behind + 1 if str(behind).endswith((".0", ".255")) else behind))
