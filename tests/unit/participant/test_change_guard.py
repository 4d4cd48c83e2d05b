"""What the guard runs: one rule added or deleted, and nothing else."""

import pytest

from netdiag.participant.change_guard import is_allowed, tool_words

RICH = 'rule family="ipv4" source address="192.0.2.1" port port="1" protocol="tcp" accept'


@pytest.mark.parametrize(
    "argv",
    [
        "iptables -I INPUT 4 -s 192.0.2.1 -p tcp --dport 1 -j ACCEPT",
        "ip6tables-legacy -t raw -A PREROUTING -p udp -j ACCEPT",
        "iptables-nft -D INPUT -s 192.0.2.1 -p tcp --dport 1 -j ACCEPT",
        "nsenter --net=/proc/7/ns/net -- iptables -D INPUT -p tcp -j ACCEPT",
        'nft insert rule inet guard late position 7 ip saddr 192.0.2.1 tcp dport 1 accept comment "netdiag-ab12"',
        'nft add rule bridge guard late ip saddr 192.0.2.1 accept comment "netdiag-ab12"',
        "nft delete rule inet guard late handle HANDLE",
        "ufw insert 1 allow from 192.0.2.1 to any port 1 proto tcp",
        "ufw route prepend allow from 192.0.2.1 to 192.0.2.2 port 1 proto tcp",
        "ufw route delete allow from 192.0.2.1 to 192.0.2.2 port 1 proto tcp",
        "fail2ban-client set sshd unbanip 2001:db8::1",
    ],
)
def test_one_rule_is_allowed(argv):
    assert is_allowed(argv.split())


def test_a_rich_rule_is_allowed():
    for more in ((), ("--permanent",)):
        assert is_allowed(["firewall-cmd", *more, "--zone=public", "--add-rich-rule=" + RICH])


@pytest.mark.parametrize(
    "argv",
    [
        "",
        "sh -c true",
        "iptables -F",
        "iptables -P INPUT ACCEPT",
        "iptables -I INPUT 1 -p tcp -j DROP",
        "iptables -X LATE -j ACCEPT",
        "iptables-restore -j ACCEPT",
        "nft flush ruleset",
        "nft delete table inet guard",
        "nft delete rule inet guard late handle 7",
        'nft add rule inet guard late drop ; flush ruleset ; add rule a b c accept comment "netdiag-x"',
        "nft -f /tmp/rules",
        "ufw disable",
        "ufw --force reset",
        "ufw deny from any",
        "firewall-cmd --reload",
        "firewall-cmd --permanent --zone=public --set-target=ACCEPT",
        "fail2ban-client stop",
        "fail2ban-client set sshd unbanip --all",
        "nsenter --net=/proc/7/ns/net -- sh -c true",
        "nsenter --mount=/proc/7/ns/mnt -- iptables -I INPUT 1 -j ACCEPT",
        "nsenter --net=/proc/7/ns/net -- nsenter --net=/proc/8/ns/net -- iptables -I INPUT 1 -p 4 -j ACCEPT",
        "/tmp/iptables -I INPUT 1 -p tcp -j ACCEPT",
    ],
)
def test_anything_else_is_refused(argv):
    assert not is_allowed(argv.split())


def test_the_tool_behind_nsenter():
    assert tool_words(["nsenter", "--net=/a", "--", "nft", "delete"]) == ["nft", "delete"]
    assert tool_words(["nft", "delete"]) == ["nft", "delete"]
