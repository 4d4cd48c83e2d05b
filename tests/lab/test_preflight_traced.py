"""The verdict of a host's own filters is the kernel's: proven, with the rule, for each port and direction."""

import shlex

import pytest

from netdiag.lab import swarm
from netdiag.lab.process import until
from tests.lab.asking import ask, preflight

EVERY_PORT = ("tcp/2377", "tcp/7946", "udp/7946", "udp/4789")


@pytest.fixture
def hosts(swarm2_lab):
    return swarm2_lab.host("manager"), swarm2_lab.host("worker")


def traced(cause):
    """The packets that a cause rests on; each was decided within the time that a trace may take."""
    (evidence,) = [one for one in cause["evidence"] if one["kind"] == "trace"]
    packets = evidence["data"]["packets"]
    assert all(0 < packet["elapsed_ms"] < 500 for packet in packets)
    return {(packet["port"], packet["peer"]) for packet in packets}


def heal(host, cause, part="commands"):
    for remedy in cause["remedy"]:
        for command in remedy[part]:
            host.exec(["sh", "-c", command])


@pytest.mark.parametrize(
    ("fault", "parameters", "place", "owner", "ports"),
    [
        pytest.param(
            "drop",
            {"proto": "tcp", "dport": 2377},
            ("iptables-nft", "filter", "INPUT", 1),
            "operator",
            EVERY_PORT[:1],
            id="one port",
        ),
        pytest.param("drop", {}, ("iptables-nft", "filter", "INPUT", 1), "operator", EVERY_PORT, id="everything"),
        pytest.param("policy", {}, ("iptables-nft", "filter", "INPUT", None), "operator", EVERY_PORT, id="a policy"),
        pytest.param(
            "stateful-input", {}, ("iptables-nft", "filter", "INPUT", 5), "operator", EVERY_PORT, id="a stock firewall"
        ),
        pytest.param(
            "reject",
            {"proto": "udp", "dport": 4789, "called": "SITE"},
            ("iptables-nft", "filter", "SITE", 1),
            "operator",
            EVERY_PORT[3:],
            id="in a called chain",
        ),
        pytest.param(
            "drop",
            {"proto": "udp", "dport": 7946, "table": "raw", "chain": "PREROUTING"},
            ("iptables-nft", "raw", "PREROUTING", 1),
            "operator",
            EVERY_PORT[2:3],
            id="another table",
        ),
        pytest.param(
            "drop",
            {"proto": "udp", "dport": 4789, "backend": "nft"},
            ("nft-native", None, "input", 1),
            "operator",
            EVERY_PORT[3:],
            id="a table of nft's own",
        ),
        pytest.param(
            "firewalld",
            {"ports": "2377/tcp"},
            ("nft-native", "firewalld", "filter_IN_public", 9),
            "firewalld",
            EVERY_PORT[1:],
            id="a zone of firewalld",
        ),
    ],
)
def test_what_keeps_a_peer_out_is_proven_and_healed(swarm2_lab, hosts, fault, parameters, place, owner, ports):
    manager, worker = hosts
    swarm2_lab.break_(fault, host="manager", **parameters)
    said = ask(manager, "verify", "swarm", "--peer", worker.address, expect=1 if {*ports} - {"udp/7946"} else 0)
    (cause,) = [one for one in said.document["causes"] if one["code"].startswith("firewall.")]
    assert cause["confidence"] == "proven"
    backend, table, chain, number = place
    found = cause["object"]
    assert (found["backend"], found["chain"], found["number"]) == (backend, chain, number)
    assert table in (None, found["table"])
    assert (cause["code"], found["owner"]) == ("firewall.rule" if number else "firewall.policy", owner)
    assert traced(cause) == {(port, worker.address) for port in ports}
    assert "was traced" in cause["explanation"]
    if "called" in parameters:
        assert "filter INPUT rule 1" in cause["explanation"]
    heal(manager, cause)
    again = ask(manager, "verify", "swarm", "--peer", worker.address, expect=0)
    assert again.states("firewall.inbound") == {"ok"}
    heal(manager, cause, "undo")
    assert ask(manager, "verify", "swarm", "--peer", worker.address).states("firewall.inbound") >= said.states(
        "firewall.inbound"
    )


def test_a_rule_of_legacy_iptables_beside_nft(swarm2_lab, hosts):
    manager, worker = hosts
    swarm2_lab.break_("drop", host="manager", proto="udp", dport=4789, backend="iptables-legacy")
    said = ask(manager, "verify", "swarm", "--peer", worker.address, expect=1)
    (cause,) = [one for one in said.document["causes"] if one["code"] == "firewall.rule"]
    confidence, rule = cause["confidence"], cause["object"]
    assert (confidence, rule["backend"], rule["number"]) == ("proven", "iptables-legacy", 1), cause["explanation"]
    assert traced(cause) == {("udp/4789", worker.address)}
    heal(manager, cause)
    ask(manager, "verify", "swarm", "--peer", worker.address, expect=0)
    heal(manager, cause, "undo")


