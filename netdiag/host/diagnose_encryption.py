"""The security associations of both hosts of an encrypted network, read around a burst of the lost flow."""

from __future__ import annotations

from netdiag.facts.context import Context
from netdiag.host.diagnose_attempt import burst
from netdiag.host.diagnose_parties import Party, Planned
from netdiag.model.path import Direction, Loss
from netdiag.model.path import Side as End
from netdiag.model.report import Cause
from netdiag.model.wire import Request
from netdiag.path.encryption import (
    Association,
    Side,
    association_causes,
    concerns,
    missing_parts,
    read_associations,
)
from netdiag.path.ways import Host

_BURST = 16
_STATES = ("ip", "-s", "xfrm", "state", "list", "nokeys")


def encryption_causes(planned: Planned, loss: Loss) -> list[Cause]:
    """What is wrong with the encryption of the way's network; nothing for a network that is not encrypted."""
    if not any(network is not None and network.encrypted for network in planned.networks.values()) or not concerns(
        loss
    ):
        return []
    hosts = {side: Host(name=party.name, facts=party.facts) for side, party in planned.parties.items()}
    missing = [one for host in hosts.values() for one in missing_parts(host)]
    if missing or len(hosts) < len(End):
        return missing
    before = {side: _associations(party) for side, party in planned.parties.items()}
    sent = burst(planned, _BURST)
    after = {side: _associations(party) for side, party in planned.parties.items()}
    sides = {side: Side(host=hosts[side], before=before[side], after=after[side]) for side in hosts}
    ends = {End.SOURCE: planned.way.source, End.DESTINATION: planned.way.destination}
    there = loss.direction is Direction.THERE
    begin, end = (End.SOURCE, End.DESTINATION) if there else (End.DESTINATION, End.SOURCE)
    addresses = ends[begin].host_address, ends[end].host_address
    return list(association_causes(*addresses, sides[begin], sides[end], sent=sent))


def _associations(party: Party) -> tuple[Association, ...] | None:
    """A host's own; None where they cannot be read without loading a module, or at all."""
    if not Context(kernel=party.facts.kernel.value).present("xfrm_user"):
        return None
    (answer,) = party.carrier.ask([Request("command", {"argv": list(_STATES), "may_load": True}, 2.0)])
    if answer.data is None or answer.data["code"]:
        return None
    return read_associations(answer.data["stdout"])
