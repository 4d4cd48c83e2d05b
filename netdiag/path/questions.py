"""Which packet filters a lost packet met between two places: the traces that decide it, one for each namespace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netdiag.facts.trace_wanted import Wanted
from netdiag.model.facts import HOST
from netdiag.model.path import Direction, Loss, PathKind, Place, Side, Sight, Stage, Way
from netdiag.model.trace import Endpoints, TracePath
from netdiag.path.one_way import one_direction

_EPHEMERAL = 40000
"""A port that stands for the source's own, where a packet must be made up."""
_PAST = (Stage.NIC, Stage.END)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One trace to make.

    Attributes:
        side: On which host.
        wanted: Of which packet.
        about: What it stands for in the report.
        answer: It is an answer: filters that look at connections know it only when it is a real one, so that it is
            waited for while the attempt is made again.
        made_up: Where it is waited for in vain, a packet that looks like it may be sent instead.
        later: It follows the opening of its connection: only a real one has a connection that is known, so that it is
            waited for as an answer is.
        half: Its host sees one direction of the connection only, so that tracking there knows no such connection.
        opened: For an answer: the flow that it belongs to, as connection tracking there knows it.
    """

    side: Side
    wanted: Wanted
    about: str
    answer: bool = False
    made_up: bool = True
    later: bool = False
    half: bool = False
    opened: Endpoints | None = None


def questions(way: Way, loss: Loss, sights: Sequence[Sight]) -> tuple[Question, ...]:
    """The traces that tell whether a filter took the packet where it was lost; none where no filter stands."""
    if loss.direction is Direction.BACK and loss.last is None:
        found = [*_into_the_end(way, sights), _answer_from_the_end(way, sights)]
    elif loss.last is None:
        found = [_from_the_start(way)]
    elif loss.next is None:
        found = [_answer_to_the_start(way, loss.last, sights)]
    else:
        found = list(_between(way, loss.direction, loss.last, loss.next, sights))
    found = [_as_later(each) if loss.later else _as_long(each, loss, sights) for each in found]
    return tuple(_as_half(each, loss, sights) for each in found)


def _as_half(question: Question, loss: Loss, sights: Sequence[Sight]) -> Question:
    """Told of a packet of a connection of which its host sees one direction only."""
    half = (question.answer or question.later) and one_direction(sights, question.side, answered=loss.later)
    return msgspec.structs.replace(question, half=True) if half else question


def encrypted_questions(way: Way, loss: Loss) -> tuple[Question, ...]:
    """The filters that protocol 50 (ESP) meets where it arrives, for a loss between the VXLAN devices of an encrypted network.

    There the packets cannot be looked into, so that none is seen to come so far.
    """
    stages = {place.stage for place in (loss.last, loss.next) if place is not None}
    if not (Stage.NIC in stages and stages <= {Stage.TUNNEL, Stage.NIC}):
        return ()
    found = []
    for sender, receiver in ((Side.SOURCE, Side.DESTINATION), (Side.DESTINATION, Side.SOURCE)):
        source, target = _tunnel_ends(way, sender)
        wanted = Wanted(
            path=TracePath.IN, source=source, destination=target, in_device=way.nic(receiver), protocol="esp"
        )
        found.append(Question(side=receiver, wanted=wanted, about=f"protocol 50 in from {source}"))
    return tuple(found)


def _as_later(question: Question) -> Question:
    wanted = msgspec.structs.replace(question.wanted, later=True, tcp_flags="", out_device="", length=None)
    if question.answer:
        wanted = msgspec.structs.replace(wanted, destination_port=None)
    return msgspec.structs.replace(question, wanted=wanted, made_up=False, later=True)


def refusal_questions(way: Way, sights: Sequence[Sight] = ()) -> tuple[Question, ...]:
    """What is asked when the destination refused: whether a rule of its own did, before anything listened."""
    return _into_the_end(way, sights)


def into_the_host(way: Way) -> tuple[Question, ...]:
    """What the destination's host makes of a call to an address of its own: whether it is led on to the container."""
    nic = next((place for place in way.places if (place.side, place.stage) == (Side.DESTINATION, Stage.NIC)), None)
    if not way.called or nic is None:
        return ()
    wanted = msgspec.structs.replace(_packet(way, Direction.THERE, nic, (), TracePath.IN), in_device=nic.device)
    about = f"{way.protocol}/{way.port} in from {way.source.label()}"
    return (Question(side=Side.DESTINATION, wanted=wanted, about=about),)


def standing(way: Way, loss: Loss, sights: Sequence[Sight]) -> tuple[Question, ...]:
    """The filters that the flow would meet next, were it not lost before: those behind the loss, and a tunnel's way back.

    What a tunnel carries back opens a flow of its own in the eyes of a filter, so that a packet of ours stands for it.
    """
    if loss.direction is Direction.BACK:
        return ()
    places = way.places
    start = places.index(loss.next) if loss.next is not None else 0
    found: list[Question] = []
    for here, there in zip(places[start:], places[start + 1 :], strict=False):
        found += _between(way, Direction.THERE, here, there, sights)
    found += _into_the_end(way, sights)
    return (*found, *tunnel_back(way, sights))


