"""Each of nft's expressions and statements, as the kernel evaluates it."""

import msgspec
import pytest

from netdiag.firewall.netfilter.skb import Host
from netdiag.model.trace import TracePath
from tests.unit.firewall.netfilter.nft_build import (
    ACCEPT,
    DROP,
    ask,
    base,
    chain,
    ct,
    explain,
    field,
    jump,
    match,
    meta,
    named,
    rule,
    told,
)

SIX = {"source": "2001:db8::21", "destination": "2001:db8::10"}
HERE = Host(addresses=frozenset({(0xC000020A, 4), (0x20010DB8000000000000000000000010, 6)}))
HIT, MISS, OPEN = "drop", "accept", "unknown"


def prefix(address, length):
    return {"prefix": {"addr": address, "len": length}}


def both(op, left, right):
    return {op: [left, right]}


def values(*rows):
    return {"set": list(rows)}


def concat(*parts):
    return {"concat": list(parts)}


MATCHES = [
    # headers
    (match(field("ip saddr"), "192.0.2.21"), {}, HIT),
    (match(field("ip saddr"), "192.0.2.22"), {}, MISS),
    (match(field("ip saddr"), "192.0.2.22", "!="), {}, HIT),
    (match(field("ip saddr"), prefix("192.0.2.0", 24)), {}, HIT),
    (match(field("ip saddr"), prefix("192.0.2.0", 24), "!="), {}, MISS),
    (match(field("ip saddr"), {"range": ["192.0.2.20", "192.0.2.21"]}), {}, HIT),
    (match(field("ip saddr"), {"range": ["192.0.2.22", "192.0.2.29"]}), {}, MISS),
    (match(field("ip saddr"), "192.0.2.21"), {"source": None}, OPEN),
    (match(both("&", field("ip saddr"), "255.255.0.255"), "192.0.0.21"), {}, HIT),
    (match(field("ip daddr"), "192.0.2.10"), {}, HIT),
    (match(field("ip ttl"), 64), {}, HIT),
    (match(field("ip ttl"), 64, "<"), {}, MISS),
    (match(field("ip ttl"), 64, "<="), {}, HIT),
    (match(field("ip ttl"), 63, ">"), {}, HIT),
    (match(field("ip ttl"), 65, ">="), {}, MISS),
    (match(field("ip dscp"), "cs0"), {}, HIT),
    (match(field("ip length"), 60), {"length": 60}, HIT),
    (match(field("ip length"), 60), {}, OPEN),
    (match(field("ip6 length"), 60), {**SIX, "length": 100}, HIT),
    (match(field("ip protocol"), "tcp"), {}, HIT),
    (match(field("ip version"), 4), {}, HIT),
    (match(both("&", field("ip frag-off"), 8191), 0, "!="), {}, MISS),
    (match(field("ip frag-off"), 0), {}, OPEN),
    (match(field("ip id"), 7), {}, OPEN),
    (match(field("ip6 saddr"), prefix("2001:db8::", 32)), SIX, HIT),
    (match(field("ip6 nexthdr"), "tcp"), SIX, HIT),
    (match(field("ip6 hoplimit"), 255), {**SIX, "ttl": 255}, HIT),
    # A field implies its header, and what lacks that matches neither it nor its opposite.
    (match(field("ip saddr"), "192.0.2.22", "!="), SIX, MISS),
    (match(field("ip6 saddr"), "::1", "!="), {}, MISS),
    (match(field("tcp dport"), 80), {}, HIT),
    (match(field("tcp dport"), 80), {"proto": "udp"}, MISS),
    (match(field("udp dport"), 81, "!="), {}, MISS),
    (match(field("sctp dport"), 80), {"proto": "sctp"}, HIT),
    (match(field("tcp sport"), {"range": [1024, 65535]}), {}, HIT),
    (match(field("tcp dport"), 80), {"dport": None, "proto": "tcp"}, OPEN),
    (match(field("tcp window"), 80), {}, OPEN),
    (match(field("tcp window"), 80), {"proto": "udp"}, MISS),
    (match(field("th dport"), 80), {"proto": "udp"}, HIT),
    (match(field("th dport"), 80), {"proto": "icmp", "sport": None, "dport": None}, OPEN),
    (match(field("icmp type"), "echo-request"), {"proto": "icmp", "sport": None, "dport": None}, HIT),
    (match(field("icmp type"), "echo-request"), {}, MISS),
    (match(field("icmp code"), "host-unreachable"), {"proto": "icmp", "sport": None, "dport": None}, MISS),
    (match(field("icmpv6 type"), "nd-neighbor-solicit"), {**SIX, "proto": "icmpv6", "icmp_type": 135, "sport": None, "dport": None}, HIT),
    (match(field("ether saddr"), "02:00:00:00:00:01"), {"mac": "02:00:00:00:00:01"}, HIT),
    (match(field("ether saddr"), "02:00:00:00:00:01"), {}, OPEN),
    (match(field("vlan id"), 5), {}, OPEN),
    (match(field("arp operation"), "request"), {}, MISS),
    (match({"payload": {"base": "th", "offset": 16, "len": 16}}, 80), {}, OPEN),
    (match({"exthdr": {"name": "frag"}}, True), SIX, MISS),
    (match({"exthdr": {"name": "frag"}}, False), SIX, HIT),
    (match({"tcp option": {"name": "maxseg"}}, True), {}, OPEN),
    (match({"tcp option": {"name": "maxseg"}}, True), {"proto": "udp"}, MISS),
    # flags
    (match(field("tcp flags"), "syn", "in"), {}, HIT),
    (match(field("tcp flags"), ["fin", "rst"], "in"), {}, MISS),
    (match(field("tcp flags"), "syn", "!"), {}, MISS),
    (match(field("tcp flags"), ["fin", "rst"], "!"), {}, HIT),
    (match(field("tcp flags"), "syn"), {"tcp_flags": "syn,ack"}, MISS),
    (match(field("tcp flags"), "syn", "!="), {"tcp_flags": "syn,ack"}, HIT),
    (match(both("&", field("tcp flags"), ["fin", "syn", "ack"]), "syn"), {}, HIT),
    (match(both("&", field("tcp flags"), ["syn", "ack"]), ["syn", "ack"]), {"tcp_flags": "syn,ack,psh"}, HIT),
    (match(field("tcp flags"), values({"|": ["syn", "ack"]}, "syn")), {"tcp_flags": "syn,ack"}, HIT),
    # meta
    (match(meta("iifname"), "eth0"), {}, HIT),
    (match(meta("iifname"), "eth*"), {}, HIT),
    (match(meta("iifname"), "et\\*"), {}, MISS),
    (match(meta("iifname"), "eth"), {}, MISS),
    (match(meta("iifname"), "eth1", "!="), {"in_device": None}, OPEN),
    (match(meta("iif"), "eth0"), {}, HIT),
    (match(meta("iif"), 7), {}, OPEN),
    (match(meta("oifname"), "eth0", "!="), {}, HIT),  # there is none, and its name is empty
    (match(meta("iiftype"), "loopback"), {"in_device": "lo"}, HIT),
    (match(meta("iiftype"), "loopback"), {}, OPEN),
    (match(meta("l4proto"), values("tcp", "udp")), {}, HIT),
    (match(meta("nfproto"), "ipv6"), {}, MISS),
    (match(meta("nfproto"), "ipv6"), SIX, HIT),
    (match(meta("protocol"), "ip"), {}, HIT),
    (match(meta("mark"), 7), {"mark": "0x7"}, HIT),
    (match(both("&", meta("mark"), 0xF0), 0x10), {"mark": "0x1f"}, HIT),
    (match(both(">>", meta("mark"), 4), 1), {"mark": "0x1f"}, HIT),
    (match(both("^", meta("mark"), 1), 0), {"mark": "1"}, HIT),
    (match(meta("length"), {"range": [50, 70]}), {"length": 60}, HIT),
    (match(meta("skuid"), 0), {}, OPEN),
    (match(meta("cpu"), 0), {}, OPEN),
    (match(meta("pkttype"), "unicast"), {"destination": "192.0.2.10"}, HIT),
    (match(meta("pkttype"), values("broadcast", "multicast")), {"destination": "224.0.0.1"}, HIT),
    # conntrack
    (match(ct("state"), "new", "in"), {}, HIT),
    (match(ct("state"), ["established", "related"], "in"), {}, MISS),
    (match(ct("state"), values("established", "related")), {"state": "RELATED"}, HIT),
    (match(ct("state"), "established", "!="), {"state": "INVALID"}, HIT),
    (match(ct("state"), "untracked"), {"state": "UNTRACKED"}, HIT),
    (match(ct("status"), "dnat", "in"), {}, MISS),
    (match(ct("status"), "dnat", "in"), {"state": "INVALID"}, MISS),
    (match(ct("status"), "assured", "in"), {"state": "ESTABLISHED"}, OPEN),
    (match(ct("status"), "seen-reply"), {}, OPEN),
    (match(ct("direction"), "original"), {}, HIT),
    (match(ct("direction"), "reply", "!="), {"state": "INVALID"}, MISS),
    (match(ct("mark"), 0), {}, HIT),
    (match(ct("mark"), 0), {"state": "ESTABLISHED"}, OPEN),
    (match(ct("ip daddr", dir="original"), "192.0.2.10"), {}, HIT),
    (match(ct("daddr", dir="original", family="ip"), "192.0.2.10"), {}, HIT),
    (match(ct("ip6 daddr", dir="original"), "::1", "!="), {}, MISS),
    (match(ct("proto-dst", dir="original"), 80), {}, HIT),
    (match(ct("ip daddr", dir="reply"), "192.0.2.10"), {}, OPEN),
    (match(ct("helper"), "ftp"), {}, OPEN),
    # others
    (match({"rt": {"key": "nexthop", "family": "ip"}}, "192.0.2.1"), {}, OPEN),
    (match({"socket": {"key": "transparent"}}, 1), {}, OPEN),
    (match({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, False), {}, OPEN),
    (match({"numgen": {"mode": "inc", "mod": 2, "offset": 0}}, 0), {}, OPEN),
    (match({"numgen": {"mode": "inc", "mod": 2, "offset": 0}}, 2), {}, MISS),
    (match({"jhash": {"mod": 2, "expr": field("ip saddr")}}, 0), {}, OPEN),
    (match({"new": {"key": 1}}, 0), {}, OPEN),
    # sets without a name
    (match(field("tcp dport"), values(22, {"range": [79, 81]})), {}, HIT),
    (match(field("tcp dport"), values(22, {"range": [81, 90]}), "!="), {}, HIT),
    (match(field("tcp dport"), values(22)), {"proto": "udp"}, MISS),
    (match(field("tcp dport"), values(22), "!="), {"proto": "udp"}, MISS),
    (match(meta("iifname"), values("lo", "eth*")), {}, HIT),
    (match(concat(field("ip saddr"), field("tcp dport")), values(concat(prefix("192.0.2.0", 24), {"range": [80, 90]}))), {}, HIT),
    (match(concat(field("ip saddr"), field("tcp dport")), values(concat("192.0.2.21", 81))), {}, MISS),
    (match(concat(field("ip saddr"), field("tcp dport")), values(concat("192.0.2.21", 80))), {"source": None}, OPEN),
    (match(concat(field("ip saddr"), field("tcp dport")), values(concat("192.0.2.21", 81))), {"source": None}, MISS),
    (match(concat(meta("iifname"), meta("oifname")), concat("eth0", "")), {}, HIT),
    # what is asked after an element that is not understood may be in the set
    (match(field("tcp dport"), values(22, {"odd": 1})), {}, OPEN),
    (match(field("tcp dport"), values(80, {"odd": 1})), {}, HIT),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "packet", "found"), MATCHES, ids=str)
