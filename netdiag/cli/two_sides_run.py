"""Reaching the peers and examining the paths to them: what preflight and verify share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from netdiag.carrier import ssh
from netdiag.carrier.stream import StreamCarrier
from netdiag.checks.context import same_address
from netdiag.cli.manager_address import is_address
from netdiag.errors import CarrierError, UsageError
from netdiag.facts.context import Options
from netdiag.host.drive import Carrier
from netdiag.host.two_sides import Examined, Sought, Target, examine
from netdiag.model.facts import Facts, SwarmState
from netdiag.model.two_sided import PeerView

CONNECT_AT_ONCE = 32
MOST_PEERS = 1000
Connect = Callable[[str], StreamCarrier]


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask together with this host.

    Attributes:
        every: ``--via ssh`` without a host: also whoever is known otherwise (the managers, the node list).
        destinations: As ssh takes them.
    """

    every: bool = False
    destinations: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether anybody is to be asked."""
        return self.every or bool(self.destinations)


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """A peer's destination, where this host would send to it, and where it listens as a manager."""

    destination: str
    address: str = ""
    control_port: int | None = None


def read_peers(vias: Sequence[str], peers_file: str | None) -> Peers:
    """Whom ``--via`` and ``--peers`` name.

    Raises:
        UsageError: A way that is none, a file that cannot be read, or peers without a way.
    """
    every, named = False, []
    for via in vias:
        kind, colon, destination = via.partition(":")
        if kind != "ssh" or (colon and not destination):
            raise UsageError(f"--via {via}: ssh, ssh:HOST or ssh:USER@HOST")
        if destination:
            named.append(destination)
        else:
            every = True
    if peers_file is not None:
        if not vias:
            raise UsageError("--peers: say with --via ssh how they are reached")
        named += _lines(peers_file)
    if len(named) > MOST_PEERS:
        raise UsageError(f"--peers: {len(named)} peers; {MOST_PEERS} at most")
    return Peers(every=every, destinations=tuple(dict.fromkeys(named)))


def _lines(name: str) -> list[str]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"--peers {name}: {reason}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) > 1:
            raise UsageError(f"--peers {name}, line {number}: one peer a line, ADDRESS or USER@HOST")
        found += words
    if not found:
        raise UsageError(f"--peers {name}: it names nobody")
    return found


def with_managers(peers: Peers, managers: Sequence[tuple[str, str, int]]) -> tuple[Reached, ...]:
    """Whom a preflight asks: who is named, and with ``--via ssh`` alone every manager (as typed, address, port)."""
    ports = {address: port for _, address, port in managers}
    found: list[Reached] = []
    for destination in peers.destinations:
        host = destination.rpartition("@")[2].strip("[]")
        known = next((one for one in managers if host == one[0] or same_address(host, one[1])), None)
        if known is not None:
            found.append(Reached(destination=destination, address=known[1], control_port=known[2]))
        else:
            found.append(Reached(destination=destination, address=host if is_address(host) else ""))
    if peers.every:
        named = {one.address for one in found}
        found += [
            Reached(destination=address, address=address, control_port=port)
            for address, port in ports.items()
            if address not in named
        ]
    return tuple(found)


def with_members(peers: Peers, facts: Facts, more: Sequence[str]) -> tuple[Reached, ...]:
    """Whom a verification asks: who is named, and with ``--via ssh`` alone every other node that is Ready.

    A worker knows the managers only.
    """
    engine = facts.engine.value
    known: list[str] = list(more) if peers.every else []
    if peers.every and engine is not None and engine.swarm.state is SwarmState.ACTIVE and not known:
        if engine.cluster is not None:
            nodes = [node for node in engine.cluster.nodes if node.state == "ready" and node.id != engine.swarm.node_id]
            known += [node.address or node.manager_address.rpartition(":")[0] for node in nodes]
        else:
            known += [manager.rpartition(":")[0].strip("[]") for manager in engine.swarm.remote_managers]
        known = [address for address in known if address and address != engine.swarm.node_address]
    destinations = [*peers.destinations, *known]
    hosts = {destination: destination.rpartition("@")[2].strip("[]") for destination in dict.fromkeys(destinations)}
    return tuple(
        Reached(destination=destination, address=host if is_address(host) else "")
        for destination, host in hosts.items()
    )


def run_two_sides(
    here: Carrier,
    facts: Facts,
    reached: Sequence[Reached],
    sought: Sought,
    *,
    candidates: Sequence[tuple[str, int]] = (),
    options: Options,
    connect: Connect = ssh.connect,
    progress: Callable[[str], None] | None = None,
) -> Examined:
    """Connect to the peers and examine the paths; a peer that cannot be reached is told in its view."""
    if not reached:
        return Examined(views=())
    say = progress or (lambda _what: None)
    say(f"connecting to {len(reached)} peers")
    start_s = time.monotonic()
    with ThreadPoolExecutor(max_workers=min(CONNECT_AT_ONCE, len(reached))) as pool:
        opened = list(pool.map(lambda one: _opened(one, connect), reached))
        connected_s = time.monotonic() - start_s
        try:
            targets = [
                Target(
                    given=one.destination,
                    carrier=None if isinstance(carrier, str) else carrier,
                    why_not=carrier if isinstance(carrier, str) else "",
                    address=one.address,
                    control_port=one.control_port,
                    candidates=tuple(candidates),
                )
                for one, carrier in zip(reached, opened, strict=True)
            ]
            found = examine(here, facts, targets, sought, options=options, progress=say)
        finally:
            list(pool.map(lambda carrier: carrier.close(), [one for one in opened if not isinstance(one, str)]))
    return msgspec.structs.replace(found, timings=(("ssh", connected_s), *found.timings))


def _opened(one: Reached, connect: Connect) -> StreamCarrier | str:
    try:
        return connect(one.destination)
    except CarrierError as error:
        return str(error)


def views_from_values(values: object) -> tuple[PeerView, ...]:
    """The views that a bundle holds. Raises msgspec.ValidationError for values that are none."""
    return msgspec.convert(values, tuple[PeerView, ...])
