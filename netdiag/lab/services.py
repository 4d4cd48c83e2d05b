"""Services of a lab's swarm, as the stories and tests use them: made where they are wanted, and looked into."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.errors import LabError
from netdiag.lab.host import Host, Result
from netdiag.lab.process import until

_LABEL = "com.docker.swarm.service.name"


def create_service(
    manager: Host, name: str, *, network: str, node: str, image: str, command: Sequence[str] = ()
) -> None:
    """Create a service of one task on one node, and wait until its task runs.

    Args:
        manager: Who is asked.
        name: What it is called.
        network: The overlay network that it is attached to.
        node: The hostname of the node that is to run it.
        image: What it runs.
        command: The program and its arguments, where it is not the image's own.

    Raises:
        LabError: The engine refuses, or the task does not run within 20 s.
    """
    place = ["--network", network, "--constraint", f"node.hostname=={node}"]
    manager.exec(["docker", "service", "create", "-d", "-q", "--name", name, *place, image, *command])
    filters = {"service": name, "desired-state": "running"}
    until(
        lambda: any(row["Status"]["State"] == "running" for row in manager.docker.tasks(filters=filters)),
        20.0,
        f"a task of {name}",
    )


def container_of(host: Host, service: str) -> str:
    """The name of the service's container on a host. LabError if there is none."""
    which = ["docker", "ps", "--format", "{{.Names}}", "--filter", f"label={_LABEL}={service}"]
    names = host.exec(which).stdout.split()
    if not names:
        raise LabError(f"{host.name} runs no container of {service}")
    return names[0]


def within(host: Host, service: str, words: Sequence[str]) -> Result:
    """Run a command in the service's container on a host; whether it succeeds is the caller's to see."""
    return host.exec(["docker", "exec", container_of(host, service), *words], check=False, timeout_s=20.0)
