"""A swarm whose overlays have a network of their own (``--data-path-addr``): the engine tells another address of a node."""

import json
import subprocess

import pytest

from netdiag.lab import swarm

IMAGE = "netdiag/busybox:lab"
LANS = {"manager": "10.82.0.1", "worker": "10.82.0.2"}


@pytest.fixture(scope="module")
def cluster(up):
    with up("swarm2") as lab:
        manager, worker = lab.host("manager"), lab.host("worker")
        cable = ["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", str(worker.pid)]
        subprocess.run(["nsenter", "-n", "-t", str(manager.pid), *cable], check=True)
        for name, address in LANS.items():
            lab.host(name).exec(["ip", "address", "add", f"{address}/24", "dev", "eth1"])
            lab.host(name).exec(["ip", "link", "set", "eth1", "up"])
        lab.break_("sshd", host="worker")
        lab.swarm_leave("manager")
        words = ["docker", "swarm", "init", "--advertise-addr", manager.address, "--data-path-addr", LANS["manager"]]
        manager.exec(words)
        join = ["docker", "swarm", "join", "--token", lab.worker_token("manager"), "--data-path-addr", LANS["worker"]]
        worker.exec([*join, f"{manager.address}:2377"], timeout_s=40)
        swarm.await_ready(manager, [manager, worker])
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        run = ["docker", "run", "-d", "--network", "app", "--name"]
        manager.exec([*run, "front", IMAGE, "sleep", "100000"])
        worker.exec([*run, "back", IMAGE, "httpd", "-f", "-p", "80"])
        yield lab


def diagnose(lab, code):
    words = ["netdiag", "diagnose", "front", "worker/back:80", "--via", "ssh", "--output", "json"]
    result = lab.host("manager").exec(words, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_what_works_is_left_alone(cluster):
    report = diagnose(cluster, 0)
    assert report["causes"] == []
    (way,) = [found for found in report["findings"] if found["check"] == "path.way"]
    cards = [seen["text"] for seen in way["evidence"] if seen["text"].startswith(("eth1 of manager", "eth1 of worker"))]
    assert len(cards) == 2
    assert not any(" 0 there" in text for text in cards)


@pytest.mark.parametrize(("host", "chain"), [("manager", "OUTPUT"), ("worker", "INPUT")])
def test_a_rule_on_the_data_path_is_named_and_healed(cluster, host, chain):
    rule = [chain, "-p", "udp", "--dport", "4789", "-j", "DROP"]
    cluster.host(host).exec(["iptables", "-w", "-I", *rule])
    try:
        (cause,) = diagnose(cluster, 1)["causes"]
        assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", host, "proven")
        (remedy,) = cause["remedy"]
        other = LANS["worker" if host == "manager" else "manager"]
        assert any(other in command for command in remedy["commands"])
        for command in remedy["commands"]:
            cluster.host(host).exec(["sh", "-c", command])
        diagnose(cluster, 0)
        for command in remedy["undo"]:
            cluster.host(host).exec(["sh", "-c", command])
    finally:
        cluster.host(host).exec(["iptables", "-w", "-D", *rule])


def test_an_entry_for_another_host_is_stale_all_the_same(cluster):
    manager, worker = cluster.host("manager"), cluster.host("worker")
    network = manager.exec(["docker", "network", "inspect", "-f", "{{.Id}}", "app"]).stdout.strip()
    form = '{{(index .NetworkSettings.Networks "app").MacAddress}}'
    mac = worker.exec(["docker", "inspect", "-f", form, "back"]).stdout.strip()
    within = ["nsenter", f"--net=/run/docker/netns/1-{network[:10]}", "--"]
    entry = [mac, "dev", "vxlan0", "dst", "10.82.0.77", "self", "permanent"]
    manager.exec([*within, "bridge", "fdb", "replace", *entry])
    (cause,) = diagnose(cluster, 1)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("overlay.fdb-stale", "manager", "proven")
    (remedy,) = cause["remedy"]
    assert LANS["worker"] in cause["object"]["expected"]
    for command in remedy["commands"]:
        manager.exec(["sh", "-c", command])
    diagnose(cluster, 0)
