"""Whether addresses arrive as they are sent, and as the swarm knows the nodes by: seen at the receiver's device."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, same_address
from netdiag.checks.two_sided import label_of, names_of, peers
from netdiag.checks.two_sided_words import ends_of
from netdiag.firewall.translating import translating
from netdiag.model.facts import HOST
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Subject
from netdiag.model.two_sided import PeerView, SidedProbe, Way
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


class _Changed(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is another one at the receiver than the sender's program used.

    Attributes:
        source: It is the source; else the destination.
        left: What it was when it left the sender's device; empty where nobody saw that.
    """

    probe: SidedProbe
    source: bool
    before: str
    left: str
    after: str

    @property
    def by_sender(self) -> bool:
        """Whether the sender's own kernel changed it."""
        return bool(self.left) and not same_address(self.before, self.left)


def _changed(view: PeerView, way: Way) -> _Changed | None:
    """The first address that is changed: a source if there is any, and what the sender did before what lies between."""
    mine = [probe for probe in view.probes if probe.way is way and (probe.seen_source or probe.left_source)]
    found = [
        _Changed(probe=probe, source=source, before=before, left=left, after=after or left)
        for probe in mine
        for source, before, left, after in (
            (True, probe.source, probe.left_source, probe.seen_source),
            (False, probe.destination, probe.left_destination, probe.seen_destination),
        )
        if (left and not same_address(before, left)) or (after and not same_address(before, after))
    ]
    return min(found, key=lambda one: (not one.source, not one.by_sender), default=None)


def _translated(ctx: Context, check: str, view: PeerView, way: Way) -> Found | None:
    changed = _changed(view, way)
    if changed is None:
        return None
    sender, receiver = ends_of(ctx, way, [view])
    before, after = changed.before, changed.after
    if changed.source:
        text = f"{receiver} sees {sender}'s packets come from {after}, and {sender} sends them from {before}"
    else:
        text = f"{sender} sends to {before}, and at {receiver} the packets arrive for {after}"
    seen: list[Evidence] = []
    if changed.by_sender:
        end = "source" if changed.source else "destination"
        text += f"; they leave {sender}'s own device with the {end} {changed.left}"
        rules = _own_rules(ctx, view, way, changed)
        if len(rules) == 1:
            text += f", and the one rule there that may do it is {rules[0].place()}"
        seen = [
            Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}", rule.as_object()) for rule in rules
        ]
    evidence = (
        Evidence("probe", text, {"before": before, "left": changed.left, "after": after, "way": way.value}),
        *seen,
    )
    mapped = same_address(_advertised(ctx, view, way), after) if changed.source else False
    # One to one, and known to the swarm: the translated address is the one that the others use.
    breaks = () if mapped else (Need.NAMES, Need.TRAFFIC)
    where = "" if changed.left else f" Whether {sender} does it itself is not known: its device could not be watched."
    return ctx.problem(
        check,
        text,
        breaks=breaks,
        leaves=(Need.NAMES, Need.TRAFFIC) if mapped else (),
        subject=Subject(host=ctx.host, peer=label_of(ctx, view)),
        evidence=evidence,
        cause=cause(
            "underlay.nat",
            host=sender if changed.by_sender else None,
            object={"kind": "address", "address": before, "expected": after, "from": sender, "to": receiver},
            confidence=Confidence.PROVEN if changed.left else Confidence.LIKELY,
            explanation=(
                f"{text}. Gossip and VXLAN go from node to node and expect each other's own addresses, both ways.{where}"
            ),
            evidence=evidence,
        ),
    )


def _own_rules(ctx: Context, view: PeerView, way: Way, changed: _Changed) -> tuple[FirewallRule, ...]:
    """The rules of the sender that may change the address, as far as they were read."""
    facts, device = (ctx.facts, view.device) if way is Way.THERE else (view.facts, view.peer_device)
    rule_sets = (facts.firewall.value or {}).get(HOST, ()) if facts is not None else ()
    probe = changed.probe
    packet = Packet(
        direction=Direction.OUT,
        protocol="50" if probe.protocol == "esp" else probe.protocol,
        family=6 if ":" in probe.destination else 4,
        source=probe.source,
        destination=probe.destination,
        source_port=probe.source_port,
        destination_port=probe.port,
        device=device,
    )
    return translating(rule_sets, packet, facts, source=changed.source)


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
