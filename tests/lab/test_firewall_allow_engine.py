"""One rule beside a real engine: its own chains are the same before and after, also inside its namespaces."""

import json
import re

import pytest

from netdiag.lab.process import until

COUNTERS = re.compile(r"\[\d+:\d+\]| packets \d+ bytes \d+")
IMAGE = "netdiag/busybox:lab"


@pytest.fixture(scope="module")
def worker(swarm3_lab):
    """An engine with containers on a bridge, on another one, and on an overlay; the manager knows the way there."""
    manager, worker = swarm3_lab.host("manager"), swarm3_lab.host("worker1")
    manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
    worker.exec(["docker", "network", "create", "apart"])
    serve = ["httpd", "-f", "-p", "80"]
    worker.exec(["docker", "run", "-d", "--name", "web", "-p", "8080:80", IMAGE, *serve])
    worker.exec(["docker", "run", "-d", "--name", "plain", IMAGE, *serve])
    worker.exec(["docker", "run", "-d", "--name", "other", "--network", "apart", IMAGE, "sleep", "100000"])
    run = ["docker", "run", "-d", "--name", "b1", "--network", "app", IMAGE, *serve]
    # A worker hears of the network a little later.
    until(lambda: _runs(worker, run), 20, "the overlay on the worker")
    manager.exec(["docker", "run", "-d", "--name", "a1", "--network", "app", IMAGE, "sleep", "100000"])
    manager.exec(["ip", "route", "add", address(worker, "plain"), "via", worker.address])
    return worker


def _runs(host, run):
    """Whether a container started; one that did not would keep its name."""
    started = host.exec(run, check=False).returncode == 0
    if not started:
        host.exec(["docker", "rm", "-f", run[run.index("--name") + 1]], check=False)
    return started


def address(host, container, network="bridge"):
    form = "{{(index .NetworkSettings.Networks " + f'"{network}"' + ").IPAddress}}"
    return host.exec(["docker", "inspect", "-f", form, container]).stdout.strip()


def rules(host, enter=()):
    texts = [host.exec([*enter, *command.split()]).stdout for command in ("nft -s list ruleset", "iptables-save")]
    return [COUNTERS.sub("", line) for text in texts for line in text.splitlines() if not line.startswith("#")]


def engines(host):
    """The engine's own chains: all that begin with DOCKER but its chain for the operator's rules."""
    saved = host.exec(["iptables-save"]).stdout.splitlines()
    return [line for line in saved if re.match(r"-A DOCKER(?!-USER)", line)]


def heal(host, *words):
    """Apply with a confirmation from another terminal: the answer."""
    argv = ["netdiag", "firewall", "allow", *words, "--apply", "--confirm-within", "20", "-o", "json"]
    process = host.popen(argv)
    until(
        lambda: (
            process.poll() is not None or host.exec(["netdiag", "firewall", "confirm"], check=False).returncode == 0
        ),
        20,
        "something to confirm",
    )
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, out + err
    found = json.loads(out)
    assert (found["kept"], found["after"]["verdict"]) == (True, "accept")
    return found


def undo(host, found):
    for command in found["fix"]["undo"]:
        host.exec(["sh", "-c", command["text"]])


def command_of(found):
    """The one command, without its signature."""
    (command,) = found["fix"]["commands"]
    return re.sub(r" -m comment --comment netdiag-\d{8}-[0-9a-f]{8}", "", command["text"])


def inside(host, container):
    """What enters a container's network namespace."""
    return ["nsenter", "-n", "-t", host.exec(["docker", "inspect", "-f", "{{.State.Pid}}", container]).stdout.strip()]


def connects(host, target, port=80, container=""):
    program = f"import socket; socket.create_connection(({target!r}, {port}), 1).close()"
    enter = inside(host, container) if container else []
    return host.exec([*enter, "python3", "-c", program], check=False).returncode == 0


def both_ways(source, target, port):
    """An accept for a connection and its answers, by the addresses that open it."""
    return f"-p tcp -m conntrack --ctorigsrc {source} --ctorigdst {target} --ctorigdstport {port} -j ACCEPT"


