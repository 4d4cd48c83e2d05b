"""Random rule sets of nft's own in this network namespace, random packets, and the kernel's counters against the model.

A program of its own, run as root inside a lab host: ``python -m tests.lab.nft_differential --seconds 40``. Beside them
iptables' rules may stand (``--beside nft``, ``legacy``). The rules whose counters a packet moved must be those of the
model's path that count.
"""

import argparse
import json
import re
import sys
import time

from hypothesis import strategies as st

from netdiag.firewall.explain import Explainer, merged, read_rule_file
from netdiag.firewall.netfilter.packet import asked_of
from netdiag.firewall.save_text import nft_family
from tests.lab import model_differential as kernel
from tests.lab.random_nft import ruleset
from tests.lab.random_rules import save

GUARD = ("inet", "guard")
MOST_TRIES = 60


def listing():
    """nft's rules without the guard's, and by place the packets of each rule that counts."""
    whole = json.loads(kernel.run("nft", "-j", "list", "ruleset").stdout)
    rows, counts = [], {}
    for row in whole["nftables"]:
        ((kind, inner),) = row.items()
        table = inner.get("name") if kind == "table" else inner.get("table")
        if (inner.get("family"), table) == GUARD:
            continue
        rows.append(row)
        if kind == "rule":
            for each in inner["expr"]:
                if isinstance(each, dict) and isinstance(each.get("counter"), dict):
                    counts[inner["family"], inner["table"], inner["chain"], inner["handle"]] = each["counter"][
                        "packets"
                    ]
    return json.dumps({"nftables": rows}), counts


