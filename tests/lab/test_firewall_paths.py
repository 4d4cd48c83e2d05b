"""The kernel names the rule for packets that go on: forwarded ones, a bridge's, a container's; and for real traffic."""

import json
import re

import jsonschema
import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from netdiag.report.schema import schema

OWNED = re.compile(r"^table \S+ netdiag-", re.MULTILINE)


def answer(host, *words, code):
    """The document that ``netdiag firewall trace`` prints, with its exit code as expected."""
    result = host.exec(["netdiag", "firewall", "trace", *words, "--output", "json"], check=False)
    assert result.returncode == code, result.stdout + result.stderr
    found = json.loads(result.stdout)
    jsonschema.Draft202012Validator(json.loads(schema("trace"))).validate(found)
    return found


def refused(host, *words):
    """The one line with which it refuses."""
    result = host.exec(["netdiag", "firewall", "trace", *words], check=False)
    assert (result.returncode, result.stdout) == (2, ""), result.stdout
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("Usage:", "Try "))]
    assert "Traceback" not in result.stderr
    return "\n".join(lines)


@pytest.fixture(scope="module")
def cluster(up):
    """Three engines in a swarm, with a published port, and containers of an overlay on two hosts."""
    with up("swarm3") as lab:
        manager, worker = lab.host("manager"), lab.host("worker1")
        image = "netdiag/busybox:lab"
        run = ["docker", "run", "-d", "--network", "app", "--name"]
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        manager.exec(["docker", "run", "-d", "--name", "web", "-p", "8080:80", image, "httpd", "-f", "-p", "80"])
        for host, name in ((manager, "a1"), (manager, "a2"), (worker, "b1")):
            host.exec([*run, name, image, "sleep", "100000"])
        yield lab


def address(host, container, network="app"):
    form = f"{{{{(index .NetworkSettings.Networks {network!r}).IPAddress}}}}".replace("'", '"')
    return host.exec(["docker", "inspect", "-f", form, container]).stdout.strip()


@pytest.fixture
def manager(cluster):
    """The manager; what a test's rules leave is told by the test itself."""
    return cluster.host("manager")


@pytest.fixture
def added(manager):
    """Add rules to the manager; they are gone behind the test, the newest first."""
    undo = []

    def add(add, remove):
        manager.exec(add.split())
        undo.append(remove)

    yield add
    for command in reversed(undo):
        manager.exec(command.split())


def test_a_published_port_is_decided_in_forward(manager, added):
    found = answer(manager, "--dport", "8080", code=0)
    assert (found["rule"]["chain"], found["rule"]["owner"]) == ("DOCKER", "docker")
    assert found["nat"][0]["after"] == {
        "source": "10.71.0.2",
        "destination": address(manager, "web", "bridge"),
        "source_port": found["packet"]["source_port"],
        "destination_port": 80,
    }
    assert (found["nat"][0]["rule"]["table"], found["nat"][0]["rule"]["chain"]) == ("nat", "DOCKER")
    assert found["packet"]["out_device"] == "docker0"
    added("iptables -I DOCKER-USER -p tcp --dport 80 -j DROP", "iptables -D DOCKER-USER -p tcp --dport 80 -j DROP")
    found = answer(manager, "--dport", "8080", code=1)
    assert (found["rule"]["chain"], found["rule"]["number"], found["rule"]["owner"]) == ("DOCKER-USER", 1, "operator")
    assert found["rule"]["call_site"] == "filter FORWARD rule 1: -A FORWARD -j DOCKER-USER"
    words = ("--path", "forward", "--in", "eth0", "--dst", address(manager, "web", "bridge"), "--dport", "80")
    assert answer(manager, *words, code=1)["rule"]["chain"] == "DOCKER-USER"


def test_forwarding_between_containers_of_one_bridge(manager, added):
    """The host's bridge passes them on, and its FORWARD sees them."""
    manager.exec(["docker", "run", "-d", "--rm", "--name", "other", "netdiag/busybox:lab", "sleep", "100000"])
    try:
        ends = [address(manager, name, "bridge") for name in ("other", "web")]
        words = ("--path", "forward", "--src", ends[0], "--dst", ends[1], "--dport", "80")
        found = answer(manager, *words, code=0)
        assert found["packet"]["in_device"].startswith("veth")
        assert found["packet"]["out_device"].startswith("veth")
        rule = f"FORWARD -s {ends[0]} -p tcp -j REJECT"
        added(f"iptables -I {rule}", f"iptables -D {rule}")
        found = answer(manager, *words, code=1)
        assert (found["verdict"], found["rule"]["chain"], found["rule"]["number"]) == ("reject", "FORWARD", 1)
    finally:
        manager.exec(["docker", "rm", "-f", "other"])


