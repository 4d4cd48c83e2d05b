"""The packet of a trace: what the operator said, what this host's facts give for the rest, and how it goes through."""

from __future__ import annotations

import ipaddress
from typing import Any

from netdiag.errors import UsageError
from netdiag.facts.route_lookup import gather_lookup
from netdiag.facts.trace_wanted import PORTS, Wanted, checked
from netdiag.firewall.trace import Rules
from netdiag.model.facts import HOST, Address, Facts, Link, Namespace
from netdiag.model.level import Level
from netdiag.model.probes import RouteChoice
from netdiag.model.trace import TracedPacket, TracePath
from netdiag.model.wire import Gather, Request

__all__ = ["PORTS", "Wanted", "comes_back", "gather_packet", "namespace_of", "request_of", "watch_request"]


def gather_packet(wanted: Wanted, facts: Facts) -> Gather[TracedPacket]:
    """The whole packet. Raises UsageError where neither the operator nor the host says what is needed."""
    wanted = checked(wanted)
    here = _Here(facts, wanted.namespace)
    here.require(wanted.in_device, "--in")
    here.require(wanted.out_device, "--out")
    if wanted.path is TracePath.OUT:
        out_device, source = wanted.out_device, wanted.source
        if not (out_device and source):
            found = yield from _lookup(here, wanted.destination, "--dst")
            out_device, source = out_device or found.device, source or found.source
        return _packet(wanted, "", out_device, source, wanted.destination)
    if wanted.path is TracePath.FORWARD:
        return (yield from _forwarded(wanted, here))
    in_device, destination, source = wanted.in_device, wanted.destination, wanted.source
    if source and not (in_device and destination):
        route = (yield from gather_lookup(source, here.path)).route
        destination = destination or ("" if in_device and route.device != in_device else route.source)
        in_device = in_device or route.device
    own = here.own_address(in_device, destination, 6 if ":" in source + destination else 4)
    if own is None:
        what = in_device or destination or "the packet"
        raise UsageError(f"no address of this {here.word} for {what}: give --in and --dst")
    source = source or _neighbour_of(own)
    return _packet(wanted, in_device or own.device, "", source, destination or _bare(own))


def request_of(
    packet: TracedPacket,
    facts: Facts,
    *,
    wait_ms: int,
    rules: Rules | None = None,
    level: Level = Level.OWNED_TRACE,
    legacy: bool = False,
) -> Request:
    """The participant's part. It must have been made sure before that it loads no module that may not be loaded.

    Args:
        packet: What is sent.
        facts: Of this host.
        wait_ms: How long the kernel is listened to.
        rules: Without them the packet is followed as far as anybody could have a chain.
        level: Whose table it makes.
        legacy: Listen to legacy chains where the rules have any. One trace in a namespace can do so at a time.
    """
    here = _Here(facts, packet.namespace)
    params: dict[str, Any] = {
        "path": packet.path.value,
        "src": packet.source,
        "dst": packet.destination,
        "proto": packet.protocol,
        "wait_ms": wait_ms,
        "level": level.value,
        "legacy": legacy and rules is not None and bool(rules.legacy_tables),
        "may_load": True,
    }
    optional = {
        "netns": here.path or None,
        "in_device": packet.in_device or None,
        "out_device": packet.out_device or None,
        "sport": packet.source_port,
        "dport": packet.destination_port,
        "icmp_type": packet.icmp_type,
        "tcp_flags": packet.tcp_flags,
        "ttl": packet.ttl,
        "length": packet.length,
    }
    params.update({name: value for name, value in optional.items() if value is not None})
    if packet.path is not TracePath.OUT:
        params.update(_frame(packet, here))
    params.update(_ends(packet, here, rules))
    return Request("firewall-trace", params, timeout_s=wait_ms / 1000 + 3.0)


