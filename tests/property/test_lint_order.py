"""No packet meets a rule of which the lint says that none does: random rule sets, and packets at their edges."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from netdiag.firewall.lint_context import Context
from netdiag.firewall.lint_order import Order
from netdiag.firewall.netfilter.packet import asked_of
from netdiag.firewall.netfilter.skb import Host
from netdiag.firewall.netfilter.traverse import Traversal
from netdiag.firewall.standing import of_files
from tests.lab.random_rules import members, network, other_matches, packet, pick, protocol_match, save

SETS = [f"create {name} {kind}" for name, kind in {"s_ip": "hash:ip", "s_net": "hash:net"}.items()]
PACKETS = 60
seen = Counter()


@st.composite
def narrowing(draw, family):
    """A chain in which rules take from each other: conditions of a few rules before, and more."""
    text = ["*mangle", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":U0 - [0:0]", ":U1 - [0:0]"]
    parts = [[]]
    for _ in range(draw(st.integers(4, 14))):
        words = list(draw(pick(parts)))
        kind = draw(st.integers(0, 3))
        others = other_matches(family)
        if kind == 0 and not any("-p" in word.split() for word in words):
            words.insert(0, draw(protocol_match(family))[0])
        elif kind == 1 and not any(" -s " in f" {word}" for word in words):
            words.append(f"{draw(pick(['', '', '! ']))}-s {draw(network(family))}")
        elif kind == 2:
            name = draw(pick(["state", "conntrack", "mark", "addrtype-dst", "iprange-src", "length", "dscp", "both"]))
            words.append(draw(others[name]).replace("N-", draw(pick(["-", "! -"]))))
        else:
            words.append(f"{draw(pick(['', '! ']))}-i {draw(pick(['d0', 'd1', 'd+', 'lo', '+']))}")
            if sum(" -i " in f" {word}" for word in words) > 1:
                words.pop()
        parts.append(words)
        chain = draw(pick(["INPUT", "INPUT", "FORWARD", "U0", "U1"]))
        jumps = {"INPUT": ["U0", "U1"], "FORWARD": ["U0", "U1"], "U0": ["U1"]}.get(chain, [])
        target = draw(
            pick(
                [
                    *("-j ACCEPT", "-j DROP", "-j RETURN", "-j MARK --set-mark 0x1", ""),
                    *(f"-{letter} {name}" for name in jumps for letter in "jjg"),
                ]
            )
        )
        text.append(f"-A {chain} {' '.join(words)} {target}".strip())
    return "\n".join([*text, "COMMIT"]) + "\n"


def holds(text, number, family):
    standing = of_files([("rules", text)])
    tables = standing.texts[0].rule_sets.tables
    said = {
        (table.name, taken.chain, taken.rule.number): taken
        for table in standing.tables
        if not table.table.missing
        for taken in Order(table).taken()
    }
    seen["said"] += len(said)
    Context(standing).groups  # noqa: B018 - whatever it is, it is put together
    chosen = random.Random(number)
    host = Host(bucket="full", sets=standing.sets, bridges=frozenset())
    traversal = Traversal([each for each in tables if each.family == family], host)
    for _ in range(PACKETS if said else 0):
        asked = asked_of(packet(chosen, family))
        # Of a way that depends on what is not known, two rules that ask for the same may be told apart.
        for outcome in (each for each in traversal.outcomes(asked) if not each.way.doubts):
            for step in outcome.way.steps():
                if step.rule is not None:
                    seen["met"] += 1
                    taken = said.get((step.table, step.chain, step.rule.number))
                    assert taken is None, f"{taken}\n{text}\n{asked}"


@pytest.mark.parametrize("family", [4, 6])
def test_whatever_is_said_to_be_taken_is_met_by_no_packet(family):
    seen.clear()

    @seed(7)
    @settings(derandomize=True, max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(save(family, (), 8), members() if family == 4 else st.just([]), st.integers(0, 1 << 30))
    def wide(text, more, number):
        holds(
            text + "\n".join([*SETS, *(line for line in more if line.split()[1] in ("s_ip", "s_net"))]), number, family
        )

    @seed(7)
    @settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(narrowing(family), st.integers(0, 1 << 30))
    def narrow(text, number):
        holds(text, number, family)

    wide()
    narrow()
    # It has to be about something: rules of which it is said, and rules that packets met.
    assert seen["said"] > 50
    assert seen["met"] > 300
