"""The acceptance matrix on a host without an engine: each fault is named, healed by one rule, and undone exactly."""

import statistics
import sys
from contextlib import ExitStack

import pytest

from netdiag.lab.host import end_group
from tests.lab.matrix import MS, Judge, Row, Rule, answering, ids

TCP = "--src {peer} --dport 9000"
UDP = "--src {peer} --proto udp --dport 9000"
OUT = "--path out --dst {peer} --proto udp --dport 9000"


def filter_rule(chain, number, text, **more):
    return Rule("iptables-nft", "ip", "filter", chain, number, text, **more)


def native(family, chain, number, text, **more):
    return Rule("nft-native", family, "site", chain, number, text, **more)


INPUT = (
    Row(
        "INPUT drop behind an accept and another source's drop",
        (
            "iptables -A INPUT -p udp -j ACCEPT",
            "iptables -A INPUT -s 10.71.0.9 -p tcp --dport 9000 -j DROP",
            "iptables -A INPUT -p tcp --dport 9000 -j DROP",
            "iptables -A INPUT -p tcp --dport 9000 -j ACCEPT",
        ),
        TCP,
        filter_rule("INPUT", 3, "-A INPUT -p tcp -m tcp --dport 9000 -j DROP"),
        decoy=UDP,
    ),
    Row(
        "INPUT of a stock CentOS",
        ("stateful-input",),
        TCP,
        filter_rule("INPUT", 5, "-A INPUT -j REJECT --reject-with icmp-host-prohibited"),
        verdict="reject",
        decoy="--src {peer} --proto icmp",
    ),
    Row(
        "INPUT reject with tcp-reset",
        ("reject chain=INPUT proto=tcp dport=9000 with=tcp-reset",),
        TCP,
        filter_rule("INPUT", 1, "-j REJECT --reject-with tcp-reset"),
        verdict="reject",
        decoy="--src {peer} --dport 2377",
    ),
    Row(
        "INPUT reject with icmp-admin-prohibited of one network",
        ("reject chain=INPUT proto=udp source=10.71.0.0/29 dport=9000 with=icmp-admin-prohibited",),
        UDP,
        filter_rule("INPUT", 1, "-A INPUT -s 10.71.0.0/29 -p udp -m udp --dport 9000 -j REJECT"),
        verdict="reject",
    ),
    Row(
        "INPUT policy with some accepts",
        ("iptables -A INPUT -p icmp -j ACCEPT", "policy chain=INPUT policy=DROP"),
        TCP,
        filter_rule("INPUT", None, ":INPUT DROP"),
        decoy="--src {peer} --proto icmp",
    ),
    Row(
        "called chain behind a call that returns",
        (
            "iptables -N checks",
            "iptables -A checks -p tcp --dport 9000 -m ttl --ttl-gt 200 -j DROP",
            "iptables -N LOG_DROP",
            "iptables -A LOG_DROP -p tcp --dport 22 -j RETURN",
            "iptables -A LOG_DROP -j DROP",
            "iptables -A INPUT -j checks",
            "iptables -A INPUT -p tcp --dport 9000:9100 -j LOG_DROP",
        ),
        TCP,
        filter_rule("LOG_DROP", 2, "-A LOG_DROP -j DROP", call_site="filter INPUT rule 2: -A INPUT -p tcp"),
        decoy="--src {peer} --dport 2377",
    ),
    Row(
        "chain that is gone to, two calls deep",
        (
            "iptables -N inner",
            "iptables -A inner -p udp -j REJECT",
            "iptables -N outer",
            "iptables -A outer -g inner",
            "iptables -A INPUT -i eth0 -j outer",
        ),
        UDP,
        filter_rule("inner", 1, "-A inner -p udp -j REJECT", call_site="filter outer rule 1: -A outer -g inner"),
        verdict="reject",
    ),
    Row(
        "set of blocked addresses",
        ("drop chain=INPUT set=blocked members=10.71.0.2,192.0.2.0/24",),
        "--src {peer} --proto icmp",
        filter_rule("INPUT", 1, "-m set --match-set blocked src -j DROP"),
    ),
    Row(
        "conntrack state NEW",
        ("drop chain=INPUT proto=udp extra='-m conntrack --ctstate NEW'",),
        UDP,
        filter_rule("INPUT", 1, "-m conntrack --ctstate NEW -j DROP"),
    ),
    Row(
        "conntrack state INVALID",
        ("drop chain=INPUT extra='-m conntrack --ctstate INVALID'",),
        "--src {peer} --dport 9000 --tcp-flags syn,ack",
        filter_rule("INPUT", 1, "-m conntrack --ctstate INVALID -j DROP"),
        reach="",
        decoy=TCP,
    ),
    Row(
        "limit that is used up",
        (
            "iptables -A INPUT -p udp --dport 9000 -m limit --limit 1/hour --limit-burst 1 -j ACCEPT",
            "iptables -A INPUT -p udp --dport 9000 -j DROP",
        ),
        UDP,
        filter_rule("INPUT", 2, "-A INPUT -p udp -m udp --dport 9000 -j DROP"),
        passes=1,
        unexplained="whether the rate of limit is used up is not known",
    ),
    Row(
        "mark set in mangle",
        (
            "iptables -t mangle -A PREROUTING -p tcp --dport 9000 -j MARK --set-mark 0x5",
            "iptables -A INPUT -m mark --mark 0x6 -j DROP",
            "iptables -A INPUT -m mark --mark 0x5 -j DROP",
        ),
        TCP,
        filter_rule("INPUT", 2, "-A INPUT -m mark --mark 0x5 -j DROP"),
        decoy="--src {peer} --dport 2377",
    ),
    Row(
        "multiport",
        ("drop chain=INPUT proto=tcp dport=2377,9000,7946",),
        TCP,
        filter_rule("INPUT", 1, "-m multiport --dports 2377,9000,7946 -j DROP"),
        decoy="--src {peer} --dport 8443",
    ),
    Row(
        "sender's MAC address",
        ("drop chain=INPUT extra='-m mac --mac-source {peer_mac}'",),
        "--src {peer} --dport 9000 --mac {peer_mac}",
        filter_rule("INPUT", 1, "-m mac --mac-source"),
        decoy="--src {peer} --dport 9000 --mac 02:00:00:00:00:01",
    ),
    Row(
        "long packets only",
        ("drop chain=INPUT proto=icmp extra='-m length --length 1000:1500'",),
        "--src {peer} --proto icmp --length 1400",
        filter_rule("INPUT", 1, "-m length --length 1000:1500 -j DROP"),
        reach="ping -c 1 -W 1 -s 1372 {host}",
        decoy="--src {peer} --proto icmp",
    ),
    Row(
        "protocol of IPsec",
        ("drop chain=INPUT proto=esp",),
        "--src {peer} --proto esp",
        filter_rule("INPUT", 1, "-A INPUT -p esp -j DROP"),
        reach="",
        decoy="--src {peer} --proto 4",
    ),
    Row(
        "raw PREROUTING",
        ("drop table=raw chain=PREROUTING proto=tcp dport=9000", "iptables -A INPUT -p tcp --dport 9000 -j ACCEPT"),
        TCP,
        Rule("iptables-nft", "ip", "raw", "PREROUTING", 1, "-p tcp -m tcp --dport 9000 -j DROP"),
    ),
    Row(
        "mangle PREROUTING in a called chain",
        ("drop table=mangle chain=PREROUTING called=early proto=udp dport=9000",),
        UDP,
        Rule(
            *("iptables-nft", "ip", "mangle", "early", 1, "-A early -p udp -m udp --dport 9000 -j DROP"),
            call_site="mangle PREROUTING rule 1: -A PREROUTING -j early",
        ),
    ),
)

