"""A destination without a port: once an echo is answered, the ports that it listens on, and the sizes that pass."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.host.diagnose_attempt import MOST_TASKS, try_ports
from netdiag.host.diagnose_bursts import look_between
from netdiag.host.diagnose_parties import Planned, netns_of
from netdiag.model.found import Found
from netdiag.model.path import PathKind, Side, Way
from netdiag.model.wire import Request
from netdiag.path.between import between_founds
from netdiag.path.layers import Row, open_ports, port_found, sizes_asked, sizes_found

_SIZES_S = 0.8


def further_layers(planned: Planned) -> tuple[Planned | None, list[Found]]:
    """Try the ports that the destination listens on, and large packets both ways.

    Returns:
        The same flow to the first port that does not answer, which is to be explained; None where all do. And what is
        to be said of the rest.
    """
    party = planned.parties.get(Side.DESTINATION)
    if party is None:
        return None, []
    found: list[Found] = []
    ports = open_ports(party.facts, planned.way)[:MOST_TASKS]
    broken: int | None = None
    for port, attempt in try_ports(planned, ports):
        if attempt.answered or broken is not None:
            found.append(port_found(planned.way, port, attempt))
        else:
            broken = port
    found.append(_sizes(planned))
    if broken is None:
        return None, found
    return msgspec.structs.replace(planned, way=with_port(planned.way, broken)), found


def layer_between(planned: Planned) -> list[Found]:
    """What the network between the hosts does to packets of the way, of which an echo or two says little."""
    way, party = planned.way, planned.parties.get(Side.DESTINATION)
    ports = open_ports(party.facts, way) if party is not None and way.port is None else []
    seen = look_between(planned, port=next(iter(ports), None))
    return list(between_founds(way, seen, needed=True)) if seen is not None else []


def with_port(way: Way, port: int) -> Way:
    """The same way for a tcp port."""
    places = tuple(msgspec.structs.replace(place, port=port) for place in way.places)
    return msgspec.structs.replace(way, protocol="tcp", port=port, places=places)


def _sizes(planned: Planned) -> Found:
    """Echoes of growing size with DF set, from either end."""
    way = planned.way
    largest: list[Sequence[Row] | None] = []
    for side, end, other in ((Side.SOURCE, way.source, way.target), (Side.DESTINATION, way.destination, "")):
        party = planned.parties[side]
        # A container's address is translated behind its host: nobody can call it there.
        target = other or (way.source.address if way.kind is not PathKind.ROUTED else "")
        if not target:
            largest.append(None)
            continue
        sizes = sizes_asked(party.facts, end)
        netns = netns_of(party.facts, end.namespace)
        params = {"address": target, "sizes": sizes, "attempts": 2, **({"netns": netns} if netns else {})}
        (answer,) = party.carrier.ask([Request("echo-sizes", params, _SIZES_S)])
        largest.append(answer.data["sizes"] if answer.data is not None else None)
    return sizes_found(way, largest[0], largest[1])