def watch_request(wanted: Wanted, facts: Facts, *, wait_s: float, level: Level = Level.OWNED_TRACE) -> Request:
    """The request that waits for somebody else's packet. Raises UsageError where it says too little or too much."""
    here = _Here(facts, wanted.namespace)
    here.require(wanted.in_device, "--in")
    for name, given in (("--mac", wanted.mac), ("--tcp-flags", wanted.tcp_flags)):
        if given:
            raise UsageError(f"{name} does not go with --wait")
    for name, number in (("--ttl", wanted.ttl), ("--length", wanted.length)):
        if number is not None:
            raise UsageError(f"{name} does not go with --wait")
    ports = wanted.source_port is not None or wanted.destination_port is not None
    if not (wanted.source or wanted.destination or ports or wanted.protocol or wanted.icmp_type is not None):
        raise UsageError("--wait: --src, --dst, --proto or a port says for which packet")
    protocol = wanted.protocol or ("tcp" if ports else "")
    if ports and protocol not in PORTS:
        raise UsageError(f"--proto {protocol} has no ports")
    up = [link for link in here.links if link.up and (not link.loopback or link.name == wanted.in_device)]
    arrives = wanted.path is not TracePath.OUT
    params: dict[str, Any] = {
        "path": wanted.path.value,
        "devices": [link.name for link in up if wanted.in_device in ("", link.name)] if arrives else [],
        "bridges": arrives and any(link.kind == "bridge" for link in here.links),
        "wait_ms": int(wait_s * 1000),
        "level": level.value,
        "may_load": True,
    }
    optional = {
        "netns": here.path or None,
        "src": wanted.source or None,
        "dst": wanted.destination or None,
        "proto": protocol or None,
        "sport": wanted.source_port,
        "dport": wanted.destination_port,
        "icmp_type": wanted.icmp_type,
    }
    params.update({name: value for name, value in optional.items() if value is not None})
    return Request("firewall-watch", params, timeout_s=wait_s + 3.0)


def comes_back(packet: TracedPacket, facts: Facts) -> bool:
    """Whether it leaves by the loopback device, so that it comes back by it and goes on to INPUT."""
    link = _Here(facts, packet.namespace).link(packet.out_device)
    return link is not None and link.loopback


def namespace_of(facts: Facts, name: str) -> Namespace:
    """The namespace of an id. The host's own needs nothing to be known of it."""
    if name == HOST:
        return Namespace(id=HOST, path="", inode=0)
    found = (facts.namespaces.value or {}).get(name)
    if found is None:
        raise UsageError(f"{name} has gone")
    return found


