"""Listings that are broken, cut off or strange: a line that says so, and never a verdict that is not known."""

import json

import pytest

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.model.explain import PacketLine
from tests.unit.firewall.netfilter.nft_build import (
    ACCEPT,
    DROP,
    PACKET,
    base,
    chain,
    field,
    match,
    named,
    rule,
    text,
)


def ask(said):
    read = read_rule_file(said)
    return read.problems, Explainer(read).explain(PacketLine(**PACKET)).verdict.value


WHOLE = text(base("c"), rule("c", match(field("tcp dport"), 80), DROP))


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "{}",
        '{"nftables": 7}',
        '{"nftables": {}}',
        WHOLE[: len(WHOLE) // 2],
        WHOLE + "}",
        '{"a":' * 100_000,
        '{"nftables": [' + "[" * 100_000,
    ],
    ids=["open", "empty", "number", "object", "cut off", "more behind", "deep", "deep list"],
)
def test_what_is_no_listing_is_said_in_a_line_and_leaves_all_unknown(said):
    problems, verdict = ask(said)
    assert len(problems) == 1
    assert "nft -j list ruleset" in problems[0]
    assert "\n" not in problems[0]
    assert verdict == "unknown"


def test_an_empty_rule_set_accepts():
    assert ask(text()) == ((), "accept")


@pytest.mark.parametrize(
    "rows",
    [
        [7],
        [{"rule": {"family": "inet"}}],
        [{"rule": {"family": "inet", "table": "t", "expr": []}}],
        [{"rule": {"family": "inet", "table": "t", "chain": "nowhere", "expr": []}}],
        [{"chain": {"family": "inet", "table": "t"}}],
        [{"chain": {"family": "inet", "table": "t", "name": "d", "hook": "new", "prio": 0}}],
        [{"chain": {"family": "inet", "table": "t", "name": "d", "hook": "input", "prio": "soon"}}],
        [{"chain": {"family": "inet", "table": "t", "name": "d", "hook": "input", "prio": 0, "policy": "maybe"}}],
        [{"new": {"family": "inet", "table": "t"}}],
        [{"rule": {"family": "inet", "table": "t", "chain": "c", "expr": 7}}],
        [{"rule": {"family": "inet", "table": "t", "chain": "c", "expr": None, "handle": "x", "comment": 5}}],
    ],
    ids=str,
)
def test_an_entry_that_is_not_understood_leaves_its_table_unknown(rows):
    problems, verdict = ask(
        text(base("c"), *[]).replace('"nftables": [', '"nftables": [', 1)[:-2]
        + ", "
        + ", ".join(map(json.dumps, rows))
        + "]}"
    )
    assert problems
    assert verdict == "unknown"


ODD = [None, 7, -1, "", "@", [], [[]], {}, {"a": 1, "b": 2}, True, 1.5, "x" * 300, {"range": [2]}, {"range": [9, 1]}, {"prefix": 4}, {"prefix": {"addr": "::1", "len": 999}}, {"concat": []}, {"concat": 7}, {"set": 7}, {"set": [[1, 2, 3]]}, {"elem": {}}, {"map": 7}, {"map": {"key": 7, "data": 7}}, {"&": 7}, {"&": [1]}, {"payload": None}, {"payload": {"protocol": 7}}, {"meta": {}}, {"ct": 7}, {"fib": {"result": 7}}, {"numgen": {"mod": "x"}}, 1 << 200, {"|": [{"|": [{"|": [7]}]}]}]  # fmt: skip
KINDS = ["match", "vmap", "counter", "accept", "jump", "goto", "limit", "quota", "reject", "mangle", "dnat", "snat", "redirect", "masquerade", "set", "map", "meter", "xt", "log", "queue", "flow", "ct count", "notrack", "odd"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_a_wrong_type_breaks_anything(kind):
    for odd in ODD:
        statements = [{kind: odd}]
        if kind == "match":
            statements += [
                {"match": {"op": op, "left": field("tcp dport"), "right": odd}} for op in ("==", "<", "in", 7)
            ]
            statements += [{"match": {"op": "==", "left": odd, "right": 80}}]
        if kind == "vmap":
            statements += [{"vmap": {"key": odd, "data": {"set": [[1, ACCEPT]]}}}]
            statements += [{"vmap": {"key": field("tcp dport"), "data": odd}}]
            statements += [{"vmap": {"key": field("tcp dport"), "data": {"set": odd}}}]
            statements += [{"vmap": {"key": field("tcp dport"), "data": {"set": [[80, odd]]}}}]
        if kind in ("mangle", "dnat", "set"):
            statements += [
                {kind: {"key": odd, "value": odd, "addr": odd, "port": odd, "elem": odd, "set": odd, "stmt": odd}}
            ]
            statements += [{"mangle": {"key": {"meta": {"key": "mark"}}, "value": odd}}]
        for statement in statements:
            explained = ask(text(base("c"), rule("c", statement)))
            assert explained[1] in ("accept", "drop", "reject", "unknown")


@pytest.mark.parametrize("kind", ["set", "map"])
def test_no_set_of_a_wrong_shape_breaks_anything(kind):
    for odd in ODD:
        for row in (
            named(kind, "s", odd, [80], map=odd),
            named(kind, "s", "inet_service", odd, map="verdict"),
            named(kind, "s", "inet_service", [odd, [odd, odd]], map="mark", size=odd),
            named(kind, odd, "inet_service", [80], map="mark"),
        ):
            look = match(field("tcp dport"), "@s")
            use = {"vmap": {"key": field("tcp dport"), "data": "@s"}}
            assert ask(text(base("c"), row, rule("c", look, use)))[1] in ("accept", "drop", "unknown")


def test_a_set_that_is_not_understood_does_not_hide_what_it_does_not_decide():
    rows = [base("c"), named("set", "s", "new_type", [1])]
    problems, verdict = ask(text(*rows, rule("c", match(field("udp dport"), "@s"), DROP)))
    assert len(problems) == 1
    assert verdict == "accept"


def test_a_large_rule_set_is_read():
    elements = [f"10.{one}.{two}.{three}" for one in range(2) for two in range(256) for three in range(0, 256, 2)]
    rules = [rule("c", match(field("tcp dport"), port), DROP) for port in range(1000, 5000)]
    whole = named("set", "s", "ipv4_addr", elements)
    said = text(base("c"), chain("other"), whole, *rules, rule("c", match(field("ip saddr"), "@s"), DROP))
    explainer = Explainer(read_rule_file(said))
    assert explainer.explain(PacketLine(**{**PACKET, "source": "10.1.9.4"})).rule.number == 4001
