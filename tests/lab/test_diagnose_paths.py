"""Every kind of way but an overlay's: what takes a flow on it is named and healed, and what only looks alike is not."""

import contextlib
import json

import pytest

from netdiag.lab.host import end_group
from tests.lab.diagnosing import healed, only_cause
from tests.lab.pasting import both

IMAGE = "netdiag/busybox:lab"
SERVE = ["httpd", "-f", "-p"]


@pytest.fixture(scope="module")
def hosts(up):
    """Two engines; a published port, an unpublished one and a network that is routed between the hosts."""
    with up("swarm2") as lab:
        manager, worker = lab.host("manager"), lab.host("worker")
        lab.break_("sshd", host="worker")
        manager.exec(["docker", "run", "-d", "--name", "shop", "-p", "8080:80", IMAGE, *SERVE, "80"])
        manager.exec(["docker", "run", "-d", "--name", "client", IMAGE, "sleep", "100000"])
        worker.exec(["docker", "run", "-d", "--name", "store", "-p", "8081:80", IMAGE, *SERVE, "80"])
        worker.exec(["docker", "network", "create", "--subnet", "172.30.0.0/24", "routed"])
        worker.exec(["docker", "run", "-d", "--name", "inner", "--network", "routed", IMAGE, *SERVE, "80"])
        manager.exec(["ip", "route", "add", "172.30.0.0/24", "via", worker.address])
        with listening(manager, "0.0.0.0:7000"), listening(worker, "0.0.0.0:7000"), listening(worker, "127.0.0.1:7001"):
            yield lab


@contextlib.contextmanager
def listening(host, address):
    """A server of the host itself."""
    with host.popen(["busybox", "httpd", "-f", "-p", address]) as process:
        try:
            yield
        finally:
            end_group(process)


