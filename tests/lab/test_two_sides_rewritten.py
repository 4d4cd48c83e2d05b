"""Something between that rewrites sequence numbers, as many firewalls do: a connection is known by its ends as well."""

import pytest

from tests.lab.two_sides import examined, target

IN, OUT = "two-sides.inbound", "two-sides.outbound"
# Every segment one way, and what acknowledges it the other way: a connection through it works.
REWRITE = (
    "tcp dport 7946 tcp sequence set tcp sequence ^ 0x5a5a0000; tcp sport 7946 tcp ackseq set tcp ackseq ^ 0x5a5a0000"
)


@pytest.fixture
def look(pair_lab, sides):
    def run():
        peer = target(pair_lab.host("two"), sides[1], control_port=2377)
        said, views, _ = examined(sides[0], [peer], manager=True)
        assert views[0].why_not == ""
        return said

    return run


@pytest.fixture
def rewriting(pair_lab):
    pair_lab.break_("nft", host="fabric", family="bridge", hook="forward", rules=REWRITE)


@pytest.mark.usefixtures("rewriting")
def test_a_connection_that_works_is_in_order(look):
    said = look()
    assert said.states(IN) == said.states(OUT) == {"ok"}
    assert any("tcp/7946" in one["summary"] for one in said.findings(OUT))


@pytest.mark.usefixtures("rewriting")
@pytest.mark.parametrize("where", ["one", "two"])
def test_a_rule_of_the_receiver_is_named_and_not_the_network(pair_lab, look, where):
    pair_lab.break_("drop", host=where, chain="INPUT", proto="tcp", dport=7946)
    (cause,) = look().document["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", where, "proven")
    assert cause["object"]["chain"] == "INPUT"


def test_what_rewrites_and_filters_is_still_a_filter(pair_lab, look):
    drop = f"ip daddr {pair_lab.host('two').address} tcp dport 7946 drop"
    pair_lab.break_("nft", host="fabric", family="bridge", hook="forward", rules=f"{drop}; {REWRITE}")
    (cause,) = look().document["causes"]
    assert (cause["code"], cause["object"]["to"], cause["object"]["port"]) == ("underlay.filtered", "two", 7946)
    assert cause["confidence"] == "proven"


@pytest.mark.usefixtures("rewriting")
def test_a_rule_that_takes_the_answer_at_the_sender(pair_lab, look):
    one = pair_lab.host("one")
    rule = ["INPUT", "-p", "tcp", "--sport", "7946", "-j", "DROP"]
    one.exec(["iptables", "-I", *rule])
    try:
        said = look()
    finally:
        one.exec(["iptables", "-D", *rule])
    (cause,) = said.document["causes"]
    assert (cause["code"], cause["host"]) == ("firewall.rule", "one")
