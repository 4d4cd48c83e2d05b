"""A rule set laid out for reading: what stands where, whose it is, and who calls it."""

import pytest

from netdiag.firewall.laid_out import Wanted, laid_out
from netdiag.firewall.netfilter.skb import Host
from netdiag.firewall.standing import of_files, of_listed
from netdiag.model.facts import Backend, Facts, RuleSet
from netdiag.model.firewall import Owner
from tests.unit.firewall.lint_cases import STOCK


def of(name, **wanted):
    return laid_out(of_files([(f"{name}.rules", STOCK[name])]), subject=name, wanted=Wanted(**wanted))


def chains(found, table):
    return {chain.name: chain for each in found.tables if each.name == table for chain in each.chains}


@pytest.mark.parametrize("name", STOCK)
def test_every_rule_is_shown_once_with_its_line(name):
    lines = STOCK[name].split("\n")
    written = [
        number for number, line in enumerate(lines, 1) if line.partition("] ")[2][:3] == "-A " or line[:3] == "-A "
    ]
    shown = sorted(rule.line for table in of(name).tables for chain in table.chains for rule in chain.rules)
    assert shown == written


def test_base_chains_come_first_in_the_packet_s_order_and_then_owners_together():
    filtering = chains(of("swarm-ingress"), "filter")
    assert list(filtering)[:3] == ["INPUT", "FORWARD", "OUTPUT"]
    owners = [chain.owner for chain in filtering.values() if not chain.hook]
    assert owners == sorted(owners, key=list(Owner).index)
    assert set(owners) == {Owner.DOCKER, Owner.SWARM}
    assert list(chains(of("swarm-ingress"), "nat"))[:4] == ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]


def test_callers_policy_and_counters():
    filtering = chains(of("swarm-manager"), "filter")
    assert (filtering["FORWARD"].policy, filtering["FORWARD"].owner) == ("DROP", Owner.DOCKER)
    assert {call.chain for call in filtering["DOCKER"].called_from} == {"FORWARD"}
    assert filtering["FORWARD"].rules[0].packets == 0
    assert filtering["DOCKER"].rules[0].belongs_to == "port 80/tcp of 172.17.0.2"


def test_what_depends_on_the_caller_is_not_said():
    """The second stage of isolation is called for each network."""
    stage = chains(of("swarm-ingress"), "filter")["DOCKER-ISOLATION-STAGE-2"]
    assert stage.rules[0].belongs_to == ""
    assert stage.rules[0].owner is Owner.DOCKER


@pytest.mark.parametrize(
    ("wanted", "expect"),
    [
        ({"port": 8443}, {("nat", "DOCKER-INGRESS"), ("filter", "DOCKER-INGRESS")}),
        ({"port": 8443, "table": "nat"}, {("nat", "DOCKER-INGRESS")}),
        ({"chain": "DOCKER-USER"}, {("filter", "DOCKER-USER")}),
        ({"protocol": "udp"}, set()),
        ({"owner": Owner.OPERATOR}, set()),
        (
            {"owner": Owner.SWARM, "table": "filter"},
            {("filter", "FORWARD"), ("filter", "DOCKER-INGRESS")},
        ),
    ],
)
def test_only_what_is_wanted(wanted, expect):
    found = of("swarm-ingress", **wanted)
    assert {(table.name, chain.name) for table in found.tables for chain in table.chains} == expect
    if "port" in wanted:
        assert all("8443" in rule.text for table in found.tables for chain in table.chains for rule in chain.rules)
        assert found.tables[0].chains[0].hidden == 1


NATIVE = """\
table inet own {
\tset peers {
\t\ttype ipv4_addr
\t}

\tchain in {
\t\ttype filter hook input priority filter; policy drop;
\t\tct state established accept
\t\ttcp dport 22 counter packets 3 bytes 180 accept # handle 5
\t\tjump more
\t}

\tchain more {
\t\tudp dport 4789 accept
\t}
}
"""


def test_tables_that_nft_wrote():
    listed = RuleSet(backend=Backend.NFT_NATIVE, family=0, text=NATIVE, sha256="0")
    standing = of_listed((listed,), host=Host(), facts=Facts(collected_s=0.0), namespace="host")
    table = laid_out(standing, subject="one").tables[0]
    assert (table.backend, table.family, table.name) == ("nft-native", "inet", "own")
    base, more = table.chains
    assert (base.hook, base.policy, len(base.rules)) == ("input priority filter", "DROP", 3)
    assert (base.rules[1].text, base.rules[1].packets) == ("tcp dport 22 accept", 3)
    assert [(call.chain, call.number) for call in more.called_from] == [("in", 3)]
    only = laid_out(standing, subject="one", wanted=Wanted(port=4789)).tables[0]
    assert [chain.name for chain in only.chains] == ["more"]


def test_sets_are_counted():
    found = of("fail2ban-ipset")
    assert [(each.name, each.kind, each.members) for each in found.sets] == [("f2b-sshd", "hash:ip", 1)]
