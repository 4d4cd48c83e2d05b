"""The acceptance matrix beside an engine: published ports, Docker's own chains, containers and an overlay."""

import json
import re
import statistics
import sys
from contextlib import ExitStack

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.matrix import MS, Judge, Row, Rule, answering, ids

IMAGE = "netdiag/busybox:lab"
SERVE = "mkdir -p /www; echo hello > /www/index.html; httpd -p 9000 -h /www; exec httpd -f -p 80 -h /www"

PUBLISHED = "--src {peer} --dport 8080"
ROUTED = "--path forward --in eth0 --out docker0 --src {peer} --dst {web} --dport 80"
INTO_APP = "--container app1 --src {app2} --dport 80"
ACROSS = "--netns overlay:app --path forward --in vxlan0 --out {veth} --src {app2} --dst {app1} --dport 80"
FETCH = "busybox timeout 1 wget -qO- http://{host}:8080/"
FETCH_ROUTED = "busybox timeout 1 wget -qO- http://{web}/"
FETCH_APP = "docker exec app2 timeout 1 wget -qO- http://{app1}/"


def filter_rule(chain, number, text, **more):
    return Rule("iptables-nft", "ip", "filter", chain, number, text, **more)


FORWARD = (
    Row(
        "DOCKER-USER, behind an accept of another source",
        (
            "drop chain=DOCKER-USER proto=tcp dport=80",
            "drop chain=DOCKER-USER source=10.71.0.9 proto=tcp dport=80",
        ),
        PUBLISHED,
        filter_rule("DOCKER-USER", 2, "-A DOCKER-USER -p tcp -m tcp --dport 80 -j DROP"),
        reach=FETCH,
        decoy="--src {peer} --dport 2377",
    ),
    Row(
        "DOCKER-USER by the published port",
        ("reject chain=DOCKER-USER proto=tcp extra='-m conntrack --ctorigdstport 8080' with=icmp-host-prohibited",),
        PUBLISHED,
        filter_rule("DOCKER-USER", 1, "--ctorigdstport 8080 -j REJECT"),
        verdict="reject",
        reach=FETCH,
    ),
    Row(
        "chain called from DOCKER-USER",
        ("drop chain=DOCKER-USER called=site interface=eth0",),
        PUBLISHED,
        filter_rule("site", 1, "-A site -i eth0 -j DROP", call_site="filter DOCKER-USER rule 1"),
        reach=FETCH,
    ),
    Row(
        "FORWARD before Docker's rules",
        ("reject chain=FORWARD proto=tcp interface=eth0",),
        ROUTED,
        filter_rule("FORWARD", 1, "-A FORWARD -i eth0 -p tcp -j REJECT"),
        verdict="reject",
        reach=FETCH_ROUTED,
    ),
    Row(
        "FORWARD policy that the engine set",
        (),
        "--path forward --in eth0 --out docker0 --src {peer} --dst {web} --dport 9000",
        filter_rule("FORWARD", None, ":FORWARD DROP", owner="docker"),
        reach="busybox timeout 1 wget -qO- http://{web}:9000/",
        decoy=ROUTED,
    ),
    Row(
        "Docker keeps its networks apart",
        (),
        "--path forward --in {back} --out docker0 --src {other} --dst {web} --dport 80",
        filter_rule("DOCKER-ISOLATION-STAGE-2", 3, "-o docker0 -j DROP", owner="docker"),
        reach="@docker exec other timeout 1 wget -qO- http://{web}/",
    ),
    Row(
        "Docker keeps containers of its gateway bridge apart",
        (),
        "--path forward --in docker_gwbridge --out docker_gwbridge --src {app1_out} --dst {app3_out} --dport 80",
        filter_rule("FORWARD", 14, "-A FORWARD -i docker_gwbridge -o docker_gwbridge -j DROP", owner="docker"),
        reach="@docker exec app1 timeout 1 wget -qO- http://{app3_out}/",
    ),
    Row(
        "raw PREROUTING before the address is translated",
        ("drop table=raw chain=PREROUTING proto=tcp dport=8080",),
        PUBLISHED,
        Rule("iptables-nft", "ip", "raw", "PREROUTING", 1, "--dport 8080 -j DROP"),
        reach=FETCH,
    ),
    Row(
        "mangle FORWARD",
        ("drop table=mangle chain=FORWARD proto=tcp dport=80 destination={web}",),
        PUBLISHED,
        Rule("iptables-nft", "ip", "mangle", "FORWARD", 1, "-A FORWARD -d {web}/32 -p tcp"),
        reach=FETCH,
    ),
    Row(
        "nft inet forward after Docker's accept",
        ("nft hook=forward priority=10 rules='udp dport 53 accept; oifname \"docker0\" tcp dport 80 drop'",),
        ROUTED,
        Rule("nft-native", "inet", "site", "forward", 2, 'oifname "docker0" tcp dport 80 drop'),
        reach=FETCH_ROUTED,
    ),
    Row(
        "legacy FORWARD beside Docker's rules",
        ("drop chain=FORWARD proto=tcp dport=80 backend=iptables-legacy",),
        PUBLISHED,
        Rule("iptables-legacy", "ip", "filter", "FORWARD", 1, "-A FORWARD -p tcp -m tcp --dport 80 -j DROP"),
        reach=FETCH,
    ),
    Row(
        "container to its own host",
        ("drop chain=INPUT interface=docker0 proto=tcp dport=9000",),
        "--in docker0 --src {web} --dst 172.17.0.1 --dport 9000",
        filter_rule("INPUT", 1, "-A INPUT -i docker0 -p tcp -m tcp --dport 9000 -j DROP"),
        reach="@docker exec web nc -w 1 172.17.0.1 9000",
        decoy="--src {peer} --dport 9000",
    ),
)

