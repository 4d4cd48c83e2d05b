"""What each program makes of a fix, in the text that the host would list."""

import pytest

from netdiag.firewall.changed_rules import change, with_rule
from netdiag.firewall.flow import Flow
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.fix import Command, Fix

NFT, LEGACY, NATIVE, IPSET = Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY, Backend.NFT_NATIVE, Backend.IPSET
FLOW = Flow(family=4, protocol="tcp", source="192.0.2.21", destination_port=2377)
BESIDE = FirewallRule(backend=NFT, family="ip", table="filter", chain="INPUT", number=1, text="-A INPUT -j DROP")
SAVE = "*nat\n:INPUT ACCEPT [0:0]\n[0:0] -A INPUT -j RETURN\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n:ufw-user-input - [0:0]\n:f2b-ssh - [0:0]\n{}COMMIT\n"
LISTING = """\
table inet firewalld { # handle 1
\tchain filter_IN_public { # handle 2
\t\tjump filter_IN_public_pre # handle 5
\t\tjump filter_IN_public_allow # handle 6
\t}

\tchain filter_IN_public_pre { # handle 3
\t}

\tchain filter_IN_public_allow { # handle 4
\t\ttcp dport 22 accept # handle 7
\t}
}
table inet f2b-table { # handle 2
\tset addr-set-ssh { # handle 1
\t\ttype ipv4_addr
\t\telements = { 192.0.2.2, 192.0.2.21 }
\t}
}
"""


def rule_set(text, backend=NFT, family=4):
    return RuleSet(backend=backend, family=family, text=text, sha256="")


def fix(*commands):
    made = tuple(Command(argv=tuple(each.split()), text=each) for each in commands)
    return Fix(host="", summary="", place="", covers="", commands=made, undo=())


def changed(rule_sets, command, flow=FLOW, beside=BESIDE):
    found = change(rule_sets, fix(command), flow, beside)
    assert found.reason == ""
    return [each.text for each in found.rule_sets]


RULES = ("[5:300] -A INPUT -p udp -j DROP\n", '-A INPUT -m comment --comment "x y" -j ACCEPT\n')


@pytest.mark.parametrize(("number", "at"), [("1 ", 0), ("2 ", 1), ("3 ", 2)])
def test_before_a_rule_of_its_own_table(number, at):
    (text,) = changed([rule_set(SAVE.format("".join(RULES)))], f"iptables -I INPUT {number}-s 192.0.2.21 -j ACCEPT")
    wanted = [*RULES]
    wanted.insert(at, "-A INPUT -s 192.0.2.21 -j ACCEPT\n")
    assert text == SAVE.format("".join(wanted))


def test_behind_the_last_and_beside_the_other_variant():
    other = rule_set(SAVE.format(""), LEGACY)
    six = rule_set(SAVE.format(""), family=6)
    texts = changed([other, six, rule_set(SAVE.format(RULES[0]))], "iptables-nft -A INPUT -j ACCEPT")
    assert texts == [SAVE.format(""), SAVE.format(""), SAVE.format(RULES[0] + "-A INPUT -j ACCEPT\n")]


def test_what_cannot_be_written():
    for command in ("iptables -I NOWHERE 1 -j ACCEPT", "iptables -I INPUT 9 -j ACCEPT", "pfctl -f x"):
        found = change([rule_set(SAVE.format(RULES[0]))], fix(command), FLOW, BESIDE)
        assert found.reason
        assert found.rule_sets == (rule_set(SAVE.format(RULES[0])),)
    assert with_rule("*filter\n:INPUT DROP\n", "filter", "INPUT", None, ["-j", "ACCEPT"]) is None


def test_inside_another_namespace_the_same():
    entered = "nsenter --net=/run/netns/x -- iptables -A INPUT -j ACCEPT"
    assert changed([rule_set(SAVE.format(""))], entered) == changed(
        [rule_set(SAVE.format(""))], "iptables -A INPUT -j ACCEPT"
    )