def tunnel_back(way: Way, sights: Sequence[Sight]) -> tuple[Question, ...]:
    """The filters that what a tunnel carries back meets on either host; none where there is no tunnel."""
    if way.kind is not PathKind.OVERLAY:
        return ()
    found: list[Question] = []
    for here, there in zip(way.places[::-1], way.places[::-1][1:], strict=False):
        if {here.stage, there.stage} == {Stage.TUNNEL, Stage.NIC}:
            found += _between(way, Direction.BACK, here, there, sights)
    return tuple(found)


def _as_long(question: Question, loss: Loss, sights: Sequence[Sight]) -> Question:
    """With the length that the lost packet had where it was seen last: a rule may ask for it."""
    there = loss.direction is Direction.THERE
    seen = next((sight for sight in sights if sight.place == (loss.last or loss.next)), None)
    length = 0 if seen is None else seen.there_length if there or loss.last is None else seen.back_length
    # A TCP packet of ours is as long as a kernel's own; a longer one than a trace sends is sent at its longest.
    if not length or question.answer or question.wanted.protocol == "tcp":
        return question
    return msgspec.structs.replace(question, wanted=msgspec.structs.replace(question.wanted, length=min(length, 1500)))


def _between(way: Way, direction: Direction, here: Place, there: Place, sights: Sequence[Sight]) -> Iterator[Question]:
    stages = (here.stage, there.stage)
    if stages == (Stage.TUNNEL, Stage.NIC):
        yield _leaves_in_tunnel(way, here)
    elif stages == (Stage.NIC, Stage.TUNNEL):
        yield _arrives_in_tunnel(way, here, sights)
    elif here.namespace == there.namespace and _is_one_stack(here, there):
        yield _through(way, direction, here, there, sights)
    elif direction is Direction.BACK and here.side is there.side and (*stages, here.namespace) == (*_PAST, HOST):
        yield _past_the_leg(way, here, there, sights)


def _past_the_leg(way: Way, here: Place, there: Place, sights: Sequence[Sight]) -> Question:
    """Answers at the source's host, to a container whose requests left by a card of its own.

    They come straight to that card, or the host passes them on: its filters are asked about those that it does pass.
    No request left by the host, so that nothing translated the container's address.
    """
    wanted = _packet(way, Direction.BACK, here, sights, TracePath.FORWARD)
    return Question(
        side=here.side,
        wanted=msgspec.structs.replace(wanted, destination=way.source.address, in_device=here.device),
        about=f"from {here.where} to {there.where}",
        answer=True,
        made_up=False,
        opened=_opened(way, here.side, here.namespace, sights),
    )


def _is_one_stack(here: Place, there: Place) -> bool:
    """Whether both places belong to one host's stack, so that its filters stand between them."""
    on_one_side = here.side is there.side
    return on_one_side or Stage.NIC not in (here.stage, there.stage)


def _through(way: Way, direction: Direction, here: Place, there: Place, sights: Sequence[Sight]) -> Question:
    """From one device of a namespace to another of it, or to its own stack."""
    bridged = here.b == there.b and (here.namespace != HOST or way.kind is PathKind.BRIDGE)
    own = there.stage is Stage.END or (direction is Direction.THERE and here.b != there.b)
    path = TracePath.IN if own else TracePath.FORWARD
    wanted = _packet(way, direction, here, sights, path)
    # A bridge's own device is where its host takes what comes for it, whichever port it came by.
    in_device = there.device if there.stage is Stage.END else here.device
    leaves = path is TracePath.FORWARD and (bridged or there.stage is Stage.NIC)
    wanted = msgspec.structs.replace(wanted, in_device=in_device, out_device=there.device if leaves else "")
    return Question(
        side=here.side,
        wanted=wanted,
        about=f"from {here.where} to {there.where}",
        answer=direction is Direction.BACK,
        made_up=here.b == there.b and _origin(here, sights) == _origin(there, sights),
        opened=_opened(way, here.side, here.namespace, sights),
    )


def _opened(way: Way, side: Side, namespace: str, sights: Sequence[Sight]) -> Endpoints:
    """The flow as connection tracking of a namespace knows it: by the addresses with which it came there."""
    if side is Side.SOURCE:
        return Endpoints(source=way.source.address, destination=way.target, destination_port=way.port)
    last = _last(way)
    if namespace == way.destination.namespace != HOST:
        return Endpoints(source=_origin(last, sights), destination=last.b, destination_port=last.port)
    first = next((place for place in way.places if place.side is Side.DESTINATION), last)
    return Endpoints(source=_origin(first, sights), destination=way.target, destination_port=way.port)


