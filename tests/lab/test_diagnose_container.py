"""What is wrong in the container itself: its state, its networks, its routes, and a server that does not keep up."""

import contextlib

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from netdiag.lab.topology import SSHD_IMAGE
from tests.lab.diagnosing import diagnose, healed, inside, only_cause, said

IMAGE = "netdiag/busybox:lab"
OVERLAY = ("front", "worker1/back:80")


@pytest.fixture(scope="module")
def cluster(up):
    """Three engines; containers of one overlay network on two of them, and a published port."""
    with up("story2") as lab:
        manager, worker = lab.host("manager"), lab.host("worker1")
        lab.break_("sshd", host="worker1")
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        manager.exec(["docker", "run", "-d", "--network", "app", "--name", "front", IMAGE, "sleep", "100000"])
        manager.exec(["docker", "run", "-d", "--name", "client", IMAGE, "sleep", "100000"])
        worker.exec(["docker", "run", "-d", "--network", "app", "--name", "back", IMAGE, "httpd", "-f", "-p", "80"])
        worker.exec(["docker", "run", "-d", "--name", "store", "-p", "8081:80", IMAGE, "httpd", "-f", "-p", "80"])
        yield lab


@pytest.fixture
def spare(cluster):
    """A second server on the network, which a test may stop, detach, or keep busy."""
    worker = cluster.host("worker1")
    worker.exec(
        [
            "docker",
            "run",
            "-d",
            "--stop-timeout",
            "0",
            "--network",
            "app",
            "--name",
            "spare",
            IMAGE,
            "httpd",
            "-f",
            "-p",
            "80",
        ]
    )
    yield "worker1/spare:80"
    worker.exec(["docker", "rm", "-f", "spare"])


@pytest.mark.parametrize(("verb", "state"), [(["stop", "-t", "0"], "exited"), (["pause"], "paused")])
def test_the_container_does_not_run(cluster, spare, verb, state):
    cluster.host("worker1").exec(["docker", *verb, "spare"])
    cause = only_cause(diagnose(cluster, "front", spare, code=1))
    assert said(cause) == ("container.not-running", "worker1", "proven")
    assert (cause["object"]["name"], cause["object"]["state"]) == ("spare", state)
    plan = ["netdiag", "diagnose", "front", spare, "--via", "ssh", "--plan"]
    assert cluster.host("manager").exec(plan).stdout.endswith(f"spare is {state}.\nNothing would be tried.\n")
    with healed(cluster, cause):
        diagnose(cluster, "front", spare, code=0)


def test_the_source_does_not_run(cluster):
    manager = cluster.host("manager")
    manager.exec(["docker", "create", "--network", "app", "--name", "idle", IMAGE, "sleep", "100000"])
    try:
        cause = only_cause(diagnose(cluster, "idle", "worker1/back:80", code=1))
        assert said(cause) == ("container.not-running", "manager", "proven")
        assert (cause["object"]["name"], cause["object"]["state"]) == ("idle", "created")
    finally:
        manager.exec(["docker", "rm", "-f", "idle"])


def test_one_that_was_replaced_is_not_blamed(cluster, spare):
    """The engine keeps a dead container beside the one that took its place under the same beginning of a name."""
    worker = cluster.host("worker1")
    worker.exec(["docker", "create", "--name", "spare.1.old", "--network", "app", IMAGE, "sleep", "1"])
    try:
        assert diagnose(cluster, "front", spare, code=0)["causes"] == []
    finally:
        worker.exec(["docker", "rm", "-f", "spare.1.old"])


@pytest.mark.parametrize("other", [None, "bridge"])
def test_the_container_is_not_in_the_network(cluster, spare, other):
    worker = cluster.host("worker1")
    worker.exec(["docker", "network", "disconnect", "app", "spare"])
    if other is not None:
        worker.exec(["docker", "network", "connect", other, "spare"])
    cause = only_cause(diagnose(cluster, "front", spare, code=1))
    assert said(cause) == ("container.not-attached", "worker1", "proven")
    assert (cause["object"]["name"], cause["object"]["network"]) == ("spare", "app")
    with healed(cluster, cause):
        diagnose(cluster, "front", spare, code=0)


def test_a_published_port_needs_no_network_in_common(cluster):
    assert diagnose(cluster, "front", "worker1/store:80", code=0)["causes"] == []


