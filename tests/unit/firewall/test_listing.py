"""The text of ``nft -a list ruleset``."""

import pytest

from netdiag.firewall.listing import ListedChain, ListedRule, has_blocks, named_blocks, priority_number, read_listing
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


BLOCKS = """\
table inet t { # handle 7
\tchain c { # handle 2
\t\ttype filter hook input priority filter; policy accept;
\t\ttcp dport { 22, 80 } counter packets 4 bytes 0 jump {
\t\t\tip saddr 1.2.3.4 accept
\t\t\tcounter packets 3 bytes 0 drop comment "in # handle 5"
\t\t} comment "web" # handle 9
\t\tudp dport 53 goto {%s
\t\t} # handle 13
\t\tip saddr @port.reject drop # handle 14
\t}

\tchain jump { # handle 15
\t}
}
"""
SHOWN = "\n\t\t\tip saddr 1.2.3.4 counter packets 0 bytes 0 # handle 11\n\t\t\tdrop # handle 12"
HIDDEN = SHOWN.replace(" # handle 11", "").replace(" # handle 12", "")


def dumped(name, *handles):
    rules = tuple(ListedRule(number=at, handle=handle, text="") for at, handle in enumerate(handles, start=1))
    return ("inet", "t", name), ListedChain(family="inet", table="t", name=name, rules=rules)


@pytest.mark.parametrize("inner", [SHOWN, HIDDEN])
def test_a_block_is_a_chain_of_its_own(inner):
    text = BLOCKS % inner
    chains = read_listing(text)
    assert has_blocks(text)
    assert not has_blocks(TEXT)
    assert [(rule.number, rule.handle, rule.packets, rule.block) for rule in chains["inet", "t", "c"].rules] == [
        (1, 9, 4, "__chain[9]"),
        (2, 13, None, "__chain[13]"),
        (3, 14, None, ""),
    ]
    assert chains["inet", "t", "c"].rules[0].text == (
        'tcp dport { 22, 80 } counter jump { ip saddr 1.2.3.4 accept; counter drop comment "in # handle 5" } comment "web"'
    )
    assert [rule.text for rule in chains["inet", "t", "__chain[13]"].rules] == ["ip saddr 1.2.3.4 counter", "drop"]
    kernel = dict(
        [dumped("c", 9, 13, 14), dumped("__chain4", 7, 8), dumped("__chain5", 11, 12), dumped("__chain6", 20)]
    )
    named = named_blocks(chains, kernel)
    assert set(named) == {("inet", "t", name) for name in ("c", "jump", "__chain4", "__chain5")}
    drop = named["inet", "t", "__chain4"].rule(8)
    assert (drop.number, drop.text, drop.packets) == (2, 'counter drop comment "in # handle 5"', 3)
    assert named["inet", "t", "__chain5"].rule(12).text == "drop"
    assert [rule.block for rule in named["inet", "t", "c"].rules] == ["__chain4", "__chain5", ""]


def test_a_block_that_does_not_fit_the_kernels_is_not_named():
    chains = read_listing(BLOCKS % HIDDEN)
    assert named_blocks(chains, dict([dumped("__chain4", 7), dumped("__chain5", 14, 15)])) == chains


def test_what_the_kernel_counts_is_no_part_of_the_text():
    def text(rule):
        chains = read_listing(f"table ip t {{ # handle 1\n\tchain c {{ # handle 1\n\t\t{rule} # handle 2\n\t}}\n}}\n")
        return chains["ip", "t", "c"].rules[0].text

    assert text("quota over 25 mbytes used 3 kbytes drop") == "quota over 25 mbytes drop"
    assert text("last used 1m3s accept") == "last accept"
    assert text("last used never accept") == "last accept"


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
