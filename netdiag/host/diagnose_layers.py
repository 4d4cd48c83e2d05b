"""A destination without a port: once an echo is answered, the ports that it listens on, sizes, and the way between."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence

import msgspec

from netdiag.host.diagnose_attempt import MOST_TASKS, try_ports
from netdiag.host.diagnose_bursts import look_between
from netdiag.host.diagnose_leaving import Leaving
from netdiag.host.diagnose_parties import Planned, netns_of
from netdiag.model.facts import HOST
from netdiag.model.found import Found
from netdiag.model.path import Direction, End, PathKind, Side, Way
from netdiag.model.wire import Request
from netdiag.path.between import astray_found, between_founds
from netdiag.path.layers import Row, is_cut, mtu_of, open_ports, port_found, sizes_asked, sizes_found
from netdiag.path.sizes import Sending, size_founds

_SIZES_S = 0.8
Swept = tuple[Sequence[Row] | None, Sequence[Row] | None]
"""What became of packets of growing size from the source, and from the destination."""


def further_layers(planned: Planned) -> tuple[Planned | None, list[Found]]:
    """Try the ports that the destination listens on.

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
    if broken is None:
        return None, found
    return msgspec.structs.replace(planned, way=with_port(planned.way, broken)), found


def full_segments(planned: Planned, leaving: Callable[[], Leaving]) -> list[Found]:
    """What becomes of a connection's full segments: its handshake says nothing of them.

    They are like echoes of the same size with DF set. Only where some size passes and a larger one does not is the way
    between the hosts looked at; where no echo passes at all nothing is known.
    """
    swept = end_sizes(planned)
    if not any(is_cut(rows) for rows in swept):
        return []
    return [sizes_found(planned.way, *swept), *layer_between(planned, swept, leaving())]


def layer_between(planned: Planned, swept: Swept, leaving: Leaving) -> list[Found]:
    """What the network between the hosts does to packets of the way, of which an echo or two says little.

    Args:
        planned: The way, and who takes part.
        swept: What `end_sizes` gave for it.
        leaving: The ways out of its hosts.
    """
    way, party = planned.way, planned.parties.get(Side.DESTINATION)
    ports = open_ports(party.facts, way) if party is not None and way.port is None else []
    seen = look_between(planned, port=next(iter(ports), None), sizes=True)
    if seen is None:
        return []
    if any(each.heard.icmp is not None for each in seen.sized):
        # Who was told of a size keeps to it from now on: what was lost before may pass, in smaller pieces.
        swept = end_sizes(planned)
    astray = [astray_found(way, one) for direction in Direction for one in leaving.astray(direction)]
    sending = {direction: _sending(planned, direction, swept) for direction in Direction}
    return [*astray, *between_founds(way, seen, needed=True), *size_founds(way, seen.sized, sending)]


def _sending(planned: Planned, direction: Direction, swept: Swept) -> Sending:
    way, there = planned.way, direction is Direction.THERE
    side, other = (Side.SOURCE, Side.DESTINATION) if there else (Side.DESTINATION, Side.SOURCE)
    facts, end = planned.parties[side].facts, way.end(side)
    return Sending(
        device=way.nic(side),
        mtu_bytes=mtu_of(facts, HOST, way.nic(side)),
        other_mtu_bytes=mtu_of(planned.parties[other].facts, HOST, way.nic(other)),
        inner_mtu_bytes=mtu_of(facts, end.namespace, end.device),
        rows=swept[0] if there else swept[1],
    )


def with_port(way: Way, port: int) -> Way:
    """The same way for a tcp port."""
    places = tuple(msgspec.structs.replace(place, port=port) for place in way.places)
    return msgspec.structs.replace(way, protocol="tcp", port=port, places=places)


def end_sizes(planned: Planned) -> Swept:
    """Echoes of growing size with DF set, from either end at once; None for one that cannot call the other."""
    way = planned.way
    ends = ((Side.SOURCE, way.source, way.target), (Side.DESTINATION, way.destination, ""))
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(ends)) as pool:
        there, back = pool.map(lambda row: _sweep(planned, *row), ends)
    return there, back


def _sweep(planned: Planned, side: Side, end: End, called: str) -> Sequence[Row] | None:
    party, way = planned.parties.get(side), planned.way
    # A container's address is translated behind its host: nobody can call it there.
    target = called or (way.source.address if way.kind is not PathKind.ROUTED else "")
    if not target or party is None:
        return None
    netns = netns_of(party.facts, end.namespace)
    params = {"address": target, "sizes": sizes_asked(party.facts, end), "attempts": 2}
    (answer,) = party.carrier.ask([Request("echo-sizes", {**params, **({"netns": netns} if netns else {})}, _SIZES_S)])
    return answer.data["sizes"] if answer.data is not None else None
