"""Faults of engines and of the swarm: names, engines that do not run, records of nodes that are gone."""

from __future__ import annotations

from netdiag.errors import LabError, UsageError
from netdiag.lab import engine, swarm
from netdiag.lab.faults import HOST, Fault, Kind, Parameter, Values, Work
from netdiag.lab.state import Step, StepKind
from netdiag.lab.topology import SwarmRole


def _set_hostname(work: Work, host: str, name: str) -> None:
    old = work.run(host, ["hostname"]).stdout.strip()
    work.run(host, ["hostname", name], undo=["hostname", old])
    work.run(host, ["tee", "/etc/hostname"], stdin=f"{name}\n", undo=["tee", "/etc/hostname"], undo_stdin=f"{old}\n")


def _hostname(work: Work, values: Values) -> None:
    _set_hostname(work, values["host"], values["name"])


def _same_hostname(work: Work, values: Values) -> None:
    name = work.run(values["as"], ["hostname"]).stdout.strip()
    _set_hostname(work, values["host"], name)


def _engine_stopped(work: Work, values: Values) -> None:
    host = work.site.host(values["host"])
    if engine.running(host) is None:
        raise LabError(f"{host.name} has no engine that runs")
    work.on_undo(Step(host=host.name, kind=StepKind.START_ENGINE))
    engine.stop(host, kill=values["how"] == "kill")


def _rejoin(work: Work, values: Values) -> None:
    host, manager = work.site.host(values["host"]), work.site.host(values["manager"])
    if swarm.local_state(host) != "active" or host is manager:
        raise UsageError(f"host={host.name}: it is not a worker of the swarm")
    old = swarm.node_id(host)
    record = next(node for node in swarm.nodes(manager) if node["ID"] == old)
    role = SwarmRole(record["Spec"]["Role"])
    swarm.leave(host)
    remove = ["docker", "node", "rm", "--force", old]
    work.run(manager.name, ["true"], undo=remove, only_if=["docker", "node", "inspect", old])
    outcome = swarm.join(host, manager, role)
    if not outcome.joined:
        raise LabError(f"{host.name} does not join again: {outcome.message}")
    swarm.await_ready(manager, [host])
    swarm.await_down(manager, old)


_MANAGER = Parameter("manager", Kind.HOST, "the manager that it joins again", default="manager")

FAULTS = (
    Fault(
        "hostname",
        "Another hostname.",
        (HOST, Parameter("name", Kind.TEXT, "the new one", required=True)),
        _hostname,
        "host=worker name=localhost.localdomain",
    ),
    Fault(
        "same-hostname",
        "Two hosts of one hostname.",
        (HOST, Parameter("as", Kind.HOST, "the host that it is called like", required=True)),
        _same_hostname,
        "host=worker as=manager",
    ),
    Fault(
        "engine-stopped",
        "An engine that does not run.",
        (HOST, Parameter("how", Kind.CHOICE, "cleanly or with kill -9", default="stop", choices=("stop", "kill"))),
        _engine_stopped,
        "host=worker",
    ),
    Fault(
        "rejoin",
        "A node that left the swarm and joined again: the manager keeps a dead record of it.",
        (HOST, _MANAGER),
        _rejoin,
        "host=worker manager=manager",
    ),
)
