"""The way of a flow for people: every place, what was seen there, and where it was lost."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.model.half import HalfFlow
from netdiag.model.path import Direction, Loss, PathKind, Place, Side, Sight, Way
from netdiag.report.wording import visible

_KINDS = {
    PathKind.OVERLAY: "an overlay network over VXLAN",
    PathKind.OVERLAY_LOCAL: "an overlay network, within one host",
    PathKind.BRIDGE: "a bridge network of one host",
    PathKind.PUBLISHED: "a published port",
    PathKind.HOST: "host to host",
    PathKind.TO_OWN_HOST: "a container to its own host",
    PathKind.ITSELF: "within one container",
    PathKind.ROUTED: "routed, without encapsulation",
}


def way_lines(way: Way, sights: Sequence[Sight], losses: Sequence[Loss]) -> list[str]:
    """The places in the order of the requests, with counts of both directions and a line where one was lost."""
    if not sights:
        return []
    network = f" ({way.source.network})" if way.source.network else ""
    rows = [(_host(way, sight.place), _device(sight.place), *_counts(sight)) for sight in sights]
    widths = [max([len(row[column]) for row in rows] + [5]) for column in range(3)]
    said = [f"THE WAY: {_KINDS[way.kind]}{network}"]
    said += [f"  {'':{widths[0]}}  {'':{widths[1]}}  {'there':>{widths[2]}}  back"]
    gaps = {_between(loss, sights): loss for loss in losses}
    for position, (row, _) in enumerate(zip(rows, sights, strict=True)):
        if position in gaps:
            said.append(f"  {'-' * 8} {_lost(gaps[position])} {'-' * 8}")
        said.append(f"  {row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip())
    if len(rows) in gaps:
        said.append(f"  {'-' * 8} {_lost(gaps[len(rows)])} {'-' * 8}")
    return [visible(line) for line in said]


def plan_lines(way: Way) -> list[str]:
    """What a diagnosis of this way would watch, send and change."""
    port = f"{way.protocol}/{way.port}" if way.port is not None else way.protocol
    said = [
        f"From {way.source.label()} ({way.source.address}) to {way.destination.label()} ({way.destination.address}), {port}:"
    ]
    said += [f"{_KINDS[way.kind]}.", "", "Would watch, for some seconds, the headers of this flow only, at:"]
    said += [f"  {place.where}" for place in way.places]
    said += [
        "",
        "Would send:",
        f"  one attempt from {way.source.label()} (a connection that is closed again, or an echo)",
    ]
    if way.vxlan_port is not None:
        said.append(f"  if it fails, one ICMP echo from {way.source.host_address} to {way.destination.host_address}")
    if way.protocol == "tcp" or way.port is None:
        said.append("  if it passes, ICMP echoes of growing size with DF set, from either end that can call the other")
    if way.nic(Side.SOURCE) and way.nic(Side.DESTINATION):
        said.append(
            "  if nothing on either host explains that, where large ones are lost, and without a port: some hundred numbered"
            " packets between the two, both ways, that reach no program, and an ARP probe"
        )
    said += [
        "  if it fails, packets like the lost one through the filters of the host where it was lost; they reach nobody",
        "  if no filter takes them, its beginning some times more (64 at most), while that host's counters are read",
        "",
        "Would change: nothing. Each trace has a table of its own for half a second, which the kernel removes.",
    ]
    return [visible(line) for line in said]


def half_plan_lines(way: Way, flow: HalfFlow, side: Side, within_s: int) -> list[str]:
    """What one side of a diagnosis that two hosts make apart would watch, send and change."""
    begin, end = flow.source, flow.destination
    if way.kind is PathKind.OVERLAY:
        begin, end = way.source.host_address, way.destination.host_address
    there, back = (begin, end), (end, begin)
    sent = (
        ["  one attempt (a connection that is closed again, a marked datagram, or an echo)", _echo(there)]
        if side is Side.SOURCE
        else [_echo(back)]
    )
    said = [
        f"The {side.value}'s side of {flow.text()}, here.",
        "",
        f"Would watch, for {within_s} s to {5 * within_s // 2} s, the headers of this flow and of echoes only, at:",
        *(f"  {place.where}" for place in way.places),
        "",
        f"Would send, in each of two rounds {within_s} s apart:",
        *sent,
        "Then packets like the flow's through this host's filters; they reach nobody.",
        "",
        "Would change: nothing. Each trace has a table of its own for half a second, which the kernel removes.",
    ]
    return [visible(line) for line in said]


def _echo(ends: tuple[str, str]) -> str:
    return f"  two ICMP echoes from {ends[0]} to {ends[1]}"


def _host(way: Way, place: Place) -> str:
    return (way.source if place.side.value == "source" else way.destination).host


def _device(place: Place) -> str:
    inside = "" if place.namespace == "host" else f" in {place.namespace}"
    return f"{place.device}{inside}" + (" (VXLAN)" if place.vxlan_port is not None else "")


def _counts(sight: Sight) -> tuple[str, str]:
    if not sight.watched:
        return "?", f"?  ({sight.error})"
    refused = " (refuses)" if sight.refused else ""
    return str(sight.there), f"{sight.back}{refused}"


def _between(loss: Loss, sights: Sequence[Sight]) -> int:
    """Before which row the line of a loss stands."""
    places = [sight.place for sight in sights]
    if loss.direction is Direction.THERE:
        return places.index(loss.next) if loss.next in places else len(places)
    if loss.last is None:
        return len(places)
    return places.index(loss.last)


def _lost(loss: Loss) -> str:
    if loss.direction is Direction.BACK and loss.last is None:
        return "nothing answers"
    return "requests are lost here" if loss.direction is Direction.THERE else "answers are lost here"
