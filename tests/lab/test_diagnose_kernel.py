"""What a host's kernel drops by itself is named by its setting or program, and what only looks alike is not."""

import contextlib
import os

import pytest

from netdiag.lab.host import end_group
from tests.lab.diagnosing import diagnose, healed, inside, only_cause, said

IMAGE = "netdiag/busybox:lab"
SERVE = ["httpd", "-f", "-p", "80"]
OVERLAY = ("front", "worker1/back:80")
PUBLISHED = ("manager", "worker1:8081")
ROUTED = ("manager", "worker1/inner:80")


@pytest.fixture(scope="module")
def cluster(up):
    """Three engines; containers of an overlay on two, a published port, and a network that is routed between hosts."""
    with up("swarm3") as lab:
        manager, worker = lab.host("manager"), lab.host("worker1")
        lab.break_("sshd", host="worker1")
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        manager.exec(["docker", "run", "-d", "--network", "app", "--name", "front", IMAGE, "sleep", "100000"])
        worker.exec(["docker", "run", "-d", "--network", "app", "--name", "back", IMAGE, *SERVE])
        worker.exec(["docker", "run", "-d", "--name", "store", "-p", "8081:80", IMAGE, *SERVE])
        worker.exec(["docker", "network", "create", "--subnet", "172.30.0.0/24", "routed"])
        worker.exec(["docker", "run", "-d", "--name", "inner", "--network", "routed", IMAGE, *SERVE])
        worker.exec(["iptables", "-I", "DOCKER-USER", "-d", "172.30.0.0/24", "-j", "ACCEPT"])
        # Another source than the one by which ssh comes, so that what happens to it does not happen to ssh.
        manager.exec(["ip", "address", "add", "10.99.0.1/32", "dev", "lo"])
        manager.exec(["ip", "route", "add", "172.30.0.0/24", "via", worker.address, "src", "10.99.0.1"])
        worker.exec(["ip", "route", "add", "10.99.0.0/24", "via", manager.address])
        yield lab


@pytest.fixture(autouse=True)
def _whole(cluster):
    """Every test leaves the lab as it was."""
    before = len(cluster.faults())
    yield
    for fault in reversed(cluster.faults()[before:]):
        cluster.heal(fault)


@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "net.ipv4.conf.eth0.forwarding"])
def test_forwarding_is_off(cluster, key):
    cluster.break_("sysctl", host="worker1", key=key, value=0)
    cause = only_cause(diagnose(cluster, *PUBLISHED, code=1))
    assert said(cause) == ("sysctl.ip-forward", "worker1", "proven")
    assert (cause["object"]["key"], cause["object"]["value"]) == (key, "0")
    # What an overlay carries ends on the host: forwarding has nothing to do with it.
    assert diagnose(cluster, *OVERLAY, code=0)["causes"] == []
    with healed(cluster, cause):
        diagnose(cluster, *PUBLISHED, code=0)


def test_forwarding_is_off_where_the_flow_begins(cluster):
    manager = cluster.host("manager")
    manager.exec(["docker", "run", "-d", "--name", "client", IMAGE, "sleep", "100000"])
    cluster.break_("sysctl", host="manager", key="net.ipv4.ip_forward", value=0)
    cause = only_cause(diagnose(cluster, "client", "worker1:8081", code=1))
    assert said(cause) == ("sysctl.ip-forward", "manager", "proven")


@contextlib.contextmanager
def reverse_route(lab, *words):
    """Worker1 answers the second source by another way."""
    worker, manager = lab.host("worker1"), lab.host("manager")
    worker.exec(["ip", "route", "replace", "10.99.0.0/24", *words])
    try:
        yield
    finally:
        worker.exec(["ip", "route", "replace", "10.99.0.0/24", "via", manager.address])


