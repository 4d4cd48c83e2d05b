"""Two hosts' networks side by side: the MTU of the way between, VXLAN numbers and ports, ranges that overlap."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.commands import set_mtu
from netdiag.checks.context import Check, Context
from netdiag.checks.pair_ends import End, pair_of
from netdiag.checks.pools import host_prefixes, pools_of_engine, pools_of_swarm
from netdiag.model.facts import HOST
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Subject
from netdiag.swarm.pools import PoolKind, Severity, overlaps

_DEFAULT_OVERLAY_OUTER_BYTES = 1500
"""What an overlay with the default MTU sends, outside; a network's own MTU counts the same way."""


def _mtu(ctx: Context) -> Iterator[Found]:
    check = "pair.mtu"
    pair = pair_of(ctx)
    if pair is None:
        return
    links = [(end, link) for end in (pair.mine, pair.theirs) if (link := end.link()) is not None and link.mtu_bytes]
    subject = Subject(host=pair.mine.host, peer=pair.theirs.host)
    if len(links) < 2:
        yield ctx.unknown(
            check,
            "whether the two hosts send packets of one size",
            "the device that leads to the other is not known for both",
            subject=subject,
        )
        return
    (small, small_link), (large, large_link) = sorted(links, key=lambda one: one[1].mtu_bytes)
    if small_link.mtu_bytes == large_link.mtu_bytes:
        yield ctx.ok(check, f"both send packets of up to {small_link.mtu_bytes} bytes to each other", subject=subject)
        return
    needed = _needed_bytes(ctx)
    lost = small_link.mtu_bytes < needed
    seen = Evidence(
        "device",
        f"{large_link.name} of {large.host}: {large_link.mtu_bytes} bytes; {small_link.name} of {small.host}:"
        f" {small_link.mtu_bytes} bytes",
        {"large_bytes": large_link.mtu_bytes, "small_bytes": small_link.mtu_bytes},
    )
    # With a router between, it may say so of what is too large; on one network nobody does.
    certain = lost and pair.mine.shared
    yield large.ctx.problem(
        check,
        f"{large.host} sends packets of up to {large_link.mtu_bytes} bytes, and {small.host} takes {small_link.mtu_bytes}:"
        + (
            f" what an overlay sends there ({needed} bytes) is lost"
            if lost
            else " TCP agrees on the smaller size; larger UDP packets are lost"
        ),
        breaks=(Need.TRAFFIC,) if certain else (),
        leaves=(Need.TRAFFIC,) if lost and not certain else (),
        subject=Subject(host=large.host, peer=small.host, device=large_link.name),
        evidence=[seen],
        cause=cause(
            "underlay.mtu",
            host=large.host,
            object={
                "kind": "device",
                "name": large_link.name,
                "mtu_bytes": large_link.mtu_bytes,
                "largest_bytes": small_link.mtu_bytes,
                "peer": small.host,
            },
            confidence=Confidence.LIKELY if certain else Confidence.POSSIBLE,
            evidence=(seen,),
            affects=("overlay data",),
            remedy=(
                Remedy(
                    host=large.host,
                    summary=f"send no more than {small.host} takes (or raise {small_link.name} there, if the network carries it)",
                    commands=(set_mtu(large_link.name, small_link.mtu_bytes),),
                    undo=(set_mtu(large_link.name, large_link.mtu_bytes),),
                ),
            ),
        )
        if lost
        else None,
    )


def _needed_bytes(ctx: Context) -> int:
    """The largest packet that the overlay networks of the two send, outside."""
    found = [
        network.mtu_bytes or _DEFAULT_OVERLAY_OUTER_BYTES
        for one in _both(ctx)
        if one.facts.engine.value is not None
        for network in one.facts.engine.value.networks
        if network.driver == "overlay"
    ]
    return max(found, default=_DEFAULT_OVERLAY_OUTER_BYTES)


def _both(ctx: Context) -> tuple[Context, ...]:
    return (ctx, ctx.peer.context) if ctx.peer is not None else (ctx,)


# --- VXLAN -----------------------------------------------------------------------------------------------------------


