"""One side of a diagnosis that two hosts make apart: it sends and watches when it is due, and judges what stands here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from netdiag.carrier.pasted_schedule import Mark, Schedule, Turn, mark
from netdiag.errors import UsageError
from netdiag.host.diagnose import losses_of
from netdiag.host.diagnose_attempt import SETTLE_MS, Watched, heard_in, watch_point
from netdiag.host.diagnose_causes import NOTHING_HERE, Reasons
from netdiag.host.diagnose_parties import netns_of
from netdiag.host.pasted_plan import HalfPlan
from netdiag.model.found import Found
from netdiag.model.half import Half, HalfCount, HalfEnd, HalfPlace, HalfRound, Outcome, Told
from netdiag.model.path import Direction, PathKind, Place, Side, Sight, Stage
from netdiag.model.report import State
from netdiag.model.wire import Answer, Request
from netdiag.path.ends import short_name
from netdiag.path.half_entries import other_end
from netdiag.path.half_way import attempt_of
from netdiag.path.listening import who_listens
from netdiag.path.sights import losses, read_sights
from netdiag.path.verdict import Attempt
from netdiag.swarm.ports import DEFAULT_DATA_PATH_PORT

_FLOW, _ECHO, _ECHO_BACK = "flow", "echo", "echo back"
"""The kinds of probes of a round: the flow's own, and an echo each way as a control."""
_CONTROL = "control"
_ATTEMPT_MS, _ECHO_MS = 1150, 600
_STEP_S = 0.25
"""The longest that it sleeps at once: a clock may be set meanwhile."""
_SPARE_S = 5.0


