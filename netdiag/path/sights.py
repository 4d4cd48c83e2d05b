"""From captured frames to what was seen at each place, and from that to where a direction was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netdiag.model.path import Direction, Loss, Place, Sight
from netdiag.path.frames import Frame, read_frame


def read_sight(place: Place, raw: dict[str, Any], source_port: int | None = None) -> Sight:
    """What a capture saw of the flow at one place.

    Args:
        place: Where.
        raw: The point's answer of the verb ``capture-stop``.
        source_port: Only packets from and to this port of the source are the flow's; None takes all. Address
            translation may change it: then no packet would be the flow's, and all are taken.
    """
    if raw.get("error"):
        return Sight(place=place, error=str(raw["error"]))
    read = [(frame, item["t_us"]) for item in raw["frames"] if (frame := read_frame(item["data"], place.vxlan_port))]
    there = [(frame, at) for frame, at in read if frame.source == place.a and _is_port(frame, source_port, there=True)]
    back = [(frame, at) for frame, at in read if frame.source == place.b and _is_port(frame, source_port, there=False)]
    return Sight(
        place=place,
        there=len(there),
        back=len(back),
        refused=sum(frame.refuses() for frame, _ in back),
        outer_sources=_once(frame.outer_source for frame, _ in there),
        outer_targets=_once(frame.outer_destination for frame, _ in there),
        vnis=tuple(dict.fromkeys(frame.vni for frame, _ in there if frame.vni is not None)),
        there_length=there[0][0].length if there else 0,
        back_length=back[0][0].length if back else 0,
        first_there_us=there[0][1] if there else None,
        first_back_us=back[0][1] if back else None,
    )


def _is_port(frame: Frame, source_port: int | None, *, there: bool) -> bool:
    if source_port is None or frame.protocol not in (6, 17):
        return True
    return (frame.source_port if there else frame.destination_port) == source_port


def _once(texts: Any) -> tuple[str, ...]:  # noqa: ANN401 - a generator of texts
    return tuple(dict.fromkeys(text for text in texts if text))


def losses(sights: Sequence[Sight]) -> tuple[Loss, ...]:
    """Where each direction was lost; none for one that came to its end, or of which nothing could be expected.

    A place that could not be watched is passed over: the loss is then between its neighbours.
    """
    watched = [sight for sight in sights if sight.watched]
    there = _lost(Direction.THERE, watched, [bool(sight.there) for sight in watched])
    if there is not None:
        return (there,)
    if not any(sight.back for sight in watched):
        # The request arrived, and nothing answered: that is the destination's own affair.
        return (Loss(direction=Direction.BACK, last=None, next=watched[-1].place if watched else None),)
    backwards = list(reversed(watched))
    back = _lost(Direction.BACK, backwards, [bool(sight.back) for sight in backwards])
    return (back,) if back is not None else ()


def _lost(direction: Direction, watched: Sequence[Sight], seen: Sequence[bool]) -> Loss | None:
    """The last place where it was seen, and the one behind it. What is seen further on was not lost before."""
    furthest = max((index for index, one in enumerate(seen) if one), default=-1)
    if furthest == len(seen) - 1:
        return None
    return Loss(
        direction=direction,
        last=watched[furthest].place if furthest >= 0 else None,
        next=watched[furthest + 1].place,
    )
