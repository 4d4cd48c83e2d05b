"""The text of ``nft -a list ruleset``."""

import pytest

from netdiag.firewall.listing import priority_number, read_listing
from netdiag.firewall.owner import owner_of
from netdiag.model.firewall import Owner

TEXT = """\
table inet t { # handle 3
\tset peers { # handle 7
\t\ttype ipv4_addr
\t\telements = { 10.0.0.1, 10.0.0.2 }
\t}

\tchain called { # handle 2
\t\tip saddr @peers counter packets 12 bytes 900 drop # handle 8
\t\ttcp dport { 22, 80 } accept # handle 5
\t}

\tchain in { # handle 1
\t\ttype filter hook input priority filter + 5; policy drop;
\t\tjump called # handle 4
\t}
}
table netdev e { # handle 4
\tchain edge { # handle 1
\t\ttype filter hook ingress device "eth0" priority -500; policy accept;
\t}
}
"""


def test_chains_rules_and_handles():
    chains = read_listing(TEXT)
    assert set(chains) == {("inet", "t", "called"), ("inet", "t", "in"), ("netdev", "e", "edge")}
    called, base = chains["inet", "t", "called"], chains["inet", "t", "in"]
    assert [(rule.number, rule.handle, rule.packets) for rule in called.rules] == [(1, 8, 12), (2, 5, None)]
    assert called.rules[0].text == "ip saddr @peers counter drop"
    assert (called.hook, called.policy) == ("", None)
    assert (base.hook, base.priority, base.policy) == ("input", "filter + 5", "drop")
    assert chains["netdev", "e", "edge"].hook == "ingress"
    assert called.rule(5).number == 2
    assert called.rule(9) is None


def test_the_table_of_a_program_names_its_owner():
    assert owner_of("filter_INPUT", "reject", "firewalld") is Owner.FIREWALLD
    assert owner_of("filter_INPUT", "reject", "mine") is Owner.OPERATOR


@pytest.mark.parametrize(
    ("text", "family", "number"),
    [
        ("filter", "ip", 0),
        ("dstnat - 5", "inet", -105),
        ("filter + 10", "bridge", -190),
        ("-150", "ip", -150),
        ("300", "ip", 300),
        ("out", "ip", None),
        ("", "ip", None),
    ],
)
def test_priorities(text, family, number):
    assert priority_number(text, family) == number
