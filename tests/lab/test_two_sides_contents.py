"""Rules that look at what a packet is, not only at its port: the trace is of the very packet that was lost."""

import sys

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.two_sides import examined, target

IN, OUT, SIZES = "two-sides.inbound", "two-sides.outbound", "two-sides.sizes"
LISTENER = """
import socket, time
held = [socket.create_server(("127.0.0.1", port)) for port in (2377, 7946)]
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def look(pair_lab, sides):
    def run():
        peer = target(pair_lab.host("two"), sides[1], control_port=2377)
        said, views, _ = examined(sides[0], [peer], manager=True, encrypted=True)
        assert views[0].why_not == ""
        return said

    return run


@pytest.mark.parametrize("where", ["one", "two"])
@pytest.mark.parametrize("family", ["inet", "netdev"])
def test_a_rule_that_looks_for_a_vxlan_header(pair_lab, look, where, family):
    hook = {"hook": "ingress", "device": "eth0"} if family == "netdev" else {"hook": "input"}
    pair_lab.break_("nft", host=where, family=family, rules="udp dport 4789 @th,64,8 8 drop", **hook)
    said = look()
    (cause,) = said.document["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", where, "proven")
    assert "@th,64,8" in cause["object"]["text"]
    assert said.states(OUT if where == "one" else IN) == {"ok"}


def test_a_rule_that_looks_for_no_vxlan_header_stops_nothing_of_an_overlay(pair_lab, look):
    pair_lab.break_("nft", host="two", hook="input", rules="udp dport 4789 @th,64,8 != 8 drop")
    said = look()
    (cause,) = said.document["causes"]
    assert (cause["code"], cause["host"]) == ("firewall.rule", "two")
    assert "fail" not in said.states(OUT)


@pytest.mark.parametrize("where", ["one", "two"])
def test_a_rule_that_takes_long_packets_when_they_arrive(pair_lab, look, where):
    host = pair_lab.host(where)
    rule = ["INPUT", "-p", "udp", "--dport", "4789", "-m", "length", "--length", "1400:", "-j", "DROP"]
    host.exec(["iptables", "-I", *rule])
    try:
        said = look()
        (cause,) = said.document["causes"]
        for remedy in cause["remedy"]:
            for command in remedy["commands"]:
                host.exec(["sh", "-c", command])
        again = look()
        host.exec(["sh", "-c", "; ".join(undo for one in cause["remedy"] for undo in one["undo"])])
    finally:
        host.exec(["iptables", "-D", *rule])
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", where, "proven")
    assert "--length 1400" in cause["object"]["text"]
    (lost,) = [one for one in said.findings(IN if where == "one" else OUT) if one["state"] == "fail"]
    assert "udp/4789 of 1400 bytes and more" in lost["summary"]
    assert again.document["causes"] == []


def test_a_rule_that_takes_short_packets_only_hurts_none_of_an_overlay(pair_lab, look):
    """The decoy: of the packets of the data path the long ones come."""
    two = pair_lab.host("two")
    rule = ["INPUT", "-p", "udp", "--dport", "4789", "-m", "length", "--length", ":40", "-j", "DROP"]
    two.exec(["iptables", "-I", *rule])
    try:
        said = look()
    finally:
        two.exec(["iptables", "-D", *rule])
    (cause,) = said.document["causes"]
    assert (cause["code"], cause["host"]) == ("firewall.rule", "two")
    assert "fail" not in said.states(OUT) | said.states(SIZES)


def test_a_program_that_listens_on_another_address_is_no_filter(pair_lab, look):
    with pair_lab.host("two").popen([sys.executable, "-c", LISTENER]) as process:
        try:
            until(lambda: process.stdout.readline() == "ready\n", 5.0, "the listener")
            said = look()
        finally:
            end_group(process)
    assert said.document["causes"] == []
    (lost,) = [one for one in said.findings(OUT) if one["state"] != "ok"]
    assert "nobody listens on" in lost["summary"]
    assert "127.0.0.1" in lost["summary"]
    assert "rate or state" not in lost["summary"]
