"""A swarm that this host has joined: this node's membership, the other nodes, the managers."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.commands import rename
from netdiag.checks.context import Check, Context, behind_nat, host_of, same_address
from netdiag.model.engine import Cluster, SwarmMembership, SwarmNode, SwarmState
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.shell import shell_text
from netdiag.swarm.engine_rules import ConflictKind, conflicts
from netdiag.swarm.quorum import QuorumRisk, quorum_of


def cluster_of(ctx: Context) -> Cluster | None:
    """What this engine knows of the whole swarm; None on a worker."""
    engine = ctx.facts.engine.value
    return engine.cluster if engine is not None else None


def _member(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.member"
    engine = ctx.facts.engine.value
    if engine is None:
        return
    swarm = engine.swarm
    if swarm.state is not SwarmState.ACTIVE:
        yield ctx.problem(
            check,
            f"this engine is no active member of a swarm (its state is {swarm.state.value})",
            breaks=(Need.JOIN, Need.NAMES, Need.TRAFFIC),
            next_steps=[
                Step(host=ctx.host, command="netdiag preflight swarm --manager ADDRESS", why="says why it did not join")
            ],
        )
        return
    role = "a manager" if swarm.is_manager else "a worker"
    yield ctx.ok(check, f"this engine is {role}, node {swarm.node_id} at {swarm.node_address}")
    local = ctx.local_addresses()
    if local and swarm.node_address and not any(same_address(swarm.node_address, one) for one in local):
        mapped = behind_nat(swarm.node_address)
        needs = (Need.NAMES, Need.TRAFFIC)
        yield ctx.problem(
            check,
            f"the swarm knows this node as {swarm.node_address}, which is no address of this host"
            + (": it works only where something maps it to this host, one to one" if mapped else ""),
            breaks=() if mapped else needs,
            leaves=needs if mapped else (),
            cause=cause(
                "swarm.advertise-address",
                host=ctx.host,
                object={"kind": "address", "address": swarm.node_address, "expected": ", ".join(ctx.own_addresses())},
                confidence=Confidence.POSSIBLE if mapped else Confidence.PROVEN,
                explanation="The address is fixed when a node joins; it changed since (DHCP, a new NIC), or was wrong from the start.",
                remedy=(_join_anew(ctx, swarm),),
            ),
        )


def _join_anew(ctx: Context, swarm: SwarmMembership) -> Remedy:
    if swarm.is_manager and swarm.managers == 1:
        summary = "the only manager keeps its swarm when it makes it anew from its own state"
        commands: tuple[str, ...] = ("docker swarm init --force-new-cluster --advertise-addr ADDRESS",)
    else:
        summary = "leave, and join again with the right address"
        first = (shell_text(["docker", "node", "demote", swarm.node_id]),) if swarm.is_manager else ()
        commands = (*first, "docker swarm leave", "docker swarm join --advertise-addr ADDRESS …")
    return Remedy(host=ctx.host, summary=summary, commands=commands, risk=Risk.DISRUPTIVE)


def _rows(ctx: Context, check: str) -> Cluster | Found:
    cluster = cluster_of(ctx)
    if cluster is not None:
        return cluster
    engine = ctx.facts.engine.value
    managers = engine.swarm.remote_managers if engine is not None else ()
    where = host_of(managers[0]) if managers else "a manager"
    return ctx.unknown(
        check,
        "the swarm's nodes, services and tasks",
        "this node is no manager, and only managers have those lists",
        next_steps=[Step(host=where, command="netdiag verify swarm", why="a manager sees nodes, services and tasks")],
    )


def _nodes(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.nodes"
    cluster = _rows(ctx, check)
    if isinstance(cluster, Found):
        engine = ctx.facts.engine.value
        if engine is not None and engine.swarm.state is SwarmState.ACTIVE:
            yield cluster
        return
    live = [node for node in cluster.nodes if node.state == "ready"]
    stale: list[SwarmNode] = []
    for node in cluster.nodes:
        if node.state == "ready":
            continue
        twin = next(
            (one for one in live if one.hostname == node.hostname and node.hostname and _same_place(one, node)), None
        )
        if twin is not None:
            stale.append(node)
            yield _stale(ctx, check, node, twin)
        else:
            yield ctx.problem(
                check,
                f"node {node.hostname or node.id} is {node.state}" + (f": {node.message}" if node.message else ""),
                # Containers on the other nodes go on talking.
                subject=Subject(host=node.hostname or node.id),
                next_steps=[
                    Step(
                        host=node.address or node.hostname,
                        command="netdiag verify swarm",
                        why="says what that node sees",
                    )
                ],
            )
    if live:
        yield ctx.ok(check, f"{len(live)} of {len(cluster.nodes) - len(stale)} nodes are Ready")


def address_of(node: SwarmNode) -> str:
    """A node's address; the one of its manager's status where the list shows none (the leader itself, 0.0.0.0)."""
    if node.address and node.address not in ("0.0.0.0", "127.0.0.1", "::"):  # noqa: S104 - read from the list, not bound
        return node.address
    return host_of(node.manager_address) if node.manager_address else ""


def _same_place(live: SwarmNode, dead: SwarmNode) -> bool:
    return not address_of(dead) or same_address(address_of(dead), address_of(live))


def _stale(ctx: Context, check: str, node: SwarmNode, twin: SwarmNode) -> Found:
    seen = Evidence(
        "engine",
        f"{node.id} {node.hostname} {node.state}; {twin.id} {twin.hostname} ready at {twin.address}",
        {"dead": node.id, "live": twin.id},
    )
    # A record without an address is told by its name alone, and two machines may have one name.
    sure = bool(address_of(node))
    return ctx.problem(
        check,
        f"the record {node.id} {'is' if sure else 'may be'} what is left of {twin.hostname} from before it joined again",
        subject=Subject(host=twin.hostname),
        evidence=[seen],
        cause=cause(
            "swarm.stale-node",
            host=ctx.host,
            object={"kind": "node", "name": node.hostname, "id": node.id, "state": node.state, "live_id": twin.id},
            confidence=Confidence.PROVEN if sure else Confidence.POSSIBLE,
            evidence=(seen,),
            remedy=(
                Remedy(
                    host=ctx.host,
                    summary="remove the dead record"
                    if sure
                    else "remove the record, if no other machine of that name is only switched off",
                    commands=((shell_text(["docker", "node", "demote", node.id]),) if node.role == "manager" else ())
                    + (shell_text(["docker", "node", "rm", node.id]),),
                    risk=Risk.LOW,
                ),
            ),
        ),
    )


def _names(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.names"
    cluster = cluster_of(ctx)
    if cluster is None:
        return
    by_name: dict[str, list[SwarmNode]] = {}
    for node in cluster.nodes:
        if node.state == "ready":
            by_name.setdefault(node.hostname, []).append(node)
    twins = {name: nodes for name, nodes in by_name.items() if len(nodes) > 1}
    for name, nodes in twins.items():
        where = ", ".join(node.address or node.id for node in nodes)
        # The new name shows after a restart of the engine, which costs a quorum on a manager.
        renamed = next((node for node in reversed(nodes) if node.role != "manager"), nodes[-1])
        yield ctx.problem(
            check,
            f"{len(nodes)} live nodes are called {name} ({where})",
            cause=cause(
                "host.name-duplicate",
                host=f"{name} ({renamed.address})" if renamed.address else name,
                object={"kind": "host", "name": name, "others": [node.address for node in nodes]},
                confidence=Confidence.PROVEN,
                remedy=(
                    Remedy(
                        host=renamed.address or name,
                        summary="give one of them another name; the engine shows it after its restart",
                        commands=(rename(f"{name.partition('.')[0]}-2"), "systemctl restart docker"),
                        undo=(rename(name), "systemctl restart docker"),
                        risk=Risk.DISRUPTIVE,
                    ),
                ),
            ),
        )
    if not twins:
        yield ctx.ok(check, "every live node has a name of its own")


def _managers(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.quorum"
    cluster = cluster_of(ctx)
    if cluster is None:
        return
    managers = [node for node in cluster.nodes if node.role == "manager"]
    reachable = [node for node in managers if node.reachability == "reachable"]
    if not managers:
        return
    quorum = quorum_of(managers=len(managers), reachable=len(reachable))
    text = f"{len(reachable)} of {len(managers)} managers answer, {quorum.needed} are needed"
    if quorum.risk is QuorumRisk.LOST:
        yield ctx.problem(
            check,
            text,
            breaks=(Need.JOIN,),
            cause=cause(
                "swarm.quorum",
                host=ctx.host,
                object={
                    "kind": "managers",
                    "reachable": len(reachable),
                    "needed": quorum.needed,
                    "total": len(managers),
                },
                confidence=Confidence.PROVEN,
            ),
        )
    elif quorum.risk in (QuorumRisk.TWO_MANAGERS, QuorumRisk.AT_LIMIT):
        yield ctx.problem(
            check,
            f"{text}: the loss of one more stops the swarm",
            cause=cause(
                "swarm.quorum-risk",
                host=ctx.host,
                object={
                    "kind": "managers",
                    "reachable": len(reachable),
                    "needed": quorum.needed,
                    "total": len(managers),
                },
                confidence=Confidence.PROVEN,
            ),
        )
    else:
        yield ctx.ok(check, text)


def _versions(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.versions"
    engine, cluster = ctx.facts.engine.value, cluster_of(ctx)
    if engine is None or cluster is None:
        return
    versions = {
        f"{node.hostname} ({node.id[:8]})": node.engine_version for node in cluster.nodes if node.state == "ready"
    }
    encrypted = any(network.encrypted for network in engine.networks)
    found = conflicts(versions, encrypted=encrypted)
    for one in found:
        groups = "; ".join(f"{name}: {', '.join(nodes)}" for name, nodes in one.groups.items())
        yield ctx.problem(
            check,
            f"{one.what} ({groups})",
            breaks=(Need.TRAFFIC,) if one.kind is ConflictKind.SPI_MISMATCH else (),
            evidence=[
                Evidence(
                    "engine", ", ".join(one.refs), {"groups": {name: list(nodes) for name, nodes in one.groups.items()}}
                )
            ],
            cause=cause(
                "swarm.engine-version",
                host=None,
                object={"kind": "engine", "conflict": one.kind.value, "versions": versions},
                confidence=Confidence.LIKELY if one.kind is ConflictKind.SPI_MISMATCH else Confidence.POSSIBLE,
                explanation=f"{one.what}; {one.advice}.",
            ),
        )
    if not found:
        yield ctx.ok(check, "the engines' versions go together")


CHECKS = (
    Check(
        id="swarm.verify.member",
        title="This engine is an active member",
        explains="Being a member is what docker info says; that the swarm's address for this node exists here is looked up.",
        remedy="Run the preflight; it says why the join did not end.",
        evaluate=_member,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.nodes",
        title="Nodes are Ready, and none is a leftover",
        explains=(
            "A node that left and joined again leaves a dead record with its name. Ready proves tcp/2377 only, neither"
            " names nor traffic."
        ),
        remedy="docker node rm the dead record; look at a node that is down from its own side.",
        evaluate=_nodes,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.names",
        title="Live nodes have different names",
        explains="'docker node' commands by name are ambiguous when two nodes share it.",
        remedy="hostnamectl set-hostname on one of them.",
        evaluate=_names,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.quorum",
        title="The managers have a quorum",
        explains="More than half of the managers must answer, or nothing can be changed and no node can join.",
        remedy="Bring a manager back; keep an odd number of them.",
        evaluate=_managers,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.versions",
        title="Engine versions go together",
        explains="Some versions compute IPsec indexes differently; different major versions are not tested together.",
        remedy="Complete the upgrade.",
        evaluate=_versions,
        needs=("engine",),
    ),
)