class _Here:
    """One namespace's part of the facts."""

    def __init__(self, facts: Facts, namespace: str) -> None:
        self._facts = facts
        self._name = namespace
        self.path = namespace_of(facts, namespace).path
        self.word = "host" if namespace == HOST else f"namespace ({namespace})"
        self.links: tuple[Link, ...] = (facts.links.value or {}).get(namespace, ())
        self.addresses: tuple[Address, ...] = (facts.addresses.value or {}).get(namespace, ())
        self.neighbours = (facts.neighbours.value or {}).get(namespace, ())
        self.fdb = (facts.fdb.value or {}).get(namespace, ())

    def require(self, device: str, option: str) -> None:
        """Raise UsageError for a device that this namespace has not, or that is down."""
        if not device:
            return
        link = self.link(device)
        if link is None:
            names = ", ".join(link.name for link in self.links if not link.loopback)
            raise UsageError(f"{option} {device}: no such device in this {self.word}; it has {names or 'none'}")
        if link.loopback and option == "--in":
            raise UsageError(f"--in {device}: what this {self.word} sends to itself is asked by --path out")
        if not link.up:
            raise UsageError(f"{option} {device}: it is down")

    def link(self, name: str) -> Link | None:
        """A device by its name."""
        return next((link for link in self.links if link.name == name), None)

    def bridge_of(self, device: str) -> Link | None:
        """The bridge whose port a device is."""
        link = self.link(device)
        if link is None or link.master is None:
            return None
        return next((each for each in self.links if each.index == link.master and each.kind == "bridge"), None)

    def ports(self, bridge: Link) -> list[str]:
        """The ports of a bridge that are up."""
        return [link.name for link in self.links if link.master == bridge.index and link.up]

    def port_of(self, mac: str, bridge: Link) -> str:
        """Behind which port of a bridge a link address is, as the bridge knows it; empty when it does not."""
        ports = self.ports(bridge)
        return next((row.device for row in self.fdb if row.mac == mac and row.device in ports), "")

    def mac_of(self, address: str) -> str:
        """The link address of an IP address: as this namespace knows it, else of whichever namespace has it."""
        for entry in self.neighbours:
            if entry.address == address and len(entry.mac) == 17:
                return entry.mac
        return next((link.mac for link in self._elsewhere(address)), "")

    def behind(self, bridge: Link, address: str) -> str:
        """Behind which port of a bridge an IP address is; empty when that is not known.

        What the bridge has not learnt yet is told by the pair of a veth: each end has the other's index.
        """
        learnt = self.port_of(self.mac_of(address), bridge)
        pairs = [
            port.name
            for link in self._elsewhere(address)
            for port in self.links
            if port.master == bridge.index and port.index == link.peer_index and port.peer_index == link.index
        ]
        return learnt or next(iter(pairs), "")

    def is_next_to(self, bridge: Link, address: str) -> bool:
        """Whether an address belongs to a network that the bridge itself has an address in."""
        wanted = ipaddress.ip_address(address)
        networks = [ipaddress.ip_interface(row.cidr).network for row in self.addresses if row.device == bridge.name]
        return any(wanted in network for network in networks)

    def _elsewhere(self, address: str) -> list[Link]:
        """The devices of other namespaces that have an address."""
        found: list[Link] = []
        for namespace, rows in (self._facts.addresses.value or {}).items():
            devices = {row.device for row in rows if _bare(row) == address and namespace != self._name}
            links = (self._facts.links.value or {}).get(namespace, ())
            found += [link for link in links if link.name in devices]
        return found

    def own_address(self, device: str, address: str, version: int) -> Address | None:
        """The namespace's address that was named, or its first one (of the device that was named)."""
        up = {link.name for link in self.links if link.up and not link.loopback}
        for own in self.addresses:
            interface = ipaddress.ip_interface(own.cidr)
            if interface.version != version or own.device not in up or (device and own.device != device):
                continue
            if address == str(interface.ip) or (not address and own.scope == "global"):
                return own
        return None


def _lookup(here: _Here, address: str, option: str) -> Gather[RouteChoice]:
    route = (yield from gather_lookup(address, here.path)).route
    if route.absent is not None:
        raise UsageError(f"{option} {address}: {route.absent.text}")
    return route


def _forwarded(wanted: Wanted, here: _Here) -> Gather[TracedPacket]:
    in_device, out_device, source = wanted.in_device, wanted.out_device, wanted.source
    if not in_device:
        route = yield from _lookup(here, source, "--src")
        bridge = here.link(route.device)
        if bridge is not None and bridge.kind == "bridge":
            in_device = here.behind(bridge, source)
            if not in_device:
                ports = ", ".join(here.ports(bridge))
                raise UsageError(f"--src {source} is behind {bridge.name}, at a port that is not known: --in {ports}")
        else:
            in_device = route.device
    bridge = here.bridge_of(in_device)
    bare = {_bare(row) for row in here.addresses}
    if wanted.destination in bare:
        raise UsageError(f"--dst {wanted.destination} is an address of this {here.word}: --path in")
    if not out_device:
        out_device = here.behind(bridge, wanted.destination) if bridge is not None else ""
        if not out_device:
            found = yield from gather_lookup(wanted.destination, here.path)
            out_device = found.route.device
    if not source:
        device = bridge.name if bridge is not None else in_device
        own = here.own_address(device, "", 6 if ":" in wanted.destination else 4)
        if own is None:
            raise UsageError(f"{device} has no address here that tells its neighbours: --src says from whom")
        source = _neighbour_of(own, wanted.destination)
    return _packet(wanted, in_device, out_device, source, wanted.destination)


