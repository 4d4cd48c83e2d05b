from netdiag.firewall.counters import stopping_rules_that_moved
from netdiag.model.facts import Backend
from tests.unit.firewall.build import rule_set

TEXT = """\
*filter
:INPUT DROP [{policy}:0]
:OUTPUT ACCEPT [{accepted}:0]
[{accept}:0] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
[{drop}:0] -A INPUT -p udp -m udp --dport 4789 -j DROP
[{log}:0] -A INPUT -j LOG
[{reject}:0] -A OUTPUT -p tcp -m tcp --dport 2377 -j REJECT --reject-with tcp-reset
COMMIT
"""
STILL = {"policy": 1, "accepted": 1, "accept": 1, "drop": 1, "log": 1, "reject": 1}


def moved(backend=Backend.IPTABLES_NFT, text=TEXT, **later):
    before, after = rule_set(text.format(**STILL), backend), rule_set(text.format(**{**STILL, **later}), backend)
    return [(rule.place(), packets) for rule, packets in stopping_rules_that_moved([before], [after])]


def test_a_stop_that_moved_is_told_with_by_how_much():
    assert moved(drop=6) == [("filter INPUT rule 2", 5)]
    assert moved(reject=3) == [("filter OUTPUT rule 1", 2)]
    assert moved(policy=6) == [("filter INPUT policy", 5)]


def test_what_passes_is_not_told():
    assert moved(accept=9, log=9, accepted=9) == []


def test_nothing_moved_or_was_reset():
    assert moved() == []
    assert moved(drop=0) == []


def test_the_rule_is_named_as_a_reading_names_it():
    ((one, _),) = stopping_rules_that_moved(
        [rule_set(TEXT.format(**STILL))], [rule_set(TEXT.format(**{**STILL, "drop": 6}))]
    )
    assert (one.family, one.table, one.chain, one.number) == ("ip", "filter", "INPUT", 2)
    assert one.text == "-A INPUT -p udp -m udp --dport 4789 -j DROP"


def test_rules_that_changed_in_between_say_nothing():
    before = rule_set(TEXT.format(**STILL))
    after = rule_set(TEXT.format(**{**STILL, "drop": 6}).replace("4789", "4790"))
    assert list(stopping_rules_that_moved([before], [after])) == []


def test_other_backends_and_families_are_not_compared():
    assert moved(Backend.NFT_NATIVE, drop=6) == []
    before = rule_set(TEXT.format(**STILL), family=6)
    after = rule_set(TEXT.format(**{**STILL, "drop": 6}))
    assert list(stopping_rules_that_moved([before], [after])) == []


def test_without_counters_nothing_moved():
    before = rule_set("*filter\n:INPUT DROP\n-A INPUT -j DROP\nCOMMIT\n")
    assert list(stopping_rules_that_moved([before], [before])) == []
