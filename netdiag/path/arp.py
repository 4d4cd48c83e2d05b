"""Who is asked for a hardware address, and why the kernel that should answer keeps silent; pure (RFC 826)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from netdiag.causes import cause
from netdiag.model.facts import HOST, Address
from netdiag.model.report import Cause, Confidence, Evidence, Remedy
from netdiag.path.ways import Host
from netdiag.shell import shell_text

_ARP, _REQUEST, _REPLY = 0x0806, 1, 2
_BODY = struct.Struct(">HHBBH6s4s6s4s")


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the search for one address at one device: requests, replies, and from whom requests came."""

    requests: int = 0
    replies: int = 0
    askers: tuple[str, ...] = ()


def heard_of(address: str, frames: Iterable[bytes]) -> Heard:
    """Count the requests for an address, and the replies that tell it."""
    wanted = ipaddress.ip_address(address).packed
    requests = replies = 0
    askers: list[str] = []
    for frame in frames:
        if len(frame) < 14 + _BODY.size or struct.unpack_from(">H", frame, 12)[0] != _ARP:
            continue
        _, _, _, _, kind, _, sender, _, target = _BODY.unpack_from(frame, 14)
        if kind == _REQUEST and target == wanted and sender != wanted:
            requests += 1
            askers.append(str(ipaddress.ip_address(sender)))
        elif kind == _REPLY and sender == wanted:
            replies += 1
    return Heard(requests=requests, replies=replies, askers=tuple(dict.fromkeys(askers)))


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A search for an address that came to a host and was not answered.

    Attributes:
        address: What is asked for.
        host: Who should answer.
        device: By which of its devices the requests come (a bridge, where they come by a port of it).
        heard: What was seen there.
        settings: sysctls of that host's own namespace, by name.
        leaves_by: By which device that host itself would send to the address; empty where it has no route.
    """

    address: str
    host: Host
    device: str
    heard: Heard
    settings: Mapping[str, str]
    leaves_by: str = ""

    def key(self, name: str, device: str = "") -> str:
        """A setting's name."""
        return f"net.ipv4.conf.{(device or self.device).replace('.', '/')}.{name}"

    def value(self, name: str, device: str = "") -> int | None:
        """A setting's value; None where it could not be read."""
        text = self.settings.get(self.key(name, device), "")
        return int(text) if text.isdigit() else None


def silence_causes(search: Search) -> Iterator[Cause]:
    """Why a host does not answer for an address that is asked for at one of its devices; nothing where it does."""
    if not search.heard.requests or search.heard.replies:
        return
    rows = (search.host.facts.addresses.value or {}).get(HOST, ())
    own = next((row for row in rows if row.cidr.partition("/")[0] == search.address), None)
    one = _ignored(search, own) if own is not None else _unproxied(search)
    if one is not None:
        yield one


def _ignored(search: Search, own: Address) -> Cause | None:
    """The larger of the device's value and all's counts (Documentation/networking/ip-sysctl.rst)."""
    device, everywhere = search.value("arp_ignore"), search.value("arp_ignore", "all")
    if device is None or everywhere is None:
        return None
    effective = max(device, everywhere)
    if not _is_ignored(effective, search, own):
        return None
    key = search.key("arp_ignore", "" if device >= everywhere else "all")
    set_keys = [
        (search.key("arp_ignore", name), value) for name, value in (("", device), ("all", everywhere)) if value > 0
    ]
    balanced = own.device == "lo"
    return cause(
        "sysctl.arp-ignore",
        host=search.host.name,
        object={
            "kind": "sysctl",
            "key": key,
            "value": str(effective),
            "wanted": "0",
            "device": search.device,
            "address": search.address,
        },
        confidence=Confidence.LIKELY if balanced else Confidence.PROVEN,
        explanation=(
            f"{', '.join(search.heard.askers)} asks by ARP for {search.address}, which {search.host.name} has on"
            f" {own.device}; the request comes in by {search.device} and is not answered: arp_ignore is {effective} there"
            f" (the larger of {search.device}, {device}, and all, {everywhere})."
            + (" A real server behind a load balancer (LVS) is set up so, on purpose." if balanced else "")
        ),
        evidence=_seen(search),
        remedy=(
            Remedy(
                host=search.host.name,
                summary=f"answer ARP on {search.device} for addresses of other devices",
                commands=tuple(shell_text(["sysctl", "-w", f"{name}=0"]) for name, _ in set_keys),
                undo=tuple(shell_text(["sysctl", "-w", f"{name}={value}"]) for name, value in reversed(set_keys)),
            ),
        ),
    )


def _is_ignored(effective: int, search: Search, own: Address) -> bool:
    elsewhere = own.device != search.device
    if effective == 1:
        return elsewhere
    if effective == 2:
        network = ipaddress.ip_interface(own.cidr).network
        return elsewhere or any(ipaddress.ip_address(each) not in network for each in search.heard.askers)
    if effective == 3:
        return own.scope == "host"
    return effective == 8


def _unproxied(search: Search) -> Cause | None:
    """A router answers for addresses that are not its own only where it may, and has a route by another device."""
    device, everywhere = search.value("proxy_arp"), search.value("proxy_arp", "all")
    if device is None or everywhere is None or device or everywhere:
        return None
    if not search.leaves_by or search.leaves_by == search.device:
        return None
    key = search.key("proxy_arp")
    return cause(
        "sysctl.proxy-arp",
        host=search.host.name,
        object={
            "kind": "sysctl",
            "key": key,
            "value": "0",
            "wanted": "1",
            "device": search.device,
            "address": search.address,
        },
        confidence=Confidence.PROVEN,
        explanation=(
            f"{', '.join(search.heard.askers)} asks by ARP for {search.address} at {search.device} of {search.host.name},"
            f" which has it nowhere and is its gateway: it would answer for it, and {key} is 0."
        ),
        evidence=_seen(search),
        remedy=(
            Remedy(
                host=search.host.name,
                summary=f"answer on {search.device} for what is behind this host",
                commands=(shell_text(["sysctl", "-w", f"{key}=1"]),),
                undo=(shell_text(["sysctl", "-w", f"{key}=0"]),),
            ),
        ),
    )


def _seen(search: Search) -> tuple[Evidence, ...]:
    heard = search.heard
    return (
        Evidence(
            "capture",
            f"{search.device} of {search.host.name}: {heard.requests} ARP requests for {search.address}, {heard.replies}"
            " replies",
            {"requests": heard.requests, "replies": heard.replies},
        ),
    )
