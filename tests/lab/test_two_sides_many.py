"""200 peers at a bounded rate, in time, and what they have in common told once."""

import re
import time

import pytest

from tests.lab.participants import carrier_into, forge
from tests.lab.two_sides import examined, target

IN, OUT = "two-sides.inbound", "two-sides.outbound"
COUNT = 200
SUBNET = "10.72"
MOST_S = 14.0
"""An examination ends by itself after 10 s, whatever the machine has to do besides, and lets go of what it held."""


class Peer:
    """A network namespace inside a lab host, with an address of its own on a bridge there."""

    def __init__(self, hub, number):
        self.name, self.hub = f"n{number}", hub
        self.address = f"{SUBNET}.{number // 250}.{number % 250 + 1}"

    def run(self, *words):
        self.hub.exec(["ip", "netns", "exec", self.name, *words])


@pytest.fixture(scope="module")
def hub(pair_lab):
    """Host one with a bridge, to which all peers are plugged; it is in the same network itself."""
    host = pair_lab.host("one")
    lines = ["link add hub type bridge", "link set hub up", f"addr add {SUBNET}.9.9/16 dev hub"]
    for number in range(COUNT):
        lines += [f"netns add n{number}", f"link add v{number} master hub up type veth peer name eth0 netns n{number}"]
    host.exec(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n", timeout_s=60)
    each = "ip -n n$i link set lo up; ip -n n$i link set eth0 up; ip -n n$i addr add $a/16 dev eth0"
    loop = f"i=0; while [ $i -lt {COUNT} ]; do a={SUBNET}.$((i/250)).$((i%250+1)); {each}; i=$((i+1)); done"
    host.exec(["sh", "-c", loop], timeout_s=90)
    yield host
    host.exec(["sh", "-c", "ip link del hub; for n in $(ip netns list | cut -d' ' -f1); do ip netns del $n; done"])


@pytest.fixture(scope="module")
def peers(hub):
    with forge(hub) as carrier:
        yield [(peer, carrier(peer.name)) for peer in (Peer(hub, number) for number in range(COUNT))]


@pytest.fixture(scope="module")
def here(hub):
    with carrier_into(hub) as carrier:
        yield carrier


def look(here, peers, **sought):
    said, views, took_s = examined(here, [target(peer, carrier) for peer, carrier in peers], **sought)
    return said, views, took_s


def test_healthy_in_time_and_in_few_lines(here, peers):
    said, views, took_s = look(here, peers)
    late = [view.why_not for view in views if view.why_not]
    assert len(late) <= COUNT // 20, late  # a busy machine may leave a few for another run
    assert said.states(IN) == said.states(OUT) == {"ok"}
    assert len(said.document["findings"]) < 16
    assert took_s < MOST_S


def test_one_rule_here_is_one_cause(hub, here, peers):
    hub.exec(["iptables", "-I", "INPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"])
    try:
        said, _, took_s = look(here, peers)
    finally:
        hub.exec(["iptables", "-F", "INPUT"])
    (cause,) = [one for one in said.document["causes"] if one["code"] != "host.name-duplicate"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "one", "proven")
    (lost,) = [one for one in said.findings(IN) if one["state"] != "ok"]
    assert int(re.search(r"and (\d+) more", lost["summary"])[1]) >= COUNT - 3 - COUNT // 20
    assert "were traced; the rest is likely the same" in cause["explanation"]
    assert len(cause["remedy"]) < 20
    assert took_s < MOST_S


def test_one_rule_here_in_nft_s_own_words_is_one_cause(hub, here, peers):
    hub.exec(["nft", "add table inet own; add chain inet own c { type filter hook input priority 0; }"])
    hub.exec(["nft", "add rule inet own c udp dport 4789 drop"])
    try:
        said, _, took_s = look(here, peers)
    finally:
        hub.exec(["nft", "delete table inet own"])
    (cause,) = [one for one in said.document["causes"] if one["code"] != "host.name-duplicate"]
    assert (cause["code"], cause["object"]["backend"], cause["confidence"]) == ("firewall.rule", "nft-native", "proven")
    assert len([one for one in said.findings(IN) if one["state"] != "ok"]) == 1
    assert took_s < MOST_S


def test_two_rules_on_several_hosts_each_are_two_causes(here, peers):
    """No more than a few are traced: the rest is told by its own rules, each with its own."""
    clusters = [[peer for peer, _ in peers[:5]], [peer for peer, _ in peers[5:10]]]
    rules = [["INPUT", "-p", "tcp", "--dport", "7946", "-j", "DROP"]]
    rules.append(["INPUT", "-p", "tcp", "--dport", "7946", "-m", "comment", "--comment", "b", "-j", "DROP"])
    for cluster, rule in zip(clusters, rules, strict=True):
        for peer in cluster:
            peer.run("iptables", "-A", *rule)
    try:
        said, _, took_s = look(here, peers[:24])
    finally:
        for cluster in clusters:
            for peer in cluster:
                peer.run("iptables", "-F", "INPUT")
    found = {one["object"]["text"]: one for one in said.document["causes"] if one["code"] == "firewall.rule"}
    assert len(found) == 2
    for cluster, mark in zip(clusters, ("", "--comment b"), strict=True):
        (one,) = [one for text, one in found.items() if ("--comment b" in text) == bool(mark)]
        named = {label.rpartition("(")[2].rstrip(")") for label in one["object"]["hosts"]}
        assert named == {peer.address for peer in cluster}
        assert one["confidence"] in ("proven", "likely")
    assert len([one for one in said.findings(OUT) if one["state"] != "ok"]) == 2
    assert took_s < MOST_S


def test_the_same_rule_on_many_hosts_is_told_once(hub, here, peers):
    broken = [peer for peer, _ in peers[:100:10]]
    for peer in broken:
        peer.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "7946", "-j", "DROP")
    try:
        said, _, took_s = look(here, peers[:100])
    finally:
        for peer in broken:
            peer.run("iptables", "-F", "INPUT")
    (cause,) = [one for one in said.document["causes"] if one["code"] == "firewall.rule"]
    assert cause["confidence"] == "proven"
    assert len(cause["object"]["hosts"]) == len(broken)  # few of them were traced
    assert len([one for one in said.findings(OUT) if one["state"] != "ok"]) == 1
    assert took_s < MOST_S


def test_peers_that_do_not_answer_cost_no_more(here, peers):
    class Dead:
        def ask(self, requests):
            time.sleep(60)

    dead = [(peer, Dead()) for peer, _ in peers[:20]]
    said, views, took_s = look(here, [*dead, *peers[20:]])
    assert took_s < MOST_S
    assert sum(bool(view.why_not) for view in views) == 20
    (unknown,) = [one for one in said.findings("two-sides.examined") if one["state"] == "unknown"]
    assert "and 17 more" in unknown["summary"]
