"""An examination of the paths between this host and its peers: both sides are armed, then each sends to the other.

What arrives from a peer is asked first, from ports that this host could not have opened the way for. Every probe is
known by a number; how often it left, arrived and came through is read from both sides afterwards.
"""

from __future__ import annotations

import functools
import itertools
import queue
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from netdiag.checks.context import Context
from netdiag.checks.context import Options as CheckOptions
from netdiag.errors import CarrierError
from netdiag.facts.context import Options
from netdiag.host.drive import Carrier, not_understood
from netdiag.host.losses import lost_there, trace_losses, translated_there, with_rules
from netdiag.host.meet import NotMet, Peer, Target, meet, same_host
from netdiag.host.sided_probes import NO_NUMBERS, Exchange, OutOfNumbers, Sides, Wanted, wanted_probes
from netdiag.host.station import Port, Station, devices_of, new_mark
from netdiag.model.facts import Facts
from netdiag.model.two_sided import PeerView, SidedProbe, Unmet, Way
from netdiag.participant.capture import FRAMES_LIMIT
from netdiag.participant.marks import MOST
from netdiag.swarm.ports import CONTROL_PORT, DEFAULT_DATA_PATH_PORT, Plane, PortUse, Protocol, ports_of_swarm

ONE_S, MANY_S = 8.0, 10.0
"""The longest that an examination of one peer, and of many, goes on."""
_TRIPS, _FAR_S = 30, 24.0
"""Round trips of an examination with everything that may follow, and the longest that it goes on for a far peer."""
_MEET_ALONE_S = 10.0
"""The longest that the facts of a single peer may take; of many, what else is to be done must have its time."""
_TRACE_S = 2.0
_TRACE_TRIPS = 8
"""What is kept for traces at the end."""
AT_ONCE = 64
ARMED_S = 30.0
"""After so long whatever was armed ends by itself, whoever is still there."""
_FRAMES_OF_ONE = 2048
"""Frames of one peer's probes that are kept: each is seen once on every device that it passes."""
_READ_AT_ONCE = 8
"""Peers whose rules are read side by side, with what time is left at the end: some of them are better than none."""
_TRACED_OF_A_KIND = 3
"""Peers with which losses of one kind are traced; with the others the rules of who lost it are read."""


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an examination.

    Attributes:
        own_address: What this host will be, or is, known by in the swarm; empty for the address that routing uses.
        data_path_port: None where the engines say.
        manager: Whether this host is, or will be, a manager: peers must then reach it at ``control_port``.
        encrypted: Whether protocol 50 matters, even if no engine has an encrypted network.
        now_s: Unix time.
    """

    own_address: str = ""
    data_path_port: int | None = None
    manager: bool = False
    encrypted: bool = False
    control_port: int = CONTROL_PORT
    now_s: float = 0.0


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """The views, in the order of the targets, and how long each part took, in seconds."""

    views: tuple[PeerView, ...]
    timings: tuple[tuple[str, float], ...] = ()


def examine(
    here: Carrier,
    facts: Facts,
    targets: Sequence[Target],
    asked: Sought,
    *,
    options: Options,
    progress: Callable[[str], None] | None = None,
) -> Examined:
    """Examine the paths between this host and its peers, both ways.

    Args:
        here: This host's participant.
        facts: Of this host, all sections.
        targets: The peers.
        asked: What is asked.
        options: How facts are read.
        progress: Told what is being done.

    Never raises for a peer that answers badly, late or not at all: its view says why there is none.
    """
    return _Examination(here, facts, targets, asked, options, progress or (lambda _what: None)).run()


class _Examination:
    def __init__(
        self,
        here: Carrier,
        facts: Facts,
        targets: Sequence[Target],
        asked: Sought,
        options: Options,
        progress: Callable[[str], None],
    ) -> None:
        self._facts, self._targets, self._asked, self._options, self._say = facts, targets, asked, options, progress
        self._mark = new_mark()
        self._used: set[int] = set()
        self._here = Station("this host", here, facts, self._mark)
        self._kinds: Counter[tuple[Any, ...]] = Counter()
        self._unread: list[Peer] = []
        """Peers of which the rules matter and were not read for a trace."""
        self._lock = threading.Lock()
        self._begun: dict[int, Callable[[], PeerView]] = {}
        """By the peer: what is known of it by now."""
        self.concurrency = min(AT_ONCE, len(targets))

    def run(self) -> Examined:
        start_s = time.monotonic()
        end_s = start_s + (ONE_S if len(self._targets) == 1 else MANY_S)
        self._say("asking the peers for their facts")
        alone = len(self._targets) == 1
        met_by_s = start_s + _MEET_ALONE_S if alone else end_s - 3.0
        met = _once_each(self._each([self._meeting(target) for target in self._targets], met_by_s))
        met_s = time.monotonic()
        peers = [each for each in met if isinstance(each, Peer)]
        if alone and peers:
            end_s = max(end_s, met_s + min(_FAR_S, ONE_S + _TRIPS * _rtt_s(peers[0])))
        views: dict[int, PeerView] = {}
        if peers:
            self._arm_here(peers)
            self._say(f"sending probes between this host and {len(peers)} peers")
            sessions = [functools.partial(self._examine, peer, end_s) for peer in peers]
            try:
                for peer, found in zip(peers, self._each(sessions, end_s), strict=True):
                    views[id(peer)] = found if isinstance(found, PeerView) else self._without(peer, found)
            finally:
                self._here.disarm()
            self._read_rules(views, end_s)
        ended_s = time.monotonic()
        result = [
            views[id(each)] if isinstance(each, Peer) else each.view(target)
            for target, each in zip(self._targets, met, strict=True)
        ]
        timings = (("facts of the peers", met_s - start_s), ("probes and traces", ended_s - met_s))
        return Examined(views=tuple(result), timings=timings)

    def _read_rules(self, views: dict[int, PeerView], end_s: float) -> None:
        """With what time is left: the rules of peers that lost something and on which it was not traced."""
        peers = [peer for peer in self._unread if not views[id(peer)].why_not]
        calls = [functools.partial(self._rules_of, peer) for peer in peers]
        for peer, facts in zip(peers, self._each(calls, end_s, at_once=_READ_AT_ONCE), strict=True):
            if isinstance(facts, Facts):
                views[id(peer)] = msgspec.structs.replace(views[id(peer)], facts=facts)

    def _rules_of(self, peer: Peer) -> Facts:
        assert peer.target.carrier is not None  # noqa: S101 - it was met over it
        return with_rules(peer.target.carrier, peer.facts)

    def _each(self, calls: Sequence[Callable[[], Any]], end_s: float, *, at_once: int = AT_ONCE) -> list[Any]:
        """The results of calls that are made side by side; why not for one that fails or is late."""
        results: list[Any] = [NotMet(unmet=Unmet.LATE, why="not done in time")] * len(calls)
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        for index in range(len(calls)):
            todo.put(index)

        def work() -> None:
            while time.monotonic() < end_s:
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((index, calls[index]()))
                except Exception as error:  # noqa: BLE001 - one peer's odd answer must not cost the others
                    done.put((index, _failed(error)))

        for _ in range(min(at_once, len(calls))):
            threading.Thread(target=work, name="netdiag-peer", daemon=True).start()
        for _ in calls:
            try:
                index, result = done.get(timeout=max(0.0, end_s - time.monotonic()))
            except queue.Empty:
                break
            results[index] = result
        return results

    def _meeting(self, target: Target) -> Callable[[], Peer | NotMet]:
        asked = self._asked
        return lambda: meet(target, self._here.carrier, self._facts, own_address=asked.own_address, now_s=asked.now_s)

    def _uses(self, peers: Sequence[Peer]) -> tuple[PortUse, ...]:
        engines = [facts.engine.value for facts in (self._facts, *(peer.facts for peer in peers))]
        encrypted = self._asked.encrypted or any(
            network.encrypted for engine in engines if engine is not None for network in engine.networks
        )
        ports = [self._asked.data_path_port or 0]
        ports += [engine.swarm.data_path_port or 0 for engine in engines if engine is not None]
        port = next((each for each in ports if each), DEFAULT_DATA_PATH_PORT)
        return ports_of_swarm(control_port=self._asked.control_port, data_path_port=port, encrypted=encrypted)

    def _arm_here(self, peers: Sequence[Peer]) -> None:
        self._all_uses = self._uses(peers)
        devices = dict.fromkeys([peer.device for peer in peers if peer.device])
        self._here.arm(
            ports=[_port(use) for use in self._all_uses if use.plane is not Plane.CONTROL or self._asked.manager],
            devices=devices_of(self._facts, tuple(devices)),
            connections=_tcp_ports(self._all_uses) | {peer.target.control_port or CONTROL_PORT for peer in peers},
            addresses={peer.own_address for peer in peers},
            peers={peer.address for peer in peers},
            seconds=ARMED_S,
            frames=min(FRAMES_LIMIT, _FRAMES_OF_ONE * len(peers)),
        )

    def _without(self, peer: Peer, not_met: NotMet) -> PeerView:
        """The view of a peer that did not come to its end: what was found out until then, where it is late only."""
        begun = self._begun.get(id(peer))
        if begun is None or not_met.unmet is not Unmet.LATE:
            return peer.without(not_met)
        view = begun()
        return msgspec.structs.replace(view, unfinished=tuple((way, "not done in time") for way in Way))

    def _examine(self, peer: Peer, end_s: float) -> PeerView:
        carrier = peer.target.carrier
        assert carrier is not None  # noqa: S101 - it was met over it
        there = Station(peer.target.given, carrier, peer.facts, self._mark, joined_on_disk=peer.joined_on_disk)
        engine = peer.facts.engine.value
        is_manager = peer.target.control_port is not None or (engine is not None and engine.swarm.is_manager)
        control = peer.target.control_port or CONTROL_PORT
        uses = {
            Way.THERE: [
                msgspec.structs.replace(use, port=control) if use.plane is Plane.CONTROL else use
                for use in self._all_uses
                if use.plane is not Plane.CONTROL or is_manager
            ],
            Way.BACK: [use for use in self._all_uses if use.plane is not Plane.CONTROL or self._asked.manager],
        }
        there.arm(
            ports=[_port(use) for use in uses[Way.THERE]],
            connections=_tcp_ports([*uses[Way.THERE], *uses[Way.BACK]]),
            devices=devices_of(peer.facts, (peer.peer_device,)),
            addresses=[peer.address],
            peers=[peer.own_address],
            seconds=ARMED_S,
            frames=_FRAMES_OF_ONE,
        )
        try:
            return self._exchanged(peer, there, uses, is_manager, end_s)
        finally:
            there.disarm()

    def _exchanged(
        self, peer: Peer, there: Station, uses: dict[Way, list[PortUse]], is_manager: bool, end_s: float
    ) -> PeerView:
        sides = Sides(
            here=self._here,
            there=there,
            address=peer.address,
            own_address=peer.own_address,
            mark=self._mark,
            number=self._number,
            rtt_s=_rtt_s(peer),
            pace_ms=max(1.0, self.concurrency / 4),
        )
        wanted: list[Wanted] = []
        left_out: list[tuple[Way, str]] = []
        for way, mtu_bytes in ((Way.BACK, peer.peer_mtu_bytes), (Way.THERE, peer.mtu_bytes)):
            more, withheld = wanted_probes(uses[way], way, mtu_bytes, sides.receiver(way))
            wanted += more
            left_out += [(way, label) for label in withheld]
        exchange = Exchange(sides, end_s=end_s - _TRACE_S - _TRACE_TRIPS * sides.rtt_s)

        def known() -> PeerView:
            return msgspec.structs.replace(
                peer.view(),
                probes=tuple(exchange.known()),
                blind_here=self._here.blind,
                blind_there=there.blind,
                unguarded=tuple(left_out),
                unfinished=tuple(exchange.unfinished.items()),
                is_manager=is_manager,
            )

        self._begun[id(peer)] = known
        probes = exchange.run(wanted)
        gone = there.gone()
        if gone:
            return peer.without(NotMet(unmet=Unmet.GONE, why=f"it went away while it was asked: {gone}"))
        everything = exchange.lost(probes)
        lost = [each for each in everything if self._may_trace(each)]
        traces, facts = trace_losses(lost, sides, now_s=self._asked.now_s, options=self._options)
        if facts is None and (translated_there(probes) or any(lost_there(each) for each in everything)):
            self._unread.append(peer)
        return msgspec.structs.replace(known(), facts=facts or peer.facts, traces=traces)

    def _number(self) -> int:
        """A number that no probe has had. It is random: a peer knows the run's mark, and not the others' numbers."""
        with self._lock:
            if len(self._used) >= MOST:
                raise OutOfNumbers
            drawn = (1 + secrets.randbelow(MOST) for _ in itertools.count())
            number = next(each for each in drawn if each not in self._used)
            self._used.add(number)
            return number

    def _may_trace(self, probe: SidedProbe) -> bool:
        sized = probe.length_bytes is not None
        place = (bool(probe.left), bool(probe.arrived), bool(probe.answers_left))
        kind = (probe.way, probe.protocol, probe.port, probe.payload, sized, *place)
        with self._lock:
            self._kinds[kind] += 1
            return self._kinds[kind] <= _TRACED_OF_A_KIND


def _once_each(met: Sequence[Peer | NotMet]) -> list[Peer | NotMet]:
    """Each host once, as the manager that it is if it is one: two stations on one host would take each other's probes."""
    kept: list[Peer | NotMet] = list(met)
    order = sorted(range(len(met)), key=lambda index: _rank(met[index]))
    known: dict[str, list[Peer]] = {}
    """By each of its addresses, and by all of them together: there may be hundreds of peers."""
    for index in order:
        each = met[index]
        if not isinstance(each, Peer):
            continue
        host = Context(facts=each.facts, options=CheckOptions())
        together = " ".join(sorted(host.own_addresses()))
        near = [*known.get(each.address, ()), *known.get(together, ())]
        first = next((one for one in near if same_host(each.facts, each.address, one.facts, one.address)), None)
        if first is None:
            for key in {*host.local_addresses(), together}:
                known.setdefault(key, []).append(each)
        else:
            kept[index] = NotMet(unmet=Unmet.SAME_HOST, why=f"it is the same host as {first.target.given}")
    return kept


def _rtt_s(peer: Peer) -> float:
    return peer.clock.error_s * 2 if peer.clock is not None else 0.0


def _rank(met: Peer | NotMet) -> bool:
    return not (isinstance(met, Peer) and met.target.control_port is not None)


def _failed(error: Exception) -> NotMet:
    if isinstance(error, CarrierError):
        return NotMet(unmet=Unmet.GONE, why=str(error))
    if isinstance(error, OutOfNumbers):
        return NotMet(unmet=Unmet.LATE, why=NO_NUMBERS)
    return NotMet(unmet=Unmet.ODD, why=not_understood(error))


def _tcp_ports(uses: Sequence[PortUse]) -> set[int]:
    return {use.port for use in uses if use.protocol is Protocol.TCP and use.port is not None}


def _port(use: PortUse) -> Port:
    return (use.protocol.value, use.port)