@contextlib.contextmanager
def without_route(lab, host, container, *route):
    """A container without one of its routes."""
    enter = inside(lab, host, container)
    (line,) = lab.host(host).exec([*enter, "ip", "route", "show", *route]).stdout.splitlines()
    lab.host(host).exec([*enter, "ip", "route", "delete", *line.split()])
    try:
        yield line.split()[0]
    finally:
        lab.host(host).exec([*enter, "ip", "route", "replace", *line.split()])


ROUTES = {
    "the answer's": ("manager", "worker1:8081", "worker1", "store", "default"),
    "the request's": ("client", "worker1:8081", "manager", "client", "default"),
    "the answer's, in an overlay": (*OVERLAY, "worker1", "back", "10.0.1.0/24"),
    "the request's, in an overlay": (*OVERLAY, "manager", "front", "10.0.1.0/24"),
}


@pytest.mark.parametrize("row", ROUTES.values(), ids=ROUTES)
def test_a_route_of_the_container_is_gone(cluster, row):
    source, destination, host, container, route = row
    with without_route(cluster, host, container, route):
        cause = only_cause(diagnose(cluster, source, destination, code=1))
        assert said(cause) == ("container.route", host, "proven")
        assert cause["object"]["namespace"] == f"container:{container}"
        assert cause["object"]["expected"].split()[0] == route
        with healed(cluster, cause):
            diagnose(cluster, source, destination, code=0)


def test_the_default_route_does_not_matter_within_an_overlay(cluster):
    with without_route(cluster, "worker1", "back", "default"):
        assert diagnose(cluster, *OVERLAY, code=0)["causes"] == []


@contextlib.contextmanager
def stopped(lab, host, container):
    """A server that is up and does nothing: its process is stopped."""
    pid = lab.host(host).exec(["docker", "inspect", "-f", "{{.State.Pid}}", container]).stdout.strip()
    lab.host(host).exec(["kill", "-STOP", pid])
    try:
        yield
    finally:
        lab.host(host).exec(["kill", "-CONT", pid])


FILL = """
import socket
for _ in range(64):
    with socket.socket() as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(("127.0.0.1", 80))
        except TimeoutError:
            break
else:
    raise SystemExit("its queue takes more than 64")
"""


def test_a_server_that_does_not_accept_until_its_queue_is_full(cluster, spare):
    enter = inside(cluster, "worker1", "spare")
    with stopped(cluster, "worker1", "spare"):
        cause = only_cause(diagnose(cluster, "front", spare, code=1))
        assert said(cause) == ("service.slow-answer", "worker1", "proven")
        assert (cause["object"]["stage"], cause["object"]["port"]) == ("accept", 80)

        cluster.host("worker1").exec([*enter, "python3", "-c", FILL])
        cause = only_cause(diagnose(cluster, "front", spare, code=1))
        assert said(cause) == ("container.backlog", "worker1", "proven")
        named = cause["object"]
        assert (named["port"], named["process"], named["queue"]) == (80, "httpd", "accept")
        assert named["waiting"] > 1
        # A rule for invalid packets that no answer has met explains nothing: there was none.
        invalid = ["OUTPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"]
        cluster.host("worker1").exec([*enter, "iptables", "-A", *invalid])
        assert said(only_cause(diagnose(cluster, "front", spare, code=1))) == ("container.backlog", "worker1", "proven")
        cluster.host("worker1").exec([*enter, "iptables", "-D", *invalid])
    assert diagnose(cluster, "front", spare, code=0)["causes"] == []
    # What was dropped stays counted, and says nothing of a packet that a rule takes now.
    cluster.host("worker1").exec([*enter, "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"])
    assert said(only_cause(diagnose(cluster, "front", spare, code=1)))[0] == "firewall.container"


def overlay(lab, host):
    """What enters the overlay's namespace on a host."""
    network = lab.host(host).exec(["docker", "network", "inspect", "-f", "{{.Id}}", "app"]).stdout.strip()
    return ["nsenter", f"--net=/run/docker/netns/1-{network[:10]}", "--"]


def device_of(lab, host, container):
    """Address and hardware address of a container in the overlay."""
    form = '{{with index .NetworkSettings.Networks "app"}}{{.IPAddress}} {{.MacAddress}}{{end}}'
    address, mac = lab.host(host).exec(["docker", "inspect", "-f", form, container]).stdout.split()
    return address, mac


