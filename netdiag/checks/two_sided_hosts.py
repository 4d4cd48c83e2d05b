"""What only both sides together show of the hosts: sizes, addresses, clocks, versions, names, routes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdiag.causes import cause
from netdiag.checks.commands import rename
from netdiag.checks.context import Check, Context
from netdiag.checks.pools import host_prefixes, pools_of_engine
from netdiag.checks.two_sided import label_of, names_of, nodes_known, peers
from netdiag.checks.two_sided_addresses import CHECK as ADDRESSES
from netdiag.checks.two_sided_examined import CHECK as EXAMINED
from netdiag.checks.two_sided_sizes import CHECK as SIZES
from netdiag.model.engine import Engine
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Subject
from netdiag.model.two_sided import PeerView
from netdiag.swarm.engine_rules import ConflictKind, conflicts
from netdiag.swarm.pools import Overlap, PoolKind, Severity, overlaps, swarm_pools

CLOCK_WARN_S = 2.0
CLOCK_FAIL_S = 3600.0
"""A node's certificate is dated one hour back (swarmkit ``ca.CertBackdate``): a clock further behind refuses it."""


# --- clocks ----------------------------------------------------------------------------------------------------------


def _clocks(ctx: Context) -> Iterator[Found]:
    check = "two-sides.clock"
    near: list[tuple[str, float, float]] = []
    for view in peers(ctx):
        clock, label = view.clock, label_of(ctx, view)
        if clock is None:
            yield ctx.unknown(check, f"how {label}'s clock differs from this one's", "it was not told")
            continue
        sure_s = abs(clock.offset_s) - clock.error_s
        if sure_s < CLOCK_WARN_S:
            near.append((label, clock.offset_s, clock.error_s))
            continue
        ahead = "ahead of" if clock.offset_s > 0 else "behind"
        text = f"{label}'s clock is {abs(clock.offset_s):.1f} s {ahead} this host's (± {clock.error_s:.3f} s)"
        evidence = (
            Evidence(
                "clock",
                f"{text}, from {clock.round_trips} round trips",
                {"offset_s": clock.offset_s, "error_s": clock.error_s},
            ),
        )
        refused = sure_s > CLOCK_FAIL_S and view.is_manager and clock.offset_s > 0
        host = _unsynchronised(ctx, view)
        yield ctx.problem(
            check,
            text,
            breaks=(Need.JOIN,) if refused else (),
            subject=Subject(host=ctx.host, peer=label),
            evidence=evidence,
            cause=cause(
                "host.clock",
                host=host,
                object={
                    "kind": "clock",
                    "peer": label,
                    "offset_s": round(clock.offset_s, 3),
                    "error_s": round(clock.error_s, 3),
                },
                confidence=Confidence.PROVEN,
                evidence=evidence,
                affects=("swarm join",) if refused else ("swarm control",),
                remedy=(
                    Remedy(
                        host=host,
                        summary="start time synchronisation there: the kernel says that it has none",
                        commands=("timedatectl set-ntp true",),
                        undo=("timedatectl set-ntp false",),
                    ),
                )
                if host is not None
                else (),
            ),
        )
    if near:
        most = max(near, key=lambda one: abs(one[1]))
        yield ctx.ok(
            check,
            f"the clocks of {names_of(one[0] for one in near)} agree with this one's: {abs(most[1]) * 1000:.0f} ms at most (± {most[2] * 1000:.0f} ms)",
        )


def _unsynchronised(ctx: Context, view: PeerView) -> str | None:
    """Which of the two says itself that nothing sets its clock, where only one does."""
    own, there = ctx.facts.clock.value, view.facts.clock.value if view.facts is not None else None
    states = (own.synchronised if own is not None else None, there.synchronised if there is not None else None)
    return {(False, True): ctx.host, (True, False): label_of(ctx, view)}.get(states)  # type: ignore[arg-type]


# --- engines, names, pools -------------------------------------------------------------------------------------------


