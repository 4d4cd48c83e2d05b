"""A connection that opens is followed: whether the server accepts it, and when its first byte comes."""

from __future__ import annotations

import concurrent.futures
import ipaddress

import msgspec

from netdiag.facts.name_lookup import read_resolver
from netdiag.facts.sockets import gather_connections
from netdiag.host.diagnose_attempt import MOST_TASKS
from netdiag.host.diagnose_layers import with_port
from netdiag.host.diagnose_parties import Party, Planned, netns_of, sender_of
from netdiag.host.drive import drive
from netdiag.model.facts import AbsenceKind, Socket
from netdiag.model.found import Found
from netdiag.model.path import Side
from netdiag.model.wire import Request
from netdiag.path.ingress import SANDBOX
from netdiag.path.layers import open_ports
from netdiag.path.served import (
    Followed,
    Lookup,
    Speaks,
    held_by,
    listener_of,
    lookup_found,
    served_found,
    speaks,
)

FIRST_S, LONG_S = 0.2, 2.5
"""How long a first byte is waited for: of any server, and of one that should have begun or accepted by then."""
_SETTINGS_S, _LOOKUP_S = 1.0, 1.2
_LOOK_S = 0.1
"""How long before the end the server's side is looked at."""


def follow(planned: Planned) -> list[Found]:
    """What becomes of a connection behind its handshake; without a port, of one to each on which the destination listens.

    Nothing is sent: a server that waits for that is not slow.
    """
    way, party = planned.way, planned.parties.get(Side.DESTINATION)
    if party is None or way.destination.namespace == SANDBOX or way.protocol == "udp":
        return []
    if way.port is not None:
        return _of_port(planned, party)
    ports = open_ports(party.facts, way)[:MOST_TASKS]
    if not ports:
        return []
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(ports)) as pool:
        several = [msgspec.structs.replace(planned, way=with_port(way, port)) for port in ports]
        return [found for each in pool.map(lambda one: _of_port(one, party), several) for found in each]


def _of_port(planned: Planned, party: Party) -> list[Found]:
    way = planned.way
    listener = listener_of(party.facts, way)
    begins, _ = speaks(way, listener)
    followed = _followed(planned, party, FIRST_S)
    if followed is not None and followed.silent and (followed.unaccepted or begins is Speaks.SERVER):
        followed = _followed(planned, party, LONG_S)
    found = served_found(way, followed, listener) if followed is not None else None
    if found is None and followed is not None and not followed.silent:
        found = _looked_up(planned, party, listener)
    return [found] if found is not None else []


def _looked_up(planned: Planned, party: Party, listener: Socket | None) -> Found | None:
    """Whether an sshd will ask a name server that does not answer for the name of its client."""
    way = planned.way
    if listener is None or listener.process != "sshd" or listener.pid is None:
        return None
    asked = {"pid": listener.pid}
    settings, files = party.carrier.ask(
        [Request("sshd-lookup", asked, _SETTINGS_S), Request("resolver-files", asked, _SETTINGS_S)]
    )
    if settings.data is None or settings.data["use_dns"] != "yes" or files.data is None:
        return None
    resolver = read_resolver(files.data["resolv_conf"], files.data["hosts"])
    address = way.places[-1].a if way.places else way.source.address
    # Its own files are asked first (nsswitch.conf), and the first server for some seconds before any other.
    if not resolver.servers or any(address == known for _, known in resolver.hosts):
        return None
    question = {
        "name": ipaddress.ip_address(address).reverse_pointer,
        "type": "PTR",
        "server": resolver.servers[0],
        "netns": netns_of(party.facts, way.destination.namespace),
    }
    (answer,) = party.carrier.ask([Request("dns-query", question, _LOOKUP_S)])
    if answer.error is None or answer.error.kind is not AbsenceKind.TIMEOUT:
        return None
    lookup = Lookup(address=address, server=resolver.servers[0], where=settings.data["where"])
    return lookup_found(way, listener, lookup)


def _followed(planned: Planned, party: Party, wait_s: float) -> Followed | None:
    """One connection; None where it did not open this time."""
    way, source = planned.way, planned.parties[Side.SOURCE]
    netns = netns_of(source.facts, way.source.namespace)
    params = {
        "address": way.target,
        "port": way.port,
        "wait_ms": int(wait_s * 1000),
        **({"netns": netns} if netns else {}),
        **sender_of(source, way.source),
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
