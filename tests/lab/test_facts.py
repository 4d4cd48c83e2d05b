"""Facts of real namespaces: their cost beside iproute2, and with a hundred namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.lab,
    pytest.mark.xdist_group("timing"),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip"),
]

ROUTES = """
import json, subprocess, time
from netdiag.host import LocalHost

def seconds(run):
    best = 99.0
    for _ in range(5):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best

def sh(*argv, **kwargs):
    subprocess.run(argv, check=True, **kwargs)

sh("ip", "link", "set", "lo", "up")
sh("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
sh("ip", "link", "set", "v0", "up")
sh("ip", "link", "set", "v1", "up")
sh("ip", "addr", "add", "192.0.2.254/24", "dev", "v0")
lines = [
    f"route add 10.{i >> 8 & 255}.{i & 255}.{(i >> 16) * 64}/26 via 192.0.2.{1 + i % 200} metric 32"
    for i in range(100000)
]
sh("ip", "-batch", "-", input="\\n".join(lines).encode())

from netdiag.facts import netlink, routes
from netdiag.facts.context import dump_request
from netdiag.model.facts import HOST, Namespace

host, request = LocalHost(), dump_request(Namespace(id=HOST, path="", inode=0), netlink.RTM_GETROUTE, routes.BODY)
rows = []

def ours():
    (answer,) = host.ask([request])
    rows[:] = routes.decode(answer.data["messages"], {}).rows

mine = seconds(ours)
theirs = seconds(lambda: sh("ip", "-j", "route", "show", stdout=subprocess.DEVNULL))
print(json.dumps({"ours_s": mine, "ip_s": theirs, "rows": len(rows)}))
"""

NAMESPACES = """
import json, subprocess, sys, time
from netdiag.host import LocalHost
from netdiag.host.collect import collect

children = [subprocess.Popen(["unshare", "-n", "sleep", "60"]) for _ in range(100)]
try:
    time.sleep(1.0)
    start = time.perf_counter()
    facts = collect(LocalHost(), now_s=time.time())
    took = time.perf_counter() - start
finally:
    for child in children:
        child.kill()
        child.wait()
print(json.dumps({"took_s": took, "namespaces": len(facts.links.value)}))
"""


def run(code: str) -> dict[str, float]:
    argv = ["unshare", "-n", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2])
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_hundred_thousand_routes_take_no_longer_than_half_as_much_again_as_ip() -> None:
    measured = run(ROUTES)
    assert measured["rows"] > 100_000
    assert measured["ours_s"] <= 1.5 * measured["ip_s"], measured


def test_a_hundred_namespaces_within_three_seconds() -> None:
    measured = run(NAMESPACES)
    assert measured["namespaces"] >= 101
    assert measured["took_s"] <= 3.0, measured
