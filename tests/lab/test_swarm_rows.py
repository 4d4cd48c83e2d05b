"""What is wrong with a swarm or with this host's way to it, each injected, named and healed, and its look-alike."""

import json
import shlex

import pytest

from netdiag.lab import swarm
from netdiag.lab.process import until
from tests.lab.asking import Answered, ask, preflight

SETTINGS = "/etc/docker/daemon.json"


@pytest.fixture
def hosts(swarm2_lab):
    """A manager with a swarm of its own, and a host that is in none; they reach each other."""
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    reachable(worker, manager)
    return manager, worker


@pytest.fixture
def joined(swarm2_lab, hosts):
    """The same two, both in the swarm; undone afterwards."""
    manager, worker = hosts
    assert swarm2_lab.swarm_join("worker", "manager").joined
    swarm.await_ready(manager, [manager, worker])
    yield manager, worker
    swarm2_lab.swarm_leave("worker")
    for node in swarm.nodes(manager):
        if node["ID"] != swarm.node_id(manager):
            manager.docker.remove_node(node["ID"], force=True)


def reachable(host, other):
    """Wait until a cut that was healed is forgotten: a neighbour that did not answer is not asked again at once."""
    ping = ["ping", "-c", "1", "-W", "1", other.address]
    until(lambda: host.exec(ping, check=False).returncode == 0, 20, f"{other.name} to answer")


def run(host, commands):
    for command in commands:
        host.exec(["sh", "-c", command])


def reload(host):
    """The engine reads its settings again; no service manager runs on a lab host."""
    host.exec(["sh", "-c", "kill -HUP $(cat /run/docker.pid)"])


def live_restore(host):
    return json.loads(host.exec(["docker", "info", "--format", "{{json .LiveRestoreEnabled}}"]).stdout)


def test_an_engine_setting_that_no_swarm_can_have(hosts):
    manager, worker = hosts
    worker.path(SETTINGS).parent.mkdir(parents=True, exist_ok=True)
    worker.path(SETTINGS).write_text('{"live-restore": true, "debug": false}\n')
    try:
        reload(worker)
        until(lambda: live_restore(worker), 10, "live-restore")
        said = preflight(worker, manager.address, expect=1)
        cause = said.cause("swarm.engine-setting")
        assert (cause["confidence"], cause["host"], cause["object"]["key"]) == ("proven", "worker", "live-restore")
        assert said.answers["join"] == "no"
        off, *_ = cause["remedy"][0]["commands"]
        worker.exec(shlex.split(off))
        reload(worker)
        until(lambda: not live_restore(worker), 10, "live-restore to be off")
        assert "swarm.engine-setting" not in preflight(worker, manager.address, expect=0).codes()
    finally:
        worker.path(SETTINGS).unlink()
        reload(worker)
        until(lambda: not live_restore(worker), 10, "live-restore to be off")


def test_an_advertised_address_that_is_not_this_hosts(swarm2_lab, hosts):
    manager, worker = hosts
    said = preflight(worker, manager.address, "--advertise-addr", "10.71.0.77")
    cause = said.cause("swarm.advertise-address")
    assert (cause["host"], cause["object"]["address"]) == ("worker", "10.71.0.77")
    assert "no address of this host" in cause["explanation"]
    # Its own address, by number or by device, is none of these.
    for good in (worker.address, "eth0"):
        assert "swarm.advertise-address" not in preflight(worker, manager.address, "--advertise-addr", good).codes()
    # A second address, from which nothing leaves for the manager.
    swarm2_lab.break_("address", host="worker", address="10.99.0.2/24")
    said = preflight(worker, manager.address, "--advertise-addr", "10.99.0.2")
    assert "routing sends with" in said.cause("swarm.advertise-address")["explanation"]


def test_a_second_manager(swarm2_lab, hosts):
    manager, worker = hosts
    token = swarm2_lab.manager_token("manager")
    assert "swarm.quorum-risk" not in ask(manager, "verify", "swarm").codes()
    worker.exec(["docker", "swarm", "join", "--token", token, f"{manager.address}:2377"], timeout_s=40)
    try:
        until(lambda: len(managers(manager)) == 2, 20, "both to be managers")
        said = ask(manager, "verify", "swarm")
        cause = said.cause("swarm.quorum-risk")
        assert (cause["object"]["total"], cause["object"]["needed"], cause["confidence"]) == (2, 2, "proven")
    finally:
        node = swarm.node_id(worker)
        manager.exec(["docker", "node", "demote", node])
        until(lambda: len(managers(manager)) == 1, 20, "one to be a manager")
        swarm2_lab.swarm_leave("worker")
        manager.docker.remove_node(node, force=True)
    assert "swarm.quorum-risk" not in ask(manager, "verify", "swarm").codes()


