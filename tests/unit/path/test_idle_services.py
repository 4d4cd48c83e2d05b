"""A service of which no task runs."""

import msgspec
import pytest

from netdiag.model.engine import Service, Task
from netdiag.path.idle_services import idle_cause
from tests.unit.path.facts_of import facts, manager


def listing(*tasks, replicas=2):
    service = Service(id="s1", name="db", image="i", replicas=replicas)
    return facts(cluster=msgspec.structs.replace(manager(), services=(service,), tasks=tasks))


def task(state, desired="shutdown", error=""):
    return Task(id=state + error, service="s1", node_id="n2", state=state, desired=desired, error=error)


LOOPING = (task("failed", error="task: non-zero exit (1)"), task("preparing", desired="running"))


@pytest.mark.parametrize("name", ["db", "tasks.db"])
def test_one_that_ends_again_and_again(name):
    one = idle_cause(listing(*LOOPING), "near", name)
    assert (one.code, one.host, one.confidence.value) == ("container.not-running", "near", "proven")
    assert one.object == {
        "kind": "service",
        "name": "db",
        "id": "s1",
        "running": 0,
        "desired": 2,
        "error": "task: non-zero exit (1)",
    }
    assert one.remedy == ()


def test_one_that_is_scaled_to_nothing_has_no_error():
    one = idle_cause(listing(*LOOPING[:1], replicas=0), "near", "db")
    assert one.object["desired"] == 0
    assert one.object["error"] is None
    assert one.remedy[0].commands == ("docker service scale db=1",)


def test_a_global_one():
    assert "one on each node" in idle_cause(listing(replicas=None), "near", "db").explanation


def test_one_that_runs_or_that_nobody_lists_is_not_blamed():
    assert idle_cause(listing(*LOOPING, task("running", desired="running")), "near", "db") is None
    assert idle_cause(listing(*LOOPING), "near", "shop") is None
    assert idle_cause(facts(), "near", "db") is None
