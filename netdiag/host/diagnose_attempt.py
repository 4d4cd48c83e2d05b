"""The user's own attempt, made for real and watched at every place of the way."""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from netdiag.host.diagnose_parties import Party, Planned, netns_of, sender_of
from netdiag.model.engine import OverlayTask
from netdiag.model.facts import HOST
from netdiag.model.icmp import IcmpError
from netdiag.model.path import Place, Side, Sight, Stage, Way
from netdiag.model.wire import Answer, Request
from netdiag.path.ends import address_of
from netdiag.path.sights import read_sights
from netdiag.path.verdict import Attempt

ATTEMPT_S = 1.15
"""How long an attempt is waited for: a lost SYN has been sent again by then."""
SETTLE_MS = 60
CAPTURE_S = 20.0
_MOST_RTT_MS = 1000
BURST_SETTLE_MS = 150
"""How long the last one of a burst has to arrive."""
SURVEY_S = 0.5
"""How long each of several is waited for: only the one that is then watched is judged."""
MOST_TASKS = 8
"""How many tasks of a service, or ports of a host, are tried."""
_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1}
_TAG_BYTES = 8


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
        points = [watch_point(way, party, place) for place in way.places if place.side is side]
        points += [_control_point(party, place) for place in control if place.side is side]
        if not points:
            continue
        requests[side] = Request("capture-start", {"points": points, "seconds": CAPTURE_S}, 5.0)
    started = _each(parties, requests)
    tag = os.urandom(_TAG_BYTES) if way.protocol == "udp" else b""
    attempt, source_port = _attempt(way, parties[Side.SOURCE], tag)
    if control and not attempt.answered:
        echo = {"address": way.destination.host_address, "sizes": [64], "attempts": 1}
        parties[Side.SOURCE].carrier.ask([Request("echo-sizes", echo, 0.6)])
    stops = {
        side: Request("capture-stop", {"id": answer.data["id"], "settle_ms": settle_ms(attempt)}, 3.0)
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
    sights = read_sights(way.places, seen, source_port=source_port, tag=tag)
    return Watched(
        attempt=heard_in(attempt, sights) if way.protocol == "udp" else attempt,
        sights=sights,
        control_arrived=bool(arrived and arrived.get("frames")) if control and not attempt.answered else None,
    )


def settle_ms(attempt: Attempt) -> int:
    """How long what follows a handshake has to come to the last place: on a long way, as long as its answer took."""
    return SETTLE_MS + min((attempt.rtt_us or 0) // 1000, _MOST_RTT_MS)


def watch_point(way: Way, party: Party, place: Place) -> dict[str, Any]:
    """What the verb ``capture-start`` is told of a place."""
    flow: dict[str, Any] = {"a": place.a, "b": place.b, "proto": _NUMBERS[way.protocol]}
    if place.port is not None:
        flow["port"] = place.port
    others = [*place.origins, *([place.proxy] if place.proxy else [])]
    if others:
        flow["others"] = others
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
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(Side)) as pool:
        jobs = {side: pool.submit(parties[side].carrier.ask, [request]) for side, request in requests.items()}
        return {side: job.result()[0] for side, job in jobs.items()}


def try_again(planned: Planned, *, wait_s: float) -> None:
    """The same attempt once more, with nothing watched; where the source is asked by somebody else, only the wait."""
    if Side.SOURCE not in planned.parties:
        time.sleep(wait_s)
        return
    _attempt(planned.way, planned.parties[Side.SOURCE], os.urandom(_TAG_BYTES), wait_s=wait_s)


def burst(planned: Planned, count: int) -> int:
    """Send the beginning of the flow several times at once, and nothing else of it; how many were really sent."""
    way, party = planned.way, planned.parties[Side.SOURCE]
    protocol = way.protocol if way.port is not None else "icmp"
    probe: dict[str, Any] = {"proto": protocol, "dst": way.target}
    if protocol != "icmp":
        probe["dport"] = way.port
    netns = netns_of(party.facts, way.source.namespace)
    where = {**({"netns": netns} if netns else {}), **sender_of(party, way.source)}
    params = {"probes": [probe] * count, "wait_ms": BURST_SETTLE_MS, **where}
    (answer,) = party.carrier.ask([Request("send-probe", params, 2.0)])
    if answer.data is None:  # not every carrier serves it: attempts as the user's own serve as well
        return sum(attempt.sent for attempt in _try_all(planned, [way] * MOST_TASKS))
    return sum(bool(row["sent_us"]) for row in answer.data["probes"])


def try_tasks(planned: Planned, tasks: Sequence[OverlayTask]) -> list[tuple[OverlayTask, Attempt]]:
    """Try several tasks of a service at once, from the source."""
    tried = tasks[:MOST_TASKS]
    return list(zip(tried, try_addresses(planned, [address_of(task) for task in tried]), strict=True))


def try_addresses(planned: Planned, addresses: Sequence[str]) -> list[Attempt]:
    """Try the way's port at several addresses at once, from the source."""
    way = planned.way
    return _try_all(planned, [msgspec.structs.replace(way, called=address) for address in addresses])


def try_others(planned: Planned) -> list[tuple[str, Attempt]]:
    """Try the port at the other addresses that the destination's name has, at once, from the source."""
    tried = planned.others[:MOST_TASKS]
    return list(zip(tried, try_addresses(planned, tried), strict=True))


def try_ports(planned: Planned, ports: Sequence[int]) -> list[tuple[int, Attempt]]:
    """Try several tcp ports of the destination at once, from the source."""
    tried = ports[:MOST_TASKS]
    ways = [msgspec.structs.replace(planned.way, protocol="tcp", port=port) for port in tried]
    return list(zip(tried, _try_all(planned, ways), strict=True))


def _try_all(planned: Planned, ways: Sequence[Way]) -> list[Attempt]:
    party = planned.parties[Side.SOURCE]
    if not ways:
        return []
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(ways)) as pool:
        jobs = [pool.submit(_attempt, way, party, os.urandom(_TAG_BYTES), wait_s=SURVEY_S) for way in ways]
        return [job.result()[0] for job in jobs]