def test_a_match(condition, packet, found):
    assert ask(condition, **packet) == found


def test_the_type_of_an_address_is_what_the_host_knows():
    local = match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
    assert ask(local, host=HERE) == HIT
    assert ask(local, host=HERE, destination="192.0.2.11") == MISS
    assert ask(local, host=HERE, **SIX) == HIT
    assert ask(local, host=HERE, source="2001:db8::1", destination="2001:db8::99") == MISS
    unicast = match({"fib": {"result": "type", "flags": ["daddr"]}}, "unicast")
    # Where no route leads IPv6 says unreachable.
    assert ask(unicast, host=HERE, source="2001:db8::1", destination="2001:db8::99") == OPEN
    bound = match({"fib": {"result": "type", "flags": ["daddr", "iif"]}}, "local")
    assert ask(bound, host=HERE) == OPEN
    assert ask(bound, host=HERE, destination="192.0.2.11") == MISS
    on_it = msgspec.structs.replace(HERE, first_addresses={"eth0": 0xC000020A})
    assert ask(bound, host=on_it) == HIT
    assert ask(bound, host=on_it, in_device="eth1") == OPEN
    broadcast = match({"fib": {"result": "type", "flags": ["daddr", "iif"]}}, "broadcast")
    near = msgspec.structs.replace(HERE, broadcasts=frozenset({0xC00002FF}))
    assert ask(broadcast, host=near, destination="192.0.2.255") == OPEN
    assert ask(broadcast, host=near, destination="255.255.255.255") == HIT


