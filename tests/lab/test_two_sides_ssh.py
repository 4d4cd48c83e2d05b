"""Preflight and verify over a real ssh between real engines: the rule is named on the host that has it, and healed there."""

import contextlib
import json
import random
import re

import pytest

from netdiag.lab import engine, swarm
from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.asking import ask, preflight
from tests.lab.matrix import rules

VIA = ("--via", "ssh")
KILLS = 6


@pytest.fixture
def joining(swarm2_lab):
    """A manager and a fresh engine; root of each may log in at the other."""
    for host in ("manager", "worker"):
        swarm2_lab.break_("sshd", host=host)
    return swarm2_lab.host("manager"), swarm2_lab.host("worker")


@pytest.fixture
def members(swarm3_lab):
    """A manager and two workers that have joined."""
    for host in ("worker1", "worker2"):
        swarm3_lab.break_("sshd", host=host)
    return [swarm3_lab.host(name) for name in ("manager", "worker1", "worker2")]


def heal(host, cause):
    for remedy in cause["remedy"]:
        for command in remedy["commands"]:
            host.exec(["sh", "-c", command])


def test_a_join_that_will_work_is_a_yes_to_names_too(joining):
    manager, worker = joining
    said = preflight(worker, manager.address, *VIA, expect=0)
    assert (said.answers["join"], said.answers["names"]) == ("yes", "yes")
    assert said.states("two-sides.inbound") == said.states("two-sides.outbound") == {"ok"}
    assert said.states("host.name.known") == {"ok"}
    # The one-sided words for what is known now are gone.
    assert said.findings("swarm.peer.inbound") == said.findings("underlay.mtu") == []


def test_the_manager_s_rule_is_named_from_the_worker_and_healed(swarm2_lab, joining):
    manager, worker = joining
    swarm2_lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    said = preflight(worker, manager.address, *VIA, expect=1)
    assert said.answers["join"] == "no"
    assert said.failed() >= {("swarm.manager.tcp", "firewall.rule"), ("two-sides.outbound", "firewall.rule")}
    cause = said.cause("firewall.rule")
    assert (cause["host"], cause["confidence"], said.codes()[0]) == ("manager", "proven", "firewall.rule")
    assert "underlay.filtered" not in said.codes()
    heal(manager, cause)
    assert preflight(worker, manager.address, *VIA, expect=0).answers["join"] == "yes"


def test_the_data_path_of_the_worker_is_asked_before_it_joins(swarm2_lab, joining):
    manager, worker = joining
    swarm2_lab.break_("drop", host="worker", chain="INPUT", proto="udp", dport=4789)
    said = preflight(worker, manager.address, *VIA, "--need", "traffic", expect=1)
    cause = said.cause("firewall.rule")
    assert (cause["host"], cause["confidence"]) == ("worker", "proven")
    assert {"two-sides.inbound", "firewall.inbound"} <= {check for check, code in said.failed() if code}


def test_the_fabric_is_named_and_no_host(swarm2_lab, joining):
    manager, worker = joining
    swarm2_lab.break_("nft", host="fabric", family="bridge", hook="forward", rules="udp dport 4789 @th,64,8 8 drop")
    said = preflight(worker, manager.address, *VIA, "--need", "traffic", expect=1)
    found = [one for one in said.document["causes"] if one["code"] == "underlay.filtered"]
    assert {one["object"]["payload"] for one in found} == {"vxlan"}
    assert {one["host"] for one in found} == {None}
    assert "firewall.rule" not in said.codes()


def test_timings_leave_ssh_apart_and_keep_the_budget(joining):
    manager, worker = joining
    words = ["netdiag", "preflight", "swarm", "--manager", manager.address, *VIA, "--timings", "-o", "json"]
    done = worker.exec(words, check=False)
    json.loads(done.stdout)
    took = dict(re.findall(r"([a-z][a-z ]+) ([0-9.]+) s", done.stderr))
    assert {"ssh", "facts of the peers", "probes and traces", "all"} <= {name.strip() for name in took}
    assert float(took["all"]) - float(took["ssh"]) < 3.0


def test_no_way_to_the_peer_is_said_and_the_rest_answered(swarm2_lab):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    said = preflight(worker, manager.address, *VIA, expect=0)
    assert (said.answers["join"], said.answers["names"]) == ("yes", "unknown")
    (one,) = said.findings("two-sides.examined")
    assert (one["state"], manager.address in one["reason"]) == ("unknown", True)


def test_a_plan_does_nothing(joining):
    manager, worker = joining
    look = ["sh", "-c", "cat /proc/net/snmp | grep -i '^udp\\|^tcp'; ls -A /root/.ssh"]
    before = worker.exec(look).stdout
    words = ["netdiag", "preflight", "swarm", "--manager", manager.address, *VIA, "--plan"]
    assert "CHANGED\n  nothing" in worker.exec(words).stdout
    assert worker.exec(look).stdout == before


