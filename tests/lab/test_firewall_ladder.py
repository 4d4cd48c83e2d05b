"""The levels below an owned trace: tables that are swept, legacy chains, counters, facts; and nothing left of any."""

import contextlib
import json
import random
import subprocess
import time
from pathlib import Path

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

REPOSITORY = str(Path(__file__).parents[2])
LOGGER = "/proc/sys/net/netfilter/nf_log/2"

TABLE = """
import os, sys, time
from netdiag.participant import nftables
from netdiag.participant.deadline import Deadline
chain = nftables.Chain(nftables.NFPROTO_INET, "end", nftables.INPUT, nftables.LAST, "", ())
table = nftables.SweptTable("netdiag-0badcafe", [chain], Deadline(5))
print(table._guard.pid, flush=True)
if sys.argv[1:] == ["stay"]:
    time.sleep(60)
table.close()
"""
SWEEP = """
import json, sys
from netdiag.participant import run
answer = run({"verb": "firewall-sweep", "params": {"may_load": True, "only_say": "say" in sys.argv}})
print(json.dumps(answer["data"]))
"""
LEGACY = """
import time
from netdiag.participant import packets
from netdiag.participant.deadline import Deadline
from netdiag.participant.legacy_trace import LegacyTrace
flow = packets.flow_of({"proto": "tcp", "src": "10.71.0.2", "dst": "10.71.0.1", "dport": 2377})
print("starting", flush=True)
trace = LegacyTrace(flow, Deadline(5))
print("ready", flush=True)
time.sleep(STAY_S)
trace.close()
"""


@pytest.fixture
def host(pair_lab):
    """A host without rules; whatever a test adds is gone afterwards."""
    one = pair_lab.host("one")
    yield one
    one.exec(["nft", "flush", "ruleset"])
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        one.exec(["sh", "-c", f"{tool} -P INPUT ACCEPT; {tool} -F; {tool} -X"])


def python(host, script, *words):
    return host.popen(["python3", "-c", script, *words], env={"PYTHONPATH": REPOSITORY})


def said(host, script, *words):
    return host.exec(["python3", "-c", script, *words], env={"PYTHONPATH": REPOSITORY}).stdout


def tables(host):
    return host.exec(["nft", "list", "tables"]).stdout


def logger(host):
    return host.exec(["cat", LOGGER]).stdout.strip()


def test_a_swept_table_goes_with_its_owner(host):
    said(host, TABLE)
    assert tables(host) == ""
    with python(host, TABLE, "stay") as process:
        guard = process.stdout.readline().strip()
        assert "netdiag-0badcafe" in tables(host)
        # A terminal that closes, and who ends what he sees, does not reach the guard.
        for name in ("HUP", "INT", "TERM", "QUIT"):
            host.exec(["kill", f"-{name}", guard])
        assert "netdiag-0badcafe" in tables(host)
        end_group(process)
    until(lambda: tables(host) == "", 5, "the guard's work")
    until(lambda: host.exec(["kill", "-0", guard], check=False).returncode != 0, 5, "the guard's end")


def test_the_next_start_sweeps_what_a_killed_guard_left_and_no_living_one(host):
    with python(host, TABLE, "stay") as process:
        guard = process.stdout.readline().strip()
        assert said(host, SWEEP) == '{"removed": [], "living": ["netdiag-0badcafe"]}\n'
        host.exec(["kill", "-KILL", guard])
        assert said(host, SWEEP) == '{"removed": [], "living": ["netdiag-0badcafe"]}\n'
        end_group(process)
    # Somebody's own table, whatever it is called, is not ours.
    host.exec(["nft", "add", "table", "inet", "netdiag-mine"])
    assert "netdiag-0badcafe" in tables(host)
    expected = '{"removed": ["nft table inet netdiag-0badcafe"], "living": []}\n'
    assert said(host, SWEEP, "say") == expected
    assert "netdiag-0badcafe" in tables(host)
    assert said(host, SWEEP) == expected
    assert tables(host) == "table inet netdiag-mine\n"


