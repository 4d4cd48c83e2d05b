"""Which address this node will be known by, and its name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.commands import rename
from netdiag.checks.context import Check, Context, behind_nat, host_of, same_address
from netdiag.checks.two_sided import nodes_known
from netdiag.model.facts import HOST, Address
from netdiag.model.found import Found
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.shell import shell_text

# Names that installers leave behind: two hosts that both kept one cannot be told apart in 'docker node ls'.
_DEFAULT_NAMES = frozenset({"localhost", "debian", "ubuntu", "centos", "fedora", "rocky", "raspberrypi", "vm", "host"})


def _advertised(ctx: Context, given: str) -> tuple[str, str]:
    """The address that ``--advertise-addr`` means (a device stands for its first address), and its device."""
    local, host = ctx.local_addresses(), host_of(given)
    named = [one.cidr.partition("/")[0] for one in _addresses_of(ctx, host) if one.scope == "global"]
    if named:
        # As the engine does it, IPv4 before IPv6.
        return min(named, key=lambda address: ":" in address), host
    for address, device in local.items():
        if same_address(address, host):
            return address, device
    return host, ""


def _addresses_of(ctx: Context, device: str) -> list[Address]:
    return [one for one in (ctx.facts.addresses.value or {}).get(HOST, ()) if one.device == device]


def _advertise(ctx: Context) -> Iterator[Found]:
    check = "swarm.address.advertise"
    for option, given in (
        ("--advertise-addr", ctx.options.advertise_address),
        ("--data-path-addr", ctx.options.data_path_address),
    ):
        if not given:
            continue
        address, device = _advertised(ctx, given)
        if not device:
            data_only = option == "--data-path-addr"
            # A manager is dialled back at it while it joins; a worker joins and is cut off afterwards.
            needs = (Need.TRAFFIC,) if data_only else (Need.NAMES, Need.TRAFFIC)
            if ctx.options.manager_role and not data_only:
                needs = (Need.JOIN, *needs)
            mapped = behind_nat(address)
            yield ctx.problem(
                check,
                f"{option} {given} is no address of this host"
                + (": it works only where something maps it to this host, one to one" if mapped else ""),
                breaks=() if mapped else needs,
                leaves=needs if mapped else (),
                cause=_wrong(
                    ctx,
                    option,
                    address,
                    "it is no address of this host, so what peers send to it does not arrive"
                    + (", unless something maps it to this host" if mapped else ""),
                    Confidence.POSSIBLE if mapped else Confidence.LIKELY,
                ),
            )
            continue
        if option == "--advertise-addr" and ctx.options.data_path_address:
            yield ctx.ok(check, f"{option} {given} is {address} on {device}; VXLAN uses --data-path-addr")
            continue
        differing = [
            probe
            for probe in ctx.managers
            if probe.route is not None and probe.route.source and not same_address(probe.route.source, address)
        ]
        if differing:
            chosen = differing[0].route
            assert chosen is not None  # noqa: S101 - filtered just above
            yield ctx.problem(
                check,
                f"{option} {given} is {address}, but packets to {differing[0].given} leave with {chosen.source}",
                breaks=(Need.TRAFFIC,),
                cause=_wrong(
                    ctx,
                    option,
                    address,
                    f"routing sends with {chosen.source} ({chosen.device}); peers drop VXLAN packets from an address other"
                    " than the one that they know this node by",
                ),
            )
        else:
            yield ctx.ok(check, f"{option} {given} is {address} on {device}, which routing uses too")


def _wrong(ctx: Context, option: str, address: str, why: str, confidence: Confidence = Confidence.LIKELY) -> Cause:
    better = next((probe.route.source for probe in ctx.managers if probe.route and probe.route.source), "")
    return cause(
        "swarm.advertise-address",
        host=ctx.host,
        object={"kind": "address", "option": option, "address": address, "expected": better},
        confidence=confidence,
        explanation=f"{option} {address}: {why}.",
        remedy=(
            Remedy(
                host=ctx.host,
                summary=f"join with {option} {better}"
                if better
                else f"join without {option}, or with an address of this host",
                commands=(f"{shell_text(['docker', 'swarm', 'join', option, better])} …",) if better else (),
                risk=Risk.NONE,
            ),
        ),
    )


def _source(ctx: Context) -> Iterator[Found]:
    check = "swarm.address.source"
    if ctx.options.initialise:
        yield from _for_init(ctx, check)
        return
    if ctx.options.advertise_address:
        # What the node will be known by was said, and is judged by its own check.
        return
    sources: dict[str, list[str]] = {}
    for probe in ctx.managers:
        if probe.route is not None and probe.route.source:
            sources.setdefault(probe.route.source, []).append(probe.given)
    if not sources:
        return
    if len(sources) == 1:
        ((source, _),) = sources.items()
        yield ctx.ok(
            check, f"this node will be known as {source}, the address that routing chooses toward the managers"
        )
        return
    chosen = "; ".join(f"{source} toward {', '.join(names)}" for source, names in sources.items())
    yield ctx.problem(
        check,
        f"routing chooses different addresses of this host: {chosen}",
        cause=cause(
            "swarm.advertise-address",
            host=ctx.host,
            object={"kind": "address", "candidates": sorted(sources)},
            confidence=Confidence.POSSIBLE,
            explanation="The node will be known by one of them only, and peers drop what comes from the other.",
        ),
    )


def _for_init(ctx: Context, check: str) -> Iterator[Found]:
    candidates = _candidates(ctx)
    if ctx.options.advertise_address or len(candidates) == 1:
        yield ctx.ok(check, f"the swarm will know this node as {ctx.options.advertise_address or candidates[0]}")
    elif not candidates:
        yield ctx.problem(
            check, "this host has no address that a swarm could advertise", breaks=(Need.JOIN, Need.NAMES, Need.TRAFFIC)
        )
    else:
        yield ctx.problem(
            check,
            f"this host has several addresses ({', '.join(candidates)}): 'docker swarm init' refuses to choose",
            breaks=(Need.JOIN,),
            cause=cause(
                "swarm.advertise-address",
                host=ctx.host,
                object={"kind": "address", "candidates": candidates},
                confidence=Confidence.LIKELY,
                remedy=(
                    Remedy(
                        host=ctx.host,
                        summary="name the address that the other nodes reach",
                        commands=(shell_text(["docker", "swarm", "init", "--advertise-addr", candidates[0]]),),
                        risk=Risk.NONE,
                    ),
                ),
            ),
        )


def _candidates(ctx: Context) -> list[str]:
    """The addresses between which ``swarm init`` chooses (moby ``daemon/cluster/listen_addr_linux.go``).

    Those of plain devices first, of the others only where no plain device has one; IPv4 before IPv6.
    """
    own = ctx.local_addresses()
    plain = {link.name for link in ctx.host_links() if not link.kind and not link.loopback and link.up}
    everything = list(ctx.own_addresses())
    chosen = [address for address in everything if own.get(address) in plain] or everything
    return [address for address in chosen if ":" not in address] or chosen


def _name(ctx: Context) -> Iterator[Found]:
    check = "host.name"
    identity, engine = ctx.facts.identity.value, ctx.facts.engine.value
    if identity is None:
        return
    name = identity.hostname
    rows = engine.cluster.nodes if engine is not None and engine.cluster is not None else ()
    twins = [
        node
        for node in rows
        if node.hostname == name and node.state == "ready" and engine is not None and node.id != engine.swarm.node_id
    ]
    if twins:
        yield ctx.problem(
            check,
            f"another live node of the swarm is called {name} too ({twins[0].address or twins[0].id})",
            cause=_same_name(ctx, name, twins[0].address, Confidence.PROVEN),
        )
    elif name.partition(".")[0].lower() in _DEFAULT_NAMES or not name:
        manager = ctx.managers[0].given if ctx.managers else ""
        yield ctx.problem(
            check,
            f"this host is called {name or '(nothing)'}, the name that an installer leaves: other nodes may have it too",
            evidence=[Evidence("host", f"hostname: {name}", {"hostname": name})],
            cause=_same_name(ctx, name, manager, Confidence.POSSIBLE),
        )
    else:
        yield ctx.ok(check, f"this host is called {name}")


def _same_name(ctx: Context, name: str, other: str, confidence: Confidence) -> Cause:
    source = next((probe.route.source for probe in ctx.managers if probe.route and probe.route.source), "")
    suffix = re.split(r"[.:]", source)[-1] or "1"
    return cause(
        "host.name-duplicate",
        host=ctx.host,
        object={"kind": "host", "name": name, "others": [other] if other else []},
        confidence=confidence,
        remedy=(
            Remedy(
                host=ctx.host,
                summary="give this host a name of its own before it joins (the engine shows the new one after its restart)",
                commands=(rename(f"node-{suffix}"), "systemctl restart docker"),
                undo=(rename(name), "systemctl restart docker"),
                risk=Risk.DISRUPTIVE,
            ),
        ),
    )


def _twins_of_swarm(ctx: Context) -> Iterator[Found]:
    check = "host.name.known"
    engine, identity = ctx.facts.engine.value, ctx.facts.identity.value
    if (
        ctx.options.initialise
        or not ctx.managers
        or identity is None
        or (engine is not None and engine.cluster is not None)
    ):
        return
    nodes = nodes_known(ctx)
    if nodes:
        twins = [node for node in nodes if node.state == "ready" and node.hostname == identity.hostname]
        twins = [node for node in twins if not any(same_address(node.address, own) for own in ctx.local_addresses())]
        if twins:
            other = twins[0].address or twins[0].id
            yield ctx.problem(
                check,
                f"a node of the swarm is called {identity.hostname} too ({other})",
                cause=_same_name(ctx, identity.hostname, twins[0].address, Confidence.PROVEN),
            )
        else:
            yield ctx.ok(check, f"none of the swarm's {len(nodes)} nodes is called {identity.hostname}")
        return
    yield ctx.unknown(
        check,
        f"whether a node of the swarm is called {identity.hostname} already",
        "only a manager has the list of nodes",
        subject=Subject(host=ctx.host),
        next_steps=[
            Step(
                host=ctx.managers[0].given,
                command="docker node ls --format '{{.Hostname}} {{.Status}}'",
                why=f"no live node should be called {identity.hostname}",
            )
        ],
    )


CHECKS = (
    Check(
        id="swarm.address.advertise",
        title="The advertised address works",
        explains=(
            "Peers send to the advertised address, and drop VXLAN packets that come from another one. The engine takes any"
            " address on joining, so a wrong one shows only later: the node is Ready and nothing reaches it."
        ),
        remedy="Join with the address of this host that routing uses toward the managers.",
        evaluate=_advertise,
        needs=("addresses",),
        leaves=(Need.NAMES, Need.TRAFFIC),
    ),
    Check(
        id="swarm.address.source",
        title="One address toward the swarm",
        explains="Without --advertise-addr a joining node is known by the source address that routing chooses toward the manager.",
        remedy="Give --advertise-addr where routing chooses differently for different nodes.",
        evaluate=_source,
    ),
    Check(
        id="host.name",
        title="This host has a name of its own",
        explains="A swarm takes any number of nodes of one name; operators and scripts that go by name then hit the wrong one.",
        remedy="hostnamectl set-hostname NAME, and restart the engine.",
        evaluate=_name,
        needs=("identity",),
    ),
    Check(
        id="host.name.known",
        title="No node of the swarm has this host's name",
        explains="Only a manager has the list of nodes, so before joining this stays open.",
        remedy="Compare with 'docker node ls' on a manager.",
        evaluate=_twins_of_swarm,
        needs=("identity",),
    ),
)