def _vxlan(ctx: Context) -> Iterator[Found]:
    check = "pair.vxlan"
    pair = pair_of(ctx)
    if pair is None:
        return
    subject = Subject(host=pair.mine.host, peer=pair.theirs.host)
    clean = True
    ports = {end.host: port for end in (pair.mine, pair.theirs) if (port := _known_port(end.ctx)) is not None}
    if len(set(ports.values())) > 1:
        clean = False
        seen = Evidence("device", "; ".join(f"{host}: udp/{port}" for host, port in ports.items()), {"ports": ports})
        yield ctx.problem(
            check,
            f"the two use different ports for overlay traffic: {seen.text}",
            breaks=(Need.TRAFFIC,),
            subject=subject,
            evidence=[seen],
            cause=cause(
                "overlay.port-mismatch",
                host=pair.theirs.host,
                object={
                    "kind": "setting",
                    "program": "docker",
                    "key": "data-path-port",
                    "value": ports[pair.theirs.host],
                    "expected": ports[pair.mine.host],
                },
                confidence=Confidence.LIKELY,
                evidence=(seen,),
            ),
        )
    for end, other in pair.ways():
        for found in _foreign_devices(check, end, other):
            clean = False
            yield found
    for found in _numbers_differ(ctx, check, subject):
        clean = False
        yield found
    if clean:
        known = f"udp/{next(iter(ports.values()))}" if ports else "a port that neither record shows"
        yield ctx.ok(check, f"VXLAN numbers and ports of the two go together ({known})", subject=subject)


def _known_port(ctx: Context) -> int | None:
    """The data path port where the host really shows it: in its swarm's settings, or at an overlay's device."""
    engine = ctx.facts.engine.value
    if engine is not None and engine.swarm.data_path_port:
        return engine.swarm.data_path_port
    for namespace, links in (ctx.facts.links.value or {}).items():
        for link in links:
            if namespace.startswith("overlay:") and link.vxlan is not None and link.vxlan.port:
                return link.vxlan.port
    return None


def _vnis(ctx: Context) -> dict[int, str]:
    engine = ctx.facts.engine.value
    networks = engine.networks if engine is not None else ()
    return {vni: network.name for network in networks if network.driver == "overlay" for vni in network.vnis}


def _foreign_devices(check: str, end: End, other: End) -> Iterator[Found]:
    """Devices of one host that will be in the way of a network that only the other knows of."""
    mine, theirs = _vnis(end.ctx), _vnis(other.ctx)
    port = _known_port(other.ctx)
    for link in (end.ctx.facts.links.value or {}).get(HOST, ()):
        if link.vxlan is None or link.vxlan.vni not in theirs or link.vxlan.vni in mine or link.vxlan.port != port:
            continue
        name = theirs[link.vxlan.vni]
        seen = Evidence("device", f"{link.name} of {end.host}: vxlan id {link.vxlan.vni} dstport {port}", {})
        yield end.ctx.problem(
            check,
            f"{link.name} of {end.host} has the VNI {link.vxlan.vni} on udp/{port}, which is that of the network {name}:"
            " it cannot be made there",
            breaks=(Need.TRAFFIC,),
            subject=Subject(host=end.host, peer=other.host, device=link.name, network=name),
            evidence=[seen],
            cause=cause(
                "calico.swarm-vxlan" if link.name == "vxlan.calico" else "overlay.vni-conflict",
                host=end.host,
                object={
                    "kind": "device",
                    "name": link.name,
                    "namespace": HOST,
                    "vni": link.vxlan.vni,
                    "port": port,
                },
                confidence=Confidence.LIKELY,
                evidence=(seen,),
            ),
        )


def _numbers_differ(ctx: Context, check: str, subject: Subject) -> Iterator[Found]:
    """Networks that both know, with other numbers on each."""
    assert ctx.peer is not None  # noqa: S101 - a pair
    engine, other = ctx.facts.engine.value, ctx.peer.context.facts.engine.value
    theirs = {network.id: network for network in other.networks} if other is not None else {}
    for network in engine.networks if engine is not None else ():
        twin = theirs.get(network.id)
        if twin is None or network.driver != "overlay" or not (network.vnis and twin.vnis):
            continue
        if set(network.vnis) != set(twin.vnis):
            text = f"{network.name}: VNI {network.vnis[0]} on {subject.host}, {twin.vnis[0]} on {subject.peer}"
            seen = Evidence("engine", text, {"network": network.id})
            yield ctx.problem(
                check,
                f"the two know one network by different numbers ({text})",
                breaks=(Need.TRAFFIC,),
                subject=subject,
                evidence=[seen],
                cause=cause(
                    "overlay.vni-conflict",
                    host=subject.peer,
                    object={"kind": "network", "name": network.name, "id": network.id, "vni": twin.vnis[0]},
                    confidence=Confidence.LIKELY,
                    evidence=(seen,),
                ),
            )


