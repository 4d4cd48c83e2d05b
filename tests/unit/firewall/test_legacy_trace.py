"""The way through legacy chains: rule or policy by its number, and who took the packet."""

import pytest

from netdiag.firewall.legacy_trace import LegacyEvent, Placed, follow, merge
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.trace import TraceStep, TraceVerdict

SAVE = """*filter
:INPUT DROP [7:420]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:LOG_DROP - [0:0]
:ufw-user-input - [0:0]
[0:0] -A INPUT -i lo -j ACCEPT
[3:180] -A INPUT -p tcp -j ufw-user-input
[0:0] -A INPUT -p icmp -j ACCEPT
[5:300] -A ufw-user-input -p tcp -g LOG_DROP
[5:300] -A LOG_DROP -j LOG
[5:300] -A LOG_DROP -p tcp -j REJECT
[5:300] -A LOG_DROP -j DROP
COMMIT
"""
RULES = (RuleSet(backend=Backend.IPTABLES_LEGACY, family=4, text=SAVE, sha256=""),)


def followed(*places, rules=RULES):
    events = [
        LegacyEvent(family="ip", hook="input", table=table, chain=chain, number=number)
        for table, chain, number in places
    ]
    return follow(events, Rules(rules, "host"), "host")


def test_a_reject_through_calls():
    found = followed(
        ("filter", "INPUT", 2), ("filter", "ufw-user-input", 1), ("filter", "LOG_DROP", 1), ("filter", "LOG_DROP", 2)
    )
    assert found.taken is TraceVerdict.REJECT
    assert [step.verdict for _, step, _ in found.steps] == ["jump", "goto", "continue", "drop"]
    last = found.steps[-1].step
    assert (last.rule.number, last.rule.text, last.packets) == (2, "-A LOG_DROP -p tcp -j REJECT", 5)
    assert last.rule.backend is Backend.IPTABLES_LEGACY
    assert last.rule.call_site == "filter ufw-user-input rule 1: -A ufw-user-input -p tcp -g LOG_DROP"
    assert [rule.chain for rule in found.steps[-1].callers] == ["ufw-user-input", "INPUT"]
    assert found.steps[-1].callers[0].owner is Owner.UFW


def test_the_kernels_policy_of_an_unconditional_rule_is_that_rule():
    """It says return:3 of `-A LOG_DROP -j DROP`, as of a chain's end."""
    found = followed(("filter", "INPUT", 2), ("filter", "LOG_DROP", 3))
    assert found.taken is TraceVerdict.DROP
    assert found.steps[-1].step.rule.number == 3


def test_a_policy():
    found = followed(("filter", "INPUT", 4))
    priority, step, _ = found.steps[-1]
    assert (priority, step.rule.number, step.rule.policy, step.rule.text) == (0, None, "DROP", ":INPUT DROP")
    assert (step.packets, found.taken) == (7, TraceVerdict.DROP)


@pytest.mark.parametrize(
    "place", [("filter", "INPUT", 1), ("filter", "LOG_DROP", 1), ("filter", "LOG_DROP", 4), ("filter", "INPUT", 2)]
)
def test_what_passes_on_took_nothing(place):
    assert followed(place).taken is None


def test_a_rule_that_takes_nothing_after_one_that_did_not_either():
    assert followed(("filter", "LOG_DROP", 2), ("filter", "INPUT", 3)).taken is None


@pytest.mark.parametrize("place", [("filter", "INPUT", 5), ("filter", "gone", 1), ("raw", "PREROUTING", 1)])
def test_rules_that_changed_meanwhile(place):
    found = followed(("filter", "INPUT", 2), place)
    assert found.taken is None
    assert "changed meanwhile" in found.reason


def test_a_rule_that_gives_the_packet_away():
    rules = (
        RuleSet(
            backend=Backend.IPTABLES_LEGACY,
            family=4,
            text="*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j NFQUEUE\nCOMMIT\n",
            sha256="",
        ),
    )
    found = followed(("raw", "PREROUTING", 1), rules=rules)
    assert found.taken is None
    assert "gave it to somebody else: -A PREROUTING -j NFQUEUE" in found.reason


def nft(hook, chain, verdict="accept"):
    rule = FirewallRule(backend=Backend.NFT_NATIVE, family="ip", table="t", chain=chain, text="")
    return TraceStep(hook=hook, rule=rule, verdict=verdict)


def test_order_of_both_variants():
    legacy = followed(("raw", "PREROUTING", 1), ("filter", "INPUT", 2)).steps
    raw = Placed(-300, TraceStep(hook="prerouting", rule=legacy[0].step.rule, verdict="accept"), ())
    priorities = {"early": -400, "late": -100, "in": 0, "after": 10}
    steps = [
        nft("prerouting", "early"),
        nft("prerouting", "called"),
        nft("prerouting", "late"),
        nft("input", "in"),
        nft("input", "after"),
    ]

    def order(*, nft_took_it):
        merged = merge(
            [(step, ()) for step in steps],
            [raw, *legacy],
            lambda rule: priorities.get(rule.chain),
            nft_took_it=nft_took_it,
        )
        return [step.rule.chain if step is not raw.step else "raw" for step, _ in merged]

    assert order(nft_took_it=False) == ["early", "called", "raw", "late", "in", "INPUT", "after"]
    assert order(nft_took_it=True) == ["early", "called", "raw", "late", "INPUT", "in", "after"]
