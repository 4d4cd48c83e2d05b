"""Rules that would remember a packet's peer are told before it is sent, and others do not stand in the way."""

import pytest

from netdiag.firewall.trace_memory import looking_inside, remembering
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.trace import TracedPacket, TracePath


def packet(**changes):
    given = {
        "path": TracePath.IN,
        "in_device": "eth0",
        "source": "192.0.2.9",
        "destination": "192.0.2.1",
        "protocol": "tcp",
        "source_port": 40000,
        "destination_port": 9000,
    }
    return TracedPacket(**{**given, **changes})


def saved(*rules, table="filter", chains=("INPUT", "FORWARD", "OUTPUT"), backend=Backend.IPTABLES_NFT):
    names = {rule.split()[1] for rule in rules} - set(chains)
    heads = [f":{name} ACCEPT [0:0]" for name in chains] + [f":{name} - [0:0]" for name in names]
    text = "\n".join([f"*{table}", *heads, *rules, "COMMIT", ""])
    return RuleSet(backend=backend, family=4, text=text, sha256="")


def native(*rules, hook="input"):
    lines = "".join(f"\t\t{rule} # handle {number}\n" for number, rule in enumerate(rules, start=7))
    text = (
        "table inet t { # handle 1\n\tset s { # handle 2\n\t}\n\n\tchain c { # handle 3\n"
        f"\t\ttype filter hook {hook} priority filter; policy accept;\n{lines}\t}}\n}}\n"
    )
    return RuleSet(backend=Backend.NFT_NATIVE, family=0, text=text, sha256="")


@pytest.mark.parametrize("backend", [Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY])
@pytest.mark.parametrize(
    "rule",
    [
        "-A INPUT -p tcp -m tcp --dport 9000 -j SET --add-set seen src",
        "-A INPUT -j SET --del-set seen src",
        "-A INPUT -s 192.0.2.0/24 -m recent --update --seconds 60 --name bad --rsource -j DROP",
        "-A INPUT -i eth0 -p tcp -m multiport --dports 80,9000 -m recent --set --name bad",
        "-A INPUT ! -p udp -m recent --remove --name bad",
    ],
)
def test_a_rule_that_remembers(rule, backend):
    assert remembering(Rules([saved(rule, backend=backend)], "host"), packet()) == f"filter INPUT rule 1: {rule}"


@pytest.mark.parametrize(
    "rules",
    [
        ["-A INPUT -p tcp -m tcp --dport 22 -m recent --set"],
        ["-A INPUT -p udp -j SET --add-set seen src"],
        ["-A INPUT -s 198.51.100.0/24 -j SET --add-set seen src"],
        ["-A INPUT -i lo -j SET --add-set seen src"],
        ["-A INPUT -m recent --rcheck --name bad -j DROP"],
        ["-A INPUT -m set --match-set bad src -j DROP"],
        ["-A OUTPUT -j SET --add-set seen dst"],
        ["-A FORWARD -j SET --add-set seen src"],
        ["-A INPUT -p tcp -m tcp --dport 22 -j ssh", "-A ssh -m recent --set"],
        ["-A INPUT -s 192.0.2.9/32 -j ACCEPT", "-A INPUT -j SET --add-set seen src"],
    ],
)
def test_a_rule_that_the_packet_does_not_come_to(rules):
    assert remembering(Rules([saved(*rules)], "host"), packet()) == ""


def test_a_chain_that_is_called():
    rules = ["-A INPUT -p tcp -j knocks", "-A knocks -m recent --set --name k"]
    assert remembering(Rules([saved(*rules)], "host"), packet()).startswith("knocks rule 1", len("filter "))


def test_behind_another_destination_forward_remembers_too():
    forward = saved("-A FORWARD -i eth0 -o docker0 -p tcp -m tcp --dport 80 -m recent --set")
    nat = saved(
        "-A PREROUTING -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.17.0.2:80",
        table="nat",
        chains=("PREROUTING",),
    )
    assert remembering(Rules([forward], "host"), packet()) == ""
    both = joined(nat, forward)
    assert "FORWARD rule 1" in remembering(Rules([both], "host"), packet())
    assert remembering(Rules([both], "host"), packet(destination_port=9001)) == ""


def joined(one, other):
    return RuleSet(backend=one.backend, family=4, text=one.text + other.text, sha256="")


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        ("tcp dport 9000 add @s { ip saddr }", True),
        ("tcp dport { 22, 8000-9999 } update @s { ip saddr timeout 1m } drop", True),
        ("tcp dport @ports delete @s { ip saddr }", True),
        ("meta l4proto tcp ip saddr 192.0.2.0/24 add @s { ip saddr }", True),
        ("tcp dport != 9000 add @s { ip saddr }", False),
        ("udp dport 9000 add @s { ip saddr }", False),
        ("tcp dport { 22, 80 } add @s { ip saddr }", False),
        ("ip saddr 198.51.100.7 add @s { ip saddr }", False),
        ("ip protocol { icmp, udp } add @s { ip saddr }", False),
        ("ip saddr @s drop", False),
        ('accept comment "add @s {"', False),
    ],
)
def test_rules_of_nft_s_own(rule, reached):
    text = rule.replace('"add @s {"', '"x add @s { y"')
    assert bool(remembering(Rules([native(text)], "host"), packet())) == reached
    assert remembering(Rules([native(rule, hook="output")], "host"), packet()) == ""


def test_rules_that_look_into_the_payload():
    string = '-A INPUT -p tcp -m string --string "GET" --algo bm --to 65535 -j DROP'
    assert looking_inside(Rules([saved(string)], "host"), packet()) == f"filter INPUT rule 1: {string}"
    assert looking_inside(Rules([native("tcp dport 9000 @ih,0,32 0x47455420 drop")], "host"), packet())
    assert looking_inside(Rules([saved("-A INPUT -j ACCEPT")], "host"), packet()) == ""