def managers(host):
    return [node for node in swarm.nodes(host) if node.get("ManagerStatus", {}).get("Reachability") == "reachable"]


def test_what_an_older_swarm_left(hosts):
    manager, worker = hosts
    root = worker.exec(["docker", "info", "--format", "{{.DockerRootDir}}"]).stdout.strip()
    left = worker.path(f"{root}/swarm")
    before = {path.name for path in left.glob("**/*")} if left.exists() else set()
    assert "swarm.stale-state" not in preflight(worker, manager.address).codes()
    worker.exec(["mkdir", "-p", f"{root}/swarm/certificates"])
    worker.exec(["sh", "-c", f"echo old > {root}/swarm/certificates/swarm-node.crt"])
    said = preflight(worker, manager.address)
    cause = said.cause("swarm.stale-state")
    assert (cause["host"], cause["object"]["path"], cause["confidence"]) == ("worker", f"{root}/swarm", "possible")
    moves = [command for command in cause["remedy"][0]["commands"] if command.startswith("mv")]
    run(worker, moves)
    assert "swarm.stale-state" not in preflight(worker, manager.address).codes()
    run(worker, [command for command in cause["remedy"][0]["undo"] if command.startswith("mv")])
    worker.exec(["rm", "-r", f"{root}/swarm/certificates"])
    assert {path.name for path in left.glob("**/*")} == before


def test_tasks_that_stay_where_they_were(joined):
    manager, worker = joined
    words = ["docker", "service", "create", "--detach", "--no-resolve-image", "--name", "old", "--replicas", "4"]
    manager.exec(["docker", "node", "update", "--availability", "drain", swarm.node_id(worker)])
    manager.exec([*words, "netdiag/busybox:lab", "sleep", "600"])
    try:
        until(lambda: len(running(manager)) == 4, 30, "four tasks")
        manager.exec(["docker", "node", "update", "--availability", "active", swarm.node_id(worker)])
        until(lambda: all(node["Spec"]["Availability"] == "active" for node in swarm.nodes(manager)), 10, "the node")
        said = ask(manager, "verify", "swarm")
        assert "swarm.not-rebalanced" in json.dumps(said.document["findings"])
        assert "swarm.not-rebalanced" not in said.codes()  # it is told, and nothing is broken
    finally:
        manager.docker.remove_service("old")


def running(manager):
    return [task for task in manager.docker.tasks() if task["Status"]["State"] == "running"]


def test_two_builds_of_one_tag(hosts):
    manager, worker = hosts
    for host in hosts:
        host.exec(["docker", "tag", "netdiag/busybox:lab", "shop/same:1"])
        host.exec(["sh", "-c", f"mkdir -p /run/build; echo {host.name} > /run/build/here"])
        host.exec(["sh", "-c", "tar -cC /run/build here | docker import - shop/app:1"])
    try:
        script = worker.exec(["netdiag", "script", "collect"]).stdout
        worker.path("run/theirs").write_text(manager.exec(["sh", "-s"], stdin=script).stdout)
        worker.exec(["netdiag", "collect", "-o", "/run/mine"])
        said = ask(worker, "analyze", "/run/mine", "/run/theirs")
        cause = said.cause("swarm.image-differs")
        ids = [image_id(host) for host in hosts]
        assert (cause["object"]["image"], cause["object"]["id"], cause["object"]["expected"]) == ("shop/app:1", *ids)
        # The right one is carried over, as the remedy says.
        worker.exec(["sh", "-c", "docker save shop/app:1 > /run/app.tar"])
        manager.path("run/app.tar").write_bytes(worker.path("run/app.tar").read_bytes())
        manager.exec(["docker", "load", "-i", "/run/app.tar"])
        assert image_id(manager) == image_id(worker)
    finally:
        for host in hosts:
            host.exec(["docker", "image", "rm", "shop/app:1", "shop/same:1"])


def image_id(host):
    return host.exec(["docker", "image", "inspect", "--format", "{{.Id}}", "shop/app:1"]).stdout.strip()


