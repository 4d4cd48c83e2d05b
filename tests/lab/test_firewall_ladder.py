"""The levels below an owned trace: tables that are swept, legacy chains, counters, facts; and nothing left of any."""

import random
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