# --- ranges ----------------------------------------------------------------------------------------------------------


def _pools(ctx: Context) -> Iterator[Found]:
    check = "pair.pools"
    pair = pair_of(ctx)
    if pair is None:
        return
    judged = False
    for manager, end in pair.ways():
        engine = manager.ctx.facts.engine.value
        if engine is None or not engine.swarm.is_manager or end.ctx.facts.routes.value is None:
            continue
        judged = True
        subject = Subject(host=end.host, peer=manager.host)
        networks = [pool for pool in pools_of_engine(engine) if pool.kind is PoolKind.OVERLAY]
        pools, _ = pools_of_swarm(manager.ctx, engine)
        found = list(overlaps((*networks, *pools), host_prefixes(end.ctx)))
        serious = {(one.pool.label, str(one.other.prefix)): one for one in found if one.severity is Severity.NOW}
        for one in serious.values():
            text = f"{one.other.label} of {end.host}; {one.pool.label} of the swarm of {manager.host}"
            seen = Evidence("route", text, {"shared": str(one.shared)})
            yield end.ctx.problem(
                check,
                f"{one.pool.label} of the swarm and {one.other.label} of {end.host} claim the same addresses ({one.shared})",
                breaks=(Need.TRAFFIC,),
                subject=subject,
                evidence=[seen],
                cause=cause(
                    "swarm.address-pool",
                    host=end.host,
                    object={
                        "kind": "subnet",
                        "subnet": str(one.pool.prefix),
                        "other": str(one.other.prefix),
                        "owner": one.pool.label,
                    },
                    confidence=Confidence.LIKELY,
                    explanation=f"{one.lost[:1].upper()}{one.lost[1:]}.",
                    evidence=(seen,),
                    remedy=(
                        Remedy(
                            host=manager.host,
                            summary="make the network anew with a range that no host uses",
                            commands=("docker network create -d overlay --subnet 172.30.0.0/24 NAME",),
                            undo=("docker network rm NAME",),
                            risk=Risk.DISRUPTIVE,
                        ),
                    ),
                ),
            )
        if not serious:
            later = ", ".join(list(dict.fromkeys(one.other.label for one in found))[:3])
            note = f"; {later} lie in its pool, and nothing is cut from there yet" if later else ""
            yield end.ctx.ok(
                check,
                f"no route of {end.host} overlaps a network of the swarm of {manager.host}{note}",
                subject=subject,
            )
    if not judged:
        yield ctx.skip(
            check,
            "the swarm's ranges against the other's routes",
            "neither host is a manager whose networks and a host whose routes are known",
            subject=Subject(host=pair.mine.host, peer=pair.theirs.host),
        )


CHECKS = (
    Check(
        id="pair.mtu",
        title="The two hosts send packets that the other takes",
        explains=(
            "The MTU of the devices by which the two reach each other. TCP agrees on the smaller one; an overlay does not,"
            " and sends up to 1500 bytes unless its networks were made smaller. What the way between carries, no record"
            " tells."
        ),
        remedy="Give both devices the MTU that the network between carries, or make overlays with a smaller one.",
        evaluate=_mtu,
        needs=("links",),
    ),
    Check(
        id="pair.vxlan",
        title="VXLAN numbers and ports of the two go together",
        explains=(
            "The data path port is the swarm's: two hosts with different ones exchange nothing. A device of another"
            " program with the number of one of the swarm's networks keeps that network from being made on its host."
        ),
        remedy="Give the foreign device another number or port; put both hosts into one swarm.",
        evaluate=_vxlan,
        needs=("links",),
    ),
    Check(
        id="pair.pools",
        title="The swarm's networks do not overlap the other host's routes",
        explains="Only a manager knows the swarm's networks, and only the other host its own routes: the two are compared.",
        remedy="Make the network anew with another range.",
        evaluate=_pools,
        needs=("routes",),
    ),
)
