"""What a proof says of flows that change, of those that are not known, and of those that the rule is not for."""

import msgspec
import pytest

from netdiag.firewall.flow import Flow
from netdiag.firewall.proof import Asked, held_to, is_meant, of_explanation, of_trace, prove
from netdiag.model.explain import Explanation
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.level import Level
from netdiag.model.proof import Fate, ProofLevel
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Trace, TracedPacket, TracePath, TraceStep, TraceVerdict

PACKET = TracedPacket(
    path=TracePath.IN, source="192.0.2.21", destination="192.0.2.10", protocol="tcp", destination_port=2377
)
FLOW = Flow(family=4, protocol="tcp", source="192.0.2.21", destination_port=2377)
ACCEPT, DROP, UNKNOWN = TraceVerdict.ACCEPT, TraceVerdict.DROP, TraceVerdict.UNKNOWN
RULE = FirewallRule(
    backend=Backend.IPTABLES_NFT, family="ip", table="filter", chain="INPUT", number=3, text="-A INPUT -p tcp"
)


def asked(verdict, *, signed=True):
    return Asked(fate=Fate(verdict=verdict), signed=signed)


def proven(*flows, before=DROP, after=ACCEPT):
    return prove(ProofLevel.KERNEL, (asked(before), asked(after)), flows, FLOW)


def test_who_changes_and_who_was_meant():
    other = msgspec.structs.replace(PACKET, destination="192.0.2.11")
    stranger = msgspec.structs.replace(PACKET, source="198.51.100.1")
    found = proven(
        (other, asked(DROP), asked(ACCEPT)),
        (stranger, asked(DROP), asked(ACCEPT)),
        (stranger, asked(ACCEPT), asked(ACCEPT)),
        (stranger, asked(UNKNOWN), asked(ACCEPT)),
    )
    assert [(flow.packet, flow.meant) for flow in found.changed] == [(other, True), (stranger, False)]
    assert (found.asked, found.unknown) == (4, 1)
    assert found.objection() == "flows that the rule is not for change as well: 1 of the sample"
    assert proven((other, asked(DROP), asked(ACCEPT))).objection() == ""


def test_another_verdict_without_the_rule_is_not_the_rules():
    """What counts or remembers (limit, recent) decides otherwise by itself."""
    found = proven((PACKET, asked(DROP), asked(ACCEPT, signed=False)))
    assert (found.changed, found.unknown, found.objection()) == ((), 1, "")


@pytest.mark.parametrize(
    ("before", "after", "objection"),
    [(DROP, DROP, "not let through with the rule"), (UNKNOWN, ACCEPT, "not known"), (DROP, UNKNOWN, "not known")],
)
def test_what_speaks_against_it(before, after, objection):
    assert objection in proven(before=before, after=after).objection()


@pytest.mark.parametrize(
    ("changed", "meant"),
    [
        ({}, True),
        ({"destination": "192.0.2.99"}, True),
        ({"in_device": "eth7"}, True),
        ({"source": "192.0.2.22"}, False),
        ({"destination_port": 2378}, False),
        ({"protocol": "udp"}, False),
    ],
)
def test_whom_a_rule_is_for(changed, meant):
    assert is_meant(FLOW, msgspec.structs.replace(PACKET, **changed)) is meant


def test_whom_a_rule_for_a_published_port_is_for():
    opened = Endpoints(source="192.0.2.21", destination="192.0.2.10", destination_port=8080)
    flow = Flow(
        family=4,
        protocol="tcp",
        source="192.0.2.21",
        destination="172.17.0.2",
        destination_port=80,
        forwarded=True,
        opened_by=opened,
    )
    assert is_meant(flow, msgspec.structs.replace(PACKET, destination_port=8080))
    assert is_meant(flow, msgspec.structs.replace(PACKET, destination="172.17.0.2", destination_port=80))
    assert not is_meant(flow, msgspec.structs.replace(PACKET, destination_port=80))


def test_a_rule_that_only_counts_leaves_nothing_known():
    step = TraceStep(hook="input", rule=RULE, verdict="continue")
    trace = Trace(
        verdict=ACCEPT,
        rule=None,
        policy=None,
        confidence=Confidence.PROVEN,
        path=(step,),
        level=Level.OWNED_TRACE,
        elapsed_ms=None,
        reason="",
        packet=PACKET,
    )
    assert of_trace(trace, [RULE], "").fate.verdict is UNKNOWN
    other = msgspec.structs.replace(RULE, number=4)
    assert of_trace(trace, [other], "").fate.verdict is ACCEPT
    assert not of_trace(trace, [], "netdiag-1").signed


@pytest.mark.parametrize(("possible", "verdict"), [((DROP,), DROP), ((ACCEPT, DROP), UNKNOWN)])
def test_a_model_that_knows_the_verdict_and_not_the_rule(possible, verdict):
    found = Explanation(verdict=UNKNOWN, rule=None, possible=possible)
    assert of_explanation(found, "").fate.verdict is verdict


def test_a_copy_in_which_another_rule_decides_proves_nothing():
    before = Asked(fate=Fate(verdict=DROP, rule=RULE))
    found = prove(ProofLevel.KERNEL, (before, asked(ACCEPT)), (), FLOW)
    assert held_to(found, RULE) == found
    assert found.known()
    other = held_to(found, msgspec.structs.replace(RULE, number=4))
    assert (
        other.objection()
        == "in the copy filter INPUT rule 3 decides, and not filter INPUT rule 4: it is not like the host"
    )
    assert not other.known()
    accepted = held_to(proven(before=ACCEPT), RULE)
    assert "no rule decides (accept)" in accepted.reason
    assert held_to(proven(before=UNKNOWN), RULE).reason == ""


def test_blocks_have_other_numbers_in_a_copy():
    here = msgspec.structs.replace(RULE, backend=Backend.NFT_NATIVE, chain="__chain25", text="ip saddr 192.0.2.21 drop")
    there = msgspec.structs.replace(here, chain="__chain27")
    found = prove(ProofLevel.KERNEL, (Asked(fate=Fate(verdict=DROP, rule=there)), asked(ACCEPT)), (), FLOW)
    assert held_to(found, here).reason == ""
    assert held_to(found, msgspec.structs.replace(here, text="drop")).reason