def test_a_policy_is_passed_in_the_operators_chain(swarm3_lab, worker):
    manager, target = swarm3_lab.host("manager"), address(worker, "plain")
    before, own = rules(worker), engines(worker)
    assert not connects(manager, target)
    found = heal(worker, "--path", "forward", "--src", manager.address, "--dst", target, "--dport", "80")
    assert found["before"]["policy"]["chain"] == "FORWARD"
    assert command_of(found) == f"iptables -I DOCKER-USER 1 {both_ways(manager.address, target, 80)}"
    assert engines(worker) == own
    assert connects(manager, target)
    # Saving all that runs would save the engine's rules.
    assert not any("netfilter-persistent save" in line for line in found["fix"]["persist"])
    assert found["fix"]["persist"][-1].startswith("sed -i ")
    undo(worker, found)
    assert rules(worker) == before


def test_a_flow_that_is_not_tracked(swarm3_lab, worker):
    """Nothing knows who opened it: both directions have an accept of their own."""
    manager, target = swarm3_lab.host("manager"), address(worker, "plain")
    untrack = ["PREROUTING", "-p", "tcp", "-j", "CT", "--notrack"]
    worker.exec(["iptables", "-t", "raw", "-I", *untrack])
    try:
        before, own = rules(worker), engines(worker)
        assert not connects(manager, target)
        found = heal(worker, "--path", "forward", "--src", manager.address, "--dst", target, "--dport", "80")
        there, back = (re.sub(r" -m comment --comment \S+", "", each["text"]) for each in found["fix"]["commands"])
        assert there == f"iptables -I DOCKER-USER 1 -s {manager.address} -d {target} -p tcp --dport 80 -j ACCEPT"
        assert back == f"iptables -I DOCKER-USER 1 -s {target} -d {manager.address} -p tcp --sport 80 -j ACCEPT"
        assert connects(manager, target)
        assert engines(worker) == own
        undo(worker, found)
        assert rules(worker) == before
    finally:
        worker.exec(["iptables", "-t", "raw", "-D", *untrack])


def test_networks_that_the_engine_keeps_apart(worker):
    source, target = address(worker, "other", "apart"), address(worker, "plain")
    before, own = rules(worker), engines(worker)
    assert not connects(worker, target, container="other")
    found = heal(worker, "--path", "forward", "--src", source, "--dst", target, "--dport", "80")
    assert found["before"]["rule"]["chain"].startswith("DOCKER-ISOLATION")
    # The engine's isolation comes before its rule for answers: they need the accept as well.
    assert command_of(found) == f"iptables -I DOCKER-USER 1 {both_ways(source, target, 80)}"
    assert "apart on purpose" in " ".join(found["fix"]["notes"])
    assert engines(worker) == own
    assert connects(worker, target, container="other")
    undo(worker, found)
    assert rules(worker) == before


def test_a_published_port(swarm3_lab, worker):
    """The rule that decides sees the container's address and port; the accept goes by what the peer asks for."""
    manager = swarm3_lab.host("manager")
    worker.exec(["iptables", "-I", "DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP"])
    try:
        before, own = rules(worker), engines(worker)
        assert not connects(manager, worker.address, 8080)
        found = heal(worker, "--src", manager.address, "--dport", "8080")
        flow = both_ways(manager.address, worker.address, 8080)
        assert command_of(found) == f"iptables -I DOCKER-USER 1 {flow}"
        assert engines(worker) == own
        assert connects(manager, worker.address, 8080)
        undo(worker, found)
        assert rules(worker) == before
    finally:
        worker.exec(["iptables", "-D", "DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP"])


