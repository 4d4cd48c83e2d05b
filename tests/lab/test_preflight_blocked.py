"""What keeps a host from joining, each with its own verdict, and what docker swarm join then really does."""

import pytest

from netdiag.lab import swarm
from netdiag.lab.process import until
from tests.lab.asking import ask, preflight


@pytest.fixture
def joining(swarm2_lab):
    """A manager with a swarm and a worker that is in none, whatever a test before did."""
    yield swarm2_lab
    swarm2_lab.heal_all()
    swarm2_lab.swarm_leave("worker")
    manager = swarm2_lab.host("manager")
    for node in swarm.nodes(manager):
        if node["Spec"]["Role"] == "worker":
            manager.docker.remove_node(node["ID"], force=True)


def hosts(lab):
    return lab.host("manager"), lab.host("worker")


def test_silent_drop_on_the_manager(joining):
    manager, worker = hosts(joining)
    joining.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    said = preflight(worker, manager.address, token=joining.worker_token("manager"), expect=1)
    assert said.answers["join"] == "no"
    assert said.failed() == {("swarm.manager.tcp", "underlay.filtered")}
    cause = said.cause("underlay.filtered")
    assert cause["confidence"] == "likely"  # it answers ping, and one side alone cannot prove who drops
    assert (cause["object"]["to"], cause["object"]["port"]) == (manager.address, 2377)
    assert any(step["host"] == manager.address and "verify swarm" in step["command"] for step in said.document["next"])
    assert said.report.duration_s < 3.0
    # The manager's side names the rule.
    there = ask(manager, "verify", "swarm", "--peer", worker.address)
    rule = there.cause("firewall.rule")["object"]
    assert (rule["table"], rule["chain"], rule["number"], rule["owner"]) == ("filter", "INPUT", 1, "operator")
    assert "--dport 2377" in rule["text"]
    assert there.cause("firewall.rule")["confidence"] == "proven"
    outcome = joining.swarm_join("worker", "manager", timeout_s=40)
    assert not outcome.joined
    assert "Timeout was reached" in outcome.message


def test_drop_on_the_workers_own_output(joining):
    manager, worker = hosts(joining)
    joining.break_("drop", host="worker", chain="OUTPUT", proto="tcp", dport=2377)
    said = preflight(worker, manager.address, expect=1)
    assert said.failed() == {("swarm.manager.tcp", "firewall.rule")}
    cause = said.cause("firewall.rule")
    assert cause["confidence"] == "proven"
    assert cause["host"].startswith("worker")
    assert (cause["object"]["chain"], cause["object"]["number"]) == ("OUTPUT", 1)
    for command in cause["remedy"][0]["commands"]:
        worker.exec(command.split())
    assert preflight(worker, manager.address).answers["join"] == "yes"
    for command in cause["remedy"][0]["undo"]:
        worker.exec(command.split())
    outcome = joining.swarm_join("worker", "manager", timeout_s=40)
    assert not outcome.joined


def test_rejected_by_the_manager(joining):
    manager, worker = hosts(joining)
    joining.break_("reject", host="manager", chain="INPUT", proto="tcp", dport=2377, **{"with": "icmp-host-prohibited"})
    said = preflight(worker, manager.address, expect=1)
    assert said.failed() == {("swarm.manager.tcp", "firewall.rule")}
    cause = said.cause("firewall.rule")
    assert (cause["host"], cause["confidence"]) == (manager.address, "likely")
    outcome = joining.swarm_join("worker", "manager", timeout_s=40)
    assert not outcome.joined
    assert "no route to host" in outcome.message


