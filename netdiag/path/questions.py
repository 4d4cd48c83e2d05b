"""Which packet filters a lost packet met between two places: the traces that decide it, one for each namespace."""

from __future__ import annotations

import msgspec

from netdiag.facts.trace_wanted import Wanted
from netdiag.model.facts import HOST
from netdiag.model.path import Direction, End, Loss, PathKind, Place, Side, Sight, Stage, Way
from netdiag.model.trace import TracePath


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One trace to make: on which side, of which packet, and what it stands for in the report."""

    side: Side
    wanted: Wanted
    about: str


def questions(way: Way, loss: Loss, sights: tuple[Sight, ...]) -> tuple[Question, ...]:
    """The traces that tell whether a filter took the packet where it was lost; none where no filter stands."""
    if loss.direction is Direction.BACK and loss.last is None:
        found: Question | None = _at_the_end(way)
    elif loss.last is None:
        found = _from_the_start(way, loss.direction)
    elif loss.next is None:
        return ()
    else:
        found = _between(way, loss.direction, loss.last, loss.next, sights)
    return (_as_long(found, loss, sights),) if found is not None else ()


def _as_long(question: Question, loss: Loss, sights: tuple[Sight, ...]) -> Question:
    """With the length that the lost packet had where it was seen last: a rule may ask for it."""
    there = loss.direction is Direction.THERE
    seen = next((sight for sight in sights if sight.place == (loss.last or loss.next)), None)
    length = 0 if seen is None else seen.there_length if there or loss.last is None else seen.back_length
    # A TCP packet of ours is as long as a kernel's own; a longer one than a trace sends is sent at its longest.
    if not length or question.wanted.protocol == "tcp":
        return question
    return msgspec.structs.replace(question, wanted=msgspec.structs.replace(question.wanted, length=min(length, 1500)))


def _between(way: Way, direction: Direction, here: Place, there: Place, sights: tuple[Sight, ...]) -> Question | None:
    stages = (here.stage, there.stage)
    inside = here.namespace == there.namespace and here.side is there.side and here.namespace != HOST
    if inside or stages == (Stage.PORT, Stage.PORT):
        return _across_bridge(way, direction, here, there)
    if stages == (Stage.TUNNEL, Stage.NIC):
        return _leaves_in_tunnel(way, here)
    if stages == (Stage.NIC, Stage.TUNNEL):
        return _arrives_in_tunnel(way, here, sights)
    if way.kind is PathKind.PUBLISHED and here.stage is Stage.NIC and there.side is Side.DESTINATION:
        return _published(way, here)
    return None


def refusal_questions(way: Way) -> tuple[Question, ...]:
    """What is asked when the destination refused: whether a rule of its own did, before anything listened."""
    return (_at_the_end(way),)


def _sender(way: Way, direction: Direction) -> tuple[End, End]:
    ends = (way.source, way.destination)
    return ends if direction is Direction.THERE else (ends[1], ends[0])


def _inner(way: Way, direction: Direction, path: TracePath, namespace: str) -> Wanted:
    """The flow's own packet: its first, or for the answers one that looks like the first of them."""
    sender, receiver = _sender(way, direction)
    back = direction is Direction.BACK
    ports = way.protocol in ("tcp", "udp")
    return Wanted(
        path=path,
        namespace=namespace,
        source=sender.address,
        destination=receiver.address,
        protocol=way.protocol,
        source_port=way.port if ports and back else None,
        destination_port=(None if not ports else 40000 if back else way.port),
        tcp_flags="syn,ack" if way.protocol == "tcp" and back else "",
    )


def _from_the_start(way: Way, direction: Direction) -> Question:
    sender, _ = _sender(way, direction)
    side = Side.SOURCE if direction is Direction.THERE else Side.DESTINATION
    wanted = _inner(way, direction, TracePath.OUT, sender.namespace)
    return Question(side=side, wanted=wanted, about=f"out of {sender.label()}")


def _at_the_end(way: Way) -> Question:
    end = way.destination
    wanted = _inner(way, Direction.THERE, TracePath.IN, end.namespace)
    wanted = msgspec.structs.replace(wanted, in_device=end.device)
    return Question(side=Side.DESTINATION, wanted=wanted, about=f"into {end.label()}")


def _across_bridge(way: Way, direction: Direction, here: Place, there: Place) -> Question:
    wanted = _inner(way, direction, TracePath.FORWARD, here.namespace)
    wanted = msgspec.structs.replace(wanted, in_device=here.device, out_device=there.device)
    return Question(side=here.side, wanted=wanted, about=f"from {here.where} to {there.where}")


def _tunnel_ends(way: Way, side: Side) -> tuple[str, str]:
    """The outer addresses of what the host of a side sends."""
    ends = (way.source.host_address, way.destination.host_address)
    return ends if side is Side.SOURCE else (ends[1], ends[0])


def _leaves_in_tunnel(way: Way, here: Place) -> Question:
    _, target = _tunnel_ends(way, here.side)
    wanted = Wanted(path=TracePath.OUT, destination=target, protocol="udp", destination_port=way.vxlan_port)
    return Question(side=here.side, wanted=wanted, about=f"VXLAN out to {target}")


def _arrives_in_tunnel(way: Way, here: Place, sights: tuple[Sight, ...]) -> Question:
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


def _published(way: Way, here: Place) -> Question:
    wanted = Wanted(
        path=TracePath.IN,
        source=way.source.address,
        destination=way.destination.host_address,
        in_device=here.device,
        protocol=way.protocol,
        destination_port=way.port,
    )
    return Question(side=Side.DESTINATION, wanted=wanted, about=f"{way.protocol}/{way.port} in from {way.source.host}")
