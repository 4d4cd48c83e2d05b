"""Whether addresses arrive as they are sent, and as the swarm knows the nodes by: seen at the receiver's device."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, same_address
from netdiag.checks.two_sided import label_of, names_of, peers
from netdiag.checks.two_sided_words import ends_of
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Subject
from netdiag.model.two_sided import PeerView, Way
from netdiag.shell import shell_text


def _addresses(ctx: Context) -> Iterator[Found]:
    check = "two-sides.addresses"
    same: list[str] = []
    for view in peers(ctx):
        changed = False
        for way in (Way.THERE, Way.BACK):
            found = _translated(ctx, check, view, way) or _known_by(ctx, check, view, way)
            if found is not None:
                changed = True
                yield found
        if not changed and any(probe.seen_source for probe in view.probes):
            same.append(label_of(ctx, view))
    if same:
        yield ctx.ok(check, f"addresses arrive unchanged, here and at {names_of(same)}")


def _advertised(ctx: Context, view: PeerView, way: Way) -> str:
    """The address that the sender of a way is known by in the swarm; empty before it joins."""
    if way is Way.THERE:
        engine = ctx.facts.engine.value
        given = ctx.options.advertise_address
        return view.own_address if given else (engine.swarm.node_address if engine is not None else "")
    engine = view.facts.engine.value if view.facts is not None else None
    return engine.swarm.node_address if engine is not None else ""


def _translated(ctx: Context, check: str, view: PeerView, way: Way) -> Found | None:
    seen = [probe for probe in view.probes if probe.way is way and probe.seen_source]
    source = [probe for probe in seen if probe.source and not same_address(probe.source, probe.seen_source)]
    target = [probe for probe in seen if not same_address(probe.destination, probe.seen_destination)]
    if not source and not target:
        return None
    sender, receiver = ends_of(ctx, way, [view])
    if source:
        before, after = source[0].source, source[0].seen_source
        text = f"{receiver} sees {sender}'s packets come from {after}, and {sender} sends them from {before}"
    else:
        before, after = target[0].destination, target[0].seen_destination
        text = f"{sender} sends to {before}, and at {receiver} the packets arrive for {after}"
    evidence = (Evidence("probe", text, {"before": before, "after": after, "way": way.value}),)
    mapped = same_address(_advertised(ctx, view, way), after) if source else False
    # One to one, and known to the swarm: the translated address is the one that the others use.
    breaks = () if mapped else (Need.NAMES, Need.TRAFFIC)
    return ctx.problem(
        check,
        text,
        breaks=breaks,
        leaves=(Need.NAMES, Need.TRAFFIC) if mapped else (),
        subject=Subject(host=ctx.host, peer=label_of(ctx, view)),
        evidence=evidence,
        cause=cause(
            "underlay.nat",
            host=None,
            object={"kind": "address", "address": before, "expected": after, "from": sender, "to": receiver},
            confidence=Confidence.PROVEN,
            explanation=(
                f"{text}. Gossip and VXLAN go from node to node and expect each other's own addresses, both ways."
            ),
            evidence=evidence,
        ),
    )


def _known_by(ctx: Context, check: str, view: PeerView, way: Way) -> Found | None:
    advertised = _advertised(ctx, view, way)
    seen = {
        probe.seen_source for probe in view.probes if probe.way is way and probe.protocol == "udp" and probe.seen_source
    }
    other = sorted(address for address in seen if not same_address(address, advertised))
    if not advertised or not other or any(same_address(address, advertised) for address in seen):
        return None
    sender, receiver = ends_of(ctx, way, [view])
    text = f"the swarm knows {sender} as {advertised}, and {receiver} sees its packets come from {other[0]}"
    evidence = (Evidence("probe", text, {"advertised": advertised, "seen": other[0]}),)
    return ctx.problem(
        check,
        text,
        breaks=(Need.TRAFFIC,),
        subject=Subject(host=ctx.host, peer=label_of(ctx, view)),
        evidence=evidence,
        cause=cause(
            "swarm.advertise-address",
            host=sender,
            object={"kind": "address", "address": advertised, "expected": other[0]},
            confidence=Confidence.PROVEN,
            explanation=f"{text}. Peers drop VXLAN packets from another address than the one that they know the node by.",
            evidence=evidence,
            remedy=(
                Remedy(
                    host=sender,
                    summary="leave, and join again with the address that its packets come from",
                    commands=(
                        "docker swarm leave",
                        shell_text(["docker", "swarm", "join", "--advertise-addr", other[0]]) + " …",
                    ),
                    risk=Risk.DISRUPTIVE,
                ),
            ),
        ),
    )


CHECK = Check(
    id="two-sides.addresses",
    title="Addresses arrive as they are sent",
    explains=(
        "Each side tells from which address the other's packets come. A translated address, or one other than the swarm"
        " knows the node by, loses gossip and VXLAN."
    ),
    remedy="Let the nodes reach each other without translation, and advertise the address that packets come from.",
    evaluate=_addresses,
)