def test_the_logger_is_put_back(host):
    before = logger(host)
    assert before != "nfnetlink_log"
    said(host, LEGACY.replace("STAY_S", "0"))
    assert logger(host) == before
    for _ in range(8):
        with python(host, LEGACY.replace("STAY_S", "60")) as process:
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.06))  # the moment of the kill is what is tried
            end_group(process)
        until(lambda: logger(host) == before and tables(host) == "", 5, "the guard's work")
    with python(host, LEGACY.replace("STAY_S", "60")) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["starting\n", "ready\n"]
        assert logger(host) == "nfnetlink_log"
        end_group(process)
    until(lambda: logger(host) == before and tables(host) == "", 5, "the guard's work")


def test_the_next_start_puts_the_logger_back_when_nobody_else_could(host):
    before = logger(host)
    with python(host, LEGACY.replace("STAY_S", "60")) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["starting\n", "ready\n"]
        host.exec(["pkill", "-KILL", "-f", "netfilter.send"])
        end_group(process)
    assert logger(host) == "nfnetlink_log"
    assert f"net.netfilter.nf_log.2 is {before} again" in said(host, SWEEP)
    assert logger(host) == before
    assert tables(host) == ""


def test_two_traces_of_legacy_chains_do_not_disturb_each_other(host):
    before = logger(host)
    running = [python(host, LEGACY.replace("STAY_S", "0.2")) for _ in range(3)]
    for process in running:
        out, err = process.communicate(timeout=20)
        assert out.endswith("ready\n"), err
    assert logger(host) == before


def add(host, *lines):
    for line in lines:
        host.exec(line.split())


def trace(host, *words, expect, level="owned-trace"):
    """The answer of ``netdiag firewall trace``."""
    argv = ["netdiag", "firewall", "trace", *words, "--level", level, "--output", "json"]
    result = host.exec(argv, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, 1, 3), result.stderr
    found = json.loads(result.stdout)
    assert found["verdict"] == expect, result.stdout
    assert found["level"] == level
    return found


@pytest.mark.parametrize("level", ["owned-trace", "swept-trace"])
def test_a_legacy_drop_is_named_while_nft_accepts(host, level):
    add(
        host,
        "iptables-nft -A INPUT -p tcp -j ACCEPT",
        "iptables-legacy -N f2b-sshd",
        "iptables-legacy -A INPUT -i lo -j ACCEPT",
        "iptables-legacy -A INPUT -p tcp -j f2b-sshd",
        "iptables-legacy -A f2b-sshd -j LOG",
        "iptables-legacy -A f2b-sshd -p tcp --dport 2377 -j DROP",
    )
    before = logger(host)
    found = trace(host, "--dport", "2377", expect="drop", level=level)
    rule = found["rule"]
    assert (rule["backend"], rule["family"], rule["table"]) == ("iptables-legacy", "ip", "filter")
    assert (rule["chain"], rule["number"], rule["owner"]) == ("f2b-sshd", 2, "fail2ban")
    assert rule["text"] == "-A f2b-sshd -p tcp -m tcp --dport 2377 -j DROP"
    assert rule["call_site"] == "filter INPUT rule 2: -A INPUT -p tcp -j f2b-sshd"
    assert found["confidence"] == "proven"
    assert [(step["rule"]["backend"], step["verdict"]) for step in found["path"]] == [
        ("iptables-nft", "accept"),
        ("iptables-legacy", "jump"),
        ("iptables-legacy", "continue"),
        ("iptables-legacy", "drop"),
    ]
    assert found["elapsed_ms"] <= 5.0
    # The other port passes both variants, the LOG rule too, which takes nothing.
    assert trace(host, "--dport", "80", expect="accept", level=level)["rule"]["text"] == "-A INPUT -p tcp -j ACCEPT"
    assert logger(host) == before
    assert "netdiag" not in tables(host)


def test_an_nft_drop_is_named_while_legacy_accepts(host):
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j ACCEPT", "iptables-nft -A INPUT -p tcp -j DROP")
    found = trace(host, "--dport", "2377", expect="drop")
    assert (found["rule"]["backend"], found["rule"]["number"]) == ("iptables-nft", 1)
    assert found["path"][-1]["rule"]["backend"] == "iptables-nft"