def _attempt(way: Way, party: Party, tag: bytes, *, wait_s: float = ATTEMPT_S) -> tuple[Attempt, int | None]:
    """One attempt, and the port from which it was made."""
    netns = netns_of(party.facts, way.source.namespace)
    where: dict[str, Any] = {"netns": netns} if netns else {}
    target = way.target
    if way.port is None or way.protocol == "icmp":
        params = {"address": target, "sizes": [64], "attempts": 2, **where}
        (answer,) = party.carrier.ask([Request("echo-sizes", params, wait_s)])
        return _echo_attempt(answer.data, answer.error.text if answer.error else ""), None
    where.update(sender_of(party, way.source))
    if way.protocol == "udp":
        probe = {"proto": "udp", "dst": target, "dport": way.port, "tag": tag.hex(), "count": 2}
        params = {**probe, "wait_ms": int(wait_s * 500), **where}
        (answer,) = party.carrier.ask([Request("send-probe", params, wait_s)])
        if answer.data is None:
            text = answer.error.text if answer.error else "no answer"
            return Attempt(answered=False, refused=False, text=text, sent=False), None
        return msgspec.structs.replace(_udp_attempt(answer.data), user=answer.data["user"]), answer.data["sport"]
    params = {"address": target, "port": way.port, **where}
    (answer,) = party.carrier.ask([Request("tcp-connect", params, wait_s)])
    if answer.data is None:
        text = answer.error.text if answer.error else "no answer"
        return Attempt(answered=False, refused=False, text=text, sent=False), None
    made = msgspec.structs.replace(_tcp_attempt(answer.data, wait_s), user=answer.data["user"])
    return made, answer.data["source_port"] or None


def _control_places(way: Way) -> tuple[Place, ...]:
    """The two NICs once more, for an ICMP echo between the hosts' own addresses."""
    ends = (way.source.host_address, way.destination.host_address)
    nics = [place for place in way.places if place.stage is Stage.NIC and place.namespace == HOST]
    if len({place.side for place in nics}) < len(Side) or not all(ends):
        return ()
    return tuple(
        msgspec.structs.replace(place, a=ends[0], b=ends[1], port=None, vxlan_port=None, origins=()) for place in nics
    )


def _echo_attempt(data: dict[str, Any] | None, error: str) -> Attempt:
    if data is None:
        return Attempt(answered=False, refused=False, text=error or "no answer", sent=False)
    row = data["sizes"][0]
    if row["outcome"] == "answered":
        rtt_ms = (row["rtt_us"] or 0) / 1000
        return Attempt(
            answered=True,
            refused=False,
            text=f"answered after {rtt_ms:.2f} ms",
            rtt_us=row["rtt_us"],
            tries=row["attempts"],
        )
    if row["icmp"]:
        icmp = _icmp(row["icmp"])
        text = f"{row['icmp']['error']} from {row['icmp']['offender']}"
        return Attempt(answered=False, refused=True, text=text, icmp=icmp)
    return Attempt(answered=False, refused=False, text="no answer")


def _tcp_attempt(data: dict[str, Any], wait_s: float) -> Attempt:
    rtt_us = data["elapsed_us"]
    if data["connected"]:
        text, tries = f"connected after {rtt_us / 1000:.2f} ms", data["syns"] or 1
        text += f", at try {tries}" if tries > 1 else ""
        return Attempt(answered=True, refused=False, text=text, rtt_us=rtt_us, tries=tries)
    if data["timed_out"]:
        return Attempt(answered=False, refused=False, text=f"no answer within {wait_s:g} s")
    if data["icmp"]:
        first = data["icmp"][0]
        text = f"{first['error']} ({first['offender'] or 'this host'})"
        return Attempt(answered=False, refused=True, text=text, icmp=_icmp(first))
    return Attempt(answered=False, refused=data["error"] == "Connection refused", text=str(data["error"]).lower())


def _udp_attempt(data: dict[str, Any]) -> Attempt:
    heard = data["heard"]
    if data["errno"]:
        # So the kernel says of what a filter or a route of this host's takes.
        return Attempt(answered=False, refused=False, text=str(data["error"]).lower())
    if heard["kind"] == "reply":
        return Attempt(answered=True, refused=False, text="answered", rtt_us=heard["rtt_us"])
    if heard["kind"] == "icmp":
        error = heard["icmp"]
        text = f"refused: ICMP {error['type']}/{error['code']} from {error['offender']}"
        return Attempt(answered=False, refused=True, text=text, icmp=_icmp(error))
    return Attempt(answered=False, refused=False, text="nothing came back")


def _icmp(row: dict[str, Any]) -> IcmpError:
    return IcmpError(type=row["type"], code=row["code"], sender=row["offender"])


def heard_in(attempt: Attempt, sights: Sequence[Sight]) -> Attempt:
    """A datagram's answer is whatever the other end likes: it is known by where it comes from."""
    if attempt.answered or attempt.refused or not sights or not sights[0].back or sights[0].refused:
        return attempt
    return msgspec.structs.replace(attempt, answered=True, text="answered")
