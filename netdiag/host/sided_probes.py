"""The probes between two hosts: which are sent, in which order, and what became of each."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from netdiag.facts import sizes as planner
from netdiag.facts.marked_frames import Sight, of_connection
from netdiag.host import sided_repeats as repeats
from netdiag.host.drive import not_understood
from netdiag.host.station import Station
from netdiag.model.icmp import IcmpError
from netdiag.model.two_sided import Heard, Payload, SidedProbe, Way
from netdiag.model.wire import Request
from netdiag.swarm.ports import Plane, PortUse

TCP_WAIT_MS = 1200
"""One retransmission of a SYN (RFC 6298: after 1 s) and its answer fit in."""
WAIT_MS = 300
TIMES = 2
"""How often a datagram is sent: one that is lost by chance must not look like one that is filtered."""
AGAIN_TIMES = 3
SETTLE_S = 0.12
OVERLAY_OUTER_BYTES = 1500
_LEAD_S = 0.15
"""How much later this host sends than the peer, if that has not ended before."""
_REFINING_ROUNDS = 3
_GAP_MS = 20.0
_EDGES = 2
"""How often the smallest size that is lost is made sure of."""
NO_NUMBERS = "one run has no more numbers for probes: ask fewer peers at once"
_SSH_PORT = 22
_TRIPS_OF_A_STEP = 6


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A probe that is to be sent.

    Attributes:
        count: How often. A connection attempt repeats itself, unless it is made by hand.
        gap_ms: Between two sendings; None for the participant's own.
        source: The address to send from; empty for the one that routing uses.
        source_port: None for any that is free.
        by_hand: Without a socket: a SYN whose connection never comes about, so that no program sees it.
    """

    way: Way
    protocol: str
    port: int | None = None
    payload: Payload = Payload.TAG
    length_bytes: int | None = None
    count: int = TIMES
    gap_ms: float | None = None
    source: str = ""
    source_port: int | None = None
    by_hand: bool = False


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """Two armed hosts and how they reach each other."""

    here: Station
    there: Station
    address: str
    own_address: str
    mark: str
    number: Callable[[], int]
    rtt_s: float
    pace_ms: float

    def sender(self, way: Way) -> Station:
        """Who sends."""
        return self.here if way is Way.THERE else self.there

    def receiver(self, way: Way) -> Station:
        """Who should receive."""
        return self.there if way is Way.THERE else self.here

    def destination(self, way: Way) -> str:
        """Where to."""
        return self.address if way is Way.THERE else self.own_address


def wanted_probes(
    uses: Iterable[PortUse], way: Way, mtu_bytes: int, receiver: Station
) -> tuple[list[Wanted], list[str]]:
    """The probes of one way, and the labels of ports to which none may be sent."""
    wanted = [Wanted(way=way, protocol="icmp")]
    withheld: list[str] = []
    for use in uses:
        protocol = use.protocol.value
        if not receiver.may_be_sent(protocol, use.port):
            withheld.append(use.label())
            continue
        one = Wanted(way=way, protocol=protocol, port=use.port)
        wanted.append(one)
        if use.plane is Plane.DATA and protocol == "udp":
            wanted.append(msgspec.structs.replace(one, payload=Payload.VXLAN))
            for size in first_sizes(mtu_bytes):
                large = msgspec.structs.replace(one, payload=Payload.VXLAN, length_bytes=size)
                wanted += [large, Wanted(way=way, protocol="icmp", length_bytes=size)]
    return wanted, withheld


def first_sizes(mtu_bytes: int) -> list[int]:
    """What the device may send, and what an overlay with the usual MTU needs; none for one that sends small ones only."""
    return sorted({min(mtu_bytes, OVERLAY_OUTER_BYTES), mtu_bytes}) if mtu_bytes > planner.CONTROL_BYTES else []


class OutOfNumbers(Exception):
    """All numbers that a run can give its probes are given."""


class _OutOfTime(Exception):
    """What would be asked next would not be done in time."""


