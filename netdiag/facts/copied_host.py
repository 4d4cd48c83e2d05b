"""What of a namespace a copy of it needs so that packets find the same way through the same rules.

Everything is written down as lines for ``ip -batch`` and ``bridge -batch`` and as settings: devices of the same names (a
bridge stays a bridge, and its ports its ports; all else becomes a device that carries nothing), addresses, routes,
policy rules, and what is known of neighbours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from netdiag.facts.trace_here import Here
from netdiag.model.facts import Address, Facts, Link, NextHop, PolicyRule, Route, RuleSet
from netdiag.model.trace import TracedPacket

MOST_DEVICES = 128
"""How many devices are copied; those that rules, addresses, routes or the packet name come first."""
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/fwmark_reflect",
    *(
        f"net/ipv4/conf/*/{name}"
        for name in ("forwarding", "rp_filter", "accept_local", "route_localnet", "src_valid_mark", "bc_forwarding")
    ),
    "net/ipv6/ip_nonlocal_bind",
    "net/ipv6/conf/*/forwarding",
    "net/ipv6/conf/*/disable_ipv6",
    "net/bridge/bridge-nf-call-*",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_loose",
)
"""Settings that decide whether a packet is taken in, passed on, or shown to rules, below /proc/sys."""
_NAMED = re.compile(
    r"(?:^| )(?:-i|-o|--in-interface|--out-interface|--physdev-in|--physdev-out) (\S+)"
    r"|\b(?:iifname|oifname|ibrname|obrname|iif|oif|sdifname|devices? =?) ?(?:!= )?(\{[^}]*\}|\"[^\"]+\"|[\w.@-]+)"
)
_NAME = re.compile(r"[\w.:@+~^-]{1,15}\Z", re.ASCII)
_LINE = re.compile(r"(?:link|addr|route|rule|neigh|fdb) [\w ./:@+~^-]+\Z", re.ASCII)
_VALUE = re.compile(r"-?\d{1,10}\Z", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_LOCAL_TABLE, _MAIN_TABLE = 255, 254
_KEPT_TYPES = ("unicast", "blackhole", "unreachable", "prohibit", "throw")
_OWN_RULES = {(0, _LOCAL_TABLE), (32766, _MAIN_TABLE), (32767, 253)}
"""Priority and table of the policy rules that a new namespace has."""


class HostCopy(msgspec.Struct, frozen=True, kw_only=True):
    """How a namespace is built, in this order.

    Attributes:
        links: Lines for ``ip -batch``: devices.
        sysctls: Paths below /proc/sys and what is written there, in their order.
        addresses: Lines for ``ip -batch``: devices set up, addresses, routes, and IPv4's policy rules.
        policies_v6: Lines for ``ip -6 -batch``: IPv6's policy rules.
        stations: Lines for ``bridge -batch``.
        left_out: What is not copied, a line each.
    """

    links: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...]
    addresses: tuple[str, ...]
    policies_v6: tuple[str, ...] = ()
    stations: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def devices_named(rule_sets: Iterable[RuleSet]) -> tuple[str, ...]:
    """The devices that rules name, in their order; a pattern of names is none."""
    found: dict[str, None] = {}
    for rules in rule_sets:
        for option, word in _NAMED.findall(rules.text):
            names = [option] if option else [each.strip(' "') for each in word.strip("{} ").split(",")]
            found.update(dict.fromkeys(name for name in names if _NAME.match(name) and not name.endswith("+")))
    return tuple(found)


def copy_of(
    facts: Facts,
    namespace: str,
    *,
    kind: str,
    named: Sequence[str],
    packet: TracedPacket,
    sysctls: Mapping[str, str],
) -> HostCopy:
    """How the copy of a namespace is built.

    Args:
        facts: With its links, addresses, routes, policy rules, neighbours and forwarding entries.
        namespace: Whose copy it is.
        kind: Of which kind devices are made that are no bridges: one that this kernel makes without loading anything.
        named: Devices that rules name; those that the host does not have are made as well.
        packet: What is to be sent there.
        sysctls: Values by their paths below /proc/sys.
    """
    here = Here(facts, namespace)
    routes = (facts.routes.value or {}).get(namespace, ())
    wanted = dict.fromkeys((packet.in_device, packet.out_device, *named))
    wanted.update(dict.fromkeys(row.device for row in here.addresses))
    wanted.update(dict.fromkeys(hop.device for route in routes for hop in route.next_hops))
    chosen, left_out = _chosen(here.links, wanted)
    names = {link.name for link in chosen}
    made = [name for name in named if name not in names and name != "lo" and not here.link(name)][:MOST_DEVICES]
    bridges = {link.index: link.name for link in chosen if link.kind == "bridge"}
    lines = ["link set lo up"]
    for link in chosen:
        mac = f"address {link.mac} " if _MAC.match(link.mac) and link.mac != "00:00:00:00:00:00" else ""
        mtu = f"mtu {link.mtu_bytes} " if 1280 <= link.mtu_bytes <= 65535 else ""
        lines += _device(link.name, "bridge" if link.kind == "bridge" else kind, f"{mac}{mtu}")
    for name in made:
        lines += [*_device(name, kind, ""), f"link set {name} up"]
    for link in chosen:
        if link.master in bridges:
            lines.append(f"link set {link.name} master {bridges[link.master]}")
    up = [f"link set {link.name} up" for link in chosen if link.up]
    rules = (facts.rules.value or {}).get(namespace, ())
    every = {"all", "default", "lo", *names}
    plan = HostCopy(
        links=tuple(lines),
        sysctls=tuple(
            (path, value)
            for path, value in sorted(sysctls.items(), key=lambda each: _order(each[0]))
            if _device_of(path) in every and _VALUE.match(value)
        ),
        addresses=(
            *up,
            *(line for row in here.addresses if (line := _address(row, names))),
            *(line for route in sorted(routes, key=_has_gateway) if (line := _route(route, names))),
            *_policies(rules, 4, complete=facts.rules.value is not None),
            *_neighbours(here, packet, names),
        ),
        policies_v6=tuple(_policies(rules, 6, complete=facts.rules.value is not None)),
        stations=tuple(_stations(here, packet, names)),
        left_out=(*left_out, *_unread(facts, namespace)),
    )
    return _plain(plan)


def _plain(plan: HostCopy) -> HostCopy:
    """Only lines of which every word is what it is said to be: a bundle's facts are somebody else's, and root runs them."""
    odd = [
        line
        for part in (plan.links, plan.addresses, plan.policies_v6, plan.stations)
        for line in part
        if not _LINE.match(line)
    ]
    kept = {
        name: tuple(line for line in getattr(plan, name) if _LINE.match(line))
        for name in ("links", "addresses", "policies_v6", "stations")
    }
    return msgspec.structs.replace(plan, **kept, left_out=(*plan.left_out, *odd))


def _unread(facts: Facts, namespace: str) -> Iterator[str]:
    for name in ("links", "addresses", "routes", "rules"):
        section = getattr(facts, name)
        absent = section.partial.get(namespace) or section.absent
        if absent is not None:
            yield f"{name}: {absent.text}"


def _chosen(links: Sequence[Link], wanted: Iterable[str]) -> tuple[list[Link], list[str]]:
    """The devices to make, bridges first so that their ports find them."""
    by_name = {link.name: link for link in links if not link.loopback and not link.name.startswith("netdiag-t")}
    by_index = {link.index: link for link in by_name.values()}
    first: dict[str, None] = {}
    for name in wanted:
        link = by_name.get(name)
        if link is not None:
            first[name] = None
            if link.master in by_index:
                first[by_index[link.master].name] = None
    rest = [name for name in by_name if name not in first]
    names = [*first, *rest][:MOST_DEVICES]
    odd = [name for name in names if not _NAME.match(name)]
    chosen = [by_name[name] for name in names if _NAME.match(name)]
    left = [*odd, *[*first, *rest][MOST_DEVICES:]]
    said = [f"devices: {', '.join(left[:5])}{f' and {len(left) - 5} more' if len(left) > 5 else ''}"] if left else []
    return sorted(chosen, key=lambda link: link.kind != "bridge"), said


def _device(name: str, kind: str, options: str) -> list[str]:
    peer = f" peer name nd{abs(hash_of(name)):09x}" if kind == "veth" else ""
    lines = [f"link add {name} {options}type {kind}{peer}", f"link set {name} addrgenmode none"]
    if peer:
        lines.append(f"link set {peer.rsplit(maxsplit=1)[-1]} up")
    return lines


def hash_of(name: str) -> int:
    """A number of at most 36 bits that tells names apart: the other end of a veth needs a name of its own."""
    number = 0
    for char in name.encode():
        number = (number * 257 + char) % 0xFFFFFFFFF
    return number


def _device_of(path: str) -> str:
    """Whose setting it is; "all" where it is no device's, empty where it is none at all."""
    parts = path.split("/")
    if {"", ".", ".."} & set(parts):
        return ""
    if parts[2:3] == ["conf"]:
        return parts[3] if len(parts) == 5 else ""
    return "all" if len(parts) <= 4 else ""


