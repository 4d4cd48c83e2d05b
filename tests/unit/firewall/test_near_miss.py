"""Rules that were meant to accept a packet, and the part that keeps each of them from it."""

import pytest

from netdiag.firewall.flow import flow_of_trace
from netdiag.firewall.near_miss import near_misses
from netdiag.firewall.reasons import reasons_of
from netdiag.model.facts import Backend, FirewallBoot, FirewallSaved
from netdiag.model.firewall import FirewallRule
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Trace, TracedPacket, TracePath, TraceStep, TraceVerdict
from tests.unit.firewall.build import OWN, PEER, nft, rule_set, save

DROP = "-A INPUT -p udp -m udp --dport 4789 -j DROP"
MEANT = "-A INPUT -p udp -m udp --dport 4789 -j ACCEPT"


def rule(text=DROP, number=1, **more):
    base = {"backend": Backend.IPTABLES_NFT, "family": "ip", "table": "filter", "chain": "INPUT"}
    return FirewallRule(text=text, number=number, **{**base, **more})


def traced(decided=None, *, path=(), packet=None):
    decided = decided or rule()
    steps = (*path, TraceStep(hook="input", rule=decided, verdict="drop"))
    return Trace(
        verdict=TraceVerdict.DROP,
        rule=decided if decided.policy is None else None,
        policy=decided if decided.policy is not None else None,
        confidence=Confidence.PROVEN,
        path=steps,
        level=Level.OWNED_TRACE,
        elapsed_ms=1.0,
        reason="",
        packet=packet
        or TracedPacket(
            path=TracePath.IN, in_device="eth0", source=PEER, destination=OWN, protocol="udp", destination_port=4789
        ),
    )


def missed(*texts, trace=None, backend=Backend.IPTABLES_NFT, chains=("FORWARD", "site", "DOCKER-USER")):
    trace = trace or traced()
    rules = rule_set(save(*texts, chains=chains), backend)
    return near_misses(trace, flow_of_trace(trace), (rules,))


WHY = {
    "-A INPUT -p tcp -m tcp --dport 4789 -j ACCEPT": "it asks for protocol tcp, and the packet has udp",
    "-A INPUT -s 192.0.2.99/32 -p udp --dport 4789 -j ACCEPT": f"asks for source 192.0.2.99, and the packet has {PEER}",
    "-A INPUT ! -s 192.0.2.0/24 -p udp --dport 4789 -j ACCEPT": "it asks for not source 192.0.2.0/24",
    "-A INPUT -i eth1 -p udp --dport 4789 -j ACCEPT": "it asks for device in eth1, and the packet has eth0",
    "-A INPUT -p udp -m multiport --dports 2377,4789,7946 -m state --state ESTABLISHED -j ACCEPT": "asks for state",
    "-A FORWARD -p udp --dport 4789 -j ACCEPT": "it stands at forward, and this packet is at input",
    "-A DOCKER-USER -p udp --dport 4789 -j ACCEPT": "it stands at forward, and this packet is at input",
    "-A site -p udp --dport 4000:5000 -j ACCEPT": "the packet does not come to site",
}


@pytest.mark.parametrize("text", WHY)
def test_the_part_that_does_not_match_is_told(text):
    (one,) = missed(text)
    assert WHY[text] in one.why
    assert one.text == text
    assert one.elsewhere is None


def test_one_that_stands_behind_the_drop():
    (one,) = missed(DROP, MEANT)
    assert (one.place, one.why) == ("filter INPUT rule 2 (iptables-nft)", "it stands behind the one that decides")


@pytest.mark.parametrize(
    "text",
    [
        "-A INPUT -p udp --dport 4790 -j ACCEPT",
        "-A INPUT -p udp --sport 4789 -j ACCEPT",
        "-A INPUT -p udp -j ACCEPT",
        "-A INPUT -p udp --dport 4789 -j LOG",
        "-A INPUT -p udp ! --dport 4789 -j ACCEPT",
        "-A INPUT -p udp --dport 4789 -m set --match-set peers src -j ACCEPT",
        "-A INPUT -p udp --dport 4789 -m recent --rcheck -j ACCEPT",
        "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p udp -m udp --dport 4789 -j ACCEPT",
    ],
)
def test_what_was_meant_for_something_else_or_is_not_understood(text):
    assert missed(text, chains=("DOCKER",)) == ()