class HalfRun:
    """This host's part of one diagnosis."""

    def __init__(
        self,
        plan: HalfPlan,
        code: str,
        timing: Schedule,
        *,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._plan, self._code, self._timing = plan, code, timing
        self._progress = progress
        self._way, self._carrier = plan.planned.way, plan.party.carrier
        self._frames: dict[str, list[dict[str, Any]]] = {}
        self._errors: dict[str, str] = {}
        self._sent: dict[int, tuple[Outcome, str, int | None]] = {}

    def observe(self) -> tuple[Turn, ...]:
        """Take part in the rounds: in one, where the other side is heard in it, else in both. Returns those.

        Raises UsageError where nothing can be watched here.
        """
        taken: list[Turn] = []
        for turn in self._timing.turns:
            self._take_part(turn)
            taken.append(turn)
            if self._is_enough(turn):
                break
        return tuple(taken)

    def half(self, taken: Sequence[Turn]) -> Half:
        """What is known on this side; filters are asked for it."""
        plan = self._plan
        rounds = tuple(self._round(turn) for turn in taken)
        told, listens, why = self._judged(rounds)
        return Half(
            side=plan.side,
            host=plan.party.name,
            flow=plan.flow,
            within_s=self._timing.within_s,
            places=tuple(self._half_place(place) for place in self._way.places),
            rounds=rounds,
            told=told,
            listens=listens,
            hidden=plan.hidden,
            end=self._end(),
            why=why,
        )

    def _half_place(self, place: Place) -> HalfPlace:
        """A place as an answer names it: a task without its id, which three lines have no room for."""
        own, end = HalfPlace.of(place), self._end()
        if end is None or place.namespace != self._way.end(self._plan.side).namespace:
            return own
        return msgspec.structs.replace(own, namespace=f"container:{end.container}")

    def _end(self) -> HalfEnd | None:
        """The container at this host's end of an overlay network."""
        if self._way.kind is not PathKind.OVERLAY:
            return None
        own, other = self._way.end(self._plan.side), other_end(self._way, self._plan.side)
        return HalfEnd(
            container=short_name(own.container),
            network=own.network,
            host_address=own.host_address,
            towards=other.host_address,
            vxlan_port=self._way.vxlan_port or DEFAULT_DATA_PATH_PORT,
        )

    # --- rounds ---

    def _take_part(self, turn: Turn) -> None:
        now_s = time.time()
        seconds = turn.until_s - now_s + _SPARE_S
        request = Request("capture-start", {"points": self._points(), "seconds": seconds}, 5.0)
        (started,) = self._carrier.ask([request])
        if started.data is None:
            why = started.error.text if started.error is not None else "no answer"
            raise UsageError(f"nothing can be watched on {self._plan.party.name}: {why}")
        try:
            is_source = self._plan.side is Side.SOURCE
            self._await(turn.due_s if is_source else turn.back_s, "the round of")
            self._send(turn)
            if self._sent.get(turn.due_s, (None,))[0] is not Outcome.ANSWERED:
                self._await(turn.until_s, "watching until")
        finally:
            stop = Request("capture-stop", {"id": started.data["id"], "settle_ms": SETTLE_MS}, 3.0)
            (stopped,) = self._carrier.ask([stop])
        self._keep(stopped, now_s)

    def _points(self) -> list[dict[str, Any]]:
        """The places of the way, and the NIC once more for echoes between the hosts."""
        way, flow = self._way, self._plan.flow
        points = [watch_point(way, self._plan.party, place) for place in way.places]
        nic = next(place for place in way.places if place.stage is Stage.NIC)
        begin, end = self._hosts()
        echo = {"a": begin, "b": end, "proto": 58 if ":" in begin else 1}
        if flow.protocol == "icmp":
            number = 58 if ":" in flow.source else 1
            points = [{**point, "flow": {**point["flow"], "proto": number}} for point in points]
        return [*points, {"name": _CONTROL, "device": nic.device, "netns": "", "flow": echo}]

    def _hosts(self) -> tuple[str, str]:
        """The two hosts' own addresses, between which echoes are the control of what a tunnel carries."""
        if self._way.kind is PathKind.OVERLAY:
            return self._way.source.host_address, self._way.destination.host_address
        return self._plan.flow.source, self._plan.flow.destination

    def _await(self, until_s: float, what: str) -> None:
        at = time.strftime("%H:%M:%S", time.localtime(until_s))
        self._progress(f"{what} {at}, by this host's clock")
        while (left_s := until_s - time.time()) > 0:
            time.sleep(min(left_s, _STEP_S))

    def _keep(self, stopped: Answer, began_s: float) -> None:
        """The frames by the time of the day, whatever capture they came from."""
        for point in stopped.data["points"] if stopped.data is not None else ():
            name = str(point["name"])
            self._errors[name] = str(point["error"])
            rows = [{**row, "t_us": row["t_us"] + int(began_s * 1e6)} for row in point["frames"]]
            self._frames.setdefault(name, []).extend(rows)

    def _is_enough(self, turn: Turn) -> bool:
        """Whether the round was shared beyond doubt, so that no other is needed."""
        if self._sent.get(turn.due_s, (None,))[0] is Outcome.ANSWERED:
            return True
        late_s = self._late_s(turn.due_s)
        return late_s is not None and abs(late_s) <= self._timing.tolerance_s

    # --- sending ---

    def _mark(self, kind: str, due_s: int) -> Mark:
        return mark(self._code, kind, due_s)

    def _send(self, turn: Turn) -> None:
        begin, end = self._hosts()
        if self._plan.side is Side.DESTINATION:
            self._carrier.ask([self._echo(end, begin, self._mark(_ECHO_BACK, turn.due_s))])
            return
        requests = [self._flow_request(self._mark(_FLOW, turn.due_s))]
        if self._plan.flow.protocol != "icmp" or self._way.kind is PathKind.OVERLAY:
            requests.append(self._echo(begin, end, self._mark(_ECHO, turn.due_s)))
        answer = self._carrier.ask(requests)[0]
        self._sent[turn.due_s] = _ended(answer)

    def _flow_request(self, known: Mark) -> Request:
        flow = self._plan.flow
        netns = netns_of(self._plan.party.facts, self._way.source.namespace)
        if flow.protocol == "icmp":
            return self._echo(flow.source, flow.destination, known, netns=netns)
        probe = {
            "proto": flow.protocol,
            "src": flow.source,
            "dst": flow.destination,
            "sport": known.source_port,
            "dport": flow.port,
            "tag": known.tag.hex(),
            "count": 1 if flow.protocol == "tcp" else 2,
            "wait_ms": _ATTEMPT_MS,
            "payload": "vxlan" if self._is_to_a_tunnel() else "tag",
            **({"netns": netns} if netns else {}),
        }
        return Request("send-probe", probe, _ATTEMPT_MS / 1000 + 0.5)

    def _is_to_a_tunnel(self) -> bool:
        """Whether a host's own port of tunnels is called, which is asked with a marked VXLAN packet."""
        flow = self._plan.flow
        tunnels = ("udp", DEFAULT_DATA_PATH_PORT)
        return (flow.protocol, flow.port) == tunnels and self._way.kind is not PathKind.OVERLAY

    @staticmethod
    def _echo(source: str, destination: str, known: Mark, *, netns: str = "") -> Request:
        where = {"netns": netns} if netns else {}
        probe = {"proto": "icmp", "src": source, "dst": destination, "tag": known.tag.hex(), **where}
        return Request("send-probe", {**probe, "count": 2, "wait_ms": _ECHO_MS}, _ECHO_MS / 1000 + 0.5)

    # --- what was seen ---

    def _round(self, turn: Turn) -> HalfRound:
        sights = self._sights(turn.due_s)
        outcome, detail, rtt_us = self._sent.get(turn.due_s, (None, "", None))
        if outcome is Outcome.LOST and self._plan.flow.protocol == "udp":
            heard = heard_in(Attempt(answered=False, refused=False, text=detail), sights)
            outcome, detail = (Outcome.ANSWERED if heard.answered else outcome), heard.text
        late_s = self._late_s(turn.due_s)
        if late_s is None:
            # Of a side whose clock is off by a round or more, its packets of another round tell at least by how much.
            known = [late for due_s in self._timing.near() if (late := self._late_s(due_s)) is not None]
            late_s = min(known, key=abs, default=None)
        return HalfRound(
            due_s=turn.due_s,
            counts=tuple(
                HalfCount(sight.there, sight.back, sight.refused) if sight.watched else HalfCount(watched=False)
                for sight in sights
            ),
            outcome=outcome,
            detail=detail,
            rtt_us=rtt_us,
            echo_arrived=self._echo_arrived(turn.due_s),
            late_ms=int(late_s * 1000) if late_s is not None else None,
        )

    def _sights(self, due_s: int) -> tuple[Sight, ...]:
        known, protocol = self._mark(_FLOW, due_s), self._plan.flow.protocol
        raw: dict[str, dict[str, Any]] = {}
        for place in self._way.places:
            rows = self._frames.get(place.key(), [])
            if protocol == "icmp":
                rows = [row for row in rows if known.tag in row["data"]]
            raw[place.key()] = {"error": self._errors.get(place.key(), "not watched"), "frames": rows}
        port = known.source_port if protocol != "icmp" else None
        return read_sights(self._way.places, raw, source_port=port, tag=known.tag)

    def _echo_arrived(self, due_s: int) -> bool | None:
        if self._errors.get(_CONTROL, "not watched"):
            return None
        return bool(self._echoes(due_s))

    def _echoes(self, due_s: int) -> list[int]:
        """When the other side's echoes of a round came to the NIC, in microseconds of the day's clock."""
        kind = _ECHO if self._plan.side is Side.DESTINATION else _ECHO_BACK
        tag = self._mark(kind, due_s).tag
        return [row["t_us"] for row in self._frames.get(_CONTROL, ()) if not row["out"] and tag in row["data"]]

    def _late_s(self, due_s: int) -> float | None:
        """How late the first packet of the other side's round came; None where none did."""
        came_us = self._echoes(due_s)
        sent_s: float = due_s
        if self._plan.side is Side.SOURCE:
            sent_s += 2 * self._timing.tolerance_s
        else:
            came_us += [sight.first_there_us for sight in self._sights(due_s)[:1] if sight.first_there_us is not None]
        return min(came_us) / 1e6 - sent_s if came_us else None

    # --- what stands here ---

    def _judged(self, rounds: Sequence[HalfRound]) -> tuple[tuple[Told, ...], str, str]:
        """The causes on this host, who listens for the flow's datagrams, and why no cause is named."""
        one = next((each for each in rounds if any(count.there for count in each.counts)), rounds[-1])
        self._progress("asking this host's filters")
        if self._plan.side is Side.SOURCE:
            failed = next((each for each in rounds if each.outcome is not Outcome.ANSWERED), None)
            found = [] if failed is None else list(self._of_source(failed))
            return _told(found), "", self._why(found)
        who = who_listens(self._plan.party.facts, self._way) if self._way.protocol == "udp" else ""
        found = list(self._of_destination(one, who))
        return _told(found), who, self._why(found)

    def _why(self, found: Sequence[Found]) -> str:
        """Why a loss on this host has no cause; of what was not lost here nothing is said."""
        reasons = [each.reason for each in found if each.check == "path.loss" and each.state is State.UNKNOWN]
        said = [reason for reason in reasons if reason and reason != NOTHING_HERE]
        return "; ".join(part for part in (self._plan.why, *said) if part)

    def _of_source(self, one: HalfRound) -> Iterable[Found]:
        watched = Watched(attempt=attempt_of(one), sights=self._sights(one.due_s))
        reasons = self._reasons(watched)
        return [found for loss in losses_of(watched) for found in reasons.of_loss(loss)]

    def _of_destination(self, one: HalfRound, who: str) -> Iterable[Found]:
        sights = self._sights(one.due_s)
        refused = any(sight.refused for sight in sights)
        watched = Watched(attempt=Attempt(answered=False, refused=refused, text=""), sights=sights)
        reasons, lost = self._reasons(watched), losses(sights)
        if not any(sight.there for sight in sights):
            return reasons.of_what_stands()
        if not lost:
            return reasons.of_refusal() if refused else reasons.of_answers_that_left()
        if who and lost[0].direction is Direction.BACK and lost[0].last is None:
            return reasons.of_silence(lost[0], who)
        return [found for loss in lost for found in reasons.of_loss(loss)]

    def _reasons(self, watched: Watched) -> Reasons:
        return Reasons(self._plan.planned, watched, now_s=time.time(), half=True, heard=not self._plan.why)


def _told(found: Iterable[Found]) -> tuple[Told, ...]:
    told = [
        Told(cause=each.cause, ahead=each.check == "path.ahead", about=each.summary.partition(": ")[0])
        for each in found
        if each.cause is not None
    ]
    first: dict[str, Told] = {}
    for each in told:
        first.setdefault(msgspec.json.encode((each.cause.code, each.cause.object)).decode(), each)
    return tuple(first.values())


def _ended(answer: Answer) -> tuple[Outcome, str, int | None]:
    """How an attempt ended: the outcome, in a few words, and how long its answer took."""
    if answer.data is None:
        return Outcome.UNSENT, answer.error.text if answer.error is not None else "no answer", None
    row, heard = answer.data, answer.data["heard"]
    if heard["kind"] in ("connected", "reply"):
        said = "connected" if heard["kind"] == "connected" else "answered"
        return Outcome.ANSWERED, f"{said} after {heard['rtt_us'] / 1000:.2f} ms", heard["rtt_us"]
    if heard["kind"] == "reset":
        return Outcome.REFUSED, "connection refused", None
    if heard["kind"] == "icmp":
        error = heard["icmp"]
        whom = error["offender"] or "this host"
        return Outcome.REFUSED, f"ICMP {error['type']}/{error['code']} from {whom}", None
    if row["errno"] and not row["sent_us"]:
        return Outcome.UNSENT, str(row["error"]).lower(), None
    return Outcome.LOST, f"no answer within {_ATTEMPT_MS / 1000:g} s", None
