"""A probe that left one host and did not arrive at the other: something between them, or before the kernel there."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.causes import cause
from netdiag.checks.context import Context
from netdiag.checks.two_sided import Judged, Where, controls, label_of, xdp_of
from netdiag.checks.two_sided_needs import affected, needs_of
from netdiag.checks.two_sided_words import (
    direction_of,
    ends_of,
    labels_of,
    seen_of,
    state_of,
    subject_of,
    views_of,
)
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Remedy, Risk, Step
from netdiag.model.two_sided import Payload, PeerView, Way
from netdiag.shell import shell_text


def between(ctx: Context, check: str, losses: Sequence[Judged], everything: Sequence[Judged]) -> Found:
    """The finding for one kind of probe that left its sender and did not arrive; control probes did."""
    first = losses[0]
    way = first.probe.way
    answer = first.where is Where.ANSWER_BETWEEN
    views = views_of(losses)
    touched, breaks = needs_of(ctx, losses, everything)
    if first.lossy:
        breaks = set()
    lost_way = (Way.BACK if way is Way.THERE else Way.THERE) if answer else way
    source, target = ends_of(ctx, lost_way, views)
    only = _only_payload(losses, everything)
    xdp = next((one for view in views if (one := xdp_of(view, ctx, at_peer=lost_way is Way.THERE))), "")
    what = labels_of(losses) if only is None else first.label
    evidence = (*seen_of(ctx, losses), *_control(lost_way, views), *state_of(ctx, losses))
    summary = f"{'the answers to ' if answer else ''}{what} {direction_of(ctx, lost_way, views)}"
    named: dict[str, object] = {
        "kind": "segment",
        "from": source,
        "to": target,
        "protocol": first.use.protocol.value,
        "port": first.use.port,
    }
    if only is not None:
        named["payload"] = only.value
    if answer:
        named["answers"] = True
    if first.stateful:
        named["side"] = target
    if len(views) > 1:
        named["hosts"] = [label_of(ctx, view) for view in views]
    if xdp:
        found = cause(
            "host.xdp-drop",
            host=target,
            object={"kind": "program", "device": xdp},
            confidence=Confidence.POSSIBLE if first.lossy else Confidence.LIKELY,
            explanation=_lost_on_the_way(losses, source, target, only, xdp),
            evidence=evidence,
            affects=affected(touched),
        )
    else:
        found = cause(
            "underlay.filtered",
            host=None,
            object=named,
            confidence=_confidence(losses),
            explanation=_lost_on_the_way(losses, source, target, only, xdp),
            remedy=_other_port(losses) if only is Payload.VXLAN else (),
            evidence=evidence,
            affects=affected(touched),
        )
    return ctx.problem(
        check,
        f"{summary}: leaves {source} and never arrives at {target}",
        breaks=breaks,
        leaves=touched - breaks,
        subject=subject_of(ctx, views),
        evidence=evidence,
        cause=found,
        next_steps=[]
        if xdp
        else [
            Step(
                host=f"between {source} and {target}",
                command="",
                why=f"something there must let {what} through: a security group, a router, a virtual switch",
            )
        ],
    )


def _confidence(losses: Sequence[Judged]) -> Confidence:
    """Chance is ruled out by sending again, and never quite on a path that loses packets anyway."""
    if losses[0].lossy:
        return Confidence.POSSIBLE
    return Confidence.PROVEN if any(each.probe.resent for each in losses) else Confidence.LIKELY


def _only_payload(losses: Sequence[Judged], everything: Sequence[Judged]) -> Payload | None:
    """The payload that alone is lost, where datagrams to the same port with another one come."""
    lost = {each.probe.payload for each in losses}
    came = {
        each.probe.payload
        for each in everything
        if each.where is Where.CAME
        and (each.use, each.probe.way) == (losses[0].use, losses[0].probe.way)
        and any(each.view is other.view for other in losses)
    }
    return next(iter(lost)) if len(lost) == 1 and came and came != lost else None


def _lost_on_the_way(losses: Sequence[Judged], source: str, target: str, only: Payload | None, xdp: str) -> str:
    first = losses[0]
    text = f"It was seen leaving {source}'s device and not on {target}'s, where other packets of {source} were seen."
    if only is Payload.VXLAN:
        text += (
            f" The same datagram without a VXLAN header does arrive at udp/{first.use.port}: a hypervisor or virtual"
            " switch takes VXLAN for its own (VMware NSX does)."
        )
    elif only is Payload.TAG:
        text += " With a VXLAN header it does arrive: something there looks into the packets."
    if first.stateful:
        text += (
            f" After {target} had sent to the very port that it came from, it arrived: a filter that keeps state"
            f" stands on the side of {target}, a security group for example."
        )
    if xdp:
        text += (
            f" An XDP program is attached to {xdp} at {target}: it drops before anything can be seen there, so the"
            " network between is not to blame before the program has been looked at."
        )
    if first.lossy:
        text += f" Chance is not ruled out: the path loses packets, so that all {first.probe.sent} may be lost by it."
    elif not any(each.probe.resent for each in losses):
        text += " It was not sent again, so that chance is not ruled out."
    if first.probe.heard.icmp is not None:
        text += f" {first.probe.heard.icmp.sender} answers it with an ICMP error."
    return text


def _other_port(losses: Sequence[Judged]) -> tuple[Remedy, ...]:
    port = 7789 if losses[0].use.port != 7789 else 8472
    return (
        Remedy(
            host="a manager",
            summary="the data-path port is chosen when a swarm is made: make it with one that nobody takes for VXLAN",
            commands=(shell_text(["docker", "swarm", "init", "--data-path-port", str(port)]),),
            risk=Risk.DISRUPTIVE,
        ),
    )


def _control(way: Way, views: Sequence[PeerView]) -> tuple[Evidence, ...]:
    names = list(dict.fromkeys(name for view in views for name in controls(view, way)))
    return (Evidence("control", f"what did arrive the same way: {', '.join(names)}", {"arrived": names}),)
