"""Numbered packets between the two hosts of a way, both ways and at a bounded rate, counted at both network cards."""

from __future__ import annotations

import concurrent.futures
import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from netdiag.errors import CarrierError
from netdiag.host.diagnose_parties import Party, Planned
from netdiag.host.sided_probes import Exchange, Sides, Wanted, first_sizes
from netdiag.host.station import Station, devices_of, new_mark
from netdiag.model.facts import HOST
from netdiag.model.path import Direction, Side, Stage
from netdiag.model.two_sided import Payload, SidedProbe
from netdiag.model.two_sided import Way as Sender
from netdiag.model.wire import Request
from netdiag.path.between import Between, is_partly_lost, is_unsteady, judge
from netdiag.path.bursts import Wire, wire_of
from netdiag.path.layers import mtu_of
from netdiag.path.listening import who_listens

TUPLES, TIMES, GAP_MS = 48, 4, 60.0
"""Flows of the way's own kind, how often each is repeated, and after which time."""
_PLAIN, _ECHOES, _ECHO_TIMES, _MORE_ECHOES = 8, 12, 4, 24
_PACE_MS = 1.0
_ARMED_S, _FRAMES = 20.0, 4096
_HELD = (("udp", None),)
"""A port that netdiag itself holds on either host, for datagrams of the ways that have no UDP port of their own."""
_PORTS = range(32768, 60999)
_DIRECTIONS = {Sender.THERE: Direction.THERE, Sender.BACK: Direction.BACK}


def look_between(planned: Planned, *, port: int | None = None, sizes: bool = False) -> Between | None:
    """What the network between the two hosts of a way does to its packets; None where no network is between them.

    Args:
        planned: The way and who takes part.
        port: A tcp port of the destination that answers, for a way without a port.
        sizes: Ask for sizes as well.
    """
    wire = wire_of(planned.way, port=port)
    if wire is not None and _somebody_s(planned, wire):
        wire = msgspec.structs.replace(wire, protocol="icmp", port=None)
    if wire is None or len({id(party) for party in planned.parties.values()}) < len(Side):
        return None
    try:
        with Bursts(planned, wire) as bursts:
            counted = bursts.counted()
            seen = judge(planned.way, wire, counted)
            return msgspec.structs.replace(seen, sized=tuple(bursts.sized(counted))) if sizes else seen
    except CarrierError as error:
        return Between(reason=str(error))


def _somebody_s(planned: Planned, wire: Wire) -> bool:
    """Whether datagrams would come to a program that does not expect them: one was perhaps asked for, and not hundreds."""
    party = planned.parties.get(Side.DESTINATION)
    datagrams = wire.protocol == "udp" and wire.payload is Payload.TAG
    return datagrams and party is not None and bool(who_listens(party.facts, planned.way))


