"""Which sizes pass between the hosts of a way, and what that does to the flow: what is too large for whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.facts.sweeps import Sweep, sweep_of
from netdiag.model.found import Found
from netdiag.model.path import Direction, PathKind, Way
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk, State, Subject
from netdiag.model.two_sided import SidedProbe
from netdiag.model.two_sided import Way as Sender
from netdiag.path.bursts import ends_of, segment
from netdiag.path.layers import Row
from netdiag.shell import shell_text

LEAST_BYTES = 1280
"""Below it a device loses IPv6 altogether: such a path is to be repaired, not followed."""
_VXLAN_BYTES = {4: 50, 6: 70}


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends in one direction, and how large.

    Attributes:
        device: The host's network card.
        mtu_bytes: Its MTU.
        other_mtu_bytes: That of the receiver's card: TCP agrees on the smaller one.
        inner_mtu_bytes: Of the end's own device: inside an overlay a container's.
        rows: What became of packets of growing size from end to end; None where none could be sent.
    """

    device: str
    mtu_bytes: int
    other_mtu_bytes: int
    inner_mtu_bytes: int
    rows: Sequence[Row] | None = None


def size_founds(way: Way, probes: Sequence[SidedProbe], sending: Mapping[Direction, Sending]) -> Iterator[Found]:
    """The findings about sizes; none where all that the way needs pass.

    One for each direction in which a host sends more than passes; one for both where an overlay does, whose size is the
    same on every host.
    """
    overlays: list[Found] = []
    for direction, by in sending.items():
        sender = Sender.THERE if direction is Direction.THERE else Sender.BACK
        mine = [each for each in probes if each.way is sender]
        sweeps = [sweep for sweep in (sweep_of(mine, protocol) for protocol in ("icmp", "udp")) if sweep is not None]
        usable = [sweep for sweep in sweeps if sweep.largest]
        losing = [sweep for sweep in usable if sweep.lost is not None]
        whole = [sweep for sweep in usable if sweep.lost is None]
        if losing and whole:
            # A full echo that is lost while a full datagram comes is a filter of large pings, which nobody needs.
            if losing[0].protocol == "udp" and way.vxlan_port is not None:
                yield _found(way, _by_size(way, direction, losing[0], whole[0]), State.FAIL)
        elif usable and way.kind is PathKind.OVERLAY:
            overlays += _overlay(way, direction, by, usable)
        elif losing:
            yield _host(way, direction, by, losing)
    if overlays:
        yield min(overlays, key=lambda found: (found.state is not State.FAIL, _passing(found)))


def _passing(found: Found) -> int:
    return int(found.cause.object["path_mtu_bytes"]) if found.cause is not None else 0


def _overlay(way: Way, direction: Direction, by: Sending, sweeps: Sequence[Sweep]) -> Iterator[Found]:
    """An overlay sends without DF: what is too large for the path is lost, unless somebody on it fragments."""
    best = max(sweeps, key=lambda sweep: sweep.largest)
    outer = _VXLAN_BYTES[6 if ":" in ends_of(way, direction)[1].host_address else 4]
    needed = by.inner_mtu_bytes + outer
    if best.largest >= needed:
        return
    inside = [row for row in by.rows or () if row["size"] + outer > best.largest]
    silent = any(row["outcome"] == "silent" for row in inside)
    passing = bool(inside) and all(row["outcome"] == "answered" for row in inside)
    if passing:
        return
    sender, receiver = ends_of(way, direction)
    network = sender.network or receiver.network
    evidence = _evidence(way, direction, by, sweeps)
    told = "are lost" if silent else "do not pass whole"
    text = (
        f"{best.largest} bytes pass from {sender.host} to {receiver.host}, and {network} needs {needed}: {by.inner_mtu_bytes}"
        f" inside and {outer} around them; packets from {best.largest - outer + 1} bytes inside {told}"
    )
    one = cause(
        "overlay.mtu",
        host=sender.host if by.mtu_bytes < needed else None,
        object={
            "kind": "network",
            "name": network,
            "device": by.device,
            "path_mtu_bytes": best.largest,
            "needed_bytes": needed,
            "peer": receiver.host,
        },
        confidence=Confidence.PROVEN if silent else Confidence.LIKELY,
        explanation=f"{text}.",
        evidence=evidence,
        remedy=_smaller_network(network, best.largest),
    )
    yield _found(way, one, State.FAIL if silent else State.WARN)


