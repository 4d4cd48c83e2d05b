"""What a trace must know of the namespace that it is made in: devices, addresses, neighbours and settings."""

from __future__ import annotations

import msgspec

from netdiag.facts.context import Context, texts, within
from netdiag.facts.rounds import together
from netdiag.facts.tables import gather_addresses, gather_fdb, gather_links, gather_neighbours
from netdiag.facts.trace_here import namespace_of
from netdiag.facts.trace_wanted import Wanted
from netdiag.model.facts import Facts
from netdiag.model.trace import TracedPacket, TracePath
from netdiag.model.wire import Gather, Request


def gather_surroundings(wanted: Wanted, facts: Facts, context: Context) -> Gather[Facts]:
    """The facts with the sections that a trace needs, read in its own namespace only.

    A packet that is forwarded may be for another namespace's address, which then gives the frame's destination: so all
    of them are read.
    """
    namespaces = {wanted.namespace: namespace_of(facts, wanted.namespace)}
    if wanted.path is TracePath.FORWARD:
        namespaces = {**(facts.namespaces.value or {}), **namespaces}
    context = msgspec.structs.replace(context, namespaces=namespaces)
    links = yield from gather_links(context)
    context = msgspec.structs.replace(context, links=links.value or {})
    addresses, neighbours, fdb = yield from together(
        [gather_addresses(context), gather_neighbours(context), gather_fdb(context)]
    )
    return msgspec.structs.replace(facts, links=links, addresses=addresses, neighbours=neighbours, fdb=fdb)


def gather_suspects(packet: TracedPacket, facts: Facts) -> Gather[tuple[str, ...]]:
    """Settings that lose such a packet outside the filters, in words; none when they could not be read."""
    if packet.path is TracePath.OUT:
        return ()
    six = ":" in packet.destination
    version = "ipv6" if six else "ipv4"
    forwarding = f"/proc/sys/net/{version}/conf/{packet.in_device}/forwarding"
    filters = [] if six else [f"/proc/sys/net/ipv4/conf/{name}/rp_filter" for name in ("all", packet.in_device)]
    params = within(namespace_of(facts, packet.namespace), {"globs": [forwarding, *filters]})
    (answer,) = yield [Request("files", params, 1.0)]
    found = {path: text.strip() for path, text in texts(answer).items()}
    suspects: list[str] = []
    if packet.path is TracePath.FORWARD and found.get(forwarding) == "0":
        suspects.append(f"net.{version}.conf.{packet.in_device}.forwarding is 0, so nothing is forwarded from there")
    strictest = max((int(found[path]) for path in filters if found.get(path, "").isdigit()), default=0)
    if strictest:
        kind = "strict" if strictest == 1 else "loose"
        suspects.append(f"the reverse path filter of {packet.in_device} is {kind} ({strictest})")
    return tuple(suspects) + _programs(packet, facts)


def _programs(packet: TracedPacket, facts: Facts) -> tuple[str, ...]:
    links = (facts.links.value or {}).get(packet.namespace, ())
    return tuple(
        f"an XDP program ({link.xdp_mode}) is on {link.name}"
        for link in links
        if link.name == packet.in_device and link.xdp_mode
    )
