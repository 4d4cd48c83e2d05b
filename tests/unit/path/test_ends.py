"""Services, tasks and nodes behind a name, from whoever of the hosts knows them."""

import pytest

from netdiag.errors import UsageError
from netdiag.path.ends import (
    address_of,
    find_service,
    find_task,
    first_choice,
    node_address,
    node_name,
    service_by_name_server,
    task_label,
)
from tests.unit.path.facts_of import FAR, NEAR, container, facts, manager, on, overlay, task

WEB = container("web", on("app", "10.0.1.2"))
TASKS = (task("db", 1, "10.0.1.5"), task("db", 2, "10.0.1.6", NEAR))


def seen(*tasks, virtual=None, cluster=None):
    return facts(WEB, networks=(overlay(*tasks, virtual=virtual),), cluster=cluster)


def test_a_service_has_its_virtual_ip_and_its_tasks():
    found = find_service([seen(*TASKS, virtual={"db": "10.0.1.4"})], WEB, "db")
    assert (found.name, found.virtual_address) == ("db", "10.0.1.4")
    assert [address_of(each) for each in found.tasks] == ["10.0.1.5", "10.0.1.6"]


def test_its_virtual_ip_means_it_and_tasks_before_its_name_means_them():
    one = [seen(*TASKS, virtual={"db": "10.0.1.4"})]
    assert find_service(one, WEB, "10.0.1.4").name == "db"
    assert find_service(one, WEB, "tasks.db").virtual_address == ""
    assert find_service(one, WEB, "shop") is None


def test_a_worker_is_told_by_a_manager_among_the_hosts():
    """The engine of many versions must not be asked for a network's tasks; a manager lists them."""
    worker, boss = seen(), seen(virtual={"db": "10.0.1.4"}, cluster=manager("10.0.1.5", "10.0.1.6"))
    assert find_service([worker], WEB, "db") is None
    found = find_service([worker, boss], WEB, "db")
    assert found.virtual_address == "10.0.1.4"
    assert [(task_label(each), each.host_address) for each in found.tasks] == [("db.1", FAR), ("db.2", FAR)]


def test_without_a_manager_the_name_server_tells():
    one = seen()
    found = service_by_name_server(one, WEB, "db", ["10.0.1.4"], ["10.0.1.5", "10.0.1.2"])
    assert (found.name, found.virtual_address) == ("db", "10.0.1.4")
    assert [(each.name, each.host_address) for each in found.tasks] == [("10.0.1.5", ""), ("web", NEAR)]
    assert service_by_name_server(one, WEB, "example.org", ["203.0.113.9"], []) is None
    assert service_by_name_server(one, WEB, "tasks.db", ["10.0.1.5"], ["10.0.1.5"]).virtual_address == ""


@pytest.mark.parametrize("name", ["db.2", "db.2.abcdef", "10.0.1.6"])
def test_a_task_by_its_names(name):
    assert find_task([seen(*TASKS)], WEB, name).host_address == NEAR


def test_a_name_that_several_tasks_have():
    with pytest.raises(UsageError, match=r"'db' fits db\.1\.abcdef, db\.2\.abcdef"):
        find_task([seen(*TASKS)], WEB, "db")


def test_a_network_that_the_container_is_not_on_is_not_looked_at():
    other = container("other", on("else", "10.0.9.2"))
    assert find_task([seen(*TASKS)], other, "db.1") is None


def test_nodes_by_their_names_and_addresses():
    known = [seen(cluster=manager())]
    assert (node_address(known, "near"), node_address(known, "far"), node_address(known, "no")) == (NEAR, FAR, "")
    assert (node_name(known, FAR), node_name(known, NEAR), node_name(known, "192.0.2.9")) == ("far", "near", "")


def test_a_task_elsewhere_tells_most():
    assert first_choice(TASKS, NEAR).host_address == FAR
    assert first_choice(TASKS[1:], NEAR).host_address == NEAR
