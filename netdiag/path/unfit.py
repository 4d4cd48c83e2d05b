"""Ends between which there is no way at all: a container that does not run, or that is in no network of the other; pure."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.causes import cause
from netdiag.model.engine import Container, Network
from netdiag.model.found import Found
from netdiag.model.path import End, PathKind, Way
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, State, Step, Subject
from netdiag.shell import shell_text

_PREDEFINED = ("bridge", "host", "none", "docker_gwbridge", "ingress")
"""Networks that an engine makes by itself: nobody is attached to them in order to reach somebody."""
_STARTED_BY = {"paused": "unpause", "exited": "start", "created": "start"}


def state_cause(host: str, container: Container) -> Cause:
    """A container that does not run."""
    state = container.state or "not running"
    verb = _STARTED_BY.get(state) if not container.task_id else None
    return cause(
        "container.not-running",
        host=host,
        object={"kind": "container", "name": container.name, "id": container.id, "state": state},
        confidence=Confidence.PROVEN,
        explanation=f"The engine of {host} says that {container.name} is {state}.",
        evidence=(Evidence("engine", f"{container.name} on {host}: {state}"),),
        remedy=(
            Remedy(
                host=host,
                summary=f"let {container.name} run",
                commands=(shell_text(["docker", verb, container.name]),),
                undo=(shell_text(["docker", "pause" if verb == "unpause" else "stop", container.name]),),
            ),
        )
        if verb is not None
        else (),
    )


def detached_cause(host: str, container: Container, network: str, other: str) -> Cause:
    """A container that is not in the network of the other end."""
    has = ", ".join(sorted(each.network for each in container.networks)) or "none"
    command = ["docker", "network", "connect", network, container.name]
    return cause(
        "container.not-attached",
        host=host,
        object={"kind": "container", "name": container.name, "id": container.id, "network": network},
        confidence=Confidence.PROVEN,
        explanation=f"{other} is in the network {network}, and {container.name} on {host} is not (its networks: {has}).",
        evidence=(Evidence("engine", f"{container.name} on {host}: networks {has}"),),
        remedy=(
            Remedy(
                host=host,
                summary=f"attach {container.name} to {network}",
                commands=(shell_text(command),),
                undo=(shell_text(["docker", "network", "disconnect", network, container.name]),),
            ),
        )
        if not container.task_id
        else (),
    )


def wanted_network(container: Container, networks: Sequence[Network]) -> str:
    """The network by which a container is to be reached, as far as its own tell: an overlay first; empty for none."""
    # Networks of other drivers may be routed into one another.
    drivers = {network.id: network.driver for network in networks if network.driver in ("overlay", "bridge")}
    mine = [each for each in container.networks if each.network not in _PREDEFINED and each.network_id in drivers]
    mine.sort(key=lambda each: (drivers[each.network_id] != "overlay", each.network))
    return mine[0].network if mine else ""


def unfit_found(way: Way, one: Cause) -> Found:
    """Why nothing is tried."""
    name = str(one.object.get("name") or way.source.container)
    return Found(
        check="path.ends",
        state=State.FAIL,
        subject=Subject(host=one.host, container=name),
        summary=f"there is no way from {way.source.label()} to {way.destination.label()}: {one.explanation}",
        evidence=one.evidence,
        cause=one,
        next=(Step(host=one.host or "", command=shell_text(["docker", "logs", "--tail", "20", name]), why="says why"),)
        if one.code == "container.not-running"
        else (),
    )


def no_way(source: End, destination: End, *, protocol: str, port: int | None) -> Way:
    """The two ends with nothing between them."""
    return Way(kind=PathKind.BRIDGE, source=source, destination=destination, protocol=protocol, port=port, places=())
