"""Recorded trace events and the rules of that moment: the verdict, the rule, its number, owner and call site."""

import json
import struct
from pathlib import Path

import msgspec
import pytest

from netdiag.facts.trace_events import decode_trace
from netdiag.firewall.listing import ListedChain, ListedRule
from netdiag.firewall.trace import resolve
from netdiag.firewall.trace_rules import Rules
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.firewall import Owner
from netdiag.model.trace import TraceEvent, TraceKind, TracePath, TraceVerdict
from netdiag.model.wire import from_json_values
from netdiag.participant.netlink import attribute

RECORDED = Path(__file__).parent / "recorded"
LEGACY = RuleSet(backend=Backend.IPTABLES_LEGACY, family=4, text="*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", sha256="")


class Recording:
    """One recorded trace; tests change what they are about."""

    def __init__(self, name):
        document = json.loads((RECORDED / f"{name}.json").read_text())
        self.answer = from_json_values(document["answer"])
        self.events = list(decode_trace(self.answer["messages"]).rows)
        self.nft = document["rules"]["nft"]
        self.saved = document["rules"]["iptables-nft"]
        self.more = []
        self.path = TracePath(name.split("_")[1])

    def resolve(self, *, lost=False, **more):
        sets = [
            RuleSet(backend=Backend.NFT_NATIVE, family=0, text=self.nft, sha256=""),
            RuleSet(backend=Backend.IPTABLES_NFT, family=4, text=self.saved, sha256=""),
            *self.more,
        ]
        own = self.answer["table"]
        return resolve(self.events, Rules(sets, "host"), path=self.path, own_table=own, lost=lost, **more)


def test_a_reject_in_a_called_chain():
    found = Recording("trace_in_reject").resolve()
    rule = found.decided.rule
    assert found.verdict is TraceVerdict.REJECT
    assert rule.text.startswith("-A LOG_DROP -p tcp -m comment --comment ports -m tcp --dport 2377 -j REJECT")
    assert (rule.family, rule.table, rule.chain, rule.number, rule.handle) == ("ip", "filter", "LOG_DROP", 2, 6)
    assert (rule.backend, rule.owner) == (Backend.IPTABLES_NFT, Owner.OPERATOR)
    assert rule.call_site == "filter INPUT rule 2: -A INPUT -p tcp -j LOG_DROP"
    assert [(step.hook, step.rule.chain, step.verdict) for step in found.path] == [
        ("input", "early", "accept"),
        ("input", "INPUT", "jump"),
        ("input", "LOG_DROP", "drop"),
    ]
    native = found.path[0].rule
    assert (native.backend, native.text) == (Backend.NFT_NATIVE, 'tcp dport 2377 counter accept comment "# handle 99"')


def test_an_accept_is_proven_by_the_last_chain_only():
    recording = Recording("trace_out_accept")
    found = recording.resolve()
    assert (found.verdict, found.decided.rule.text) == (TraceVerdict.ACCEPT, "-A OUTPUT -p udp -j ACCEPT")
    recording.events = [event for event in recording.events if not event.chain.startswith("end-egress")]
    found = recording.resolve()
    assert (found.verdict, found.decided) == (TraceVerdict.UNKNOWN, None)
    assert "behind filter OUTPUT" in found.reason
    assert "legacy" not in found.reason
    recording.more = [LEGACY]
    assert "legacy iptables, whose chains do not report (ip filter)" in recording.resolve().reason


def test_a_policy_decides():
    found = Recording("trace_out_policy").resolve()
    assert found.verdict is TraceVerdict.DROP
    rule = found.decided.rule
    assert (rule.policy, rule.number, rule.text, rule.chain) == ("DROP", None, ":OUTPUT DROP", "OUTPUT")


def test_lost_events_cost_the_rule_but_not_the_proof():
    accepted = Recording("trace_out_accept").resolve(lost=True)
    assert (accepted.verdict, accepted.decided) == (TraceVerdict.ACCEPT, None)
    assert "could not deliver" in accepted.reason
    recording = Recording("trace_in_reject")
    recording.events = recording.events[:-1]
    lost = recording.resolve(lost=True)
    assert (lost.verdict, lost.decided) == (TraceVerdict.UNKNOWN, None)


def test_no_event_at_all():
    recording = Recording("trace_in_reject")
    recording.events = []
    found = recording.resolve()
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "XDP" in found.reason