def test_a_legacy_policy_reject_and_unconditional_rule(host):
    add(host, "iptables-legacy -A INPUT -p udp -j REJECT", "iptables-legacy -P INPUT DROP")
    found = trace(host, "--dport", "80", expect="drop")
    assert found["rule"] is None
    policy = found["policy"]
    assert (policy["backend"], policy["chain"], policy["policy"]) == ("iptables-legacy", "INPUT", "DROP")
    rejected = trace(host, "--proto", "udp", "--dport", "4789", expect="reject")["rule"]
    assert (rejected["number"], rejected["text"]) == (
        1,
        "-A INPUT -p udp -j REJECT --reject-with icmp-port-unreachable",
    )
    # The kernel reports a rule without a match as the chain's policy.
    add(host, "iptables-legacy -A INPUT -j DROP")
    assert trace(host, "--dport", "80", expect="drop")["rule"]["number"] == 2


def test_a_legacy_drop_of_ipv6_and_of_what_leaves(host, pair_lab):
    add(host, "ip -6 addr add fd00:71::1/64 dev eth0 nodad", "ip6tables-legacy -A INPUT -p tcp --dport 2377 -j DROP")
    try:
        rule = trace(host, "--src", "fd00:71::2", "--dport", "2377", expect="drop")["rule"]
        assert (rule["backend"], rule["family"], rule["number"]) == ("iptables-legacy", "ip6", 1)
    finally:
        add(host, "ip -6 addr del fd00:71::1/64 dev eth0")
    add(host, "iptables-legacy -A OUTPUT -p udp --dport 4789 -j DROP")
    words = ("--path", "out", "--dst", pair_lab.host("two").address, "--proto", "udp", "--dport", "4789")
    rule = trace(host, *words, expect="drop")["rule"]
    assert (rule["backend"], rule["chain"], rule["number"]) == ("iptables-legacy", "OUTPUT", 1)


ULOGD = """
import socket, struct, time
from netdiag.participant.netlink import open_netlink, request, attribute
from netdiag.participant.deadline import Deadline
sock = open_netlink(12, "test", 1 << 16, False)
print(request(sock, 4 << 8 | 1, 5, bytes(4) + attribute(1, b"\\1"), Deadline(5), "test")["errno"], flush=True)
time.sleep(60)
"""


def test_another_program_has_the_logger(host):
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j DROP", "iptables-nft -A INPUT -p udp -j DROP")
    before = logger(host)
    with python(host, ULOGD) as process:
        try:
            assert process.stdout.readline() == "0\n"
            reason = trace(host, "--dport", "2377", expect="unknown")["reason"]
            assert "legacy iptables, whose chains do not report (ip filter" in reason
            assert "another program (ulogd?) has NFLOG group 0" in reason
            # What nft does is proven all the same.
            trace(host, "--proto", "udp", "--dport", "4789", expect="drop")
        finally:
            end_group(process)
    assert logger(host) == before


@pytest.mark.parametrize("level", ["owned-trace", "swept-trace"])
def test_nothing_is_left_after_a_kill(host, level):
    # A legacy rule that says nothing for as long as a trace may take: a queue that nobody reads.
    add(host, "iptables-legacy -A INPUT -p tcp -j DROP")
    before, hit = logger(host), 0

    def clean():
        links = host.exec(["ip", "-br", "link"]).stdout
        return "netdiag-" not in tables(host) + links and logger(host) == before

    for moment in range(8):
        process = host.popen(["netdiag", "firewall", "trace", "--dport", "2377", "--level", level])
        if moment % 2:
            until(lambda running=process: not clean() or running.poll() is not None, 10, "a trace", every_s=0.005)
            hit += not clean()
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.2, 1.0))
        end_group(process)
        until(clean, 5, "the guard's work")
    assert hit, "no kill hit a running trace"


def test_a_start_sweeps_first(host):
    add(host, "iptables-nft -A INPUT -p tcp --dport 2377 -j DROP")
    with python(host, TABLE, "stay") as process:
        host.exec(["kill", "-KILL", process.stdout.readline().strip()])
        end_group(process)
    assert "netdiag-0badcafe" in tables(host)
    trace(host, "--dport", "2377", expect="drop")
    assert "netdiag" not in tables(host)
