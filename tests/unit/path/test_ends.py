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
    other_hosts,
    service_by_name_server,
    short_name,
    task_label,
)
from netdiag.path.names import parse_end
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


OTHER = "192.0.2.3"
BOSS = facts(
    networks=(overlay(task("web", 1, "10.0.1.2", FAR), task("db", 1, "10.0.1.5", OTHER), *TASKS[1:]),),
    cluster=manager(),
)


def asked(source, destination, of=BOSS):
    return other_hosts(of, parse_end(source, what="SOURCE"), parse_end(destination, what="DESTINATION"))


@pytest.mark.parametrize(
    ("source", "destination", "hosts"),
    [
        ("far/web", "db.1:22", ("far", OTHER)),
        ("web.1", "db.1:22", (FAR, OTHER)),
        ("web", "10.0.1.5", (FAR, OTHER)),
        ("far/web", f"{OTHER}/db", ("far", OTHER)),
    ],
)
def test_two_other_hosts_that_are_settled(source, destination, hosts):
    assert asked(source, destination) == hosts


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("far/web", "web.1:22"),  # one host by two names
        ("far/web", f"{FAR}/db"),
        ("far/web", "db.2:22"),  # a task on this host
        ("near/web", "db.1:22"),
        ("far/web", "db:22"),  # on two hosts, and which one is chosen later
        ("far/web", "elsewhere:22"),
        ("elsewhere/web", "db.1:22"),  # perhaps another name of the host that db.1 is on
        ("web", "far"),
    ],
)
def test_hosts_that_are_not_settled(source, destination):
    assert asked(source, destination) == ()


def test_a_name_that_fits_several_is_for_the_one_who_asks_for_it():
    both = facts(networks=(overlay(task("web", 1, "10.0.1.2", FAR), *TASKS),), cluster=manager())
    assert asked("web", "db.abc:22", both) == ()


@pytest.mark.parametrize(
    ("container", "short"),
    [
        ("db.1.usrztdja3b93xlez1597clshx", "db.1"),
        ("my.db.12.usrztdja3b93xlez1597clshx", "my.db.12"),
        ("db.1.short", "db.1.short"),
        ("db", "db"),
    ],
)
def test_a_task_without_its_id(container, short):
    assert short_name(container) == short
