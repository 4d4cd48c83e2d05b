"""A packet, saved rules, and what is known of their host: what the model says of it, as a trace would be told."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.copied_host import SYSCTLS
from netdiag.facts.explain_host import explainer_of
from netdiag.facts.trace_here import Here, bare
from netdiag.facts.trace_wanted import Wanted, checked
from netdiag.firewall.explain import Explainer, read_rule_sets
from netdiag.firewall.proof import line_of
from netdiag.model.explain import Explanation
from netdiag.model.facts import Address, Facts, Link, NextHop, Route, RuleSet, Section
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Rewrite, Trace, TracedPacket, TracePath, TraceVerdict

COMPUTED = "computed from the rules, not seen by a kernel"
_FIRST, _SECOND = "eth0", "eth1"
"""What devices are called of which nothing was said: the model has found that it does not matter."""
_NOBODYS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
_MAIN_TABLE = 254


def explainer_for(facts: Facts | None, namespace: str, rule_sets: tuple[RuleSet, ...]) -> Explainer:
    """These rules, ready to be asked, with what is known of their host (None: nothing)."""
    if facts is None:
        return Explainer(read_rule_sets(rule_sets))
    absent = {name: why for name, why in facts.firewall.partial.items() if name == namespace}
    firewall = Section(value={namespace: rule_sets}, partial=absent)
    return explainer_of(msgspec.structs.replace(facts, firewall=firewall), namespace)[0]


def packet_of(wanted: Wanted, facts: Facts | None) -> TracedPacket:
    """The packet, with what the host's facts add to what was said. Raises UsageError for what does not go together."""
    wanted = checked(wanted)
    in_device, out_device, source, destination = (
        wanted.in_device,
        wanted.out_device,
        wanted.source,
        wanted.destination,
    )
    if facts is not None:
        here = Here(facts, wanted.namespace)
        here.require(in_device, "--in")
        here.require(out_device, "--out")
        routes = (facts.routes.value or {}).get(wanted.namespace, ())
        if wanted.path is not TracePath.OUT and source and not in_device:
            in_device = _device_to(source, routes)
        if wanted.path is not TracePath.IN and not out_device:
            out_device = _device_to(destination, routes)
        version = 6 if ":" in source + destination else 4
        device = out_device if wanted.path is TracePath.OUT else in_device
        own = here.own_address(device, "", version) if device else None
        if own is not None:
            source = source or (bare(own) if wanted.path is TracePath.OUT else "")
            destination = destination or bare(own)
    return wanted.packet(in_device=in_device, out_device=out_device, source=source, destination=destination)


def _device_to(address: str, routes: tuple[Route, ...]) -> str:
    """The device of the main table's best route; empty where there is none, or it is not the only one."""
    target = ipaddress.ip_address(address)
    fitting = [
        (network.prefixlen, -route.metric, route)
        for route in routes
        if route.table == _MAIN_TABLE
        and (network := ipaddress.ip_network(route.destination, strict=False)).version == target.version
        and target in network
    ]
    best = max(fitting, key=lambda each: each[:2])[2] if fitting else None
    hops = {hop.device for hop in best.next_hops} if best is not None and best.type == "unicast" else set()
    return hops.pop() if len(hops) == 1 else ""


def as_trace(found: Explanation, packet: TracedPacket) -> Trace:
    """What the model says in the form of a trace: likely at most."""
    known = found.verdict is not TraceVerdict.UNKNOWN
    before = Endpoints(
        source=packet.source,
        destination=packet.destination,
        source_port=packet.source_port,
        destination_port=packet.destination_port,
    )
    return Trace(
        verdict=found.verdict,
        rule=found.rule,
        policy=found.policy,
        confidence=Confidence.LIKELY if known else Confidence.POSSIBLE,
        path=found.path,
        nat=(Rewrite(before=before, after=found.after),) if found.after is not None else (),
        level=Level.FACTS,
        elapsed_ms=None,
        reason=found.reason or COMPUTED,
        packet=packet,
    )


def computed(facts: Facts | None, rule_sets: tuple[RuleSet, ...], packet: TracedPacket) -> Trace:
    """What becomes of a packet, as the model says. Raises UsageError for a packet that does not go together."""
    try:
        found = explainer_for(facts, packet.namespace, rule_sets).explain(line_of(packet))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return as_trace(found, packet)


class Invented(msgspec.Struct, frozen=True, kw_only=True):
    """A host for rules of which nothing else is known: devices, addresses and routes such that the packet gets through."""

    facts: Facts
    sysctls: Mapping[str, str]
    packet: TracedPacket


def invented(packet: TracedPacket, host: Facts) -> Invented:
    """A host that a packet goes through as it was described. ``host`` is the machine that the copy is made on."""
    version = 6 if ":" in packet.source + packet.destination else 4
    nobody = next(each for each in _NOBODYS[version] if each not in (packet.source, packet.destination))
    outward, forwarded = packet.path is TracePath.OUT, packet.path is TracePath.FORWARD
    in_device = "" if outward else packet.in_device or _FIRST
    out_device = (packet.out_device or (_FIRST if in_device != _FIRST else _SECOND)) if outward or forwarded else ""
    source, destination = packet.source or (nobody if outward else ""), packet.destination or nobody
    own = source if outward else nobody if forwarded else destination
    first = in_device or out_device
    wide, everything = (128, "::/0") if version == 6 else (32, "0.0.0.0/0")
    routes = [Route(destination=everything, next_hops=(NextHop(device=first),))]
    if forwarded:
        routes.append(Route(destination=f"{destination}/{wide}", next_hops=(NextHop(device=out_device),)))
    devices = [name for name in dict.fromkeys((in_device, out_device)) if name]
    links = [Link(index=1, name="lo", loopback=True, up=True)]
    links += [Link(index=at, name=name, up=True, mtu_bytes=1500) for at, name in enumerate(devices, start=2)]
    settings = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
    settings |= {f"net/ipv4/conf/{name}/rp_filter": "0" for name in ("all", "default", *devices)}
    space = packet.namespace
    return Invented(
        facts=msgspec.structs.replace(
            host,
            links=Section(value={space: tuple(links)}),
            addresses=Section(value={space: (Address(device=first, cidr=f"{own}/{wide}"),)}),
            routes=Section(value={space: tuple(routes)}),
            rules=Section(value={}),
            neighbours=Section(value={}),
            fdb=Section(value={}),
        ),
        sysctls=settings,
        packet=msgspec.structs.replace(
            packet, in_device=in_device, out_device=out_device, source=source, destination=destination
        ),
    )


def sysctl_paths(named: Mapping[str, str]) -> dict[str, str]:
    """The settings that a copy needs, by their paths below /proc/sys.

    Args:
        named: By names as sysctl(8) spells them, with a slash for a device's dot.
    """
    paths = {"/".join(part.replace("/", ".") for part in name.split(".")): value for name, value in named.items()}
    return {path: value for path, value in paths.items() if any(fnmatchcase(path, each) for each in SYSCTLS)}
