"""A diagnosis of one flow: facts of both hosts, a real attempt that is watched at every place, then what took it."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Options
from netdiag.facts.route_lookup import gather_lookup
from netdiag.firewall.allow import plan
from netdiag.host.allow import surroundings
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier, drive
from netdiag.host.trace import trace
from netdiag.model.facts import HOST, Container, Facts, Network
from netdiag.model.found import Found
from netdiag.model.path import Direction, Loss, PathKind, Place, Side, Sight, Stage, Way
from netdiag.model.report import Cause, Confidence
from netdiag.model.trace import Trace, TraceVerdict
from netdiag.model.wire import Request
from netdiag.path.entries import entry_causes, host_behind, received_causes
from netdiag.path.listening import listener_cause, listeners
from netdiag.path.names import Typed, find_container, is_address, is_host, unknown_name
from netdiag.path.questions import Question, questions, refusal_questions
from netdiag.path.sights import losses, read_sight
from netdiag.path.verdict import (
    Attempt,
    Traced,
    attempt_found,
    filtered_cause,
    healthy_found,
    loss_found,
    rule_cause,
    unnoticed_found,
)
from netdiag.path.ways import Host, bridge_way, host_way, overlay_way, shared_networks

SECTIONS = ("identity", "kernel", "engine", "namespaces", "links", "addresses", "neighbours", "fdb", "sockets")
ATTEMPT_S = 1.3
"""How long an attempt is waited for: a lost SYN has been sent again by then."""
SETTLE_MS = 60
CAPTURE_S = 20.0

Open = Callable[[str], Carrier]
"""Opens the way to a host, given by its name or address as the operator or the engine calls it."""


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """One host that takes part: its name for the operator, how it is asked, and its facts."""

    name: str
    carrier: Any
    facts: Facts


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    way: Way
    sights: tuple[Sight, ...]
    losses: tuple[Loss, ...]
    attempt: Attempt
    found: tuple[Found, ...]
    timings_s: dict[str, float]


def diagnose(
    local: Carrier,
    source: Typed,
    destination: Typed,
    *,
    open_peer: Open,
    now_s: float,
    options: Options,
    progress: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """Diagnose one flow.

    Args:
        local: This host.
        source: Where the flow begins, as typed.
        destination: Where it should end.
        open_peer: How to reach another host.
        now_s: Unix time.
        options: What the operator chose.
        progress: Told what is being done.

    Raises:
        UsageError: An end that means nothing or too much, or that cannot be diagnosed.
        CarrierError: The other host cannot be reached.
    """
    run = _Run(local, open_peer, now_s, options, progress)
    way, parties, networks = run.plan(source, destination)
    return run.diagnose(way, parties, networks)


class _Run:
    def __init__(
        self, local: Carrier, open_peer: Open, now_s: float, options: Options, progress: Callable[[str], None]
    ) -> None:
        self._local, self._open = local, open_peer
        self._now_s, self._options, self._progress = now_s, options, progress
        self._parties: dict[str, Party] = {}
        self._timings: dict[str, float] = {}

    # --- who and which way ---

    def plan(self, source: Typed, destination: Typed) -> tuple[Way, dict[Side, Party], dict[Side, Network | None]]:
        """The parties and the way between them."""
        start_s = time.monotonic()
        self._progress("reading this host")
        here = self._party("", self._local)
        first = here if not source.host or is_host(here.facts, source.host) else self._peer(source.host)
        begin = self._container(first, source, "SOURCE")
        last, end = self._destination(first, destination)
        self._timings["facts"] = time.monotonic() - start_s
        parties = {Side.SOURCE: first, Side.DESTINATION: last}
        hosts = self._hosts(first, last)
        if begin is not None and end is not None:
            return self._between_containers(parties, hosts, begin, end, destination)
        if begin is None and end is None:
            way = host_way(
                hosts[Side.SOURCE], hosts[Side.DESTINATION], protocol=_protocol(destination), port=destination.port
            )
            return way, parties, {Side.SOURCE: None, Side.DESTINATION: None}
        raise UsageError(
            f"{source.text} to {destination.text}: between a container and a host is not diagnosed yet; name two"
            " containers, or two hosts"
        )

    def _party(self, name: str, carrier: Carrier) -> Party:
        facts = collect(carrier, SECTIONS, now_s=self._now_s, options=self._options)
        identity = facts.identity.value
        own = identity.hostname if identity is not None else ""
        return Party(name=name or own or "this host", carrier=carrier, facts=facts)

    def _peer(self, name: str) -> Party:
        if name not in self._parties:
            self._progress(f"reading {name}")
            self._parties[name] = self._party(name, self._open(name))
        return self._parties[name]

    def _container(self, party: Party, typed: Typed, what: str) -> Container | None:
        if is_host(party.facts, typed.name) or (typed.host == typed.name):
            return None
        found = find_container(party.facts, typed.name)
        if found is None:
            raise unknown_name(typed.name, what, [party.facts])
        return found

    def _destination(self, first: Party, typed: Typed) -> tuple[Party, Container | None]:
        if typed.host:
            party = first if is_host(first.facts, typed.host) else self._peer(typed.host)
            return party, self._container(party, typed, "DESTINATION")
        own = find_container(first.facts, typed.name)
        if own is not None:
            return first, own
        behind = self._behind(first.facts, typed.name)
        if behind is not None:
            address, container = behind
            party = first if is_host(first.facts, address) else self._peer(address)
            found = find_container(party.facts, container)
            if found is None:
                raise unknown_name(container, "DESTINATION", [party.facts])
            return party, found
        if is_host(first.facts, typed.name):
            return first, None
        if is_address(typed.name) or "." in typed.name:
            return self._peer(typed.name), None
        raise unknown_name(typed.name, "DESTINATION", [first.facts, *(each.facts for each in self._parties.values())])

    def _behind(self, facts: Facts, name: str) -> tuple[str, str] | None:
        """The host's address and the container's behind a task, a service or an address of an overlay network."""
        engine = facts.engine.value
        for network in engine.networks if engine is not None else ():
            for task in network.tasks:
                address = task.address.partition("/")[0]
                names = (task.service, task.name, task.name.rpartition(".")[0], address)
                if name in names and task.host_address:
                    return task.host_address, address
        behind = host_behind(facts, name)
        return (behind, name) if behind else None

    def _hosts(self, first: Party, last: Party) -> dict[Side, Host]:
        """Each with the device and address by which it reaches the other."""
        if first is last:
            host = Host(name=first.name, facts=first.facts)
            return {Side.SOURCE: host, Side.DESTINATION: host}
        towards = {Side.SOURCE: _reachable(last), Side.DESTINATION: _reachable(first)}
        hosts = {}
        for side, party in ((Side.SOURCE, first), (Side.DESTINATION, last)):
            route = drive(gather_lookup(towards[side]), party.carrier).route if towards[side] else None
            hosts[side] = Host(
                name=party.name,
                facts=party.facts,
                nic=route.device if route is not None else "",
                nic_address=route.source if route is not None else "",
            )
        return hosts

    def _between_containers(
        self,
        parties: dict[Side, Party],
        hosts: dict[Side, Host],
        begin: Container,
        end: Container,
        destination: Typed,
    ) -> tuple[Way, dict[Side, Party], dict[Side, Network | None]]:
        same = parties[Side.SOURCE] is parties[Side.DESTINATION]
        shared = shared_networks(begin, end, parties[Side.SOURCE].facts)
        shared = tuple(network for network in shared if same or network.driver == "overlay")
        if not shared:
            raise UsageError(f"{begin.name} and {end.name} have no network in common that spans their hosts")
        network = next((each for each in shared if _has(end, each, destination.name)), shared[0])
        protocol, port = _protocol(destination), destination.port
        if network.driver != "overlay":
            way = bridge_way(hosts[Side.SOURCE], begin, end, network, protocol=protocol, port=port)
        else:
            way = overlay_way(
                (hosts[Side.SOURCE], begin),
                (hosts[Side.DESTINATION], end),
                network,
                protocol=protocol,
                port=port,
                same_host=same,
            )
        engine = parties[Side.DESTINATION].facts.engine.value
        theirs = next((each for each in (engine.networks if engine else ()) if each.id == network.id), None)
        return way, parties, {Side.SOURCE: network, Side.DESTINATION: theirs}

    # --- what happens on it ---

    def diagnose(self, way: Way, parties: dict[Side, Party], networks: dict[Side, Network | None]) -> Diagnosis:
        """Watch an attempt, find where it is lost, and what took it."""
        start_s = time.monotonic()
        self._progress("watching an attempt")
        raw, attempt, source_port, control = self._watched(way, parties)
        sights = tuple(
            read_sight(place, raw.get(place.key(), {"error": "not watched"}), source_port) for place in way.places
        )
        self._timings["attempt"] = time.monotonic() - start_s
        found = [attempt_found(way, attempt)]
        if attempt.answered:
            found.append(healthy_found(way, sights))
            found += self._unnoticed(way, parties, networks)
            return self._done(way, sights, (), attempt, found)
        start_s = time.monotonic()
        self._progress("finding what took it")
        lost = losses(sights)
        for loss in lost or ():
            found += self._explained(way, loss, sights, parties, networks, control)
        if not lost:
            found += self._refused(way, sights, parties, attempt)
        self._timings["cause"] = time.monotonic() - start_s
        return self._done(way, sights, lost, attempt, found)

    def _done(
        self, way: Way, sights: tuple[Sight, ...], lost: tuple[Loss, ...], attempt: Attempt, found: Sequence[Found]
    ) -> Diagnosis:
        timings = {name: round(took_s, 3) for name, took_s in self._timings.items()}
        return Diagnosis(way=way, sights=sights, losses=lost, attempt=attempt, found=tuple(found), timings_s=timings)

    def _watched(self, way: Way, parties: dict[Side, Party]) -> tuple[dict[str, Any], Attempt, int | None, bool | None]:
        """Arm both sides, try, and collect. Returns what each place saw, and whether a control packet arrived."""
        control = _control_places(way)
        requests: dict[Side, Request] = {}
        for side, party in parties.items():
            places = [place for place in (*way.places, *control) if place.side is side]
            points = [
                {
                    "name": place.key() if place not in control else f"control:{side.value}",
                    "device": place.device,
                    "netns": _netns(party.facts, place.namespace),
                    "flow": _flow(way, place) if place not in control else {"a": place.a, "b": place.b, "proto": 1},
                }
                for place in places
            ]
            requests[side] = Request("capture-start", {"points": points, "seconds": CAPTURE_S}, 5.0)
        started = self._each(parties, requests)
        attempt, source_port = self._attempt(way, parties[Side.SOURCE])
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
        for answer in self._each(parties, stops).values():
            if answer.data is not None:
                seen.update({point["name"]: point for point in answer.data["points"]})
        arrived = seen.get(f"control:{Side.DESTINATION.value}")
        return seen, attempt, source_port, bool(arrived and arrived.get("frames")) if control else None

    def _each(self, parties: dict[Side, Party], requests: dict[Side, Request]) -> dict[Side, Any]:
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            jobs = {side: pool.submit(parties[side].carrier.ask, [request]) for side, request in requests.items()}
            return {side: job.result()[0] for side, job in jobs.items()}

    def _attempt(self, way: Way, party: Party) -> tuple[Attempt, int | None]:
        netns = _netns(party.facts, way.source.namespace)
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

    # --- why ---

    def _explained(
        self,
        way: Way,
        loss: Loss,
        sights: tuple[Sight, ...],
        parties: dict[Side, Party],
        networks: dict[Side, Network | None],
        control: bool | None,
    ) -> list[Found]:
        traced = self._traces(questions(way, loss, sights), parties)
        causes = [one for each in traced if (one := rule_cause(way, each, parties[each.question.side].name))]
        if not causes:
            causes = [*self._entries(way, loss, sights, parties, networks)]
        if not causes and loss.direction is Direction.BACK and loss.last is None:
            one = listener_cause(parties[Side.DESTINATION].facts, way, refused=False)
            causes = [one] if one is not None else []
        if not causes:
            one = filtered_cause(way, loss, control_arrived=control)
            causes = [one] if one is not None else []
        reason = "; ".join(dict.fromkeys(each.reason for each in traced if each.reason)) or (
            "no filter on either host takes such a packet, and the entries that lead on are as they should be"
        )
        return list(loss_found(way, loss, sights, causes, reason))

    def _traces(self, asked: Sequence[Question], parties: dict[Side, Party]) -> list[Traced]:
        return [self._trace(question, parties[question.side]) for question in asked]

    def _trace(self, question: Question, party: Party) -> Traced:
        try:
            answer: Trace = trace(party.carrier, question.wanted, now_s=self._now_s, options=self._options)
        except UsageError as error:
            return Traced(question=question, trace=None, reason=f"{question.about} on {party.name}: {error}")
        if answer.verdict is TraceVerdict.UNKNOWN:
            return Traced(question=question, trace=answer, reason=f"{question.about}: {answer.reason}")
        if answer.verdict is TraceVerdict.ACCEPT:
            return Traced(question=question, trace=answer)
        around = surroundings(
            party.carrier, answer, now_s=self._now_s, options=self._options, rule_id=f"{int(self._now_s):x}"
        )
        proposal = plan(answer, msgspec.structs.replace(around, host=party.name))
        return Traced(question=question, trace=answer, fix=proposal.fix, reason=proposal.reason)

    def _entries(
        self,
        way: Way,
        loss: Loss,
        sights: tuple[Sight, ...],
        parties: dict[Side, Party],
        networks: dict[Side, Network | None],
    ) -> list[Cause]:
        if way.kind is not PathKind.OVERLAY:
            return []
        sender = Side.SOURCE if loss.direction is Direction.THERE else Side.DESTINATION
        other = Side.DESTINATION if sender is Side.SOURCE else Side.SOURCE
        network = networks[sender]
        at = loss.last
        early = at is None or (at.side is sender and at.stage in (Stage.END, Stage.PORT, Stage.TUNNEL))
        astray = at is not None and at.side is sender and at.stage is Stage.NIC and _is_astray(way, sender, sights)
        hosts = {side: Host(name=party.name, facts=party.facts) for side, party in parties.items()}
        theirs = networks[other]
        if at is not None and at.side is other and at.stage is Stage.NIC and theirs is not None:
            # A VXLAN device takes nothing from a host that its own entry puts elsewhere, and counts it nowhere.
            return list(received_causes(way, loss, hosts[other], hosts[sender], theirs, sights))
        if network is None or not (early or astray):
            return []
        proven = Confidence.PROVEN
        return list(entry_causes(way, hosts[sender], sender, other=hosts[other], network=network, confidence=proven))

    def _unnoticed(self, way: Way, parties: dict[Side, Party], networks: dict[Side, Network | None]) -> list[Found]:
        """Entries that are missing or wrong although the flow works: what was learnt stands in for them for a while."""
        found: list[Found] = []
        if way.kind is not PathKind.OVERLAY:
            return found
        hosts = {side: Host(name=party.name, facts=party.facts) for side, party in parties.items()}
        for side, other in ((Side.SOURCE, Side.DESTINATION), (Side.DESTINATION, Side.SOURCE)):
            network = networks[side]
            if network is not None:
                proven = Confidence.PROVEN
                causes = entry_causes(way, hosts[side], side, other=hosts[other], network=network, confidence=proven)
                found += [unnoticed_found(way, one) for one in causes]
        return found

    def _refused(
        self, way: Way, sights: tuple[Sight, ...], parties: dict[Side, Party], attempt: Attempt
    ) -> list[Found]:
        """The exchange was seen whole, and it was a refusal."""
        party = parties[Side.DESTINATION]
        traced = self._traces(refusal_questions(way), parties)
        causes = [one for each in traced if (one := rule_cause(way, each, party.name))]
        if not causes:
            one = listener_cause(party.facts, way, refused=attempt.refused)
            causes = [one] if one is not None else []
        there = way.places[-1] if way.places else None
        loss = Loss(direction=Direction.BACK, last=None, next=there)
        reason = "somebody listens there, and no rule of its own refuses"
        if listeners(party.facts, way) is None:
            reason = f"the sockets of {way.destination.label()} could not be read"
        return list(loss_found(way, loss, sights, causes, reason))


def _protocol(typed: Typed) -> str:
    return typed.protocol if typed.port is not None else "icmp"


def _has(container: Container, network: Network, address: str) -> bool:
    return any(each.network_id == network.id and each.address == address for each in container.networks)


def _reachable(party: Party) -> str:
    """The address by which other hosts reach a party: as it was typed, else its engine's, else its first."""
    if is_address(party.name):
        return party.name
    engine = party.facts.engine.value
    if engine is not None and engine.swarm.node_address:
        return engine.swarm.node_address
    rows = (party.facts.addresses.value or {}).get(HOST, ())
    return next(
        (row.cidr.partition("/")[0] for row in rows if row.scope == "global" and not row.device.startswith("docker")),
        "",
    )


def _netns(facts: Facts, namespace: str) -> str:
    if namespace == HOST:
        return ""
    found = (facts.namespaces.value or {}).get(namespace)
    return found.path if found is not None else ""


_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1}


def _flow(way: Way, place: Place) -> dict[str, Any]:
    flow: dict[str, Any] = {"a": place.a, "b": place.b, "proto": _NUMBERS[way.protocol]}
    if place.port is not None:
        flow["port"] = place.port
    if place.vxlan_port is not None:
        flow["vxlan_port"] = place.vxlan_port
    return flow


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


def _is_astray(way: Way, sender: Side, sights: tuple[Sight, ...]) -> bool:
    """Whether what left for the tunnel went to another host than the one behind which the other end is."""
    target = way.destination.host_address if sender is Side.SOURCE else way.source.host_address
    for sight in sights:
        if sight.place.side is sender and sight.place.stage is Stage.NIC and sight.outer_targets:
            return target not in sight.outer_targets
    return False


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
