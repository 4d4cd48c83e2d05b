"""A service as the destination: its virtual IP and every task behind it are tried, and one task is chosen to explain."""

from __future__ import annotations

from netdiag.host.diagnose_attempt import MOST_TASKS, try_addresses
from netdiag.host.diagnose_parties import Planned
from netdiag.host.diagnose_plan import Planner
from netdiag.model.engine import OverlayTask
from netdiag.model.facts import Facts
from netdiag.model.found import Found
from netdiag.model.path import Side
from netdiag.path.ends import address_of
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
    tasks = [task for task in service.tasks if address_of(task) != source.address][:MOST_TASKS]
    addresses = [address_of(task) for task in tasks]
    asked = [*addresses, *([service.virtual_address] if service.virtual_address else [])]
    if planned.way.protocol == "udp":  # tasks listen there: nothing is sent to them unasked
        facts = planned.parties[Side.SOURCE].facts
        told = virtual_found(source, service, answered_by=_holder(facts, service.virtual_address), rows=())
        return planned, [told] if service.virtual_address else []
    attempts = try_addresses(planned, asked)
    rows = list(zip(tasks, attempts, strict=False))
    broken = [task for task, attempt in rows if not attempt.answered]
    explained = _explained(planned, rows, broken)
    if explained is not None and address_of(explained) != planned.way.destination.address:
        planned = planner.towards(planned, explained)
    found: list[Found] = []
    if service.virtual_address:
        facts = planned.parties[Side.SOURCE].facts
        found.append(virtual_found(source, service, answered_by=_holder(facts, service.virtual_address), rows=rows))
        balancer = balancer_found(source, service, attempts[-1], facts, tasks_answer=len(broken) < len(rows))
        found += [balancer] if balancer is not None else []
    return planned, [*found, *task_founds(source, service, rows, explained)]


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
