"""Facts of real namespaces: their cost beside iproute2, and with a hundred namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROUTES = """
import json, statistics, subprocess, time
from netdiag.host import LocalHost

def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start

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

theirs = lambda: sh("ip", "-j", "route", "show", stdout=subprocess.DEVNULL)
# In turn, so that a machine that drifts hits both; the ratio pair by pair.
pairs = [(seconds(ours), seconds(theirs)) for _ in range(7)]
print(json.dumps({
    "ours_s": min(pair[0] for pair in pairs),
    "ip_s": min(pair[1] for pair in pairs),
    "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    "rows": len(rows),
}))
"""

NAMESPACES = """
import json, os, subprocess, sys, time
from netdiag.host import LocalHost
from netdiag.host.collect import collect

own = os.readlink("/proc/self/ns/net")
children = [subprocess.Popen(["unshare", "-n", "sleep", "60"]) for _ in range(100)]
try:
    while any(os.readlink(f"/proc/{child.pid}/ns/net") == own for child in children):
        time.sleep(0.01)
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
    """Run a measurement in a network namespace of its own; what it printed."""
    argv = ["unshare", "-n", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2])
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