def _packet(wanted: Wanted, in_device: str, out_device: str, source: str, destination: str) -> TracedPacket:
    if in_device == "lo":
        raise UsageError(
            f"{source} is this host itself: a packet from it never arrives on an interface; try --path out"
        )
    return TracedPacket(
        path=wanted.path,
        namespace=wanted.namespace,
        in_device=in_device,
        out_device=out_device,
        source=source,
        destination=destination,
        protocol=wanted.protocol,
        source_port=wanted.source_port,
        destination_port=wanted.destination_port,
        icmp_type=wanted.icmp_type,
        tcp_flags=wanted.tcp_flags or None,
        ttl=wanted.ttl,
        length=wanted.length,
        mac=wanted.mac or None,
    )


def _frame(packet: TracedPacket, here: _Here) -> dict[str, Any]:
    """The addresses of its frame, and whether a bridge passes it on."""
    bridge = here.bridge_of(packet.in_device)
    if bridge is None:
        entries = [row for row in here.neighbours if row.address == packet.source and row.device == packet.in_device]
        known = next((row.mac for row in entries if len(row.mac) == 17), None)
        mac = packet.mac or known
        return {"mac": mac} if mac else {}
    frame: dict[str, Any] = {}
    mac = packet.mac or here.mac_of(packet.source)
    if mac and (packet.mac or here.port_of(mac, bridge) == packet.in_device):
        frame["mac"] = mac
    # A bridge learns from every frame. What it knows already it may see again; anything else it must not keep.
    if not mac or here.port_of(mac, bridge) != packet.in_device:
        frame["forget_mac"] = True
    target = here.mac_of(packet.destination) if _is_bridged(packet, here, bridge) else ""
    frame["frame_mac"] = target or ("" if packet.protocol == "arp" else bridge.mac)
    if target or packet.protocol == "arp":
        frame["bridged"] = True
    return frame


def _is_bridged(packet: TracedPacket, here: _Here, bridge: Link) -> bool:
    """Whether the destination is behind the same bridge, so that the frame is for it and not for this host."""
    if packet.path is TracePath.IN:
        return False
    if not here.mac_of(packet.destination):
        return False
    return (
        packet.out_device in here.ports(bridge)
        or bool(here.behind(bridge, packet.destination))
        or here.is_next_to(bridge, packet.destination)
    )


def _ends(packet: TracedPacket, here: _Here, rules: Rules | None) -> dict[str, Any]:
    """At whose egress hook the packet ends.

    Behind POSTROUTING where nobody has a chain further on: nothing is then asked of the neighbours, and conntrack keeps
    no entry.
    """
    if packet.path is TracePath.IN:
        return {}
    egress = rules is None or rules.watches_egress()
    bridge = here.bridge_of(packet.in_device) if packet.in_device else None
    if bridge is not None and (packet.protocol == "arp" or _is_bridged(packet, here, bridge)):
        ports = [port for port in here.ports(bridge) if port != packet.in_device]
        return {"egress_devices": ports, "elsewhere": egress, "out_device": bridge.name}
    link = here.link(packet.out_device)
    if link is None:
        return {}
    if link.loopback:
        return {"loopback": True}
    crosses = link.kind == "bridge" and (rules is None or rules.watches_bridges())
    if not egress and not crosses:
        return {}
    devices = here.ports(link) if link.kind == "bridge" else [link.name]
    return {"egress_devices": devices, "elsewhere": True}


def _bare(own: Address) -> str:
    return own.cidr.partition("/")[0]


def _neighbour_of(own: Address, besides: str = "") -> str:
    """Another address of the own prefix, as a peer on the wire would have it."""
    interface = ipaddress.ip_interface(own.cidr)
    network = interface.network
    if network.num_addresses < 4:
        raise UsageError(f"{own.cidr} leaves no room for a peer: --src says from whom")
    taken = {str(interface.ip), besides}
    return next(text for offset in range(1, 4) if (text := str(network.network_address + offset)) not in taken)
