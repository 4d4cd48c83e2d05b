"""What an end means is what its name means to the container: services, tasks, virtual IPs, resolvers, nodes."""

import json

import pytest

from netdiag.lab.services import container_of, create_service, within

IMAGE = "netdiag/busybox:lab"


@pytest.fixture(scope="module")
def cluster(up):
    """Two services on an overlay network: the one asks from the manager, the other serves on the first worker."""
    with up("swarm3") as lab:
        manager = lab.host("manager")
        lab.break_("sshd", host="worker1")
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        create_service(manager, "web", network="app", node="manager", image=IMAGE, command=["sleep", "100000"])
        create_service(manager, "db", network="app", node="worker1", image=IMAGE, command=["httpd", "-f", "-p", "80"])
        yield lab


def diagnose(lab, *words, code, source="web"):
    result = lab.host("manager").exec(["netdiag", "diagnose", source, *words, "--output", "json"], check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def said(report):
    """The findings by their check."""
    return {found["check"]: found for found in report["findings"]}


VIA = ("--via", "ssh")


def test_a_virtual_ip_is_told_with_its_tasks(cluster):
    """This kernel has no IPVS: the tasks answer, and the virtual IP leads to none of them."""
    report = diagnose(cluster, "db:80", *VIA, code=1)
    (cause,) = report["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("overlay.ipvs", "manager", "proven")
    assert cause["object"]["feature"] == "ip_vs"
    assert any("1 of the 1 that were tried answer" in found["summary"] for found in report["findings"])
    found = said(report)
    assert found["path.attempt"]["state"] == "ok"
    assert "the name server 127.0.0.11" in found["path.name"]["summary"]


@pytest.mark.parametrize("name", ["tasks.db", "db.1", "address"])
def test_a_task_is_reached_by_its_own_names(cluster, name):
    if name == "address":
        listed = within(cluster.host("manager"), "web", ["nslookup", "tasks.db"]).stdout
        name = listed.rpartition("Address: ")[2].split()[0]
    report = diagnose(cluster, f"{name}:80", *VIA, code=0)
    assert report["causes"] == []
    assert "db.1" in said(report)["path.attempt"]["summary"]


def test_the_virtual_ip_itself_means_the_service(cluster):
    services = cluster.host("manager").docker.services(filters={"name": "db"})
    virtual = services[0]["Endpoint"]["VirtualIPs"][0]["Addr"].partition("/")[0]
    report = diagnose(cluster, f"{virtual}:80", *VIA, code=1)
    assert [cause["code"] for cause in report["causes"]] == ["overlay.ipvs"]


@pytest.mark.parametrize(
    ("file", "text", "server", "answer"),
    [
        ("resolv.conf", "nameserver 192.0.2.53\n", "192.0.2.53", "192.0.2.53 does not answer"),
        ("hosts", "127.0.0.1 localhost\n10.0.1.99 db\n", "hosts", "10.0.1.99"),
    ],
)
def test_a_resolver_that_is_wrong(cluster, file, text, server, answer):
    manager = cluster.host("manager")
    path = f"/etc/{file}"
    before = within(manager, "web", ["cat", path]).stdout
    write = ["docker", "exec", "-i", container_of(manager, "web"), "sh", "-c", f"cat > {path}"]
    manager.exec(write, stdin=text)
    try:
        report = diagnose(cluster, "db:80", *VIA, code=1)
    finally:
        manager.exec(write, stdin=before)
    cause = next(cause for cause in report["causes"] if cause["code"] == "container.dns")
    assert (cause["host"], cause["confidence"]) == ("manager", "proven")
    assert cause["object"] == {"kind": "name", "name": "db", "server": server, "answer": answer}
    # What the engine knows is tried all the same.
    assert said(report)["path.attempt"]["state"] == "ok"


def test_a_port_of_the_routing_mesh(cluster):
    """Without IPVS the engine sets up nothing behind the port, and the host refuses it itself."""
    manager = cluster.host("manager")
    manager.exec(["docker", "service", "update", "-d", "-q", "--publish-add", "8090:80", "db"])
    manager.exec(["docker", "service", "update", "-q", "--force", "db"], timeout_s=60.0)
    report = diagnose(cluster, "worker1:8090", *VIA, code=1, source="manager")
    (cause,) = report["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("overlay.ipvs", "worker1", "proven")
    assert cause["affects"] == ["published ports", "virtual IPs"]


def test_a_service_is_no_name_for_a_host(cluster):
    result = cluster.host("manager").exec(["netdiag", "diagnose", "manager", "db:80", *VIA], check=False)
    assert result.returncode == 2
    assert "a host does not reach it by that name" in result.stderr


def test_a_node_by_its_address(cluster):
    worker = cluster.host("worker1")
    report = diagnose(cluster, f"{worker.address}:22", *VIA, code=0, source="manager")
    assert "from manager to worker1" in said(report)["path.attempt"]["summary"]
