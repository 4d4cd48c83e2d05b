"""What two halves of a diagnosis make together: the way, the attempt, and what was seen of it in one round."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.model.half import Half, HalfRound, Outcome
from netdiag.model.path import End, PathKind, Place, Sight, Stage, Way
from netdiag.path.verdict import Attempt


def attempt_of(one: HalfRound) -> Attempt:
    """The source's attempt of a round."""
    texts = {
        Outcome.ANSWERED: "answered",
        Outcome.REFUSED: "refused",
        Outcome.LOST: "no answer",
        Outcome.UNSENT: "it could not be sent",
    }
    outcome = one.outcome or Outcome.LOST
    return Attempt(
        answered=outcome is Outcome.ANSWERED,
        refused=outcome is Outcome.REFUSED,
        text=one.detail or texts[outcome],
        rtt_us=one.rtt_us,
        sent=outcome is not Outcome.UNSENT,
    )


def way_of(source: Half, destination: Half) -> Way:
    """The way that two halves make together; one that knows nothing has no places."""
    flow = source.flow
    ends = (_end_of(source, flow.source, destination), _end_of(destination, flow.destination, source))
    tunnels = next((half.end for half in (source, destination) if half.end is not None), None)
    vxlan_port = tunnels.vxlan_port if tunnels is not None else None
    places = tuple(
        Place(
            side=half.side,
            stage=each.stage,
            namespace=each.namespace,
            device=each.device,
            a=flow.source,
            b=flow.destination,
            port=flow.port,
            vxlan_port=vxlan_port if each.stage is Stage.NIC else None,
            where=each.where(half.host),
        )
        for half in (source, destination)
        for each in half.places
    )
    kind = PathKind.PUBLISHED if len(destination.places) > 1 else PathKind.HOST
    return Way(
        kind=PathKind.OVERLAY if tunnels is not None else kind,
        source=ends[0],
        destination=ends[1],
        protocol=flow.protocol,
        port=flow.port,
        places=places,
        vxlan_port=vxlan_port,
    )


def _end_of(half: Half, address: str, other: Half) -> End:
    """An end of the way; of a side that has not answered, what the other one's engine tells."""
    if half.end is None:
        host_address = other.end.towards if other.end is not None else address
        return End(host=half.host, address=address, host_address=host_address)
    return End(
        host=half.host,
        container=half.end.container,
        namespace=f"container:{half.end.container}",
        address=address,
        host_address=half.end.host_address,
        network=half.end.network,
    )


def sights_of(half: Half, one: HalfRound, way: Way) -> Iterator[Sight]:
    """What a half saw in a round, at its places of the way."""
    places = [place for place in way.places if place.side is half.side]
    for place, count in zip(places, one.counts, strict=True):
        yield Sight(
            place=place,
            there=count.there,
            back=count.back,
            refused=count.refused,
            error="" if count.watched else "not watched",
        )
