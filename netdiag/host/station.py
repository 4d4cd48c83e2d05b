"""One side of an examination: armed with packet sockets, held ports, and a chain that takes probes away."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from netdiag.errors import CarrierError
from netdiag.facts.context import Context
from netdiag.facts.kernel import gather_kernel
from netdiag.facts.level import features_needed, judge
from netdiag.facts.marked_frames import ANSWER, UNNUMBERED, Sight, sights_of
from netdiag.host.drive import Carrier, drive
from netdiag.model.facts import Facts
from netdiag.model.level import Level
from netdiag.model.wire import Answer, Request

Port = tuple[str, int | None]
"""Protocol and port; protocol 50 has none."""

_ADDRESS_IN_USE = 98
_ARM_S = 4.0
_LOOK_S = 3.0


class Station:
    """One host of an examination. Several threads may use one; `disarm` it, or let its participant end.

    Attributes:
        blind: Why no packets can be watched here; empty when they are.
        held: Ports that netdiag itself holds.
        taken: Ports that a program of the host holds.
        guarded: Whether probes are taken away behind all filters, so that no program gets them.
    """

    def __init__(self, name: str, carrier: Carrier, facts: Facts, mark: str) -> None:
        self.name = name
        self.carrier = carrier
        self.facts = facts
        self.blind = ""
        self.held: set[Port] = set()
        self.taken: set[Port] = set()
        self.guarded = False
        self._mark = mark
        self._capture = self._catch = ""
        self._bound: list[str] = []
        self._lock, self._turns = threading.Lock(), threading.Lock()
        self._begun = 0
        self._known: Counter[str] = Counter()
        self._sights: defaultdict[int, list[Sight]] = defaultdict(list)
        self._passed: Counter[int] = Counter()
        self._lost_events = self._lost_frames = False

    def arm(
        self,
        *,
        ports: Sequence[Port],
        devices: Collection[str],
        families: Collection[int],
        seconds: float,
        frames: int,
        connections: Collection[int] = (),
    ) -> None:
        """Watch devices and hold ports, in one round; where somebody holds a port, guard it in a second one.

        Of TCP to the ``connections`` whatever begins, answers or refuses one is seen, with the run's mark or without.
        Raises CarrierError when the host gives no answer at all.
        """
        flow = {"mark": self._mark, "ports": sorted(connections)}
        points = [{"name": each, "device": each, "flow": flow, "frames": frames} for each in devices]
        wanted = [{"proto": protocol, "port": port or 0} for protocol, port in ports]
        common = {"mark": self._mark, "seconds": seconds}
        capture = Request("capture-start", {"points": points, "seconds": seconds}, _ARM_S)
        binds = [Request("bind-port", {**common, "ports": wanted, "six": six == 6}, _ARM_S) for six in families]
        member = self._is_member()
        answers = list(self.carrier.ask([capture, *binds, *([self._guard(common)] if member else [])]))
        self._watching(answers[0])
        for answer in answers[1 : 1 + len(binds)]:
            self._holding(answer)
        last = answers[-1] if member else None
        if last is None and any(protocol != "tcp" for protocol, _ in self.taken):
            (last,) = self.carrier.ask([self._guard(common)])
        if last is not None and last.data is not None:
            self.guarded, self._catch = True, str(last.data["id"])

    def sees(self, protocol: str, port: int | None) -> bool:
        """Whether it is known of a probe to a port whether it came through the filters. Never so for TCP."""
        return protocol not in ("tcp", "icmp") and (self.guarded or (protocol, port) in self.held)

    def answers(self, protocol: str, port: int | None) -> bool:
        """Whether somebody answers a probe to a port: a program of the host only if it is TCP."""
        if protocol in ("tcp", "icmp"):
            return protocol == "icmp" or (protocol, port) in self.held | self.taken
        return protocol == "udp" and (protocol, port) in self.held and not self.guarded

    def may_be_sent(self, protocol: str, port: int | None) -> bool:
        """Whether a probe to a port disturbs nobody: no program gets it, unless it is a connection attempt."""
        return protocol in ("tcp", "icmp") or self.guarded or (protocol, port) not in self.taken

    def look(self) -> None:
        """Take in what has been seen since the last look."""
        with self._turns:
            mine = self._begun
        with self._lock:
            with self._turns:
                if self._begun > mine + 1:
                    return  # another thread began to look after this one had asked for it
                self._begun += 1
            self._look()

    def _look(self) -> None:
        requests = [Request("release-port", {"id": each, "keep": True}, _LOOK_S) for each in self._bound]
        if self._catch:
            requests.append(Request("catch-stop", {"id": self._catch, "keep": True}, _LOOK_S))
        if self._capture:
            params = {"id": self._capture, "after": dict(self._known)}
            requests.append(Request("capture-read", params, _LOOK_S))
        answers = list(self.carrier.ask(requests)) if requests else []
        if self._capture:
            self._take_frames(answers.pop())
        self._count(answers)

    def sights(self, number: int, *, out: bool, answer: bool) -> list[Sight]:
        """The frames of a probe at the device that saw most of them: one frame passes a bridge and its port."""
        with self._turns:
            found = [each for each in self._sights.get(number, ()) if each.out is out and each.answer is answer]
        places = Counter(each.place for each in found)
        if not places:
            return []
        ((most, _),) = places.most_common(1)
        return [each for each in found if each.place == most]

    def unnumbered(self, *, out: bool, answer: bool) -> list[Sight]:
        """The frames that begin, answer or refuse a connection and are told to be of no probe."""
        with self._turns:
            return [each for each in self._sights.get(UNNUMBERED, ()) if each.out is out and each.answer is answer]

    def seen(self, number: int, *, out: bool, answer: bool) -> int | None:
        """How many `sights` there are; None for none where the kernel could not keep all frames, or nobody looked."""
        if self.blind:
            return None
        count = len(self.sights(number, out=out, answer=answer))
        return None if self._lost_frames and not count else count

    def passed(self, number: int) -> int | None:
        """How often a probe came through all filters; None when that is not known."""
        with self._turns:
            count = self._passed[number]
            return None if self._lost_events and not count else count

    def disarm(self) -> None:
        """Let go of everything. What is not let go of ends with its time, and with the participant."""
        requests = [Request("release-port", {"id": each}, 2.0) for each in self._bound]
        if self._catch:
            requests.append(Request("catch-stop", {"id": self._catch}, 2.0))
        if self._capture:
            requests.append(Request("capture-stop", {"id": self._capture}, 2.0))
        self._bound, self._catch, self._capture = [], "", ""
        if requests:
            self.carrier.ask(requests)

    def _is_member(self) -> bool:
        engine = self.facts.engine.value
        return engine is not None and engine.swarm.state.value == "active"

    def _guard(self, common: Mapping[str, Any]) -> Request:
        if self.facts.kernel.value is None:
            # Read only where it matters: it is more than all else that is read of a peer.
            kernel = drive(gather_kernel(Context()), self.carrier)
            self.facts = msgspec.structs.replace(self.facts, kernel=kernel)
        level = judge(self.facts).level
        known = Context(kernel=self.facts.kernel.value)
        traces = level in (Level.OWNED_TRACE, Level.SWEPT_TRACE)
        may = traces and all(known.present(name) for name in features_needed(self.facts, level, arrives=False))
        return Request("catch-start", {**common, "level": level.value, "may_load": may}, _ARM_S)

    def _watching(self, answer: Answer) -> None:
        if answer.data is None:
            self.blind = answer.error.text if answer.error is not None else "no answer"
            return
        self._capture = str(answer.data["id"])
        self._known.update({str(point["name"]): 0 for point in answer.data["points"]})

    def _holding(self, answer: Answer) -> None:
        if answer.data is None:
            raise CarrierError(f"{self.name}: {answer.error.text if answer.error is not None else 'no answer'}")
        self._bound.append(str(answer.data["id"]))
        for row in answer.data["ports"]:
            port: Port = (str(row["proto"]), int(row["port"]) or None)
            if row["bound"]:
                self.held.add(port)
            elif row["errno"] == _ADDRESS_IN_USE:
                self.taken.add(port)

    def _take_frames(self, answer: Answer) -> None:
        if answer.data is None:
            return
        fresh = [sight for point in answer.data["points"] for sight in sights_of(point, bytes.fromhex(self._mark))]
        for point in answer.data["points"]:
            self._known[str(point["name"])] += len(point["frames"])
            self._lost_frames = self._lost_frames or bool(point["dropped"] or point["more"])
        with self._turns:
            for sight in fresh:
                self._sights[sight.number].append(sight)

    def _count(self, answers: Sequence[Answer]) -> None:
        passed: Counter[int] = Counter()
        lost = False
        for answer in answers:
            if answer.data is None:
                continue
            passed.update(number for number in answer.data.get("numbers", ()) if not number & ANSWER)
            lost = lost or bool(answer.data.get("lost"))
            for port in answer.data.get("ports", ()):
                got = [each["number"] for each in port["got"] if each["number"] is not None]
                passed.update(number for number in got if not number & ANSWER)
        with self._turns:
            self._passed, self._lost_events = passed, self._lost_events or lost