OUTPUT = (
    Row(
        "OUTPUT drop",
        ("iptables -A OUTPUT -p tcp -j ACCEPT", "drop chain=OUTPUT proto=udp dport=9000 position=2"),
        OUT,
        filter_rule("OUTPUT", 2, "-A OUTPUT -p udp -m udp --dport 9000 -j DROP"),
        reach="self",
        decoy="--path out --dst {peer} --dport 9000",
    ),
    Row(
        "OUTPUT policy",
        ("policy chain=OUTPUT policy=DROP",),
        OUT,
        filter_rule("OUTPUT", None, ":OUTPUT DROP"),
        reach="self",
    ),
    Row(
        "mangle POSTROUTING",
        ("drop table=mangle chain=POSTROUTING proto=udp dport=9000 interface=eth0",),
        OUT,
        Rule("iptables-nft", "ip", "mangle", "POSTROUTING", 1, "-A POSTROUTING -o eth0 -p udp"),
        reach="self",
    ),
)

NATIVE = (
    Row(
        "nft inet before iptables, by a named set",
        (
            "nft priority=-10 set=blocked members=10.71.0.2 rules='tcp dport 22 accept; ip saddr @blocked counter drop'",
            "iptables -A INPUT -p tcp --dport 9000 -j ACCEPT",
        ),
        TCP,
        native("inet", "input", 2, "ip saddr @blocked counter"),
    ),
    Row(
        "nft inet after an accept of iptables",
        (
            "nft priority=50 rules='tcp dport 9000 reject with icmpx admin-prohibited'",
            "iptables -A INPUT -p tcp --dport 9000 -j ACCEPT",
        ),
        TCP,
        native("inet", "input", 1, "reject with icmpx admin-prohibited"),
        verdict="reject",
    ),
    Row(
        "nft verdict map",
        ("nft family=ip hook=prerouting priority=-310 rules='tcp dport vmap {{ 22 : accept, 9000 : drop }}'",),
        TCP,
        native("ip", "prerouting", 1, "9000 : drop"),
    ),
    Row(
        "nft policy",
        ("nft policy=drop rules='meta l4proto != udp accept; udp dport 53 accept'",),
        UDP,
        native("inet", "input", None, "policy drop"),
        decoy="--src {peer} --proto udp --dport 53",
    ),
    Row(
        "netdev ingress",
        ("nft family=netdev hook=ingress device=eth0 priority=-500 rules='udp dport 53 accept; udp dport 9000 drop'",),
        UDP,
        native("netdev", "ingress", 2, "udp dport 9000 drop"),
        decoy=TCP,
    ),
    Row(
        "arp",
        ("nft family=arp rules='arp saddr ip {peer} drop'",),
        "--src {peer} --proto arp",
        native("arp", "input", 1, "arp saddr ip 10.71.0.2 drop"),
        reach="sh -c 'ip neigh flush dev eth0; exec ping -c 1 -W 1 {host}'",
    ),
)