def test_inside_a_container(worker):
    enter = inside(worker, "web")
    worker.exec([*enter, "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"])
    host_rules, before = rules(worker), rules(worker, enter)
    assert not connects(worker, address(worker, "web"), container="plain")
    found = heal(worker, "--container", "web", "--src", address(worker, "plain"), "--dport", "80")
    assert re.match(r"nsenter --net=/\S+ -- iptables -I INPUT 1 -s \S+ -p tcp --dport 80 -j ACCEPT", command_of(found))
    assert "until container web is restarted" in found["fix"]["persist"][0]
    assert connects(worker, address(worker, "web"), container="plain")
    assert rules(worker) == host_rules
    undo(worker, found)
    assert rules(worker, enter) == before
    worker.exec([*enter, "iptables", "-D", "INPUT", "1"])


def test_in_an_overlays_bridge(swarm3_lab, worker):
    manager = swarm3_lab.host("manager")
    remote, local = address(manager, "a1", "app"), address(worker, "b1", "app")
    facts = json.loads(worker.exec(["netdiag", "facts", "namespaces", "--output", "json"]).stdout)
    enter = ["nsenter", "--net=" + facts["namespaces"]["value"]["overlay:app"]["path"]]
    table = "table bridge guard { chain f { type filter hook forward priority 0; ip saddr 10.0.0.0/8 tcp dport 80 drop; }; }"
    until(lambda: connects(manager, local, container="a1"), 20, "the overlay")
    worker.exec([*enter, "nft", table])
    try:
        before = rules(worker, enter)
        assert not connects(manager, local, container="a1")
        words = ("--path", "forward", "--src", remote, "--dst", local, "--dport", "80")
        found = heal(worker, "--netns", "overlay:app", *words)
        said = f"ip saddr {remote} ip daddr {local} tcp dport 80 accept comment"
        assert f"nft insert rule bridge guard f handle 2 {said}" in command_of(found)
        assert connects(manager, local, container="a1")
        undo(worker, found)
        assert rules(worker, enter) == before
    finally:
        worker.exec([*enter, "nft", "delete", "table", "bridge", "guard"])


def test_tried_out_beside_the_engines_rules(swarm3_lab, worker):
    """In a copy of all that the engine and the swarm wrote, the rule lets its packet through and nobody else."""
    manager, target = swarm3_lab.host("manager"), address(worker, "plain")
    block = ["DOCKER-USER", "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "8080", "-j", "DROP"]
    worker.exec(["iptables", "-I", *block])
    try:
        before = rules(worker)
        through = ("--path", "forward", "--src", manager.address, "--dst", target, "--dport", "80")
        for words in (("--src", manager.address, "--dport", "8080"), through):
            argv = ["netdiag", "firewall", "allow", "--prove", *words, "-o", "json"]
            found = json.loads(worker.exec(argv, check=False).stdout)["proof"]
            assert (found["reason"], found["not_copied"], found["no_ops"]) == ("", [], [])
            assert (found["before"]["verdict"], found["after"]["verdict"]) == ("drop", "accept")
            assert [flow["packet"] for flow in found["changed"] if not flow["meant"]] == []
            assert found["asked"] > 100
            assert found["unknown"] < found["asked"] / 4
        assert rules(worker) == before
    finally:
        worker.exec(["iptables", "-D", *block])


def test_tried_out_inside_a_container(worker):
    source, enter = address(worker, "other", "apart"), inside(worker, "web")
    worker.exec([*enter, "nft", "table inet x { chain i { type filter hook input priority 0; tcp dport 80 drop; }; }"])
    try:
        before = rules(worker, enter)
        argv = ["netdiag", "firewall", "allow", "--prove", "--container", "web", "--src", source, "--dport", "80"]
        answer = json.loads(worker.exec([*argv, "-o", "json"], check=False).stdout)
        found = answer["proof"]
        assert (found["reason"], found["not_copied"]) == ("", [])
        assert (found["before"]["verdict"], found["after"]["verdict"]) == ("drop", "accept")
        assert found["after"]["rule"]["namespace"] == answer["packet"]["namespace"] != "host"
        assert rules(worker, enter) == before
    finally:
        worker.exec([*enter, "nft", "delete", "table", "inet", "x"])