def test_one_that_accepted_it_before_another_hook_dropped_it():
    step = TraceStep(hook="input", rule=rule(MEANT), verdict="accept")
    other = rule("udp dport 4789 drop", backend=Backend.NFT_NATIVE, family="inet", table="site", chain="in")
    assert missed(MEANT, trace=traced(other, path=(step,))) == ()


def test_a_table_of_nft_s_own():
    text = (
        "table inet site {\n\tchain zone {\n\t\tudp dport { 4789, 7946 } accept # handle 5\n"
        "\t\ttcp dport 4789 counter packets 3 bytes 9 accept # handle 6\n\t}\n}\n"
    )
    decided = rule("drop", backend=Backend.NFT_NATIVE, family="inet", table="site", chain="in")
    trace = traced(decided)
    one, other = near_misses(trace, flow_of_trace(trace), (nft(text),))
    assert one.why == "the packet does not come to zone, or only behind the rule that decides"
    assert (other.place, other.why) == (
        "site zone rule 2 (nft-native)",
        "it asks for protocol tcp, and the packet has udp",
    )


def test_the_other_backend_accepts_in_vain():
    (one,) = missed(MEANT, backend=Backend.IPTABLES_LEGACY)
    assert one.elsewhere is Backend.IPTABLES_LEGACY
    assert "both must accept it" in one.why


def reasons(*texts, trace=None, backend=Backend.IPTABLES_LEGACY, saved=None, **more):
    return reasons_of(trace or traced(), (rule_set(save(*texts), backend),), saved, **more)


class TestTwoBackends:
    def test_a_rule_that_accepts_at_the_same_hook_in_the_other(self):
        found = reasons(MEANT)
        assert found.split == (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)
        assert found.because == ("firewall.near-miss",)

    def test_one_that_the_trace_came_by(self):
        decided = rule(DROP, backend=Backend.IPTABLES_LEGACY)
        step = TraceStep(hook="input", rule=rule(MEANT), verdict="accept")
        found = reasons_of(traced(decided, path=(step,)), (), None)
        assert found.split == (Backend.IPTABLES_LEGACY, Backend.IPTABLES_NFT)

    @pytest.mark.parametrize(
        "text",
        [
            "-A OUTPUT -p udp --dport 4789 -j ACCEPT",
            "-A INPUT -p tcp --dport 4789 -j ACCEPT",
            "-A INPUT -p udp -j DROP",
        ],
    )
    def test_one_at_another_hook_or_for_another_packet_splits_nothing(self, text):
        assert reasons(text).split == ()

    def test_an_accepting_policy_decides_nothing(self):
        assert reasons().split == ()
        policy = rule("ACCEPT", policy="accept", number=None, backend=Backend.IPTABLES_LEGACY)
        step = TraceStep(hook="input", rule=policy, verdict="accept")
        assert reasons_of(traced(path=(step,)), (), None).split == ()


def test_a_rule_that_nobody_saved():
    boot = FirewallBoot(name="netfilter-persistent", enabled=True, evidence="")
    assert reasons(saved=FirewallSaved(boot=(boot,))).because == ("firewall.not-persistent",)
    assert reasons(saved=FirewallSaved()).because == ()
    inside = traced(rule(namespace="container:web"))
    assert reasons(trace=inside, saved=FirewallSaved(boot=(boot,))).because == ()


def test_an_answer_is_let_in_by_its_connection_and_not_by_its_port():
    opened = Endpoints(source=OWN, destination=PEER, destination_port=4789)
    assert reasons(MEANT, answers_to=opened).because == ()
