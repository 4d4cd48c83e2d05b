"""``make bench``: run every measurement, print a line each, and write bench.json beside the budgets."""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from netdiag.errors import NetdiagError
from netdiag.lab import Lab, load_topology
from tests.bench import facts, model

RUNS = 5
BIN = Path(sys.executable).with_name("netdiag")


def timed(argv, *, runs=RUNS, env=None):
    """Wall seconds of a command, each run a fresh process; the first is a warm-up and does not count."""
    figures = []
    for number in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(argv, check=False, capture_output=True, env={**os.environ, **(env or {})})
        if number:
            figures.append(time.perf_counter() - start)
    return figures


def in_host(host, argv, *, runs=RUNS):
    """Wall seconds and peak memory (KiB) of a command inside a lab host."""
    code = (
        "import json,os,resource,subprocess,sys,time\n"
        "s=time.perf_counter(); p=subprocess.run(sys.argv[1:],capture_output=True); w=time.perf_counter()-s\n"
        "print(json.dumps([w, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, p.returncode]))\n"
    )
    rows = []
    for number in range(runs + 1):
        said = host.exec([sys.executable, "-c", code, *argv], timeout_s=60).stdout
        if number:
            rows.append(json.loads(said))
    return [row[0] for row in rows], [row[1] for row in rows]


def row(name, figures, budget, unit="s", peer=None):
    """One line of the result: the median is what counts, the spread says how noisy the machine was."""
    return {
        "name": name,
        "median": statistics.median(figures),
        "min": min(figures),
        "max": max(figures),
        "unit": unit,
        "budget": budget,
        "peer": peer,
    }


def traces(host, peer):
    """From a packet to the name of the rule that decides, as the answer says itself; beside an engine's own rules."""
    host.exec(["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"])
    host.exec(["iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"])
    ways = {
        "in": ["--src", peer.address],
        "out": ["--path", "out", "--dst", peer.address],
        "forward": ["--path", "forward", "--in", "eth0", "--src", peer.address, "--dst", "172.17.0.2"],
    }
    for way, words in ways.items():
        argv = ["netdiag", "firewall", "trace", *words, "--dport", "9", "--output", "json"]
        answers = [json.loads(host.exec(argv, check=False).stdout) for _ in range(20)]
        assert {answer["verdict"] for answer in answers} == {"drop"}, answers[0]
        yield row(f"trace {way}, packet to rule", [answer["elapsed_ms"] for answer in answers], 5.0, "ms")


GREETED = """
import time
from netdiag.carrier.ssh import connect
start = time.perf_counter()
with connect("manager"):
    print(time.perf_counter() - start)
"""


def by_ssh(lab):
    """From nothing to a participant that greets, over a real sshd; the time of the log-in alone beside it."""
    sshd = lab.break_("sshd", host="manager")
    worker = lab.host("worker")
    yield row(
        "ssh to a greeting", [float(worker.exec([sys.executable, "-c", GREETED]).stdout) for _ in range(RUNS)], 1.5
    )
    yield row("  peer: ssh manager true", in_host(worker, ["ssh", "-o", "BatchMode=yes", "manager", "true"])[0], None)
    lab.heal(sshd)


def measure():
    yield row("netdiag --help, cold process", timed([BIN, "--help"]), 0.150)
    with Lab.up(load_topology("swarm2"), name=f"bench-{os.getpid()}") as lab:
        worker, manager = lab.host("worker"), lab.host("manager")
        ask = ["netdiag", "preflight", "swarm", "--manager", manager.address, "--output", "json"]
        wall, memory = in_host(worker, ask)
        yield row("preflight, all checks, one manager", wall, 1.0)
        yield row("preflight, peak memory", [one / 1024 for one in memory], 60, "MiB")
        yield from traces(worker, manager)
        docker, _ = in_host(worker, ["docker", "info"])
        yield row("  peer: docker info on the same host", docker, None)
        yield from by_ssh(lab)
        lab.break_("drop", host="manager", chain="INPUT")
        wall, _ = in_host(worker, ask)
        yield row("preflight, manager drops everything", wall, 3.0)


def measure_facts():
    routes = facts.run(facts.ROUTES)
    yield row("100,000 routes into facts, times ip -j route", [routes["ratio"]], 1.5, "x")
    yield row("  peer: ip -j route show", [routes["ip_s"]], None)
    yield row("facts of a hundred namespaces", [facts.run(facts.NAMESPACES)["took_s"]], 3.0)


def measure_model():
    found = [model.run() for _ in range(RUNS)]
    yield row("a save of 50,000 rules, read and indexed", [each["loaded_s"] for each in found], 1.5)
    yield row("  one verdict in it", [each for one in found for each in one["verdicts_ms"]], 2.0, "ms")
    yield row("  peak memory", [each["peak_mib"] for each in found], 200, "MiB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures are written")
    options = parser.parse_args()
    rows = []
    try:
        for one in itertools.chain(measure(), measure_facts(), measure_model()):
            rows.append(one)
            budget = "" if one["budget"] is None else f"  budget {one['budget']:g} {one['unit']}"
            within = "" if one["budget"] is None else ("  ok" if one["median"] <= one["budget"] else "  OVER")
            print(
                f"{one['name']:45} {one['median']:8.3f} {one['unit']:4}"
                f" ({one['min']:.3f} to {one['max']:.3f}){budget}{within}",
                flush=True,
            )
    except NetdiagError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    options.json.write_text(
        json.dumps({"python": platform.python_version(), "cores": os.cpu_count(), "rows": rows}, indent=2) + "\n"
    )
    return 1 if any(one["budget"] is not None and one["median"] > one["budget"] for one in rows) else 0


sys.exit(main())