def _smaller_network(network: str, largest: int) -> tuple[Remedy, ...]:
    # The engine takes its own overhead from this number.
    option = f"com.docker.network.driver.mtu={largest}"
    return (
        Remedy(
            host="a manager",
            summary=f"make {network} again with packets that fit, its services stopped (ingress and docker_gwbridge too)",
            commands=(
                shell_text(["docker", "network", "rm", network]),
                shell_text(["docker", "network", "create", "-d", "overlay", "--opt", option, network]),
            ),
            risk=Risk.DISRUPTIVE,
        ),
    )


def _host(way: Way, direction: Direction, by: Sending, sweeps: Sequence[Sweep]) -> Found:
    best = max(sweeps, key=lambda sweep: sweep.largest)
    said = any(sweep.said for sweep in sweeps)
    router = next((sweep.said_by for sweep in sweeps if sweep.said_by), "")
    lost = best.lost or 0
    # TCP agrees on the smaller of both cards; what is lost below that hangs every connection with full segments.
    stuck = not said and lost <= min(by.mtu_bytes, by.other_mtu_bytes)
    sender, receiver = ends_of(way, direction)
    tells = f"{router or 'the path'} says so, so that the hosts adapt" if said else "nothing on the path says so"
    text = (
        f"from {sender.host} to {receiver.host} {best.largest} bytes pass and {lost} do not, and {tells};"
        f" {by.device} may send {by.mtu_bytes}"
    )
    one = cause(
        "underlay.mtu" if said else "underlay.mtu-blackhole",
        host=sender.host,
        object={
            "kind": "device",
            "name": by.device,
            "mtu_bytes": by.mtu_bytes,
            "largest_bytes": best.largest,
            "peer": receiver.host,
            **({"router": router} if router else {}),
        },
        confidence=Confidence.PROVEN,
        explanation=f"{text[:1].upper()}{text[1:]}.",
        evidence=_evidence(way, direction, by, sweeps),
        remedy=_lower(sender.host, by, best.largest),
    )
    return _found(way, one, State.FAIL if stuck else State.WARN)


def _lower(host: str, by: Sending, largest: int) -> tuple[Remedy, ...]:
    if not by.device or largest < LEAST_BYTES:
        return ()
    link = ["ip", "link", "set", "dev", by.device, "mtu"]
    return (
        Remedy(
            host=host,
            summary=f"lower {by.device} to what the path carries (or raise the path)",
            commands=(shell_text([*link, str(largest)]),),
            undo=(shell_text([*link, str(by.mtu_bytes)]),),
        ),
    )


def _by_size(way: Way, direction: Direction, lost: Sweep, whole: Sweep) -> Cause:
    sender, receiver = ends_of(way, direction)
    text = (
        f"{lost.label()} of more than {lost.largest} bytes leaves {sender.host} and never reaches {receiver.host}, while"
        f" {whole.label()} of {whole.largest} bytes does: something between drops it by length"
    )
    return cause(
        "underlay.filtered",
        host=None,
        object=segment(way, direction, lost.protocol, lost.port, size=lost.lost),
        confidence=Confidence.PROVEN,
        explanation=f"{text}.",
        evidence=tuple(_swept(way, direction, each) for each in (lost, whole)),
    )


def _evidence(way: Way, direction: Direction, by: Sending, sweeps: Sequence[Sweep]) -> tuple[Evidence, ...]:
    found = [_swept(way, direction, each) for each in sweeps]
    inside = [f"{row['size']} {row['outcome']}" for row in by.rows or ()]
    if inside and way.kind is PathKind.OVERLAY:
        found.append(Evidence("probe", f"echo from container to container: {', '.join(inside)}"))
    return tuple(found)


def _swept(way: Way, direction: Direction, sweep: Sweep) -> Evidence:
    sender, receiver = ends_of(way, direction)
    lost = f", {sweep.lost} bytes do not" if sweep.lost is not None else ""
    said = f" ({sweep.said_by or 'an ICMP error'} said so)" if sweep.said else ""
    text = f"{sweep.label()} with DF from {sender.host} to {receiver.host}: {sweep.largest} bytes arrive{lost}{said}"
    return Evidence("probe", text, {"largest_bytes": sweep.largest, "lost_bytes": sweep.lost})


def _found(way: Way, one: Cause, state: State) -> Found:
    return Found(
        check="path.sizes",
        state=state,
        subject=Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None),
        summary=one.explanation.rstrip("."),
        evidence=one.evidence,
        cause=one,
    )
