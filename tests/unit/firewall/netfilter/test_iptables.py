"""Saves as they are found: old spellings, carriage returns, lines that nobody understands, what no kernel loads."""

import time

import msgspec
import pytest

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.netfilter.iptables import read_iptables
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TraceVerdict

HEAD = "*filter\n:INPUT ACCEPT [1:2]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
PACKET = PacketLine(
    hook="INPUT", in_device="eth0", source="192.0.2.21", destination="192.0.2.10", proto="tcp", sport=1, dport=22
)


def ask(text, packet=PACKET):
    read = read_rule_file(text)
    return Explainer(read).explain(packet), read.problems


def test_a_rule_keeps_its_text_place_counters_and_comment():
    text = HEAD + '[7:420] -A INPUT -p tcp -m comment --comment "let \\"me\\" in" -j ACCEPT\nCOMMIT\n'
    table = read_iptables(text).tables["filter"]
    assert (table.chains["INPUT"].packets, table.chains["INPUT"].bytes) == (1, 2)
    (rule,) = table.chains["INPUT"].rules
    assert (rule.number, rule.line_number, rule.packets, rule.bytes) == (1, 5, 7, 420)
    assert rule.comment == 'let "me" in'
    assert rule.text.startswith("-A INPUT -p tcp -m comment")
    old = read_iptables(HEAD + "-A INPUT -c 7 420 -p tcp -j ACCEPT\nCOMMIT\n").tables["filter"].chains["INPUT"].rules[0]
    assert (old.packets, old.bytes) == (7, 420)


def test_carriage_returns():
    found, problems = ask((HEAD + "-A INPUT -p tcp -m tcp --dport 22 -j DROP\nCOMMIT\n").replace("\n", "\r\n"))
    assert not problems
    assert found.rule.text == "-A INPUT -p tcp -m tcp --dport 22 -j DROP"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-A INPUT -s fe80::1 -j DROP", "no IPv4 address"),
        ("-A INPUT -p icmp --dport 22 -j DROP", "no option here"),
        ("-A INPUT -m tcp --dport 22 -j DROP", "without its protocol"),
        ("-A INPUT -p tcp --dport 90:80 -j DROP", "ends before"),
        ("-A INPUT -p tcp --dport 65536 -j DROP", "more than 65535"),
        ("-A INPUT -m state --state OLD -j DROP", "no state"),
        ("-A INPUT -p tcp --frobnicate -j DROP", "no option here"),
        ("-A INPUT -p tcp -j", "without a value"),
        ("-A INPUT -j NOWHERE", "no chain of this table"),
        ("-A INPUT -g NOWHERE", "has no chain NOWHERE"),
    ],
)
def test_one_bad_rule_is_named_and_unknown_and_fails_nothing(line, why):
    text = HEAD + f"-A INPUT -s 192.0.2.0/24 -p udp -j DROP\n{line}\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n"
    found, problems = ask(text)
    assert len(problems) == 1, problems
    assert problems[0].startswith("line 6: ")
    assert why in problems[0]
    assert found.verdict is TraceVerdict.UNKNOWN
    assert found.depends[0].rule.number == 2
    # What is decided before the rule is not touched by it.
    udp = PacketLine(
        hook="INPUT", proto="udp", source="192.0.2.21", destination="192.0.2.10", in_device="eth0", dport=1
    )
    assert ask(text, udp)[0].rule.number == 1


def test_a_line_of_no_chain_makes_its_table_unknown():
    found, problems = ask(HEAD + "-A INPUT -j DROP\n-t filter -I INPUT -j ACCEPT\nCOMMIT\n")
    assert [each.split(":")[0] for each in problems] == ["line 6"]
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "line 6" in found.reason


def test_a_text_that_is_cut_off():
    found, problems = ask(HEAD + "-A INPUT -p udp -j DROP\n-A INPUT -p tcp -m tc")
    assert any("COMMIT" in each for each in problems)
    assert found.verdict is TraceVerdict.UNKNOWN
    decided, _ = ask(HEAD + "-A INPUT -p tcp -j DROP\n")
    assert decided.rule.number == 1


def test_a_table_that_iptables_does_not_have():
    _, problems = ask("*broken\n:INPUT ACCEPT [0:0]\nCOMMIT\n" + HEAD + "COMMIT\n")
    assert problems == ("line 1: iptables has no such table: *broken",)


def test_a_loop_is_named_and_ends():
    rules = ":A - [0:0]\n:B - [0:0]\n-A INPUT -j A\n-A A -j B\n-A B -j A\nCOMMIT\n"
    found, problems = ask(HEAD + rules)
    assert [each for each in problems if "a loop" in each]
    assert found.verdict is TraceVerdict.UNKNOWN


def test_chains_that_call_each_other_twice_end_too():
    chains = [f":C{number} - [0:0]" for number in range(40)]
    rules = [f"-A C{number} -j C{number + 1}" for number in range(39) for _ in range(2)]
    begun = time.process_time()
    found, _ = ask(HEAD + "\n".join([*chains, "-A INPUT -j C0", *rules, "COMMIT", ""]))
    assert found.verdict is TraceVerdict.UNKNOWN
    assert time.process_time() - begun < 20


def test_long_lines_end():
    begun = time.process_time()
    long = "-A INPUT " + "x" * 10_000_000
    quoted = '-A INPUT -m comment --comment "' + "y" * 10_000_000
    found, problems = ask(HEAD + f"-A INPUT -p udp -j DROP\n{long}\n{quoted}\n-A INPUT -p tcp -j DROP\nCOMMIT\n")
    assert [each.split(":")[0] for each in problems] == ["line 6", "line 7"]
    assert found.verdict is TraceVerdict.UNKNOWN
    assert time.process_time() - begun < 5


