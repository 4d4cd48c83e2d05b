"""By which of its addresses a host takes part in overlays: a data path may have a network of its own.

The engine tells only the address by which a node is managed (``docker swarm init --data-path-addr``); where its tunnels
end is told by the tables of its peers.
"""

from __future__ import annotations

from netdiag.model.facts import HOST, Facts


def own_addresses(facts: Facts) -> frozenset[str]:
    """The addresses of a host, in its own namespace."""
    return frozenset(row.cidr.partition("/")[0] for row in (facts.addresses.value or {}).get(HOST, ()))


def vtep_of(host: Facts, peer: Facts, *, network: str = "") -> str:
    """The address behind which a peer's overlays have containers of a host; empty when no table of the peer tells.

    Args:
        host: Whose address.
        peer: Whose tables.
        network: The overlay that is asked first.
    """
    own = own_addresses(host)
    first = f"overlay:{network}"
    tables = peer.fdb.value or {}
    names = sorted((name for name in tables if name.startswith("overlay:")), key=lambda name: name != first)
    return next((row.vtep for name in names for row in tables[name] if row.vtep in own), "")
