"""Two containers of an overlay network, on two hosts whose operators have nothing but three lines that they carry."""

import contextlib

import pytest

from netdiag.lab.process import until
from netdiag.lab.services import container_of, create_service, within
from netdiag.lab.topology import SSHD_IMAGE
from tests.lab.pasting import CODE, SideOf, both, completed

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
def healed(lab, report, host):
    """With what a host's report proposes for itself run, and undone afterwards."""
    remedies = [remedy for cause in report.document["causes"] for remedy in cause["remedy"] if remedy["host"] == host]
    (own,) = [remedy for remedy in remedies if remedy["undo"]]
    for command in own["commands"]:
        lab.host(host).exec(["sh", "-c", command])
    yield
    for command in own["undo"]:
        lab.host(host).exec(["sh", "-c", command])


def test_nothing_is_wrong_and_at_the_same_time_nobody_listens_on_another_port(shop):
    hosts = shop.host("worker1"), shop.host("worker2")
    idle = [SideOf(host, SOURCE, "worker2/db:8080", code="K3PQ-7XV2") for host in hosts]
    reports, answers = asked(shop)
    for report in reports:
        assert report.returncode == 0, report.stdout
        assert report.codes() == []
        assert "all 8 places" in report.findings("path.way")[0]["summary"]
        assert [found["state"] for found in report.findings("path.virtual-ip")] == ["skip"]
    for answer in answers:
        assert len(answer.splitlines()) == 3
        assert max(map(len, answer.splitlines())) < 80
    theirs = [side.answer() for side in idle]
    for side, answer in zip(idle, reversed(theirs), strict=True):
        assert said(side.paste(answer)) == [("container.no-listener", "worker2", "proven")]


def test_a_stock_input_of_either_host(shop):
    """As after an installation of CentOS: what comes back would be taken as well."""
    for host in ("worker1", "worker2"):
        shop.break_("stateful-input", host=host)
    reports, answers = asked(shop)
    again = completed(shop.host("manager"), SOURCE, DESTINATION, *answers)
    for report in (*reports, again):
        assert said(report) == [("firewall.rule", "worker2", "proven"), ("firewall.rule", "worker1", "likely")]
        assert {cause["object"]["chain"] for cause in report.document["causes"]} == {"INPUT"}
        assert report.document["causes"][0]["affects"] == ["overlay data"]
        assert "seen at eth0 of worker2, and not at vxlan0" in report.findings("path.loss")[0]["summary"]
    with healed(shop, reports[1], "worker2"):
        assert not connects(shop)
        with healed(shop, reports[0], "worker1"):
            assert connects(shop)


def test_a_rule_on_the_way_out_of_the_source_and_one_inside_the_container(shop):
    inside = f"container:{container_of(shop.host('worker2'), 'db')}"
    shop.break_("drop", host="worker1", chain="OUTPUT", proto="udp", dport="4789")
    shop.break_("drop", host="worker2", chain="INPUT", proto="tcp", dport="22", netns=inside)
    reports, _ = asked(shop)
    for report in reports:
        assert said(report) == [("firewall.rule", "worker1", "proven"), ("firewall.container", "worker2", "proven")]
        assert [cause["object"]["chain"] for cause in report.document["causes"]] == ["OUTPUT", "INPUT"]
    with healed(shop, reports[0], "worker1"):
        assert not connects(shop)
        with healed(shop, reports[1], "worker2"):
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
        with healed(shop, reports[0], "worker1"):
            assert connects(shop)
    finally:
        worker.exec([*entry, there])


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


def test_the_plan_names_the_places_of_this_side_and_echoes_between_the_hosts(shop):
    words = ["netdiag", "diagnose", SOURCE, DESTINATION, "--code", CODE, "--plan"]
    one, two = shop.host("worker1"), shop.host("worker2")
    for host, echo in ((one, (one, two)), (two, (two, one))):
        said = host.exec(words, timeout_s=10).stdout
        assert f"vxlan0 of overlay:app on {host.name}" in said
        assert f"two ICMP echoes from {echo[0].address} to {echo[1].address}" in said