@pytest.mark.parametrize(
    ("command", "before"),
    [
        ("nft insert rule inet firewalld filter_IN_public handle 6 tcp dport 9 accept", "jump filter_IN_public_allow"),
        ("nft add rule inet firewalld filter_IN_public tcp dport 9 accept", "}"),
    ],
)
def test_a_rule_of_nfts(command, before):
    (text,) = changed([rule_set(LISTING, NATIVE, 0)], command)
    rows = [row.strip() for row in text.split("\n")]
    at = rows.index("tcp dport 9 accept")
    assert rows[at + 1].startswith(before)
    assert rows[:at] + rows[at + 1 :] == [row.strip() for row in LISTING.split("\n")]
    gone = fix("nft insert rule inet firewalld filter_IN_public handle 99 accept")
    assert "not as it was listed" in change([rule_set(LISTING, NATIVE, 0)], gone, FLOW, BESIDE).reason


def test_ufw_writes_into_its_own_chain():
    rules = "-A ufw-user-input -p tcp -m tcp --dport 2377 -j DROP\n"
    accept = "-A ufw-user-input -s 192.0.2.21 -p tcp --dport 2377 -j ACCEPT\n"
    tail = "from 192.0.2.21 to any port 2377 proto tcp comment netdiag-1"
    assert changed([rule_set(SAVE.format(rules))], f"ufw allow {tail}") == [SAVE.format(rules + accept)]
    assert changed([rule_set(SAVE.format(rules))], f"ufw insert 1 allow {tail}") == [SAVE.format(accept + rules)]


@pytest.mark.parametrize(("priority", "chain"), [("", "allow"), ('priority="-32768" ', "pre")])
def test_firewalld_writes_into_its_zone(priority, chain):
    command = f"firewall-cmd --zone=public --add-rich-rule={priority.strip()}"
    (text,) = changed([rule_set(LISTING, NATIVE, 0)], command)
    body = text.partition(f"\tchain filter_IN_public_{chain} {{")[2].partition("\t}")[0]
    assert "\t\tip saddr 192.0.2.21 tcp dport 2377 accept\n" in body
    assert text.count("192.0.2.21 tcp") == 1
    assert change([rule_set(SAVE.format(""))], fix(command), FLOW, BESIDE).reason == (
        "firewalld's chain for zone public is not listed"
    )


def test_fail2ban_takes_its_own_away():
    bans = "-A f2b-ssh -s 192.0.2.21/32 -j REJECT\n"
    others = "-A f2b-ssh -s 192.0.2.210/32 -j REJECT\n-A f2b-ssh -j RETURN\n"
    sets = "create f2b-ssh hash:ip\nadd f2b-ssh 192.0.2.21 timeout 60\nadd f2b-ssh 192.0.2.210\n"
    rule_sets = [rule_set(SAVE.format(bans + others)), rule_set(sets, IPSET, 0), rule_set(LISTING, NATIVE, 0)]
    unban = "fail2ban-client set ssh unbanip 192.0.2.21"
    found = change(rule_sets, fix(unban), FLOW, BESIDE)
    first, second, third = (each.text for each in found.rule_sets)
    assert first == SAVE.format(others)
    assert second == "create f2b-ssh hash:ip\nadd f2b-ssh 192.0.2.210\n"
    assert "elements = { 192.0.2.2 }" in third
    # The jail stops all of the peer's.
    assert (found.meant.protocol, found.meant.source, found.meant.destination_port) == ("", "192.0.2.21", None)
    assert "is not known" in change([rule_set(SAVE.format(others))], fix(unban), FLOW, BESIDE).reason


def test_before_a_rule_with_a_block():
    """nft writes its handle behind the block."""
    block = "\t\ttcp dport 9 jump {\n\t\t\tip saddr 192.0.2.0/24 drop # handle 8\n\t\t} # handle 5\n"
    listing = f"table inet g {{ # handle 1\n\tchain i {{ # handle 2\n{block}\t}}\n}}\n"
    (text,) = changed([rule_set(listing, NATIVE, 0)], "nft insert rule inet g i handle 5 accept")
    assert text == listing.replace(block, f"\t\taccept\n{block}")