LEGACY = (
    Row(
        "legacy drop beside an accept of nft",
        (
            "iptables -A INPUT -p tcp -j ACCEPT",
            "iptables-legacy -A INPUT -p udp -j ACCEPT",
            "iptables-legacy -A INPUT -p tcp --dport 9000 -j DROP",
        ),
        TCP,
        Rule("iptables-legacy", "ip", "filter", "INPUT", 2, "-A INPUT -p tcp -m tcp --dport 9000 -j DROP"),
        decoy="--src {peer} --dport 2377",
    ),
    Row(
        "nft drop beside an accept of legacy",
        ("iptables-legacy -A INPUT -p tcp -j ACCEPT", "iptables -A INPUT -p tcp --dport 9000 -j DROP"),
        TCP,
        filter_rule("INPUT", 1, "-A INPUT -p tcp -m tcp --dport 9000 -j DROP"),
    ),
    Row(
        "legacy chain called for what leaves",
        ("reject chain=OUTPUT called=closed proto=udp backend=iptables-legacy with=icmp-host-prohibited",),
        OUT,
        Rule(
            *("iptables-legacy", "ip", "filter", "closed", 1, "-A closed -p udp -j REJECT"),
            call_site="filter OUTPUT rule 1: -A OUTPUT -j closed",
        ),
        verdict="reject",
        reach="self",
    ),
    Row(
        "legacy policy",
        ("policy chain=INPUT policy=DROP backend=iptables-legacy",),
        UDP,
        Rule("iptables-legacy", "ip", "filter", "INPUT", None, ":INPUT DROP"),
    ),
)

IPV6 = (
    Row(
        "IPv6 INPUT",
        ("drop backend=ip6tables chain=INPUT proto=tcp dport=9000", "iptables -A INPUT -p tcp --dport 9000 -j ACCEPT"),
        "--src {peer6} --dst {host6} --dport 9000",
        Rule("iptables-nft", "ip6", "filter", "INPUT", 1, "-A INPUT -p tcp -m tcp --dport 9000 -j DROP"),
        decoy=TCP,
    ),
    Row(
        "IPv6 echo that leaves",
        ("drop backend=ip6tables chain=OUTPUT proto=ipv6-icmp extra='--icmpv6-type echo-request'",),
        "--path out --dst {peer6} --proto icmpv6",
        Rule("iptables-nft", "ip6", "filter", "OUTPUT", 1, "--icmpv6-type 128 -j DROP"),
        reach="self",
        decoy="--path out --dst {peer} --proto icmp",
    ),
)

