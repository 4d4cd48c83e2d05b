"""Rules that decide by the sender's user, of those that one packet may meet."""

import pytest

from netdiag.firewall.by_user import user_rules
from netdiag.model.facts import Backend
from netdiag.model.firewall import Direction, Packet
from tests.unit.firewall.build import nft, rule_set, save

PACKET = Packet(
    direction=Direction.OUT,
    protocol="tcp",
    source="192.0.2.1",
    destination="192.0.2.2",
    destination_port=80,
    device="eth0",
)
LISTED = """table inet site {{
\tchain out {{ # handle 1
\t\ttype filter hook output priority filter; policy accept;
\t\t{} # handle 7
\t}}
}}
"""


def found(*sets):
    return [(each.table, each.chain, each.number, each.backend) for each in user_rules(sets, PACKET)]


@pytest.mark.parametrize(
    "text",
    [
        "-A OUTPUT -m owner --uid-owner 1000 -j DROP",
        "-A OUTPUT -p tcp -m tcp --dport 80 -m owner ! --uid-owner 0-999 -j REJECT",
        "-A OUTPUT -d 192.0.2.0/24 -m owner --gid-owner 77 -j JAIL",
        # Behind it others may be refused.
        "-A OUTPUT -m owner --uid-owner 0 -j ACCEPT",
    ],
)
def test_a_rule_that_may_be_for_the_packet(text):
    assert found(rule_set(save(text))) == [("filter", "OUTPUT", 1, Backend.IPTABLES_NFT)]


@pytest.mark.parametrize(
    "text",
    [
        "-A OUTPUT -p tcp -m tcp --dport 81 -m owner --uid-owner 1000 -j DROP",
        "-A OUTPUT -p udp -m owner --uid-owner 1000 -j DROP",
        "-A OUTPUT -d 198.51.100.0/24 -m owner --uid-owner 1000 -j DROP",
        "-A OUTPUT -o lo -m owner --uid-owner 1000 -j DROP",
        "-A OUTPUT -m owner --uid-owner 1000 -j LOG",
        "-A OUTPUT -p tcp -m tcp --dport 80 -j DROP",
    ],
)
def test_a_rule_that_is_not(text):
    assert found(rule_set(save(text))) == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("meta skuid 1000 drop", True),
        ("tcp dport 80 meta skgid != 77 reject", True),
        ("tcp dport 81 meta skuid 1000 drop", False),
        ("udp dport 80 meta skuid 1000 drop", False),
        ("ip daddr 198.51.100.1 meta skuid 1000 drop", False),
        ("tcp dport 80 drop", False),
    ],
)
def test_rules_of_nft(text, is_one):
    assert found(nft(LISTED.format(text))) == ([("site", "out", 1, Backend.NFT_NATIVE)] if is_one else [])


def test_what_iptables_wrote_is_told_once():
    twice = LISTED.replace("inet site", "ip filter").replace("chain out", "chain OUTPUT").format("skuid 1000 drop")
    both = (rule_set(save("-A OUTPUT -m owner --uid-owner 1000 -j DROP")), nft(twice))
    assert found(*both) == [("filter", "OUTPUT", 1, Backend.IPTABLES_NFT)]
