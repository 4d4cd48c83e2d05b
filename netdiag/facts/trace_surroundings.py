"""What a trace must know of the namespace that it is made in: devices, addresses, neighbours and settings."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from netdiag.facts.context import Context, texts, within
from netdiag.facts.rounds import together
from netdiag.facts.route_lookup import gather_lookup
from netdiag.facts.tables import gather_addresses, gather_fdb, gather_links, gather_neighbours
from netdiag.facts.trace_here import Here, is_link_local, namespace_of
from netdiag.facts.trace_wanted import Wanted
from netdiag.model.facts import Facts
from netdiag.model.trace import Trace, TracedPacket, TracePath, TraceVerdict
from netdiag.model.wire import Gather, Request


def gather_surroundings(wanted: Wanted, facts: Facts, context: Context, *, everywhere: bool = False) -> Gather[Facts]:
    """The facts with the sections that a trace needs, read in its own namespace only.

    A packet that is forwarded may be for another namespace's address, which then gives the frame's destination: so all
    of them are read; ``everywhere`` has them read for other packets as well.
    """
    namespaces = {wanted.namespace: namespace_of(facts, wanted.namespace)}
    if everywhere or wanted.path is TracePath.FORWARD:
        namespaces = {**(facts.namespaces.value or {}), **namespaces}
    context = msgspec.structs.replace(context, namespaces=namespaces)
    links = yield from gather_links(context)
    context = msgspec.structs.replace(context, links=links.value or {})
    addresses, neighbours, fdb = yield from together(
        [gather_addresses(context), gather_neighbours(context), gather_fdb(context)]
    )
    return msgspec.structs.replace(facts, links=links, addresses=addresses, neighbours=neighbours, fdb=fdb)


class Suspects(NamedTuple):
    """Settings that lose such a packet outside the filters, in words.

    Attributes:
        always: On whichever way it goes.
        forwarded: Where it goes on to another host or namespace.
    """

    always: tuple[str, ...] = ()
    forwarded: tuple[str, ...] = ()


def gather_suspects(packet: TracedPacket, facts: Facts) -> Gather[Suspects]:
    """What could lose a packet; nothing when it could not be read."""
    if packet.path is TracePath.OUT:
        return Suspects()
    bridge = Here(facts, packet.namespace).bridge_of(packet.in_device)
    device = bridge.name if bridge is not None else packet.in_device
    six = ":" in packet.destination
    version = "ipv6" if six else "ipv4"
    forwarding = f"/proc/sys/net/{version}/conf/{device}/forwarding"
    filters = [] if six else [f"/proc/sys/net/ipv4/conf/{name}/rp_filter" for name in ("all", device)]
    params = within(namespace_of(facts, packet.namespace), {"globs": [forwarding, *filters]})
    (answer,) = yield [Request("files", params, 1.0)]
    found = {path: text.strip() for path, text in texts(answer).items()}
    forwarded: tuple[str, ...] = ()
    if found.get(forwarding) == "0":
        forwarded = (f"net.{version}.conf.{device}.forwarding is 0, so nothing is forwarded from there",)
    always: tuple[str, ...] = ()
    strictest = max((int(found[path]) for path in filters if found.get(path, "").isdigit()), default=0)
    if strictest:
        kind = "strict" if strictest == 1 else "loose"
        always = (f"the reverse path filter of {device} is {kind} ({strictest})",)
    return Suspects(always + _programs(packet, facts), forwarded)


_ANSWERED = ("tcp", "udp", "icmp", "icmpv6")


def gather_answer_route(found: Trace, netns: str) -> Gather[Trace]:
    """The answer of a trace with what it does not cover: the way back of what would be answered.

    No answer can be sent here that connection tracking takes for one, so only its route is looked up, by its destination.
    """
    packet = found.packet
    if found.verdict is not TraceVerdict.ACCEPT or packet.path is not TracePath.IN or packet.protocol not in _ANSWERED:
        return found
    said = "only this packet was followed, not its answer"
    if not is_link_local(packet.source):
        absent = (yield from gather_lookup(packet.source, netns)).route.absent
        if absent is not None:
            said = f"an answer does not come back: {absent.text}"
    return msgspec.structs.replace(found, reason="; ".join(filter(None, (found.reason, said))))


def _programs(packet: TracedPacket, facts: Facts) -> tuple[str, ...]:
    links = (facts.links.value or {}).get(packet.namespace, ())
    return tuple(
        f"an XDP program ({link.xdp_mode}) is on {link.name}"
        for link in links
        if link.name == packet.in_device and link.xdp_mode
    )
