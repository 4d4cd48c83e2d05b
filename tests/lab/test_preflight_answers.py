"""Preflights that end at once: tokens, members, images, pools, names, and a host with nothing wrong."""

import json

import jsonschema
import pytest

from netdiag.lab import swarm
from tests.lab.asking import ask, preflight


@pytest.fixture
def joining(story1_lab):
    """A manager with a swarm and a worker that is in none, whatever a test before did."""
    yield story1_lab
    story1_lab.heal_all()
    story1_lab.swarm_leave("worker")
    manager = story1_lab.host("manager")
    for node in swarm.nodes(manager):
        if node["Spec"]["Role"] == "worker":
            manager.docker.remove_node(node["ID"], force=True)


@pytest.fixture
def named(joining):
    """The same two hosts with names of their own."""
    joining.break_("hostname", host="manager", name="alpha")
    joining.break_("hostname", host="worker", name="beta")
    return joining


def hosts(lab):
    return lab.host("manager"), lab.host("worker")


def test_clean_host_gets_a_yes_and_joins(named):
    manager, worker = hosts(named)
    token = named.worker_token("manager")
    said = preflight(worker, manager.address, token=token, expect=0)
    assert (said.answers["join"], said.answers["names"]) == ("yes", "unknown")
    assert said.answers["traffic"] in ("no", "unknown")  # a no where the kernel has no ip_vs; never a yes from one side
    assert said.document["verdict"] in ("ok", "warn")
    assert said.failed() == set()
    assert said.states("swarm.token.ca") == {"ok"}
    last = said.document["next"][-1]
    assert last["command"].startswith("docker swarm join --token")
    assert last["command"].endswith(f"{manager.address}:2377")
    schema = json.loads(worker.exec(["netdiag", "schema", "report"]).stdout)
    jsonschema.validate(said.document, schema)
    assert named.swarm_join("worker", "manager").joined
    verified = ask(manager, "verify", "swarm")
    assert verified.states("swarm.verify.nodes") == {"ok"}
    jsonschema.validate(verified.document, schema)


def test_token_of_another_swarm(named, swarm2_lab):
    manager, worker = hosts(named)
    foreign = swarm2_lab.worker_token("manager")
    said = preflight(worker, manager.address, token=foreign, expect=1)
    assert said.failed() == {("swarm.token.ca", "swarm.token")}
    assert said.cause("swarm.token")["confidence"] == "proven"
    outcome = named.swarm_join("worker", "manager", timeout_s=40, token=foreign)
    assert not outcome.joined
    assert "remote CA does not match fingerprint" in outcome.message


def test_cut_token(named):
    manager, worker = hosts(named)
    cut = named.worker_token("manager")[:-5]
    said = preflight(worker, manager.address, token=cut, expect=1)
    assert said.failed() == {("swarm.token.syntax", "swarm.token")}
    assert said.cause("swarm.token")["object"]["form"] == "cut"
    outcome = named.swarm_join("worker", "manager", token=cut)
    assert not outcome.joined
    assert "invalid join token" in outcome.message


def test_member_of_this_very_swarm_is_verified(named):
    manager, worker = hosts(named)
    assert named.swarm_join("worker", "manager").joined
    said = preflight(worker, manager.address, expect=0)
    assert said.states("swarm.member.state") == {"warn"}
    assert said.cause("swarm.already-member")["confidence"] == "proven"
    assert said.findings("swarm.verify.member")
    again = named.swarm_join("worker", "manager")
    assert not again.joined
    assert "already part of a swarm" in again.message


def test_member_of_another_swarm(named, swarm2_lab):
    manager, worker = hosts(named)
    worker.exec(["docker", "swarm", "init", "--advertise-addr", worker.address])
    said = preflight(worker, manager.address, expect=1)
    assert said.failed() == {("swarm.member.state", "swarm.already-member")}
    assert not named.swarm_join("worker", "manager").joined


def test_workers_address_as_manager(swarm3_lab, named):
    third, worker = swarm3_lab.host("worker2"), swarm3_lab.host("worker1")
    swarm3_lab.swarm_leave("worker2")
    said = preflight(third, worker.address, expect=1)
    assert said.failed() == {("swarm.manager.tcp", "swarm.not-manager")}
    assert said.cause("swarm.not-manager")["host"] == worker.address
    result = third.exec(
        ["docker", "swarm", "join", "--token", swarm3_lab.worker_token("manager"), f"{worker.address}:2377"],
        check=False,
        timeout_s=40,
    )
    assert result.returncode != 0
    assert "connection refused" in result.stderr


def test_missing_image(named):
    manager, worker = hosts(named)
    said = preflight(worker, manager.address, "--image", "netdiag/busybox:lab", expect=1)
    assert said.failed() == {("swarm.image", "swarm.image-missing")}
    assert said.cause("swarm.image-missing")["object"]["name"] == "netdiag/busybox:lab"
    assert said.answers["join"] == "yes"
    assert named.swarm_join("worker", "manager").joined  # joining is not what it breaks
    here = ask(manager, "preflight", "swarm", "--manager", manager.address, "--image", "netdiag/busybox:lab")
    assert here.states("swarm.image") == {"ok"}


def test_pool_overlap(named):
    manager, worker = hosts(named)
    worker.exec(["ip", "route", "add", "10.0.0.0/24", "via", manager.address])
    try:
        said = preflight(worker, manager.address)
        assert said.states("swarm.pool.overlap") == {"warn"}  # it joins; what it may break is traffic
        cause = said.cause("swarm.address-pool")
        # Which pool the swarm has is seen on its managers only; the default is assumed.
        assert (cause["object"]["other"], cause["confidence"]) == ("10.0.0.0/24", "possible")
        assert said.answers["join"] == "yes"
        (finding,) = said.findings("swarm.pool.overlap")
        assert finding["answers"] == {"traffic": "unknown"}
        # On a manager the pool is known.
        manager.exec(["ip", "route", "add", "10.0.0.0/24", "via", worker.address])
        there = ask(manager, "verify", "swarm")
        assert there.cause("swarm.address-pool")["confidence"] == "likely"
        assert named.swarm_join("worker", "manager").joined
    finally:
        worker.exec(["ip", "route", "del", "10.0.0.0/24"])
        manager.exec(["ip", "route", "del", "10.0.0.0/24"], check=False)


def test_same_hostname(joining):
    joining.reset_swarm()  # an engine tells its swarm a new hostname only then
    manager, worker = hosts(joining)
    said = preflight(worker, manager.address, expect=0)
    assert said.states("host.name") == {"warn"}
    assert said.cause("host.name-duplicate")["confidence"] == "possible"  # the other's name is not known from here
    assert said.answers["join"] == "yes"
    assert joining.swarm_join("worker", "manager").joined
    verified = ask(manager, "verify", "swarm")
    twin = verified.cause("host.name-duplicate")
    assert twin["confidence"] == "proven"
    assert twin["object"]["name"] == "localhost.localdomain"


def test_stock_stateful_input_on_the_worker_lets_it_join_and_no_more(named):
    manager, worker = hosts(named)
    named.break_("stateful-input", host="worker")
    said = preflight(worker, manager.address, expect=0)
    assert said.answers["join"] == "yes"
    # Gossip from this side opens its own way back through conntrack, so names may well resolve; VXLAN has no way back.
    assert (said.answers["names"], said.answers["traffic"]) == ("unknown", "no")
    cause = said.cause("firewall.rule")
    assert cause["confidence"] == "proven"
    assert "REJECT" in cause["object"]["text"]
    preflight(worker, manager.address, "--need", "traffic", expect=1)
    assert named.swarm_join("worker", "manager").joined
