"""The story of a name that answers ping while ssh hangs, told with real engines and a real sshd in the containers."""

import json

import pytest

from netdiag.lab.balancer import stand_in
from netdiag.lab.process import until
from netdiag.lab.services import container_of, create_service, within
from netdiag.lab.topology import SSHD_IMAGE


@pytest.fixture(scope="module")
def shop(up):
    """Two services of an overlay network, one on each worker; the operator sits at the manager."""
    with up("story2") as lab:
        manager = lab.host("manager")
        for host in ("worker1", "worker2"):
            lab.break_("sshd", host=host)
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        for service, host in (("web", "worker1"), ("db", "worker2")):
            create(lab, service, host)
        stand_in(manager, lab.hosts.values(), "app")
        yield lab


@pytest.fixture(autouse=True)
def _whole(shop):
    """Every test begins where ssh works, and leaves it so."""
    before = len(shop.faults())
    assert ssh(shop).returncode == 0
    yield
    for fault in reversed(shop.faults()[before:]):
        shop.heal(fault)


def create(lab, service, host):
    create_service(lab.host("manager"), service, network="app", node=host, image=SSHD_IMAGE)


def ssh(lab):
    return within(lab.host("worker1"), "web", ["ssh", "-o", "ConnectTimeout=2", "db", "true"])


def diagnose(lab, code, destination="db:22", source="worker1/web"):
    words = ["netdiag", "diagnose", source, destination, "--via", "ssh", "--output", "json"]
    result = lab.host("manager").exec(words, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def named(report):
    """Every cause of a report with the rule that it names."""
    return [
        (cause["code"], cause["host"], cause["confidence"], cause["object"].get("chain"), cause["object"].get("number"))
        for cause in report["causes"]
    ]


def apply(lab, causes):
    """Run what every cause proposes; gives what undoes it."""
    undo = []
    for remedy in [remedy for cause in causes for remedy in cause["remedy"]]:
        for command in remedy["commands"]:
            lab.host(remedy["host"]).exec(["sh", "-c", command])
        undo += [(remedy["host"], command) for command in remedy["undo"]]
    return undo


def take_back(lab, undo):
    for host, command in undo:
        lab.host(host).exec(["sh", "-c", command])


def test_as_it_was_lived(shop):
    """Both workers have the INPUT of a stock CentOS: nothing of the swarm complains, and no container reaches another."""
    web_host = shop.host("worker1")
    for host in ("worker1", "worker2"):
        shop.break_("stateful-input", host=host)
    assert ssh(shop).returncode != 0
    assert within(web_host, "web", ["ping", "-c", "1", "-W", "2", "db"]).returncode == 0
    create(shop, "late", "worker2")
    until(lambda: within(web_host, "web", ["nslookup", "late"]).returncode == 0, 10.0, "the new name")

    report = diagnose(shop, 1)
    assert named(report) == [("firewall.rule", host, "proven", "INPUT", 5) for host in ("worker2", "worker1")]
    (note,) = [item for found in report["findings"] for item in found["evidence"] if item["kind"] == "note"]
    assert note["data"]["code"] == "overlay.address-is-vip"
    assert note["data"]["answered_by"] == "lb:app"

    undo = apply(shop, report["causes"])
    assert ssh(shop).returncode == 0
    assert diagnose(shop, 0)["causes"] == []
    take_back(shop, undo)
    shop.host("manager").exec(["docker", "service", "rm", "late"])


VARIANTS = {
    "OUTPUT": ("worker1", {"chain": "OUTPUT", "proto": "udp", "dport": "4789"}, "firewall.rule"),
    "by length": (
        "worker2",
        {"chain": "INPUT", "proto": "udp", "dport": "4789", "extra": "-m length --length 90:2000"},
        "firewall.rule",
    ),
    "answers only": ("worker1", {"chain": "INPUT", "proto": "udp", "dport": "4789"}, "firewall.rule"),
    "in the container": ("worker2", {"chain": "INPUT", "proto": "tcp", "dport": "22"}, "firewall.container"),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_one_rule(variant, shop):
    host, rule, code = variant
    inside = {"netns": f"container:{container_of(shop.host(host), 'db')}"} if code == "firewall.container" else {}
    shop.break_("drop", host=host, **rule, **inside)
    assert ssh(shop).returncode != 0
    report = diagnose(shop, 1)
    assert named(report) == [(code, host, "proven", rule["chain"], 1)]
    undo = apply(shop, report["causes"])
    assert ssh(shop).returncode == 0
    diagnose(shop, 0)
    take_back(shop, undo)


def test_a_published_port_that_docker_user_stops(shop):
    worker = shop.host("worker2")
    worker.exec(["docker", "run", "-d", "--name", "gate", "-p", "2222:22", SSHD_IMAGE])
    fault = shop.break_("drop", host="worker2", chain="DOCKER-USER", proto="tcp", dport=22, interface="eth0")
    report = diagnose(shop, 1, "worker2:2222")
    assert named(report) == [("firewall.rule", "worker2", "proven", "DOCKER-USER", 1)]
    undo = apply(shop, report["causes"])
    login = within(shop.host("worker1"), "web", ["ssh", "-p", "2222", worker.address, "true"])
    assert login.returncode == 0, login.stderr
    diagnose(shop, 0, "worker2:2222")
    take_back(shop, undo)
    shop.heal(fault)


def test_a_task_is_named_by_its_number_and_its_address(shop):
    report = diagnose(shop, 0, "db.1:22")
    assert "db.1" in report["findings"][-1]["summary"] or "db.1" in json.dumps(report)


def test_which_of_several_is_asked(shop):
    manager = shop.host("manager")
    words = ["netdiag", "diagnose", "worker2/web", "db:22", "--via", "ssh"]
    result = manager.exec(words, check=False)
    assert result.returncode == 2
    assert "SOURCE 'web'" in result.stderr