def test_an_overlay_s_namespace(cluster, manager):
    remote, local = address(cluster.host("worker1"), "b1"), address(manager, "a1")
    words = ("--netns", "overlay:app", "--path", "forward", "--src", remote, "--dst", local, "--dport", "22")
    found = answer(manager, *words, code=0)
    assert (found["packet"]["in_device"], found["packet"]["namespace"]) == ("vxlan0", "overlay:app")
    path = json.loads(manager.exec(["netdiag", "facts", "namespaces", "--output", "json"]).stdout)
    inside = ["nsenter", "--net=" + path["namespaces"]["value"]["overlay:app"]["path"]]
    fdb = manager.exec([*inside, "bridge", "fdb"]).stdout
    table = "table bridge guard { chain f { type filter hook forward priority 0; ip daddr %s tcp dport 22 drop; }; }"
    manager.exec([*inside, "nft", table % local])
    manager.exec([*inside, "iptables", "-A", "FORWARD", "-p", "tcp", "--dport", "23", "-j", "DROP"])
    try:
        rule = answer(manager, *words, code=1)["rule"]
        assert (rule["family"], rule["table"], rule["number"]) == ("bridge", "guard", 1)
        assert rule["namespace"] == "overlay:app"
        # br_netfilter takes it through the filters of IP as well.
        words = (*words[:-1], "23")
        assert answer(manager, *words, code=1)["rule"]["text"] == "-A FORWARD -p tcp -m tcp --dport 23 -j DROP"
        # From an address that nobody has: the bridge must not remember that it saw it.
        assert (
            answer(manager, *words[:5], "10.0.1.77", *words[6:], "--in", "vxlan0", code=1)["rule"]["chain"] == "FORWARD"
        )
        assert manager.exec([*inside, "bridge", "fdb"]).stdout == fdb
    finally:
        manager.exec([*inside, "iptables", "-F", "FORWARD"])
        manager.exec([*inside, "nft", "delete", "table", "bridge", "guard"])


def test_an_arp_request(manager, added):
    assert answer(manager, "--proto", "arp", code=0)["path"] == []
    added("nft add table arp guard", "nft delete table arp guard")
    manager.exec(["nft", "add chain arp guard in { type filter hook input priority 0 ; }"])
    manager.exec(["nft", "add rule arp guard in arp operation request drop"])
    rule = answer(manager, "--proto", "arp", code=1)["rule"]
    assert (rule["family"], rule["table"], rule["text"]) == ("arp", "guard", "arp operation request drop")


def test_other_protocols(manager, added):
    assert answer(manager, "--proto", "50", code=0)["packet"]["protocol"] == "esp"
    added("iptables -I INPUT -p esp -j DROP", "iptables -D INPUT -p esp -j DROP")
    added("iptables -I OUTPUT -p 112 -j DROP", "iptables -D OUTPUT -p 112 -j DROP")
    assert answer(manager, "--proto", "esp", code=1)["rule"]["text"] == "-A INPUT -p esp -j DROP"
    words = ("--path", "out", "--dst", "10.71.0.2", "--proto", "112")
    assert answer(manager, *words, code=1)["rule"]["chain"] == "OUTPUT"


def test_inside_a_container(manager):
    inside = ["nsenter", "-n", "-t", manager.exec(["docker", "inspect", "-f", "{{.State.Pid}}", "web"]).stdout.strip()]
    assert answer(manager, "--container", "web", "--dport", "80", code=0)["packet"]["namespace"] == "container:web"
    manager.exec([*inside, "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"])
    try:
        rule = answer(manager, "--container", "web", "--dport", "80", code=1)["rule"]
        assert (rule["namespace"], rule["chain"], rule["number"]) == ("container:web", "INPUT", 1)
        identity = manager.exec(["docker", "inspect", "-f", "{{.Id}}", "web"]).stdout[:12]
        assert answer(manager, "--container", identity, "--dport", "80", code=1)["rule"] == {**rule}
        # The host's own filters never see what is inside; but a published port ends there, and so does its trace.
        assert answer(manager, "--dport", "80", code=0)["rule"] is None
        found = answer(manager, "--dport", "8080", code=1)
        assert (found["verdict"], found["confidence"], found["packet"]["namespace"]) == ("drop", "proven", "host")
        assert (found["rule"]["namespace"], found["rule"]["chain"]) == ("container:web", "INPUT")
        assert {"host", "container:web"} == {step["rule"]["namespace"] for step in found["path"]}
        result = manager.exec(["netdiag", "firewall", "allow", "--src", "10.71.0.2", "--dport", "8080"], check=False)
        assert (result.returncode, "the rule stands in container:web" in result.stdout) == (1, True), result.stdout
    finally:
        manager.exec([*inside, "iptables", "-F", "INPUT"])


