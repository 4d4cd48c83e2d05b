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
    """Every second tuple: the one that was tried may live, and its neighbours do not."""
    worker = cluster.host("worker1").address
    fault = broken("flow-hash", members=2, source=worker, **VXLAN)
    report = diagnose(cluster)
    (cause,) = report["causes"]
    assert (cause["code"], cause["parent"], cause["host"]) == ("underlay.flow-hash", "underlay.loss", None)
    assert (cause["confidence"], cause["object"]["from"]) == ("proven", worker)
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
