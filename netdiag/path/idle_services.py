"""A service of which no task runs, as a manager tells of it; pure."""

from __future__ import annotations

from netdiag.causes import cause
from netdiag.model.engine import Task
from netdiag.model.facts import Facts
from netdiag.model.found import Found
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, State, Step, Subject
from netdiag.shell import shell_text

_MOST_ERRORS = 2


def idle_cause(facts: Facts, host: str, name: str) -> Cause | None:
    """Why a service answers nobody: none of its tasks runs. None where one does, or where this host is no manager.

    Args:
        facts: Of the host.
        host: What it is called.
        name: The service's name, or tasks. before it.
    """
    engine = facts.engine.value
    cluster = engine.cluster if engine is not None else None
    bare = name.removeprefix("tasks.")
    service = next((each for each in cluster.services if each.name == bare), None) if cluster is not None else None
    if cluster is None or service is None:
        return None
    tasks = [each for each in cluster.tasks if each.service == service.id]
    if any(each.state == "running" for each in tasks):
        return None
    errors = _errors(tasks)
    wanted = "one on each node" if service.replicas is None else str(service.replicas)
    none = service.replicas == 0
    why = f"{bare} is scaled to no task" if none else f"0 tasks of {bare} run, of {wanted} that should"
    said = f": {'; '.join(errors)}" if errors and not none else ""
    command = shell_text(["docker", "service", "scale", f"{bare}=1"])
    return cause(
        "container.not-running",
        host=host,
        object={
            "kind": "service",
            "name": bare,
            "id": service.id,
            "running": 0,
            "desired": service.replicas,
            "error": errors[0] if errors and not none else None,
        },
        confidence=Confidence.PROVEN,
        explanation=f"The manager {host} says that {why}{said}.",
        evidence=(Evidence("engine", f"service {bare}: 0 running, desired {wanted}{said}"),),
        remedy=(
            Remedy(
                host=host,
                summary=f"let a task of {bare} run",
                commands=(command,),
                undo=(shell_text(["docker", "service", "scale", f"{bare}=0"]),),
            ),
        )
        if none
        else (),
    )


def idle_found(one: Cause) -> Found:
    """What is said of it."""
    name = str(one.object["name"])
    return Found(
        check="path.ends",
        state=State.FAIL,
        subject=Subject(host=one.host),
        summary=f"no task of the service {name} runs: {one.explanation}",
        evidence=one.evidence,
        cause=one,
        next=(
            Step(
                host=one.host or "",
                command=shell_text(["docker", "service", "ps", "--no-trunc", name]),
                why="lists its tasks, and why each ended",
            ),
        ),
    )


def _errors(tasks: list[Task]) -> list[str]:
    """What the engine says of those that ended, each sentence once; those that should run now first."""
    ordered = sorted(tasks, key=lambda each: each.desired not in ("running", "ready"))
    return list(dict.fromkeys(each.error for each in ordered if each.error))[:_MOST_ERRORS]