def diagnose(lab, source, destination, *words, code):
    """The report, with its exit code as expected."""
    argv = ["netdiag", "diagnose", source, destination, *words, "--output", "json"]
    result = lab.host("manager").exec(argv, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


@contextlib.contextmanager
def rule(lab, host, text, within=()):
    """One rule of iptables, as long as it is wanted."""
    chain, *rest = text.split()
    lab.host(host).exec([*within, "iptables", "-w", "-I", chain, *rest])
    try:
        yield
    finally:
        lab.host(host).exec([*within, "iptables", "-w", "-D", chain, *rest])


VIA = ("--via", "ssh")
OTHER_PORT = "-p tcp --dport 81 -j DROP"
ROWS = {
    "one bridge": ("client", "manager/shop:80", (), "manager", "DOCKER-USER", "-p tcp --dport 80 -j DROP"),
    "published, from another host": (
        *("manager", "worker:8081", VIA, "worker", "DOCKER-USER"),
        "-i eth0 -p tcp --dport 80 -j DROP",
    ),
    "published, by the container's name": (
        *("manager", "worker/store:80", VIA, "worker", "DOCKER-USER"),
        "-p tcp -m conntrack --ctorigdstport 8081 -j REJECT",
    ),
    "published, from its own host": ("manager", "manager:8080", (), "manager", "OUTPUT", "-p tcp --dport 80 -j DROP"),
    "published, from a container of another host": (
        *("client", "worker:8081", VIA, "worker", "DOCKER-USER"),
        "-p tcp --dport 80 -j DROP",
    ),
    "published, its answers": (
        *("manager", "worker:8081", VIA, "worker", "DOCKER-USER"),
        "-p tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j DROP",
    ),
    "a container and its own host": ("client", "manager:7000", (), "manager", "INPUT", "-i docker0 -p tcp -j DROP"),
    "a host and its own container": ("manager", "shop:80", (), "manager", "OUTPUT", "-o docker0 -p tcp -j REJECT"),
    "host to host": ("manager", "worker:7000", VIA, "worker", "INPUT", "-s 10.71.0.1 -p tcp --dport 7000 -j DROP"),
    "host to host, refused": (
        *("manager", "worker:7000", VIA, "worker", "INPUT"),
        "-p tcp --dport 7000 -j REJECT --reject-with tcp-reset",
    ),
    "host to host, out of the first": (
        "manager",
        "worker:7000",
        VIA,
        "manager",
        "OUTPUT",
        "-p tcp --dport 7000 -j DROP",
    ),
    "host to host, its answers out": ("manager", "worker:7000", VIA, "worker", "OUTPUT", "-p tcp --sport 7000 -j DROP"),
    "host to host, its answers in": ("manager", "worker:7000", VIA, "manager", "INPUT", "-p tcp --sport 7000 -j DROP"),
    "outwards through the bridge": (
        *("client", "worker:7000", VIA, "manager", "DOCKER-USER"),
        "-p tcp --dport 7000 -j DROP",
    ),
    "outwards, its answers": (
        *("client", "worker:7000", VIA, "manager", "DOCKER-USER"),
        "-p tcp --sport 7000 -m conntrack --ctstate ESTABLISHED -j DROP",
    ),
    "outwards, at the other host": ("client", "worker:7000", VIA, "worker", "INPUT", "-p tcp --dport 7000 -j DROP"),
    "outwards, one side only": (
        *("client", "10.71.0.2:7000", (), "manager", "DOCKER-USER"),
        "-p tcp --dport 7000 -j DROP",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_rule_is_named_and_healed(hosts, row):
    source, destination, words, host, chain, text = row
    with rule(hosts, host, f"{chain} {text}"), rule(hosts, host, f"{chain} {OTHER_PORT}"):
        cause = only_cause(diagnose(hosts, source, destination, *words, code=1))
        assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", host, "proven")
        assert (cause["object"]["chain"], cause["object"]["number"]) == (chain, 2)
        with healed(hosts, cause):
            diagnose(hosts, source, destination, *words, code=0)


def test_nobody_listens_on_a_host(hosts):
    cause = only_cause(diagnose(hosts, "manager", "worker:7002", *VIA, code=1))
    assert (cause["code"], cause["host"], cause["confidence"]) == ("container.no-listener", "worker", "proven")
    assert "7000" in cause["explanation"]


def test_a_listener_on_the_loopback_address_of_a_host(hosts):
    cause = only_cause(diagnose(hosts, "client", "worker:7001", *VIA, code=1))
    assert (cause["code"], cause["host"]) == ("container.loopback-listener", "worker")
    assert cause["object"]["address"] == "127.0.0.1"


def test_a_rule_that_drops_what_comes_too_fast_explains_no_refusal(hosts):
    """It takes the second packet, with which netdiag asks, and had let the first one in, which was refused."""
    limit = "--hashlimit-above 1/min --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name few"
    with rule(hosts, "worker", f"INPUT -p tcp --dport 7002 --syn -m hashlimit {limit} -j DROP"):
        cause = only_cause(diagnose(hosts, "manager", "worker:7002", *VIA, code=1))
    assert (cause["code"], cause["host"]) == ("container.no-listener", "worker")


def test_a_listener_on_another_address_is_not_one_on_the_loopback_address(hosts):
    worker = hosts.host("worker")
    worker.exec(["ip", "address", "add", "10.99.0.2/32", "dev", "eth0"])
    try:
        with listening(worker, "10.99.0.2:7003"):
            cause = only_cause(diagnose(hosts, "manager", "worker:7003", *VIA, code=1))
    finally:
        worker.exec(["ip", "address", "del", "10.99.0.2/32", "dev", "eth0"])
    assert (cause["code"], cause["object"]["address"]) == ("container.no-listener", "10.99.0.2")
    assert "on 10.99.0.2 only" in cause["explanation"]


def test_nobody_listens_behind_a_published_port(hosts):
    worker = hosts.host("worker")
    worker.exec(["docker", "run", "-d", "--name", "idle", "-p", "8082:80", IMAGE, "sleep", "100000"])
    cause = only_cause(diagnose(hosts, "manager", "worker:8082", *VIA, code=1))
    assert (cause["code"], cause["object"]["port"]) == ("container.no-listener", 80)
    assert "idle on worker" in cause["explanation"]


def test_a_proxy_accepts_what_the_container_refuses(hosts):
    """What a container sends to its own host's published port is no matter of translation: docker-proxy takes it."""
    manager = hosts.host("manager")
    manager.exec(["docker", "run", "-d", "--name", "mute", "-p", "8084:81", IMAGE, "sleep", "100000"])
    try:
        report = diagnose(hosts, "client", f"{manager.address}:8084", code=1)
        cause = only_cause(report)
        assert (cause["code"], cause["object"]["port"]) == ("container.no-listener", 81)
        assert "mute on manager" in cause["explanation"]
        manager.exec(["docker", "exec", "-d", "mute", *SERVE, "81"])
        diagnose(hosts, "client", f"{manager.address}:8084", code=0)
    finally:
        manager.exec(["docker", "rm", "-f", "mute"])


def test_a_published_port_by_the_loopback_address_is_the_proxy_s(hosts):
    diagnose(hosts, "manager", "127.0.0.1:8080", code=0)
    pid = hosts.host("manager").exec(["docker", "inspect", "-f", "{{.State.Pid}}", "shop"]).stdout.strip()
    inside = ("nsenter", "-n", "-t", pid)
    with rule(hosts, "manager", "INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset", inside):
        cause = only_cause(diagnose(hosts, "manager", "127.0.0.1:8080", code=1))
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.container", "manager", "proven")


def test_a_source_that_another_rule_translates(hosts):
    """What is not known again under its new address is not lost, and what takes it is a guess."""
    snat = "POSTROUTING -t nat -d 10.71.0.2 -p tcp --dport 7000 -j SNAT --to-source 10.71.0.77"
    manager = hosts.host("manager")
    manager.exec(["ip", "address", "add", "10.71.0.77/32", "dev", "eth0"])
    try:
        with rule(hosts, "manager", snat):
            report = diagnose(hosts, "client", "worker:7000", *VIA, code=0)
            assert not any("lost" in found["summary"] for found in report["findings"])
            with rule(hosts, "worker", "INPUT -p tcp --dport 7000 -j DROP"):
                cause = only_cause(diagnose(hosts, "client", "worker:7000", *VIA, code=1))
    finally:
        manager.exec(["ip", "address", "del", "10.71.0.77/32", "dev", "eth0"])
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "worker", "likely")


def test_a_host_that_has_another_address_on_loopback(hosts):
    """No swarm says by which address the worker is reached, and the first that it lists is no card's."""
    worker = hosts.host("worker")
    worker.exec(["ip", "address", "add", "10.99.0.1/32", "dev", "lo"])
    try:
        report = diagnose(hosts, "manager", "worker/worker:7000", *VIA, code=0)
    finally:
        worker.exec(["ip", "address", "del", "10.99.0.1/32", "dev", "lo"])
    assert "10.99.0.1" not in json.dumps(report)


def test_the_engine_s_chains_are_emptied(hosts):
    fault = hosts.break_("flush", host="worker", table="filter")
    cause = only_cause(diagnose(hosts, "manager", "worker:8081", *VIA, code=1))
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.docker-chains-missing", "worker", "proven")
    assert (cause["object"]["table"], cause["object"]["chain"]) == ("filter", "FORWARD")
    hosts.heal(fault)
    diagnose(hosts, "manager", "worker:8081", *VIA, code=0)


def test_a_routed_flow_that_nothing_accepts(hosts):
    """The engine's FORWARD policy drops what it does not know, as it does with routed Calico addresses."""
    cause = only_cause(diagnose(hosts, "manager", "worker/inner:80", *VIA, code=1))
    assert (cause["code"], cause["parent"]) == ("firewall.forward-policy", "firewall.policy")
    assert (cause["host"], cause["object"]["chain"], cause["object"]["policy"]) == ("worker", "FORWARD", "DROP")
    with healed(hosts, cause):
        diagnose(hosts, "manager", "worker/inner:80", *VIA, code=0)


BY_USER = "OUTPUT -p tcp --dport {port} -m owner --uid-owner {user} -j DROP"


def warned(report):
    return [found["evidence"][0]["text"] for found in report["findings"] if found["check"] == "path.user"]


def test_a_filter_inside_a_container_that_goes_by_user(hosts):
    """The attempt is made as the container's first process is run, so that the kernel itself answers."""
    manager = hosts.host("manager")
    manager.exec(["docker", "run", "-d", "--name", "app", "--user", "1000", IMAGE, "sleep", "100000"])
    try:
        pid = manager.exec(["docker", "inspect", "-f", "{{.State.Pid}}", "app"]).stdout.strip()
        inside = ("nsenter", "-n", "-t", pid)
        with rule(hosts, "manager", BY_USER.format(port=7000, user=1000), inside):
            cause = only_cause(diagnose(hosts, "app", "10.71.0.2:7000", *VIA, code=1))
            assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.container", "manager", "proven")
            assert "--uid-owner 1000" in cause["object"]["text"]
            with healed(hosts, cause):
                diagnose(hosts, "app", "10.71.0.2:7000", *VIA, code=0)
        with rule(hosts, "manager", BY_USER.format(port=7000, user=1001), inside):
            report = diagnose(hosts, "app", "10.71.0.2:7000", *VIA, code=0)
            assert (report["causes"], warned(report)) == ([], [])
    finally:
        manager.exec(["docker", "rm", "-f", "app"])


def test_a_filter_of_a_host_that_goes_by_user(hosts):
    """Whose connection hangs is not known: it is tried as root, which is said, or as the user that was named."""
    with rule(hosts, "manager", BY_USER.format(port=7000, user=1000)):
        report = diagnose(hosts, "manager", "worker:7000", *VIA, code=0)
        (said,) = warned(report)
        assert (report["verdict"], report["causes"]) == ("warn", [])
        assert said.startswith("filter OUTPUT rule 1: ")
        cause = only_cause(diagnose(hosts, "manager", "worker:7000", *VIA, "--user", "1000", code=1))
        assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "manager", "proven")
        assert (cause["object"]["chain"], cause["object"]["number"]) == ("OUTPUT", 1)
        with healed(hosts, cause):
            diagnose(hosts, "manager", "worker:7000", *VIA, "--user", "1000", code=0)
    with rule(hosts, "manager", BY_USER.format(port=7001, user=1000)):
        assert warned(diagnose(hosts, "manager", "worker:7000", *VIA, code=0)) == []


def test_without_a_port_every_layer_is_asked(hosts):
    report = diagnose(hosts, "client", "manager/shop", code=0)
    said = {found["check"]: found for found in report["findings"]}
    assert "answered after" in said["path.attempt"]["summary"]
    assert "tcp/80 of shop on manager: connected" in said["path.port"]["summary"]
    assert "there: up to 1500 bytes, back: up to 1500 bytes" in said["path.sizes"]["summary"]


def test_without_a_port_the_one_that_fails_is_explained(hosts):
    with rule(hosts, "worker", "INPUT -p tcp --dport 7000 -j DROP"):
        report = diagnose(hosts, "manager", "worker", *VIA, code=1)
    cause = only_cause(report)
    assert (cause["code"], cause["host"], cause["object"]["chain"]) == ("firewall.rule", "worker", "INPUT")
    assert any("tcp/22 of worker: connected" in found["summary"] for found in report["findings"])


def test_without_a_port_a_container_of_no_route_is_called_by_its_published_one(hosts):
    report = diagnose(hosts, "manager", "worker/store", *VIA, code=0)
    assert "tcp/8081 from manager to store on worker" in report["findings"][0]["summary"]


def test_a_published_port_by_three_pasted_lines(hosts):
    manager, worker = hosts.host("manager"), hosts.host("worker")
    with rule(hosts, "worker", "DOCKER-USER -i eth0 -p tcp --dport 80 -j DROP"):
        reports, _ = both(manager, worker, manager.address, f"{worker.address}:8081")
    for report in reports:
        cause = only_cause(report.document)
        assert (cause["code"], cause["host"], cause["object"]["chain"]) == ("firewall.rule", "worker", "DOCKER-USER")
    (loss,) = reports[0].findings("path.loss")
    assert len(loss["evidence"]) == 4  # the cards of both, and both ends of the container's veth


def test_another_host_s_engine_is_asked_at_its_own_socket(hosts):
    manager = hosts.host("manager")
    manager.exec(["ln", "-s", "/run/docker.sock", "/run/mine.sock"])
    argv = ["netdiag", "diagnose", "client", "worker/store:80", *VIA]
    with rule(hosts, "worker", "DOCKER-USER -i eth0 -p tcp --dport 80 -j DROP"):
        result = manager.exec(argv, env={"DOCKER_HOST": "unix:///run/mine.sock"}, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "on worker: rule 1 of filter DOCKER-USER" in " ".join(result.stdout.split())


def test_what_cannot_be(hosts):
    manager = hosts.host("manager")
    for name in ("pool.1.x", "pool.2.y"):
        manager.exec(["docker", "create", "--name", name, IMAGE, "true"])
    for words, said in (
        (("client", "shopp:80"), "did you mean shop?"),
        (("clients", "shop:80"), "did you mean client?"),
        (("client", "worker/stor:80", *VIA), "did you mean store?"),
        (("client", "pool:80"), "fits pool.1.x, pool.2.y: name one of them"),
        (("pool", "shop:80"), "fits pool.1.x, pool.2.y: name one of them"),
        (("client", "client:80"), "client and client:80 are the same container"),
        (("manager", "manager:9"), "are the same host"),
        (("client", "nowhere-at-all"), "no container, service or host of that name"),
        (("manager", "worker/inner:80"), "--via ssh[:USER@HOST] says how to reach it"),
    ):
        result = manager.exec(["netdiag", "diagnose", *words], check=False)
        assert result.returncode == 2, words
        assert said in result.stderr, (words, result.stderr)
        assert len(result.stderr.splitlines()) == 1
        assert "Traceback" not in result.stderr
