"""Random rule sets loaded into this network namespace, random packets sent, and the kernel's counters against the model.

A program of its own, run as root inside a lab host: ``python -m tests.lab.model_differential --seconds 40``; with
``--seeds`` always the same is compared. Every rule
of a save counts, so that one packet's increments are the rules that it met; they must be those of the model's path.
"""

import argparse
import contextlib
import ipaddress
import json
import random
import re
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.netfilter.packet import asked_of
from netdiag.firewall.netfilter.skb import Host
from tests.lab.kernel_world import counters, drain, empty, flush_conntrack, guard, restore, run, say, send, tap
from tests.lab.random_rules import (
    BASES,
    BROADCASTS,
    DEVICES,
    MAC,
    OURS,
    SETS,
    members,
    other_matches,
    save,
)
from tests.lab.random_rules import packet as random_packet

_UNKNOWABLE = re.compile(
    r" -m (?:limit|hashlimit|recent --(?!set)|statistic|connlimit|owner|u32|string|time|rpfilter) "
)
SHRINK_S = 20.0
"""How long a failure is made smaller."""


def prepare():
    fds = [tap(name) for name in DEVICES]
    commands = [
        "ip link set lo up",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
    ]
    for number, name in ((99, "d0"), (98, "d1")):
        commands += [
            f"sysctl -qw net.ipv4.conf.{name}.rp_filter=0 net.ipv4.conf.{name}.bc_forwarding=0",
            f"ip link set {name} addrgenmode none",
            f"ip link set {name} address 02:00:00:00:{number}:01 up",
            f"ip addr add 10.{number}.0.1/24 brd + dev {name}",
            f"ip addr add 2001:db8:{number}::1/64 nodad dev {name}",
        ]
        for network in (f"10.{number}.0.", f"2001:db8:{number}::"):
            commands += [f"ip neigh replace {network}{last} lladdr {MAC} dev {name}" for last in (2, 3, 9)]
    commands.append("ip route add 192.0.2.0/24 via 10.99.0.2 dev d0")
    for command in commands:
        said = run(*command.split())
        if said.returncode:
            say(command, said.stderr)
    guard(["d0"])
    return fds


def clean(tool, family):
    """Leave the namespace as it was: the devices go with their descriptors."""
    run("nft", "delete", "table", "inet", "guard")
    empty(tool, family)
    if tool == "nft":
        for table in BASES:
            run("nft", "delete", "table", "ip6" if family == 6 else "ip", table)
    if family == 4:
        for name in ("s_list", *SETS):
            run("ipset", "destroy", name)


def unavailable(family, tool):
    """Kinds of matches that this kernel or tool does not load."""
    missing = []
    for name, strategy in other_matches(family).items():
        text = strategy.example().replace("N-", "-")
        rules = f"*mangle\n-A PREROUTING {text} -j ACCEPT\nCOMMIT\n"
        if restore(tool, family, rules):
            missing.append(name)
    return missing


# --- the comparison --------------------------------------------------------------------------------------------------


class World:
    """The namespace as `prepare` makes it: what the model knows of it, and how a packet is sent there."""

    def __init__(self, family, fds):
        self.fds = fds
        self._family = family
        broadcasts = frozenset(int(ipaddress.ip_address(each)) for each in BROADCASTS) if family == 4 else frozenset()
        self.host = Host(
            addresses=frozenset((int(ipaddress.ip_address(each)), family) for each in OURS[family]),
            broadcasts=broadcasts,
            bridges=frozenset(),
            first_addresses={
                name: int(ipaddress.ip_address(each)) for name, each in zip(DEVICES, OURS[4], strict=False)
            },
        )

    def send(self, packet):
        send(packet, self._family, self.fds[0], "02:00:00:00:99:01")


