"""Two halves of a diagnosis put together: where the flow is lost between both sides, and what takes it there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from netdiag.errors import UsageError
from netdiag.model.found import Found
from netdiag.model.half import Half, Outcome, Told
from netdiag.model.path import Direction, Loss, PathKind, Side, Sight, Way
from netdiag.model.report import Answer, Cause, Confidence, Evidence, Need, State, Step, Subject
from netdiag.path.filtered import flow_filtered_cause
from netdiag.path.half_way import attempt_of, sights_of, way_of
from netdiag.path.sights import losses
from netdiag.path.verdict import (
    attempt_found,
    healthy_found,
    loss_found,
    sight_evidence,
    silent_found,
)

_OPEN = {Need.TRAFFIC: Answer.UNKNOWN}
_NOTABLE_LATE_MS = 2000
"""Clocks that are further apart than this are told: a packet does not travel so long."""


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides know together; ``losses`` is empty where nothing is lost."""

    way: Way
    sights: tuple[Sight, ...]
    losses: tuple[Loss, ...]
    found: tuple[Found, ...]


def check_fits(own: Half, other: Half) -> None:
    """Raise UsageError, a line each, where two halves are not of one diagnosis."""
    if own.side is other.side:
        raise UsageError(
            f"the pasted answer is of the {other.side.value}'s side, as this host's own: paste the one that the other"
            " host printed"
        )
    if own.flow != other.flow:
        raise UsageError(
            f"the pasted answer is of another flow: {other.flow.text()}, and here it is {own.flow.text()}; run the same"
            " command on both hosts, with addresses where the two know a name differently"
        )
    if own.within_s != other.within_s:
        raise UsageError(f"the other side ran with --within {other.within_s}, this one with --within {own.within_s}")
    if not _shared(own, other):
        late = _late(own, other)
        raise UsageError(
            f"the two sides shared no round: {own.host} took part at {_times(own)}, {other.host} at {_times(other)}, each"
            f" by its own clock{f'; {late}' if late else ''}; start both within {own.within_s} s of each other, and"
            " compare the clocks (date -u)"
        )


def joined(own: Half, other: Half) -> Joined:
    """What came of it. Raises UsageError as `check_fits`."""
    check_fits(own, other)
    own, other = _told_apart(own, other)
    source, destination = (own, other) if own.side is Side.SOURCE else (other, own)
    return _Join(source, destination).done()


def service_found(halves: Sequence[Half], typed: str) -> Iterator[Found]:
    """What is to be said where the destination was typed as a service: its task was called, and not its virtual IP.

    Args:
        halves: Of one side or of both.
        typed: The name of the destination, as typed.
    """
    for half in halves:
        task = half.end.container if half.end is not None and half.side is Side.DESTINATION else ""
        if task.startswith(f"{typed}."):
            yield Found(
                check="path.virtual-ip",
                state=State.SKIP,
                subject=Subject(host=half.host, container=task, network=half.end.network if half.end else None),
                summary=f"{typed} is a service: its task {task} was called, and no virtual IP",
                reason=(
                    "a virtual IP is its caller's host's own affair: netdiag diagnose without --code, on that host, tries it"
                ),
            )


def _told_apart(own: Half, other: Half) -> tuple[Half, Half]:
    """Hosts that are called the same, with their addresses."""
    if own.host != other.host:
        return own, other
    return _renamed(own), _renamed(other)


def _renamed(half: Half) -> Half:
    address = half.flow.source if half.side is Side.SOURCE else half.flow.destination
    if half.end is not None:
        address = half.end.host_address
    name = f"{half.host} ({address})"
    told = []
    for each in half.told:
        remedy = tuple(msgspec.structs.replace(one, host=name) for one in each.cause.remedy)
        told.append(msgspec.structs.replace(each, cause=msgspec.structs.replace(each.cause, host=name, remedy=remedy)))
    return msgspec.structs.replace(half, host=name, told=tuple(told))


def _shared(one: Half, other: Half) -> list[int]:
    """When the rounds were due in which both took part."""
    return sorted({each.due_s for each in one.rounds} & {each.due_s for each in other.rounds})


def _times(half: Half) -> str:
    moments = [dt.datetime.fromtimestamp(each.due_s, dt.UTC).strftime("%H:%M:%S") for each in half.rounds]
    return " and ".join(moments) or "no time"