PROGRAMS = (
    Row(
        "firewalld: nothing opens the port",
        ("firewalld",),
        TCP,
        Rule(
            *("nft-native", "inet", "firewalld", "filter_IN_public", 9, "reject with icmpx admin-prohibited"),
            owner="firewalld",
            belongs_to="public",
        ),
        verdict="reject",
        decoy="--src {peer} --dport 22",
    ),
    Row(
        "firewalld: a rich rule",
        ("firewalld ports=9000/tcp", "firewall-cmd -q --add-rich-rule={rich}"),
        TCP,
        Rule(
            *("nft-native", "inet", "firewalld", "filter_IN_public_deny", 1, "ip saddr 10.71.0.2 tcp dport 9000 drop"),
            owner="firewalld",
            belongs_to="public",
        ),
        decoy="--src 10.71.0.9 --dport 9000",
    ),
    Row(
        "ufw: a rule that denies",
        ("ufw rules='allow 7946; deny 9000/tcp; allow from {peer}'",),
        TCP,
        filter_rule(
            *("ufw-user-input", 3, "-A ufw-user-input -p tcp -m tcp --dport 9000 -j DROP"),
            owner="ufw",
            call_site="ufw-before-input rule 13",
        ),
        decoy="--src {peer} --dport 7946",
    ),
    Row(
        "ufw: its policy",
        ("ufw rules='allow 7946'",),
        UDP,
        filter_rule("INPUT", None, ":INPUT DROP", owner="ufw"),
        decoy="--src {peer} --proto udp --dport 7946",
    ),
    Row(
        "ufw: its policy rejects",
        ("ufw incoming=reject rules='allow 22'",),
        TCP,
        filter_rule("ufw-reject-input", 1, "-A ufw-reject-input -j REJECT", owner="ufw"),
        verdict="reject",
    ),
    Row(
        "fail2ban: a ban",
        ("fail2ban address={peer} jail=lab port=9000",),
        TCP,
        filter_rule(
            *("f2b-lab", 1, "-A f2b-lab -s 10.71.0.2/32 -j REJECT"),
            owner="fail2ban",
            belongs_to="lab",
            call_site="filter INPUT rule 1: -A INPUT -p tcp -m multiport --dports 9000 -j f2b-lab",
        ),
        verdict="reject",
        decoy="--src 10.71.0.9 --dport 9000",
        lifted=True,
    ),
)

ROWS = (*INPUT, *OUTPUT, *NATIVE, *LEGACY, *IPV6, *PROGRAMS)


@pytest.fixture(scope="module")
def judge(pair_lab):
    """A judge over host one with host two as its peer; both answer on the matrix's ports, by either family."""
    one, two = pair_lab.host("one"), pair_lab.host("two")
    with ExitStack() as stack:
        for number, host in enumerate((one, two), start=1):
            host.exec(["ip", "addr", "add", f"fd00:71::{number}/64", "dev", "eth0", "nodad"])
            stack.callback(end_group, stack.enter_context(answering(host)))
        sits = Judge(pair_lab, one, two)
        sits.fill = {
            "host": one.address,
            "peer": two.address,
            "host6": "fd00:71::1",
            "peer6": "fd00:71::2",
            "peer_mac": two.exec(["cat", "/sys/class/net/eth0/address"]).stdout.strip(),
            "rich": "'rule family=ipv4 source address=10.71.0.2 port port=9000 protocol=tcp drop'",
        }
        yield sits
    if sits.times_ms:
        assert statistics.median(sits.times_ms) <= MS


@pytest.fixture(autouse=True)
def _empty(judge, _healed):
    """No rules before a row, and none after it, once its faults have been undone."""
    yield
    judge.lab.heal_all()
    judge.host.exec(["nft", "flush", "ruleset"])
    for family in ("iptables", "ip6tables"):
        judge.host.exec(["sh", "-ec", f"{family}-legacy -P INPUT ACCEPT; {family}-legacy -F; {family}-legacy -X"])


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_it_is_named(row, judge, capsys):
    said = judge.naming(row)
    with capsys.disabled():
        sys.stdout.write(f"\n{said} ")


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_one_rule_heals_it_and_undo_gives_back_the_rest(row, judge):
    judge.healing(row)