class Differ:
    """One variant and family: rule sets loaded, packets sent, and what the kernel counted beside what the model says."""

    def __init__(self, tool, family, world):
        self.tool, self.family, self.world = tool, family, world
        self.counts = Counter()
        self.reasons = Counter()
        self.failure, self.failed_s = "", 0.0
        self.until_s = float("inf")

    def load(self, text, lines):
        # A restore leaves tables alone that it does not name.
        policies = "".join(
            f"*{table}\n{''.join(f':{base} ACCEPT [0:0]{chr(10)}' for base in bases)}COMMIT\n"
            for table, bases in BASES.items()
            if f"*{table}\n" not in text
        )
        restore(self.tool, self.family, policies)
        if self.family == 4:
            run("ipset", "restore", "-!", text="\n".join([*(f"flush {name}" for name in SETS), *lines, ""]))
        said = restore(self.tool, self.family, text)
        for _ in range(8):
            # What the kernel takes is left; which rules it refuses its answer says by line.
            refused = {int(number) for number in re.findall(r"\bline (\d+)", said)}
            if not refused:
                break
            self.counts["refused rules"] += len(refused)
            rows = text.split("\n")
            self.reasons.update("refused: " + rows[each - 1] for each in refused if "-A" in rows[each - 1])
            text = "\n".join(row for at, row in enumerate(rows, 1) if at not in refused or not row.startswith("-A"))
            said = restore(self.tool, self.family, text)
        if said:
            self.counts["refused"] += 1
            self.reasons["refused: " + " ".join(said.split())[-160:]] += 1
        return not said

    def compare(self, text, lines, packets):
        start = time.monotonic()
        if not self.failure and start > self.until_s:
            return
        if self.failure and start - self.failed_s > SHRINK_S:
            raise KeyboardInterrupt
        loaded = self.load(text, lines)
        self.counts["ms loading"] += round((time.monotonic() - start) * 1000)
        if loaded:
            self.packets(text, lines, packets)

    def packets(self, text, lines, packets):
        """Send packets past what is loaded. A failure is told with the rules."""
        before, listed = counters(self.tool, self.family)
        sets = run("ipset", "save").stdout if self.family == 4 else ""
        read = read_rule_file(listed + sets)
        if read.problems:
            self.fail(f"{text}\n{read.problems}")
        explainer = Explainer(read, self.world.host)
        for packet in packets:
            flush_conntrack()
            self.world.send(packet)
            after, _ = counters(self.tool, self.family)
            met = {place: rule for place, rule in after.items() if rule.packets != before[place].packets}
            before = after
            asked = asked_of(packet)
            found = explainer.explain(packet)
            # Which rules a packet met is known whole where it has one way, and the model knows by which device it goes on.
            outcomes = explainer.traversal(asked.skb.family, packet.bucket).outcomes(asked)
            whole = len(outcomes) == 1 and outcomes[0].way.skb.destination == asked.skb.destination
            self.judge(found, met, whole, packet, listed, lines)
        for fd in self.world.fds:
            drain(fd)

    def fail(self, what):
        if not self.failure:
            self.failed_s = time.monotonic()
            say(what)
        self.failure = min(filter(None, (self.failure, what)), key=len)
        raise AssertionError(what)

    def judge(self, found, met, whole, packet, text, lines):
        self.counts["packets"] += 1
        mine = {(step.rule.table, step.rule.chain, step.rule.number) for step in found.path if step.rule.policy is None}
        if found.verdict.value == "unknown":
            self.counts["unknown"] += 1
            self.reasons["unknown: " + found.reason[:90]] += 1
            if not mine <= set(met):
                self.fail(f"{text}\n{packet}\n{found}\n{met}")
            return
        if not found.policy and not found.rule:
            self.counts["neither"] += 1
        # A rule that may match and changes nothing is not on the model's path; it may have counted all the same.
        whole = whole and (packet.bucket is not None or not any(_UNKNOWABLE.search(rule.text) for rule in met.values()))
        if mine != set(met) if whole else not mine <= set(met):
            self.counts["wrong"] += 1
            failure = (
                f"\n{text}\n{chr(10).join(lines)}\n{packet}\nmodel: {found.verdict.value} {sorted(mine)}\n"
                f"kernel: {sorted(met)}\nonly model: {sorted(mine - set(met))} only kernel: {sorted(set(met) - mine)}"
            )
            self.fail(failure)
        self.counts[found.verdict.value] += 1


def compare_seeds(options, differ, made, compare):
    """Compare what is made of one seed after the other, as many as are asked for, or as time allows; how many they were."""
    begun, number = time.monotonic(), options.seed
    if options.seeds is None:
        differ.until_s = begun + options.seconds

    def more():
        done = number - options.seed
        return done < options.seeds if options.seeds is not None else time.monotonic() < differ.until_s

    while more() and not differ.failure:

        @seed(number)
        @settings(
            max_examples=options.sets,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(st.tuples(*made), st.integers(0, 1 << 32))
        def check(texts, chance):
            chosen = random.Random(chance)
            compare(*texts, [random_packet(chosen, options.family) for _ in range(options.packets)])

        with contextlib.suppress(AssertionError, KeyboardInterrupt, ExceptionGroup):
            check()
        number += 1
        say(number, dict(differ.counts), round(time.monotonic() - begun), "s")
        if differ.failure:
            say(differ.failure)
    return number - options.seed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", choices=["nft", "legacy"], default="nft")
    parser.add_argument("--family", type=int, choices=[4, 6], default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument(
        "--seed", type=int, default=0, help="the first; a seed is always the same rule sets and packets"
    )
    parser.add_argument("--seeds", type=int, help="how many, whatever time they take")
    parser.add_argument("--rules", type=int, default=5, help="most rules of a chain")
    parser.add_argument("--sets", type=int, default=6, help="rule sets of a seed")
    parser.add_argument("--packets", type=int, default=60)
    options = parser.parse_args()
    family = options.family
    fds = prepare()
    if family == 4:
        for name, kind in {**SETS, "s_list": "list:set"}.items():
            run("ipset", "create", "-!", name, *kind.split())
        for name in ("s_ip", "s_netport"):
            run("ipset", "add", "-!", "s_list", name)
        there = {line.split()[1] for line in run("ipset", "save").stdout.splitlines() if line.startswith("create")}
        for name in set(SETS) - there:
            del SETS[name]
    differ = Differ(options.tool, family, World(family, fds))
    missing = unavailable(family, options.tool)
    made = [save(family, missing, options.rules), members() if family == 4 else st.just([])]
    seeds = compare_seeds(options, differ, made, differ.compare)
    clean(options.tool, family)
    sys.stdout.write(
        json.dumps(
            {
                "counts": differ.counts,
                "reasons": dict(differ.reasons.most_common(12)),
                "not loadable here": missing,
                "seeds": seeds,
                "failure": differ.failure,
            },
            indent=2,
        )
    )
    return 1 if differ.failure else 0


if __name__ == "__main__":
    sys.exit(main())
