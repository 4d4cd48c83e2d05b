"""Is one rule saved? Told from facts alone."""

import pytest

from netdiag.firewall.saved_state import saved_state
from netdiag.model.facts import Backend, FirewallBoot, FirewallSaved, FirewallService, SavedRules
from netdiag.model.firewall import FirewallRule

SSH = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"
V4 = SavedRules(
    source="netfilter-persistent",
    path="/etc/iptables/rules.v4",
    text="*filter\n:INPUT ACCEPT\n-A INPUT -p tcp --dport ssh -j ACCEPT\nCOMMIT\n",
)
NFT = SavedRules(
    source="nftables.service",
    path="/etc/nftables.conf",
    text="flush ruleset\ntable inet site {\n  chain in {\n    tcp  dport 22 accept\n  }\n}\n",
)


def rule(text=SSH, chain="INPUT", **fields):
    base = {"backend": Backend.IPTABLES_NFT, "family": "ip", "table": "filter", "chain": chain, "number": 1}
    return FirewallRule(text=text, **{**base, **fields})


def facts(rules, name="netfilter-persistent", enabled=True):
    service = FirewallService(name=name, active=name == "ufw", evidence="")
    boot = FirewallBoot(name=name, enabled=enabled, evidence="")
    return FirewallSaved(rules=(rules,), services=(service,), boot=(boot,))


@pytest.mark.parametrize(
    ("asked", "saved", "expected", "why"),
    [
        (rule(), facts(V4), True, "saved in /etc/iptables/rules.v4"),
        (rule(), facts(V4, enabled=None), None, "starts at boot is not known"),
        (rule(), facts(V4, enabled=False), False, "which nothing loads at boot"),
        (rule("-A INPUT -j DROP"), facts(V4), False, "no file that is loaded at boot has it"),
        (rule(family="ip6"), facts(V4), False, "no file"),
        (rule(table="mangle"), facts(V4), False, "no file"),
        (rule("-A DOCKER-USER -s 192.0.2.1/32 -j DROP", "DOCKER-USER"), facts(V4), False, "no file"),
        (
            rule("-A DOCKER -i docker0 -j RETURN", "DOCKER", table="nat"),
            facts(V4),
            True,
            "docker writes it at its own start",
        ),
        (rule("-A f2b-sshd -j REJECT", "f2b-sshd"), facts(V4), True, "fail2ban writes it"),
        (rule(":INPUT DROP", policy="DROP", number=None), facts(V4), None, "policy"),
        (rule(), FirewallSaved(), False, "no file"),
    ],
)
def test_iptables(asked, saved, expected, why):
    found = saved_state(asked, saved)
    assert found.saved is expected
    assert why in found.why


@pytest.mark.parametrize(
    ("text", "table", "enabled", "expected", "why"),
    [
        ("tcp dport 22 accept", "site", True, True, "saved in /etc/nftables.conf"),
        ("tcp dport 23 accept", "site", True, None, "netdiag firewall diff"),
        ("tcp dport 22 accept", "other", True, False, "has the table inet other"),
        ("tcp dport 22 accept", "site", False, False, "does not start at boot"),
    ],
)
def test_nft(text, table, enabled, expected, why):
    asked = rule(text, "in", backend=Backend.NFT_NATIVE, family="inet", table=table)
    found = saved_state(asked, facts(NFT, "nftables", enabled))
    assert found.saved is expected
    assert why in found.why


def test_ufw_rules_are_in_its_files_or_its_own():
    text = "*filter\n:ufw-user-input - [0:0]\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    saved = facts(SavedRules(source="ufw", path="/etc/ufw/user.rules", text=text), "ufw")
    assert saved_state(rule(SSH.replace("INPUT", "ufw-user-input"), "ufw-user-input"), saved).saved is True
    by_hand = rule("-A ufw-user-input -p udp -j ACCEPT", "ufw-user-input")
    assert saved_state(by_hand, saved).saved is False
    assert saved_state(rule("-A INPUT -j ufw-before-input"), saved).saved is True