def _engines(ctx: Context) -> Iterator[tuple[str, Engine]]:
    if ctx.facts.engine.value is not None:
        yield ctx.host, ctx.facts.engine.value
    for view in peers(ctx):
        if view.facts is not None and view.facts.engine.value is not None:
            yield label_of(ctx, view), view.facts.engine.value


def _versions(ctx: Context) -> Iterator[Found]:
    check = "two-sides.engine"
    if not peers(ctx):
        return
    engines = dict(_engines(ctx))
    versions = {label: engine.version for label, engine in engines.items()}
    encrypted = any(network.encrypted for engine in engines.values() for network in engine.networks)
    found = conflicts(versions, encrypted=encrypted)
    for one in found:
        groups = "; ".join(f"{name}: {names_of(nodes)}" for name, nodes in one.groups.items())
        lost = one.kind is ConflictKind.SPI_MISMATCH
        yield ctx.problem(
            check,
            f"{one.what} ({groups})",
            breaks=(Need.TRAFFIC,) if lost else (),
            evidence=[Evidence("engine", ", ".join(one.refs), {"versions": versions})],
            cause=cause(
                "swarm.engine-version",
                host=None,
                object={"kind": "engine", "conflict": one.kind.value, "versions": versions},
                confidence=Confidence.LIKELY if lost else Confidence.POSSIBLE,
                explanation=f"{one.what}; {one.advice}.",
            ),
        )
    absent = [label_of(ctx, view) for view in peers(ctx) if view.facts is None or view.facts.engine.value is None]
    if absent:
        yield ctx.unknown(check, f"which engine runs on {names_of(absent)}", "its engine could not be asked")
    if not found and len(versions) > 1:
        said = ", ".join(dict.fromkeys(versions.values()))
        yield ctx.ok(check, f"the engines here and at the peers go together ({said})")


def _names(ctx: Context) -> Iterator[Found]:
    check = "two-sides.name"
    own = ctx.facts.identity.value
    hosts: dict[str, list[tuple[str, str]]] = {}
    if own is not None and own.hostname:
        hosts.setdefault(own.hostname, []).append((ctx.host, ""))
    for view in peers(ctx):
        identity = view.facts.identity.value if view.facts is not None else None
        if identity is not None and identity.hostname:
            hosts.setdefault(identity.hostname, []).append((label_of(ctx, view), view.address))
    told = _told_of_nodes(ctx)
    twins = {name: found for name, found in hosts.items() if len(found) > 1 and name not in told}
    for name, found in twins.items():
        labels = [label for label, _ in found]
        evidence = (Evidence("host", f"hostname {name}: {names_of(labels)}", {"hosts": labels}),)
        yield ctx.problem(
            check,
            f"{len(found)} hosts are called {name}: {names_of(labels)}",
            evidence=evidence,
            cause=cause(
                "host.name-duplicate",
                host=labels[0],
                object={"kind": "host", "name": name, "others": [address for _, address in found[1:]]},
                confidence=Confidence.PROVEN,
                evidence=evidence,
                remedy=(
                    Remedy(
                        host=labels[0],
                        summary="give each host a name of its own before it joins (the engine shows it after its restart)",
                        commands=(rename(_new_name(ctx)), "systemctl restart docker"),
                        undo=(rename(name), "systemctl restart docker"),
                        risk=Risk.DISRUPTIVE,
                    ),
                ),
            ),
        )
    if not twins and not told and peers(ctx):
        yield ctx.ok(check, f"this host and its {len(peers(ctx))} peers have names of their own")


def _told_of_nodes(ctx: Context) -> set[str]:
    """Names that the list of the swarm's nodes shows to be no host's own: the checks of that list tell of them."""
    engine, own = ctx.facts.engine.value, ctx.facts.identity.value
    live = [node.hostname for node in engine.cluster.nodes] if engine is not None and engine.cluster is not None else []
    if not live and ctx.managers and own is not None:
        live = [own.hostname, *(node.hostname for node in nodes_known(ctx) if node.state == "ready")]
    return {name for name in live if live.count(name) > 1}


def _new_name(ctx: Context) -> str:
    first = peers(ctx)[0].own_address
    return "node-" + (first.replace(":", ".").rpartition(".")[2] or "1")


