"""A long chain is asked by an index of what its rules name: the answer is that of its rules one by one."""

import random

import pytest

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.netfilter.index import SHORTEST
from netdiag.model.explain import PacketLine

RULES = 3 * SHORTEST
STATES = ["NEW", "ESTABLISHED", "NEW,ESTABLISHED", "INVALID", "RELATED,DNAT", "SNAT"]


def a_match(chance):
    number = chance.randrange(6)
    negation = chance.choice(["", "", "", "! "])
    return chance.choice(
        [
            f"{negation}-p {chance.choice(['tcp', 'udp', 'icmp'])}",
            f"{negation}-s 10.0.{number}.0/{chance.choice([24, 23, 32])}",
            f"{negation}-d 10.1.{number}.{number}",
            f"{negation}-i eth{number % 3}",
            f"-p tcp -m tcp {negation}--dport {number}",
            f"-p udp -m udp {negation}--sport {number}:{chance.choice([number + 1, 40])}",
            f"-p tcp -m multiport {negation}--dports {number},{number + 2}:{number + 30}",
            f"-p udp -m multiport {negation}--ports {number}",
            f"-m conntrack {negation}--ctstate {chance.choice(STATES)}",
        ]
    )


def save(rules):
    return "\n".join(["*filter", ":INPUT ACCEPT [0:0]", *(f"-A INPUT {rule} -j DROP" for rule in rules), "COMMIT", ""])


def a_packet(chance):
    number = chance.randrange(6)
    return PacketLine(
        hook="INPUT",
        in_device=f"eth{number % 3}",
        source=f"10.0.{number}.{chance.randrange(3)}",
        destination=f"10.1.{number}.{chance.choice([number, 9])}",
        proto=chance.choice(["tcp", "udp"]),
        sport=chance.randrange(45),
        dport=chance.randrange(45),
        state=chance.choice(["NEW", "ESTABLISHED", "INVALID", "UNTRACKED"]),
    )


def first_of(explainers, packet):
    """The number of the first rule that, asked alone, drops a packet or may; None for none."""
    said = (explainer.explain(packet).verdict.value for explainer in explainers)
    return next(((number, verdict) for number, verdict in enumerate(said, 1) if verdict != "accept"), None)


@pytest.mark.parametrize("seed", range(4))
def test_a_long_chain_says_what_its_rules_say_one_by_one(seed):
    chance = random.Random(seed)
    rules = [" ".join(a_match(chance) for _ in range(2 if number % 8 else 1)) for number in range(RULES)]
    rules = [rule for rule in rules if not rule.count("-p ") > 1 and not rule.count(" -m conntrack") > 1]
    assert len(rules) > SHORTEST
    whole = Explainer(read_rule_file(save(rules)))
    alone = [Explainer(read_rule_file(save([rule]))) for rule in rules]
    dropped = 0
    for _ in range(60):
        packet = a_packet(chance)
        found, expected = whole.explain(packet), first_of(alone, packet)
        if expected is None:
            assert found.rule is None, packet
            continue
        number, verdict = expected
        assert found.verdict.value == verdict, (packet, rules[number - 1])
        if verdict == "drop":
            assert found.rule.number == number, (packet, rules[number - 1], found.rule.text)
            dropped += 1
    assert dropped > 20
