"""The packet that a trace sends: what the operator said, and what this host's facts give for the rest."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.route_lookup import gather_lookup
from netdiag.model.facts import HOST, Address, Facts
from netdiag.model.trace import TracedPacket, TracePath
from netdiag.model.wire import Gather, Request

_PORTS = ("tcp", "udp")
_HEADS = {"tcp": 20, "udp": 16, "icmp": 16, "icmpv6": 16}
"""The least that follows the IP header: a UDP or ICMP packet of ours carries a tag of 8 bytes."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A packet as the operator describes it; empty and None is "not said"."""

    path: TracePath
    in_device: str = ""
    out_device: str = ""
    source: str = ""
    destination: str = ""
    protocol: str = ""
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    tcp_flags: str = ""
    ttl: int | None = None
    length: int | None = None


def gather_packet(wanted: Wanted, facts: Facts) -> Gather[TracedPacket]:
    """The whole packet. Raises UsageError where neither the operator nor the host says what is needed."""
    wanted = _checked(wanted)
    if wanted.path is TracePath.OUT:
        device, source = wanted.out_device, wanted.source
        if not (device and source):
            found = (yield from gather_lookup(wanted.destination)).route
            if found.absent is not None:
                raise UsageError(f"--dst {wanted.destination}: {found.absent.text}")
            device, source = device or found.device, source or found.source
        return _packet(wanted, device, source, wanted.destination)
    device, destination, source = wanted.in_device, wanted.destination, wanted.source
    if source and not (device and destination):
        route = (yield from gather_lookup(source)).route
        destination = destination or ("" if device and route.device != device else route.source)
        device = device or route.device
    own = _own_address(facts, device, destination, 6 if ":" in source + destination else 4)
    if own is None:
        raise UsageError(f"no address of this host for {device or destination or 'the packet'}: give --in and --dst")
    return _packet(wanted, device or own.device, source or _neighbour_of(own), destination or _bare(own))


def request_of(packet: TracedPacket, facts: Facts, *, wait_ms: int) -> Request:
    """The participant's part. It must have been made sure before that it loads no module that may not be loaded."""
    params: dict[str, Any] = {
        "path": packet.path.value,
        "device": packet.in_device or packet.out_device,
        "src": packet.source,
        "dst": packet.destination,
        "proto": packet.protocol,
        "wait_ms": wait_ms,
        "may_load": True,
    }
    optional = {
        "sport": packet.source_port,
        "dport": packet.destination_port,
        "icmp_type": packet.icmp_type,
        "tcp_flags": packet.tcp_flags,
        "ttl": packet.ttl,
        "length": packet.length,
        "mac": _mac(facts, packet) if packet.path is TracePath.IN else None,
    }
    params.update({name: value for name, value in optional.items() if value is not None})
    return Request("firewall-trace", params, timeout_s=wait_ms / 1000 + 3.0)


def _checked(wanted: Wanted) -> Wanted:
    """What was said, with the protocol filled in. Raises UsageError where it does not go together."""
    versions = {ipaddress.ip_address(each).version for each in (wanted.source, wanted.destination) if each}
    if len(versions) > 1:
        raise UsageError(f"--src {wanted.source} and --dst {wanted.destination} are of two families")
    if wanted.path is TracePath.OUT and not wanted.destination:
        raise UsageError("--path out: --dst says where to")
    ports = wanted.source_port is not None or wanted.destination_port is not None
    icmp = "icmpv6" if versions == {6} else "icmp"
    protocol = wanted.protocol or ("tcp" if ports or wanted.tcp_flags else icmp)
    protocol = icmp if protocol in ("icmp", "icmpv6") else protocol
    if protocol in _PORTS and wanted.destination_port is None:
        raise UsageError(f"--proto {protocol}: --dport says to which port")
    if protocol not in _PORTS and ports:
        raise UsageError(f"--proto {protocol} has no ports")
    if protocol != "tcp" and wanted.tcp_flags:
        raise UsageError(f"--tcp-flags does not go with --proto {protocol}")
    if protocol in _PORTS and wanted.icmp_type is not None:
        raise UsageError(f"--icmp-type does not go with --proto {protocol}")
    least = (40 if versions == {6} else 20) + _HEADS[protocol]
    if wanted.length is not None and wanted.length < least:
        raise UsageError(f"--length {wanted.length}: at least {least} for {protocol}")
    return msgspec.structs.replace(wanted, protocol=protocol)


def _packet(wanted: Wanted, device: str, source: str, destination: str) -> TracedPacket:
    if wanted.path is TracePath.IN and device == "lo":
        raise UsageError(
            f"{source} is this host itself: a packet from it never arrives on an interface; try --path out"
        )
    return TracedPacket(
        path=wanted.path,
        in_device=device if wanted.path is TracePath.IN else "",
        out_device=device if wanted.path is TracePath.OUT else "",
        source=source,
        destination=destination,
        protocol=wanted.protocol,
        source_port=wanted.source_port,
        destination_port=wanted.destination_port,
        icmp_type=wanted.icmp_type,
        tcp_flags=wanted.tcp_flags or None,
        ttl=wanted.ttl,
        length=wanted.length,
    )


def _own_address(facts: Facts, device: str, address: str, version: int) -> Address | None:
    """The host's address that was named, or its first one (of the device that was named)."""
    up = {link.name for link in (facts.links.value or {}).get(HOST, ()) if link.up and not link.loopback}
    for own in (facts.addresses.value or {}).get(HOST, ()):
        interface = ipaddress.ip_interface(own.cidr)
        if interface.version != version or own.device not in up or (device and own.device != device):
            continue
        if address == str(interface.ip) or (not address and own.scope == "global"):
            return own
    return None


def _bare(own: Address) -> str:
    return own.cidr.partition("/")[0]


def _neighbour_of(own: Address) -> str:
    """Another address of the own prefix, as a peer on the wire would have it."""
    interface = ipaddress.ip_interface(own.cidr)
    network = interface.network
    if network.num_addresses < 4:
        raise UsageError(f"{own.cidr} leaves no room for a peer: --src says from whom")
    first = network.network_address + 1
    return str(first if first != interface.ip else first + 1)


def _mac(facts: Facts, packet: TracedPacket) -> str | None:
    """The MAC address of the packet's source where this host knows it."""
    for entry in (facts.neighbours.value or {}).get(HOST, ()):
        if entry.address == packet.source and entry.device == packet.in_device and len(entry.mac) == 17:
            return entry.mac
    return None
