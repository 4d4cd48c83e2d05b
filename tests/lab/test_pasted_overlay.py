"""Two containers of an overlay network, on two hosts whose operators have nothing but three lines that they carry."""

import contextlib

import pytest

from netdiag.lab.process import until
from netdiag.lab.services import container_of, create_service, within
from netdiag.lab.topology import SSHD_IMAGE
from tests.lab.pasting import both, completed

SOURCE, DESTINATION = "worker1/web", "worker2/db:22"


@pytest.fixture(scope="module")
def shop(up):
    """Two services of an overlay network, one on each worker; no host has a way to another. Both hosts have decoys."""
    with up("story2") as lab:
        manager = lab.host("manager")
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        for service, host in (("web", "worker1"), ("db", "worker2")):
            create_service(manager, service, network="app", node=host, image=SSHD_IMAGE)
        for host in ("worker1", "worker2"):
            lab.break_("drop", host=host, chain="INPUT", proto="udp", dport=4790)
            lab.break_("drop", host=host, chain="OUTPUT", proto="tcp", dport=2222)
        lab.break_(
            "drop", host="worker2", chain="INPUT", proto="tcp", dport=22
        )  # the host's own port, not the container's
        yield lab


@pytest.fixture(autouse=True)
def _whole(shop):
    before = len(shop.faults())
    until(lambda: connects(shop), 20.0, "the container's sshd")
    yield
    for fault in reversed(shop.faults()[before:]):
        shop.heal(fault)


def address(lab, host, service):
    form = '{{(index .NetworkSettings.Networks "app").IPAddress}}'
    name = container_of(lab.host(host), service)
    return lab.host(host).exec(["docker", "inspect", "-f", form, name]).stdout.strip()


def connects(lab):
    words = ["ssh", "-o", "ConnectTimeout=2", address(lab, "worker2", "db"), "true"]
    return within(lab.host("worker1"), "web", words).returncode == 0


def asked(lab, source=SOURCE, destination=DESTINATION):
    return both(lab.host("worker1"), lab.host("worker2"), source, destination)


def said(report):
    return [(cause["code"], cause["host"], cause["confidence"]) for cause in report.document["causes"]]


@contextlib.contextmanager
def healed(lab, reports, host):
    """With what the report of a host proposes for itself run, and undone afterwards."""
    remedies = [remedy for report in reports for cause in report.document["causes"] for remedy in cause["remedy"]]
    own = [remedy for remedy in remedies if remedy["host"] == host and remedy["undo"]]
    for command in own[0]["commands"]:
        lab.host(host).exec(["sh", "-c", command])
    yield
    for command in own[0]["undo"]:
        lab.host(host).exec(["sh", "-c", command])


def test_nothing_is_wrong(shop):
    reports, answers = asked(shop)
    for report in reports:
        assert report.returncode == 0, report.stdout
        assert report.codes() == []
        assert "all 8 places" in report.findings("path.way")[0]["summary"]
    for answer in answers:
        assert len(answer.splitlines()) == 3
        assert max(map(len, answer.splitlines())) < 80


def test_a_rule_of_the_destination(shop):
    shop.break_("drop", host="worker2", chain="INPUT", proto="udp", dport="4789")
    reports, answers = asked(shop)
    for report in reports:
        assert said(report) == [("firewall.rule", "worker2", "proven")]
        (cause,) = report.document["causes"]
        assert (cause["object"]["chain"], cause["object"]["number"]) == ("INPUT", 1)
        assert cause["affects"] == ["overlay data"]
    again = completed(shop.host("manager"), SOURCE, DESTINATION, *answers)
    assert said(again) == said(reports[0])
    with healed(shop, reports[1:], "worker2"):
        assert connects(shop)


def test_a_rule_of_the_source_and_one_of_the_destination(shop):
    """A stock INPUT of either side, as after an installation of CentOS: what comes back is taken as well."""
    for host in ("worker1", "worker2"):
        shop.break_("stateful-input", host=host)
    reports, _ = asked(shop)
    for report in reports:
        assert said(report) == [("firewall.rule", "worker2", "proven"), ("firewall.rule", "worker1", "likely")]
        assert {cause["object"]["chain"] for cause in report.document["causes"]} == {"INPUT"}
    with healed(shop, reports[1:], "worker2"), healed(shop, reports[:1], "worker1"):
        assert connects(shop)


def test_a_rule_on_the_way_out_of_the_source(shop):
    shop.break_("drop", host="worker1", chain="OUTPUT", proto="udp", dport="4789")
    reports, _ = asked(shop)
    for report in reports:
        assert said(report) == [("firewall.rule", "worker1", "proven")]
        assert report.document["causes"][0]["object"]["chain"] == "OUTPUT"
    with healed(shop, reports[:1], "worker1"):
        assert connects(shop)


def test_a_rule_inside_the_container(shop):
    inside = f"container:{container_of(shop.host('worker2'), 'db')}"
    shop.break_("drop", host="worker2", chain="INPUT", proto="tcp", dport="22", netns=inside)
    reports, _ = asked(shop)
    for report in reports:
        assert said(report) == [("firewall.container", "worker2", "proven")]
    with healed(shop, reports[1:], "worker2"):
        assert connects(shop)


def test_an_entry_that_leads_to_another_host(shop):
    worker, there = shop.host("worker1"), shop.host("worker2").address
    mac = "02:42:" + ":".join(f"{int(part):02x}" for part in address(shop, "worker2", "db").split("."))
    network = worker.exec(["docker", "network", "inspect", "-f", "{{.Id}}", "app"]).stdout.strip()
    enter = ["nsenter", f"--net=/run/docker/netns/1-{network[:10]}", "--"]
    entry = [*enter, "bridge", "fdb", "replace", mac, "dev", "vxlan0", "self", "permanent", "dst"]
    worker.exec([*entry, shop.host("manager").address])
    try:
        reports, _ = asked(shop)
        for report in reports:
            assert said(report) == [("overlay.fdb-stale", "worker1", "proven")], report.stdout
            thing = report.document["causes"][0]["object"]
            assert (thing["mac"], thing["vtep"], thing["expected"]) == (mac, shop.host("manager").address, there)
        with healed(shop, reports[:1], "worker1"):
            assert connects(shop)
    finally:
        worker.exec([*entry, there])


def test_nobody_listens_in_the_container(shop):
    reports, _ = asked(shop, destination="worker2/db:8080")
    for report in reports:
        assert said(report) == [("container.no-listener", "worker2", "proven")]


def test_the_network_between_takes_tunnels(shop):
    shop.break_("drop", host="fabric", proto="udp", dport=4789)
    reports, _ = asked(shop)
    for report in reports:
        # A few packets and one echo are too few to rule out chance.
        assert said(report) == [("underlay.filtered", None, "likely")], report.stdout
        thing = report.document["causes"][0]["object"]
        assert (thing["protocol"], thing["port"]) == ("udp", 4789)


@pytest.mark.parametrize(
    ("host", "ends", "says"),
    [
        ("manager", (SOURCE, DESTINATION), "is a container of this host"),
        ("worker1", (SOURCE, "worker1/web:22"), "both on this host"),
        ("worker1", (SOURCE, "worker2/bd:22"), "nobody in app is called so"),
        ("worker1", ("worker1/wbe", DESTINATION), "SOURCE 'wbe'"),
        ("worker1", (SOURCE, "worker2:22"), "nobody in app is called so"),
    ],
)
def test_ends_that_cannot_be(host, ends, says, shop):
    assert says in completed(shop.host(host), *ends)