def test_fields_side_by_side_that_differ_may_be_asked_as_one():
    """nft 1.0.6 loads both at once, and compares them as one: what differs in one alone matches."""
    ports = [match(field("tcp sport"), 40000, "!="), match(field("tcp dport"), 81, "!=")]
    assert ask(*ports) == OPEN
    assert ask(*ports, sport=40001) == HIT
    assert ask(*ports, dport=81) == MISS
    assert ask(*ports, proto="udp") == MISS
    # Others it asks one by one.
    assert ask(match(field("tcp dport"), 81, "!="), match(field("tcp sport"), 40000, "!=")) == MISS
    assert ask(match(field("ip ttl"), 64, "!="), match(field("tcp dport"), 81, "!=")) == MISS


def test_what_a_host_sends_has_no_device_it_came_by():
    out = {"path": TracePath.OUT, "in_device": None, "out_device": "eth0"}
    assert ask(match(meta("iifname"), "eth0", "!="), hook="output", **out) == HIT
    assert ask(match(meta("oifname"), "eth0"), hook="output", **out) == HIT
    assert ask(match(meta("skuid"), 0), hook="output", **out) == OPEN


def test_a_set_with_a_name():
    extra = [
        named("set", "nets", "ipv4_addr", [prefix("192.0.2.0", 24), {"elem": {"val": "203.0.113.7", "timeout": 60}}]),
        named("set", "pairs", ["ipv4_addr", "inet_service"], [concat("192.0.2.21", {"range": [1, 90]})]),
        named("set", "of", {"typeof": field("tcp dport")}, [80]),
        named("set", "rated", "inet_service", [{"elem": {"val": 80, "limit": {"rate": 1, "per": "second"}}}]),
        named("set", "counted", "inet_service", [{"elem": {"val": 80, "counter": {"packets": 0, "bytes": 0}}}]),
        named("set", "strange", "new_type", [80]),
    ]
    assert ask(match(field("ip saddr"), "@nets"), extra=extra) == HIT
    assert ask(match(field("ip saddr"), "@nets"), extra=extra, source="203.0.113.7") == HIT
    assert ask(match(field("ip saddr"), "@nets", "!="), extra=extra, source="203.0.113.8") == HIT
    assert ask(match(concat(field("ip saddr"), field("tcp dport")), "@pairs"), extra=extra) == HIT
    assert ask(match(field("tcp dport"), "@of"), extra=extra) == HIT
    assert ask(match(field("tcp dport"), "@rated"), extra=extra) == OPEN
    assert ask(match(field("tcp dport"), "@rated"), extra=extra, dport=81) == MISS
    assert ask(match(field("tcp dport"), "@counted"), extra=extra) == HIT
    assert ask(match(field("tcp dport"), "@strange"), extra=extra) == OPEN
    assert ask(match(field("tcp dport"), "@nowhere"), extra=extra) == OPEN