SWARM = (
    Row(
        "VXLAN of the overlay is refused",
        ("reject chain=INPUT proto=udp dport=7946,4789 with=icmp-host-prohibited",),
        "--src {peer} --proto udp --dport 4789",
        filter_rule("INPUT", 1, "--dports 7946,4789 -j REJECT --reject-with icmp-host-prohibited"),
        verdict="reject",
        reach=FETCH_APP,
        decoy="--src {peer} --dport 2377",
    ),
    Row(
        "firewalld beside the engine",
        ("firewalld ports=7946/tcp,7946/udp",),
        "--src {peer} --dport 2377",
        Rule(
            *("nft-native", "inet", "firewalld", "filter_IN_public", 9, "reject with icmpx admin-prohibited"),
            owner="firewalld",
        ),
        verdict="reject",
        decoy="--src {peer} --dport 7946",
    ),
    Row(
        "ufw beside the engine",
        ("ufw rules='allow 7946; allow 4789/udp'",),
        "--src {peer} --dport 2377",
        filter_rule("INPUT", None, ":INPUT DROP", owner="ufw"),
        decoy="--src {peer} --proto udp --dport 4789",
    ),
)

INSIDE = (
    Row(
        "inside a container",
        ("drop netns=container:app1 chain=INPUT proto=tcp dport=80", "drop chain=INPUT proto=tcp dport=80"),
        INTO_APP,
        filter_rule("INPUT", 1, "-A INPUT -p tcp -m tcp --dport 80 -j DROP", namespace="container:app1"),
        reach=FETCH_APP,
        decoy="--container app1 --src {app2} --dport 81",
    ),
    Row(
        "out of a container",
        ("policy netns=container:app1 chain=OUTPUT policy=DROP",),
        "--container app1 --path out --dst {app2} --proto icmp",
        filter_rule("OUTPUT", None, ":OUTPUT DROP", namespace="container:app1"),
        reach="@docker exec app1 ping -c 1 -W 1 {app2}",
    ),
    Row(
        "bridge family in the overlay's namespace",
        ("nft netns=overlay:app family=bridge hook=forward rules='udp dport 53 accept; tcp dport 80 drop'",),
        ACROSS,
        Rule("nft-native", "bridge", "site", "forward", 2, "tcp dport 80 drop", namespace="overlay:app"),
        reach=FETCH_APP,
        unexplained="what is bridged",
    ),
    Row(
        "iptables in the overlay's namespace",
        ("drop netns=overlay:app chain=FORWARD proto=tcp dport=80",),
        ACROSS,
        filter_rule("FORWARD", 1, "-A FORWARD -p tcp -m tcp --dport 80 -j DROP", namespace="overlay:app"),
        reach=FETCH_APP,
        unexplained="what is bridged",
    ),
    Row(
        "netdev ingress of the overlay's vxlan0",
        ("nft netns=overlay:app family=netdev hook=ingress device=vxlan0 rules='tcp dport 80 drop'",),
        ACROSS,
        Rule("nft-native", "netdev", "site", "ingress", 1, "tcp dport 80 drop", namespace="overlay:app"),
        reach=FETCH_APP,
        unexplained="what is bridged",
    ),
)

