"""Who is meant: what a name is for the container that calls it, whose an address is, and containers of other kinds."""

import contextlib
import json

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from netdiag.lab.swarm import token
from netdiag.lab.topology import SwarmRole
from tests.lab.diagnosing import diagnose, healed, only_cause, said

IMAGE = "netdiag/busybox:lab"
WEB = ("httpd", "-f", "-p")


@pytest.fixture(scope="module")
def hosts(up):
    """Two engines of one swarm, and on them what a name can mean."""
    with up("swarm2") as lab:
        manager, worker = lab.host("manager"), lab.host("worker")
        for each in (manager, worker):
            lab.break_("sshd", host=each.name)
        worker.exec(["docker", "swarm", "join", "--token", token(manager, SwarmRole.WORKER), f"{manager.address}:2377"])
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        for name in ("shop", "aside"):
            manager.exec(["docker", "network", "create", name])
        run(manager, "front", "--network", "app")
        run(manager, "client", "--network", "shop")
        run(manager, "db-1", "--network", "shop", "--network-alias", "db", serve=80)
        run(manager, "lone", "--network", "aside", "-p", "8088:80", serve=80)
        run(manager, "plain")
        run(manager, "plain2", serve=80)
        run(manager, "back", serve=81)
        run(worker, "back", "--network", "app", serve=80)
        run(worker, "hosty", "--network", "host", serve=7070)
        run(manager, "beside", "--network", "container:front")
        worker.exec(
            [
                *("docker", "network", "create", "-d", "macvlan", "--subnet", "10.71.0.0/24", "--ip-range"),
                *("10.71.0.128/28", "-o", "parent=eth0", "lan"),
            ]
        )
        run(worker, "own-card", "--network", "lan", serve=80)
        run(worker, "local-only", "-p", "127.0.0.1:8085:80", serve=80)
        run(worker, "inner-only", "-p", "172.17.0.1:8090:80", serve=80)
        with listening(manager, "0.0.0.0:7070"):
            yield lab


def run(host, name, *words, serve=None):
    """A container, which serves a port or sleeps."""
    command = [*WEB, str(serve)] if serve else ["sleep", "100000"]
    host.exec(["docker", "run", "-d", "--name", name, *words, IMAGE, *command])


@contextlib.contextmanager
def listening(host, address):
    """A server of the host itself."""
    with host.popen(["busybox", "httpd", "-f", "-p", address]) as process:
        try:
            yield
        finally:
            end_group(process)


@contextlib.contextmanager
def container(host, name, *words, serve=None):
    """One for a test."""
    run(host, name, *words, serve=serve)
    try:
        yield
    finally:
        host.exec(["docker", "rm", "-f", name])


@contextlib.contextmanager
def rule(host, *words):
    """One rule of iptables, as long as it is wanted."""
    host.exec(["iptables", "-w", "-I", *words])
    try:
        yield
    finally:
        host.exec(["iptables", "-w", "-D", *words])


def found(report, check):
    return next(one for one in report["findings"] if one["check"] == check)


WORKING = {
    "an overlay's name, which a stray container of this host has as well": ("front", "back:80", "back on worker"),
    "an alias": ("client", "db:80", "db-1 on manager"),
    "the container's own loopback address": ("db-1", "localhost:80", "db-1 on manager to db-1"),
    "a container in another's namespace": ("beside", "worker/back:80", "back on worker"),
    "a container in its host's namespace, from another host": ("manager", "worker/hosty:7070", "to worker"),
    "a container in its host's namespace, from a container": ("client", "worker/hosty:7070", "to worker"),
    "a container with a card of its own": ("client", "worker/own-card:80", "own-card on worker"),
    "the same, from another host": ("manager", "worker/own-card:80", "own-card on worker"),
    "this host's port, from another": ("worker", "manager:8088", "lone on manager"),
}


@pytest.mark.parametrize(("source", "destination", "end"), WORKING.values(), ids=WORKING)
def test_whom_it_means_where_all_is_well(hosts, source, destination, end):
    report = diagnose(hosts, source, destination, code=0)
    assert report["causes"] == []
    assert end in found(report, "path.attempt")["summary"]


def test_the_engines_address_for_its_host(hosts):
    """What --add-host host.docker.internal:host-gateway makes, and a filter that takes what comes there."""
    manager = hosts.host("manager")
    words = ("--network", "shop", "--add-host", "host.docker.internal:host-gateway")
    with container(manager, "inward", *words):
        assert diagnose(hosts, "inward", "host.docker.internal:7070", code=0)["causes"] == []
        with rule(manager, "INPUT", "-i", "br+", "-p", "tcp", "--dport", "7070", "-j", "DROP"):
            cause = only_cause(diagnose(hosts, "inward", "host.docker.internal:7070", code=1))
            assert said(cause) == ("firewall.rule", "manager", "proven")
            with healed(hosts, cause):
                diagnose(hosts, "inward", "host.docker.internal:7070", code=0)


NAMELESS = {
    "of a network that the source is not in": ("client", "lone:80", {"container.dns", "container.not-attached"}),
    "in the default network": ("plain", "plain2:80", {"container.dns"}),
    "of somebody whom no resolver knows": ("client", "nobody.example:443", {"container.dns"}),
}


@pytest.mark.parametrize(("source", "destination", "codes"), NAMELESS.values(), ids=NAMELESS)
def test_a_name_that_no_program_can_use(hosts, source, destination, codes):
    report = diagnose(hosts, source, destination, code=1)
    assert {cause["code"] for cause in report["causes"]} == codes
    dns = next(cause for cause in report["causes"] if cause["code"] == "container.dns")
    assert (dns["host"], dns["object"]["name"]) == ("manager", destination.partition(":")[0])


