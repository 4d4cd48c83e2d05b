"""Two containers of an overlay network, on two hosts whose operators have nothing but three lines that they carry."""

import contextlib

import pytest

from netdiag.lab.services import container_of, create_service
from netdiag.lab.topology import SSHD_IMAGE
from tests.lab.pasting import both

ENDS = "worker1/web", "worker2/db:22"


@pytest.fixture(scope="module")
def shop(up):
    """Two services of an overlay network, one on each worker; nobody's host logs in to another."""
    with up("story2") as lab:
        manager = lab.host("manager")
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        for service, host in (("web", "worker1"), ("db", "worker2")):
            create_service(manager, service, network="app", node=host, image=SSHD_IMAGE)
        yield lab


def asked(lab, *ends):
    return both(lab.host("worker1"), lab.host("worker2"), *(ends or ENDS))


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
    reports, _ = asked(shop)
    for report in reports:
        (cause,) = report.document["causes"]
        assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "worker2", "proven"), report.stdout
