"""The user's own attempt, made for real and watched at every place of the way."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import msgspec

from netdiag.host.diagnose_parties import Party, Planned, netns_of
from netdiag.model.path import PathKind, Place, Side, Sight, Stage, Way
from netdiag.model.wire import Answer, Request
from netdiag.path.sights import read_sight
from netdiag.path.verdict import Attempt

ATTEMPT_S = 1.3
"""How long an attempt is waited for: a lost SYN has been sent again by then."""
SETTLE_MS = 60
CAPTURE_S = 20.0
_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1}


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended and what was seen of it.

    ``control_arrived``: whether an echo between the hosts came to the other NIC; None where none was sent.
    """

    attempt: Attempt
    sights: tuple[Sight, ...]
    control_arrived: bool | None = None


def watch_attempt(planned: Planned) -> Watched:
    """Arm both sides, try, and collect."""
    way, parties = planned.way, planned.parties
    control = _control_places(way)
    requests: dict[Side, Request] = {}
    for side, party in parties.items():
        points = [_point(way, party, place) for place in way.places if place.side is side]
        points += [_control_point(party, place) for place in control if place.side is side]
        requests[side] = Request("capture-start", {"points": points, "seconds": CAPTURE_S}, 5.0)
    started = _each(parties, requests)
    attempt, source_port = _attempt(way, parties[Side.SOURCE])
    if control and not attempt.answered:
        echo = {"address": way.destination.host_address, "sizes": [64], "attempts": 1}
        parties[Side.SOURCE].carrier.ask([Request("echo-sizes", echo, 0.6)])
    stops = {
        side: Request("capture-stop", {"id": answer.data["id"], "settle_ms": SETTLE_MS}, 3.0)
        for side, answer in started.items()
        if answer.data is not None
    }
    seen: dict[str, Any] = {
        place.key(): {"error": answer.error.text}
        for side, answer in started.items()
        if answer.error is not None
        for place in way.places
        if place.side is side
    }
    for answer in _each(parties, stops).values():
        if answer.data is not None:
            seen.update({point["name"]: point for point in answer.data["points"]})
    arrived = seen.get(f"control:{Side.DESTINATION.value}")
    sights = tuple(
        read_sight(place, seen.get(place.key(), {"error": "not watched"}), source_port) for place in way.places
    )
    return Watched(
        attempt=attempt,
        sights=sights,
        control_arrived=bool(arrived and arrived.get("frames")) if control and not attempt.answered else None,
    )


def _point(way: Way, party: Party, place: Place) -> dict[str, Any]:
    flow: dict[str, Any] = {"a": place.a, "b": place.b, "proto": _NUMBERS[way.protocol]}
    if place.port is not None:
        flow["port"] = place.port
    if place.vxlan_port is not None:
        flow["vxlan_port"] = place.vxlan_port
    netns = netns_of(party.facts, place.namespace)
    return {"name": place.key(), "device": place.device, "netns": netns, "flow": flow}


def _control_point(party: Party, place: Place) -> dict[str, Any]:
    return {
        "name": f"control:{place.side.value}",
        "device": place.device,
        "netns": netns_of(party.facts, place.namespace),
        "flow": {"a": place.a, "b": place.b, "proto": _NUMBERS["icmp"]},
    }


def _each(parties: dict[Side, Party], requests: dict[Side, Request]) -> dict[Side, Answer]:
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        jobs = {side: pool.submit(parties[side].carrier.ask, [request]) for side, request in requests.items()}
        return {side: job.result()[0] for side, job in jobs.items()}


def _attempt(way: Way, party: Party) -> tuple[Attempt, int | None]:
    netns = netns_of(party.facts, way.source.namespace)
    where = {"netns": netns} if netns else {}
    target = way.destination.address
    if way.port is None or way.protocol != "tcp":
        params = {"address": target, "sizes": [64], "attempts": 2, **where}
        (answer,) = party.carrier.ask([Request("echo-sizes", params, ATTEMPT_S)])
        return _echo_attempt(answer.data, answer.error.text if answer.error else ""), None
    params = {"address": target, "port": way.port, **where}
    (answer,) = party.carrier.ask([Request("tcp-connect", params, ATTEMPT_S)])
    if answer.data is None:
        text = answer.error.text if answer.error else "no answer"
        return Attempt(answered=False, refused=False, text=text, sent=False), None
    return _tcp_attempt(answer.data), answer.data["source_port"] or None


def _control_places(way: Way) -> tuple[Place, ...]:
    """The two NICs once more, for an ICMP echo between the hosts' own addresses."""
    ends = (way.source.host_address, way.destination.host_address)
    if way.kind is not PathKind.OVERLAY or not all(ends):
        return ()
    return tuple(
        msgspec.structs.replace(place, a=ends[0], b=ends[1], port=None, vxlan_port=None)
        for place in way.places
        if place.stage is Stage.NIC
    )


def _echo_attempt(data: dict[str, Any] | None, error: str) -> Attempt:
    if data is None:
        return Attempt(answered=False, refused=False, text=error or "no answer", sent=False)
    row = data["sizes"][0]
    if row["outcome"] == "answered":
        rtt_ms = (row["rtt_us"] or 0) / 1000
        return Attempt(answered=True, refused=False, text=f"answered after {rtt_ms:.2f} ms", rtt_us=row["rtt_us"])
    if row["icmp"]:
        return Attempt(answered=False, refused=True, text=f"{row['icmp']['error']} from {row['icmp']['offender']}")
    return Attempt(answered=False, refused=False, text="no answer")


def _tcp_attempt(data: dict[str, Any]) -> Attempt:
    rtt_us = data["elapsed_us"]
    if data["connected"]:
        return Attempt(answered=True, refused=False, text=f"connected after {rtt_us / 1000:.2f} ms", rtt_us=rtt_us)
    if data["timed_out"]:
        return Attempt(answered=False, refused=False, text=f"no answer within {ATTEMPT_S:g} s")
    if data["icmp"]:
        first = data["icmp"][0]
        return Attempt(answered=False, refused=True, text=f"{first['error']} ({first['offender'] or 'this host'})")
    return Attempt(answered=False, refused=data["error"] == "Connection refused", text=str(data["error"]).lower())
