"""What lies between two plain hosts, asked from the first by ssh: connections by their ports, addresses, neighbours, routes."""

import contextlib
import json

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

VIA = ("--via", "ssh")
WEB = {"proto": "tcp", "dport": 7000}


@pytest.fixture(scope="module")
def hosts(up):
    """Two hosts without engines; the second has a web server and a real sshd."""
    with up("pair") as lab:
        lab.break_("sshd", host="two")
        with lab.host("two").popen(["busybox", "httpd", "-f", "-p", "0.0.0.0:7000"]) as process:
            until(lambda: lab.host("two").exec(["ss", "-Hltn", "sport = :7000"]).stdout, 5.0, "the web server")
            try:
                yield lab
            finally:
                end_group(process)


def diagnose(lab, destination="two:7000", via=VIA, code=1):
    """The report of a diagnosis on host one, with its exit code as expected."""
    words = ["netdiag", "diagnose", "one", destination, *via, "--output", "json"]
    result = lab.host("one").exec(words, check=False, timeout_s=60)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def codes(report):
    return [cause["code"] for cause in report["causes"]]


@pytest.fixture
def broken(hosts):
    """Breaks something for one test."""
    with contextlib.ExitStack() as stack:

        def do(fault, **values):
            made = hosts.break_(fault, **values)
            stack.callback(lambda: hosts.heal(made) if made in hosts.faults() else None)
            return made

        yield do


def test_healthy_with_a_port_and_without(hosts):
    assert codes(diagnose(hosts, code=0)) == []
    report = diagnose(hosts, "two", code=0)
    assert report["causes"] == []
    assert {found["state"] for found in report["findings"] if found["check"] == "path.between"} == {"ok"}


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_port_that_is_filtered_between(hosts, broken, way):
    ports = {"dport": 7000} if way == "there" else {"sport": 7000}
    fault = broken("drop", host="fabric", proto="tcp", **ports)
    (cause,) = diagnose(hosts)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.filtered", None, "proven")
    assert cause["object"]["hosts"] == (["one", "two"] if way == "there" else ["two", "one"])
    assert (cause["object"]["protocol"], cause["object"]["port"]) == ("tcp", 7000)
    hosts.heal(fault)
    assert codes(diagnose(hosts, code=0)) == []


def test_connections_that_die_by_their_source_port(hosts, broken):
    """Half of them, without a port named: packets go to the first port that is open."""
    with hosts.host("two").popen(["busybox", "httpd", "-f", "-p", "0.0.0.0:20"]) as process:
        try:
            until(lambda: hosts.host("two").exec(["ss", "-Hltn", "sport = :20"]).stdout, 5.0, "the second server")
            fault = broken("flow-hash", members=2, proto="tcp", source=hosts.host("one").address, dport=20)
            (cause,) = diagnose(hosts, "two")["causes"]
            hosts.heal(fault)
            assert codes(diagnose(hosts, "two", code=0)) == []
        finally:
            end_group(process)
    assert (cause["code"], cause["object"]["hosts"]) == ("underlay.flow-hash", ["one", "two"])
    assert (cause["object"]["protocol"], cause["object"]["port"]) == ("tcp", 20)
    assert 0.2 < cause["object"]["share"] < 0.8


def test_loss_of_everything_one_way(hosts, broken):
    broken("loss", percent=15, destination=hosts.host("one").address)
    report = diagnose(hosts, "two")
    assert codes(report) == ["underlay.loss"]
    said = report["causes"][0]["object"]
    assert (said["hosts"], said["protocol"]) == (["two", "one"], None)
    assert 0.05 < said["rate"] < 0.3


@pytest.mark.parametrize(("address", "code"), [("10.71.0.254", 0), ("10.71.0.77", 1)])
def test_a_translated_address(hosts, broken, address, code):
    """To one that leads back, which stops nothing here, and to one that does not."""
    one = hosts.host("one").address
    fault = broken("nat", source=one, to=address, **WEB)
    (cause,) = diagnose(hosts, code=code)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.nat", None, "proven")
    assert (cause["object"]["before"], cause["object"]["after"]) == (one, address)
    hosts.heal(fault)
    assert codes(diagnose(hosts, code=0)) == []


def test_a_first_packet_that_is_lost(hosts, broken):
    broken("lose-first", bytes=90, **WEB)
    report = diagnose(hosts, code=0)
    assert codes(report) == []
    assert "at try 2" in report["findings"][0]["summary"]
