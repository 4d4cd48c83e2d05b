"""Why one container of an overlay network cannot talk to another on a second host, asked from the first one by ssh."""

import json

import pytest

from netdiag.lab.process import until

IMAGE = "netdiag/busybox:lab"


@pytest.fixture(scope="module")
def cluster(up):
    """Three engines; containers of one overlay network on two of them, and a real sshd on the second."""
    with up("swarm3") as lab:
        manager, worker = lab.host("manager"), lab.host("worker1")
        lab.break_("sshd", host="worker1")
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        run = ["docker", "run", "-d", "--network", "app", "--name"]
        manager.exec([*run, "front", IMAGE, "sleep", "100000"])
        worker.exec([*run, "back", IMAGE, "httpd", "-f", "-p", "80"])
        yield lab


def diagnose(lab, destination="worker1/back:80", code=1):
    """The report of a diagnosis from the manager's container, with its exit code as expected."""
    words = ["netdiag", "diagnose", "front", destination, "--via", "ssh", "--output", "json"]
    result = lab.host("manager").exec(words, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def address(lab, host, container):
    form = '{{(index .NetworkSettings.Networks "app").IPAddress}}'
    return lab.host(host).exec(["docker", "inspect", "-f", form, container]).stdout.strip()


def overlay(lab, host):
    """What enters the overlay's namespace on a host."""
    network = lab.host(host).exec(["docker", "network", "inspect", "-f", "{{.Id}}", "app"]).stdout.strip()
    return ["nsenter", f"--net=/run/docker/netns/1-{network[:10]}", "--"]


def inside(lab, host, container):
    """What enters a container's network namespace."""
    pid = lab.host(host).exec(["docker", "inspect", "-f", "{{.State.Pid}}", container]).stdout.strip()
    return ["nsenter", "-n", "-t", pid]


def settled(lab):
    """Wait until the server has nothing more to repeat: what it still sends, the overlay would learn from."""
    pending = [*inside(lab, "worker1", "back"), "ss", "-Htan", "state", "syn-recv"]
    closing = [*inside(lab, "worker1", "back"), "ss", "-Htan", "state", "last-ack"]
    worker = lab.host("worker1")
    until(lambda: not (worker.exec(pending).stdout or worker.exec(closing).stdout), 40.0, "half-open connections")


def only_cause(report):
    (found,) = report["causes"]
    return found


def heal(lab, cause):
    """Run the proposed commands, see that it works, undo them."""
    (remedy,) = cause["remedy"]
    host = lab.host(remedy["host"])
    for command in remedy["commands"]:
        host.exec(["sh", "-c", command])
    diagnose(lab, code=0)
    for command in remedy["undo"]:
        host.exec(["sh", "-c", command])


def test_healthy_is_said_so_with_its_round_trip(cluster):
    report = diagnose(cluster, code=0)
    assert report["causes"] == []
    attempt, way = report["findings"]
    assert attempt["evidence"][0]["data"]["rtt_us"] > 0
    assert "all 8 places" in way["summary"]


def test_a_task_is_found_by_its_address_alone(cluster):
    report = diagnose(cluster, f"{address(cluster, 'worker1', 'back')}:80", code=0)
    assert "back on" in report["findings"][0]["summary"]


RULES = {
    "INPUT of the other": ("worker1", "INPUT -p udp --dport 4789 -j REJECT", "iptables"),
    "OUTPUT here": ("manager", "OUTPUT -p udp --dport 4789 -j DROP", "iptables"),
    "OUTPUT of the other": ("worker1", "OUTPUT -p udp --dport 4789 -j DROP", "iptables"),
    "INPUT here": ("manager", "INPUT -p udp --dport 4789 -j DROP", "iptables"),
    "by length": ("worker1", "INPUT -p udp --dport 4789 -m length --length 90:2000 -j DROP", "iptables"),
}


@pytest.mark.parametrize("row", RULES.values(), ids=RULES)
def test_a_rule_of_either_host_is_named_and_healed(cluster, row):
    name, rule, tool = row
    host = cluster.host(name)
    host.exec([tool, "-I", *rule.split()])
    host.exec([tool, "-A", *rule.split()[:1], "-p", "udp", "--dport", "4790", "-j", "DROP"])  # a decoy
    try:
        cause = only_cause(diagnose(cluster))
        assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", name, "proven")
        assert (cause["object"]["chain"], cause["object"]["number"]) == (rule.split()[0], 1)
        heal(cluster, cause)
    finally:
        host.exec([tool, "-D", *rule.split()])
        host.exec([tool, "-D", *rule.split()[:1], "-p", "udp", "--dport", "4790", "-j", "DROP"])


def test_a_rule_inside_a_container(cluster):
    enter = inside(cluster, "worker1", "back")
    cluster.host("worker1").exec([*enter, "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"])
    try:
        cause = only_cause(diagnose(cluster))
        assert (cause["code"], cause["host"]) == ("firewall.container", "worker1")
        assert cause["object"]["namespace"] == "container:back"
        heal(cluster, cause)
    finally:
        cluster.host("worker1").exec([*enter, "iptables", "-F", "INPUT"])


@pytest.mark.parametrize("side", ["manager", "worker1"])
@pytest.mark.parametrize("kind", ["missing", "stale"])
def test_a_forwarding_entry(cluster, side, kind):
    other, container = ("worker1", "back") if side == "manager" else ("manager", "front")
    mac = "02:42:" + ":".join(f"{int(part):02x}" for part in address(cluster, other, container).split("."))
    vtep, wrong = cluster.host(other).address, cluster.host("worker2").address
    host, enter = cluster.host(side), overlay(cluster, side)
    settled(cluster)
    right = [*enter, "bridge", "fdb", "replace", mac, "dev", "vxlan0", "dst", vtep, "self", "permanent"]
    if kind == "missing":
        host.exec([*enter, "bridge", "fdb", "del", mac, "dev", "vxlan0", "dst", vtep, "self"])
    else:
        host.exec([wrong if word == vtep else word for word in right])
    # What the other side sends first is learnt, and stands in for a missing entry: it works, and is told.
    learnt = (kind, side) == ("missing", "worker1")
    try:
        cause = only_cause(diagnose(cluster, code=0 if learnt else 1))
        assert (cause["code"], cause["host"]) == (f"overlay.fdb-{kind}", side)
        assert (cause["object"]["mac"], cause["object"]["expected"]) == (mac, vtep)
        assert cause["object"]["vtep"] == (None if kind == "missing" else wrong)
        host.exec(["sh", "-c", cause["remedy"][0]["commands"][0]])
        diagnose(cluster, code=0)
    finally:
        host.exec(right)


def test_nobody_listens(cluster):
    cause = only_cause(diagnose(cluster, "worker1/back:81"))
    assert (cause["code"], cause["host"], cause["confidence"]) == ("container.no-listener", "worker1", "proven")
    assert "it listens on 80" in cause["explanation"]


def test_a_listener_on_the_loopback_address(cluster):
    worker = cluster.host("worker1")
    worker.exec(["docker", "exec", "-d", "back", "httpd", "-f", "-p", "127.0.0.1:82"])
    cause = only_cause(diagnose(cluster, "worker1/back:82"))
    assert (cause["code"], cause["object"]["address"]) == ("container.loopback-listener", "127.0.0.1")


def test_something_between_the_hosts(cluster):
    """VXLAN vanishes in the fabric while an echo between the hosts gets through."""
    fault = cluster.break_("drop", host="fabric", proto="udp", dport=4789)
    cause = only_cause(diagnose(cluster))
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.filtered", None, "proven")
    assert (cause["object"]["protocol"], cause["object"]["port"]) == ("udp", 4789)
    cluster.heal(fault)
    diagnose(cluster, code=0)


def test_what_cannot_be_understood(cluster):
    manager = cluster.host("manager")
    for words, said in (
        (("front", "bakc:80", "--via", "ssh"), "DESTINATION 'bakc': no container, service or host of that name here"),
        (("fornt", "worker1/back:80", "--via", "ssh"), "did you mean front?"),
        (("front", "worker1/back:0"), "a port is a number from 1 to 65535"),
        (("front", "worker1/back:80/sctp"), "sctp is not tcp or udp"),
        (("front", "worker1/back:80"), "--via ssh[:USER@HOST] says how to reach it"),
        (("front", "worker1/back:80", "--via", "telnet"), "--via telnet"),
        (("front", "worker2/back:80", "--via", "ssh"), "worker2"),
    ):
        result = manager.exec(["netdiag", "diagnose", *words], check=False)
        assert result.returncode != 0
        assert said in result.stderr, words
        assert "Traceback" not in result.stderr