@pytest.mark.parametrize("name", ["eth0", "all"])
def test_a_strict_reverse_path_filter(cluster, name):
    key = f"net.ipv4.conf.{name}.rp_filter"
    cluster.break_("sysctl", host="worker1", key=key, value=1)
    # It is strict, and the reverse route is the same device: nothing is dropped.
    assert diagnose(cluster, *ROUTED, code=0)["causes"] == []
    with reverse_route(cluster, "dev", "docker_gwbridge"):
        cause = only_cause(diagnose(cluster, *ROUTED, code=1))
        assert said(cause) == ("sysctl.rp-filter", "worker1", "proven")
        named = cause["object"]
        assert (named["key"], named["device"], named["reverse_device"]) == (key, "eth0", "docker_gwbridge")
        with healed(cluster, cause):
            # It gets further now: its answer takes the way that the filter had objected to.
            report = diagnose(cluster, *ROUTED, code=1)
            assert "sysctl.rp-filter" not in [each["code"] for each in report["causes"]]


def test_a_loose_reverse_path_filter_is_not_blamed(cluster):
    cluster.break_("sysctl", host="worker1", key="net.ipv4.conf.eth0.rp_filter", value=2)
    with reverse_route(cluster, "dev", "docker_gwbridge"):
        report = diagnose(cluster, *ROUTED, code=1)
        assert "sysctl.rp-filter" not in [each["code"] for each in report["causes"]]


@pytest.mark.parametrize("mode", ["generic", "native"])
def test_an_xdp_program_that_drops(cluster, mode):
    cluster.break_("xdp-drop", host="worker1", proto="udp", dport=4789, mode=mode)
    cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
    assert said(cause) == ("host.xdp-drop", "worker1", "proven")
    assert cause["object"]["device"] == "eth0"
    assert cause["object"]["id"] > 0
    with healed(cluster, cause):
        assert diagnose(cluster, *OVERLAY, code=0)["causes"] == []


def test_an_xdp_program_that_passes_is_not_blamed_for_the_network(cluster):
    cluster.break_("xdp-drop", host="worker1", proto="udp", dport=4789, action="pass")
    cluster.break_("drop", host="fabric", proto="udp", dport=4789)
    cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
    # Less sure than without it: what a program takes is seen nowhere.
    assert said(cause) == ("underlay.filtered", None, "likely")


@pytest.mark.parametrize(("host", "direction"), [("worker1", "ingress"), ("manager", "egress")])
def test_a_tc_filter_that_drops(cluster, host, direction):
    cluster.break_("tc-drop", host=host, proto="udp", dport=4789, direction=direction)
    cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
    assert said(cause) == ("host.tc-drop", host, "proven")
    assert (cause["object"]["device"], cause["object"]["direction"]) == ("eth0", direction)
    with healed(cluster, cause):
        assert diagnose(cluster, *OVERLAY, code=0)["causes"] == []


@pytest.mark.parametrize(("host", "direction"), [("worker1", "ingress"), ("manager", "egress")])
def test_a_program_that_tc_does_not_show(cluster, host, direction):
    fault = cluster.break_("tc-drop", host=host, proto="udp", dport=4789, direction=direction, by="tcx")
    cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
    assert said(cause) == ("host.tc-drop", host, "proven")
    assert (cause["object"]["device"], cause["object"]["direction"]) == ("eth0", direction)
    assert cause["remedy"][0]["commands"] == [f"bpftool net detach tcx_{direction} dev eth0"]
    cluster.heal(fault)
    assert diagnose(cluster, *OVERLAY, code=0)["causes"] == []


def test_such_a_program_that_passes_is_not_blamed(cluster):
    """For what the stack behind it drops."""
    cluster.break_("tc-drop", host="worker1", action="pass", by="tcx")
    cluster.break_("sysctl", host="worker1", key="net.ipv4.ip_forward", value=0)
    assert said(only_cause(diagnose(cluster, *PUBLISHED, code=1))) == ("sysctl.ip-forward", "worker1", "proven")


def test_a_tc_filter_that_passes_is_not_blamed_for_a_rule(cluster):
    cluster.break_("tc-drop", host="worker1", proto="udp", dport=4789, action="pass")
    cluster.break_("drop", host="worker1", proto="udp", dport=4789)
    cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
    assert said(cause) == ("firewall.rule", "worker1", "proven")


