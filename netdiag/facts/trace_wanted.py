"""A packet as the operator describes it, and what of that does not go together."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec

from netdiag.errors import UsageError
from netdiag.model.facts import HOST
from netdiag.model.protocols import NUMBERS, name_of
from netdiag.model.trace import TracedPacket, TracePath

PORTS = ("tcp", "udp")
ARP = "arp"
NAMED_PROTOCOLS = (*NUMBERS, ARP)
_HEAD_BYTES = {"tcp": 20, "udp": 16, "icmp": 16, "icmpv6": 16}
_TAG_BYTES = 8
"""The least that follows the IP header: all but a TCP packet of ours carry a tag of 8 bytes."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A packet as the operator describes it; empty and None is "not said".

    ``namespace`` is an id of the facts' namespaces: ``host``, ``container:NAME``, ``overlay:NETWORK`` …
    ``sender``: whose the socket is that sends it (``as_pid``, or ``as_user`` and ``as_group``); empty is this netdiag's own.
    ``later``: a TCP packet that follows the opening of its connection, which can only be waited for.
    """

    path: TracePath
    namespace: str = HOST
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
    mac: str = ""
    vxlan: bool = False
    later: bool = False
    sender: Mapping[str, int] = {}

    def packet(self, *, in_device: str, out_device: str, source: str, destination: str) -> TracedPacket:
        """The packet, with what was not said of its devices and ends."""
        return TracedPacket(
            path=self.path,
            namespace=self.namespace,
            in_device=in_device,
            out_device=out_device,
            source=source,
            destination=destination,
            protocol=self.protocol,
            source_port=self.source_port,
            destination_port=self.destination_port,
            icmp_type=self.icmp_type,
            tcp_flags=self.tcp_flags or None,
            ttl=self.ttl,
            length=self.length,
            vxlan=self.vxlan,
            mac=self.mac or None,
        )


def named(protocol: str) -> str:
    """A protocol by its name where it has one here, else its number as text. ValueError for what is neither."""
    lower = protocol.lower()
    if lower in NAMED_PROTOCOLS:
        return lower
    if lower.isdigit() and int(lower) < 256:
        return name_of(int(lower))
    raise ValueError(f"{protocol!r}: {', '.join(NAMED_PROTOCOLS)}, or a number below 256")


def version_of(wanted: Wanted) -> int | None:
    """4 or 6 where an address or the protocol tells. Raises UsageError for addresses of two families."""
    versions = {ipaddress.ip_address(each).version for each in (wanted.source, wanted.destination) if each}
    if len(versions) > 1:
        raise UsageError(f"--src {wanted.source} and --dst {wanted.destination} are of two families")
    told = {"icmpv6": 6, "icmp": 4, ARP: 4}.get(wanted.protocol)
    if told and versions and wanted.protocol != ARP and "icmp" in wanted.protocol:
        return versions.pop()  # the other family's ICMP is meant
    if told and versions and versions != {told}:
        raise UsageError(f"--proto {wanted.protocol} goes with IPv{told}: {wanted.source or wanted.destination}")
    return versions.pop() if versions else told


def checked(wanted: Wanted) -> Wanted:
    """What was said, with the protocol filled in. Raises UsageError where it does not go together."""
    version = version_of(wanted)
    if wanted.path is TracePath.OUT and not wanted.destination:
        raise UsageError("--path out: --dst says where to")
    if wanted.path is TracePath.FORWARD and not wanted.destination:
        raise UsageError("--path forward: --dst says where to")
    if wanted.path is TracePath.FORWARD and not (wanted.in_device or wanted.source):
        raise UsageError("--path forward: --in or --src says where it comes from")
    if wanted.path is TracePath.IN and wanted.out_device:
        raise UsageError("--out goes with --path out and --path forward")
    if wanted.path is TracePath.OUT and (wanted.in_device or wanted.mac):
        raise UsageError(f"{'--in' if wanted.in_device else '--mac'} goes with --path in and --path forward")
    protocol = _protocol(wanted, version)
    _check_protocol(wanted, protocol)
    least = (40 if version == 6 else 20) + _HEAD_BYTES.get(protocol, _TAG_BYTES)
    if wanted.length is not None and wanted.length < least:
        raise UsageError(f"--length {wanted.length}: at least {least} for {protocol}")
    return msgspec.structs.replace(wanted, protocol=protocol)


def _protocol(wanted: Wanted, version: int | None) -> str:
    ports = wanted.source_port is not None or wanted.destination_port is not None
    icmp = "icmpv6" if version == 6 else "icmp"
    protocol = wanted.protocol or ("tcp" if ports or wanted.tcp_flags else icmp)
    return icmp if protocol in ("icmp", "icmpv6") else protocol


def _check_protocol(wanted: Wanted, protocol: str) -> None:
    ports = wanted.source_port is not None or wanted.destination_port is not None
    if protocol in PORTS and wanted.destination_port is None:
        raise UsageError(f"--proto {protocol}: --dport says to which port")
    if protocol not in PORTS and ports:
        raise UsageError(f"--proto {protocol} has no ports")
    if protocol != "tcp" and wanted.tcp_flags:
        raise UsageError(f"--tcp-flags does not go with --proto {protocol}")
    if protocol not in ("icmp", "icmpv6") and wanted.icmp_type is not None:
        raise UsageError(f"--icmp-type does not go with --proto {protocol}")
    if protocol == ARP:
        if wanted.path is TracePath.OUT:
            raise UsageError("--proto arp: only a request that arrives can be traced (--path in or forward)")
        if wanted.ttl is not None or wanted.length is not None:
            raise UsageError("--proto arp has neither --ttl nor --length")
