"""A save of 50,000 rules: reading it, one verdict, and the memory of both, in a process of its own."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time

RULES = 50_000
PACKETS = 300


def save(seed=1):
    """Rules as generators write them: called chains, networks, ranges, sets of ports, states, comments."""
    chance = random.Random(seed)
    lines = ["*filter", ":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]"]
    lines += [f":C{number} - [0:0]" for number in range(200)]
    rules = [f"-A INPUT -s 10.{number}.0.0/16 -j C{number}" for number in range(200)]
    while len(rules) < RULES:
        third, fourth = chance.randrange(256), chance.randrange(256)
        address = chance.choice([f"-s 10.{chance.randrange(200)}.{third}.{fourth}/32", f"-d 192.168.{third}.0/24", ""])
        low = chance.randrange(30000)
        protocol = chance.choice(
            [
                f"-p tcp -m tcp --dport {chance.randrange(65535)}",
                f"-p udp -m udp --dport {low}:{low + chance.randrange(30000)}",
                f"-p tcp -m multiport --dports {low},{low + 1}",
                "-m state --state RELATED,ESTABLISHED",
                f'-i eth{chance.randrange(9)} -m comment --comment "some words here"',
            ]
        )
        chain = "INPUT" if len(rules) % 3 == 0 else f"C{chance.randrange(200)}"
        target = chance.choice(["ACCEPT", "DROP", "RETURN", "LOG"])
        rules.append(" ".join(f"-A {chain} {address} {protocol} -j {target}".split(" ")).replace("  ", " "))
    return "\n".join(
        [*lines, *(f"[{chance.randrange(999)}:{chance.randrange(99999)}] {rule}" for rule in rules), "COMMIT", ""]
    )


def measured():
    from netdiag.firewall.explain import Explainer, read_rule_file
    from netdiag.model.explain import PacketLine

    text, chance = save(), random.Random(2)
    begun = time.perf_counter()
    explainer = Explainer(read_rule_file(text))
    loaded_s = time.perf_counter() - begun
    took = []
    for _ in range(PACKETS):
        packet = PacketLine(
            source=f"10.{chance.randrange(200)}.1.{chance.randrange(255)}",
            destination=f"192.168.{chance.randrange(255)}.4",
            proto=chance.choice(["tcp", "udp"]),
            sport=4000,
            dport=chance.randrange(65535),
            in_device="eth1",
        )
        begun = time.perf_counter()
        explainer.explain(packet)
        took.append((time.perf_counter() - begun) * 1000)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"loaded_s": loaded_s, "verdicts_ms": took, "peak_mib": peak_mib}


def run():
    """The figures, from a fresh process."""
    said = subprocess.run([sys.executable, "-m", "tests.bench.model"], check=True, capture_output=True, text=True)
    return json.loads(said.stdout)


if __name__ == "__main__":
    json.dump(measured(), sys.stdout)