def test_the_report_comes_back_from_its_bundle(joining):
    manager, worker = joining
    said = preflight(worker, manager.address, *VIA, "--save", "/tmp/two-sides.bundle")
    again = json.loads(worker.exec(["netdiag", "analyze", "/tmp/two-sides.bundle", "-o", "json"], check=False).stdout)
    pick = ("two-sides.inbound", "two-sides.outbound", "two-sides.sizes", "two-sides.clock")
    mine = [one for one in said.document["findings"] if one["check"] in pick]
    assert [one for one in again["findings"] if one["check"] in pick] == mine


# --- members ---


def test_a_swarm_in_order_is_in_order_seen_from_both_sides(members):
    manager = members[0]
    said = ask(manager, "verify", "swarm", *VIA)
    assert said.states("two-sides.inbound") == said.states("two-sides.outbound") == {"ok"}
    (one,) = said.findings("two-sides.examined")
    assert "2 of 2" in one["summary"]
    assert said.findings("swarm.verify.data") == []
    assert {node["Status"]["State"] for node in swarm.nodes(manager)} == {"ready"}


def test_a_worker_s_rule_is_named_from_the_manager(swarm3_lab, members):
    manager, worker, _ = members
    swarm3_lab.break_("stateful-input", host="worker1")
    worker.exec(["iptables", "-I", "INPUT", "4", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"])
    said = ask(manager, "verify", "swarm", *VIA, expect=1)
    cause = said.cause("firewall.rule")
    assert (cause["host"], cause["confidence"], cause["object"]["owner"]) == ("worker1", "proven", "operator")
    lost = [one for one in said.findings("two-sides.outbound") if one["state"] == "fail"]
    assert all("udp/4789" in one["summary"] for one in lost)
    heal(worker, cause)
    again = ask(manager, "verify", "swarm", *VIA)
    assert again.states("two-sides.outbound") == {"ok"}


def test_no_program_gets_a_probe(members):
    """Gossip complains of every datagram that it cannot read, and of a connection that ends at once it does not."""
    manager, worker, _ = members

    def complaints():
        return [host.path(engine.LOG).read_text("utf-8").count("Decrypt packet failed") for host in (manager, worker)]

    before = complaints()
    ask(manager, "verify", "swarm", *VIA)
    assert complaints() == before
    text = f"import socket; socket.socket(2, 2).sendto(bytes(9), ('{manager.address}', 7946))"
    worker.exec(["python3", "-c", text])
    until(lambda: complaints() != before, 5.0, "its complaint of one that was let through")


def test_protocol_50_matters_once_a_network_is_encrypted(swarm3_lab, members):
    manager = members[0]
    manager.exec(["docker", "network", "create", "-d", "overlay", "--opt", "encrypted", "secret"])
    try:
        swarm3_lab.break_("drop", host="fabric", proto="50")
        said = ask(manager, "verify", "swarm", *VIA, expect=1)
        found = [one for one in said.document["causes"] if one["code"] == "underlay.filtered"]
        assert {one["object"]["protocol"] for one in found} == {"esp"}
        assert {one["confidence"] for one in found} == {"proven"}
    finally:
        manager.exec(["docker", "network", "rm", "secret"])


def test_one_peer_of_a_list(members):
    manager, worker, _ = members
    said = ask(manager, "verify", "swarm", "--via", f"ssh:root@{worker.address}")
    (one,) = said.findings("two-sides.examined")
    assert "1 of 1" in one["summary"]


# --- what is left ---


def picture(host):
    look = "ss -Hlntu; ss -H0 -p; ip -br link; ls -A /tmp; ps -eo args | grep -c '[n]etdiag-ready'; true"
    return [*rules(host), *host.exec(["sh", "-c", look]).stdout.splitlines()]


def test_a_kill_of_the_requester_leaves_nothing_on_either_host(joining):
    manager, worker = joining
    # Its engine makes the ingress network a little after it has become a manager.
    until(lambda: any(":4789" in line for line in picture(manager)), 20.0, "the manager's ingress network")
    before = [picture(host) for host in (manager, worker)]
    words = ["netdiag", "preflight", "swarm", "--manager", manager.address, *VIA]
    moments = random.Random(4)
    for _ in range(KILLS):
        process = worker.popen(words)
        with contextlib.suppress(Exception):
            process.wait(moments.uniform(0.3, 1.6))
        end_group(process)
        until(lambda: [picture(host) for host in (manager, worker)] == before, 15.0, "both hosts as they were")