def _late(own: Half, other: Half) -> str:
    """What packets say of the two clocks; empty where none came, or where they agree."""
    for half, sender in ((own, other), (other, own)):
        for each in half.rounds:
            if each.late_ms is not None and abs(each.late_ms) > _NOTABLE_LATE_MS:
                behind = "behind" if each.late_ms < 0 else "ahead of"
                return f"the clock of {half.host} is {abs(each.late_ms) / 1000:.0f} s {behind} that of {sender.host}"
    return ""


class _Join:
    """The judgement of two halves that fit."""

    def __init__(self, source: Half, destination: Half) -> None:
        self._halves: Mapping[Side, Half] = {Side.SOURCE: source, Side.DESTINATION: destination}
        self._rounds = {side: {each.due_s: each for each in half.rounds} for side, half in self._halves.items()}
        due_s = self._chosen()
        self._round = {side: rounds[due_s] for side, rounds in self._rounds.items()}
        self._way = way_of(source, destination)
        self._sights = tuple(
            sight for side in Side for sight in sights_of(self._halves[side], self._round[side], self._way)
        )
        self._attempt = attempt_of(self._round[Side.SOURCE])

    def _chosen(self) -> int:
        """The first round that both shared and in which it failed; else the first."""
        shared = _shared(*self._halves.values())
        rounds = self._rounds[Side.SOURCE]
        failed = [due_s for due_s in shared if rounds[due_s].outcome is not Outcome.ANSWERED]
        return (failed or shared)[0]

    def done(self) -> Joined:
        lost, found = self._judged()
        return Joined(
            way=self._way, sights=self._sights, losses=lost, found=(*found, *self._of_clocks(), *self._of_turns())
        )

    def _judged(self) -> tuple[tuple[Loss, ...], list[Found]]:
        way, sights, attempt = self._way, self._sights, self._attempt
        if attempt.answered:
            arrived = sights[-1].there > 0 or not sights[-1].watched
            passed = healthy_found(way, sights) if arrived else self._by_another()
            return (), [attempt_found(way, attempt), passed]
        lost = losses(sights)
        if not lost:
            at_the_start = way.places[0] if way.places else None
            last = None if attempt.refused else at_the_start
            after = way.places[-1] if attempt.refused and way.places else None
            lost = (Loss(direction=Direction.BACK, last=last, next=after),)
        silent = self._is_silence(lost[0])
        state = State.OK if silent else State.FAIL
        found = [attempt_found(way, attempt, state=state)]
        if silent:
            return (), [*found, silent_found(way, sights, self._halves[Side.DESTINATION].listens)]
        used: list[Told] = []
        for loss in lost:
            causes, reason = self._of_loss(loss, used)
            found += loss_found(way, loss, sights, causes, reason)
        return lost, [*found, *self._ahead(used)]

    def _is_silence(self, loss: Loss) -> bool:
        """A datagram came to one who listens, no filter takes it, and nothing came back, which need not."""
        half = self._halves[Side.DESTINATION]
        at_the_end = loss.direction is Direction.BACK and loss.last is None
        return self._way.protocol == "udp" and at_the_end and bool(half.listens) and not half.told and not half.more

    def _of_loss(self, loss: Loss, used: list[Told]) -> tuple[list[Cause], str]:
        side = _side_of(loss)
        if side is None:
            return self._between(loss, used)
        half = self._halves[side]
        here = [told for told in half.told if not told.ahead]
        used += here
        if here:
            return [told.cause for told in here], ""
        if half.more:
            return [], f"{half.host} names the cause in its own report; three lines did not hold it"
        if half.why:
            return [], f"{half.host} says: {half.why}"
        return [], f"{half.host} found no filter of its own that takes such a packet, and no listener that is missing"

    def _between(self, loss: Loss, used: list[Told]) -> tuple[list[Cause], str]:
        """Lost between the two NICs."""
        there = loss.direction is Direction.THERE
        receiver = self._halves[Side.DESTINATION if there else Side.SOURCE]
        sender = self._halves[Side.SOURCE if there else Side.DESTINATION]
        astray = [told for told in sender.told if not told.ahead and told.cause.code.startswith("overlay.")]
        if astray:
            used += astray
            return [_as_the_receiver_says(told.cause, receiver) for told in astray], ""
        if sender.end is not None and receiver.end is not None and sender.end.towards != receiver.end.host_address:
            return [], (
                f"{sender.host} sends for {receiver.end.container} to {sender.end.towards}, and {receiver.host} says that"
                f" its tunnels end at {receiver.end.host_address}: the engines do not agree, or an address is translated"
                " between them"
            )
        if receiver.hidden:
            return [], f"{receiver.hidden} on {receiver.host} may take packets before they can be seen there"
        echo = self._round[receiver.side].echo_arrived
        one = flow_filtered_cause(self._way, loss, (), others=False, control_arrived=echo)
        if one is not None:
            return [one], ""
        if self._way.protocol == "icmp" and self._way.kind is not PathKind.OVERLAY:
            return [], f"nothing of it came to the NIC of {receiver.host}, and no other kind of packet was tried"
        known = any(each.heard() for each in self._round.values())
        reason = (
            f"neither it nor an echo came to the NIC of {receiver.host}: everything is lost there, one way at least"
        )
        if known:
            return [], reason
        return [], (
            f"{reason}; or the clocks of the two hosts are further apart than {self._halves[Side.SOURCE].within_s} s,"
            " since not one packet came through that would tell (compare date -u)"
        )

    def _ahead(self, used: Sequence[Told]) -> Iterator[Found]:
        """What else stands on either side: the flow would be lost there next."""
        for half in self._halves.values():
            for told in half.told:
                if told in used:
                    continue
                about = f"{told.about}: " if told.about else ""
                yield Found(
                    check="path.ahead",
                    state=State.FAIL,
                    subject=Subject(host=half.host),
                    summary=f"{about}on {half.host} it would be lost as well",
                    cause=told.cause,
                    next=_where_it_stands(half, told),
                )
            if half.more and not half.told:
                yield Found(
                    check="path.ahead",
                    state=State.UNKNOWN,
                    subject=Subject(host=half.host),
                    summary=f"what {half.host} found on itself",
                    reason="three lines did not hold it: its own report does",
                )

    def _by_another(self) -> Found:
        half = self._halves[Side.DESTINATION]
        return Found(
            check="path.another",
            state=State.UNKNOWN,
            subject=Subject(host=self._way.source.host, peer=half.host),
            summary=f"somebody answers, and nothing of it comes to {self._way.places[-1].where}",
            evidence=sight_evidence(self._way, self._sights),
            answers=_OPEN,
            reason=(
                f"another machine may have {self._way.destination.address}, or it is led elsewhere on the way; ip"
                f" neigh {'in' if self._way.source.container else 'on'} {self._way.source.label()} shows who answers for it"
            ),
        )

    def _of_clocks(self) -> Iterator[Found]:
        text = _late(*self._halves.values())
        if text:
            yield Found(
                check="path.clock",
                state=State.WARN,
                subject=Subject(host=self._way.source.host, peer=self._way.destination.host),
                summary=text,
                evidence=(Evidence("clock", text),),
            )

    def _of_turns(self) -> Iterator[Found]:
        """Rounds that ended differently."""
        shared = _shared(*self._halves.values())
        outcomes = [self._rounds[Side.SOURCE][due_s].outcome for due_s in shared]
        if len(set(outcomes)) > 1:
            ends = ", then ".join(one.value for one in outcomes if one is not None)
            yield Found(
                check="path.turns",
                state=State.WARN,
                subject=Subject(host=self._way.source.host, peer=self._way.destination.host),
                summary=f"the rounds did not end alike: {ends}",
            )


def _as_the_receiver_says(one: Cause, receiver: Half) -> Cause:
    """Packets left for another host than the one that, by its own word, has the container and ends its tunnels there."""
    expected = one.object.get("expected")
    if one.code == "overlay.fdb-stale" and receiver.end is not None and expected == receiver.end.host_address:
        return msgspec.structs.replace(one, confidence=Confidence.PROVEN)
    return one


def _where_it_stands(half: Half, told: Told) -> tuple[Step, ...]:
    if told.cause.remedy:
        return ()
    return (Step(host=half.host, command="", why="its own report there says what heals it"),)


def _side_of(loss: Loss) -> Side | None:
    """On whose host a loss is; None between the two."""
    if loss.last is not None and loss.next is not None:
        return loss.last.side if loss.last.side is loss.next.side else None
    if loss.direction is Direction.THERE:
        return Side.SOURCE if loss.last is None else Side.DESTINATION
    return Side.DESTINATION if loss.last is None else Side.SOURCE
