"""Numbered packets between the two network cards of a way: of what kind they are, and what came of each tuple."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from netdiag.model.facts import HOST
from netdiag.model.path import Direction, End, PathKind, Place, Side, Stage, Way
from netdiag.model.report import Evidence
from netdiag.model.two_sided import Payload, SidedProbe
from netdiag.model.two_sided import Way as Sender

_Z = 1.96
"""Of a 95 % interval."""


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """What packets of a way are like between the two network cards.

    Attributes:
        target: Where requests go, as the network between sees it.
        origin: Where they come from.
        both_send: The other host sends packets of the same kind by itself; else it answers.
    """

    protocol: str
    port: int | None
    payload: Payload
    target: str
    origin: str
    both_send: bool


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """Packets of one tuple: how many left the one card, and how many of them came to the other."""

    source_port: int | None
    sent: int
    arrived: int


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Packets of one kind in one direction; ``answers``: they are the answers to what was sent the other way."""

    direction: Direction
    protocol: str
    port: int | None
    payload: Payload
    answers: bool
    shots: tuple[Shot, ...]

    def rate(self) -> Rate:
        """How many were lost, of all."""
        sent = sum(shot.sent for shot in self.shots)
        return Rate(sent=sent, lost=sent - sum(shot.arrived for shot in self.shots))

    def label(self) -> str:
        """What they are, in a few words."""
        if self.protocol == "icmp":
            return "ICMP echo replies" if self.answers else "ICMP echo requests"
        what = f"{self.protocol}/{self.port}" + (" with a VXLAN header" if self.payload is Payload.VXLAN else "")
        return f"answers of {what}" if self.answers else what


class Rate(msgspec.Struct, frozen=True):
    """A share that was counted, with the 95 % interval in which the true one lies (Wilson)."""

    sent: int
    lost: int

    @property
    def share(self) -> float:
        """Lost of sent; 0 where nothing was sent."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The least and the largest share that agree with the count."""
        if not self.sent:
            return 0.0, 1.0
        weight = _Z * _Z / self.sent
        middle = (self.share + weight / 2) / (1 + weight)
        spread = _Z * math.sqrt(self.share * (1 - self.share) / self.sent + weight / self.sent / 4) / (1 + weight)
        return max(0.0, middle - spread), min(1.0, middle + spread)

    def text(self) -> str:
        """In a few words: "38 of 192 lost, 20 % (95 % interval: 15 to 26 %)"."""
        low, high = self.interval
        shares = f"{_percent(self.share)} % (95 % interval: {_percent(low)} to {_percent(high)} %)"
        return f"{self.lost} of {self.sent} lost, {shares}" if self.lost else f"{self.lost} of {self.sent} lost"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 or not share else f"{100 * share:.1f}"


def wire_of(way: Way, *, port: int | None = None) -> Wire | None:
    """What a way's packets are like between the hosts; None for a way that does not pass two network cards.

    Args:
        way: The way.
        port: A tcp port that answers, for a way that has no port of its own.
    """
    nics = {place.side: place for place in _nics(way)}
    if len(nics) < len(Side):
        return None
    if way.kind is PathKind.OVERLAY:
        if not (way.source.host_address and way.destination.host_address):
            return None
        return Wire(
            protocol="udp",
            port=way.vxlan_port,
            payload=Payload.VXLAN,
            target=way.destination.host_address,
            origin=way.source.host_address,
            both_send=True,
        )
    protocol, called = (way.protocol, way.port) if way.port is not None else ("tcp", port)
    if called is None:
        protocol = "icmp"
    here = nics[Side.SOURCE]
    return Wire(protocol=protocol, port=called, payload=Payload.TAG, target=here.b, origin=here.a, both_send=False)


def _nics(way: Way) -> Iterable[Place]:
    return (place for place in way.places if place.stage is Stage.NIC and place.namespace == HOST)


def between_nics(last: Place | None, following: Place | None) -> bool:
    """Whether two places are the cards of two hosts."""
    if last is None or following is None or last.side is following.side:
        return False
    return (last.stage, following.stage) == (Stage.NIC, Stage.NIC)


def ends_of(way: Way, direction: Direction) -> tuple[End, End]:
    """Who sends and who should receive."""
    there = direction is Direction.THERE
    return (way.source, way.destination) if there else (way.destination, way.source)


def segment(
    way: Way, direction: Direction, protocol: str | None, port: int | None, **more: object
) -> dict[str, object]:
    """The object of a cause that lies between the two hosts of a way."""
    sender, receiver = ends_of(way, direction)
    return {
        "kind": "segment",
        "from": sender.host_address,
        "to": receiver.host_address,
        "hosts": [sender.host, receiver.host],
        "protocol": protocol,
        "port": port,
        **more,
    }


def series_of(probes: Sequence[SidedProbe], direction: Direction) -> tuple[Series, ...]:
    """What was counted in one direction, kind by kind. Packets of a size are left out: they are judged by it.

    What did not leave its sender's card, and what could not be watched at one of the cards, tells nothing of the way
    between them.
    """
    sender = Sender.THERE if direction is Direction.THERE else Sender.BACK
    kinds: dict[tuple[str, int | None, Payload, bool], dict[int | None, Shot]] = {}
    for each in probes:
        if each.length_bytes is not None or each.again:
            continue
        own = each.way is sender
        sent, came = (each.left, each.arrived) if own else (each.answers_left, each.answers_arrived)
        if not sent or came is None:
            continue
        key = (each.protocol, each.port, each.payload, not own)
        tuple_of = each.source_port if each.protocol in ("tcp", "udp") else None
        shots = kinds.setdefault(key, {})
        before = shots.get(tuple_of, Shot(source_port=tuple_of, sent=0, arrived=0))
        shots[tuple_of] = Shot(source_port=tuple_of, sent=before.sent + sent, arrived=before.arrived + min(came, sent))
    return tuple(
        Series(
            direction=direction,
            protocol=protocol,
            port=port,
            payload=payload,
            answers=answers,
            shots=tuple(shots.values()),
        )
        for (protocol, port, payload, answers), shots in kinds.items()
    )


def counted(way: Way, series: Series) -> Evidence:
    """What was counted of one series, as evidence."""
    sender, receiver = ends_of(way, series.direction)
    rate = series.rate()
    text = f"{series.label()} from {sender.host} to {receiver.host}: {rate.text()}"
    return Evidence("burst", text, {"sent": rate.sent, "lost": rate.lost, "direction": series.direction.value})