@pytest.mark.parametrize("side", ["manager", "worker1"])
@pytest.mark.parametrize("wrong", [None, "02:42:0a:00:01:99"], ids=["missing", "wrong"])
def test_the_overlay_s_neighbour_entry(cluster, side, wrong):
    here, there = (("manager", "front"), ("worker1", "back"))[:: 1 if side == "manager" else -1]
    host, (address, mac) = cluster.host(side), device_of(cluster, *there)
    entry = [*overlay(cluster, side), "ip", "neigh", "replace", address, "dev", "vxlan0", "nud", "permanent", "lladdr"]
    if wrong is None:
        host.exec([*overlay(cluster, side), "ip", "neigh", "del", address, "dev", "vxlan0"])
    else:
        host.exec([*entry, wrong])
    # What the container has learnt before would make up for it.
    host.exec([*inside(cluster, *here), "ip", "neigh", "flush", "to", address])
    try:
        cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
        assert said(cause) == ("overlay.neighbour", side, "proven")
        named = cause["object"]
        assert (named["address"], named["mac"], named["expected"]) == (address, wrong, mac)
        host.exec(["sh", "-c", cause["remedy"][0]["commands"][0]])
        host.exec([*inside(cluster, *here), "ip", "neigh", "flush", "to", address])
        diagnose(cluster, *OVERLAY, code=0)
    finally:
        host.exec([*entry, mac])


MUTE = """
import select, socket
ports, held = [], []
for number in (22, 7000):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0", number))
    sock.listen(8)
    ports.append(sock)
while True:
    for sock in select.select(ports, [], [])[0]:
        held.append(sock.accept())
"""


@pytest.fixture
def mute(cluster, spare):
    """A server beside it that accepts and never speaks, on ssh's port and on one of its own."""
    worker = cluster.host("worker1")
    enter = inside(cluster, "worker1", "spare")
    with worker.popen([*enter, "python3", "-c", MUTE]) as process:
        listening = [*enter, "ss", "-Hltn", "sport", "=", ":7000"]
        until(lambda: bool(worker.exec(listening).stdout), 10.0, "the mute server")
        yield "worker1/spare"
        end_group(process)


def test_a_server_that_accepts_and_never_speaks(cluster, mute):
    report = diagnose(cluster, "front", f"{mute}:22", code=1)
    cause = only_cause(report)
    assert (cause["code"], cause["host"]) == ("service.slow-answer", "worker1")
    assert (cause["object"]["stage"], cause["object"]["port"]) == ("first-byte", 22)
    assert {found["check"]: found["state"] for found in report["findings"]} == {
        "path.attempt": "ok",
        "path.way": "ok",
        "path.served": "fail",
    }


def test_without_a_port_every_one_is_followed(cluster, mute):
    cause = only_cause(diagnose(cluster, "front", mute, code=1))
    assert (cause["code"], cause["object"]["port"]) == ("service.slow-answer", 22)


def test_a_server_that_waits_for_its_client_is_not_slow(cluster, mute):
    assert diagnose(cluster, "front", f"{mute}:7000", code=0)["causes"] == []
    assert diagnose(cluster, "front", f"{mute}:80", code=0)["causes"] == []


@pytest.fixture
def gate(cluster):
    """A real sshd in a container, at a published port, that looks up the names of its clients."""
    worker, manager = cluster.host("worker1"), cluster.host("manager")
    start = ["docker", "run", "-d", "--name", "gate", "-p", "2222:22", "--dns", manager.address]
    worker.exec([*start, SSHD_IMAGE, "/usr/sbin/sshd", "-D", "-e", "-o", "UseDNS=yes"])
    yield "worker1:2222"
    worker.exec(["docker", "rm", "-f", "gate"])


def test_an_sshd_whose_reverse_lookup_hangs(cluster, gate):
    # A server that refuses is known at once to give no answer: nothing hangs.
    assert diagnose(cluster, "manager", gate, code=0)["causes"] == []
    cluster.break_("drop", host="manager", proto="udp", dport=53)
    try:
        cause = only_cause(diagnose(cluster, "manager", gate, code=1))
        assert said(cause) == ("service.slow-answer", "worker1", "likely")
        assert (cause["object"]["stage"], cause["object"]["process"]) == ("reverse-lookup", "sshd")
        assert cause["object"]["server"] == cluster.host("manager").address
    finally:
        cluster.heal(cluster.faults()[-1])
