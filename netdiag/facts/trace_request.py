"""What the participant is asked for a trace: how a packet that is sent goes through, or which one is waited for."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from netdiag.errors import UsageError
from netdiag.facts.trace_here import Here, is_multicast
from netdiag.facts.trace_wanted import PORTS, Wanted
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Facts, Link
from netdiag.model.level import Level
from netdiag.model.trace import TracedPacket, TracePath
from netdiag.model.wire import Request


def request_of(
    packet: TracedPacket,
    facts: Facts,
    *,
    wait_ms: int,
    rules: Rules | None = None,
    level: Level = Level.OWNED_TRACE,
    legacy: bool = False,
    sender: Mapping[str, int] | None = None,
) -> Request:
    """The participant's part. It must have been made sure before that it loads no module that may not be loaded.

    Args:
        packet: What is sent.
        facts: Of this host.
        wait_ms: How long the kernel is listened to.
        rules: Without them the packet is followed as far as anybody could have a chain.
        level: Whose table it makes.
        sender: Whose the socket is that sends it, as in `Wanted`.
        legacy: Listen to legacy chains where the rules have any. One trace in a namespace can do so at a time.
    """
    here = Here(facts, packet.namespace)
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
        "payload": "vxlan" if packet.vxlan else None,
    }
    params.update({name: value for name, value in optional.items() if value is not None})
    if packet.path is not TracePath.OUT:
        params.update(_frame(packet, here))
    params.update(_ends(packet, facts, here, rules))
    params.update(sender or {})
    return Request("firewall-trace", params, timeout_s=wait_ms / 1000 + 3.0)


def watch_request(wanted: Wanted, facts: Facts, *, wait_s: float, level: Level = Level.OWNED_TRACE) -> Request:
    """The request that waits for somebody else's packet. Raises UsageError where it says too little or too much."""
    here = Here(facts, wanted.namespace)
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
        "later": wanted.later or None,
    }
    params.update({name: value for name, value in optional.items() if value is not None})
    return Request("firewall-watch", params, timeout_s=wait_s + 3.0)


def _frame(packet: TracedPacket, here: Here) -> dict[str, Any]:
    """The addresses of its frame, and whether a bridge passes it on."""
    bridge = here.bridge_of(packet.in_device)
    if bridge is None:
        entries = [row for row in here.neighbours if row.address == packet.source and row.device == packet.in_device]
        known = next((row.mac for row in entries if len(row.mac) == 17), None)
        mac = packet.mac or known
        given = {"mac": mac, "frame_mac": _group_mac(packet.destination, here)}
        return {name: value for name, value in given.items() if value}
    frame: dict[str, Any] = {}
    # Whoever sends it, its frames come from the one station that is there.
    mac = packet.mac or here.mac_of(packet.source) or here.station_at(packet.in_device)
    if mac and (packet.mac or here.port_of(mac, bridge) == packet.in_device):
        frame["mac"] = mac
    # A bridge learns from every frame. What it knows already it may see again; of all else it must know what it knew.
    if not mac or here.port_of(mac, bridge) != packet.in_device:
        frame["forget_mac"] = True
    target = here.mac_of(packet.destination) if _is_bridged(packet, here, bridge) else ""
    frame["frame_mac"] = target or ("" if packet.protocol == "arp" else bridge.mac)
    if target or packet.protocol == "arp":
        frame["bridged"] = True
    return frame


def _group_mac(address: str, here: Here) -> str:
    """The link address of a frame for everybody or for a group (RFC 1112, 2464); empty for one host's."""
    if here.is_broadcast(address):
        return "ff:ff:ff:ff:ff:ff"
    if not is_multicast(address):
        return ""
    packed = ipaddress.ip_address(address).packed
    octets = b"\x33\x33" + packed[-4:] if len(packed) == 16 else b"\1\0\x5e" + bytes([packed[1] & 0x7F]) + packed[2:]
    return octets.hex(":")


def port_of(packet: TracedPacket, facts: Facts) -> str:
    """The port of a bridge by which the packet should leave; empty where it leaves by none, or by which is not known."""
    here = Here(facts, packet.namespace)
    if here.bridge_of(packet.out_device) is not None:
        return packet.out_device
    link = here.link(packet.out_device)
    if link is None or link.kind != "bridge" or not packet.destination:
        return ""
    return here.behind(link, packet.destination) if here.is_next_to(link, packet.destination) else ""


def _is_bridged(packet: TracedPacket, here: Here, bridge: Link) -> bool:
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


def _ends(packet: TracedPacket, facts: Facts, here: Here, rules: Rules | None) -> dict[str, Any]:
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
        copied = {"copied": "forward", "port": port_of(packet, facts)}
        return {"egress_devices": ports, "elsewhere": egress, "out_device": bridge.name, **copied}
    link = here.link(packet.out_device)
    if link is None:
        return {}
    if link.loopback:
        return {"loopback": True}
    crosses = link.kind == "bridge" and (rules is None or rules.watches_bridges())
    if not egress and not crosses:
        return {}
    if link.kind != "bridge":
        return {"egress_devices": [link.name], "elsewhere": True}
    port = port_of(packet, facts)
    copied = {"copied": "output", "port": port} if crosses else {}
    return {"egress_devices": here.ports(link), "elsewhere": True, **copied}