def _order(path: str) -> tuple[int, str]:
    """One setting sets others: ip_forward every device's, ``all`` (IPv6) as well. These come first."""
    return (0 if path.endswith("ip_forward") else 1 if "/conf/all/" in path else 2), path


def _address(row: Address, names: set[str]) -> str:
    if row.device not in names and row.device != "lo":
        return ""
    interface = ipaddress.ip_interface(row.cidr)
    if row.device == "lo" and interface.ip.is_loopback:
        return ""  # there with the device
    six = interface.version == 6
    peer = f" peer {row.peer}/{interface.network.prefixlen}" if row.peer and row.peer != str(interface.ip) else ""
    local = str(interface.ip) if peer else row.cidr
    more = " nodad" if six else " brd +" if interface.network.prefixlen < 31 and not peer else ""
    scope = f" scope {row.scope}" if row.scope in ("link", "host", "site") and not six else ""
    return f"addr add {local}{peer}{more} dev {row.device}{scope} noprefixroute"


def _has_gateway(route: Route) -> bool:
    return any(hop.gateway for hop in route.next_hops)


def _route(route: Route, names: set[str]) -> str:
    if route.type not in _KEPT_TYPES:
        return ""  # the kernel's own, with the addresses
    network = ipaddress.ip_network(route.destination, strict=False)
    if network.is_multicast:
        return ""
    hops = [hop for hop in route.next_hops if hop.device in names or hop.device == "lo"]
    if route.type == "unicast" and not hops:
        return ""
    words = ["route", "add", *([route.type] if route.type != "unicast" else []), str(network)]
    words += ["table", str(route.table)] if route.table != _MAIN_TABLE else []
    words += ["metric", str(route.metric)] if route.metric else []
    words += ["src", route.source] if route.source else []
    if route.type == "unicast":
        several = len(hops) > 1
        for hop in hops:
            words += ["nexthop"] if several else []
            words += _hop(hop, network.version, weight=several)
    return " ".join(words)