def test_a_rule_that_was_not_listed_is_a_drop_without_text():
    recording = Recording("trace_in_reject")
    recording.nft = recording.nft.replace("# handle 6", "# handle 60")
    found = recording.resolve()
    assert (found.verdict, found.decided.rule.text) == (TraceVerdict.DROP, "")
    assert "changed meanwhile: handle 6" in found.reason


def test_a_save_that_does_not_fit_the_listing_is_not_used():
    recording = Recording("trace_in_reject")
    recording.saved = recording.saved.replace("[0:0] -A LOG_DROP -p udp -j ACCEPT\n", "")
    found = recording.resolve()
    assert (found.verdict, found.decided.rule.backend) == (TraceVerdict.REJECT, Backend.NFT_NATIVE)
    assert found.decided.rule.text == "meta l4proto tcp  tcp dport 2377 counter reject"


@pytest.mark.parametrize(
    ("path", "egress_chain", "verdict"),
    [
        (TracePath.IN, False, TraceVerdict.UNKNOWN),
        (TracePath.OUT, True, TraceVerdict.UNKNOWN),
        (TracePath.OUT, False, TraceVerdict.ACCEPT),
    ],
)
def test_the_end_by_another_way(path, egress_chain, verdict):
    recording = Recording("trace_out_accept")
    recording.path = path
    recording.events[-1] = msgspec.structs.replace(recording.events[-1], family="inet", chain="end-postrouting")
    if egress_chain:
        recording.nft += 'table netdev e { # handle 9\n\tchain x { # handle 1\n\t\ttype filter hook egress device "eth0" priority 0; policy accept;\n\t}\n}\n'
    found = recording.resolve()
    assert found.verdict is verdict
    assert ("egress chains were not watched" in found.reason) == egress_chain
    # Never said to be sent on to somebody else while its address is the one that it came with.
    assert ("its address is unchanged" in found.reason) == (path is TracePath.IN)


def test_suspects_and_legacy_tables_are_those_of_this_packet():
    recording = Recording("trace_out_accept")
    recording.events = [event for event in recording.events if not event.chain.startswith("end-egress")]
    recording.more = [LEGACY, msgspec.structs.replace(LEGACY, family=6)]
    reason = recording.resolve(suspects=("the reverse path filter of eth0 is strict (1)",)).reason
    assert reason.count("reverse path filter") == 1
    assert "(ip filter)" in reason


def test_a_rule_that_hands_the_packet_to_a_program():
    recording = Recording("trace_in_reject")
    recording.events[-1] = msgspec.structs.replace(recording.events[-1], verdict="queue")
    found = recording.resolve()
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "gave it to somebody else (queue)" in found.reason


def test_the_word_reject_in_a_comment_is_no_reject():
    recording = Recording("trace_in_reject")
    recording.saved = ""
    recording.nft = recording.nft.replace("reject # handle 6", 'drop comment "reject" # handle 6')
    assert recording.resolve().verdict is TraceVerdict.DROP


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("ip saddr @port.reject drop", TraceVerdict.DROP),
        ("ip saddr @reject-these drop", TraceVerdict.DROP),
        ('ip saddr 10.0.0.1 counter drop comment "reject"', TraceVerdict.DROP),
        ("tcp dport 22 reject", TraceVerdict.REJECT),
        ('tcp dport 22 counter reject with icmpx type admin-prohibited comment "@drop"', TraceVerdict.REJECT),
        ("ip saddr @port.drop reject with tcp reset", TraceVerdict.REJECT),
    ],
)
def test_what_a_rule_does_is_told_by_its_statement_not_by_a_name(text, verdict):
    recording = Recording("trace_in_reject")
    recording.saved = ""
    recording.nft = recording.nft.replace("meta l4proto tcp  tcp dport 2377 counter packets 0 bytes 0 reject", text)
    found = recording.resolve()
    assert (found.decided.rule.text, found.verdict) == (text.replace("counter ", "counter "), verdict)


