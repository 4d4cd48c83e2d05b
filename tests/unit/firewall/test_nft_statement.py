"""A rule's verdict is its statement, whatever its sets, chains and comments are called."""

import pytest

from netdiag.firewall.nft_statement import translates, verdict_of


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("drop", ("drop", "")),
        ("ip saddr @port.reject drop", ("drop", "")),
        ("ip saddr @a.accept counter reject with icmpx type admin-prohibited", ("reject", "")),
        ('tcp dport 1 reject with tcp reset comment "drop"', ("reject", "")),
        ("jump port.reject", ("jump", "port.reject")),
        ('iifname "drop" goto drop', ("goto", "drop")),
        ('tcp dport 1 counter comment "x drop with y"', None),
        ('tcp dport 1 counter comment "drop"', None),
        ("ip saddr vmap @ports.reject", None),
        ("tcp dport vmap { 22 : drop, 80 : jump web }", None),
        ("tcp dport 22 jump { ip saddr 10.0.0.1 accept; drop }", None),
        ("queue to 1", None),
        ("ct state established,related accept", ("accept", "")),
    ],
)
def test_the_verdict(text, verdict):
    assert verdict_of(text) == verdict


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("tcp dport 80 dnat to 10.0.0.1:80", True),
        ("dnat ip to 10.0.0.1", True),
        ("dnat ip addr . port to ip daddr map @m", True),
        ("snat ip prefix to ip saddr map { 10.0.0.0/24 : 10.1.0.0/24 }", True),
        ('oifname "eth0" masquerade', True),
        ("tcp dport 80 redirect to :8080", True),
        ("ct status dnat accept", False),
        ("ip saddr @snat accept", False),
        ("jump masquerade", False),
        ('counter comment "dnat to x"', False),
    ],
)
def test_what_changes_addresses(text, changes):
    assert translates(text) is changes
