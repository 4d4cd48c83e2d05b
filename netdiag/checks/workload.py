"""What a swarm runs: images that its nodes lack, tags that may mean different images, nodes without tasks."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause, note
from netdiag.checks.commands import carry_over
from netdiag.checks.context import Check, Context
from netdiag.checks.verify import address_of, cluster_of
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Remedy, Step, Subject
from netdiag.shell import operand, shell_text


def _tasks(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.tasks"
    cluster = cluster_of(ctx)
    if cluster is None:
        return
    nodes = {node.id: node for node in cluster.nodes}
    # The list keeps tasks that failed long ago: what runs there now has its image.
    runs = {(task.image, task.node_id) for task in cluster.tasks if task.state == "running"}
    told: set[tuple[str, str]] = set()
    for task in cluster.tasks:
        node = nodes.get(task.node_id)
        where = f"{node.hostname} ({node.address})" if node is not None else task.node_id
        if "no such image" not in task.error.lower() or (task.image, task.node_id) in told | runs:
            continue
        told.add((task.image, task.node_id))
        image = task.image.partition("@")[0]
        seen = Evidence(
            "engine", f"task {task.id[:12]} on {where}: {task.error}", {"task": task.id, "error": task.error}
        )
        yield ctx.problem(
            check,
            f"a task on {where} found no image {image}",
            subject=Subject(host=where, image=image),
            evidence=[seen],
            cause=cause(
                "swarm.image-missing",
                host=where,
                object={"kind": "image", "name": image},
                confidence=Confidence.PROVEN,
                evidence=(seen,),
                remedy=(
                    Remedy(
                        host="the host that has the image",
                        summary="carry it over (or push it to a registry that all nodes reach)",
                        commands=(
                            carry_over(
                                image, (address_of(node) or node.hostname) if node is not None else task.node_id
                            ),
                        ),
                    ),
                ),
            ),
        )
    if not told:
        yield ctx.ok(check, "no task failed for want of its image")


def _balance(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.balance"
    cluster = cluster_of(ctx)
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
            evidence=[
                note("swarm.not-rebalanced", data={"service": spread[0].name, "nodes": [node.id for node in idle]})
            ],
        )


def _images(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.images"
    engine, cluster = ctx.facts.engine.value, cluster_of(ctx)
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
                    command=shell_text(["docker", "image", "inspect", "--format", "{{.Id}}", *operand(unpinned[0])]),
                    why="the image ids must be the same on all nodes",
                )
                for node in others[:3]
            ],
        )
    elif cluster.services:
        yield ctx.ok(check, "every service names its image by digest")


CHECKS = (
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
