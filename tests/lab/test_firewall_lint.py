"""A swarm's node whose rules are checked: as its engine wrote them, and with rules by hand that do not do what they should."""

import json

import pytest

UNDO = {"-I": "-D", "-A": "-D"}


def lint(host, *words):
    said = host.exec(["netdiag", "firewall", "lint", *words, "-o", "json"], check=False)
    assert said.stdout, said.stderr
    found = json.loads(said.stdout)
    return said.returncode, found, {each["code"] for each in found["findings"]}


@pytest.fixture(scope="module")
def node(swarm3_lab):
    """A worker with a container that is published, beside the routing mesh's networks."""
    worker = swarm3_lab.host("worker1")
    worker.exec(["docker", "run", "-d", "--name", "web", "-p", "8080:80", "netdiag/busybox:lab", "sleep", "100000"])
    return worker


def by_hand(host, *rules):
    """Rules as an operator types them; taken out again by what is given back."""
    for rule in rules:
        host.exec(["iptables", *rule.split()])

    def undo():
        for rule in reversed(rules):
            words = [UNDO.get(word, word) for word in rule.split()]
            host.exec(["iptables", *(word for word in words if word != "1")])

    return undo


def test_what_the_engine_wrote_is_no_finding(swarm3_lab, node):
    for host in (swarm3_lab.host("manager"), node):
        code, found, codes = lint(host)
        assert (code, found["verdict"], codes) == (0, "clean", set())
        assert found["rules"] > 10


def test_rules_by_hand_are_found_and_their_place_is_named(swarm3_lab, node):
    undo = by_hand(
        node,
        "-I INPUT 1 -p udp --dport 4789 -j DROP",
        "-A INPUT -i ens7 -p tcp --dport 22 -j ACCEPT",
        "-A DOCKER-USER -s 192.0.2.7/32 -j DROP",
    )
    try:
        code, found, codes = lint(node)
        assert code == 1
        assert codes == {"lint.blocked-port", "lint.no-such-interface", "lint.after-verdict"}
        blocked = next(each for each in found["findings"] if each["code"] == "lint.blocked-port")
        assert blocked["severity"] == "error"
        assert "udp/4789" in blocked["summary"]
        place = blocked["places"][0]
        assert (place["table"], place["chain"], place["number"]) == ("filter", "INPUT", 1)
        # A bundle of the host says the same, anywhere.
        node.exec(["netdiag", "collect", "-o", "/tmp/lint.bundle"])
        assert lint(node, "--bundle", "/tmp/lint.bundle")[2] == codes
    finally:
        undo()
    assert lint(node)[2] == set()


def test_a_member_that_is_left_out_is_named(swarm3_lab, node):
    manager = swarm3_lab.host("manager")
    undo = by_hand(node, f"-I INPUT 1 -s {manager.address}/32 -p tcp --dport 7946 -j REJECT")
    try:
        code, found, codes = lint(node)
        assert (code, codes) == (1, {"lint.blocked-port"})
        assert f"from {manager.address}" in found["findings"][0]["summary"]
    finally:
        undo()


def test_flushed_rules_of_the_engine(node):
    saved = node.exec(["iptables-save"]).stdout
    node.exec(["iptables", "-F", "FORWARD"])
    node.exec(["iptables", "-t", "nat", "-F", "PREROUTING"])
    try:
        code, found, codes = lint(node)
        assert (code, codes) == (1, {"lint.engine-jumps"})
        assert {each["places"][0]["table"] for each in found["findings"]} == {"filter", "nat"}
        shown = json.loads(node.exec(["netdiag", "firewall", "show", "--table", "nat", "-o", "json"]).stdout)
        chains = {chain["name"]: chain for table in shown["tables"] for chain in table["chains"]}
        assert [call["chain"] for call in chains["DOCKER"]["called_from"]] == ["OUTPUT"]
    finally:
        node.exec(["iptables-restore"], stdin=saved)
    assert lint(node)[2] == set()