def _packet(way: Way, direction: Direction, place: Place, sights: Sequence[Sight], path: TracePath) -> Wanted:
    """The flow's packet as one place sees it: its first, or for the answers one that looks like the first of them."""
    begin = _origin(place, sights)
    ports = way.protocol in ("tcp", "udp")
    if direction is Direction.THERE:
        return Wanted(
            path=path,
            namespace=place.namespace,
            source=begin,
            destination=place.b,
            protocol=way.protocol,
            destination_port=place.port if ports else None,
        )
    return Wanted(
        path=path,
        namespace=place.namespace,
        source=place.b,
        destination=begin,
        protocol=way.protocol,
        source_port=place.port if ports else None,
        destination_port=_EPHEMERAL if ports else None,
        tcp_flags="syn,ack" if way.protocol == "tcp" else "",
        icmp_type=0 if way.protocol == "icmp" and ":" not in begin else None,
    )


def _origin(place: Place, sights: Sequence[Sight]) -> str:
    """From which address requests came to a place: as it was seen, else as it should be."""
    return next((sight.origin for sight in sights if sight.place == place and sight.origin), place.a)


def _from_the_start(way: Way) -> Question:
    ports = way.protocol in ("tcp", "udp")
    wanted = Wanted(
        path=TracePath.OUT,
        namespace=way.source.namespace,
        source=way.source.address,
        destination=way.target,
        protocol=way.protocol,
        destination_port=way.port if ports else None,
    )
    return Question(side=Side.SOURCE, wanted=wanted, about=f"out of {way.source.label()}")


def _into_the_end(way: Way, sights: Sequence[Sight]) -> tuple[Question, ...]:
    """The request at the end's own filters; by way of a virtual IP it comes there from another address as well."""
    end, last = way.destination, _last(way)
    wanted = _packet(way, Direction.THERE, last, sights, TracePath.IN)
    device = last.device if last.namespace == end.namespace else end.device
    wanted = msgspec.structs.replace(wanted, namespace=end.namespace, in_device=device)
    found = [Question(side=Side.DESTINATION, wanted=wanted, about=f"into {end.label()}")]
    if way.balancer:
        wanted = msgspec.structs.replace(wanted, source=way.balancer)
        about = f"into {end.label()}, by way of the virtual IP"
        found.append(Question(side=Side.DESTINATION, wanted=wanted, about=about))
    return tuple(found)


def _last(way: Way) -> Place:
    """The last place of the way; for one that cannot be watched anywhere, what there would be."""
    if way.places:
        return way.places[-1]
    end = way.destination
    return Place(
        side=Side.DESTINATION,
        stage=Stage.END,
        namespace=end.namespace,
        device=end.device,
        a=way.source.address,
        b=end.address,
        port=way.end_port,
        where=end.label(),
    )


def _answer_from_the_end(way: Way, sights: Sequence[Sight]) -> Question:
    end = way.destination
    wanted = _packet(way, Direction.BACK, _last(way), sights, TracePath.OUT)
    wanted = msgspec.structs.replace(wanted, namespace=end.namespace)
    return Question(
        side=Side.DESTINATION,
        wanted=wanted,
        about=f"answers out of {end.label()}",
        answer=True,
        # It is watched from before the first filter: where none is seen there is none, and one that is made up would
        # meet rules that no answer has met.
        made_up=False,
        opened=_opened(way, Side.DESTINATION, end.namespace, sights),
    )


def _answer_to_the_start(way: Way, first: Place, sights: Sequence[Sight]) -> Question:
    start = way.source
    wanted = _packet(way, Direction.BACK, first, sights, TracePath.IN)
    device = first.device if first.namespace == start.namespace and first.stage is not Stage.PORT else ""
    wanted = msgspec.structs.replace(wanted, namespace=start.namespace, in_device=device)
    return Question(
        side=Side.SOURCE,
        wanted=wanted,
        about=f"answers into {start.label()}",
        answer=True,
        opened=_opened(way, Side.SOURCE, start.namespace, sights),
    )


def _tunnel_ends(way: Way, side: Side) -> tuple[str, str]:
    """The outer addresses of what the host of a side sends."""
    ends = (way.source.host_address, way.destination.host_address)
    return ends if side is Side.SOURCE else (ends[1], ends[0])


def _leaves_in_tunnel(way: Way, here: Place) -> Question:
    _, target = _tunnel_ends(way, here.side)
    wanted = Wanted(path=TracePath.OUT, destination=target, protocol="udp", destination_port=way.vxlan_port)
    return Question(side=here.side, wanted=wanted, about=f"VXLAN out to {target}")


def _arrives_in_tunnel(way: Way, here: Place, sights: Sequence[Sight]) -> Question:
    """With the outer source that was seen: it may differ from the one that should be."""
    other = Side.SOURCE if here.side is Side.DESTINATION else Side.DESTINATION
    source, target = _tunnel_ends(way, other)
    seen = next((sight.outer_sources for sight in sights if sight.place == here and sight.outer_sources), ())
    wanted = Wanted(
        path=TracePath.IN,
        source=seen[0] if seen and here.side is Side.DESTINATION else source,
        destination=target,
        in_device=here.device,
        protocol="udp",
        destination_port=way.vxlan_port,
    )
    return Question(side=here.side, wanted=wanted, about=f"VXLAN in from {wanted.source}")