def test_output_that_stops_the_data_path_is_found_before_joining(swarm2_lab, hosts):
    manager, worker = hosts
    swarm2_lab.break_("drop", host="worker", chain="OUTPUT", proto="udp", dport=4789)
    said = preflight(worker, manager.address, expect=0)
    assert (said.answers["join"], said.answers["traffic"]) == ("yes", "no")
    assert said.states("firewall.outbound") == {"warn", "ok"}
    cause = said.cause("firewall.rule")
    assert (cause["object"]["chain"], cause["object"]["number"], cause["confidence"]) == ("OUTPUT", 1, "proven")
    assert traced(cause) == {("udp/4789", manager.address)}
    heal(worker, cause)
    assert preflight(worker, manager.address).states("firewall.outbound") == {"ok"}
    heal(worker, cause, "undo")


def test_one_rule_that_stops_the_join_and_the_rest_is_one_cause(swarm2_lab, hosts):
    manager, worker = hosts
    swarm2_lab.break_("reject", host="worker", chain="OUTPUT", destination=f"{manager.address}/32")
    said = preflight(worker, manager.address, "--need", "traffic", expect=1)
    assert said.failed() >= {("swarm.manager.tcp", "firewall.rule"), ("firewall.outbound", "firewall.rule")}
    cause = said.cause("firewall.rule")
    assert cause["confidence"] == "proven"
    commands = [command for remedy in cause["remedy"] for command in remedy["commands"]]
    assert [command.split("--dport ")[1].split()[0] for command in commands] == ["2377", "7946", "7946", "4789"]


def test_firewalld_on_the_host_that_joins(swarm2_lab, hosts):
    manager, worker = hosts
    swarm2_lab.break_("firewalld", host="worker")
    said = preflight(worker, manager.address, expect=0)
    assert (said.answers["join"], said.answers["traffic"]) == ("yes", "no")
    cause = said.cause("firewall.rule")
    assert (cause["object"]["chain"], cause["object"]["owner"]) == ("filter_IN_public", "firewalld")
    assert cause["confidence"] == "proven"
    assert all(shlex.split(remedy["persist"][0])[1] == "--permanent" for remedy in cause["remedy"])
    assert said.states("firewall.outbound") == {"ok"}


def test_a_rule_that_loses_the_answers_is_still_proven_by_its_counter(swarm2_lab, hosts):
    """Traced packets move counters as well; none of them may fall into a burst."""
    manager, worker = hosts
    swarm2_lab.break_("drop", host="worker", chain="INPUT", proto="tcp", sport=2377)
    said = preflight(worker, manager.address, expect=1)
    cause = said.cause("firewall.rule")
    assert (cause["object"]["chain"], cause["confidence"]) == ("INPUT", "proven")
    assert any("its counter moved by 5" in one["text"] for one in cause["evidence"])


def test_a_clean_host_is_proven_clean_and_left_as_it_was(hosts):
    manager, worker = hosts
    look = ["sh", "-c", "nft -s -a list ruleset; ip -br link; cat /proc/net/dev | cut -d: -f1"]
    before = worker.exec(look).stdout
    said = preflight(worker, manager.address, expect=0)
    for check in ("firewall.inbound", "firewall.outbound"):
        (finding,) = said.findings(check)
        assert (finding["state"], [one["kind"] for one in finding["evidence"]]) == ("ok", ["trace"])
        ports = {packet["port"] for packet in finding["evidence"][0]["data"]["packets"]}
        assert ports == set(EVERY_PORT[1:])
    assert worker.exec(look).stdout == before


def test_a_peer_that_is_down_is_no_verdict_of_the_filters(hosts):
    """With a chain at the egress hook its packets would have to come as far as that, and nothing leaves for it."""
    manager, worker = hosts
    nobody = worker.address.rpartition(".")[0] + ".77"
    assert ask(manager, "verify", "swarm", "--peer", nobody, expect=0).states("firewall.outbound") == {"ok"}
    manager.exec(["nft", "add", "table", "netdev", "site"])
    try:
        hook = "{ type filter hook egress device eth0 priority 0 ; }"
        manager.exec(["sh", "-c", f"nft 'add chain netdev site out {hook}'"])
        (finding,) = ask(manager, "verify", "swarm", "--peer", nobody, expect=0).findings("firewall.outbound")
        assert (finding["state"], finding["evidence"]) == ("ok", [])
        (finding,) = ask(manager, "verify", "swarm", "--peer", worker.address).findings("firewall.outbound")
        assert (finding["state"], finding["evidence"][0]["kind"]) == ("ok", "trace")
    finally:
        manager.exec(["nft", "delete", "table", "netdev", "site"])


def test_members_are_asked_about_each_other_without_being_named(swarm2_lab, hosts):
    manager, worker = hosts
    assert swarm2_lab.swarm_join("worker", "manager").joined
    shown = ["docker", "network", "inspect", "-f", "{{json .Peers}}", "ingress"]
    try:
        # A worker has the network, and with it the names of its peers, a moment after it has joined.
        until(lambda: manager.address in worker.exec(shown, check=False).stdout, 20, "the peers of the ingress network")
        for host, peer, ports in ((manager, worker, EVERY_PORT), (worker, manager, EVERY_PORT[1:])):
            (finding,) = ask(host, "verify", "swarm").findings("firewall.inbound")
            packets = finding["evidence"][0]["data"]["packets"]
            assert {(packet["port"], packet["peer"]) for packet in packets} == {(port, peer.address) for port in ports}
        assert {node["Status"]["State"] for node in swarm.nodes(manager)} == {"ready"}
    finally:
        swarm2_lab.swarm_leave("worker")
        for node in swarm.nodes(manager):
            if node["Spec"]["Role"] == "worker":
                manager.docker.remove_node(node["ID"], force=True)
