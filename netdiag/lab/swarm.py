"""The swarm of a lab: formed as the topology says, with the commands that an operator uses."""

from __future__ import annotations

from typing import Any

import docker.errors
import msgspec

from netdiag.errors import LabError
from netdiag.lab.host import Host
from netdiag.lab.process import until
from netdiag.lab.topology import SwarmRole

JOIN_TIMEOUT_S = 25.0
"""A little more than the 20 s after which the engine itself gives up waiting."""


class JoinOutcome(msgspec.Struct, frozen=True):
    """What ``docker swarm join`` said."""

    joined: bool
    message: str


def initialise(host: Host) -> None:
    """Make the host the first manager of a new swarm; LabError if its engine refuses."""
    try:
        host.docker.init_swarm(advertise_addr=host.address)
    except docker.errors.APIError as error:
        raise LabError(f"{host.name}: docker swarm init: {error.explanation}") from error


def token(manager: Host, role: SwarmRole) -> str:
    """The join token of a swarm; LabError if the host is no manager."""
    try:
        tokens = manager.docker.inspect_swarm()["JoinTokens"]
    except docker.errors.APIError as error:
        raise LabError(f"{manager.name}: {error.explanation}") from error
    return str(tokens["Manager" if role is SwarmRole.MANAGER else "Worker"])


def join(
    host: Host, manager: Host, role: SwarmRole, timeout_s: float = JOIN_TIMEOUT_S, secret: str | None = None
) -> JoinOutcome:
    """Run ``docker swarm join`` in the host.

    Args:
        host: who joins.
        manager: whom it asks, at its primary address.
        role: which of the manager's tokens is used.
        timeout_s: how long the command may take.
        secret: another token to use.

    Raises:
        LabError: the command did not end in time, or there is no token.
    """
    secret = secret or token(manager, role)
    command = ["docker", "swarm", "join", "--token", secret, f"{manager.address}:2377"]
    result = host.exec(command, timeout_s=timeout_s, check=False)
    return JoinOutcome(result.returncode == 0, (result.stdout + result.stderr).strip())


def leave(host: Host) -> None:
    """Leave whatever swarm the host is in, as ``docker swarm leave --force``; nothing if it is in none."""
    try:
        host.docker.leave_swarm(force=True)
    except docker.errors.APIError as error:
        if error.status_code != 503:  # not part of a swarm
            raise LabError(f"{host.name}: docker swarm leave: {error.explanation}") from error
    until(lambda: local_state(host) == "inactive", 20.0, f"{host.name} leaving its swarm", every_s=0.02)


def local_state(host: Host) -> str:
    """``inactive``, ``pending``, ``active``, ``locked`` or ``error``, as the host's own engine says."""
    return str(host.docker.info()["Swarm"]["LocalNodeState"])


def node_id(host: Host) -> str:
    """The host's id in its swarm; empty if it is in none."""
    return str(host.docker.info()["Swarm"]["NodeID"])


def nodes(manager: Host) -> list[Any]:
    """The node records of the swarm, as the API gives them."""
    return list(manager.docker.nodes())


def await_ready(manager: Host, hosts: list[Host], timeout_s: float = 20.0) -> None:
    """Wait until the manager has each host's node as ready; LabError if it does not."""
    wanted = {node_id(host) for host in hosts}

    def ready() -> bool:
        return wanted <= {node["ID"] for node in nodes(manager) if node["Status"]["State"] == "ready"}

    until(ready, timeout_s, f"all of {', '.join(host.name for host in hosts)} ready in the swarm")


def await_settled(host: Host, timeout_s: float = 60.0) -> None:
    """Wait until a member's engine has set up the swarm's own network, a second or two after it joined.

    Until then its links and rules change by themselves. LabError if it does not.
    """

    def settled() -> bool:
        try:
            # The engine says null while the network has no endpoint.
            return "ingress-sbox" in (host.docker.inspect_network("ingress")["Containers"] or {})
        except docker.errors.NotFound:
            return False

    until(settled, timeout_s, f"the ingress network of {host.name}")


def await_down(manager: Host, node: str, timeout_s: float = 20.0) -> None:
    """Wait until the manager knows that a node, given by its id, is down; LabError if it does not."""

    def down() -> bool:
        return any(each["ID"] == node and each["Status"]["State"] == "down" for each in nodes(manager))

    until(down, timeout_s, f"node {node} down")
