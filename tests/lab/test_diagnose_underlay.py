"""What the network between two hosts does to a flow: named with what was counted, and nothing where it is chance."""

import json

import pytest

IMAGE = "netdiag/busybox:lab"
VXLAN = {"proto": "udp", "dport": 4789}


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


def diagnose(lab, source="front", destination="worker1/back", code=1, via=("--via", "ssh")):
    """The report of a diagnosis on the manager, with its exit code as expected."""
    words = ["netdiag", "diagnose", source, destination, *via, "--output", "json"]
    result = lab.host("manager").exec(words, check=False, timeout_s=60)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def codes(report):
    return [cause["code"] for cause in report["causes"]]


def healed(lab, cause):
    """Run the proposed commands, and give what undoes them."""
    (remedy,) = cause["remedy"]
    for command in remedy["commands"]:
        lab.host(remedy["host"]).exec(["sh", "-c", command])
    return lambda: [lab.host(remedy["host"]).exec(["sh", "-c", command]) for command in remedy["undo"]]


@pytest.fixture
def broken(cluster):
    """Breaks something for one test."""
    made = []

    def do(fault, **values):
        made.append(cluster.break_(fault, **values))
        return made[-1]

    yield do
    for fault in made:
        if fault in cluster.faults():
            cluster.heal(fault)


@pytest.fixture
def small_segments(cluster):
    """TCP agrees on small segments, as behind a clamp of MSS: ssh works on a path that swallows large packets."""
    route = ["ip", "route", "replace", "10.71.0.0/24", "dev", "eth0", "proto", "kernel", "scope", "link", "src"]
    hosts = [cluster.host("manager"), cluster.host("worker1")]
    for host in hosts:
        host.exec([*route, host.address, "advmss", "1200"])
    yield
    for host in hosts:
        host.exec([*route, host.address])


def between(report):
    return [found for found in report["findings"] if found["check"] == "path.between"]


def test_a_healthy_way_is_counted_and_said_to_be_so(cluster):
    report = diagnose(cluster, code=0)
    assert report["causes"] == []
    (found,) = between(report)
    assert found["state"] == "ok"
    assert "0 of them lost" in found["summary"]


@pytest.mark.parametrize("percent", [5, 20])
def test_loss_is_measured_in_its_direction(cluster, broken, percent):
    manager = cluster.host("manager").address
    broken("loss", percent=percent, source=manager, **VXLAN)
    (cause,) = diagnose(cluster)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.loss", None, "proven")
    said = cause["object"]
    assert (said["from"], said["hosts"], said["protocol"], said["port"]) == (
        manager,
        ["manager", "worker1"],
        "udp",
        4789,
    )
    assert said["low"] < said["rate"] < said["high"]
    assert 0.2 * percent < 100 * said["rate"] < 2.5 * percent
    assert said["sent"] > 300


def test_a_share_of_the_flows_that_dies(cluster, broken):
    """Every second tuple, either way: the one that was tried may live, and its neighbours do not."""
    fault = broken("flow-hash", members=2, **VXLAN)
    report = diagnose(cluster)
    assert codes(report) == ["underlay.flow-hash"] * 2
    assert sorted(cause["object"]["hosts"][0] for cause in report["causes"]) == ["manager", "worker1"]
    for cause in report["causes"]:
        assert (cause["parent"], cause["host"], cause["confidence"]) == ("underlay.loss", None, "proven")
        assert 0.2 < cause["object"]["share"] < 0.8
        assert cause["object"]["dead"] == round(cause["object"]["share"] * cause["object"]["flows"])
    cluster.heal(fault)
    assert codes(diagnose(cluster, code=0)) == []


def test_a_packet_that_is_lost_by_chance_is_no_cause(cluster, broken):
    """Both tries of the first connection are lost; nothing is by the time that it is looked at."""
    broken("lose-first", bytes=250, **VXLAN)
    report = diagnose(cluster, destination="worker1/back:80", code=0)
    assert codes(report) == []
    (found,) = between(report)
    assert found["state"] == "warn"
    assert "it may have been chance" in found["summary"]


def test_a_second_try_that_succeeds_is_no_cause_either(cluster, broken):
    broken("lose-first", bytes=150, **VXLAN)
    report = diagnose(cluster, destination="worker1/back:80", code=0)
    assert codes(report) == []
    assert "at try 2" in report["findings"][0]["summary"]
    assert [found["state"] for found in between(report)] == ["warn"]


