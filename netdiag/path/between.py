"""What the network between two hosts does to packets of a way, from numbered packets that were counted at both cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.found import Found
from netdiag.model.path import Direction, Way
from netdiag.model.report import Cause, Confidence, Evidence, State, Subject
from netdiag.model.two_sided import SidedProbe
from netdiag.model.two_sided import Way as Sender
from netdiag.path.bursts import Series, Wire, counted, ends_of, series_of
from netdiag.path.filtered import filtered_cause, merged
from netdiag.path.flows import flow_cause, split
from netdiag.path.lossy import is_lossy, loss_cause
from netdiag.path.symmetry import asymmetric_cause


class Between(msgspec.Struct, frozen=True, kw_only=True):
    """What was found between two hosts.

    Attributes:
        causes: What takes or changes the packets there.
        reason: Why nothing can be said; empty where something can.
        evidence: What was counted.
        whole: Everything of the way's own kind arrived, in every direction that was counted.
        sized: Packets of several sizes, where they were asked for.
    """

    causes: tuple[Cause, ...] = ()
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
    whole: bool = False
    sized: tuple[SidedProbe, ...] = ()


def judge(way: Way, wire: Wire, probes: Sequence[SidedProbe]) -> Between:
    """What numbered packets between the two network cards say."""
    causes: list[Cause] = []
    reasons: list[str] = []
    evidence: list[Evidence] = []
    directions = whole = 0
    for direction in Direction:
        series = series_of(probes, direction)
        own = own_series(wire, series)
        if own is None:
            continue
        directions += 1
        others = [each for each in series if each is not own]
        evidence += [counted(way, each) for each in (own, *others)]
        rate = own.rate()
        whole += not rate.lost
        if rate.lost < rate.sent:
            causes += _partly(way, own, others)
        elif any(each.rate().lost < each.rate().sent for each in others):
            causes.append(filtered_cause(way, own, others, probes))
        else:
            sender, receiver = ends_of(way, direction)
            reasons.append(
                f"nothing at all of {sender.host} comes to {receiver.host}, not even a control: no one kind of packet can"
                " be blamed"
            )
    asymmetric = asymmetric_cause(way, probes)
    causes = [*translated(way, probes), *merged(causes), *([asymmetric] if asymmetric is not None else [])]
    if not directions and not causes:
        reasons.append(_uncounted(probes))
    return Between(
        causes=tuple(causes),
        reason="; ".join(reasons),
        evidence=tuple(evidence),
        whole=bool(directions) and whole == directions,
    )


def is_partly_lost(wire: Wire, probes: Sequence[SidedProbe], direction: Direction) -> bool:
    """Whether some of a direction's own packets came and some did not, so that more of them would tell."""
    own = own_series(wire, series_of(probes, direction))
    return own is not None and 0 < own.rate().lost < own.rate().sent


def is_unsteady(probes: Sequence[SidedProbe], direction: Direction) -> bool:
    """Whether packets of some kind come through now and not then, so that one that is lost says nothing of its size."""
    return any(is_lossy(each.rate()) and each.rate().lost < each.rate().sent for each in series_of(probes, direction))


def own_series(wire: Wire, series: Sequence[Series]) -> Series | None:
    """The series of the way's own kind of packet; what its sender chose to send goes before what answers."""
    kind = (wire.protocol, wire.port if wire.protocol != "icmp" else None, wire.payload)
    found = [each for each in series if (each.protocol, each.port, each.payload) == kind]
    return min(found, key=lambda each: each.answers, default=None)


def _partly(way: Way, own: Series, others: Sequence[Series]) -> Iterator[Cause]:
    found = split(own)
    if found is not None:
        yield flow_cause(way, own, found)
        alive = tuple(shot for shot in own.shots if shot.source_port not in found.dead)
        own = msgspec.structs.replace(own, shots=alive)
    if is_lossy(own.rate()):
        yield loss_cause(way, own, others)


def _uncounted(probes: Sequence[SidedProbe]) -> str:
    why = next((each.unsent or each.refused for each in probes if each.unsent or each.refused), "")
    return "numbered packets between the hosts could not be counted" + (f": {why}" if why else "")


