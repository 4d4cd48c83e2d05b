"""From captured frames to what was seen at each place, and from that to where a direction was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netdiag.model.path import Direction, Loss, Place, Sight
from netdiag.path.frames import Frame, read_frame

_Timed = tuple[Frame, int]


def read_sights(
    places: Sequence[Place], raw: Mapping[str, Mapping[str, Any]], *, source_port: int | None = None, tag: bytes = b""
) -> tuple[Sight, ...]:
    """What a capture saw of one attempt at each place.

    Address translation changes addresses and ports, and leaves TCP's first sequence number and a datagram's content
    alone: by those the attempt is known where it has other ports than at its start.

    Args:
        places: Where, in the order of the way.
        raw: The points' answers of the verb ``capture-stop``, by the places' keys.
        source_port: From which port the attempt was made; None takes every packet between the ends.
        tag: What the attempt's datagrams contain (their answers need not); empty takes every one.
    """
    frames = {place.key(): _frames(place, raw[place.key()], tag) for place in places if place.key() in raw}
    first = _first_sequence(places, frames, source_port)
    found = []
    for place in places:
        answer = raw.get(place.key(), {"error": "not watched"})
        if answer.get("error"):
            found.append(Sight(place=place, error=str(answer["error"])))
        else:
            found.append(_sight(place, frames[place.key()], source_port, first))
    return tuple(found)


def _frames(place: Place, answer: Mapping[str, Any], tag: bytes) -> list[_Timed]:
    rows = answer.get("frames") or ()
    read = [(read_frame(row["data"], place.vxlan_port), row) for row in rows]
    return [
        (frame, row["t_us"])
        for frame, row in read
        if frame and (frame.protocol != 17 or frame.source == place.b or tag in row["data"])
    ]


def _first_sequence(places: Sequence[Place], frames: Mapping[str, list[_Timed]], port: int | None) -> int | None:
    """The sequence number with which the attempt opened its connection, as the first place saw it."""
    for place in places:
        for frame, _ in frames.get(place.key(), ()):
            if frame.opens() and frame.source == place.a and port is not None and frame.source_port == port:
                return frame.sequence
    return None


def _sight(place: Place, frames: list[_Timed], source_port: int | None, first: int | None) -> Sight:
    ports = _ports(place, frames, source_port, first)
    sources = {place.a, *place.origins, *((place.proxy,) if place.proxy else ())}
    there = [each for each in frames if each[0].source in sources and _is_one(each[0], place.b, ports, there=True)]
    back = [each for each in frames if each[0].destination in sources and _is_one(each[0], place.b, ports, there=False)]
    return Sight(
        place=place,
        there=len(there),
        back=len(back),
        refused=sum(frame.refuses() for frame, _ in back),
        there_later=sum(frame.follows() for frame, _ in there),
        back_later=sum(frame.follows() for frame, _ in back),
        outer_sources=_once(frame.outer_source for frame, _ in there),
        outer_targets=_once(frame.outer_destination for frame, _ in there),
        back_outer_sources=_once(frame.outer_source for frame, _ in back),
        back_outer_targets=_once(frame.outer_destination for frame, _ in back),
        vnis=tuple(dict.fromkeys(frame.vni for frame, _ in there if frame.vni is not None)),
        there_length=there[0][0].length if there else 0,
        back_length=back[0][0].length if back else 0,
        first_there_us=there[0][1] if there else None,
        first_back_us=back[0][1] if back else None,
        origin=there[0][0].source if there else "",
        there_macs=_once(frame.mac for frame, _ in there),
        back_macs=_once(frame.mac for frame, _ in back),
    )


def _ports(place: Place, frames: list[_Timed], source_port: int | None, first: int | None) -> set[int | None] | None:
    """The source ports that the attempt has at a place; None for any."""
    if source_port is None or not (place.origins or place.proxy):
        return None if source_port is None else {source_port}
    same = {frame.source_port for frame, _ in frames if frame.opens() and frame.sequence == first}
    if first is not None and same:
        return same
    if place.proxy:
        # A proxy calls in its own name, from a port and with a number of its own.
        called = {frame.source_port for frame, _ in frames if frame.opens() and frame.source == place.proxy}
        return called | {source_port}
    return {source_port}


def _is_one(frame: Frame, end: str, ports: set[int | None] | None, *, there: bool) -> bool:
    if (frame.destination if there else frame.source) != end:
        return False
    if ports is None or frame.protocol not in (6, 17):
        return True
    return (frame.source_port if there else frame.destination_port) in ports


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


def losses(sights: Sequence[Sight]) -> tuple[Loss, ...]:
    """Where each direction was lost; none for one that came to its end, or of which nothing could be expected.

    A place that could not be watched is passed over: the loss is then between its neighbours.
    """
    watched = [sight for sight in sights if sight.watched]
    there = _lost(Direction.THERE, watched, [bool(sight.there) for sight in watched])
    # What the end answers has come to it, by whichever way.
    arrived = bool(watched) and watched[-1].back > watched[-1].refused
    if there is not None and not arrived:
        return (there,)
    if not any(sight.back for sight in watched):
        # The request arrived, and nothing answered: that is the destination's own affair.
        return (Loss(direction=Direction.BACK, last=None, next=watched[-1].place if watched else None),)
    backwards = list(reversed(watched))
    back = _lost(Direction.BACK, backwards, [bool(sight.back) for sight in backwards])
    return (back,) if back is not None else ()


def later_losses(sights: Sequence[Sight]) -> tuple[Loss, ...]:
    """Where a TCP connection that opened loses what follows in it; none where all of it came as far as its opening did.

    One loss at most: once one direction is stuck, the other has nothing more to say.
    """
    watched = [sight for sight in sights if sight.watched]
    for direction, order in ((Direction.THERE, watched), (Direction.BACK, watched[::-1])):
        furthest = max((index for index, one in enumerate(order) if one.later(direction)), default=-1)
        beyond = next((one for one in order[furthest + 1 :] if one.count(direction)), None)
        if furthest >= 0 and beyond is not None:
            return (Loss(direction=direction, last=order[furthest].place, next=beyond.place, later=True),)
    return ()


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