class Exchange:
    """One exchange between two hosts."""

    def __init__(self, sides: Sides, *, end_s: float = math.inf) -> None:
        """Everything is asked until ``end_s``, a reading of the monotonic clock: later steps are left out for it."""
        self._sides = sides
        self._end_s = end_s
        self._known: dict[Way, list[SidedProbe]] = {}
        self.unfinished: dict[Way, str] = {}
        """Why what follows the first probes of a way was not asked to its end."""
        self._sources: dict[Way, set[str]] = {way: set() for way in Way}
        """From which addresses a way's probes arrive."""
        self._unknown: set[int] = set()
        """Connections whose kernel chose the sequence number itself (only root may): no frame can be told to be theirs."""

    def run(self, wanted: Sequence[Wanted]) -> list[SidedProbe]:
        """Everything: the probes, then again what is missing and where the receiver's state may matter, and sizes."""
        probes = self._both(
            [each for each in wanted if each.way is Way.BACK], [each for each in wanted if each.way is Way.THERE]
        )
        self._known = {way: [each for each in probes if each.way is way] for way in Way}
        threads = [
            threading.Thread(target=self._follow, args=(way,), name=f"netdiag-{way.value}", daemon=True) for way in Way
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.known()

    def known(self) -> list[SidedProbe]:
        """What is known by now; whoever has no time to wait for the rest takes this."""
        return [each for way in Way for each in self._known.get(way, ())]

    def _follow(self, way: Way) -> None:
        """What one way asks for after the first probes; the two ways do not wait for each other."""
        try:
            for known in self._ask_more(way, self._known[way]):
                self._known[way] = known
        except _OutOfTime:
            self.unfinished[way] = f"there was no time left for it (a round trip takes {self._sides.rtt_s:.1f} s)"
        except OutOfNumbers:
            self.unfinished[way] = NO_NUMBERS
        except Exception as error:  # noqa: BLE001 - an odd answer costs no more than what it was about
            self.unfinished[way] = not_understood(error)

    def _require_time(self) -> None:
        """Raises _OutOfTime where not even one more step would be done in time, if everybody answers."""
        step_s = (TCP_WAIT_MS + repeats.OVER_MS) / 1000 + SETTLE_S + _TRIPS_OF_A_STEP * self._sides.rtt_s
        if self._end_s - time.monotonic() < step_s:
            raise _OutOfTime

    def _ask_more(self, way: Way, mine: list[SidedProbe]) -> Iterator[list[SidedProbe]]:
        """All that is known of a way, after each further step."""
        found: list[SidedProbe] = []
        if not any(each.arrived for each in mine) and not self._sides.receiver(way).blind:
            # Nothing at all: what the operator himself came by is the last thing that may get through.
            found += self.sent(way, [Wanted(way=way, protocol="tcp", port=_SSH_PORT)])
            yield [*mine, *found]
        found += self.again(way, mine)
        yield [*mine, *found]
        if any(each.arrived for each in (*mine, *found)):
            mine = self._repeated(way, mine, found)
            yield [*mine, *found]
        if not any(each.came_partly for each in (*mine, *found)):
            for known in self._sizes(way, mine):
                yield [*known, *found]

    def _repeated(self, way: Way, probes: Sequence[SidedProbe], spoken: Sequence[SidedProbe]) -> list[SidedProbe]:
        """The probes, those that were not seen arriving with what became of them when they were sent again."""
        came = {(each.protocol, each.port) for each in spoken if each.again and each.arrived and each.passed != 0}
        lost = [
            each for each in probes if repeats.worth_repeating(each, spoken_came=(each.protocol, each.port) in came)
        ]
        return self._merged(way, probes, lost)

    def _merged(self, way: Way, probes: Sequence[SidedProbe], lost: Sequence[SidedProbe]) -> list[SidedProbe]:
        if not lost:
            return list(probes)
        self._require_time()
        # In turns, so that each is spread over all the time.
        wanted = [
            Wanted(
                way=way,
                protocol=each.protocol,
                port=each.port,
                payload=each.payload,
                length_bytes=each.length_bytes,
                count=1,
            )
            for _ in range(repeats.TIMES)
            for each in lost
        ]
        again = self._seen(self._send(way, wanted, over_ms=repeats.OVER_MS))
        found: dict[int, SidedProbe] = {}
        for each in lost:
            kind = (each.protocol, each.port, each.payload, each.length_bytes)
            same = [one for one in again if (one.protocol, one.port, one.payload, one.length_bytes) == kind]
            # What was late only has come by now.
            found[each.number] = repeats.merged(self._observed(each), same)
        return [found.get(each.number, each) for each in probes]

    def lost(self, probes: Sequence[SidedProbe]) -> list[SidedProbe]:
        """The probes whose way ends at one of the two hosts, one for each port, kind and payload.

        Of sizes it is the smallest that is lost there, where shorter ones come.
        """
        kept: dict[tuple[Any, ...], SidedProbe] = {}
        for each in sorted(probes, key=lambda one: one.length_bytes or 0):
            if each.again or each.protocol == "icmp" or each.port == _SSH_PORT:
                continue
            if lost_at_a_host(each):
                kept.setdefault((each.way, each.protocol, each.port, each.payload, each.arrived is None), each)
        return list(kept.values())

    def _both(self, back: Sequence[Wanted], there: Sequence[Wanted]) -> list[SidedProbe]:
        """Inbound first: this host sends when the peer has sent, or soon after."""
        found: list[SidedProbe] = []
        failed: list[BaseException] = []

        def from_peer() -> None:
            try:
                found.extend(self._send(Way.BACK, back))
            except Exception as error:  # noqa: BLE001 - handed to the caller's thread
                failed.append(error)

        thread = threading.Thread(target=from_peer, name="netdiag-from-peer", daemon=True)
        thread.start()
        thread.join(_LEAD_S + self._sides.rtt_s)
        own = self._send(Way.THERE, there)
        thread.join()
        if failed:
            raise failed[0]
        return self._seen([*found, *own])

    def sent(self, way: Way, wanted: Sequence[Wanted]) -> list[SidedProbe]:
        """Send the probes of one way, and what both sides saw of them."""
        if not wanted:
            return []
        self._require_time()
        return self._seen(self._send(way, wanted))

    def _send(self, way: Way, wanted: Sequence[Wanted], *, over_ms: float = 0.0) -> list[SidedProbe]:
        """Send probes in two batches side by side, because only connections are worth a long wait.

        With ``over_ms`` they are spread over so long, and connections are not worth a long wait either.
        """
        batches = [
            [each for each in wanted if each.protocol == "tcp"],
            [each for each in wanted if each.protocol != "tcp"],
        ]
        rows = [[(each, self._sides.number()) for each in batch] for batch in batches if batch]
        requests = [self._request(way, batch, over_ms) for batch in rows]
        answers = self._sides.sender(way).carrier.ask(requests)
        probes: list[SidedProbe] = []
        for batch, answer in zip(rows, answers, strict=True):
            if answer.data is None:
                why = answer.error.text if answer.error is not None else "no answer"
                probes += [self._probe(each, number, {"error": why}) for each, number in batch]
                continue
            probes += [
                self._probe(each, number, row) for (each, number), row in zip(batch, answer.data["probes"], strict=True)
            ]
        return probes

    def _request(self, way: Way, batch: Sequence[tuple[Wanted, int]], over_ms: float) -> Request:
        wait_ms = TCP_WAIT_MS if batch[0][0].protocol == "tcp" and not over_ms else WAIT_MS
        wait_ms += int(self._sides.rtt_s * 3000)
        listing = [self._params(way, each, number) for each, number in batch]
        pace_ms = max(self._sides.pace_ms, over_ms / len(batch))
        params = {"probes": listing, "wait_ms": wait_ms, "pace_ms": pace_ms}
        sending_s = len(batch) * pace_ms / 1000 + 0.2
        return Request("send-probe", params, wait_ms / 1000 + sending_s + 1.0)

    def _params(self, way: Way, each: Wanted, number: int) -> dict[str, Any]:
        receiver, sender = self._sides.receiver(way), self._sides.sender(way)
        answers = receiver.answers(each.protocol, each.port)
        params: dict[str, Any] = {
            "proto": each.protocol,
            "dst": self._sides.destination(way),
            "dport": each.port or 0,
            "tag": self._sides.mark + f"{number:08x}",
            "payload": each.payload.value,
            # Sizes are seen arriving. Where this host takes marked datagrams away, it takes the answers too.
            "expects": answers
            and each.length_bytes is None
            and (each.protocol in ("tcp", "icmp") or not sender.guarded),
            "count": 1 if each.protocol == "tcp" and not each.by_hand else each.count,
            "src": each.source,
            "sport": each.source_port or 0,
            "by_hand": each.by_hand,
        }
        if each.gap_ms is not None:
            params["gap_ms"] = each.gap_ms
        if each.length_bytes is not None:
            # An ICMP error about the first one is heard when the next one is sent: it needs the time to come back.
            gap_ms = max(_GAP_MS, self._sides.rtt_s * 1500)
            params.update(length=each.length_bytes, df=True, gap_ms=gap_ms)
        return params

    def _probe(self, each: Wanted, number: int, row: dict[str, Any], again: bool = False) -> SidedProbe:
        if each.protocol == "tcp" and row.get("sequence") is None:
            self._unknown.add(number)
        heard = row.get("heard") or {}
        icmp = heard.get("icmp")
        return SidedProbe(
            number=number,
            way=each.way,
            protocol=each.protocol,
            port=each.port,
            payload=each.payload,
            length_bytes=each.length_bytes,
            again=again,
            expected=self._sides.receiver(each.way).answers(each.protocol, each.port),
            source=row.get("src") or "",
            source_port=row.get("sport") or None,
            destination=self._sides.destination(each.way),
            sent=len(row.get("sent_us") or ()),
            refused=(row.get("error") or "") if row.get("src") else "",
            unsent="" if row.get("src") else row.get("error") or "it was not sent",
            heard=Heard(
                kind=heard.get("kind") or "nothing",
                rtt_us=heard.get("rtt_us"),
                icmp=IcmpError(
                    type=icmp["type"], code=icmp["code"], sender=icmp["offender"], mtu_bytes=icmp["info"] or None
                )
                if icmp
                else None,
            ),
        )

    def _seen(self, probes: Sequence[SidedProbe]) -> list[SidedProbe]:
        """With what both sides saw of each; what may still be on the way is waited for."""
        end_s = time.monotonic() + SETTLE_S + self._sides.rtt_s
        while True:
            for station in (self._sides.here, self._sides.there):
                station.look()
            seen = [self._observed(each) for each in probes]
            if all(_came(each) for each in seen) or time.monotonic() >= end_s:
                return seen
            time.sleep(0.02)

    def _observed(self, probe: SidedProbe) -> SidedProbe:
        if probe.number in self._unknown:
            return probe
        sender, receiver = self._sides.sender(probe.way), self._sides.receiver(probe.way)
        arrived = receiver.sights(probe.number, out=False, answer=False)
        first = arrived[0] if arrived else None
        gone = next(iter(sender.sights(probe.number, out=True, answer=False)), None)
        if first is not None:
            self._sources[probe.way].add(first.source)
        found = msgspec.structs.replace(
            probe,
            left=sender.seen(probe.number, out=True, answer=False),
            arrived=receiver.seen(probe.number, out=False, answer=False),
            passed=receiver.passed(probe.number) if receiver.sees(probe.protocol, probe.port) else None,
            answers_left=receiver.seen(probe.number, out=True, answer=True),
            answers_arrived=sender.seen(probe.number, out=False, answer=True),
            left_source=gone.source if gone is not None else "",
            left_destination=gone.destination if gone is not None else "",
            seen_source=first.source if first is not None else "",
            seen_source_port=first.source_port if first is not None else None,
            seen_destination=first.destination if first is not None else "",
            seen_devices=receiver.places(probe.number, out=False, answer=False),
            answer_devices=receiver.places(probe.number, out=True, answer=True),
            left_devices=sender.places(probe.number, out=True, answer=False),
            back_devices=sender.places(probe.number, out=False, answer=True),
            short_of=sender.short_of(probe.number, out=True, answer=False)
            or receiver.short_of(probe.number, out=False, answer=False),
            unseen=receiver.unread() or sender.unread(),
        )
        return self._by_its_ends(found) if probe.protocol == "tcp" else found

    def _by_its_ends(self, probe: SidedProbe) -> SidedProbe:
        """A connection with what was seen of it under another number: many firewalls give segments one of their own."""
        sender, receiver = self._sides.sender(probe.way), self._sides.receiver(probe.way)
        begun = of_connection(
            receiver.unnumbered(out=False, answer=False),
            sources={probe.source, *self._sources[probe.way]},
            source_port=None,
            port=probe.port,
        )
        mine = _at_one_place([each for each in begun if each.source_port == probe.source_port])
        if probe.arrived == 0 and mine:
            probe = msgspec.structs.replace(
                probe,
                arrived=len(mine),
                seen_source=mine[0].source,
                seen_source_port=mine[0].source_port,
                seen_destination=mine[0].destination,
            )
        elif probe.arrived == 0:
            probe = msgspec.structs.replace(probe, alike=len(_at_one_place(begun)))
        counts: dict[str, int] = {}
        for name, station, source, source_port in (
            ("answers_left", receiver, probe.seen_source, probe.seen_source_port),
            ("answers_arrived", sender, probe.source, probe.source_port),
        ):
            answers = station.unnumbered(out=station is receiver, answer=True)
            like = of_connection(answers, sources={source}, source_port=source_port, port=probe.port)
            if getattr(probe, name) == 0 and source_port is not None and like:
                counts[name] = len(_at_one_place(like))
        return msgspec.structs.replace(probe, **counts) if counts else probe

    def sizes(self, way: Way, probes: Sequence[SidedProbe]) -> list[SidedProbe]:
        """The probes, and more sizes until it is known, and sure, which is the largest that arrives."""
        known = list(probes)
        for latest in self._sizes(way, probes):
            known = latest
        return list(known)

    def _sizes(self, way: Way, probes: Sequence[SidedProbe]) -> Iterator[list[SidedProbe]]:
        """The probes, and more sizes: close in on the largest packet that arrives, where one that may be sent did not."""
        found = list(probes)
        for _ in range(_REFINING_ROUNDS + _EDGES):
            wanted: list[Wanted] = []
            edges: list[SidedProbe] = []
            for protocol in ("icmp", "udp"):
                like = next((each for each in found if each.protocol == protocol and each.length_bytes), None)
                if like is not None:
                    kind = (protocol, like.port, like.payload)
                    mine = [each for each in found if (each.protocol, each.port, each.payload) == kind]
                    one = Wanted(way=way, protocol=protocol, port=like.port, payload=like.payload)
                    wanted += [msgspec.structs.replace(one, length_bytes=size) for size in _next_sizes(mine)]
                    edge = repeats.edge_of(mine)
                    edges += [edge] if edge is not None and any(each.arrived for each in mine) else []
            if wanted:
                found += self.sent(way, wanted)
            elif edges:
                found = self._merged(way, found, edges)
            else:
                return
            yield found

    def again(self, way: Way, probes: Sequence[SidedProbe]) -> list[SidedProbe]:
        """Datagrams that did not come through, once more from a port to which the receiver has sent before."""
        lost = [
            each
            for each in probes
            if each.protocol == "udp"
            and each.length_bytes is None
            and each.payload is Payload.TAG
            and _may_be_stateful(each)
        ]
        if not lost:
            return []
        self._require_time()
        return self._seen(self._spoken(way, lost))

    def _spoken(self, way: Way, lost: Sequence[SidedProbe]) -> list[SidedProbe]:
        """The receiver sends from the very ports to the very sources; then the sources send again. All in one round."""
        sender, receiver = self._sides.sender(way), self._sides.receiver(way)
        held = {
            "ports": [{"proto": "udp", "port": each.source_port} for each in lost],
            "mark": self._sides.mark,
            "address": lost[0].source,
            "peers": [self._sides.destination(way)],
            "seconds": 5 + self._sides.rtt_s * 4,
        }
        (answer,) = sender.carrier.ask([Request("bind-port", held, 3.0)])
        if answer.data is None:
            return []
        lost = [each for each, row in zip(lost, answer.data["ports"], strict=True) if row["bound"]]
        openings = [
            self._by_hand(
                source=(each.seen_destination or each.destination, each.port),
                target=(each.seen_source or each.source, each.seen_source_port or each.source_port),
                number=self._sides.number(),
            )
            for each in lost
        ]
        (opened,) = receiver.carrier.ask([Request("send-probe", {"probes": openings, "wait_ms": 0}, 3.0)])
        if opened.data is None:
            return []
        numbers = [self._sides.number() for _ in lost]
        again = [
            self._by_hand(
                source=(each.source, each.source_port),
                target=(each.destination, each.port),
                number=number,
                count=AGAIN_TIMES,
            )
            for each, number in zip(lost, numbers, strict=True)
        ]
        (sent,) = sender.carrier.ask([Request("send-probe", {"probes": again, "wait_ms": 0}, 3.0)])
        sender.carrier.ask([Request("release-port", {"id": answer.data["id"]}, 2.0)])
        if sent.data is None:
            return []
        return [
            self._probe(Wanted(way=way, protocol="udp", port=each.port), number, row, again=True)
            for each, number, row in zip(lost, numbers, sent.data["probes"], strict=True)
        ]

    def _by_hand(
        self, *, source: tuple[str, int | None], target: tuple[str, int | None], number: int, count: int = 1
    ) -> dict[str, Any]:
        """A datagram from a port that somebody here holds."""
        return {
            "proto": "udp",
            "src": source[0],
            "sport": source[1],
            "dst": target[0],
            "dport": target[1],
            "by_hand": True,
            "tag": self._sides.mark + f"{number:08x}",
            "count": count,
        }


def lost_at_a_host(probe: SidedProbe) -> bool:
    """Whether a probe did not leave its sender, or arrived and came no further, or its answer did."""
    if probe.unsent:
        return False
    if probe.left == 0 or (probe.refused and not probe.sent):
        return True
    if not probe.arrived:
        return False
    if probe.protocol != "tcp":
        return probe.passed == 0
    if not probe.expected:
        return False
    if probe.heard.kind == "connected":
        return False
    return probe.answers_left == 0 or bool(probe.answers_arrived) or probe.heard.kind in ("reset", "icmp")


def _may_be_stateful(probe: SidedProbe) -> bool:
    return bool(probe.left) and (probe.arrived == 0 or (bool(probe.arrived) and probe.passed == 0))


def _at_one_place(sights: Sequence[Sight]) -> list[Sight]:
    """Those of the device that saw most of them."""
    places = Counter(each.place for each in sights)
    most = max(places, key=lambda place: places[place], default="")
    return [each for each in sights if each.place == most]


def _came(probe: SidedProbe) -> bool:
    """Whether nothing more is to be seen of a probe."""
    if not probe.sent:
        return True
    arrived = probe.arrived is None or probe.arrived >= probe.sent
    passed = probe.passed is None or probe.passed >= probe.sent
    return arrived and passed and (probe.left is None or probe.left >= probe.sent)


def _next_sizes(probes: Sequence[SidedProbe]) -> list[int]:
    came = [each.length_bytes or planner.CONTROL_BYTES for each in probes if each.arrived and each.passed != 0]
    lost = [
        each.length_bytes
        for each in probes
        if each.length_bytes is not None and each.left != 0 and (each.arrived == 0 or each.passed == 0)
    ]
    if not came or not lost or min(lost) <= max(came):
        return []
    said = {each.heard.icmp.mtu_bytes for each in probes if each.heard.icmp and each.heard.icmp.mtu_bytes}
    return planner.next_sizes(max(came), min(lost), said)