def test_stock_stateful_input_on_the_manager(joining):
    manager, worker = hosts(joining)
    joining.break_("stateful-input", host="manager")
    said = preflight(worker, manager.address, expect=1)
    assert said.failed() == {("swarm.manager.tcp", "firewall.rule")}
    assert said.cause("firewall.rule")["host"] == manager.address
    before = joining.swarm_join("worker", "manager", timeout_s=40)
    assert not before.joined
    assert "no route to host" in before.message
    joining.swarm_leave("worker")
    there = ask(manager, "verify", "swarm", "--peer", worker.address)
    cause = there.cause("firewall.rule")
    assert (cause["object"]["chain"], cause["confidence"]) == ("INPUT", "proven")
    assert "REJECT" in cause["object"]["text"]
    for remedy in cause["remedy"]:
        for command in remedy["commands"]:
            manager.exec(command.split())
    assert preflight(worker, manager.address).answers["join"] == "yes"
    assert joining.swarm_join("worker", "manager", timeout_s=40).joined


def test_wrong_port(joining):
    manager, worker = hosts(joining)
    said = preflight(worker, f"{manager.address}:2378", expect=1)
    assert said.failed() == {("swarm.manager.tcp", "swarm.not-manager")}
    assert said.cause("swarm.not-manager")["object"]["port"] == 2378
    result = worker.exec(
        ["docker", "swarm", "join", "--token", joining.worker_token("manager"), f"{manager.address}:2378"],
        check=False,
        timeout_s=40,
    )
    assert result.returncode != 0
    assert "connection refused" in result.stderr


def test_a_port_that_is_no_tls(joining):
    manager, worker = hosts(joining)
    said = preflight(worker, f"{manager.address}:7946", expect=1)
    assert {code for _, code in said.failed()} == {"swarm.not-manager"}
    assert said.states("swarm.manager.tcp") == {"ok"}
    assert said.states("swarm.manager.tls") == {"fail"}


def test_pending_join_goes_on_after_the_remedy(joining):
    manager, worker = hosts(joining)
    joining.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    outcome = joining.swarm_join("worker", "manager", timeout_s=40)
    assert not outcome.joined
    said = preflight(worker, manager.address, expect=1)
    assert ("swarm.member.state", "swarm.join-stage") in said.failed()
    stage = said.cause("swarm.join-stage")
    assert stage["object"]["stage"] == "tcp"
    assert [remedy["commands"] for remedy in stage["remedy"]][-1] == ["docker swarm leave --force"]
    # The root comes first: the pending join is what follows from it.
    assert said.codes().index("underlay.filtered") < said.codes().index("swarm.join-stage")
    joining.heal_all()
    until(lambda: swarm.local_state(worker) == "active", 30, "the pending join", every_s=0.1)
    after = preflight(worker, manager.address, expect=0)
    assert "already a member of this very swarm" in after.findings("swarm.member.state")[0]["summary"]


def test_mtu_black_hole(joining):
    manager, worker = hosts(joining)
    joining.break_("mtu-blackhole")
    said = preflight(worker, manager.address, token=joining.worker_token("manager"), expect=1)
    assert said.failed() == {("underlay.mtu", "underlay.mtu-blackhole")}
    cause = said.cause("underlay.mtu-blackhole")
    assert cause["confidence"] == "proven"
    assert (cause["object"]["mtu_bytes"], cause["object"]["largest_bytes"]) == (9000, 1500)
    outcome = joining.swarm_join("worker", "manager", timeout_s=40)
    assert not outcome.joined
    assert "Timeout was reached" in outcome.message


def test_a_next_hop_that_was_set_by_hand(joining):
    manager, worker = hosts(joining)
    joining.break_("neighbour", host="worker", address=manager.address, lladdr="02:00:00:00:00:99")
    said = preflight(worker, manager.address, expect=1)
    assert said.failed() == {("swarm.manager.tcp", "underlay.neighbour")}
    cause = said.cause("underlay.neighbour")
    # An entry by hand is not wrong by itself, so it is possible and no more.
    assert (cause["object"]["mac"], cause["confidence"]) == ("02:00:00:00:00:99", "possible")
    for command in cause["remedy"][0]["commands"]:
        worker.exec(command.split())
    assert preflight(worker, manager.address).answers["join"] == "yes"
