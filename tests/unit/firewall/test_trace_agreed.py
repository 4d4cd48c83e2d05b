"""Rules that were changed between their listing and the packet: what both readings say stands, and no other text."""

import msgspec
import pytest

from netdiag.firewall.trace_agreed import agreed
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.report import Confidence
from netdiag.model.trace import TraceVerdict
from tests.unit.firewall.test_trace import Recording

LEGACY = "*filter\n:INPUT ACCEPT [{n}:0]\n[{n}:0] -A INPUT -p tcp -j {target}\nCOMMIT\n"


def both(**changes):
    before, behind = Recording("trace_in_reject"), Recording("trace_in_reject")
    for name, (old, new) in changes.items():
        assert old in getattr(behind, name)
        setattr(behind, name, getattr(behind, name).replace(old, new))
    return agreed(before.resolve(), behind.resolve(), legacy_stands=True)


def test_a_change_that_is_not_on_the_way_takes_nothing_from_the_answer():
    found = both(nft=("\t\tmeta l4proto udp counter packets 0 bytes 0 accept # handle 8\n", ""))
    assert (found.verdict, found.confidence, found.decided.rule.number) == (TraceVerdict.REJECT, Confidence.PROVEN, 2)
    assert (found.decided.rule.text.startswith("-A LOG_DROP -p tcp"), found.reason) == (True, "")
    assert found.decided in found.path


def test_what_was_counted_meanwhile_is_no_change():
    before = Recording("trace_in_reject").resolve()
    counted = tuple(msgspec.structs.replace(step, packets=(step.packets or 0) + 7) for step in before.path)
    behind = msgspec.structs.replace(before, path=counted, decided=counted[-1])
    assert agreed(before, behind, legacy_stands=False) == before


def test_legacy_rules_that_changed_have_no_handle_to_be_known_by():
    before = Recording("trace_in_reject").resolve()
    rules = [msgspec.structs.replace(step.rule, backend=Backend.IPTABLES_LEGACY) for step in before.path]
    path = tuple(msgspec.structs.replace(step, rule=rule) for step, rule in zip(before.path, rules, strict=True))
    legacy = msgspec.structs.replace(before, path=path, decided=path[-1])
    assert agreed(legacy, legacy, legacy_stands=True).confidence is Confidence.PROVEN
    found = agreed(legacy, legacy, legacy_stands=False)
    assert (found.confidence, found.reason) == (Confidence.LIKELY, "the rule set changed meanwhile")


def test_a_rule_whose_text_differs_is_not_named():
    """Iptables' rules are named by their position, and a chain of the same length may hold others."""
    found = both(saved=("-A LOG_DROP -p tcp -m comment", "-A LOG_DROP -p udp -m comment"))
    rule = found.decided.rule
    assert (found.verdict, found.confidence) == (TraceVerdict.REJECT, Confidence.LIKELY)
    assert (rule.text, rule.number, rule.handle, rule.call_site) == ("", None, 6, None)
    assert rule.place() == "filter LOG_DROP rule (handle 6)"
    assert [step.rule.text == "" for step in found.path] == [False, False, True]
    assert found.decided is found.path[-1]
    assert "changed meanwhile" in found.reason


def test_that_it_rejects_is_told_by_the_text_only():
    found = both(saved=("-j REJECT --reject-with icmp-port-unreachable", "-j DROP"))
    assert (found.verdict, found.decided.rule.text) == (TraceVerdict.DROP, "")


def test_a_rule_that_moved_has_no_number():
    udp = "meta l4proto udp counter packets 0 bytes 0 accept # handle 5\n"
    found = both(
        nft=("\t\t" + udp, ""),
        saved=("[0:0] -A LOG_DROP -p udp -j ACCEPT\n", ""),
    )
    rule = found.decided.rule
    assert (rule.text.startswith("-A LOG_DROP -p tcp"), rule.number) == (True, None)


def test_steps_that_do_not_fit_each_other_are_left_out():
    before = Recording("trace_in_reject").resolve()
    found = agreed(
        before, msgspec.structs.replace(before, path=before.path[1:], callers=before.callers[1:]), legacy_stands=True
    )
    assert [step.rule.text for step in found.path] == [""]
    assert (found.path[0] is found.decided, found.callers) == (True, ((),))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (LEGACY.format(n=7, target="DROP"), True),
        (LEGACY.format(n=0, target="REJECT"), False),
        (LEGACY.format(n=0, target="DROP").replace("INPUT ACCEPT", "INPUT DROP"), False),
    ],
)
def test_counters_change_no_rules(text, same):
    def rules(saved):
        return Rules([RuleSet(backend=Backend.IPTABLES_LEGACY, family=4, text=saved, sha256="")], "host")

    assert rules(LEGACY.format(n=0, target="DROP")).same_as(rules(text)) is same


def test_another_handle_is_another_rule():
    recording = Recording("trace_in_reject")

    def rules(nft):
        return Rules([RuleSet(backend=Backend.NFT_NATIVE, family=0, text=nft, sha256="")], "host")

    assert rules(recording.nft).same_as(rules(recording.nft.replace("packets 0", "packets 9")))
    assert not rules(recording.nft).same_as(rules(recording.nft.replace("# handle 6", "# handle 60")))
    # A trace that runs beside this one changes nothing.
    own = "table inet netdiag-0123abcd { # handle 99\n\tchain end-input { # handle 1\n\t}\n}\n"
    assert rules(recording.nft).same_as(rules(recording.nft + own))