@pytest.mark.skipif(
    "NETDIAG_ALONE" not in os.environ,
    reason="the table's limit is the whole machine's: NETDIAG_ALONE=1, nothing beside it",
)
def test_a_full_connection_tracking_table(cluster):
    # As a careful administrator does, so that ssh needs no room in it.
    worker = cluster.host("worker1")
    for chain, port in (("PREROUTING", "--dport"), ("OUTPUT", "--sport")):
        worker.exec(["iptables", "-w", "-t", "raw", "-A", chain, "-p", "tcp", port, "22", "-j", "NOTRACK"])
    fault = cluster.break_("conntrack-full", host="worker1")
    try:
        for _ in range(3):
            report = diagnose(cluster, *PUBLISHED, code=None)
            if report["causes"]:
                break
            # What ended meanwhile has made room for the second SYN: fill it again.
            cluster.heal(fault)
            fault = cluster.break_("conntrack-full", host="worker1")
        cause = only_cause(report)
        assert said(cause) == ("conntrack.full", "worker1", "proven")
        assert cause["object"]["count"] >= cause["object"]["maximum"] * 0.99
        assert cause["object"]["drops"] > 0
        cluster.heal(fault)
        # Its drops are counted for ever, and say nothing of a packet that a rule takes now.
        cluster.break_("drop", host="worker1", chain="DOCKER-USER", proto="tcp", dport=80)
        assert only_cause(diagnose(cluster, *PUBLISHED, code=1))["code"] == "firewall.rule"
    finally:
        worker.exec(["iptables", "-w", "-t", "raw", "-F"])


MEANT = {
    "tcp for udp": ("iptables", "-I INPUT -p tcp --dport 4789 -j ACCEPT", "it asks for protocol tcp"),
    "for another host": ("iptables", "-I INPUT -s 10.71.0.9 -p udp --dport 4789 -j ACCEPT", "source 10.71.0.9"),
    "behind": ("iptables", "-A INPUT -p udp --dport 4789 -j ACCEPT", "behind the one that decides"),
    "forwarded": ("iptables", "-I FORWARD -p udp --dport 4789 -j ACCEPT", "it stands at forward"),
}


@contextlib.contextmanager
def accepting(lab, tool, text):
    """A rule on worker1 that accepts something, beside one for something else."""
    worker, (action, chain, *rest) = lab.host("worker1"), text.split()
    other = ["INPUT", "-p", "udp", "--dport", "4790", "-j", "ACCEPT"]
    worker.exec([tool, "-w", action, chain, *rest])
    worker.exec([tool, "-w", "-A", *other])
    try:
        yield
    finally:
        worker.exec([tool, "-w", "-D", chain, *rest])
        worker.exec([tool, "-w", "-D", *other])


@pytest.mark.parametrize("row", MEANT.values(), ids=MEANT)
def test_a_rule_that_was_meant_to_accept_it(cluster, row):
    tool, text, why = row
    cluster.break_("drop", host="worker1", proto="udp", dport=4789)
    with accepting(cluster, tool, text):
        cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
        assert said(cause) == ("firewall.rule", "worker1", "proven")
        assert cause["because"] == ["firewall.near-miss"]
        (missed,) = [seen["text"] for seen in cause["evidence"] if seen["kind"] == "rule"]
        assert why in missed


@pytest.mark.parametrize("dropping", ["iptables", "iptables-legacy"])
def test_what_one_backend_accepts_the_other_drops(cluster, dropping):
    other = {"iptables": "iptables-legacy", "iptables-legacy": "iptables"}[dropping]
    cluster.break_("drop", host="worker1", proto="udp", dport=4789, backend=dropping)
    assert only_cause(diagnose(cluster, *OVERLAY, code=1))["code"] == "firewall.rule"
    with accepting(cluster, other, "-I INPUT -p udp --dport 4789 -j ACCEPT"):
        cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
        assert said(cause) == ("firewall.backend-split", "worker1", "proven")
        assert sorted(cause["object"]["backends"]) == ["iptables-legacy", "iptables-nft"]
        assert cause["object"]["backend"] == {"iptables": "iptables-nft"}.get(dropping, dropping)
        with healed(cluster, cause):
            diagnose(cluster, *OVERLAY, code=0)


