"""One side only: what it can say of a destination that takes no part, which is never more than likely."""

import json
import sys

import pytest

from netdiag.lab.host import end_group

# Three more stacks in a row behind this host, each a router for the next.
CHAIN = """
set -e
for n in r1 r2 end; do ip netns add $n; ip -n $n link set lo up; done
ip link add to-r1 type veth peer name in0 netns r1; ip addr add 10.80.1.1/24 dev to-r1; ip link set to-r1 up
ip -n r1 addr add 10.80.1.2/24 dev in0; ip -n r1 link set in0 up
ip -n r1 link add out0 type veth peer name in0 netns r2
ip -n r1 addr add 10.80.2.1/24 dev out0; ip -n r1 link set out0 up
ip -n r2 addr add 10.80.2.2/24 dev in0; ip -n r2 link set in0 up
ip -n r2 link add out0 type veth peer name eth0 netns end
ip -n r2 addr add 10.80.3.1/24 dev out0; ip -n r2 link set out0 up
ip -n end addr add 10.80.3.2/24 dev eth0; ip -n end link set eth0 up
ip route add 10.80.0.0/16 via 10.80.1.2
ip -n r1 route add 10.80.3.0/24 via 10.80.2.2
ip -n r2 route add 10.80.1.0/24 via 10.80.2.1
ip -n end route add default via 10.80.3.1
for n in r1 r2; do ip netns exec $n sysctl -qw net.ipv4.ip_forward=1; done
"""
END = "10.80.3.2"


@pytest.fixture(scope="module")
def one(pair_lab):
    host = pair_lab.host("one")
    host.exec(["sh", "-c", CHAIN])
    words = ["ip", "netns", "exec", "end", sys.executable, "-m", "http.server", "-b", "0.0.0.0", "7000"]
    with host.popen(words) as server:
        yield host
        end_group(server)
    host.exec(["sh", "-c", "ip link del to-r1; for n in r1 r2 end; do ip netns del $n; done"])


@pytest.fixture(autouse=True)
def _as_before(one):
    yield
    for name in ("r1", "r2", "end"):
        one.exec(["ip", "netns", "exec", name, "iptables", "-F"])


def filters(host, name, *rule):
    host.exec(["ip", "netns", "exec", name, "iptables", "-w", "-A", *rule])


def diagnose(host, destination, *words, code):
    argv = ["netdiag", "diagnose", "one", destination, *words, "--output", "json"]
    result = host.exec(argv, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def only_cause(report):
    (cause,) = report["causes"]
    assert cause["confidence"] in ("likely", "possible")
    return cause


def test_what_works_is_said_to_work(one):
    assert diagnose(one, f"{END}:7000", code=0)["causes"] == []


def test_a_router_that_drops_silently_is_found_by_how_far_packets_come(one):
    filters(one, "r2", "FORWARD", "-p", "tcp", "--dport", "7000", "-j", "DROP")
    report = diagnose(one, f"{END}:7000", code=1)
    cause = only_cause(report)
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.filtered", None, "likely")
    # The second router would have told of its TTL before its own filters see the packet.
    assert (cause["object"]["from"], cause["object"]["to"], cause["object"]["port"]) == ("10.80.2.2", END, 7000)
    assert report["next"]


def test_a_router_that_drops_before_it_counts(one):
    filters(one, "r2", "PREROUTING", "-t", "mangle", "-p", "tcp", "--dport", "7000", "-j", "DROP")
    try:
        cause = only_cause(diagnose(one, f"{END}:7000", code=1))
    finally:
        one.exec(["ip", "netns", "exec", "r2", "iptables", "-t", "mangle", "-F"])
    assert (cause["code"], cause["confidence"]) == ("underlay.filtered", "likely")
    assert (cause["object"]["from"], cause["object"]["to"]) == ("10.80.1.2", "10.80.2.2")


def test_the_destinations_own_firewall_is_not_named_but_asked_for(one):
    filters(one, "end", "INPUT", "-p", "tcp", "--dport", "7000", "-j", "DROP")
    report = diagnose(one, f"{END}:7000", code=1)
    cause = only_cause(report)
    assert (cause["code"], cause["confidence"], cause["object"]["to"]) == ("underlay.filtered", "likely", END)
    assert "own firewall" in cause["explanation"]
    (step,) = report["next"]
    assert step["command"].startswith("netdiag firewall trace --path in --src 10.80.1.1 ")


def test_a_host_that_answers_nothing_may_be_down(one):
    filters(one, "end", "INPUT", "-j", "DROP")
    cause = only_cause(diagnose(one, f"{END}:7000", code=1))
    assert (cause["code"], cause["confidence"]) == ("underlay.filtered", "possible")
    assert "is down" in cause["explanation"]


@pytest.mark.parametrize(
    ("name", "chain", "host"), [("r2", "FORWARD", "10.80.2.2"), ("end", "INPUT", END)], ids=["router", "end"]
)
def test_who_rejects_is_named(one, name, chain, host):
    filters(one, name, chain, "-p", "tcp", "--dport", "7000", "-j", "REJECT", "--reject-with", "icmp-admin-prohibited")
    cause = only_cause(diagnose(one, f"{END}:7000", code=1))
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", host, "likely")
    assert cause["object"]["reject_with"] == "administratively prohibited"


def test_nobody_listens(one):
    cause = only_cause(diagnose(one, f"{END}:7001", code=1))
    assert (cause["code"], cause["host"], cause["confidence"]) == ("container.no-listener", END, "likely")


def test_a_router_without_a_way(one):
    one.exec(["ip", "-n", "r1", "route", "del", "10.80.3.0/24"])
    try:
        cause = only_cause(diagnose(one, f"{END}:7000", code=1))
    finally:
        one.exec(["ip", "-n", "r1", "route", "add", "10.80.3.0/24", "via", "10.80.2.2"])
    assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.no-route", "10.80.1.2", "likely")


def test_the_own_rule_is_proven_as_ever(one):
    one.exec(["iptables", "-w", "-A", "OUTPUT", "-p", "tcp", "--dport", "7000", "-j", "DROP"])
    try:
        (cause,) = diagnose(one, f"{END}:7000", code=1)["causes"]
    finally:
        one.exec(["iptables", "-w", "-D", "OUTPUT", "-p", "tcp", "--dport", "7000", "-j", "DROP"])
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "one", "proven")


def test_what_some_attempts_get_through_is_nobodys_filter(one):
    """Only the first few SYNs are dropped: those of the attempt itself."""
    first = ["-m", "limit", "--limit", "1/hour", "--limit-burst", "3"]
    filters(one, "r2", "FORWARD", "-p", "tcp", "--dport", "7000", "--syn", *first, "-j", "DROP")
    report = diagnose(one, f"{END}:7000", code=1)
    assert report["causes"] == []
    assert any("further attempts were answered" in (found.get("reason") or "") for found in report["findings"])
