"""Reaching the peers and examining the paths to them: what preflight and verify share."""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from netdiag.carrier.via import Peers, Via, host_of, vias_for
from netdiag.checks.context import same_address
from netdiag.cli.manager_address import is_address
from netdiag.errors import UsageError
from netdiag.facts.context import Options
from netdiag.facts.probes import gather_resolve
from netdiag.host.drive import Carrier, drive
from netdiag.host.meet import Target
from netdiag.host.two_sides import Examined, Sought, examine
from netdiag.model.engine import SwarmState
from netdiag.model.facts import Facts
from netdiag.model.two_sided import PeerView

MOST_PEERS = 1000


def named_peers(vias: Sequence[Via], peers_file: str | None) -> tuple[str, ...]:
    """The peers that ``--peers`` names, and those that a ``--via`` is for.

    Raises UsageError for a file that cannot be read, or peers without a way.
    """
    if peers_file is not None and not vias:
        raise UsageError("--peers: say with --via ssh how they are reached")
    named = _lines(peers_file) if peers_file is not None else []
    if len(named) > MOST_PEERS:
        raise UsageError(f"--peers {peers_file}: {len(named)} peers; {MOST_PEERS} at most")
    return tuple(dict.fromkeys([*named, *(via.peer for via in vias if via.peer)]))


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
            raise UsageError(f"--peers {name}, line {number}: one host a line, by its name or address")
        found += words
    if not found:
        raise UsageError(f"--peers {name}: it names nobody")
    return found


def members(facts: Facts) -> tuple[str, ...]:
    """The addresses of the other nodes of the swarm that are Ready; a worker knows the managers only."""
    engine = facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE:
        return ()
    if engine.cluster is not None:
        nodes = [node for node in engine.cluster.nodes if node.state == "ready" and node.id != engine.swarm.node_id]
        # A manager may have no other address in the list than "0.0.0.0"; what is left is its name.
        known = [_address(node.address) or _address(node.manager_address) or node.hostname for node in nodes]
    else:
        known = [_address(manager) for manager in engine.swarm.remote_managers]
    own = engine.swarm.node_address
    return tuple(dict.fromkeys(each for each in known if each and not (own and same_address(each, own))))


def _address(text: str) -> str:
    """The address in ``ADDRESS``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``; empty for none, and for one of nobody."""
    for each in (text.strip("[]"), text.rpartition(":")[0].strip("[]")):
        try:
            address = ipaddress.ip_address(each)
        except ValueError:
            continue
        return "" if address.is_unspecified else str(address)
    return ""


def destination_of(vias: Sequence[Via]) -> tuple[str, ...]:
    """The one host that a ``--via`` leads to, where it says so itself and names no peer; as a peer's name."""
    return tuple(
        via.where.removeprefix("ssh://").rpartition("@")[2]
        for via in vias
        if via.where and not via.peer and not via.where.endswith("@")
    )


def run_two_sides(
    here: Carrier,
    facts: Facts,
    peers: Sequence[str],
    vias: Sequence[Via],
    sought: Sought,
    *,
    managers: Mapping[str, tuple[str, int]],
    options: Options,
    progress: Callable[[str], None] | None = None,
) -> Examined:
    """Reach the peers and examine the paths; one that cannot be reached is told in its view.

    Args:
        here: This host's participant.
        facts: Of this host.
        peers: By name or address, as the operator called them.
        vias: How they are reached.
        sought: What is asked.
        managers: Address and port of each manager that was named, by what it was named.
        options: How facts are read.
        progress: Told what is being done.

    Raises:
        UsageError: The ways and the peers do not go together.
    """
    ways = vias_for(peers, vias)
    if not peers:
        return Examined(views=())
    say = progress or (lambda _what: None)
    say(f"connecting to {len(ways)} peers")
    start_s = time.monotonic()
    with Peers(ways) as reached:
        connected_s = time.monotonic() - start_s
        targets = []
        for peer in peers:
            address, port = managers.get(peer, ("", None))
            failed = reached.failed.get(peer)
            targets.append(
                Target(
                    given=peer,
                    carrier=reached.carriers.get(peer),
                    why_not=str(failed) if failed is not None else "",
                    address=address or _address_of(peer, ways.get(peer), here),
                    control_port=port,
                    candidates=tuple(managers.values()),
                )
            )
        found = examine(here, facts, targets, sought, options=options, progress=say)
    return msgspec.structs.replace(found, timings=(("ssh", connected_s), *found.timings))


def _address_of(peer: str, via: Via | None, here: Carrier) -> str:
    """Where this host would send to: what the operator named, or what it means to ssh. Empty where neither says it."""
    for name in (peer, host_of(via, peer) if via is not None and not is_address(peer) else ""):
        if is_address(name):
            return name
        addresses = drive(gather_resolve(name), here)[0] if name else ()
        if addresses:
            return addresses[0]
    return ""


def views_from_values(values: object) -> tuple[PeerView, ...]:
    """The views that a bundle holds. Raises msgspec.ValidationError for values that are none."""
    return msgspec.convert(values, tuple[PeerView, ...])
