"""Rule sets as ``nft list ruleset`` prints them, and as files that nft reads have them."""

import random
from pathlib import Path

import pytest

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.model.explain import PacketLine
from tests.unit.firewall.netfilter.nft_build import PACKET, told

RECORDED = Path(__file__).parents[1] / "recorded" / "nft"
FILE = """#!/usr/sbin/nft -f
# what a host of ours lets in
flush ruleset

table inet filter {
    set admins { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 10.0.0.1-10.0.0.9 } }
    chain input {
        type filter hook input priority 0; policy drop;

        ct state { established, related } accept; ct state invalid drop
        iif lo accept
        ip saddr @admins tcp dport ssh accept  # for us
        tcp dport { http, 443, 8000-8100 } tcp flags & (fin|syn|rst|ack) == syn counter accept comment "web; and more"
        udp dport 53 jump dns
        tcp dport vmap { 25: drop, 587: accept }
        log prefix "drop: # " drop
    }
    chain dns {
        meta l4proto { tcp, udp } limit rate over 10/second burst 5 packets drop
        accept
    }
}
"""


def ask(text, **packet):
    read = read_rule_file(text)
    return read.problems, Explainer(read).explain(PacketLine(**{**PACKET, **packet}))


@pytest.mark.parametrize(
    ("packet", "verdict", "place"),
    [
        ({"dport": 22}, "accept", "filter input rule 4"),
        ({"dport": 22, "source": "203.0.113.1"}, "drop", "filter input rule 8"),
        ({"dport": 8080}, "accept", "filter input rule 5"),
        ({"dport": 8080, "tcp_flags": "syn,ack"}, "drop", "filter input rule 2"),
        ({"dport": 587}, "accept", "filter input rule 7"),
        ({"dport": 25}, "drop", "filter input rule 7"),
        ({"dport": 53, "proto": "udp", "bucket": "full"}, "accept", "filter dns rule 2"),
        ({"dport": 53, "proto": "udp", "bucket": "empty"}, "drop", "filter dns rule 1"),
        ({"in_device": "lo"}, "accept", "filter input rule 3"),
    ],
)
def test_a_file_of_nft_s_is_asked(packet, verdict, place):
    problems, found = ask(FILE, **packet)
    assert not problems
    assert told(found) == (verdict, place)


def test_a_rule_keeps_its_text_and_comment():
    _, found = ask(FILE, dport=8080)
    assert found.rule.text.startswith("tcp dport { http, 443, 8000-8100 } tcp flags & (fin|syn|rst|ack) == syn counter")
    assert found.rule.text.endswith('comment "web; and more"')


def chain(*rules, policy="accept"):
    body = "".join(f"\t\t{rule}\n" for rule in rules)
    return (
        f"table inet t {{\n\tchain c {{\n\t\ttype filter hook input priority filter; policy {policy};\n{body}\t}}\n}}\n"
    )


def test_a_statement_that_is_not_understood_leaves_its_rule_unknown_and_no_other():
    text = chain("tcp dport 22 drop", "tcp dport 80 shuffle it accept", "tcp dport 81 drop")
    problems, found = ask(text, dport=80)
    assert problems == ("line 5: the statement 'shuffle' is not understood",)
    assert found.verdict.value == "unknown"
    assert found.depends[0].rule.number == 2
    assert told(ask(text, dport=22)[1]) == ("drop", "t c rule 1")
    assert told(ask(text, dport=81)[1]) == ("drop", "t c rule 3")


def test_what_iptables_own_matches_say_stands_in_a_comment_and_is_not_known():
    text = chain("meta l4proto tcp # match owner counter packets 0 bytes 0 drop # handle 4", "accept # handle 5")
    assert ask(text)[1].verdict.value == "unknown"
    assert told(ask(text, proto="udp")[1]) == ("accept", "t c rule 2")


def test_a_block_is_a_chain_of_its_rule():
    text = chain("tcp dport 80 jump {", "\tip saddr 192.0.2.21 drop", "\taccept", "} # handle 7", "reject")
    _, found = ask(text)
    assert (found.verdict.value, found.rule.chain, found.rule.number) == ("drop", "__chain[7]", 1)
    assert told(ask(text, dport=81)[1]) == ("reject", "t c rule 2")
    text = chain("tcp dport 80 goto { ip saddr 192.0.2.22 accept; }", "reject", policy="drop")
    assert told(ask(text)[1]) == ("drop", "t c policy")


def test_what_a_file_defines_stands_where_it_is_named():
    head = 'define wan = "eth0"\ndefine web = { 80,\n  443 }\ndefine all = { $web, 22 }\n'
    text = head + chain("iifname != $wan accept", "tcp dport $all drop")
    assert told(ask(text)[1]) == ("drop", "t c rule 2")
    assert told(ask(text, dport=22)[1]) == ("drop", "t c rule 2")
    assert told(ask(text, dport=23)[1]) == ("accept", "t c policy")
    assert told(ask(text, in_device="eth1")[1]) == ("accept", "t c rule 1")


def test_words_that_only_files_have():
    text = chain("mark set mark or 0x4 xor 0x1", "mark and 0xf == 0x5 drop")
    assert told(ask(text)[1]) == ("drop", "t c rule 2")
    assert told(ask(text, mark="2")[1]) == ("accept", "t c policy")


def test_tables_that_are_made_anew_are_not_there_twice():
    first = chain("drop")
    again = "table inet t\ndelete table inet t\n" + chain("accept")
    assert told(ask(first + again)[1]) == ("accept", "t c rule 1")
    assert told(ask(first + "flush ruleset\n")[1]) == ("accept", None)


@pytest.mark.parametrize(
    "text",
    [
        "redefine port = 80\n" + chain("tcp dport 80 drop"),
        "define port = $other\n" + chain("tcp dport $port drop"),
        chain("tcp dport $port drop"),
        'include "/etc/other.nft"\n' + chain("accept"),
        "add table inet t\nadd rule inet t c drop\n",
        chain("drop")[:-5],
        chain("drop").replace("chain c", "chian c"),
        chain("drop").replace("hook input", "hook nowhere"),
        chain('log prefix "open'),
        chain("drop") + "}",
        "table inet t {",
        "table inet t { chain c { type filter hook input priority 0; tcp dport { 80, ",
        "table ip" * 3,
    ],
)
def test_what_is_not_understood_is_said_and_leaves_the_answer_unknown(text):
    problems, found = ask(text)
    assert problems
    assert all("\n" not in problem for problem in problems)
    assert found.verdict.value == "unknown"


def test_no_broken_text_breaks_anything():
    chosen = random.Random(7)
    whole = [path.read_text() for path in sorted(RECORDED.glob("*.txt"))] + [FILE]
    for _ in range(150):
        text = chosen.choice(whole)
        begin = chosen.randrange(len(text))
        end = begin + chosen.randrange(40)
        mark = chosen.choice(["", "{", "}", ";", '"', "\n", " : ", "@", ", ", "vmap", "\0", "/", "-", "(((((", "%"])
        problems, found = ask(text[:begin] + mark + text[end:])
        assert found.verdict.value in ("accept", "drop", "reject", "unknown")
        assert all("\n" not in problem for problem in problems)
    ask("table inet t {" + "{" * 20_000)
    ask(chain("tcp dport " + "(" * 20_000))
