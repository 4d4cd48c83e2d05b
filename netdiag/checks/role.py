"""What a node's role changes: quorum for a manager, what cannot be changed later for a first one, the peers' side."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, same_address
from netdiag.checks.membership import is_member_of_asked_swarm
from netdiag.checks.two_sided import peers
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.shell import shell_text
from netdiag.swarm.ports import (
    DATA_PATH_PORT_MAX,
    DATA_PATH_PORT_MIN,
    Listener,
    is_data_path_port,
    ports_of_swarm,
)
from netdiag.swarm.quorum import QuorumRisk, after_joining, quorum_of


def _quorum(ctx: Context) -> Iterator[Found]:
    check = "swarm.quorum"
    if not ctx.options.manager_role or ctx.options.initialise:
        return
    engine = ctx.facts.engine.value
    # A list of another swarm says nothing about the one that is meant.
    known = engine is not None and engine.cluster is not None and is_member_of_asked_swarm(ctx) is not False
    rows = engine.cluster.nodes if known and engine is not None and engine.cluster is not None else ()
    managers = [node for node in rows if node.role == "manager"]
    if not managers:
        where = ctx.managers[0].given if ctx.managers else "a manager"
        yield ctx.unknown(
            check,
            "how many managers the swarm will have, and how many it may lose",
            "only a manager has that list; a second manager tolerates no loss at all, a third tolerates one",
            next_steps=[
                Step(
                    host=where,
                    command="docker node ls --filter role=manager",
                    why="joining as the second of two managers makes the swarm depend on both",
                )
            ],
        )
        return
    reachable = sum(node.reachability == "reachable" for node in managers)
    after = after_joining(quorum_of(managers=len(managers), reachable=reachable))
    if after.risk is QuorumRisk.TWO_MANAGERS:
        yield ctx.problem(
            check,
            "this makes two managers of one: the swarm then stops when either of them does",
            cause=cause(
                "swarm.quorum-risk",
                host=ctx.host,
                object={
                    "kind": "managers",
                    "reachable": after.reachable,
                    "needed": after.needed,
                    "total": after.managers,
                    "before": len(managers),
                },
                confidence=Confidence.PROVEN,
                remedy=(
                    Remedy(
                        host=ctx.host,
                        summary="join as a worker, or add a third manager right away",
                        commands=("docker swarm join-token worker",),
                        risk=Risk.NONE,
                    ),
                ),
            ),
        )
    elif after.risk is QuorumRisk.LOST:
        yield ctx.problem(
            check,
            f"{reachable} of {len(managers)} managers answer; with one more {after.needed} are needed, and no join gets through",
            breaks=(Need.JOIN,),
            cause=cause(
                "swarm.quorum",
                host=ctx.host,
                object={
                    "kind": "managers",
                    "reachable": reachable,
                    "needed": after.needed,
                    "total": after.managers,
                    "before": len(managers),
                },
                confidence=Confidence.LIKELY,
            ),
        )
    else:
        even = "; an even number tolerates no more losses than one less" if after.managers % 2 == 0 else ""
        yield ctx.ok(check, f"{after.managers} managers, of which {after.needed} must answer{even}")


def _init(ctx: Context) -> Iterator[Found]:
    check = "swarm.init.final"
    if not ctx.options.initialise:
        return
    if not is_data_path_port(ctx.data_path_port):
        yield ctx.problem(
            check,
            f"--data-path-port {ctx.data_path_port}: the engine takes {DATA_PATH_PORT_MIN} to {DATA_PATH_PORT_MAX} only",
            breaks=(Need.JOIN,),
        )
        return
    yield ctx.ok(
        check,
        f"chosen once, at init: the address pool (10.0.0.0/8 unless --default-addr-pool) and the data-path port"
        f" ({ctx.data_path_port}, --data-path-port); choose them now",
        evidence=[
            Evidence(
                "fact", "neither can be changed without making the swarm anew", {"data_path_port": ctx.data_path_port}
            )
        ],
    )


def _peers(ctx: Context) -> Iterator[Found]:
    check = "swarm.peer.inbound"
    if ctx.options.initialise or is_member_of_asked_swarm(ctx):
        return
    examined = [view.address for view in peers(ctx)]
    for probe in ctx.managers:
        if any(same_address(probe.address, address) for address in examined):
            continue  # asked from both sides: `netdiag.checks.two_sided_paths`
        uses = [use for use in ports_of_swarm(data_path_port=ctx.data_path_port) if use.listener is Listener.EVERY_NODE]
        labels = ", ".join(use.label() for use in uses)
        chosen = probe.tcp.source if probe.tcp is not None else ""
        source = chosen or (probe.route.source if probe.route is not None else "") or "THIS-HOSTS-ADDRESS"
        yield ctx.unknown(
            check,
            f"whether {labels} pass between this host and {probe.given}, both ways",
            "nothing answers there before the node has joined, so one side alone cannot tell",
            leaves=(Need.NAMES, Need.TRAFFIC),
            subject=Subject(host=ctx.host, peer=probe.given),
            next_steps=[
                Step(
                    host=probe.given,
                    command=shell_text(["netdiag", "verify", "swarm", "--peer", source]),
                    why=f"says whether that host's filters let {labels} in from {source}",
                )
            ],
        )


CHECKS = (
    Check(
        id="swarm.quorum",
        title="The managers keep a quorum",
        explains=(
            "More than half of the managers must answer. Two managers tolerate the loss of none: worse than one (moby#26381)."
        ),
        remedy="Keep an odd number of managers; join as a worker otherwise.",
        evaluate=_quorum,
    ),
    Check(
        id="swarm.init.final",
        title="What init decides for good",
        explains="The address pool and the data-path port are fixed when a swarm is made.",
        remedy="Choose them at 'docker swarm init'.",
        evaluate=_init,
    ),
    Check(
        id="swarm.peer.inbound",
        title="The peers' side lets this host in",
        explains="Whether names resolve and containers talk depends on ports at which nothing answers before the join.",
        remedy="Run the command in 'next' on the other host.",
        evaluate=_peers,
    ),
)