def test_a_verdict_map_jumps_drops_goes_on_or_does_not_match():
    verdicts = [[22, ACCEPT], [{"range": [80, 89]}, jump("web")], [443, {"continue": None}], [25, {"return": None}]]
    rows = [
        base("c", policy="drop"),
        chain("web"),
        named("map", "ports", "inet_service", verdicts, map="verdict"),
        rule("c", {"vmap": {"key": field("tcp dport"), "data": "@ports"}}),
        rule("c", match(field("tcp dport"), 443), ACCEPT),
        rule("web", match(field("ip saddr"), "192.0.2.21"), ACCEPT),
    ]
    assert told(explain(rows, dport=22)) == ("accept", "t c rule 1")
    assert told(explain(rows, dport=81)) == ("accept", "t web rule 1")
    assert told(explain(rows, dport=81, source="192.0.2.22")) == ("drop", "t c policy")
    assert told(explain(rows, dport=443)) == ("accept", "t c rule 2")
    assert told(explain(rows, dport=25)) == ("drop", "t c policy")
    assert told(explain(rows, dport=99)) == ("drop", "t c policy")
    unknown = explain(rows, dport=None, proto="tcp")
    assert unknown.verdict.value == "unknown"
    assert {each.value for each in unknown.possible} == {"accept", "drop"}


