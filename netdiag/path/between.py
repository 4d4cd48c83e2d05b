"""What the network between two hosts does to packets of a way, from numbered packets that were counted at both cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.found import Found
from netdiag.model.path import Direction, Loss, Way
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk, State, Subject
from netdiag.model.two_sided import Payload, SidedProbe
from netdiag.model.two_sided import Way as Sender
from netdiag.path.bursts import Series, Wire, between_nics, ends_of, segment, series_of
from netdiag.path.flows import flow_cause, split
from netdiag.path.lossy import is_lossy, loss_cause
from netdiag.path.symmetry import asymmetric_cause
from netdiag.path.verdict import loss_text
from netdiag.shell import shell_text


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
    counted = whole = 0
    for direction in Direction:
        series = series_of(probes, direction)
        own = own_series(wire, series)
        if own is None:
            continue
        counted += 1
        others = [each for each in series if each is not own]
        evidence += [_counted(way, each) for each in (own, *others)]
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
    causes = [*translated(way, probes), *_merged(causes), *([asymmetric] if asymmetric is not None else [])]
    if not counted and not causes:
        reasons.append(_uncounted(probes))
    return Between(
        causes=tuple(causes),
        reason="; ".join(reasons),
        evidence=tuple(evidence),
        whole=bool(counted) and whole == counted,
    )


def is_partly_lost(wire: Wire, probes: Sequence[SidedProbe], direction: Direction) -> bool:
    """Whether some of a direction's own packets came and some did not, so that more of them would tell."""
    own = own_series(wire, series_of(probes, direction))
    return own is not None and 0 < own.rate().lost < own.rate().sent


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


def _counted(way: Way, series: Series) -> Evidence:
    sender, receiver = ends_of(way, series.direction)
    rate = series.rate()
    text = f"{series.label()} from {sender.host} to {receiver.host}: {rate.text()}"
    return Evidence("burst", text, {"sent": rate.sent, "lost": rate.lost, "direction": series.direction.value})


def _uncounted(probes: Sequence[SidedProbe]) -> str:
    why = next((each.unsent or each.refused for each in probes if each.unsent or each.refused), "")
    return "numbered packets between the hosts could not be counted" + (f": {why}" if why else "")


# --- something takes them --------------------------------------------------------------------------------------------


def filtered_cause(way: Way, own: Series, others: Sequence[Series], probes: Sequence[SidedProbe]) -> Cause:
    """The cause: every packet of one kind vanishes between the cards, and others do not."""
    sender, receiver = ends_of(way, own.direction)
    came = [each for each in others if each.rate().lost < each.rate().sent]
    twins = [each for each in came if (each.protocol, each.port) == (own.protocol, own.port)]
    only = own.payload if any(each.payload is not own.payload for each in twins) else None
    stateful = _is_stateful(own, probes)
    more: dict[str, object] = {}
    if only is not None:
        more["payload"] = only.value
    if own.answers:
        more["answers"] = True
    if stateful:
        more["side"] = receiver.host
    text = (
        f"{own.label()} leaves {sender.host} and never reaches {receiver.host}, {own.rate().sent} of {own.rate().sent} lost,"
        f" while {', '.join(each.label() for each in came)} between the same two {'do' if len(came) > 1 else 'does'}."
    )
    if only is Payload.VXLAN:
        text += (
            " The same datagram without a VXLAN header does arrive: a hypervisor or virtual switch takes VXLAN for its"
            " own (VMware NSX does)."
        )
    if stateful:
        text += (
            f" After {receiver.host} had sent to the very port that it came from, it arrived: a filter that keeps state"
            f" stands on the side of {receiver.host}, a security group for example."
        )
    return cause(
        "underlay.filtered",
        host=None,
        object=segment(way, own.direction, own.protocol, own.port, **more),
        confidence=Confidence.PROVEN,
        explanation=text,
        evidence=tuple(_counted(way, each) for each in (own, *others)),
        remedy=_other_port(own) if only is Payload.VXLAN else (),
    )


def flow_filtered_cause(way: Way, loss: Loss, seen: Between | None, *, control_arrived: bool | None) -> Cause | None:
    """The cause where this very flow vanishes between the cards and all else arrives; None without such a control."""
    if not between_nics(loss.last, loss.next) or not control_arrived:
        return None
    protocol, port = ("udp", way.vxlan_port) if way.vxlan_port else (way.protocol, way.port)
    what = f"{protocol}/{port}" if port is not None else protocol
    others = seen is not None and seen.whole
    return cause(
        "underlay.filtered",
        host=None,
        object=segment(way, loss.direction, protocol, port),
        # Without other packets that were counted four lost ones may still be chance.
        confidence=Confidence.PROVEN if others else Confidence.LIKELY,
        explanation=(
            f"{what} leaves {loss.last.where if loss.last else ''} and never reaches"
            f" {loss.next.where if loss.next else ''}, each time that it is tried, while ICMP echo between the same two does"
            + (", and so do packets like it between the hosts' own addresses." if others else ".")
        ),
        evidence=(Evidence("capture", loss_text(loss)), *(seen.evidence if seen is not None else ())),
    )


def _is_stateful(own: Series, probes: Sequence[SidedProbe]) -> bool:
    sender = Sender.THERE if own.direction is Direction.THERE else Sender.BACK
    return any(
        each.again and each.arrived and each.way is sender and (each.protocol, each.port) == (own.protocol, own.port)
        for each in probes
    )


def _other_port(own: Series) -> tuple[Remedy, ...]:
    port = 7789 if own.port != 7789 else 8472
    return (
        Remedy(
            host="a manager",
            summary="the data-path port is chosen when a swarm is made: make it with one that nobody takes for VXLAN",
            commands=(shell_text(["docker", "swarm", "init", "--data-path-port", str(port)]),),
            risk=Risk.DISRUPTIVE,
        ),
    )


def _merged(causes: Sequence[Cause]) -> list[Cause]:
    """One cause for one filter that takes the same kind of packet both ways."""
    found: list[Cause] = []
    for one in causes:
        twin = next((each for each in found if _is_twin(each, one)), None)
        if twin is None:
            found.append(one)
            continue
        found[found.index(twin)] = msgspec.structs.replace(
            twin,
            object={**twin.object, "both_ways": True},
            explanation=f"{twin.explanation} The other way it is the same.",
            evidence=(*twin.evidence, *one.evidence),
        )
    return found


def _is_twin(one: Cause, other: Cause) -> bool:
    kept = ("protocol", "port", "payload", "side", "answers")
    return one.code == other.code == "underlay.filtered" and all(
        one.object.get(key) == other.object.get(key) for key in kept
    )


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
            state=State.UNKNOWN,
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
