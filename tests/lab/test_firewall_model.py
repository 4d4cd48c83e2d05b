"""The model of the packet filter against the kernel: random rule sets and packets, and rules of a live host."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WILD = ROOT / "tests" / "unit" / "firewall" / "netfilter" / "wild"
FIRST_SEED = int(os.environ.get("NETDIAG_MODEL_SEED", "1"))
SEEDS = int(os.environ.get("NETDIAG_MODEL_SEEDS", "2"))
"""Of random rule sets: always the same ones, unless others are asked for."""
MOST_UNKNOWN = 0.01
NOT_FOR = {"nft": {"ferm_both.save", "hand_written_restore.save"}, "legacy": {"ferm_both.save"}}
"""A file of both families no tool loads; on the other iptables-nft-restore 1.8.9 ends with a segmentation fault."""


def held(lab, module, *words):
    """What a program of ours says, in an empty network namespace with a lab host's tools."""
    result = lab.host("one").exec(
        ["unshare", "--net", sys.executable, "-W", "ignore", "-m", module, *words],
        env={"PYTHONPATH": str(ROOT)},
        timeout_s=240,
        check=False,
    )
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(("tool", "family"), [("nft", 4), ("legacy", 4), ("nft", 6), ("legacy", 6)])
def test_random_rules_do_what_the_model_says(pair_lab, tool, family):
    words = ["--tool", tool, "--family", str(family), "--seed", str(FIRST_SEED), "--seeds", str(SEEDS)]
    found = held(pair_lab, "tests.lab.model_differential", *words)
    counts = found["counts"]
    assert not found["failure"], found["failure"]
    assert counts["packets"] >= 60 * SEEDS
    assert counts.get("unknown", 0) <= MOST_UNKNOWN * counts["packets"] + 1, found["reasons"]
    # A comparison in which nothing is dropped, or nothing passes, compares little.
    assert counts["accept"]
    assert counts["drop"]


@pytest.mark.parametrize(("beside", "family"), [("", 4), ("nft", 4), ("legacy", 6)])
def test_random_rules_of_nft_s_own_do_what_the_model_says(pair_lab, beside, family):
    words = ["--family", str(family), "--seed", str(FIRST_SEED), "--seeds", "1"]
    found = held(pair_lab, "tests.lab.nft_differential", *words, *(["--beside", beside] if beside else []))
    counts = found["counts"]
    assert not found["failure"], found["failure"]
    assert counts["packets"] >= 50
    assert counts.get("unknown", 0) <= MOST_UNKNOWN * counts["packets"] + 1, found["reasons"]
    assert counts["accept"]
    assert counts["drop"]


@pytest.mark.parametrize("tool", ["nft", "legacy"])
def test_rule_sets_of_the_wild_do_what_the_model_says(pair_lab, tool):
    files = sorted(str(file) for file in WILD.glob("*.save") if file.name not in NOT_FOR[tool])
    found = held(pair_lab, "tests.lab.hold_to_kernel", "--tool", tool, "--packets", "25", "--seed", "1", *files)
    assert not found["failed"]
    assert found["packets"] >= 25 * len(files)


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy", "ip6tables-nft"])
def test_a_rule_means_what_iptables_makes_of_it(pair_lab, tool):
    found = held(pair_lab, "tests.lab.spellings", tool)
    assert not found["differ"]
    assert found["loaded"] > 80


RULES = """\
*raw
-A PREROUTING -p udp --dport 53 -j CT --notrack
COMMIT
*mangle
-A PREROUTING -p tcp --dport 8080 -j MARK --set-mark 0x1
COMMIT
*nat
-A PREROUTING -p tcp --dport 2222 -j REDIRECT --to-ports 22
COMMIT
*filter
:GUARD - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p tcp -m mark --mark 0x1 -j REJECT --reject-with tcp-reset
-A INPUT -m conntrack --ctstate UNTRACKED -j DROP
-A INPUT -p tcp -m multiport --dports 22,80 -g GUARD
-A INPUT -p udp -m addrtype --dst-type LOCAL -m udp --dport 4000:4789 -j DROP
-A GUARD -m set --match-set friends src -j RETURN
-A GUARD -p tcp --dport 80 -j DROP
-A OUTPUT -p udp --dport 7946 -j DROP
COMMIT
"""
PACKETS = [
    ["--dport", "22"],
    ["--dport", "80"],
    ["--dport", "2222"],
    ["--dport", "8080"],
    ["--dport", "443", "--tcp-flags", "rst"],
    ["--dport", "443", "--tcp-flags", "ack"],
    ["--proto", "udp", "--dport", "53"],
    ["--proto", "udp", "--dport", "4789"],
    ["--proto", "icmp"],
    ["--proto", "icmp", "--icmp-type", "3"],
    ["--path", "out", "--proto", "udp", "--dport", "7946"],
    ["--path", "out", "--dport", "7946"],
]


@pytest.fixture(scope="module")
def ruled(pair_lab):
    host = pair_lab.host("one")
    host.exec(["ipset", "create", "friends", "hash:net"])
    host.exec(["ipset", "add", "friends", "192.0.2.0/24"])
    host.exec(["iptables-nft-restore"], stdin=RULES)
    yield host
    host.exec(["nft", "flush", "ruleset"])
    host.exec(["ipset", "destroy", "friends"])


