"""The counters of a host's kernel, read around a burst of the lost flow: what it drops, it counts."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from netdiag.facts.context import Context
from netdiag.facts.counters import Counters, gather_counters
from netdiag.facts.route_lookup import gather_lookup
from netdiag.facts.sockets import gather_sockets
from netdiag.facts.tables import gather_tc, gather_tcx
from netdiag.host.diagnose_arp import arp_causes
from netdiag.host.diagnose_attempt import burst
from netdiag.host.diagnose_encryption import encryption_causes
from netdiag.host.diagnose_parties import Party, Planned, netns_of
from netdiag.host.drive import drive
from netdiag.model.facts import HOST, Namespace, Socket, TcFilter
from netdiag.model.path import Loss
from netdiag.model.report import Cause
from netdiag.path.kernel_drops import Scene, devices_of, drop_causes
from netdiag.path.served import backlog_cause, listener_of
from netdiag.path.stops import Moved, Stop, devices_under, entered_by, stop_of
from netdiag.path.ways import Host

BURST, MOST_BURST = 16, 64
"""How often the flow is begun anew: more often where a counter is read that everybody's packets move."""
_PAUSE_S = 0.2
"""About as long as a burst takes."""


def kernel_causes(planned: Planned, loss: Loss) -> list[Cause]:
    """What the kernel of the host where a flow is lost does with it, filters and tables of the overlay apart."""
    unencrypted = encryption_causes(planned, loss)
    if unencrypted:
        return unencrypted
    stop = stop_of(planned.way, loss)
    party = planned.parties.get(stop.side) if stop is not None else None
    if stop is None or party is None or (stop.namespace != HOST and not netns_of(party.facts, stop.namespace)):
        return []
    scene = _scene(planned, stop, party)
    full = backlog_cause(scene, _listener(planned, stop, party)) if stop.asked else None
    found = [full] if full is not None else list(drop_causes(scene))
    return found or arp_causes(planned, stop)


def _scene(planned: Planned, stop: Stop, party: Party) -> Scene:
    netns = netns_of(party.facts, stop.namespace)
    devices = (*devices_of(planned.way, stop.side, stop.namespace), stop.device, entered_by(party.facts, stop))
    below = devices_under(party.facts, stop.namespace, stop.device)
    programmed = stop.wire and any(
        link.xdp_mode for link in (party.facts.links.value or {}).get(stop.namespace, ()) if link.name in below
    )
    here = Namespace(id=stop.namespace if netns else HOST, path=netns, inode=0)
    named = tuple(dict.fromkeys(each for each in (*below, stop.device, stop.toward) if each))
    beside = drive(gather_tcx(here, named), party.carrier)
    count = MOST_BURST if programmed or beside else BURST
    moved = _moved(planned, party, netns, tuple(dict.fromkeys(each for each in devices if each)), count)
    own = not stop.device and not stop.wire
    # A host without a route to the other has no address on the way.
    back = drive(gather_lookup(stop.source, netns), party.carrier).route if stop.device and stop.source else None
    out = drive(gather_lookup(stop.destination, netns), party.carrier).route if own and stop.destination else None
    dropping = any(key.startswith("qdisc.") for key in moved.after.values)
    return Scene(
        way=planned.way,
        stop=stop,
        host=Host(name=party.name, facts=party.facts),
        moved=moved,
        back=back,
        out=out,
        filters=(*beside, *(_filters(party, stop.namespace, netns) if dropping else ())),
    )


def _moved(planned: Planned, party: Party, netns: str, devices: Sequence[str], count: int) -> Moved:
    def read() -> Counters:
        return drive(gather_counters(netns, devices), party.carrier)

    before = read()
    time.sleep(_PAUSE_S)
    paused = read()
    sent = burst(planned, count)
    return Moved(sent=sent, before=before, paused=paused, after=read())


def _listener(planned: Planned, stop: Stop, party: Party) -> Socket | None:
    """Who listens at the end of the way, with what waits in its queue now."""
    netns = netns_of(party.facts, stop.namespace)
    here = Namespace(id=stop.namespace, path=netns, inode=0)
    sockets = drive(gather_sockets(Context(namespaces={here.id: here})), party.carrier)
    return listener_of(msgspec.structs.replace(party.facts, sockets=sockets), planned.way)


def _filters(party: Party, namespace: str, netns: str) -> tuple[TcFilter, ...]:
    here = Namespace(id=namespace if netns else HOST, path=netns, inode=0)
    links = (party.facts.links.value or {}).get(namespace, ())
    section = drive(gather_tc(Context(namespaces={here.id: here}, links={here.id: links})), party.carrier)
    return (section.value or {}).get(here.id, ())
