"""A connection that opens is followed: whether the server accepts it, and when its first byte comes."""

from __future__ import annotations

import concurrent.futures

from netdiag.facts.sockets import gather_connections
from netdiag.host.diagnose_parties import Party, Planned, netns_of
from netdiag.host.drive import drive
from netdiag.model.found import Found
from netdiag.model.path import Side
from netdiag.model.wire import Request
from netdiag.path.ingress import SANDBOX
from netdiag.path.served import Followed, Speaks, held_by, listener_of, served_found, speaks

FIRST_S, LONG_S = 0.2, 2.5
"""How long a first byte is waited for: of any server, and of one that should have begun or accepted by then."""
_LOOK_S = 0.1
"""How long before the end the server's side is looked at."""


def follow(planned: Planned) -> list[Found]:
    """What becomes of a connection behind its handshake. Nothing is sent: a server that waits for that is not slow."""
    way, party = planned.way, planned.parties.get(Side.DESTINATION)
    if way.protocol != "tcp" or party is None or way.destination.namespace == SANDBOX:
        return []
    listener = listener_of(party.facts, way)
    begins, _ = speaks(way, listener)
    followed = _followed(planned, party, FIRST_S)
    if followed is not None and followed.silent and (followed.unaccepted or begins is Speaks.SERVER):
        followed = _followed(planned, party, LONG_S)
    found = served_found(way, followed, listener) if followed is not None else None
    return [found] if found is not None else []


def _followed(planned: Planned, party: Party, wait_s: float) -> Followed | None:
    """One connection; None where it did not open this time."""
    way, source = planned.way, planned.parties[Side.SOURCE]
    netns = netns_of(source.facts, way.source.namespace)
    params = {
        "address": way.target,
        "port": way.port,
        "wait_ms": int(wait_s * 1000),
        **({"netns": netns} if netns else {}),
    }
    request = Request("tcp-follow", params, wait_s + 1.0)
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        job = pool.submit(source.carrier.ask, [request])
        concurrent.futures.wait([job], timeout=max(0.0, wait_s - _LOOK_S))
        rows = drive(gather_connections(netns_of(party.facts, way.destination.namespace)), party.carrier)
        (answer,) = job.result()
    data = answer.data
    if data is None or not data["connected"]:
        return None
    return Followed(
        waited_s=wait_s,
        first_byte_us=data["first_byte_us"],
        closed=data["closed"],
        source_port=data["source_port"],
        held=held_by(rows, way, data["source_port"]),
    )
