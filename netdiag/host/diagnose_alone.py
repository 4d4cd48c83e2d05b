"""A destination that takes no part, asked from this side: who answers on the way, and whether other ports fare better."""

from __future__ import annotations

from typing import Any

from netdiag.host.diagnose_attempt import try_addresses
from netdiag.host.diagnose_parties import Planned, netns_of
from netdiag.model.facts import HOST
from netdiag.model.icmp import IcmpError
from netdiag.model.path import Side
from netdiag.model.wire import Request
from netdiag.path.alone import HOPS, Hop, Survey

_WAIT_MS = 400
_FURTHER = 4


def survey_silence(planned: Planned) -> Survey:
    """Ask a destination that gave no answer: echoes and packets like the flow's with growing TTL, and further attempts."""
    echoes = _hops(planned, {"proto": "icmp"}, HOPS)
    way = planned.way
    if way.protocol == "icmp" or way.port is None:
        return Survey(echoes=echoes)
    # No more packets than are needed come to the end itself, where they may disturb somebody.
    most = next((hop.ttl for hop in echoes if hop.answered), HOPS)
    packets = _hops(planned, {"proto": way.protocol, "dport": way.port}, most)
    further = try_addresses(planned, [way.target] * _FURTHER) if way.protocol == "tcp" else []
    return Survey(echoes=echoes, packets=packets, further=tuple(one.answered for one in further))


def own_addresses(planned: Planned) -> tuple[str, ...]:
    """The addresses of the source's host, and of the source itself."""
    known = planned.parties[Side.SOURCE].facts.addresses.value or {}
    stacks = dict.fromkeys((HOST, planned.way.source.namespace))
    return tuple(row.cidr.partition("/")[0] for stack in stacks for row in known.get(stack, ()))


def _hops(planned: Planned, kind: dict[str, Any], most: int) -> tuple[Hop, ...]:
    way, party = planned.way, planned.parties[Side.SOURCE]
    probes = [{**kind, "dst": way.target, "ttl": ttl} for ttl in range(1, most + 1)]
    netns = netns_of(party.facts, way.source.namespace) if way.source.namespace != HOST else ""
    params = {"probes": probes, "wait_ms": _WAIT_MS, **({"netns": netns} if netns else {})}
    (answer,) = party.carrier.ask([Request("send-probe", params, 2.0)])
    if answer.data is None:
        return ()
    rows = answer.data["probes"]
    return tuple(_hop(number + 1, row["heard"], way.target) for number, row in enumerate(rows))


def _hop(ttl: int, heard: dict[str, Any], target: str) -> Hop:
    if heard["kind"] != "icmp":
        return Hop(ttl=ttl, answered=heard["kind"] in ("connected", "reset", "reply"))
    error = heard["icmp"]
    icmp = IcmpError(type=error["type"], code=error["code"], sender=error["offender"])
    return Hop(ttl=ttl, router=icmp.sender if icmp.of_a_hop else "", answered=icmp.sender == target)