def test_a_catch_all_element_takes_what_no_other_does():
    data = {"set": [[22, ACCEPT], ["*", DROP]]}
    rows = [base("c"), rule("c", {"vmap": {"key": field("tcp dport"), "data": data}})]
    assert told(explain(rows, dport=22)) == ("accept", "t c rule 1")
    assert told(explain(rows, dport=23)) == ("drop", "t c rule 1")
    assert told(explain(rows, proto="udp")) == ("accept", "t c policy")


def test_a_draw_of_the_kernel_leaves_what_all_ways_agree_on():
    key = {"numgen": {"mode": "inc", "mod": 2, "offset": 0}}
    rows = [base("c"), rule("c", {"vmap": {"key": key, "data": {"set": [[0, ACCEPT], [1, DROP]]}}})]
    assert explain(rows).verdict.value == "unknown"
    rows = [base("c"), rule("c", {"vmap": {"key": key, "data": {"set": [[0, DROP], [1, DROP]]}}})]
    assert told(explain(rows)) == ("drop", "t c rule 1")


STATEMENTS = [
    ([{"counter": {"packets": 1, "bytes": 2}}], {}, HIT),
    ([{"counter": "named"}], {}, HIT),
    ([{"log": {"prefix": "drop"}}], {}, HIT),
    ([{"log": None}], {}, HIT),
    ([{"limit": {"rate": 1, "per": "second"}}], {}, OPEN),
    ([{"limit": {"rate": 1, "per": "second"}}], {"bucket": "full"}, HIT),
    ([{"limit": {"rate": 1, "per": "second"}}], {"bucket": "empty"}, MISS),
    ([{"limit": {"rate": 1, "per": "second", "inv": True}}], {"bucket": "full"}, MISS),
    ([{"limit": {"rate": 1, "per": "second", "inv": True}}], {"bucket": "empty"}, HIT),
    ([{"limit": "unlisted"}], {"bucket": "full"}, OPEN),
    ([{"quota": {"val": 1, "val_unit": "bytes"}}], {}, OPEN),
    ([{"ct count": {"val": 3, "inv": True}}], {}, OPEN),
    ([{"flow": {"op": "add", "flowtable": "@f"}}], {}, MISS),
    ([{"flow": {"op": "add", "flowtable": "@f"}}], {"state": "ESTABLISHED"}, OPEN),
    ([{"notrack": None}], {}, HIT),
    ([{"queue": {"num": 0}}], {}, OPEN),
    ([{"tproxy": {"port": 1}}], {}, OPEN),
    ([{"synproxy": {"mss": 1460}}], {}, OPEN),
    ([{"dup": {"addr": "192.0.2.9"}}], {}, HIT),
    ([{"xt": {"type": "match", "name": "string"}}], {}, OPEN),
    ([{"xt": None}], {}, OPEN),
    (["jump {\n ip saddr 192.0.2.21 drop\n}"], {}, HIT),
    (["jump {\n ip saddr 192.0.2.22 drop\n}"], {}, MISS),
    (["jump {\n ip saddr is odd\n}"], {}, OPEN),
    (["odd"], {}, OPEN),
    ([{"new": {}}], {}, OPEN),
    ([match(field("tcp dport"), 81), {"new": {}}], {}, MISS),
    ([{"mangle": {"key": meta("mark"), "value": 5}}, match(meta("mark"), 5)], {}, HIT),
    ([{"mangle": {"key": meta("mark"), "value": both("|", meta("mark"), 4)}}, match(meta("mark"), 5)], {"mark": 1}, HIT),
    ([{"mangle": {"key": meta("mark"), "value": ct("mark")}}], {"state": "INVALID"}, MISS),
    ([{"mangle": {"key": ct("mark"), "value": 3}}, match(ct("mark"), 3)], {}, HIT),
    ([{"mangle": {"key": meta("priority"), "value": 3}}], {}, HIT),
    ([{"mangle": {"key": field("ip ttl"), "value": 9}}, match(field("ip ttl"), 9)], {}, HIT),
    ([{"mangle": {"key": field("ip6 hoplimit"), "value": 9}}], {}, MISS),
    ([{"mangle": {"key": field("ip dscp"), "value": "ef"}}, match(field("ip dscp"), 46)], {}, HIT),
    ([{"mangle": {"key": field("ip daddr"), "value": "192.0.2.1"}}], {}, OPEN),
    ([{"mangle": {"key": meta("mark"), "value": {"map": {"key": field("tcp dport"), "data": {"set": [[80, 5]]}}}}}, match(meta("mark"), 5)], {}, HIT),
    ([{"mangle": {"key": meta("mark"), "value": {"map": {"key": field("tcp dport"), "data": {"set": [[81, 5]]}}}}}], {}, MISS),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "packet", "found"), STATEMENTS, ids=str)
