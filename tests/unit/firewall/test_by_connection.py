"""Whether a made-up answer can stand for a real one."""

import pytest

from netdiag.firewall.by_connection import judges_connections
from tests.unit.firewall.build import nft, rule_set, save
from tests.unit.firewall.test_allow import rule, trace

STOPS = "-A OUTPUT -p tcp --sport 80 -j DROP"
STATEFUL = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((STOPS,), False),
        ((f"-A OUTPUT {STATEFUL}", STOPS), True),
        ((STOPS, "-A OUTPUT -m state --state INVALID -j DROP"), True),
        # Another chain's, as an engine always has them.
        ((f"-A FORWARD {STATEFUL}", STOPS), False),
    ],
)
@pytest.mark.parametrize("counted", [True, False])
def test_a_rule_of_the_chains_that_it_met(lines, expected, counted):
    text = save(*lines) if counted else save(*lines).replace("[0:0] ", "")
    assert judges_connections(trace(rule(STOPS)), [rule_set(text)]) is expected


def test_a_policy_behind_such_a_rule():
    text = save(f"-A OUTPUT {STATEFUL}", output_policy="DROP")
    assert judges_connections(trace(rule(":OUTPUT DROP")), [rule_set(text)])
    assert not judges_connections(trace(rule(":OUTPUT DROP")), [rule_set(save(output_policy="DROP"))])


def test_tables_of_nft_are_taken_as_one():
    text = "table inet f { chain out { type filter hook output priority 0; ct state established accept; drop; } }"
    assert judges_connections(trace(rule(STOPS)), [nft(text)])
    assert not judges_connections(trace(rule(STOPS)), [nft(text.replace("ct state established", "tcp dport 1"))])
