"""A service as the destination: its virtual IP and every task behind it are tried, and one task is chosen to explain."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.host.diagnose_attempt import MOST_TASKS, try_addresses
from netdiag.host.diagnose_parties import Planned
from netdiag.host.diagnose_plan import Planner
from netdiag.model.engine import OverlayTask
from netdiag.model.facts import Facts
from netdiag.model.found import Found
from netdiag.model.path import Side
from netdiag.path.ends import Service, address_of
from netdiag.path.told import balancer_found, task_founds, virtual_found
from netdiag.path.verdict import Attempt


def survey(planner: Planner, planned: Planned) -> tuple[Planned, list[Found]]:
    """Try all tasks of the service at once.

    Returns:
        The same flow to the first task that does not answer (else as it was planned), and what is to be said of the
        service and of its other tasks.
    """
    service = planned.service
    if service is None:
        return planned, []
    source = planned.way.source
    if planned.way.protocol == "udp":  # tasks listen there: nothing is sent to them unasked
        facts = planned.parties[Side.SOURCE].facts
        told = virtual_found(source, service, answered_by=_holder(facts, service.virtual_address), rows=())
        return planned, [told] if service.virtual_address else []
    tasks = _others(planned, service)
    attempts = try_addresses(planned, [*map(address_of, tasks), *_virtual(service)])
    rows = list(zip(tasks, attempts, strict=False))
    broken = [task for task, attempt in rows if not attempt.answered]
    explained = _explained(planned, rows, broken)
    if explained is not None and address_of(explained) != planned.way.destination.address:
        planned = planner.towards(planned, explained)
    return planned, tasks_told(planned, rows, attempts[len(tasks) :])


def only_task(planned: Planned) -> OverlayTask | None:
    """The task of a tcp service that has one for the source: nothing must be tried to know which one to explain."""
    if planned.service is None or planned.way.protocol != "tcp":
        return None
    tasks = _others(planned, planned.service)
    return tasks[0] if len(tasks) == 1 and address_of(tasks[0]) == planned.way.destination.address else None


def try_virtual(planned: Planned) -> list[Attempt]:
    """Try the virtual IP of the service; none for a service without one."""
    return try_addresses(planned, _virtual(planned.service)) if planned.service is not None else []


def tasks_told(
    planned: Planned, rows: Sequence[tuple[OverlayTask, Attempt]], virtual: Sequence[Attempt]
) -> list[Found]:
    """What is to be said of a service and of its tasks, but for the one to which the way leads.

    Args:
        planned: The way to one of its tasks.
        rows: The tasks that were tried, and what came of each.
        virtual: What came of trying its virtual IP, if it has one.
    """
    service, source = planned.service, planned.way.source
    if service is None:
        return []
    explained = next((task for task, _ in rows if address_of(task) == planned.way.destination.address), None)
    found: list[Found] = []
    for attempt in virtual:
        facts = planned.parties[Side.SOURCE].facts
        found.append(virtual_found(source, service, answered_by=_holder(facts, service.virtual_address), rows=rows))
        answer = any(each.answered for _, each in rows)
        balancer = balancer_found(source, service, attempt, facts, tasks_answer=answer)
        found += [balancer] if balancer is not None else []
    return [*found, *task_founds(source, service, rows, explained)]


def _others(planned: Planned, service: Service) -> list[OverlayTask]:
    """The tasks that are tried: not the source itself."""
    return [task for task in service.tasks if address_of(task) != planned.way.source.address][:MOST_TASKS]


def _virtual(service: Service) -> list[str]:
    return [service.virtual_address] if service.virtual_address else []


def _explained(
    planned: Planned, rows: list[tuple[OverlayTask, Attempt]], broken: list[OverlayTask]
) -> OverlayTask | None:
    """The first task that is broken, the planned one before others."""
    chosen = planned.way.destination.address
    tasks = broken or [task for task, _ in rows]
    return next((task for task in tasks if address_of(task) == chosen), next(iter(tasks), None))


def _holder(facts: Facts, address: str) -> str:
    """The namespace of a host that has an address."""
    for namespace, rows in (facts.addresses.value or {}).items():
        if any(row.cidr.partition("/")[0] == address for row in rows):
            return namespace
    return ""