@pytest.mark.parametrize("words", PACKETS, ids=" ".join)
def test_the_live_host_s_rules_are_explained_as_the_kernel_traces_them(ruled, pair_lab, words):
    peer = pair_lab.host("two").address
    out = "out" in words
    ends = ["--dst", peer, "--src", ruled.address] if out else ["--src", peer, "--dst", ruled.address]
    packet = [*words, *ends, "--out" if out else "--in", "eth0"]

    def ask(verb, *more):
        said = ruled.exec(["netdiag", "firewall", verb, *packet, *more, "--output", "json"], check=False)
        return json.loads(said.stdout)

    traced, computed = ask("trace"), ask("explain")
    assert computed["verdict"] == traced["verdict"], computed["reason"]
    names = ("table", "chain", "number", "text", "policy")
    for which in ("rule", "policy"):
        mine, kernel = ({name: (each[which] or {}).get(name) for name in names} for each in (computed, traced))
        assert mine == kernel


NATIVE = """\
table inet own {
    set friends {
        type ipv4_addr; flags interval
        elements = { 192.0.2.0/24 }
    }
    map ports {
        type inet_service : verdict
        elements = { 22 : jump guard, 80 : drop, 8080 : accept }
    }
    chain early {
        type filter hook prerouting priority raw; policy accept;
        udp dport 53 notrack
        tcp dport 2377 meta mark set 0x7
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iif "lo" accept
        ct state established,related accept
        ct state invalid drop
        meta mark 0x7 reject with tcp reset
        tcp dport vmap @ports
        udp dport { 4789, 7000-8000 } fib daddr type local accept
        ct state untracked counter drop
        meta l4proto { icmp, ipv6-icmp } limit rate 1000/second accept
        tcp dport 4000 jump {
            ip saddr @friends accept
        }
    }
    chain guard {
        ip saddr != @friends drop
        tcp flags & (syn | ack) == syn accept
    }
    chain output {
        type filter hook output priority filter; policy accept;
        udp dport 7946 ip daddr @friends reject
        tcp dport 7946 ct direction original accept
    }
}
table ip more {
    chain nat {
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport 2222 redirect to :22
    }
    chain late {
        type filter hook input priority 10; policy accept;
        udp dport 7001 drop
        udp dport 7002 accept
    }
}
"""
NATIVE_PACKETS = [
    ["--dport", "22"],
    ["--dport", "80"],
    ["--dport", "443"],
    ["--dport", "2222"],
    ["--dport", "2377"],
    ["--dport", "8080"],
    ["--dport", "22", "--tcp-flags", "ack"],
    ["--dport", "443", "--tcp-flags", "rst"],
    ["--proto", "udp", "--dport", "53"],
    ["--proto", "udp", "--dport", "4789"],
    ["--proto", "udp", "--dport", "7001"],
    ["--proto", "udp", "--dport", "7002"],
    ["--proto", "icmp"],
    ["--path", "out", "--proto", "udp", "--dport", "7946"],
    ["--path", "out", "--dport", "7946"],
    ["--path", "out", "--dport", "80"],
]


@pytest.fixture(scope="module")
def native(pair_lab):
    host = pair_lab.host("two")
    host.exec(["nft", "-f", "-"], stdin=NATIVE)
    yield host
    host.exec(["nft", "flush", "ruleset"])


@pytest.mark.parametrize("words", NATIVE_PACKETS, ids=" ".join)
def test_nft_s_own_rules_are_explained_as_the_kernel_traces_them(native, pair_lab, words):
    peer = pair_lab.host("one").address
    out = "out" in words
    ends = ["--dst", peer, "--src", native.address] if out else ["--src", peer, "--dst", native.address]
    packet = [*words, *ends, "--out" if out else "--in", "eth0"]

    def ask(verb, *more):
        said = native.exec(["netdiag", "firewall", verb, *packet, *more, "--output", "json"], check=False)
        return json.loads(said.stdout)

    traced, computed = ask("trace"), ask("explain", "--bucket", "full")
    assert computed["verdict"] == traced["verdict"], computed["reason"]
    names = ("family", "table", "chain", "number", "handle", "text", "policy")
    for which in ("rule", "policy"):
        mine, kernel = ({name: (each[which] or {}).get(name) for name in names} for each in (computed, traced))
        assert mine == kernel


def test_a_chain_inside_of_a_rule_is_explained_as_well(native, pair_lab):
    packet = ["--in", "eth0", "--dst", native.address, "--dport", "4000"]
    for source in ("192.0.2.7", pair_lab.host("one").address):
        said = [
            json.loads(
                native.exec(["netdiag", "firewall", verb, *packet, "--src", source, "-o", "json"], check=False).stdout
            )
            for verb in ("trace", "explain")
        ]
        # The kernel has a name for such a chain that no listing tells.
        traced, computed = ([each["verdict"], (each["rule"] or each["policy"])["text"]] for each in said)
        assert computed == traced


def test_a_bundle_and_a_saved_listing_say_the_same_as_the_host(native, pair_lab):
    native.exec(["netdiag", "collect", "-o", "/run/own.netdiag"], timeout_s=60)
    native.exec(["sh", "-c", "nft -j list ruleset > /run/own.json; nft list ruleset > /run/own.nft"])
    packet = ["--in", "eth0", "--src", pair_lab.host("one").address, "--dst", native.address, "--bucket", "full"]
    for words in (["--dport", "22"], ["--dport", "2377"], ["--proto", "udp", "--dport", "4000"]):
        asked = ["netdiag", "firewall", "explain", *packet, *words, "-o", "json"]
        files = [["--bundle", "/run/own.netdiag"], ["--rules", "/run/own.json"], ["--rules", "/run/own.nft"]]
        said = [json.loads(native.exec([*asked, *source], check=False).stdout) for source in ([], *files)]
        places = [[(step["rule"]["chain"], step["rule"]["number"]) for step in each["path"]] for each in said]
        assert places == [places[0]] * 4
        assert {each["verdict"] for each in said} == {said[0]["verdict"]}
        assert said[0]["verdict"] != "unknown"
