"""Scripts that run the parts of a trace in a lab host, and how its levels are asked there."""

from __future__ import annotations

import json
from pathlib import Path

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
print(trace.table._guard.pid if trace.table else "", flush=True)
time.sleep(STAY_S)
trace.close()
"""


def python(host, script, *words):
    return host.popen(["python3", "-c", script, *words], env={"PYTHONPATH": REPOSITORY})


def said(host, script, *words):
    return host.exec(["python3", "-c", script, *words], env={"PYTHONPATH": REPOSITORY}).stdout


def tables(host):
    return host.exec(["nft", "list", "tables"]).stdout


def logger(host):
    return host.exec(["cat", LOGGER]).stdout.strip()


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


def clear(host):
    """Take away every rule."""
    host.exec(["nft", "flush", "ruleset"])
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        host.exec(["sh", "-c", f"{tool} -P INPUT ACCEPT; {tool} -F; {tool} -X"])