def _pools(ctx: Context) -> Iterator[Found]:
    check = "two-sides.pools"
    manager = next((engine for _, engine in _engines(ctx) if engine.swarm.is_manager), None)
    if not peers(ctx):
        return
    if manager is None:
        yield ctx.skip(
            check,
            "routes of the hosts against the swarm's pools",
            "only a manager has the pools, and none is among the hosts",
        )
        return
    claims = [pool for pool in pools_of_engine(manager) if pool.kind is PoolKind.OVERLAY]
    try:
        claims += swarm_pools(manager.swarm.default_address_pools, manager.swarm.subnet_size)
    except ValueError as error:
        yield ctx.unknown(check, "routes of the hosts against the swarm's pools", str(error))
        return
    hosts = [(ctx.host, ctx), *((label_of(ctx, view), _context(ctx, view)) for view in peers(ctx))]
    clean: list[str] = []
    collisions: dict[tuple[str, str], list[tuple[str, Overlap]]] = {}
    for label, host in hosts:
        if host is None or host.facts.routes.value is None:
            yield ctx.unknown(check, f"routes of {label} against the swarm's pools", "its routes could not be read")
            continue
        serious = [one for one in overlaps(claims, host_prefixes(host)) if one.severity is Severity.NOW]
        for one in serious:
            collisions.setdefault((one.pool.label, one.other.label), []).append((label, one))
        if not serious:
            clean.append(label)
    for (pool, other), found in collisions.items():
        yield _collision(ctx, check, pool, other, found)
    if clean:
        yield ctx.ok(check, f"no route of {names_of(clean)} collides with a network of the swarm")


def _context(ctx: Context, view: PeerView) -> Context | None:
    return Context(facts=view.facts, options=ctx.options) if view.facts is not None else None


def _collision(ctx: Context, check: str, pool: str, other: str, found: Sequence[tuple[str, Overlap]]) -> Found:
    labels = [label for label, _ in found]
    one = found[0][1]
    evidence = (
        Evidence("route", f"{names_of(labels)}: {other}; {pool}", {"shared": str(one.shared), "hosts": labels}),
    )
    return ctx.problem(
        check,
        f"{pool} and {other} of {names_of(labels)} claim the same addresses ({one.shared})",
        breaks=(Need.TRAFFIC,),
        evidence=evidence,
        cause=cause(
            "swarm.address-pool",
            host=labels[0],
            object={
                "kind": "subnet",
                "subnet": str(one.pool.prefix),
                "other": str(one.other.prefix),
                "owner": one.pool.label,
            },
            confidence=Confidence.LIKELY,
            explanation=f"{one.lost[:1].upper()}{one.lost[1:]}.",
            evidence=evidence,
        ),
    )


CHECKS = (
    EXAMINED,
    SIZES,
    ADDRESSES,
    Check(
        id="two-sides.clock",
        title="The clocks agree",
        explains=(
            "Time stamps are exchanged several times, and the quickest round trip bounds the error. Certificates are dated one"
            " hour back; a clock that is further behind refuses them."
        ),
        remedy="Start time synchronisation on the host whose clock is off.",
        evaluate=_clocks,
    ),
    Check(
        id="two-sides.engine",
        title="The engines go together",
        explains="Versions of this host's engine and of the peers' are compared, by what is known of engines in one swarm.",
        remedy="Bring the engines to one version, managers first.",
        evaluate=_versions,
    ),
    Check(
        id="two-sides.name",
        title="No two hosts have one name",
        explains="A swarm takes any number of nodes of one name; operators and scripts that go by name then hit the wrong one.",
        remedy="hostnamectl set-hostname NAME, and restart the engine.",
        evaluate=_names,
    ),
    Check(
        id="two-sides.pools",
        title="No host has a route into the swarm's networks",
        explains="Containers on a host never reach a real network whose addresses an overlay uses: every host's routes count.",
        remedy="Choose another pool at 'docker swarm init', or other subnets for the networks.",
        evaluate=_pools,
    ),
)