def test_the_same_containers_pointed_at(hosts):
    """HOST/NAME points at a container, whatever the source calls it."""
    assert diagnose(hosts, "plain", "manager/plain2:80", code=0)["causes"] == []


def test_a_hosts_file_that_leads_elsewhere(hosts):
    with container(hosts.host("manager"), "stale", "--network", "shop", "--add-host", "db-1:10.71.0.99"):
        report = diagnose(hosts, "stale", "db-1:80", code=1)
    cause = only_cause(report)
    assert said(cause) == ("container.dns", "manager", "proven")
    assert (cause["object"]["server"], cause["object"]["answer"]) == ("hosts", "10.71.0.99")


def test_a_name_server_that_does_not_answer(hosts):
    with container(hosts.host("manager"), "deaf", "--dns", "10.71.0.99"):
        cause = only_cause(diagnose(hosts, "deaf", "some.example:443", code=1))
    assert (cause["code"], cause["object"]["server"]) == ("container.dns", "10.71.0.99")


def test_nobody_listens_on_a_containers_own_loopback_address(hosts):
    """The host listens on that port, and is not what the container reaches."""
    report = diagnose(hosts, "client", "localhost:7070", code=1)
    cause = only_cause(report)
    assert said(cause) == ("container.no-listener", "manager", "proven")
    assert "client on manager" in cause["explanation"]
    assert "client itself" in found(report, "path.ends")["summary"]


ELSEWHERE = {
    "the container that is published on loopback": ("worker/local-only:80", "container.loopback-listener", 8085),
    "the port that is published on another address": ("worker:8090", "container.no-listener", 8090),
}


@pytest.mark.parametrize(("destination", "code", "port"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_port_that_is_published_on_another_address_only(hosts, destination, code, port):
    cause = only_cause(diagnose(hosts, "manager", destination, code=1))
    assert said(cause) == (code, "worker", "proven")
    assert (cause["object"]["kind"], cause["object"]["port"]) == ("container", port)


IDLE = {
    "scaled to nothing": (["--replicas", "0"], ["sleep", "100000"], 0),
    "ends again and again": (["--replicas", "2", "--restart-delay", "1s"], ["false"], 2),
}


@pytest.mark.parametrize(("words", "command", "desired"), IDLE.values(), ids=IDLE)
def test_a_service_of_which_no_task_runs(hosts, words, command, desired):
    manager = hosts.host("manager")
    create = ["docker", "service", "create", "-d", "--name", "idle", "--network", "app", *words, IMAGE, *command]
    manager.exec(create)
    try:
        if desired:
            until(
                lambda: "non-zero exit" in manager.exec(["docker", "service", "ps", "--no-trunc", "idle"]).stdout,
                30.0,
                "a task that has ended",
            )
        cause = only_cause(diagnose(hosts, "front", "idle:80", code=1))
    finally:
        manager.exec(["docker", "service", "rm", "idle"])
    assert said(cause) == ("container.not-running", "manager", "proven")
    assert (cause["object"]["kind"], cause["object"]["name"], cause["object"]["desired"]) == (
        "service",
        "idle",
        desired,
    )
    assert bool(cause["object"]["error"]) == bool(desired)


def address_of(host, name, network):
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return host.exec(["docker", "inspect", "-f", form, name]).stdout.strip()


def test_two_networks_that_the_engine_keeps_apart(hosts):
    """By address nothing is to be opened in the filters: a network in common is what is missing."""
    manager = hosts.host("manager")
    there = f"{address_of(manager, 'lone', 'aside')}:80"
    cause = only_cause(diagnose(hosts, "plain", there, code=1))
    assert said(cause) == ("firewall.rule", "manager", "proven")
    assert [remedy["commands"] for remedy in cause["remedy"]] == [["docker network connect aside plain"]]
    with healed(hosts, cause):
        assert diagnose(hosts, "plain", there, code=0)["causes"] == []


def test_a_name_of_which_one_address_does_not_answer(hosts):
    manager = hosts.host("manager")
    own = address_of(manager, "db-1", "shop")
    words = ("--network", "shop", "--add-host", f"twin:{own}", "--add-host", "twin:10.71.0.99")
    with container(manager, "asker", *words):
        report = diagnose(hosts, "asker", "twin:80", code=0)
    (one,) = [each for each in report["findings"] if each["check"] == "path.addresses"]
    assert one["state"] == "warn"
    assert "10.71.0.99" in one["summary"]


def test_of_two_networks_the_one_whose_address_the_name_has(hosts):
    """A filter of the other network has no part in it."""
    manager = hosts.host("manager")
    with container(manager, "two", "--network", "shop", "--network-alias", "api", serve=80):
        manager.exec(["docker", "network", "connect", "aside", "two"])
        manager.exec(["docker", "network", "connect", "--alias", "pick", "aside", "client"])
        try:
            form = "{{.NetworkSettings.Networks.%s.IPAddress}}"
            here = {
                name: manager.exec(["docker", "inspect", "-f", form % name, "two"]).stdout.strip()
                for name in ("shop", "aside")
            }
            for network, address in here.items():
                report = diagnose(hosts, "client", f"{address}:80", code=0)
                assert json.dumps(report).count(address)
                other = here["aside" if network == "shop" else "shop"]
                assert other not in json.dumps(report)
            assert here["aside"] not in json.dumps(diagnose(hosts, "client", "api:80", code=0))
        finally:
            manager.exec(["docker", "network", "disconnect", "aside", "client"])
