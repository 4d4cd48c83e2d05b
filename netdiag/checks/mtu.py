"""Sizes: what passes to the managers, against what this host's device promises and what overlays need."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, same_address
from netdiag.model.found import Found
from netdiag.model.probes import HelloProbe, ManagerProbe, PathSizes, SizeOutcome
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Subject
from netdiag.shell import shell_text

OVERLAY_OUTER_BYTES = 1500
"""Largest outer packet of an overlay with the default MTU: 1450 inside plus 50 of VXLAN over IPv4 (moby
``drivers/overlay``; the driver does not look at the device's MTU)."""

_OPTIONS_BYTES = 12
"""Of TCP's timestamps, which a segment's size does not show."""
_LEAST_BYTES = 1280


def _path(ctx: Context) -> Iterator[Found]:
    check = "underlay.mtu"
    told = [view.address for view in (ctx.observed.peers if ctx.observed is not None else ()) if not view.why_not]
    for probe in ctx.managers:
        if any(same_address(probe.address, address) for address in told):
            continue  # seen from both sides: `netdiag.checks.two_sided_sizes`
        subject = Subject(host=ctx.host, peer=probe.given, device=probe.route.device if probe.route else None)
        sizes, hello = probe.sizes, probe.hello
        if sizes is not None and sizes.control_answered:
            yield _from_sweep(ctx, check, probe, sizes, subject)
        elif hello is not None and hello.small_answered:
            yield _from_hello(ctx, check, probe, hello, subject)
        elif sizes is None and hello is None:
            yield ctx.skip(check, f"no sizes were tried toward {probe.given}", "not probed", subject=subject)
        else:
            yield ctx.unknown(
                check,
                f"which sizes pass to {probe.given}",
                "it answers neither ping nor TLS, so a lost large packet would prove nothing",
                leaves=(Need.TRAFFIC,),
                subject=subject,
            )


def _swallowed(sizes: PathSizes) -> bool:
    """Something that the device may send is lost, and neither a router nor this host's own routes say so."""
    lost = sizes.smallest_lost_bytes
    if lost is None or lost > sizes.device_mtu_bytes:
        return False
    if any(one.size_bytes == lost and one.outcome is SizeOutcome.LOCAL for one in sizes.sizes):
        return False
    # Routers answer some of many errors only; what one of them named counts, if it explains the loss.
    named = [one.mtu_bytes for one in sizes.sizes if one.outcome is SizeOutcome.TOO_BIG and one.mtu_bytes]
    return min(named) >= lost if named else not sizes.icmp_came


def _tcp_bytes(probe: ManagerProbe) -> int:
    """The largest TCP packet that is known to have arrived: a full segment of the padded hello; 0 when none did.

    Headers without options, so up to 12 bytes less than what was sent.
    """
    if probe.hello is None or not probe.hello.padded_answered:
        return 0
    return probe.hello.largest_segment_bytes + (60 if ":" in probe.address else 40)


def _from_sweep(ctx: Context, check: str, probe: ManagerProbe, sizes: PathSizes, subject: Subject) -> Found:
    largest = sizes.largest_answered_bytes or 0
    seen = Evidence("probe", _sweep_text(sizes), {"device_mtu_bytes": sizes.device_mtu_bytes, "largest_bytes": largest})
    evidence = (seen, *_hello_seen(probe.hello))
    by_tcp = _tcp_bytes(probe)
    if _swallowed(sizes):
        if not by_tcp:
            return _black_hole(ctx, check, probe, largest, sizes.device_mtu_bytes, evidence, subject)
        if by_tcp <= largest:
            return _only_this_side(ctx, check, probe, sizes, evidence, subject)
    # A full segment that arrived says more than an echo of that size that did not: some devices drop large pings.
    passes = max(largest, by_tcp)
    if passes < OVERLAY_OUTER_BYTES - (_OPTIONS_BYTES if by_tcp > largest else 0):
        return _too_small(ctx, check, probe, sizes, passes, seen, subject)
    beyond = "" if largest >= sizes.device_mtu_bytes else f" ({sizes.device} may send {sizes.device_mtu_bytes})"
    return ctx.ok(check, f"packets of {passes} bytes pass to {probe.given}{beyond}", subject=subject, evidence=evidence)


def _sweep_text(sizes: PathSizes) -> str:
    lost = f", {sizes.smallest_lost_bytes} bytes do not" if sizes.smallest_lost_bytes is not None else ""
    told = (
        ""
        if sizes.smallest_lost_bytes is None
        else (" (the path said so)" if sizes.icmp_came else " (no ICMP came back)")
    )
    return (
        f"echo with DF to {sizes.peer}: {sizes.largest_answered_bytes} bytes pass{lost}{told};"
        f" {sizes.device} has an MTU of {sizes.device_mtu_bytes}"
    )


def _hello_seen(hello: HelloProbe | None) -> tuple[Evidence, ...]:
    if hello is None:
        return ()
    text = (
        f"TLS hello in small segments: {'answered' if hello.small_answered else 'no answer'}; in segments of up to"
        f" {hello.largest_segment_bytes} bytes: {'answered' if hello.padded_answered else 'no answer'}"
    )
    return (Evidence("probe", text, {"largest_segment_bytes": hello.largest_segment_bytes}),)


def _lower(ctx: Context, device: str, mtu_bytes: int, was: int) -> tuple[Remedy, ...]:
    # Below 1280 a device loses IPv6 altogether; such a path is to be repaired, not followed.
    if not device or mtu_bytes < _LEAST_BYTES:
        return ()
    link = ["ip", "link", "set", "dev", device, "mtu"]
    return (
        Remedy(
            host=ctx.host,
            summary=f"lower {device} to what the path carries (or raise the path)",
            commands=(shell_text([*link, str(mtu_bytes)]),),
            undo=(shell_text([*link, str(was)]),),
        ),
    )


def _black_hole(
    ctx: Context,
    check: str,
    probe: ManagerProbe,
    largest: int,
    device_mtu: int,
    evidence: tuple[Evidence, ...],
    subject: Subject,
) -> Found:
    device = (probe.sizes.device if probe.sizes else "") or (probe.route.device if probe.route else "")
    hello = probe.hello
    # Pings may be filtered by size. What a real connection lost is lost; pings alone make it likely.
    by_tcp = hello is not None and hello.small_answered and not hello.padded_answered
    promised = (
        f"{device or 'this host'} sends up to {device_mtu} bytes" if device_mtu else "full segments do not arrive"
    )
    return ctx.problem(
        check,
        f"large packets to {probe.given} vanish: {promised}, the path carries {largest or 'less'}, and nothing says so",
        breaks=(Need.JOIN, Need.TRAFFIC),
        subject=subject,
        evidence=evidence,
        cause=cause(
            "underlay.mtu-blackhole",
            host=ctx.host,
            object={
                "kind": "device",
                "name": device,
                "mtu_bytes": device_mtu or None,
                "largest_bytes": largest or None,
                "peer": probe.given,
            },
            confidence=Confidence.PROVEN if by_tcp else Confidence.LIKELY,
            evidence=evidence,
            affects=("swarm join", "overlay data"),
            remedy=_lower(ctx, device, largest, device_mtu),
        ),
    )


def _only_this_side(
    ctx: Context,
    check: str,
    probe: ManagerProbe,
    sizes: PathSizes,
    evidence: tuple[Evidence, ...],
    subject: Subject,
) -> Found:
    # TCP agreed on smaller segments, so joining works; what does not agree on sizes (UDP, VXLAN) is lost.
    largest = sizes.largest_answered_bytes or 0
    breaks = (Need.TRAFFIC,) if largest < OVERLAY_OUTER_BYTES else ()
    return ctx.problem(
        check,
        f"{sizes.device} sends up to {sizes.device_mtu_bytes} bytes, but only {largest} reach {probe.given}; TCP is not"
        " affected, because it agreed on smaller segments",
        breaks=breaks,
        subject=subject,
        evidence=evidence,
        cause=_mtu_cause(ctx, probe, sizes, largest, evidence),
    )


def _too_small(
    ctx: Context, check: str, probe: ManagerProbe, sizes: PathSizes, largest: int, seen: Evidence, subject: Subject
) -> Found:
    inner = largest - 50
    create = ["docker", "network", "create", "-d", "overlay", "--opt"]
    return ctx.problem(
        check,
        f"the path to {probe.given} carries {largest} bytes, and an overlay with the default MTU needs {OVERLAY_OUTER_BYTES}",
        breaks=(Need.TRAFFIC,),
        subject=subject,
        evidence=[seen],
        cause=cause(
            "overlay.mtu",
            host=ctx.host,
            object={
                "kind": "network",
                "device": sizes.device,
                "path_mtu_bytes": largest,
                "needed_bytes": OVERLAY_OUTER_BYTES,
                "peer": probe.given,
            },
            confidence=Confidence.LIKELY,
            evidence=(seen,),
            affects=("overlay data",),
            remedy=(
                Remedy(
                    host="a manager",
                    summary=f"make networks whose packets fit: {inner} bytes inside (ingress and docker_gwbridge too)",
                    commands=(shell_text([*create, f"com.docker.network.driver.mtu={largest}", "NAME"]),),
                    undo=("docker network rm NAME",),
                ),
            ),
        ),
    )


def _mtu_cause(
    ctx: Context, probe: ManagerProbe, sizes: PathSizes, largest: int, evidence: tuple[Evidence, ...]
) -> Cause:
    return cause(
        "underlay.mtu",
        host=ctx.host,
        object={
            "kind": "device",
            "name": sizes.device,
            "mtu_bytes": sizes.device_mtu_bytes,
            "largest_bytes": largest,
            "peer": probe.given,
        },
        confidence=Confidence.LIKELY,
        evidence=evidence,
        remedy=_lower(ctx, sizes.device, largest, sizes.device_mtu_bytes),
    )


def _from_hello(ctx: Context, check: str, probe: ManagerProbe, hello: HelloProbe, subject: Subject) -> Found:
    evidence = _hello_seen(hello)
    device_mtu = probe.sizes.device_mtu_bytes if probe.sizes else (probe.route.mtu_bytes or 0 if probe.route else 0)
    if not hello.padded_answered:
        # Which size passes is not known: the remedy would need it.
        return _black_hole(ctx, check, probe, 0, device_mtu, evidence, subject)
    if _tcp_bytes(probe) >= OVERLAY_OUTER_BYTES - _OPTIONS_BYTES:
        return ctx.ok(
            check,
            f"full segments of {hello.largest_segment_bytes} bytes pass to {probe.given} (it does not answer ping)",
            subject=subject,
            evidence=evidence,
        )
    return ctx.unknown(
        check,
        f"TCP to {probe.given} agreed on segments of {hello.largest_segment_bytes} bytes; whether larger packets pass",
        "it does not answer ping, and TCP does not send larger ones",
        leaves=(Need.TRAFFIC,),
        subject=subject,
        evidence=evidence,
    )


CHECKS = (
    Check(
        id="underlay.mtu",
        title="Packets of every size pass",
        explains=(
            "Pings of several sizes with DF are sent, the smallest as a control. A size that the device may send, that is"
            " lost, and of which no router says so, is a black hole: a join connects, hangs, and times out after 20 s with"
            " the node shown Ready. Where ping is filtered, a TLS hello padded to full segments asks the same. Overlays"
            " send packets of up to 1500 bytes whatever the device's MTU is."
        ),
        remedy="Lower the device's MTU to what the path carries, or raise the path; make overlays with a smaller MTU.",
        evaluate=_path,
    ),
)
