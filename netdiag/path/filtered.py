"""Something between two hosts takes packets of one kind: by port, by what is in them, by state; or one flow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.facts import HOST, Facts
from netdiag.model.path import Direction, Loss, Way
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk
from netdiag.model.two_sided import Payload, SidedProbe
from netdiag.model.two_sided import Way as Sender
from netdiag.path.bursts import Series, between_nics, counted, ends_of, segment
from netdiag.path.verdict import loss_text
from netdiag.shell import shell_text


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
        evidence=tuple(counted(way, each) for each in (own, *others)),
        remedy=_other_port(own) if only is Payload.VXLAN else (),
    )


def flow_filtered_cause(
    way: Way, loss: Loss, evidence: Sequence[Evidence], *, others: bool, control_arrived: bool | None
) -> Cause | None:
    """The cause where this very flow vanishes between the cards and all else arrives; None without such a control.

    Args:
        way: The way.
        loss: Where it was lost, twice.
        evidence: What was counted of other packets.
        others: All of those arrived.
        control_arrived: Whether an echo did, which was sent beside the attempts.
    """
    if not between_nics(loss.last, loss.next) or not (others or control_arrived):
        return None
    protocol, port = ("udp", way.vxlan_port) if way.vxlan_port else (way.protocol, way.port)
    what = f"{protocol}/{port}" if port is not None else protocol
    return cause(
        "underlay.filtered",
        host=None,
        object=segment(way, loss.direction, protocol, port),
        # Without other packets that were counted four lost ones may still be chance.
        confidence=Confidence.PROVEN if others else Confidence.LIKELY,
        explanation=(
            f"{what} leaves {loss.last.where if loss.last else ''} and never reaches"
            f" {loss.next.where if loss.next else ''}, each time that it is tried, while"
            f" {'packets like it between the hosts themselves do' if others else 'ICMP echo between the same two does'}."
        ),
        evidence=(Evidence("capture", loss_text(loss)), *evidence),
    )


def later_filtered_cause(way: Way, loss: Loss) -> Cause:
    """The cause where a connection's opening comes from card to card and nothing that follows does, twice over.

    Its opening is the control: it had the same addresses and ports.
    """
    port = way.vxlan_port or way.port
    protocol = "udp" if way.vxlan_port else way.protocol
    text = loss_text(loss)
    return cause(
        "underlay.filtered",
        host=None,
        object=segment(way, loss.direction, protocol, port),
        confidence=Confidence.LIKELY,
        explanation=(
            f"{text[:1].upper()}{text[1:]}, each time that it is tried. A filter between that keeps state does so, where it"
            " sees one direction of the connection only or has lost what it knew of it."
        ),
        evidence=(Evidence("capture", text),),
    )


def hidden_by_program(one: Cause, facts: Mapping[str, Facts]) -> Cause:
    """A filter between, less sure where the receiver's card runs an XDP program, which drops before anything is seen.

    Args:
        one: The cause underlay.filtered.
        facts: Of the hosts that take part, by their names.
    """
    receiver = str(one.object["hosts"][1])
    links = (facts[receiver].links.value or {}).get(HOST, ()) if receiver in facts else ()
    found = next((link.name for link in links if link.xdp_mode), "")
    if not found:
        return one
    text = (
        f" An XDP program is attached to {found} of {receiver}: it drops before anything can be seen there, so the network"
        " between is not to blame before the program has been looked at."
    )
    return msgspec.structs.replace(one, confidence=Confidence.LIKELY, explanation=one.explanation + text)


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


def merged(causes: Sequence[Cause]) -> list[Cause]:
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
