"""A swarm that this host has joined: its nodes, peers, images and tasks."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.model.facts import HOST, Cluster, SwarmNode, SwarmState
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.swarm.engine_rules import ConflictKind, conflicts
from netdiag.swarm.quorum import QuorumRisk, quorum_of

SETTLING_S = 60.0
"""How long gossip may take to know a new node: it rejoins its first contact every 60 s (moby libnetwork networkdb)."""


def _cluster(ctx: Context) -> Cluster | None:
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
    local = {address.cidr.partition("/")[0] for address in (ctx.facts.addresses.value or {}).get(HOST, ())}
    if local and swarm.node_address and swarm.node_address not in local:
        yield ctx.problem(
            check,
            f"the swarm knows this node as {swarm.node_address}, which is no address of this host",
            breaks=(Need.NAMES, Need.TRAFFIC),
            cause=cause(
                "swarm.advertise-address",
                host=ctx.host,
                object={"kind": "address", "address": swarm.node_address, "expected": ", ".join(ctx.own_addresses())},
                confidence=Confidence.PROVEN,
                explanation="The address is fixed when a node joins; it changed since (DHCP, a new NIC), or was wrong from the start.",
                remedy=(
                    Remedy(
                        host=ctx.host,
                        summary="leave, and join again with the right address",
                        commands=("docker swarm leave", "docker swarm join --advertise-addr ADDRESS …"),
                        risk=Risk.DISRUPTIVE,
                    ),
                ),
            ),
        )


def _rows(ctx: Context, check: str) -> Cluster | Found:
    cluster = _cluster(ctx)
    if cluster is not None:
        return cluster
    engine = ctx.facts.engine.value
    managers = engine.swarm.remote_managers if engine is not None else ()
    where = managers[0].rpartition(":")[0] if managers else "a manager"
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
                breaks=(Need.TRAFFIC,),
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


def _same_place(live: SwarmNode, dead: SwarmNode) -> bool:
    # A record whose address is unknown (0.0.0.0 or empty) is told by its name alone.
    return not dead.address or dead.address.startswith("0.") or dead.address == live.address


def _stale(ctx: Context, check: str, node: SwarmNode, twin: SwarmNode) -> Found:
    seen = Evidence(
        "engine",
        f"{node.id} {node.hostname} {node.state}; {twin.id} {twin.hostname} ready at {twin.address}",
        {"dead": node.id, "live": twin.id},
    )
    return ctx.problem(
        check,
        f"the record {node.id} is what is left of {twin.hostname} from before it joined again",
        subject=Subject(host=twin.hostname),
        evidence=[seen],
        cause=cause(
            "swarm.stale-node",
            host=ctx.host,
            object={"kind": "node", "node_id": node.id, "live_node_id": twin.id, "name": node.hostname},
            confidence=Confidence.PROVEN,
            evidence=(seen,),
            remedy=(
                Remedy(
                    host=ctx.host,
                    summary="remove the dead record",
                    commands=((f"docker node demote {node.id}",) if node.role == "manager" else ())
                    + (f"docker node rm {node.id}",),
                    risk=Risk.LOW,
                ),
            ),
        ),
    )


def _names(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.names"
    cluster = _cluster(ctx)
    if cluster is None:
        return
    by_name: dict[str, list[SwarmNode]] = {}
    for node in cluster.nodes:
        if node.state == "ready":
            by_name.setdefault(node.hostname, []).append(node)
    twins = {name: nodes for name, nodes in by_name.items() if len(nodes) > 1}
    for name, nodes in twins.items():
        where = ", ".join(node.address or node.id for node in nodes)
        yield ctx.problem(
            check,
            f"{len(nodes)} live nodes are called {name} ({where})",
            cause=cause(
                "host.name-duplicate",
                host=f"{name} ({nodes[-1].address})" if nodes[-1].address else name,
                object={"kind": "host", "name": name, "addresses": [node.address for node in nodes]},
                confidence=Confidence.PROVEN,
                remedy=(
                    Remedy(
                        host=nodes[-1].address or name,
                        summary="give one of them another name; the engine shows it after its restart",
                        commands=(f"hostnamectl set-hostname {name.partition('.')[0]}-2", "systemctl restart docker"),
                        undo=(f"hostnamectl set-hostname {name}", "systemctl restart docker"),
                        risk=Risk.DISRUPTIVE,
                    ),
                ),
            ),
        )
    if not twins:
        yield ctx.ok(check, "every live node has a name of its own")


def _managers(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.quorum"
    cluster = _cluster(ctx)
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
    engine, cluster = ctx.facts.engine.value, _cluster(ctx)
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
                host=ctx.host,
                object={"kind": "engine", "conflict": one.kind.value, "versions": versions},
                confidence=Confidence.LIKELY if one.kind is ConflictKind.SPI_MISMATCH else Confidence.POSSIBLE,
                explanation=f"{one.what}; {one.advice}.",
            ),
        )
    if not found:
        yield ctx.ok(check, "the engines' versions go together")


def _gossip(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.peers"
    engine, cluster = ctx.facts.engine.value, _cluster(ctx)
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE:
        return
    for network in engine.networks:
        if network.driver != "overlay" or not network.peers:
            continue
        peers = {peer.address for peer in network.peers}
        # Ingress reaches every node; other networks only nodes that run a task on them.
        expected = (
            {node.address: node for node in cluster.nodes if node.state == "ready" and node.address}
            if network.ingress and cluster is not None
            else {}
        )
        for own in (engine.swarm.node_address, "0.0.0.0", "127.0.0.1"):  # noqa: S104 - read from the node list, not bound
            expected.pop(own, None)
        unheard = [node for address, node in expected.items() if address not in peers]
        fresh = [node for node in unheard if node.created_s is not None and ctx.now_s - node.created_s < SETTLING_S]
        missing = [node for node in unheard if node not in fresh]
        if fresh:
            yield ctx.unknown(
                check,
                f"whether gossip on {network.name} reaches {', '.join(node.hostname or node.id for node in fresh)}",
                f"it joined less than {SETTLING_S:.0f} s ago, and gossip takes a while; ask again",
                subject=Subject(host=ctx.host, network=network.name),
            )
        for node in missing:
            yield ctx.problem(
                check,
                f"gossip on {network.name} does not know {node.hostname or node.id} ({node.address}), which is Ready",
                breaks=(Need.NAMES, Need.TRAFFIC),
                subject=Subject(host=ctx.host, peer=node.address, network=network.name),
                evidence=[
                    Evidence("engine", f"peers of {network.name}: {', '.join(sorted(peers))}", {"peers": sorted(peers)})
                ],
                cause=cause(
                    "swarm.gossip",
                    host=None,
                    object={
                        "kind": "segment",
                        "from": ctx.host,
                        "to": node.address,
                        "protocol": "tcp, udp",
                        "port": 7946,
                    },
                    confidence=Confidence.LIKELY,
                ),
                next_steps=[
                    Step(
                        host=node.address,
                        command=f"netdiag verify swarm --peer {engine.swarm.node_address}",
                        why="reads that host's rules for 7946 from here",
                    )
                ],
            )
        if expected and not unheard:
            yield ctx.ok(check, f"gossip on {network.name} knows every Ready node")


def _tasks(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.tasks"
    cluster = _cluster(ctx)
    if cluster is None:
        return
    nodes = {node.id: node for node in cluster.nodes}
    told: set[tuple[str, str]] = set()
    for task in cluster.tasks:
        node = nodes.get(task.node_id)
        where = f"{node.hostname} ({node.address})" if node is not None else task.node_id
        if "no such image" not in task.error.lower() or (task.image, task.node_id) in told:
            continue
        told.add((task.image, task.node_id))
        image = task.image.partition("@")[0]
        seen = Evidence(
            "engine", f"task {task.id[:12]} on {where}: {task.error}", {"task": task.id, "error": task.error}
        )
        yield ctx.problem(
            check,
            f"a task on {where} found no image {image}",
            breaks=(Need.TRAFFIC,),
            subject=Subject(host=where, image=image),
            evidence=[seen],
            cause=cause(
                "swarm.image-missing",
                host=where,
                object={"kind": "image", "image": image},
                confidence=Confidence.PROVEN,
                evidence=(seen,),
                remedy=(
                    Remedy(
                        host="the host that has the image",
                        summary="carry it over (or push it to a registry that all nodes reach)",
                        commands=(f"docker save {image} | ssh {node.address if node else where} docker load",),
                    ),
                ),
            ),
        )
    if not told:
        yield ctx.ok(check, "no task failed for want of its image")


def _balance(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.balance"
    cluster = _cluster(ctx)
    if cluster is None:
        return
    running = [task for task in cluster.tasks if task.state == "running" and task.desired == "running"]
    busy = {task.node_id for task in running}
    idle = [
        node
        for node in cluster.nodes
        if node.state == "ready" and node.availability == "active" and node.id not in busy
    ]
    spread = [service for service in cluster.services if service.replicas is not None and service.replicas > 1]
    if running and idle and spread:
        names = ", ".join(node.hostname or node.id for node in idle)
        yield ctx.ok(
            check,
            f"{names} runs no task: a swarm does not move running tasks to a new node by itself"
            f" ('docker service update --force {spread[0].name}' does, and restarts them)",
        )


def _images(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.images"
    engine, cluster = ctx.facts.engine.value, _cluster(ctx)
    if engine is None or cluster is None:
        return
    unpinned = sorted({service.image for service in cluster.services if "@sha256:" not in service.image})
    others = [node for node in cluster.nodes if node.state == "ready" and node.id != engine.swarm.node_id]
    if unpinned and others:
        yield ctx.unknown(
            check,
            f"whether {', '.join(unpinned)} {'is' if len(unpinned) == 1 else 'are'} the same on every node",
            "these services name a tag without digest, and each node has its own idea of a tag",
            next_steps=[
                Step(
                    host=node.address or node.hostname,
                    command=f"docker image inspect --format '{{{{.Id}}}}' {unpinned[0]}",
                    why="the image ids must be the same on all nodes",
                )
                for node in others[:3]
            ],
        )
    elif cluster.services:
        yield ctx.ok(check, "every service names its image by digest")


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
    Check(
        id="swarm.verify.peers",
        title="Gossip knows every node",
        explains="The peers of the ingress network, as gossip (7946) knows them here, against the list of Ready nodes.",
        remedy="Let tcp and udp 7946 pass between all nodes.",
        evaluate=_gossip,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.tasks",
        title="Tasks find their images",
        explains="A task's own error says when its image is not on its node.",
        remedy="Push the image to a registry, or copy it with docker save and docker load.",
        evaluate=_tasks,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.images",
        title="A tag means the same image everywhere",
        explains="A service that names a tag without digest runs whatever each node has under that tag.",
        remedy="Deploy through a registry, so that services are pinned to a digest.",
        evaluate=_images,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.balance",
        title="New nodes get tasks",
        explains="A swarm places new tasks only; running ones stay where they are when a node joins.",
        remedy="docker service update --force SERVICE, when the restart is acceptable.",
        evaluate=_balance,
        needs=("engine",),
    ),
)
