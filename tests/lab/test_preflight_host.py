"""The host that is asked: an engine that hangs, no root, secrets, bundles, and what verify sees after a join."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from netdiag.lab import swarm
from netdiag.lab.process import until
from tests.lab.asking import Answered, ask, preflight


@pytest.fixture
def joined(swarm2_lab):
    """A manager and a worker that has joined; undone afterwards."""
    assert swarm2_lab.swarm_join("worker", "manager").joined
    yield swarm2_lab
    swarm2_lab.swarm_leave("worker")
    manager = swarm2_lab.host("manager")
    for node in swarm.nodes(manager):
        if node["Spec"]["Role"] == "worker":
            manager.docker.remove_node(node["ID"], force=True)


def test_an_engine_that_hangs_is_unknown_and_delays_nothing_else(swarm2_lab):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    engine = worker.engine_process().pid
    os.kill(engine, signal.SIGSTOP)
    try:
        started = time.monotonic()
        said = preflight(worker, manager.address, expect=3)
        took_s = time.monotonic() - started
    finally:
        os.kill(engine, signal.SIGCONT)
    assert said.states("swarm.engine.reachable") == {"unknown"}
    assert said.answers["join"] == "unknown"
    assert said.states("swarm.manager.tcp") == {"ok"}
    assert said.states("kernel.features")  # kernel facts went on
    assert took_s < 12


def test_without_root_it_says_what_it_could_not_see(swarm2_lab):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    python = sys.executable
    code = (
        "import os,sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv=['netdiag','preflight','swarm','--manager',sys.argv[1],'--output','json']\n"
        "from netdiag.cli import main; main()\n"
    )
    # The interpreter may lie where nobody may read; what it needs is loaded before it lets go of root.
    preload = "import netdiag.cli.preflight_run, netdiag.cli.preflight, netdiag.report.document, encodings.idna\n"
    result = worker.exec([python, "-c", preload + code, manager.address], check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == 3, result.stderr
    said = Answered(json.loads(result.stdout), result.returncode, result.stdout, result.stderr)
    assert said.states("swarm.engine.reachable") == {"unknown"}
    assert "ermission" in said.findings("swarm.engine.reachable")[0]["reason"]
    assert said.states("swarm.manager.tcp") == {"ok"}


def test_the_token_is_nowhere(swarm2_lab):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    swarm2_lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    token = swarm2_lab.worker_token("manager")
    command = ["netdiag", "preflight", "swarm", "--manager", manager.address, "--token", token, "--save", "/tmp/save"]
    with worker.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        shown = []

        def wiped():
            shown[:] = worker.exec(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout.splitlines()
            return any("preflight" in line and "xxxx" in line for line in shown)

        until(wiped, 10, "the token to be wiped from the list of processes")
        out, err = process.communicate(timeout=20)
    assert not any(token in line for line in shown)
    assert token not in out + err
    assert token.rsplit("-", 1)[1] not in out + err
    unpacked = worker.exec(["sh", "-c", "gunzip -c < /tmp/save"]).stdout
    assert "netdiag/bundle/1" in unpacked
    assert token.rsplit("-", 1)[1] not in unpacked
    assert worker.exec(["stat", "-c", "%a", "/tmp/save"]).stdout.strip() == "600"


@pytest.mark.parametrize("fault", ["none", "output", "data", "firewalld", "answers", "manager"])
def test_a_bundle_gives_the_findings_of_the_live_host(swarm2_lab, fault):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    if fault == "output":
        swarm2_lab.break_("drop", host="worker", chain="OUTPUT", proto="tcp", dport=2377)
    elif fault == "data":
        swarm2_lab.break_("drop", host="worker", chain="OUTPUT", proto="udp", dport=4789)
    elif fault == "firewalld":
        swarm2_lab.break_("firewalld", host="worker")
    elif fault == "answers":
        swarm2_lab.break_("drop", host="worker", chain="INPUT", proto="tcp", sport=2377)
    elif fault == "manager":
        swarm2_lab.break_("reject", host="manager", proto="tcp", dport=2377, **{"with": "icmp-host-prohibited"})
    token = swarm2_lab.worker_token("manager")
    live = preflight(worker, manager.address, "--save", "/tmp/saved", token=token)
    assert {one["kind"] for one in live.findings("firewall.inbound")[0]["evidence"]} >= {"trace"}
    # The other host has neither that engine nor that network; it has the file.
    bundle = worker.path("tmp/saved").read_bytes()
    manager.path("tmp/saved").write_bytes(bundle)
    again = ask(manager, "analyze", "/tmp/saved")
    for part in ("verdict", "answers", "findings", "causes", "next", "host"):
        assert again.document[part] == live.document[part], part


def test_collected_facts_alone_skip_what_only_a_probe_can_tell(swarm2_lab):
    worker = swarm2_lab.host("worker")
    worker.exec(["netdiag", "collect", "-o", "/tmp/facts"])
    said = ask(worker, "analyze", "/tmp/facts")
    (given,) = said.findings("swarm.manager.given")
    assert given["state"] == "skip"
    assert "not probed" in given["reason"]
    assert said.states("swarm.engine.reachable") == {"ok"}


def test_verify_finds_the_dead_record_of_a_node_that_joined_again(joined):
    manager = joined.host("manager")
    joined.break_("rejoin", host="worker")
    said = ask(manager, "verify", "swarm")
    cause = said.cause("swarm.stale-node")
    assert cause["confidence"] in ("proven", "likely")
    dead = {node["ID"] for node in swarm.nodes(manager) if node["Status"]["State"] == "down"}
    assert cause["object"]["id"] in dead
    for command in cause["remedy"][0]["commands"]:
        manager.exec(command.split())
    assert "swarm.stale-node" not in ask(manager, "verify", "swarm").codes()


def test_verify_finds_a_task_without_its_image(joined):
    manager = joined.host("manager")
    manager.exec(
        [
            *("docker", "service", "create", "--detach", "--no-resolve-image", "--restart-condition", "none"),
            *("--constraint", "node.role==worker", "--name", "lost", "netdiag/only-here:1"),
        ]
    )
    try:

        def failed():
            return any("No such image" in (task["Status"].get("Err") or "") for task in manager.docker.tasks())

        until(failed, 20, "the task to fail")
        said = ask(manager, "verify", "swarm")
        cause = said.cause("swarm.image-missing")
        assert (cause["object"]["name"], cause["confidence"]) == ("netdiag/only-here:1", "proven")
    finally:
        manager.docker.remove_service("lost")


def test_ask_writes_the_message_for_the_managers_admin(swarm2_lab):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    swarm2_lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    said = preflight(worker, manager.address, expect=1)
    message = worker.exec(["netdiag", "ask", "-"], stdin=said.stdout).stdout
    assert f"netdiag verify swarm --peer {worker.address}" in message
    assert "2377" in message
    assert manager.address in message


def test_rejected_joins_as_manager_are_told_of_the_quorum(swarm2_lab):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    said = preflight(worker, manager.address, "--role", "manager", expect=0)
    assert said.states("swarm.quorum") == {"unknown"}
    assert any("docker node ls" in step["command"] for step in said.document["next"])