def test_a_rule_that_nobody_saved(cluster):
    """What is saved is loaded at boot, and has not the rule that drops."""
    worker, saved = cluster.host("worker1"), "/etc/iptables/rules.v4"
    unit = "/etc/systemd/system/netfilter-persistent.service"
    service = "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    for file, text in ((saved, "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"), (unit, service)):
        worker.exec(["mkdir", "-p", file.rpartition("/")[0]])
        worker.exec(["tee", file], stdin=text)
    worker.exec(["systemctl", "enable", "netfilter-persistent"])
    try:
        cluster.break_("drop", host="worker1", proto="udp", dport=4789)
        cause = only_cause(diagnose(cluster, *OVERLAY, code=1))
        assert (cause["code"], cause["because"]) == ("firewall.rule", ["firewall.not-persistent"])
    finally:
        worker.exec(["systemctl", "disable", "netfilter-persistent"])
        worker.exec(["rm", "-f", saved, unit])


def test_an_encrypted_network(cluster):
    """Not every kernel can encrypt: one that cannot is named with the part that it lacks, on both hosts."""
    manager, worker = cluster.host("manager"), cluster.host("worker1")
    manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "--opt", "encrypted", "secret"])
    manager.exec(["docker", "run", "-d", "--network", "secret", "--name", "sender", IMAGE, "sleep", "100000"])
    worker.exec(["docker", "run", "-d", "--network", "secret", "--name", "receiver", IMAGE, *SERVE])
    features = manager.exec(["netdiag", "facts", "kernel"]).stdout.splitlines()
    lacking = {line.split()[0] for line in features if line.split()[1:2] == ["missing"]}
    report = diagnose(cluster, "sender", "worker1/receiver:80", code=1 if lacking & {"esp4", "gcm"} else 0)
    named = [(*said(cause), cause["object"]["feature"] in lacking) for cause in report["causes"]]
    if lacking & {"esp4", "gcm"}:
        assert named == [("overlay.encryption", host, "proven", True) for host in ("manager", "worker1")]
    fault = cluster.break_("drop", host="worker1", proto="esp")
    stopped = diagnose(cluster, "sender", "worker1/receiver:80", code=1)["causes"]
    assert said(stopped[-1]) == ("firewall.rule", "worker1", "proven")
    assert "protocol 50 in from 10.71.0.1" in stopped[-1]["explanation"]
    cluster.heal(fault)
    # A network that is not encrypted needs none of it.
    assert diagnose(cluster, *OVERLAY, code=0)["causes"] == []


VIP = "10.71.0.50"


@contextlib.contextmanager
def second_address(lab, device):
    """Worker1 has one more address, on a device of its own or on its NIC, and serves there."""
    worker, manager = lab.host("worker1"), lab.host("manager")
    if device != "eth0":
        worker.exec(["ip", "link", "add", device, "type", "veth", "peer", "name", f"{device}-peer"])
        worker.exec(["ip", "link", "set", device, "up"])
        worker.exec(["ip", "link", "set", f"{device}-peer", "up"])
    worker.exec(["ip", "address", "add", f"{VIP}/32", "dev", device])
    server = worker.popen(["busybox", "httpd", "-f", "-p", f"{VIP}:7000"])
    try:
        yield
    finally:
        end_group(server)
        worker.exec(["ip", "address", "delete", f"{VIP}/32", "dev", device])
        if device != "eth0":
            worker.exec(["ip", "link", "delete", device])
        manager.exec(["ip", "neighbour", "flush", "to", VIP])