def test_a_rule_in_a_block_is_named_with_the_rule_that_holds_it():
    text = (
        "table inet t {\n\tchain c {\n\t\ttype filter hook input priority 0; policy accept;\n"
        "\t\ttcp dport { 22, 80 } jump {\n\t\t\tip saddr 1.2.3.4 accept\n\t\t\tdrop\n\t\t} # handle 9\n\t}\n}\n"
    )
    rule_set = RuleSet(backend=Backend.NFT_NATIVE, family=0, text=text, sha256="")
    inner = tuple(ListedRule(number=number, handle=6 + number, text="") for number in (1, 2))
    kernel = {("inet", "t", "__chain2"): ListedChain(family="inet", table="t", name="__chain2", rules=inner)}
    place = {"family": "inet", "table": "t", "kind": TraceKind.RULE}
    events = [
        TraceEvent(**place, chain="c", handle=9, verdict="jump", target="__chain2"),
        TraceEvent(**place, chain="__chain2", handle=8, verdict="drop"),
    ]
    rules = Rules([rule_set], "host", kernel)
    found = resolve(events, rules, path=TracePath.IN, own_table="netdiag-0", lost=False)
    rule = found.decided.rule
    assert (found.verdict, found.reason) == (TraceVerdict.DROP, "")
    assert (rule.place(), rule.text) == ("t __chain2 rule 2", "drop")
    assert rule.call_site == "t c rule 1: tcp dport { 22, 80 } jump { ip saddr 1.2.3.4 accept; drop }"
    unnamed = resolve(events, Rules([rule_set], "host"), path=TracePath.IN, own_table="netdiag-0", lost=False).decided
    assert unnamed.rule.place() == "t __chain2 rule (handle 8)"


def placed(chain, kind=TraceKind.RULE, table="t", **more):
    return TraceEvent(family="inet", table=table, chain=chain, kind=kind, **more)


NFT = """\
table inet t {
\tchain nat {
\t\ttype nat hook output priority 0; policy accept;
\t\tudp dport 1 accept # handle 3
\t}
\tchain out {
\t\ttype filter hook output priority 0; policy accept;
\t\ttcp dport 1 drop # handle 5
\t}
\tchain late {
\t\ttype filter hook postrouting priority 0; policy accept;
\t\tudp dport 1 drop # handle 8
\t}
}
"""


def resolved(*events, waited=False):
    rules = Rules([RuleSet(backend=Backend.NFT_NATIVE, family=0, text=NFT, sha256="")], "host")
    return resolve(events, rules, path=TracePath.OUT, own_table="netdiag-0", lost=False, waited=waited)


def test_a_chain_that_translates_decides_nothing():
    translated = placed("nat", handle=3, verdict="accept")
    passed = placed("out", TraceKind.POLICY, verdict="accept")
    end = placed("end-postrouting", table="netdiag-0", verdict="drop")
    for order in ((translated, passed), (passed, translated)):
        found = resolved(*order, end)
        assert (found.verdict, found.decided.rule.place()) == (TraceVerdict.ACCEPT, "t out policy")


def test_a_packet_of_somebody_else_s_may_be_dropped_behind_our_last_chain():
    end = placed("end-postrouting", TraceKind.POLICY, table="netdiag-0", verdict="accept")
    passed = placed("out", TraceKind.POLICY, verdict="accept")
    dropped = placed("late", handle=8, verdict="drop")
    assert resolved(passed, end, waited=True).verdict is TraceVerdict.ACCEPT
    found = resolved(passed, end, dropped, waited=True)
    assert (found.verdict, found.decided.rule.place()) == (TraceVerdict.DROP, "t late rule 1")


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(0x00000003, "queue"), (0x00050003, "queue"), (0x00058003, "queue"), (0, "drop"), (-3 & 0xFFFFFFFF, "jump")],
)
def test_a_verdict_for_a_queue_holds_its_number_and_a_flag(code, verdict):
    body = struct.pack(">BBH", 2, 0, 0) + attribute(4, struct.pack(">I", 3))
    body += attribute(0x8005, attribute(1, struct.pack(">I", code)))
    (one,) = decode_trace(struct.pack("=IHHII", 16 + len(body), 10 << 8 | 17, 0, 0, 0) + body).rows
    assert one.verdict == verdict


def test_decoding_damaged_bytes():
    raw = Recording("trace_in_reject").answer["messages"]
    whole = decode_trace(raw).rows
    assert whole[-1] == TraceEvent(
        family="ip", table="filter", chain="LOG_DROP", kind=TraceKind.RULE, handle=6, verdict="drop", id=whole[0].id
    )
    assert whole[0].id
    assert (whole[-2].verdict, whole[-2].target) == ("jump", "LOG_DROP")
    for cut in range(0, len(raw), 7):
        decoded = decode_trace(raw[:cut])
        assert decoded.rows == whole[: len(decoded.rows)]
    assert decode_trace(raw[:-4]).error