def test_a_second_try_that_succeeds_on_a_way_that_loses(cluster, broken):
    broken("lose-first", bytes=150, **VXLAN)
    broken("loss", percent=30, **VXLAN)
    report = diagnose(cluster, destination="worker1/back:80")
    assert set(codes(report)) == {"underlay.loss"}


def test_an_address_that_is_translated(cluster, broken):
    manager = cluster.host("manager").address
    fault = broken("nat", source=manager, to="10.71.0.77", **VXLAN)
    (cause,) = diagnose(cluster, destination="worker1/back:80")["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.nat", None, "proven")
    assert (cause["object"]["before"], cause["object"]["after"]) == (manager, "10.71.0.77")
    cluster.heal(fault)
    assert codes(diagnose(cluster, destination="worker1/back:80", code=0)) == []


@pytest.mark.parametrize("side", ["manager", "worker1"])
def test_overlay_packets_from_another_address_of_their_own_host(cluster, broken, side):
    """Either way: what the source's host sends, and what the destination's host answers with."""
    host = cluster.host(side)
    broken("route-source", host=side, address="10.71.0.77/32")
    (cause,) = diagnose(cluster, destination="worker1/back:80")["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("overlay.vtep-source", side, "proven")
    assert (cause["object"]["address"], cause["object"]["expected"]) == ("10.71.0.77", host.address)
    undo = healed(cluster, cause)
    try:
        assert codes(diagnose(cluster, destination="worker1/back:80", code=0)) == []
    finally:
        undo()


def test_a_second_address_that_nothing_is_sent_from_is_no_cause(cluster, broken):
    broken("address", host="manager", address="10.71.0.77/24")
    assert codes(diagnose(cluster, destination="worker1/back:80", code=0)) == []


def vni_of(lab):
    form = '{{index .Options "com.docker.network.driver.overlay.vxlanid_list"}}'
    return int(lab.host("manager").exec(["docker", "network", "inspect", "-f", form, "app"]).stdout)


def test_a_foreign_device_that_has_taken_the_network_s_number(cluster, broken):
    worker = cluster.host("worker1")
    network = worker.exec(["docker", "network", "inspect", "-f", "{{.Id}}", "app"]).stdout.strip()
    worker.exec(["nsenter", f"--net=/run/docker/netns/1-{network[:10]}", "--", "ip", "link", "del", "vxlan0"])
    broken("vxlan", host="worker1", vni=vni_of(cluster), netns="other")
    (cause,) = diagnose(cluster, destination="worker1/back:80")["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("overlay.vni-conflict", "worker1", "proven")
    assert (cause["object"]["name"], cause["object"]["vni"]) == ("foreign0", vni_of(cluster))
    assert cause["object"]["namespace"] == "netns:other"
    healed(cluster, cause)
    assert codes(diagnose(cluster, destination="worker1/back:80", code=0)) == []


def test_the_same_number_on_another_port_is_no_conflict(cluster, broken):
    broken("vxlan", host="worker1", vni=vni_of(cluster), port=4790)
    fault = broken("drop", host="worker1", chain="INPUT", **VXLAN)
    (cause,) = diagnose(cluster, destination="worker1/back:80")["causes"]
    assert cause["code"] == "firewall.rule"
    cluster.heal(fault)
    assert codes(diagnose(cluster, destination="worker1/back:80", code=0)) == []


def test_a_path_that_carries_less_than_the_overlay_needs(cluster, broken, small_segments):
    fault = broken("mtu-blackhole", hosts="worker1", path_mtu=1400, host_mtu=1500)
    report = diagnose(cluster)
    (cause,) = report["causes"]
    assert (cause["code"], cause["parent"], cause["confidence"]) == ("overlay.mtu", "underlay.mtu", "proven")
    assert (cause["host"], cause["object"]["name"], cause["object"]["needed_bytes"]) == (None, "app", 1500)
    # A veth may leave room for a VLAN tag, 4 bytes, above its MTU.
    assert cause["object"]["path_mtu_bytes"] in (1400, 1404)
    cluster.heal(fault)
    assert codes(diagnose(cluster, code=0)) == []


def test_an_overlay_of_small_packets_on_such_a_path_is_sound(cluster, broken, small_segments):
    manager, worker = cluster.host("manager"), cluster.host("worker1")
    option = "com.docker.network.driver.mtu=1400"
    manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "--opt", option, "small"])
    try:
        manager.exec(["docker", "run", "-d", "--network", "small", "--name", "near", IMAGE, "sleep", "100000"])
        worker.exec(["docker", "run", "-d", "--network", "small", "--name", "far", IMAGE, "httpd", "-f", "-p", "80"])
        broken("mtu-blackhole", hosts="manager,worker1", path_mtu=1400, host_mtu=1500)
        assert codes(diagnose(cluster, "near", "worker1/far", code=0)) == []
    finally:
        manager.exec(["docker", "rm", "-f", "near"])
        worker.exec(["docker", "rm", "-f", "far"])