@pytest.mark.parametrize("action", ["blackhole", "unreachable"])
def test_a_route_that_leads_nowhere(swarm2_lab, hosts, action):
    manager, worker = hosts
    swarm2_lab.break_("route", host="worker", action=action, to=f"{manager.address}/32")
    said = preflight(worker, manager.address, expect=1)
    cause = said.cause("underlay.no-route")
    assert (cause["confidence"], cause["host"]) == ("proven", "worker")
    assert (cause["object"]["type"], cause["object"]["destination"]) == (action, f"{manager.address}/32")
    run(worker, cause["remedy"][0]["commands"])
    assert preflight(worker, manager.address, expect=0).answers["join"] == "yes"
    run(worker, cause["remedy"][0]["undo"])


def test_a_route_that_leads_nowhere_else_is_nobodys_cause(swarm2_lab, hosts):
    manager, worker = hosts
    swarm2_lab.break_("route", host="worker", action="blackhole", to="10.72.0.0/24")
    assert "underlay.no-route" not in preflight(worker, manager.address, expect=0).codes()


def test_a_link_that_is_down(swarm2_lab, hosts):
    manager, worker = hosts
    swarm2_lab.break_("link-down", host="worker", side="fabric")
    said = preflight(worker, manager.address, expect=1)
    cause = said.cause("underlay.link-down")
    assert (cause["host"], cause["object"]["name"]) == ("worker", "eth0")
    swarm2_lab.heal_all()
    reachable(worker, manager)
    assert preflight(worker, manager.address, expect=0).answers["join"] == "yes"


def test_a_next_hop_that_does_not_answer(swarm2_lab, hosts):
    manager, worker = hosts
    assert preflight(worker, manager.address, expect=0).answers["join"] == "yes"
    swarm2_lab.break_("link-down", host="manager", side="fabric")
    # The kernel believes what it heard a moment ago, so that more than one thing may be wrong.
    said = preflight(worker, manager.address, expect=1)
    assert {cause["confidence"] for cause in said.document["causes"] if cause["code"].startswith("underlay.")} <= {
        "possible"
    }
    worker.exec(["ip", "neighbour", "flush", "dev", "eth0"])
    said = preflight(worker, manager.address, expect=1)
    cause = said.cause("underlay.neighbour")
    assert (cause["host"], cause["object"]["address"], cause["object"]["device"]) == ("worker", manager.address, "eth0")
    assert "underlay.link-down" not in said.codes()  # the link that is down is not this host's


def shifted(host, offset):
    """The variables with which a program on the host sees another time; how long something takes stays true."""
    (library,) = host.path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    place = "/" + str(library.relative_to(host.path("/")))
    return [f"LD_PRELOAD={place}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1"]


@pytest.mark.parametrize(("offset", "fault"), [("-30d", "not-yet-valid"), ("+400d", "expired")])
def test_a_certificate_that_this_clock_does_not_believe(hosts, offset, fault):
    manager, worker = hosts
    words = ["netdiag", "preflight", "swarm", "--manager", manager.address, "--output", "json"]
    result = worker.exec(["env", *shifted(worker, offset), *words], check=False, timeout_s=30)
    assert result.returncode == 1, result.stderr
    said = Answered(json.loads(result.stdout), result.returncode, result.stdout, result.stderr)
    causes = [one for one in said.document["causes"] if one["code"] == "swarm.certificate-clock"]
    named = {(one["host"], one["confidence"], one["object"]["fault"]) for one in causes}
    assert named == {("worker", "proven", fault)}, said.codes()
    # A few days fast is no such thing: the certificate is valid still.
    result = worker.exec(["env", *shifted(worker, "+5d"), *words], check=False, timeout_s=30)
    assert "swarm.certificate-clock" not in result.stdout
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("offset", "told"), [("+90s", True), ("-90s", True), ("+0.2s", False)])
def test_a_clock_that_is_off_as_both_sides_tell(swarm2_lab, hosts, offset, told):
    manager, worker = hosts
    settings = manager.path("/etc/ssh/sshd_config.d/clock.conf")
    settings.write_text("SetEnv " + " ".join(shifted(manager, offset)) + "\n")
    try:
        swarm2_lab.break_("sshd", host="manager")
        said = preflight(worker, manager.address, "--via", "ssh")
    finally:
        settings.unlink()
    if not told:
        assert said.states("two-sides.clock") == {"ok"}
        assert "host.clock" not in said.codes()
        return
    assert "host.clock" in said.codes(), [one.get("reason") for one in said.findings("two-sides.examined")]
    cause = said.cause("host.clock")
    assert cause["confidence"] == "proven"
    assert abs(cause["object"]["offset_s"] - float(offset.rstrip("s"))) < 1
    assert cause["object"]["error_s"] < 1
