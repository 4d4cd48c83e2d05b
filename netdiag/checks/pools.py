"""Address pools of the swarm and of Docker against what this host can reach."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.model.engine import Engine
from netdiag.model.facts import HOST, Route
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk
from netdiag.swarm.pools import (
    HostPrefix,
    Overlap,
    Pool,
    PoolKind,
    Severity,
    overlaps,
    pool_overlaps,
    swarm_pools,
)


def host_prefixes(ctx: Context) -> Iterator[HostPrefix]:
    """What the host's routes lead to, each range once."""
    seen: set[str] = set()
    for route in (ctx.facts.routes.value or {}).get(HOST, ()):
        if route.type not in ("unicast", "blackhole", "unreachable", "prohibit") or route.destination in seen:
            continue
        seen.add(route.destination)
        try:
            prefix = ipaddress.ip_network(route.destination, strict=False)
        except ValueError:
            continue
        yield HostPrefix(prefix=prefix, label=_label(route), owner=_device(route))


def _device(route: Route) -> str:
    return route.next_hops[0].device if route.next_hops else ""


def _label(route: Route) -> str:
    hop = route.next_hops[0] if route.next_hops else None
    if hop is None:
        return f"the route {route.destination} ({route.type})"
    via = f" via {hop.gateway}" if hop.gateway else ""
    return f"the route {route.destination}{via} dev {hop.device}"


def pools_of_engine(engine: Engine) -> Iterator[Pool]:
    """The ranges of the overlay and bridge networks that exist on an engine."""
    for network in engine.networks:
        kind = PoolKind.OVERLAY if network.driver == "overlay" else PoolKind.BRIDGE
        if network.driver not in ("overlay", "bridge"):
            continue
        for subnet in network.subnets:
            try:
                prefix = ipaddress.ip_network(subnet, strict=False)
            except ValueError:
                continue
            owner = network.bridge or (f"br-{network.id[:12]}" if kind is PoolKind.BRIDGE else network.name)
            yield Pool(kind=kind, prefix=prefix, label=f"{network.name} ({subnet})", owner=owner)


def _local_pools(engine: Engine) -> Iterator[Pool]:
    for text in engine.default_address_pools:
        try:
            prefix = ipaddress.ip_network(text.partition(" ")[0], strict=False)
        except ValueError:
            continue
        yield Pool(kind=PoolKind.LOCAL_POOL, prefix=prefix, label=f"default-address-pools {text}")


def pools_of_swarm(ctx: Context, engine: Engine | None) -> tuple[tuple[Pool, ...], bool]:
    """The swarm's pools, and whether they are known or only the default that is assumed."""
    if engine is not None and engine.swarm.is_manager:
        try:
            return swarm_pools(engine.swarm.default_address_pools, engine.swarm.subnet_size), True
        except ValueError:
            return (), True
    first = ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=24)
    assumed = tuple(
        Pool(kind=PoolKind.OVERLAY, prefix=prefix, label=f"{name} of a swarm with the default pool")
        for name, prefix in zip(("ingress", "the first overlay network"), first, strict=False)
    )
    return (*assumed, *swarm_pools(())), ctx.options.initialise


def _overlap(ctx: Context) -> Iterator[Found]:
    check = "swarm.pool.overlap"
    engine = ctx.facts.engine.value
    pools, known = pools_of_swarm(ctx, engine)
    existing = tuple(pools_of_engine(engine)) if engine is not None else ()
    local = tuple(_local_pools(engine)) if engine is not None else ()
    named = {pool.prefix for pool in existing}
    # An existing network's own subnet says more than the pool it was cut from.
    claims = (*existing, *(pool for pool in (*pools, *local) if pool.prefix not in named))
    # Where networks are known, bridges are compared with them; assumed ones are compared with routes, bridges' among them.
    bridges = {pool.owner for pool in existing if pool.kind is PoolKind.BRIDGE}
    found = [
        *pool_overlaps(existing),
        *(
            one
            for one in overlaps(claims, host_prefixes(ctx))
            if one.pool.kind is not PoolKind.LOCAL_POOL or one.other.owner not in bridges
        ),
    ]
    serious = [one for one in found if one.severity is Severity.NOW]
    told: set[tuple[str, str]] = set()
    for one in serious:
        key = (one.pool.label, str(one.other.prefix))
        if key in told:
            continue
        told.add(key)
        sure = one.pool in existing or known
        yield _collision(ctx, check, one, Confidence.LIKELY if sure else Confidence.POSSIBLE)
    if not serious:
        later = list(dict.fromkeys(one.other.label for one in found))
        note = f"; {', '.join(later[:3])} lie in a pool, and nothing is cut from there yet" if later else ""
        yield ctx.ok(check, f"no route of this host collides with what the swarm gives out{note}")


def _collision(ctx: Context, check: str, one: Overlap, confidence: Confidence) -> Found:
    seen = Evidence("route", f"{one.other.label}; {one.pool.label}", {"shared": str(one.shared)})
    overlay = one.pool.kind is PoolKind.OVERLAY
    return ctx.problem(
        check,
        f"{one.pool.label} and {one.other.label} of this host claim the same addresses ({one.shared})",
        # A pool that is only assumed (the manager's list is not seen from here) decides nothing by itself.
        breaks=(Need.TRAFFIC,) if overlay and confidence is not Confidence.POSSIBLE else (),
        leaves=(Need.TRAFFIC,) if overlay and confidence is Confidence.POSSIBLE else (),
        evidence=[seen],
        cause=cause(
            "swarm.address-pool",
            host=ctx.host,
            object={
                "kind": "subnet",
                "subnet": str(one.pool.prefix),
                "other": str(one.other.prefix),
                "owner": one.pool.label,
            },
            confidence=confidence,
            explanation=f"{one.lost[:1].upper()}{one.lost[1:]}.",
            evidence=(seen,),
            remedy=(
                Remedy(
                    host="a manager",
                    summary="the pool is chosen when a swarm is made: make it with one that no host uses",
                    commands=(
                        "docker swarm init --default-addr-pool 172.30.0.0/16 --default-addr-pool-mask-length 24",
                    ),
                    risk=Risk.DISRUPTIVE,
                ),
            )
            if one.pool.kind is PoolKind.OVERLAY
            else (),
        ),
    )


CHECKS = (
    Check(
        id="swarm.pool.overlap",
        title="Address pools do not collide with this host's routes",
        explains=(
            "Overlay networks are cut from the swarm's pool, 10.0.0.0/8 by default, from 10.0.0.0/24 upwards. Containers"
            " never reach a real network whose addresses an overlay uses. docker0, docker_gwbridge and the engine's"
            " default-address-pools are compared with the routes, too."
        ),
        remedy="Choose another pool at 'docker swarm init', or other subnets for the networks.",
        evaluate=_overlap,
        needs=("routes",),
        leaves=(Need.TRAFFIC,),
    ),
)
