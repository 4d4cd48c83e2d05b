"""Both variants of iptables together: who took the packet, and which legacy rule changed its addresses."""

import pytest

from netdiag.firewall.legacy_trace import LegacyEvent, follow
from netdiag.firewall.trace import Resolved
from netdiag.firewall.trace_rules import Rules
from netdiag.firewall.trace_variants import join
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Rewrite, TracePath, TraceVerdict

SAVE = """*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -j DNAT --to-destination 172.17.0.2:80
-A PREROUTING -p udp -j REDIRECT --to-ports 53
-A POSTROUTING -p tcp -j MASQUERADE
-A POSTROUTING -p udp -j SNAT --to-source 10.0.0.9
COMMIT
*filter
:INPUT ACCEPT [0:0]
-A INPUT -p tcp -j DROP
COMMIT
"""
RULES = Rules([RuleSet(backend=Backend.IPTABLES_LEGACY, family=4, text=SAVE, sha256="")], "host")


def joined(found, *places, lost=False):
    events = [
        LegacyEvent(family="ip", hook=hook, table=table, chain=chain, number=number)
        for hook, table, chain, number in places
    ]
    return join(found, follow(events, RULES, "host"), RULES, path=TracePath.IN, lost=lost)


UNKNOWN = Resolved(
    verdict=TraceVerdict.UNKNOWN, decided=None, path=(), confidence=Confidence.POSSIBLE, reason="it was lost"
)
DROP = ("input", "filter", "INPUT", 1)


def test_what_nft_does_not_explain_the_last_legacy_rule_does():
    found = joined(UNKNOWN, DROP)
    assert (found.verdict, found.decided.rule.number, found.reason) == (TraceVerdict.DROP, 1, "")


def test_lost_reports_prove_nothing():
    """Behind the last report that came there may have been another rule's."""
    found = joined(UNKNOWN, DROP, lost=True)
    assert (found.verdict, found.decided, found.confidence) == (TraceVerdict.UNKNOWN, None, Confidence.POSSIBLE)
    assert found.reason == "the kernel could not deliver all reports of legacy iptables; it was lost"


TARGET = Endpoints(source="10.0.0.2", destination="10.0.0.1", source_port=1, destination_port=80)
ALL = tuple(("prerouting", "nat", "PREROUTING", number) for number in (1, 2)) + tuple(
    ("postrouting", "nat", "POSTROUTING", number) for number in (1, 2)
)


@pytest.mark.parametrize(
    ("after", "places", "rule"),
    [
        (
            {"destination": "172.17.0.2"},
            (ALL[0], ALL[2]),
            "-A PREROUTING -p tcp -j DNAT --to-destination 172.17.0.2:80",
        ),
        ({"destination_port": 53}, (ALL[1], ALL[3]), "-A PREROUTING -p udp -j REDIRECT --to-ports 53"),
        ({"source": "10.0.0.9"}, (ALL[0], ALL[2]), "-A POSTROUTING -p tcp -j MASQUERADE"),
        ({"source": "10.0.0.9"}, (ALL[1], ALL[3]), "-A POSTROUTING -p udp -j SNAT --to-source 10.0.0.9"),
    ],
)
def test_who_changed_which_end(after, places, rule):
    ends = {name: getattr(TARGET, name) for name in TARGET.__struct_fields__}
    rewrite = Rewrite(before=TARGET, after=Endpoints(**{**ends, **after}))
    found = joined(Resolved(verdict=TraceVerdict.ACCEPT, decided=None, path=(), nat=(rewrite,)), *places)
    assert found.nat[0].rule.text == rule
