"""The little that is read of a peer before probes are sent: who it is, its devices, addresses and routes.

Of the host's own namespace only, and in as few rounds as can be: there may be hundreds of peers.
"""

from __future__ import annotations

from netdiag.facts.basics import gather_clock, gather_identity
from netdiag.facts.context import Context, Options
from netdiag.facts.rounds import together
from netdiag.facts.tables import gather_addresses, gather_links, gather_routes
from netdiag.model.facts import HOST, Facts, Namespace
from netdiag.model.wire import Gather


def gather_peer(now_s: float) -> Gather[Facts]:
    """The sections identity, clock, links, addresses and routes; the others stay absent."""
    context = Context(options=Options(), namespaces={HOST: Namespace(id=HOST, path="", inode=0)})
    identity, clock, links = yield from together(
        [gather_identity(context), gather_clock(context), gather_links(context)]
    )
    context = Context(options=Options(), namespaces=context.namespaces, links=links.value or {})
    addresses, routes = yield from together([gather_addresses(context), gather_routes(context)])
    return Facts(collected_s=now_s, identity=identity, clock=clock, links=links, addresses=addresses, routes=routes)