class Differ(kernel.Differ):
    """The comparison with nft's own rules, and iptables' beside them."""

    def __init__(self, tool, family, world):
        super().__init__(tool or "nft", family, world)
        self.beside = tool

    def load_native(self, text):
        run = kernel.run
        for _ in range(MOST_TRIES):
            self.drop_native()
            said = run("nft", "-f", "-", text=text)
            if not said.returncode:
                return True
            found = {int(number) for number in re.findall(r"^/dev/stdin:(\d+):", said.stderr, re.MULTILINE)}
            rows = text.split("\n")
            bad = {number for number in found if number <= len(rows) and rows[number - 1].startswith("add rule")}
            if not bad:
                self.reasons["refused: " + " ".join(said.stderr.split())[:200]] += 1
                break
            self.counts["refused rules"] += len(bad)
            self.reasons.update("refused: " + rows[each - 1].split(" ", 5)[-1] for each in bad)
            text = "\n".join(row for at, row in enumerate(rows, 1) if at not in bad)
        self.counts["refused"] += 1
        return False

    def drop_native(self):
        tables = kernel.run("nft", "list", "tables").stdout.split("\n")
        mine = [line for line in tables if re.fullmatch(r"table \S+ t\d", line)]
        if mine:
            kernel.run("nft", "-f", "-", text="".join(f"delete {line}\n" for line in mine))

    def compare_native(self, text, beside, packets):
        start = time.monotonic()
        if not self.failure and start > self.until_s:
            return
        if self.failure and start - self.failed_s > kernel.SHRINK_S:
            raise KeyboardInterrupt
        loaded = self.load_native(text) and (not self.beside or self.load(beside, []))
        self.counts["ms loading"] += round((time.monotonic() - start) * 1000)
        if not loaded:
            return
        self.counts["rule sets"] += 1
        self.texts_agree(packets)
        rules, before = listing()
        beside_before, saved = kernel.counters(self.tool, self.family) if self.beside else ({}, "")
        for packet in packets:
            kernel.flush_conntrack()
            self.world.send(packet)
            parts = [read_rule_file(rules), *([read_rule_file(saved)] if saved else [])]
            read = merged(parts)
            if read.problems:
                self.fail(f"{text}\n{read.problems}")
            explainer = Explainer(read, self.world.host)
            now, after = listing()
            met = {place for place, count in after.items() if count != before.get(place)}
            iptables = set()
            if self.beside:
                beside_after, _ = kernel.counters(self.tool, self.family)
                iptables = {
                    place for place, rule in beside_after.items() if rule.packets != beside_before[place].packets
                }
                beside_before = beside_after
            self.judge_native(explainer, packet, met, iptables, after, rules, text + (saved if self.beside else ""))
            rules, before = now, after
        for fd in self.world.fds:
            kernel.drain(fd)

    def texts_agree(self, packets):
        """What is read of nft's text is what is read of its JSON."""
        rows = json.loads(listing()[0])["nftables"]
        mine = [
            row
            for row in rows
            for inner in row.values()
            if re.fullmatch(r"t\d", inner.get("table", inner.get("name", "")))
        ]
        said = json.dumps({"nftables": mine})
        listed = kernel.run("nft", "-a", "list", "ruleset").stdout
        begins = re.split(r"(?m)^(?=table )", listed)
        listed = "".join(part for part in begins if re.match(r"table \S+ t\d ", part))
        of_json, of_text = (Explainer(read_rule_file(each), self.world.host) for each in (said, listed))
        for packet in packets:
            one, other = of_json.explain(packet), of_text.explain(packet)
            seen = [
                (
                    found.verdict,
                    found.possible,
                    [(step.verdict, step.rule.place(), step.rule.handle) for step in found.path],
                )
                for found in (one, other)
            ]
            if seen[0] != seen[1]:
                self.fail(f"{listed}\n{packet}\nof JSON: {seen[0]}\nof text: {seen[1]}")

    def judge_native(self, explainer, packet, met, iptables, counting, rules, text):
        self.counts["packets"] += 1
        asked = asked_of(packet)
        found = explainer.explain(packet)
        outcomes = explainer.traversal(asked.skb.family, packet.bucket).outcomes(asked)
        mine, others = set(), set()
        for step in found.path:
            rule = step.rule
            if rule.policy is not None:
                continue
            if rule.backend.value == "nft-native":
                place = (rule.family, rule.table, rule.chain, rule.handle)
                if place in counting:
                    mine.add(place)
            else:
                others.add((rule.table, rule.chain, rule.number))
        theirs = {
            place
            for place in met
            if (nft_family(self.family), place[1]) == place[:2] and not re.fullmatch(r"t\d", place[1])
        }
        met = met - theirs
        one = outcomes[0].way
        whole = len(outcomes) == 1 and not one.parted and one.skb.destination == asked.skb.destination
        unknown = found.verdict.value == "unknown"
        if unknown and "the kernel forwards it not" in found.reason:
            self.counts["dropped by no rule"] += 1  # a frame for all that NAT sends on
        else:
            self.counts[found.verdict.value] += 1
        if unknown:
            self.reasons["unknown: " + found.reason[:90]] += 1
        same = (mine, others) == (met, iptables) if whole and not unknown else mine <= met and others <= iptables
        if not same:
            self.counts["wrong"] += 1
            shown = sorted((mine - met) | (others - iptables)), sorted((met - mine) | (iptables - others))
            self.fail(
                f"\n{text}\n{packet}\nmodel: {found.verdict.value} {found.reason} {sorted(mine)} {sorted(others)}\n"
                f"only model: {shown[0]}\nonly kernel: {shown[1]}\n{kernel.run('nft', '-a', 'list', 'ruleset').stdout}"
            )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--beside", choices=["nft", "legacy"], default="")
    parser.add_argument("--family", type=int, choices=[4, 6], default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument(
        "--seed", type=int, default=0, help="the first; a seed is always the same rule sets and packets"
    )
    parser.add_argument("--seeds", type=int, help="how many, whatever time they take")
    parser.add_argument("--rules", type=int, default=4, help="most rules of a chain")
    parser.add_argument("--sets", type=int, default=6, help="rule sets of a seed")
    parser.add_argument("--packets", type=int, default=25)
    options = parser.parse_args()
    family = options.family
    fds = kernel.prepare()
    differ = Differ(options.beside, family, kernel.World(family, fds))
    missing = kernel.unavailable(family, options.beside) if options.beside else []
    beside = save(family, [*missing, *SETS_OF_IPTABLES], 2) if options.beside else st.just("")
    seeds = kernel.compare_seeds(options, differ, [ruleset(family, options.rules), beside], differ.compare_native)
    differ.drop_native()
    kernel.clean(differ.tool, family)
    sys.stdout.write(
        json.dumps(
            {
                "counts": differ.counts,
                "reasons": dict(differ.reasons.most_common(30)),
                "seeds": seeds,
                "failure": differ.failure,
            },
            indent=2,
        )
    )
    return 1 if differ.failure else 0


SETS_OF_IPTABLES = tuple(f"set {name}" for name in (*kernel.SETS, "s_list"))

if __name__ == "__main__":
    sys.exit(main())