def test_arp_is_ignored_for_an_address_of_another_device(cluster):
    key = "net.ipv4.conf.eth0.arp_ignore"
    cluster.break_("sysctl", host="worker1", key=key, value=1)
    with second_address(cluster, "site0"):
        cause = only_cause(diagnose(cluster, "manager", f"worker1/{VIP}:7000", code=1))
        assert said(cause) == ("sysctl.arp-ignore", "worker1", "proven")
        assert (cause["object"]["key"], cause["object"]["value"], cause["object"]["device"]) == (key, "1", "eth0")
        with healed(cluster, cause):
            diagnose(cluster, "manager", f"worker1/{VIP}:7000", code=0)


def test_arp_ignore_does_not_concern_an_address_of_the_same_device(cluster):
    cluster.break_("sysctl", host="worker1", key="net.ipv4.conf.eth0.arp_ignore", value=1)
    with second_address(cluster, "eth0"):
        assert diagnose(cluster, "manager", f"worker1/{VIP}:7000", code=0)["causes"] == []


@pytest.fixture
def calico(cluster):
    """A container as Calico attaches one: a gateway that nobody has, and a host that answers for it."""
    manager, worker = cluster.host("manager"), cluster.host("worker1")
    manager.exec(["docker", "run", "-d", "--network", "none", "--name", "pod", IMAGE, "sleep", "100000"])
    enter = inside(cluster, "manager", "pod")
    manager.exec(["ip", "link", "add", "cali0", "type", "veth", "peer", "name", "eth0", "netns", enter[-1]])
    for words in (
        ["link", "set", "eth0", "up"],
        ["address", "add", "192.168.77.5/32", "dev", "eth0"],
        ["route", "add", "169.254.1.1", "dev", "eth0"],
        ["route", "add", "default", "via", "169.254.1.1", "dev", "eth0"],
    ):
        manager.exec([*enter, "ip", *words])
    for words in (
        ["ip", "link", "set", "cali0", "up"],
        ["ip", "route", "add", "192.168.77.5", "dev", "cali0"],
        ["ip", "route", "add", "default", "via", worker.address],
        ["sysctl", "-qw", "net.ipv4.conf.cali0.proxy_arp=1"],
        ["iptables", "-w", "-I", "FORWARD", "-i", "cali+", "-j", "ACCEPT"],
        ["iptables", "-w", "-I", "FORWARD", "-o", "cali+", "-j", "ACCEPT"],
    ):
        manager.exec(words)
    worker.exec(["ip", "route", "add", "192.168.77.0/24", "via", manager.address])
    yield enter
    manager.exec(["docker", "rm", "-f", "pod"])
    manager.exec(["ip", "route", "delete", "default"], check=False)
    worker.exec(["ip", "route", "delete", "192.168.77.0/24"])


def test_nobody_answers_arp_for_the_gateway(cluster, calico):
    key = "net.ipv4.conf.cali0.proxy_arp"
    # By hand: the device is gone with the container, and with it the setting that a fault would put back.
    cluster.host("manager").exec(["sysctl", "-qw", f"{key}=0"])
    cluster.host("manager").exec([*calico, "ip", "neighbour", "flush", "dev", "eth0"])
    cause = only_cause(diagnose(cluster, "pod", "worker1:22", code=1))
    assert said(cause) == ("sysctl.proxy-arp", "manager", "proven")
    assert (cause["object"]["key"], cause["object"]["device"]) == (key, "cali0")
    with healed(cluster, cause):
        diagnose(cluster, "pod", "worker1:22", code=0)


def test_a_host_without_a_default_route_does_not_answer_either(cluster, calico):
    manager = cluster.host("manager")
    manager.exec(["sysctl", "-qw", "net.ipv4.conf.cali0.proxy_arp=0"])
    manager.exec(["ip", "route", "delete", "default"])
    manager.exec([*calico, "ip", "neighbour", "flush", "dev", "eth0"])
    assert diagnose(cluster, "pod", "worker1:22", code=1)["causes"] == []
