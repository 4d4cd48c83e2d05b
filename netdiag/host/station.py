"""One side of an examination: armed with packet sockets, held ports, and a chain that takes probes away."""

from __future__ import annotations

import ipaddress
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from netdiag.checks.context import Context as CheckContext
from netdiag.checks.context import Options as CheckOptions
from netdiag.checks.two_sided import names_of
from netdiag.errors import CarrierError
from netdiag.facts.context import Context
from netdiag.facts.kernel import gather_kernel
from netdiag.facts.level import features_needed, judge
from netdiag.facts.marked_frames import ANSWER, UNNUMBERED, Sight, sights_of
from netdiag.facts.stacked import below
from netdiag.facts.swarm_on_disk import gather_joined_on_disk
from netdiag.host.drive import Carrier, drive
from netdiag.model.engine import SwarmState
from netdiag.model.facts import HOST, AbsenceKind, Facts
from netdiag.model.level import Level
from netdiag.model.wire import Answer, Request

Port = tuple[str, int | None]
"""Protocol and port; protocol 50 has none."""

_ADDRESS_IN_USE = 98
_ALL = "all"
_ARM_S = 4.0
_LOOK_S = 3.0
_ALIVE_S = 1.0


class Station:
    """One host of an examination. Several threads may use one; `disarm` it, or let its participant end.

    Attributes:
        blind: Why no packets can be watched here; empty when they are.
        held: Ports that netdiag itself holds.
        taken: Ports that a program of the host holds.
        guarded: Whether probes are taken away behind all filters, so that no program gets them.

    What the last look could not read is not known: a count of none is None then, and never an absence.
    """

    def __init__(
        self, name: str, carrier: Carrier, facts: Facts, mark: str, *, joined_on_disk: bool | None = None
    ) -> None:
        """A host that is not armed yet; ``joined_on_disk``: see `netdiag.host.meet.Peer`, None where it has not been read."""
        self._joined_on_disk = joined_on_disk
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
        self._passed: dict[str, Counter[int]] = {}
        """By the request that tells it: each counts for itself, and never less than it has told before."""
        self._lost_events = self._lost_frames = False
        self._frames_unread = self._counts_unread = ""
        self._stacks: dict[str, frozenset[str]] = {}
        """By each device that packets are for and that stands on others: those."""

    def arm(
        self,
        *,
        ports: Sequence[Port],
        devices: Collection[str],
        addresses: Collection[str],
        peers: Collection[str],
        seconds: float,
        frames: int,
        connections: Collection[int] = (),
    ) -> None:
        """Watch every device and hold ports, in one round; where somebody holds a port, guard it in a second one.

        Packets for ``devices`` pass those below as well. Ports are held on ``addresses``, or on every address where one
        of these is not the host's own (it is translated on the way), and answer the ``peers``. Of TCP to the ``connections`` whatever begins, answers or refuses one is seen, with the run's mark or without. Of
        a host that has joined a swarm, or may have, no port is held: its engine must get each when it wants it.
        Raises CarrierError when the host gives no answer at all.
        """
        flow = {"mark": self._mark, "ports": sorted(connections)}
        points = [{"name": _ALL, "device": "", "flow": flow, "frames": frames}]
        links = (self.facts.links.value or {}).get(HOST, ())
        stacks = {each: frozenset(below(links, each)) for each in devices}
        self._stacks = {each: lower - set(devices) for each, lower in stacks.items() if lower}
        wanted = [{"proto": protocol, "port": port or 0} for protocol, port in ports]
        common = {"mark": self._mark, "seconds": seconds}
        capture = Request("capture-start", {"points": points, "seconds": seconds}, _ARM_S)
        member = self._may_be_member()
        # A port that is free now may be its engine's in the next moment (the first network of a node, a restart): none is
        # held but one of the kernel's own choice, and who holds the others is only read.
        holding = [each for each in wanted if not member or (each["proto"] == "udp" and not each["port"])]
        held_on = {**common, "ports": holding, "peers": sorted(peers)}
        places = self._held_on(addresses) if holding else []
        binds = [Request("bind-port", {**held_on, "address": each}, _ARM_S) for each in places]
        if member:
            tables = [each for each in wanted if each["proto"] != "esp" and each["port"]]
            asked = [capture, Request("port-holders", {"ports": tables}, _ARM_S), self._guard(common), *binds]
            watch, holders, last, *held = self.carrier.ask(asked)
            self._watching(watch)
            self._held_by_others(holders, tables)
            for answer in held:
                self._holding(answer)
        else:
            watch, *held = self.carrier.ask([capture, *binds])
            self._watching(watch)
            for answer in held:
                self._holding(answer)
            if not any(protocol != "tcp" for protocol, _ in self.taken):
                return
            (last,) = self.carrier.ask([self._guard(common)])
        if last.data is not None:
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
        self._count([str(request.params["id"]) for request in requests], answers)

    def gone(self) -> str:
        """Why its participant answers nothing any more; empty while it does."""
        if not (self._frames_unread or self._counts_unread):
            return ""
        (answer,) = self.carrier.ask([Request("clock", {}, _ALIVE_S)])
        return "" if answer.data is not None else _why(answer)

    def sights(self, number: int, *, out: bool, answer: bool) -> list[Sight]:
        """The frames of a probe at the device that saw most of them: one frame passes a bridge and its port."""
        with self._turns:
            found = [each for each in self._sights.get(number, ()) if each.out is out and each.answer is answer]
        places = Counter(each.place for each in found)
        if not places:
            return []
        ((most, _),) = places.most_common(1)
        return [each for each in found if each.place == most]

    def places(self, number: int, *, out: bool, answer: bool) -> tuple[str, ...]:
        """The devices that saw frames of a probe, without those on which another of them stands."""
        with self._turns:
            found = [each for each in self._sights.get(number, ()) if each.out is out and each.answer is answer]
            lower = frozenset(name for below_it in self._stacks.values() for name in below_it)
        return tuple(dict.fromkeys(each.place for each in found if each.place not in lower))

    def unnumbered(self, *, out: bool, answer: bool) -> list[Sight]:
        """The frames that begin, answer or refuse a connection and are told to be of no probe."""
        with self._turns:
            return [each for each in self._sights.get(UNNUMBERED, ()) if each.out is out and each.answer is answer]

    def seen(self, number: int, *, out: bool, answer: bool) -> int | None:
        """How many `sights` there are; None for none where not all frames were kept or read, or nobody looked.

        What leaves counts only where it was seen on a device that stands on no other.
        """
        if self.blind:
            return None
        count = len(self.sights(number, out=out, answer=answer))
        if out and self.short_of(number, out=True, answer=answer):
            count = 0
        return None if (self._lost_frames or self._frames_unread) and not count else count

    def short_of(self, number: int, *, out: bool, answer: bool) -> tuple[str, str] | None:
        """Where a probe ended between two devices of this host, one on the other: the last that saw it, and the next."""
        with self._turns:
            places = {each.place for each in self._sights[number] if each.out is out and each.answer is answer}
        for device, lower in self._stacks.items() if places else ():
            if out and places == {device}:
                return device, names_of(sorted(lower))
            if not out and places <= lower:
                return names_of(sorted(places)), device
        return None

    def passed(self, number: int) -> int | None:
        """How often a probe came through all filters; None when that is not known."""
        with self._turns:
            count = sum(each[number] for each in self._passed.values())
            return None if (self._lost_events or self._counts_unread) and not count else count

    def unread(self) -> str:
        """Why the last look could not read all that was seen here; empty when it could."""
        why = self._frames_unread or self._counts_unread
        return f"{self.name}: {why}" if why else ""

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

    def _held_on(self, addresses: Collection[str]) -> list[str]:
        own = {
            str(ipaddress.ip_address(each))
            for each in CheckContext(facts=self.facts, options=CheckOptions()).local_addresses()
        }
        found = {str(ipaddress.ip_address(each)) for each in addresses}
        strange = {":" in each for each in found - own}
        every = {"::" if six else "0.0.0.0" for six in strange}  # noqa: S104 - a probe may come for any of them
        return sorted(every | {each for each in found if (":" in each) not in strange})

    def _may_be_member(self) -> bool:
        engine, absent = self.facts.engine.value, self.facts.engine.absent
        if engine is not None:
            return engine.swarm.state is not SwarmState.INACTIVE
        if absent is None or absent.kind is not AbsenceKind.MISSING:
            return True
        if self._joined_on_disk is None:
            self._joined_on_disk = drive(gather_joined_on_disk(), self.carrier)
        return self._joined_on_disk

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
            self.blind = _why(answer)
            return
        self._capture = str(answer.data["id"])
        self._known.update({str(point["name"]): 0 for point in answer.data["points"]})

    def _holding(self, answer: Answer) -> None:
        if answer.data is None:
            raise CarrierError(f"{self.name}: {_why(answer)}")
        self._bound.append(str(answer.data["id"]))
        for row in answer.data["ports"]:
            port: Port = (str(row["proto"]), int(row["port"]) or None)
            if row["bound"]:
                self.held.add(port)
            elif row["errno"] == _ADDRESS_IN_USE:
                self.taken.add(port)

    def _held_by_others(self, answer: Answer, asked: Sequence[Mapping[str, Any]]) -> None:
        """Take in who holds ports here; where that cannot be read, somebody may hold each."""
        rows = answer.data["ports"] if answer.data is not None else asked
        self.taken.update((str(row["proto"]), int(row["port"])) for row in rows if row.get("addresses", True))

    def _take_frames(self, answer: Answer) -> None:
        self._frames_unread = _why(answer)
        if answer.data is None:
            return
        fresh: list[Sight] = []
        for point in answer.data["points"]:
            by_device: defaultdict[str, list[Any]] = defaultdict(list)
            for frame in point["frames"]:
                by_device[str(frame["device"])].append(frame)
            for device, frames in by_device.items():
                fresh += sights_of({"name": device, "frames": frames}, bytes.fromhex(self._mark))
            self._known[str(point["name"])] += len(point["frames"])
            self._lost_frames = self._lost_frames or bool(point["dropped"] or point["more"])
        with self._turns:
            for sight in fresh:
                self._sights[sight.number].append(sight)

    def _count(self, identities: Sequence[str], answers: Sequence[Answer]) -> None:
        """Take in what came through; an answer that is missing takes nothing from what was told before."""
        told: dict[str, Counter[int]] = {}
        lost = False
        for identity, answer in zip(identities, answers, strict=False):
            if answer.data is None:
                continue
            numbers = list(answer.data.get("numbers", ()))
            lost = lost or bool(answer.data.get("lost"))
            for port in answer.data.get("ports", ()):
                numbers += [each["number"] for each in port["got"] if each["number"] is not None]
            told[identity] = Counter(number for number in numbers if not number & ANSWER)
        with self._turns:
            self._counts_unread = next((why for each in answers if (why := _why(each))), "")
            self._lost_events = self._lost_events or lost
            for identity, passed in told.items():
                self._passed[identity] = passed | self._passed.get(identity, Counter())


def devices_of(facts: Facts, first: Sequence[str]) -> list[str]:
    """Devices that the other side's packets are for: the first ones, and those with an address of the host's own."""
    context = CheckContext(facts=facts, options=CheckOptions())
    own = set(context.own_addresses())
    others = [device for address, device in context.local_addresses().items() if address in own]
    return [device for device in dict.fromkeys([*first, *others]) if device and device != "lo"]


def new_mark() -> str:
    """A random mark that cannot be taken for VXLAN (`netdiag.participant.marks`)."""
    raw = bytearray(secrets.token_bytes(4))
    raw[0] = raw[0] & ~0x08 | 0x80
    return raw.hex()


def _why(answer: Answer) -> str:
    """Why an answer holds nothing; empty for one that holds something."""
    if answer.data is not None:
        return ""
    return answer.error.text if answer.error is not None else "no answer"