class Bursts:
    """Two armed hosts; use it in a with statement. Raises CarrierError when one of them gives no answer at all."""

    def __init__(self, planned: Planned, wire: Wire) -> None:
        mark = new_mark()
        self._wire, self._planned = wire, planned
        self._devices: dict[Side, list[str]] = {}
        self._stations: dict[Side, Station] = {}
        for side, party in planned.parties.items():
            self._stations[side] = Station(party.name, party.carrier, party.facts, mark)
            nics = [place.device for place in planned.way.places if (place.side, place.stage) == (side, Stage.NIC)]
            self._devices[side] = devices_of(party.facts, nics)
        numbers = itertools.count(1)
        sides = Sides(
            here=self._stations[Side.SOURCE],
            there=self._stations[Side.DESTINATION],
            address=wire.target,
            own_address=wire.origin,
            mark=mark,
            number=lambda: next(numbers),
            rtt_s=max(_answer_s(party) for party in planned.parties.values()),
            pace_ms=_PACE_MS,
        )
        self._exchange = Exchange(sides)

    def __enter__(self) -> Self:
        ends = {Side.SOURCE: self._wire.origin, Side.DESTINATION: self._wire.target}
        others = {Side.SOURCE: self._wire.target, Side.DESTINATION: self._wire.origin}
        try:
            self._both(
                lambda side: self._stations[side].arm(
                    ports=_HELD,
                    devices=self._devices[side],
                    addresses=[ends[side]],
                    peers=[others[side]],
                    seconds=_ARMED_S,
                    frames=_FRAMES,
                )
            )
        except BaseException:
            self._both(lambda side: self._stations[side].disarm())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._both(lambda side: self._stations[side].disarm())

    def counted(self) -> list[SidedProbe]:
        """The probes: a burst each way; where some were lost, the same tuples once more; where all were, what tells."""
        probes = self._sent({Sender.THERE: self._first(Sender.THERE), Sender.BACK: self._first(Sender.BACK)})
        again = {
            sender: self._repeated(probes, sender)
            for sender, direction in _DIRECTIONS.items()
            if is_partly_lost(self._wire, probes, direction)
        }
        if any(again.values()):
            probes += self._sent(again)
        elif again and not self._wire.both_send:
            # Only the answers were lost: they are asked for again.
            probes += self._sent({Sender.THERE: self._repeated(probes, Sender.THERE)})
        plain = {sender: [each for each in probes if each.way is sender and self._is_plain(each)] for sender in Sender}
        unseen = {sender: mine for sender, mine in plain.items() if mine and not any(each.arrived for each in mine)}
        return probes + _side_by_side(lambda sender: self._exchange.again(sender, unseen[sender][:1]), unseen)

    def sized(self, counted: Sequence[SidedProbe]) -> list[SidedProbe]:
        """Packets of growing size with DF both ways, in two kinds, down to the byte where one is lost.

        Those that were counted already are the small ones that must arrive, or a size says nothing. Where such are lost
        now and then, none is asked for: one that is lost would not be lost for its size.
        """
        return _side_by_side(lambda sender: self._sized(sender, counted), Sender)

    def _sized(self, sender: Sender, counted: Sequence[SidedProbe]) -> list[SidedProbe]:
        if is_unsteady(counted, _DIRECTIONS[sender]):
            return []
        side = Side.SOURCE if sender is Sender.THERE else Side.DESTINATION
        receiver = self._stations[Side.DESTINATION if side is Side.SOURCE else Side.SOURCE]
        udp = Wanted(way=sender, protocol="udp", port=self._wire.port, payload=self._wire.payload)
        controls = [each for each in counted if each.way is sender and each.protocol in ("icmp", "udp")]
        if self._wire.payload is not Payload.VXLAN:
            held = next((port for protocol, port in receiver.held if protocol == "udp"), None)
            udp = msgspec.structs.replace(udp, port=held)
            controls = [each for each in controls if each.protocol == "icmp"]
            controls += self._exchange.sent(sender, [udp] if held is not None else [])
        kinds = [Wanted(way=sender, protocol="icmp"), *([udp] if udp.port is not None else [])]
        facts = self._planned.parties[side].facts
        asked = first_sizes(mtu_of(facts, HOST, self._planned.way.nic(side)))
        first = [msgspec.structs.replace(kind, length_bytes=size) for kind in kinds for size in asked]
        probes = [*controls, *self._exchange.sent(sender, first)]
        return self._exchange.sizes(sender, probes)

    def _is_plain(self, probe: SidedProbe) -> bool:
        return (probe.protocol, probe.payload) == ("udp", Payload.TAG) and probe.length_bytes is None

    def _echo(self, sender: Sender) -> Wanted:
        # As an answer leaves: from the address that was called.
        source = self._wire.target if sender is Sender.BACK and not self._wire.both_send else ""
        return Wanted(way=sender, protocol="icmp", count=_ECHO_TIMES, gap_ms=GAP_MS, source=source)

    def _first(self, sender: Sender) -> list[Wanted]:
        wire = self._wire
        echoes = [self._echo(sender)] * _ECHOES
        if wire.protocol == "icmp" or (sender is Sender.BACK and not wire.both_send):
            return echoes
        one = Wanted(
            way=sender, protocol=wire.protocol, port=wire.port, payload=wire.payload, count=TIMES, gap_ms=GAP_MS
        )
        flows = [_from_port(one, port) for port in secrets.SystemRandom().sample(_PORTS, TUPLES)]
        plain = Wanted(way=sender, protocol=wire.protocol, port=wire.port) if wire.payload is Payload.VXLAN else None
        return [*flows, *([plain] * _PLAIN if plain is not None else []), *echoes]

    def _repeated(self, probes: Sequence[SidedProbe], sender: Sender) -> list[Wanted]:
        """The same tuples once more, and enough echoes to tell whether those are lost as well."""
        wire = self._wire
        mine = [
            each
            for each in probes
            if each.way is sender and (each.protocol, each.payload) == (wire.protocol, wire.payload) and each.sent
        ]
        echoes = [self._echo(sender)] * _MORE_ECHOES
        if wire.protocol == "icmp":
            return echoes
        flows = [
            _from_port(
                Wanted(
                    way=sender,
                    protocol=each.protocol,
                    port=each.port,
                    payload=each.payload,
                    count=TIMES,
                    gap_ms=GAP_MS,
                ),
                each.source_port,
            )
            for each in mine
        ]
        return [*flows, *(echoes if flows else [])]

    def _sent(self, wanted: dict[Sender, list[Wanted]]) -> list[SidedProbe]:
        """Both ways at once: neither waits for the other, and neither opens the way for the other's tuples."""
        return _side_by_side(lambda sender: self._exchange.sent(sender, wanted[sender]), wanted)

    def _both(self, call: Callable[[Side], None]) -> None:
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(Side)) as pool:
            for job in [pool.submit(call, side) for side in self._stations]:
                job.result()


def _side_by_side(call: Callable[[Sender], list[SidedProbe]], senders: Iterable[Sender]) -> list[SidedProbe]:
    """The probes of several senders, none of whom waits for another."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(Sender)) as pool:
        return [probe for found in pool.map(call, senders) for probe in found]


def _from_port(wanted: Wanted, port: int | None) -> Wanted:
    return msgspec.structs.replace(wanted, source_port=port, by_hand=wanted.protocol == "tcp")


def _answer_s(party: Party) -> float:
    """How long a host takes to answer anything: what is sent between the two may be on the way as long."""
    start_s = time.monotonic()
    party.carrier.ask([Request("clock", {}, 2.0)])
    return min(1.0, time.monotonic() - start_s)
