"""A diagnosis whose other side is asked over `netdiag listen`: what a peer with a key may do is enough for it."""

import json
import sys

import pytest

from tests.lab.test_listen import Listening, outcome

IMAGE = "netdiag/busybox:lab"

DIAGNOSES = """
import sys
from netdiag.carrier.listen import open_listen
from netdiag.cli.key_input import read_key
from netdiag.host import LocalHost
from netdiag.host.collect import local_options
from netdiag.host.diagnose import diagnose
from netdiag.path.names import parse_end
from netdiag.report.assemble import build_report
from netdiag.report.document import encode
import time
def quiet(text):
    pass
with open_listen(sys.argv[1], read_key=read_key, confirm=lambda question: True, show=print, say=quiet) as carrier:
    done = diagnose(
        LocalHost(), parse_end(sys.argv[2], what="SOURCE"), parse_end(sys.argv[3], what="DESTINATION"),
        open_peer=lambda name: carrier, now_s=time.time(), options=local_options(), progress=quiet,
    )
report = build_report(command="diagnose", host="manager", started="", duration_s=0.0, found=done.found)
print(encode(report).decode().replace("\\n", " "))
"""


@pytest.fixture(scope="module")
def cluster(up):
    with up("swarm3") as lab:
        manager, worker = lab.host("manager"), lab.host("worker1")
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        run = ["docker", "run", "-d", "--network", "app", "--name"]
        manager.exec([*run, "front", IMAGE, "sleep", "100000"])
        worker.exec([*run, "back", IMAGE, "httpd", "-f", "-p", "80"])
        yield lab


def diagnosed(lab):
    """What was found, and what the host that answered said."""
    manager, worker = lab.host("manager"), lab.host("worker1")
    server = Listening(worker, "--peer", manager.address, "--port", "4444", "--for", "60")
    words = [sys.executable, "-c", DIAGNOSES, server.where, "front", "worker1/back:80"]
    found = outcome(manager.popen(words, env={"NETDIAG_KEY": server.key}))
    code, said = server.end()
    assert code == 0
    return found, said


def test_healthy(cluster):
    found, said = diagnosed(cluster)
    assert found["causes"] == [], json.dumps(found)
    assert "all 8 places" in found["findings"][1]["summary"]
    assert "the peer has ended" in said


def test_the_rule_on_the_host_that_answers(cluster):
    worker = cluster.host("worker1")
    worker.exec(["iptables", "-I", "INPUT", "-p", "udp", "--dport", "4789", "-j", "REJECT"])
    try:
        found, _ = diagnosed(cluster)
    finally:
        worker.exec(["iptables", "-D", "INPUT", "-p", "udp", "--dport", "4789", "-j", "REJECT"])
    (cause,) = found["causes"]
    assert cause["host"] == "worker1"
    assert cause["code"].startswith("firewall.")
    assert cause["confidence"] == "proven"
