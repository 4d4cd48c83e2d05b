"""What `lab status` tells of a running lab."""

from __future__ import annotations

import contextlib

import docker.errors
import msgspec

from netdiag.errors import LabError
from netdiag.lab import engine, swarm
from netdiag.lab.host import Host
from netdiag.lab.lab import Lab
from netdiag.lab.state import ActiveFault, load_all


class HostStatus(msgspec.Struct, frozen=True):
    """One host now."""

    name: str
    hostname: str
    pid: int
    """Of its init, as the machine sees it."""
    addresses: dict[str, str]
    """By interface, with prefix length."""
    alive: bool
    engine: str
    """``none``, ``stopped`` or ``running``."""
    swarm: str
    """What the host's own engine says: inactive, pending, active, locked or error; empty without a running engine."""


class LabStatus(msgspec.Struct, frozen=True):
    """One lab now."""

    name: str
    topology: str
    hosts: tuple[HostStatus, ...]
    faults: tuple[ActiveFault, ...]


def status(lab: Lab) -> LabStatus:
    """Ask every host how it is."""
    hosts = tuple(_host_status(host) for host in lab.hosts.values())
    return LabStatus(name=lab.name, topology=lab.topology.name, hosts=hosts, faults=lab.faults())


def _host_status(host: Host) -> HostStatus:
    planned = host.plan is not None and host.plan.engine
    alive = host.process.alive
    running = alive and planned and engine.running(host) is not None
    member = ""
    if running:
        with contextlib.suppress(LabError, docker.errors.DockerException):
            member = swarm.local_state(host)
        host.close()
    return HostStatus(
        name=host.name,
        hostname=host.exec(["hostname"], check=False).stdout.strip() if alive else "",
        pid=host.pid,
        addresses={uplink.interface: str(uplink.address) for uplink in host.uplinks},
        alive=alive,
        engine=("running" if running else "stopped") if planned else "none",
        swarm=member,
    )


class Summary(msgspec.Struct, frozen=True):
    """One lab in a list."""

    name: str
    topology: str
    hosts: int
    state: str
    """``up``, ``up (process PID)`` while that process owns it, ``starting``, or ``orphaned`` (the next up ends it)."""
    faults: int


def summaries() -> list[Summary]:
    """Every lab of this machine."""
    found = []
    for lab in load_all():
        word = "up" if lab.owner is None else f"up (process {lab.owner.pid})"
        word = "orphaned" if lab.orphaned else word if lab.complete else "starting"
        found.append(Summary(lab.name, lab.topology.name, len(lab.topology.host), word, len(lab.faults)))
    return found
