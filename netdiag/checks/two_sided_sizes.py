"""Which sizes pass between this host and a peer, one way at a time: seen arriving at the other side's device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdiag.causes import cause
from netdiag.checks.commands import set_mtu
from netdiag.checks.context import Check, Context
from netdiag.checks.mtu import OVERLAY_OUTER_BYTES
from netdiag.checks.two_sided import label_of, loses, names_of, peers
from netdiag.facts.sweeps import Sweep, sweep_of
from netdiag.model.facts import HOST, Facts
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Subject
from netdiag.model.two_sided import PeerView, Way

_CHECK = "two-sides.sizes"
_LEAST_BYTES = 1280
_LOSSY = "Chance is not ruled out: the path loses packets of every size."


def _sizes(ctx: Context) -> Iterator[Found]:
    passing: dict[tuple[Way, int], list[str]] = {}
    for view in peers(ctx):
        for way in (Way.THERE, Way.BACK):
            mine = [each for each in view.probes if each.way is way]
            sweeps = [
                sweep
                for sweep in (sweep_of(mine, protocol, lossy=loses(view, way)) for protocol in ("icmp", "udp"))
                if sweep is not None
            ]
            usable = [sweep for sweep in sweeps if sweep.largest]
            if not usable:
                if any(each.length_bytes for each in mine) and any(each.arrived for each in mine):
                    yield ctx.unknown(
                        _CHECK,
                        f"which sizes pass {_from_to(ctx, view, way)}",
                        "no small packet of the kinds that can carry a size arrived either",
                        leaves=(Need.TRAFFIC,),
                        subject=_subject(ctx, view),
                    )
                continue
            found = _judged(ctx, view, way, usable)
            if found is None:
                passing.setdefault((way, min(one.largest for one in usable)), []).append(label_of(ctx, view))
            else:
                yield found
    for (way, size), labels in passing.items():
        direction = f"from here to {names_of(labels)}" if way is Way.THERE else f"from {names_of(labels)} to here"
        yield ctx.ok(_CHECK, f"packets of {size} bytes pass {direction}")


def _judged(ctx: Context, view: PeerView, way: Way, sweeps: Sequence[Sweep]) -> Found | None:
    losing = [one for one in sweeps if one.lost is not None]
    whole = [one for one in sweeps if one.lost is None]
    if not losing:
        return None
    if whole and losing[0].protocol == "udp":
        return _by_kind(ctx, view, way, losing[0], whole[0])
    # A full echo that is lost while a full datagram comes is a filter of large pings, which nobody needs.
    if whole:
        return None
    return _by_size(ctx, view, way, max(losing, key=lambda one: one.largest), losing)


def _by_size(ctx: Context, view: PeerView, way: Way, sweep: Sweep, sweeps: Sequence[Sweep]) -> Found:
    source, device, mtu_bytes = _device(ctx, view, way)
    other_mtu = _device(ctx, view, Way.BACK if way is Way.THERE else Way.THERE)[2]
    said = any(one.said for one in sweeps)
    evidence = _evidence(ctx, view, way, sweeps)
    # TCP agrees on the smaller of both devices; what is lost below that hangs every connection with full segments.
    stuck = not said and sweep.lost is not None and sweep.lost <= min(mtu_bytes, other_mtu or mtu_bytes)
    breaks = [Need.JOIN] if stuck and view.is_manager else []
    if sweep.largest < OVERLAY_OUTER_BYTES:
        breaks.append(Need.TRAFFIC)
    certain = sweep.sure is not Confidence.POSSIBLE
    tells = "and the path says so" if said else "and nothing says so"
    text = f"{_from_to(ctx, view, way)} {sweep.largest} bytes pass and {sweep.lost} do not, {tells}"
    if said and certain and sweep.largest >= _needed_bytes(ctx, view):
        # A jumbo device before a path of the usual size, as clouds have it: connections learn, overlays send no more.
        return ctx.ok(_CHECK, f"{text}, so connections adapt", subject=_subject(ctx, view), evidence=evidence)
    return ctx.problem(
        _CHECK,
        f"{text}; {device} may send {mtu_bytes}",
        breaks=breaks if certain else (),
        leaves=() if certain else breaks,
        subject=_subject(ctx, view),
        evidence=evidence,
        cause=cause(
            "underlay.mtu" if said else "underlay.mtu-blackhole",
            host=source,
            object={
                "kind": "device",
                "name": device,
                "mtu_bytes": mtu_bytes or None,
                "largest_bytes": sweep.largest,
                "peer": _ends(ctx, view, way)[1],
            },
            confidence=sweep.sure,
            explanation=_LOSSY if sweep.sure is Confidence.POSSIBLE else "",
            evidence=evidence,
            affects=("swarm join", "overlay data") if Need.JOIN in breaks else ("overlay data",),
            remedy=_lower(source, device, sweep.largest, mtu_bytes),
        ),
    )


def _needed_bytes(ctx: Context, view: PeerView) -> int:
    """The largest packet that overlays of the two hosts send, outside."""
    engines = [facts.engine.value for facts in (ctx.facts, view.facts) if facts is not None]
    networks = [network for engine in engines if engine is not None for network in engine.networks]
    sizes = [network.mtu_bytes or 0 for network in networks if network.driver == "overlay"]
    return max([OVERLAY_OUTER_BYTES, *sizes])


def _lower(host: str, device: str, largest: int, was: int) -> tuple[Remedy, ...]:
    # Below 1280 a device loses IPv6 altogether; such a path is to be repaired, not followed.
    if not device or largest < _LEAST_BYTES or not was:
        return ()
    return (
        Remedy(
            host=host,
            summary=f"lower {device} to what the path carries (or raise the path)",
            commands=(set_mtu(device, largest),),
            undo=(set_mtu(device, was),),
        ),
    )


def _by_kind(ctx: Context, view: PeerView, way: Way, lost: Sweep, whole: Sweep) -> Found:
    source, target = _ends(ctx, view, way)
    evidence = _evidence(ctx, view, way, (lost, whole))
    return ctx.problem(
        _CHECK,
        f"udp/{lost.port} of more than {lost.largest} bytes leaves {source} and never arrives at {target},"
        f" and ICMP of {whole.largest} bytes does",
        breaks=(Need.TRAFFIC,) if lost.sure is not Confidence.POSSIBLE else (),
        leaves=(Need.TRAFFIC,) if lost.sure is Confidence.POSSIBLE else (),
        subject=_subject(ctx, view),
        evidence=evidence,
        cause=cause(
            "underlay.filtered",
            host=None,
            object={
                "kind": "segment",
                "from": source,
                "to": target,
                "protocol": "udp",
                "port": lost.port,
                "size": lost.lost,
            },
            confidence=lost.sure,
            explanation=(
                f"Datagrams of {lost.largest} bytes to udp/{lost.port} arrive and larger ones do not, while ICMP of the same"
                " size does: something between drops them by length."
                + (f" {_LOSSY}" if lost.sure is Confidence.POSSIBLE else "")
            ),
            evidence=evidence,
            affects=("overlay data",),
        ),
    )


def _evidence(ctx: Context, view: PeerView, way: Way, sweeps: Sequence[Sweep]) -> tuple[Evidence, ...]:
    rows = []
    for one in sweeps:
        kind = "ICMP echo" if one.protocol == "icmp" else f"udp/{one.port} with a VXLAN header"
        lost = f", {one.lost} bytes do not" if one.lost is not None else ""
        said = " (an ICMP error said so)" if one.said else ""
        text = f"{kind} with DF {_from_to(ctx, view, way)}: {one.largest} bytes arrive{lost}{said}"
        rows.append(Evidence("probe", text, {"largest_bytes": one.largest, "lost_bytes": one.lost}))
    return tuple(rows)


def _device(ctx: Context, view: PeerView, way: Way) -> tuple[str, str, int]:
    """Who sends, by which device, and that device's MTU (0 where it is not known)."""
    facts: Facts | None = ctx.facts if way is Way.THERE else view.facts
    device = view.device if way is Way.THERE else view.peer_device
    links = (facts.links.value or {}).get(HOST, ()) if facts is not None else ()
    mtu_bytes = next((link.mtu_bytes for link in links if link.name == device), 0)
    return _ends(ctx, view, way)[0], device, mtu_bytes


def _ends(ctx: Context, view: PeerView, way: Way) -> tuple[str, str]:
    there = label_of(ctx, view)
    return (ctx.host, there) if way is Way.THERE else (there, ctx.host)


def _from_to(ctx: Context, view: PeerView, way: Way) -> str:
    there = label_of(ctx, view)
    return f"from here to {there}" if way is Way.THERE else f"from {there} to here"


def _subject(ctx: Context, view: PeerView) -> Subject:
    return Subject(host=ctx.host, peer=label_of(ctx, view))


CHECK = Check(
    id=_CHECK,
    title="Packets of every size pass to and from the peers",
    explains=(
        "Pings and VXLAN datagrams of several sizes are sent with DF, each way by itself, and are seen arriving at the"
        " other side's device: neither an answer nor an ICMP error has to come back. The largest that arrives is found to"
        " the byte."
    ),
    remedy="Lower the device's MTU to what the path carries, or raise the path; make overlays with a smaller MTU.",
    evaluate=_sizes,
)