def test_a_base_chain_without_its_line_has_a_policy_that_is_not_known():
    found, problems = ask("*filter\n-A INPUT -p udp -j DROP\nCOMMIT\n")
    assert not problems
    assert "policy of filter INPUT is not said" in found.reason


def test_nothing_that_is_no_save():
    found, problems = ask("hello\nworld\n")
    assert "line 1" in problems[0]
    assert found.verdict is TraceVerdict.UNKNOWN


def test_rules_of_the_other_family_say_nothing():
    found, _ = ask("# Generated by ip6tables-save v1.8.9\n" + HEAD + "COMMIT\n")
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "not for IPv4" in found.reason


def test_two_families_in_one_file():
    text = f"# Generated by iptables-save v1\n{HEAD}-A INPUT -j DROP\nCOMMIT\n# Generated by ip6tables-save v1\n{HEAD}COMMIT\n"
    assert ask(text)[0].verdict is TraceVerdict.DROP
    six = PacketLine(hook="INPUT", source="2001:db8::1", proto="tcp", dport=22)
    assert ask(text, six)[0].policy.family == "ip6"


def test_a_table_that_iptables_cannot_show_is_unknown():
    found, problems = ask("# Table `filter' is incompatible, use 'nft' tool.\n*mangle\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    assert len(problems) == 1
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "incompatible" in found.reason


def test_a_table_that_is_cut_off_before_its_chains_decides_nothing():
    found, problems = ask("*filter\n")
    assert "COMMIT" in problems[0]
    assert found.verdict is TraceVerdict.UNKNOWN


def test_a_file_of_very_many_parts_ends():
    begun = time.process_time()
    found, problems = ask("*filter\n" * 20_000)
    assert found.verdict is TraceVerdict.UNKNOWN
    assert problems[-1].startswith("line 20000: ")
    assert time.process_time() - begun < 10


def test_what_a_rule_puts_into_a_set_is_not_known_to_be_outside():
    rules = "-A INPUT -j SET --add-set seen src\n-A INPUT -m set --match-set seen src -j DROP\nCOMMIT\n"
    found, problems = ask(HEAD + rules + "create seen hash:ip\n")
    assert not problems
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "seen" in found.reason


def test_lines_of_iptables_restore_are_done_in_their_order():
    text = """\
*filter
-P INPUT DROP
-N U
-A INPUT -p udp -j DROP
-A INPUT -j U
-A U -j ACCEPT
-I INPUT -p icmp -j ACCEPT
-I INPUT 3 -s 192.0.2.0/24 -j REJECT
-R INPUT 2 -p udp -j ACCEPT
-D INPUT -p icmp -j ACCEPT
COMMIT
"""
    found, problems = ask(text)
    assert not problems
    assert (found.verdict, found.rule.number) == (TraceVerdict.REJECT, 2)
    assert found.rule.text == "-I INPUT 3 -s 192.0.2.0/24 -j REJECT"
    assert ask(text.replace("-D INPUT -p icmp -j ACCEPT", "-F INPUT"))[0].policy.policy == "DROP"


def test_a_table_that_comes_again_replaces_what_was_there():
    found, problems = ask(HEAD + "-A INPUT -j DROP\nCOMMIT\n" + HEAD + "-A INPUT -j REJECT\nCOMMIT\n")
    assert found.verdict is TraceVerdict.REJECT
    assert len(problems) == 1
    assert "replaces" in problems[0]
    six = HEAD + "-A INPUT -s 2001:db8::/32 -j DROP\nCOMMIT\n"
    found, problems = ask(HEAD + "-A INPUT -s 192.0.2.0/24 -j DROP\nCOMMIT\n" + six)
    assert not problems
    assert found.verdict is TraceVerdict.DROP
    # For which family the second is nothing says: the first may be gone or not.
    found, problems = ask(HEAD + "-A INPUT -s 192.0.2.0/24 -j DROP\nCOMMIT\n" + HEAD + "-A INPUT -j ACCEPT\nCOMMIT\n")
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "for which family" in problems[0]


def test_tables_of_bridges_and_arp_are_none_of_ip_s():
    found, problems = ask("# Generated by ebtables-save v1.8.9\n*filter\n:INPUT ACCEPT\n-A INPUT -j DROP\n")
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "ebtables" in problems[0]


def test_rules_that_the_text_does_not_show_are_named():
    warning = "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n"
    head = "# Generated by iptables-nft-save v1.8.9 (nf_tables)\n"
    _, problems = ask(head + HEAD + "COMMIT\n" + warning)
    assert [each.split(":")[0] for each in problems] == ["line 7"]


def test_a_destination_that_a_rule_may_have_given_is_not_known_to_be_the_first():
    nat = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DNAT --to-destination 192.0.2.10:22\nCOMMIT\n"
    text = HEAD + "-A INPUT -m conntrack --ctstate DNAT -j DROP\nCOMMIT\n"
    assert ask(text)[0].verdict is TraceVerdict.ACCEPT
    assert ask(text + nat)[0].verdict is TraceVerdict.UNKNOWN
    assert ask(text + nat.replace(":22", ":23"))[0].verdict is TraceVerdict.ACCEPT


def test_conntrack_may_have_been_told_to_leave_it_alone_before():
    raw = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j NOTRACK\nCOMMIT\n"
    text = HEAD + "-A INPUT -m conntrack --ctstate UNTRACKED -j DROP\nCOMMIT\n" + raw
    assert ask(text)[0].verdict is TraceVerdict.DROP
    assert ask(text, msgspec.structs.replace(PACKET, state="NEW"))[0].verdict is TraceVerdict.ACCEPT
