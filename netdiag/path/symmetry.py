"""Whether packets come to a host by one device and leave it by another, from numbered packets that were seen at all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netdiag.causes import cause
from netdiag.model.path import Direction, Side, Way
from netdiag.model.report import Cause, Confidence, Evidence
from netdiag.model.two_sided import SidedProbe
from netdiag.model.two_sided import Way as Sender
from netdiag.path.bursts import segment


def asymmetric_cause(way: Way, probes: Sequence[SidedProbe]) -> Cause | None:
    """The cause where the two directions share no device of a host; None where they do, or where one was not seen.

    A frame may be seen at several devices of a host (a VLAN and the card below it): one that both directions share is
    enough. The destination is looked at first: its route back decides.
    """
    for side in (Side.DESTINATION, Side.SOURCE):
        comes, leaves = _devices(probes, side)
        if comes and leaves and not set(comes) & set(leaves):
            return _cause(way, side, comes, leaves, probes)
    return None


def _devices(probes: Sequence[SidedProbe], side: Side) -> tuple[list[str], list[str]]:
    """By which devices packets of the other side come to a host, and by which it sends to that side."""
    own = Sender.THERE if side is Side.SOURCE else Sender.BACK
    comes = _once(each.back_devices if each.way is own else each.seen_devices for each in probes)
    leaves = _once(each.left_devices if each.way is own else each.answer_devices for each in probes)
    return comes, leaves


def _once(found: Iterable[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(name for names in found for name in names))


def _cause(way: Way, side: Side, comes: list[str], leaves: list[str], probes: Sequence[SidedProbe]) -> Cause:
    here, there = way.end(side), way.end(Side.SOURCE if side is Side.DESTINATION else Side.DESTINATION)
    other_comes, other_leaves = _devices(probes, Side.SOURCE if side is Side.DESTINATION else Side.DESTINATION)
    text = (
        f"what {there.host} sends comes to {here.host} by {', '.join(comes)}, and {here.host} sends to {there.host} by"
        f" {', '.join(leaves)}"
    )
    direction = Direction.BACK if side is Side.DESTINATION else Direction.THERE
    return cause(
        "underlay.asymmetric",
        host=here.host,
        object=segment(
            way,
            direction,
            None,
            None,
            in_device=comes[0],
            out_device=leaves[0],
            other_in_device=other_comes[0] if other_comes else None,
            other_out_device=other_leaves[0] if other_leaves else None,
        ),
        confidence=Confidence.PROVEN,
        explanation=(
            f"{text[:1].upper()}{text[1:]}. That is allowed by itself; a reverse path filter or a firewall that keeps state"
            " and sees one direction only drops packets."
        ),
        evidence=(Evidence("capture", text, {"in": comes, "out": leaves}),),
    )