ROWS = (*FORWARD, *SWARM, *INSIDE)


def run(host, name, *words):
    """Start a container; its inspection."""
    host.exec(["docker", "run", "-d", "--name", name, *words])
    return json.loads(host.exec(["docker", "inspect", name]).stdout)[0]


def address(container, network):
    return container["NetworkSettings"]["Networks"][network]["IPAddress"]


def outer_address(host, container):
    said = host.exec(["docker", "exec", container, "ip", "addr", "show", "eth1"]).stdout
    return re.search(r"inet ([0-9.]+)", said)[1]


@pytest.fixture(scope="module")
def judge(swarm2_lab):
    """A judge over the manager, with containers on a bridge and on an overlay, and the worker as its peer."""
    lab = swarm2_lab
    manager, worker = lab.host("manager"), lab.host("worker")
    assert lab.swarm_join("worker", "manager").joined
    lab.await_settled("manager", "worker")
    sits = Judge(lab, manager, worker)
    manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
    manager.exec(["docker", "network", "create", "-o", "com.docker.network.bridge.name=back0", "back"])
    serve = (IMAGE, "sh", "-c", SERVE)
    web = run(manager, "web", "-p", "8080:80", *serve)
    other = run(manager, "other", "--network", "back", IMAGE, "sleep", "3600")
    app1 = run(manager, "app1", "--network", "app", *serve)
    run(manager, "app3", "--network", "app", *serve)
    app2 = run(worker, "app2", "--network", "app", IMAGE, "sleep", "3600")
    overlay = manager.exec(["docker", "network", "inspect", "-f", "{{.Id}}", "app"]).stdout[:10]
    sits.inside = {
        "app1": ("nsenter", f"--net={app1['NetworkSettings']['SandboxKey']}"),
        "overlay:app": ("nsenter", f"--net=/run/docker/netns/1-{overlay}"),
    }
    # The other end of app1's eth0, by its index, is its port in the overlay's namespace.
    (end,) = json.loads(manager.exec([*sits.inside["app1"], "ip", "-j", "link", "show", "eth0"]).stdout)
    links = json.loads(manager.exec([*sits.inside["overlay:app"], "ip", "-j", "link"]).stdout)
    sits.fill = {
        "host": manager.address,
        "peer": worker.address,
        "back": "back0",
        "web": address(web, "bridge"),
        "other": address(other, "back"),
        "app1": address(app1, "app"),
        "app2": address(app2, "app"),
        # The engine does not tell the addresses that these have on its gateway bridge.
        "app1_out": outer_address(manager, "app1"),
        "app3_out": outer_address(manager, "app3"),
        "veth": next(link["ifname"] for link in links if link["ifindex"] == end["link_index"]),
    }
    worker.exec(["ip", "route", "add", f"{sits.fill['web']}/32", "via", manager.address])
    with ExitStack() as stack:
        stack.callback(end_group, stack.enter_context(answering(manager, (9000,))))
        for row in ROWS:
            if row.reach and row.state:
                until(lambda row=row: sits.gets_through(row, 1.0) == "through", 30.0, f"{row.name}, before any fault")
        yield sits
    if sits.times_ms:
        assert statistics.median(sits.times_ms) <= MS


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_it_is_named(row, judge, capsys):
    said = judge.naming(row)
    with capsys.disabled():
        sys.stdout.write(f"\n{said} ")


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_one_rule_heals_it_and_undo_gives_back_the_rest(row, judge):
    judge.healing(row)