def _hop(hop: NextHop, version: int, *, weight: bool) -> list[str]:
    other = bool(hop.gateway) and (":" in hop.gateway) != (version == 6)
    via = ["via", *(["inet6"] if other else []), hop.gateway] if hop.gateway else []
    return [*via, "dev", hop.device, *(["weight", str(hop.weight)] if weight else []), *(["onlink"] if via else [])]


def _policies(every: Sequence[PolicyRule], family: int, *, complete: bool) -> Iterator[str]:
    rules = [rule for rule in every if rule.family == family]
    for rule in rules:
        plain = not (rule.source or rule.destination or rule.in_device or rule.out_device or rule.mark)
        if plain and rule.action == "lookup" and (rule.priority, rule.table) in _OWN_RULES:
            continue
        words = ["rule", "add", "pref", str(rule.priority), *(["not"] if rule.invert else [])]
        words += ["from", rule.source or "all"]
        words += ["to", rule.destination] if rule.destination else []
        words += ["iif", rule.in_device] if rule.in_device else []
        words += ["oif", rule.out_device] if rule.out_device else []
        if rule.mark is not None or rule.mask:
            words += ["fwmark", f"{rule.mark or 0:#x}/{0xFFFFFFFF if rule.mask is None else rule.mask:#x}"]
        words += ["table", str(rule.table)] if rule.action == "lookup" else [rule.action]
        yield " ".join(words)
    theirs = {(rule.priority, rule.table) for rule in rules}
    for priority, table in sorted(_OWN_RULES):
        # A namespace of IPv6 has no table 253. Of a family that says nothing at all nothing is known.
        if complete and rules and (priority, table) not in theirs and (family, table) != (6, 253):
            yield f"rule del pref {priority}"


def _neighbours(here: Here, packet: TracedPacket, names: set[str]) -> Iterator[str]:
    """Who is behind which link address: what a frame's addresses, and the ports of a bridge, are taken from."""
    known = {(row.device, row.address): row.mac for row in here.neighbours if _MAC.match(row.mac)}
    for address in (packet.source, packet.destination):
        mac = here.mac_of(address) if address else ""
        link = here.link(packet.in_device if address == packet.source else packet.out_device)
        bridge = here.bridge_of(link.name) if link is not None else None
        device = bridge.name if bridge is not None else link.name if link is not None else ""
        if mac and device:
            known[device, address] = mac
    for (device, address), mac in known.items():
        if device in names:
            yield f"neigh replace {address} lladdr {mac} dev {device} nud permanent"


def _stations(here: Here, packet: TracedPacket, names: set[str]) -> Iterator[str]:
    """Behind which port of a bridge a link address is."""
    known = {
        row.mac: row.device for row in here.fdb if row.on_master and not row.vtep and "permanent" not in row.states
    }
    for bridge in (link for link in here.links if link.kind == "bridge"):
        for address in filter(None, (packet.source, packet.destination)):
            port, mac = here.behind(bridge, address), here.mac_of(address)
            if port and mac:
                known[mac] = port
    for mac, device in known.items():
        if device in names and _MAC.match(mac):
            yield f"fdb replace {mac} dev {device} master static"