# --- something changes them ------------------------------------------------------------------------------------------


def translated(way: Way, probes: Sequence[SidedProbe]) -> list[Cause]:
    """Addresses that arrive as others than they were sent, a direction each."""
    found = []
    for direction, sender in ((Direction.THERE, Sender.THERE), (Direction.BACK, Sender.BACK)):
        mine = [each for each in probes if each.way is sender and each.seen_source and each.source]
        source = next((each for each in mine if each.source != each.seen_source), None)
        target = next((each for each in mine if each.destination != each.seen_destination), None)
        if source is not None:
            found.append(nat_cause(way, direction, source.source, source.seen_source, what="source"))
        elif target is not None:
            found.append(nat_cause(way, direction, target.destination, target.seen_destination, what="destination"))
    return found


def nat_cause(way: Way, direction: Direction, before: str, after: str, *, what: str) -> Cause:
    """The cause: an address is translated between the cards."""
    sender, receiver = ends_of(way, direction)
    if what == "source":
        text = f"{sender.host} sends from {before}, and {receiver.host} sees the packets come from {after}"
    else:
        text = f"{sender.host} sends to {before}, and at {receiver.host} the packets arrive for {after}"
    return cause(
        "underlay.nat",
        host=None,
        object={
            "kind": "address",
            "address": before,
            "expected": after,
            "before": before,
            "after": after,
            "from": sender.host,
            "to": receiver.host,
        },
        confidence=Confidence.PROVEN,
        explanation=f"{text}. Something between them translates addresses.",
        evidence=(Evidence("capture", text, {"before": before, "after": after}),),
    )


# --- findings --------------------------------------------------------------------------------------------------------


def between_founds(way: Way, seen: Between, *, needed: bool) -> Iterator[Found]:
    """The findings about the way between the cards of a flow that works.

    Args:
        way: The way.
        seen: What was found.
        needed: Whether a healthy way is worth a line.
    """
    subject = Subject(host=way.source.host, peer=way.destination.host)
    for one in seen.causes:
        # These alone stop no flow that was answered.
        state = State.WARN if one.code in ("underlay.nat", "underlay.asymmetric") else State.FAIL
        yield Found(
            check="path.between",
            state=state,
            subject=subject,
            summary=one.explanation.partition(". ")[0].rstrip("."),
            evidence=seen.evidence,
            cause=one,
        )
    if seen.causes or not needed:
        return
    sent = sum(int(each.data.get("sent", 0)) for each in seen.evidence)
    lost = sum(int(each.data.get("lost", 0)) for each in seen.evidence)
    if not sent:
        yield Found(
            check="path.between",
            # The flow itself was answered: what could not be counted beside it leaves nothing open.
            state=State.SKIP,
            subject=subject,
            summary="whether packets are lost between the hosts",
            reason=seen.reason or "none could be counted",
        )
        return
    yield Found(
        check="path.between",
        state=State.OK,
        subject=subject,
        summary=f"{sent} numbered packets between the hosts, {lost} of them lost",
        evidence=seen.evidence,
    )


def astray_found(way: Way, one: Cause) -> Found:
    """Somebody answered, and it was another machine than the one that was meant."""
    return Found(
        check="path.another",
        state=State.FAIL,
        subject=Subject(host=way.source.host, peer=way.destination.host),
        summary=one.explanation.rstrip("."),
        evidence=one.evidence,
        cause=one,
    )


def chance_found(way: Way, seen: Between, text: str) -> Found:
    """A packet was lost once, and nothing that would lose the next one was found."""
    sent = sum(int(each.data.get("sent", 0)) for each in seen.evidence)
    lost = sum(int(each.data.get("lost", 0)) for each in seen.evidence)
    return Found(
        check="path.between",
        state=State.WARN,
        subject=Subject(host=way.source.host, peer=way.destination.host),
        summary=f"{text}; of {sent} numbered packets between the hosts {lost} were lost then: it may have been chance",
        evidence=seen.evidence,
    )