def test_hosts_that_send_more_than_the_path_carries(cluster, broken, small_segments):
    broken("mtu-blackhole", hosts="manager,worker1", path_mtu=1500, host_mtu=9000)
    report = diagnose(cluster, "manager", "worker1")
    assert set(codes(report)) == {"underlay.mtu-blackhole"}
    assert sorted(cause["host"] for cause in report["causes"]) == ["manager", "worker1"]
    for cause in report["causes"]:
        assert (cause["object"]["mtu_bytes"], cause["confidence"]) == (9000, "proven")
        assert cause["object"]["largest_bytes"] in (1500, 1504)
        healed(cluster, cause)
    assert codes(diagnose(cluster, "manager", "worker1", code=0)) == []


def test_one_host_with_large_packets_is_no_black_hole(cluster, broken):
    """The devices differ, the path carries what both agree on: no connection hangs."""
    broken("mtu", host="manager", mtu=1600)
    report = diagnose(cluster, "manager", "worker1", code=0)
    assert {found["state"] for found in report["findings"]} <= {"ok", "warn", "skip"}


def test_datagrams_that_are_dropped_by_their_length(cluster, broken):
    rules = "udp dport 4789 udp length gt 1200 drop"
    fault = broken("nft", host="fabric", family="bridge", hook="forward", rules=rules)
    report = diagnose(cluster)
    assert set(codes(report)) == {"underlay.filtered"}
    for cause in report["causes"]:
        assert (cause["object"]["port"], cause["object"]["size"], cause["host"]) == (4789, 1221, None)
    cluster.heal(fault)
    assert codes(diagnose(cluster, code=0)) == []


def test_a_switch_that_takes_vxlan_for_its_own(cluster, broken):
    """Datagrams to the port arrive, unless they look like VXLAN."""
    fault = broken("nft", host="fabric", family="bridge", hook="forward", rules="udp dport 4789 @th,64,8 8 drop")
    (cause,) = diagnose(cluster, destination="worker1/back:80")["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.filtered", None, "proven")
    assert (cause["object"]["payload"], cause["object"]["both_ways"]) == ("vxlan", True)
    assert "--data-path-port" in cause["remedy"][0]["commands"][0]
    cluster.heal(fault)
    assert codes(diagnose(cluster, destination="worker1/back:80", code=0)) == []


def test_a_filter_that_keeps_state_is_named_with_its_side(cluster):
    """As a security group of worker1 does it: what worker1 has sent to may answer."""
    worker, fabric = cluster.host("worker1").address, cluster.host("fabric")
    rules = [["-d", worker, "-m", "state", "--state", "ESTABLISHED", "-j", "ACCEPT"]]
    rules += [["-d", worker, "-p", "udp", "--dport", "4789", "-j", "DROP"]]
    fabric.exec(["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"])
    try:
        for rule in rules:
            fabric.exec(["iptables", "-A", "FORWARD", *rule])
        (cause,) = diagnose(cluster, destination="worker1/back:80")["causes"]
    finally:
        fabric.exec(["iptables", "-F", "FORWARD"])
        fabric.exec(["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"])
    assert (cause["code"], cause["object"]["hosts"]) == ("underlay.filtered", ["manager", "worker1"])
    assert cause["object"]["side"] == "worker1"


def test_segments_that_arrive_with_a_wrong_checksum(cluster, broken):
    """The ping passes; every segment comes to its end and is dropped there without a word."""
    fault = broken("bad-checksum", host="manager", netns="container:front")
    (cause,) = diagnose(cluster, destination="worker1/back:80")["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.checksum-offload", "manager", "proven")
    assert (cause["object"]["name"], cause["object"]["peer"]) == ("eth0", "worker1")
    cluster.heal(fault)
    assert codes(diagnose(cluster, destination="worker1/back:80", code=0)) == []