def test_a_statement(statements, packet, found):
    assert ask(*statements, **packet) == found


def test_a_reject_is_for_packets_that_it_can_answer():
    def rejected(kind, **packet):
        reject = {"reject": {"type": kind}} if kind else {"reject": None}
        return explain([base("c"), rule("c", reject)], **packet).verdict.value

    assert rejected(None) == "reject"
    assert rejected("icmpx") == rejected("icmpx", **SIX) == "reject"
    assert (rejected("icmp"), rejected("icmp", **SIX)) == ("reject", "accept")
    assert (rejected("icmpv6"), rejected("icmpv6", **SIX)) == ("accept", "reject")
    assert (rejected("tcp reset"), rejected("tcp reset", proto="udp")) == ("reject", "accept")


def test_what_a_rule_adds_to_a_set_is_not_what_was_listed():
    add = {"set": {"op": "add", "elem": field("ip saddr"), "set": "@seen"}}
    seen = named("set", "seen", "ipv4_addr", [], size=100)
    rows = [base("c"), seen, rule("c", add), rule("c", match(field("ip saddr"), "@seen"), DROP)]
    assert explain(rows).verdict.value == "unknown"
    # What is asked before is what was listed, and adding alone decides nothing.
    rows = [base("c"), seen, rule("c", match(field("ip saddr"), "@seen"), DROP), rule("c", add, ACCEPT)]
    assert told(explain(rows)) == ("accept", "t c rule 2")
    rated = {"set": {**add["set"], "stmt": [{"limit": {"rate": 1, "per": "minute", "inv": True}}]}}
    rows = [base("c"), seen, rule("c", rated, DROP)]
    assert explain(rows).verdict.value == "unknown"
    assert told(explain(rows, bucket="full")) == ("accept", "t c policy")
    assert told(explain(rows, bucket="empty")) == ("drop", "t c rule 1")
    # A set that may be full takes nothing more, and the rule does not match.
    full = named("set", "seen", "ipv4_addr", [f"192.0.2.{last}" for last in range(60, 160)], size=100)
    assert explain([base("c"), full, rule("c", add, DROP)]).verdict.value == "unknown"


def test_the_named_limit_says_which_side_of_the_rate_matches():
    over = {"limit": {"family": "inet", "table": "t", "name": "l", "rate": 1, "per": "second", "inv": True}}
    assert ask({"limit": "l"}, extra=[over], bucket="full") == MISS
    assert ask({"limit": "l"}, extra=[over], bucket="empty") == HIT