def test_forwarding_that_is_switched_off_is_suspected(manager):
    words = ("--path", "forward", "--in", "eth0", "--dst", address(manager, "web", "bridge"), "--dport", "80")
    manager.exec(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0"])
    try:
        found = answer(manager, *words, code=3)
        assert "net.ipv4.conf.eth0.forwarding is 0" in found["reason"]
        assert (found["confidence"], found["rule"]) == ("possible", None)
    finally:
        manager.exec(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=1"])


def test_what_would_lose_a_packet_behind_a_published_port(manager):
    manager.exec(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0"])
    try:
        assert "net.ipv4.conf.eth0.forwarding is 0" in answer(manager, "--dport", "8080", code=3)["reason"]
    finally:
        manager.exec(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=1"])


def test_the_way_back_of_an_answer(manager):
    assert answer(manager, "--dport", "22", code=0)["reason"] == "only this packet was followed, not its answer"
    manager.exec(["ip", "route", "add", "blackhole", "10.71.0.77/32"])
    try:
        found = answer(manager, "--in", "eth0", "--src", "10.71.0.77", "--dst", "10.71.0.1", "--dport", "22", code=0)
        assert "an answer does not come back: route lookup for 10.71.0.77: a blackhole route" in found["reason"]
        assert found["confidence"] == "proven"
    finally:
        manager.exec(["ip", "route", "del", "blackhole", "10.71.0.77/32"])


def test_a_bridge_of_the_engine_named_as_the_device(manager, added):
    """Chains of the family bridge stand between two containers, and only a packet at a port meets them."""
    manager.exec(["docker", "run", "-d", "--rm", "--name", "other", "netdiag/busybox:lab", "sleep", "100000"])
    try:
        ends = [address(manager, name, "bridge") for name in ("other", "web")]
        words = ("--path", "forward", "--in", "docker0", "--src", ends[0], "--dst", ends[1], "--dport", "9000")
        assert answer(manager, *words, code=0)["confidence"] == "proven"
        added("nft add table bridge guard", "nft delete table bridge guard")
        manager.exec(["nft", "add chain bridge guard f { type filter hook forward priority 0 ; }"])
        manager.exec(["nft", "add rule bridge guard f tcp dport 9000 drop"])
        assert answer(manager, *words, code=1)["rule"]["family"] == "bridge"
        host = ("--in", "docker0", "--src", ends[0], "--dst", "10.71.0.1", "--dport", "22")
        assert answer(manager, *host, code=0)["packet"]["in_device"].startswith("veth")
    finally:
        manager.exec(["docker", "rm", "-f", "other"])


def test_a_rule_that_remembers_is_not_met_unasked(manager, added):
    """A peer that never sent anything must not be banned for it."""
    rule = "INPUT -p tcp -m tcp --dport 9000 -m recent --set --name bad --mask 255.255.255.255 --rsource"
    words = ("--src", "10.71.0.2", "--dport", "9000")
    added(f"iptables -A {rule}", f"iptables -D {rule}")
    said = refused(manager, *words)
    assert f"--let-remember goes on): filter INPUT rule 1: -A {rule}" in said
    assert said.count("\n") == 0
    assert answer(manager, "--src", "10.71.0.2", "--dport", "9001", code=0)["verdict"] == "accept"
    assert manager.exec(["cat", "/proc/net/xt_recent/bad"]).stdout == ""
    allow = manager.exec(["netdiag", "firewall", "allow", *words], check=False)
    assert (allow.returncode, "--let-remember" in allow.stderr) == (2, True)
    answer(manager, *words, "--let-remember", code=0)
    assert "src=10.71.0.2" in manager.exec(["cat", "/proc/net/xt_recent/bad"]).stdout


def test_a_rule_that_looks_into_the_payload_saw_none(manager, added):
    added("nft add table inet look", "nft delete table inet look")
    manager.exec(["nft", "add chain inet look in { type filter hook input priority 0 ; }"])
    manager.exec(["nft", "add rule inet look in tcp dport 9000 @th,160,32 0x47455420 drop"])
    found = answer(manager, "--dport", "9000", code=0)
    assert "carries no payload, and this rule looks into one: look in rule 1:" in found["reason"]


SEND = "import socket; s = socket.socket(2, 2)\nfor port in (4, 5): s.sendto(b'real', ('10.71.0.1', port))"


def test_waiting_for_a_packet_of_somebody_else_s(cluster, manager, added):
    added("iptables -I INPUT -p udp --dport 5 -j DROP", "iptables -D INPUT -p udp --dport 5 -j DROP")
    for port, verdict in (("5", "drop"), ("4", "accept")):
        words = ["--wait", "20", "--proto", "udp", "--dport", port, "-o", "json"]
        with manager.popen(["netdiag", "firewall", "trace", *words]) as waiting:
            try:
                until(lambda: OWNED.search(manager.exec(["nft", "list", "ruleset"]).stdout), 10, "the trace's table")
                cluster.host("worker1").exec(["python3", "-c", SEND])
                found = json.loads(waiting.communicate(timeout=20)[0])
            finally:
                end_group(waiting)
        assert found["verdict"] == verdict, found
        assert (found["packet"]["source"], found["packet"]["destination_port"]) == ("10.71.0.2", int(port))
        assert found["packet"]["in_device"] == "eth0"
        if verdict == "drop":
            assert found["rule"]["text"] == "-A INPUT -p udp -m udp --dport 5 -j DROP"
    found = answer(manager, "--wait", "0.3", "--proto", "udp", "--dport", "6", code=3)
    assert "no such packet was seen within 0.3 s" in found["reason"]
    assert not OWNED.search(manager.exec(["nft", "list", "ruleset"]).stdout)


TABLE = "table inet late { chain in { type filter hook input priority 0; udp dport 5 %s; }; }"


def test_rules_that_change_before_the_packet_comes(cluster, manager):
    """A table that is made again gives its handles again, to other rules."""
    manager.exec(["nft", TABLE % "drop"])
    words = ["--wait", "20", "--proto", "udp", "--dport", "5", "-o", "json"]
    try:
        with manager.popen(["netdiag", "firewall", "trace", *words]) as waiting:
            try:
                until(lambda: OWNED.search(manager.exec(["nft", "list", "ruleset"]).stdout), 10, "the trace's table")
                manager.exec(["nft", "delete table inet late"])
                manager.exec(["nft", TABLE % "reject"])
                cluster.host("worker1").exec(["python3", "-c", SEND])
                found = json.loads(waiting.communicate(timeout=20)[0])
            finally:
                end_group(waiting)
    finally:
        manager.exec(["nft", "delete table inet late"])
    assert (found["verdict"], found["confidence"]) == ("drop", "likely"), found
    assert (found["rule"]["table"], found["rule"]["text"], found["rule"]["number"]) == ("late", "", None)
    assert found["reason"] == "the rule set changed meanwhile"


def test_what_is_named_wrongly(manager):
    for words, said in (
        (("--container", "wev", "--dport", "80"), "--container wev: no such container; did you mean web?"),
        (
            ("--netns", "overlay:ap", "--dport", "80"),
            "--netns overlay:ap: no such namespace in use; did you mean overlay:app",
        ),
        (("--container", "web", "--netns", "host"), "give one of them"),
        (("--path", "forward", "--dst", "172.17.0.2"), "--in or --src says where it comes from"),
        (("--path", "forward", "--in", "eth0", "--dst", "10.71.0.1"), "is an address of this host: --path in"),
        (("--proto", "arp", "--path", "out", "--dst", "10.71.0.2"), "only a request that arrives"),
        (("--proto", "arp", "--dst", "fd00::1"), "--proto arp goes with IPv4"),
        (("--proto", "nope"), "'nope': tcp, udp, icmp, icmpv6, esp, ah, gre, ipip, arp, or a number below 256"),
        (("--mac", "01:00:5e:00:00:01"), "is a group's address"),
        (("--wait", "5"), "says for which packet"),
        (("--wait", "5", "--dport", "80", "--proto", "icmp"), "--proto icmp has no ports"),
        (("--in", "lo", "--dport", "80"), "what this host sends to itself is asked by --path out"),
    ):
        assert said in refused(manager, *words), words
