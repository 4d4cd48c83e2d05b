"""Which rule decided, from four readings of the counters around two bursts."""

import pytest

from netdiag.firewall.counted import Bursts, count, way_of
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.report import Confidence
from netdiag.model.trace import TracePath, TraceVerdict

BURSTS = Bursts(7, 11)
WITH = (5, 5, 12, 23)
"""Moved with the bursts and only with them."""
BUSY = (5, 9, 30, 70)
STILL = (5, 5, 5, 5)
FOREIGN = (5, 8, 9, 12)

SAVE = """*mangle
:INPUT ACCEPT [{mangle}:0]
COMMIT
*filter
:INPUT {policy} [{rest}:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:CALLED - [0:0]
:OTHER - [0:0]
[{established}:0] -A INPUT -m state --state ESTABLISHED -j ACCEPT
[{call}:0] -A INPUT -p tcp -j CALLED
[{other}:0] -A INPUT -j OTHER
[{log}:0] -A CALLED -j LOG
[{last}:0] -A CALLED -p tcp --dport 2377 -j {target}
[{never}:0] -A OTHER -j DROP
COMMIT
"""


def readings(target="DROP", policy="ACCEPT", backend=Backend.IPTABLES_LEGACY, family=4, **counters):
    """Four saves; what is not said does not move."""
    names = ("mangle", "rest", "established", "call", "other", "log", "last", "never")
    moved = {name: counters.get(name, STILL) for name in names}
    return [
        (
            RuleSet(
                backend=backend,
                family=family,
                text=SAVE.format(target=target, policy=policy, **{name: moved[name][at] for name in names}),
                sha256="",
            ),
        )
        for at in range(4)
    ]


def counted(taken):
    return count(taken, BURSTS, way=way_of(TracePath.IN, loopback=False, refused=False), namespace="host")


@pytest.mark.parametrize(("target", "verdict"), [("DROP", TraceVerdict.DROP), ("REJECT", TraceVerdict.REJECT)])
def test_a_rule_that_moved_with_the_bursts_alone_is_proven(target, verdict):
    found = counted(readings(target, mangle=WITH, established=FOREIGN, call=BUSY, log=WITH, last=WITH))
    assert (found.verdict, found.confidence, found.reason) == (verdict, Confidence.PROVEN, "")
    rule = found.decided.rule
    assert (rule.chain, rule.number, rule.text) == ("CALLED", 2, f"-A CALLED -p tcp --dport 2377 -j {target}")
    # The call itself is busy: it led there all the same, but it is not among what moved with the bursts.
    assert rule.call_site == "filter INPUT rule 2: -A INPUT -p tcp -j CALLED"
    assert [step.rule.place() for step in found.path] == [
        "mangle INPUT policy",
        "filter CALLED rule 1",
        "filter CALLED rule 2",
    ]
    assert found.decided.packets == 5


def test_a_policy():
    found = counted(readings(policy="DROP", rest=WITH))
    assert (found.decided.rule.policy, found.decided.rule.number, found.confidence) == ("DROP", None, Confidence.PROVEN)


def test_an_accept_is_likely_at_most():
    found = counted(readings("ACCEPT", mangle=WITH, call=WITH, last=WITH, rest=FOREIGN))
    assert (found.verdict, found.confidence) == (TraceVerdict.ACCEPT, Confidence.LIKELY)
    assert found.decided.rule.number == 2
    assert "counters cannot tell" in found.reason


def test_a_busy_drop_is_likely_at_most():
    found = counted(readings(call=WITH, last=BUSY))
    assert (found.verdict, found.confidence) == (TraceVerdict.DROP, Confidence.LIKELY)
    assert found.decided.rule.chain == "CALLED"
    assert "other traffic" in found.reason


def test_a_busy_accepting_policy_decides_and_not_the_table_before():
    found = counted(readings(mangle=WITH, call=WITH, rest=BUSY))
    assert (found.verdict, found.confidence) == (TraceVerdict.ACCEPT, Confidence.LIKELY)
    assert found.decided.rule.table == "filter"


def test_several_that_fit_are_not_told_apart():
    found = counted(readings(call=WITH, other=WITH, last=BUSY, never=BUSY))
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "iptables-legacy filter CALLED rule 2, iptables-legacy filter OTHER rule 1" in found.reason


def test_a_busy_drop_that_the_packets_passed_is_not_suspected():
    raw = "*raw\n:PREROUTING ACCEPT [{accept}:0]\n[{drop}:0] -A PREROUTING -p udp -j DROP\nCOMMIT\n"
    taken = [
        (
            *reading,
            RuleSet(
                backend=Backend.IPTABLES_NFT, family=4, sha256="", text=raw.format(accept=STILL[at], drop=BUSY[at])
            ),
        )
        for at, reading in enumerate(readings("ACCEPT", call=WITH, last=WITH))
    ]
    assert counted(taken).verdict is TraceVerdict.ACCEPT


def test_nothing_moved():
    found = counted(readings(established=FOREIGN))
    assert (found.verdict, found.path) == (TraceVerdict.UNKNOWN, ())
    assert "no counter moved with the packets" in found.reason


def test_lost_behind_what_moved():
    found = counted(readings(call=WITH, log=WITH))
    assert found.verdict is TraceVerdict.UNKNOWN
    assert found.reason == "no counter tells what became of it behind filter CALLED rule 1"


def test_other_hooks_do_not_count():
    way = way_of(TracePath.OUT, loopback=False, refused=False)
    found = count(readings(policy="DROP", rest=WITH), BURSTS, way=way, namespace="host")
    assert found.verdict is TraceVerdict.UNKNOWN


def test_rules_that_were_changed_meanwhile():
    taken = readings(last=WITH, call=WITH)
    taken[2] = readings("REJECT", last=WITH, call=WITH)[2]
    assert "was changed" in counted(taken).reason


LISTING = """table inet guard {{ # handle 1
\tchain called {{ # handle 1
\t\ttcp dport 22 counter packets {still} bytes 0 accept # handle 5
\t\ttcp dport 2377 counter packets {moved} bytes 0 reject with tcp reset # handle 6
\t}}

\tchain in {{ # handle 2
\t\ttype filter hook input priority filter + 5; policy accept;
\t\tmeta l4proto tcp jump called # handle 4
\t}}
}}
"""


def test_nft_rules_that_count():
    taken = [
        (RuleSet(backend=Backend.NFT_NATIVE, family=0, sha256="", text=LISTING.format(still=5, moved=WITH[at])),)
        for at in range(4)
    ]
    found = counted(taken)
    assert (found.verdict, found.confidence) == (TraceVerdict.REJECT, Confidence.PROVEN)
    assert (found.decided.rule.handle, found.decided.rule.call_site) == (
        6,
        "guard in rule 1: meta l4proto tcp jump called",
    )


def test_a_drop_is_not_proven_where_the_packets_went_on_behind_it():
    raw = "*raw\n:PREROUTING ACCEPT [0:0]\n[{drop}:0] -A PREROUTING -p udp -j DROP\nCOMMIT\n"
    taken = [
        (*reading, RuleSet(backend=Backend.IPTABLES_NFT, family=4, sha256="", text=raw.format(drop=WITH[at])))
        for at, reading in enumerate(readings(rest=WITH))
    ]
    found = counted(taken)
    assert (found.verdict, found.decided) == (TraceVerdict.UNKNOWN, None)
    assert "iptables-nft raw PREROUTING rule 1, iptables-legacy filter INPUT policy" in found.reason


@pytest.mark.parametrize(
    "grown",
    [
        pytest.param((5, 5, 12, 12), id="the first burst alone"),
        pytest.param((5, 5, 5, 16), id="the second burst alone"),
        pytest.param((5, 9, 30, 35), id="busy, and then less than the second burst"),
        pytest.param((5, 9, 12, 40), id="busy, and before less than the first burst"),
    ],
)
def test_what_did_not_move_with_both_bursts_has_no_part_in_it(grown):
    found = counted(readings(call=WITH, last=grown))
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "CALLED rule 2" not in found.reason


NAT = "*nat\n:INPUT ACCEPT [{count}:0]\nCOMMIT\n*security\n:INPUT ACCEPT [{count}:0]\nCOMMIT\n"


def test_a_packet_meets_its_tables_in_the_order_of_their_priorities():
    taken = [
        (*reading, RuleSet(backend=Backend.IPTABLES_NFT, family=4, sha256="", text=NAT.format(count=WITH[at])))
        for at, reading in enumerate(readings(mangle=WITH, rest=WITH))
    ]
    found = counted(taken)
    # Sources are translated behind the filters, at INPUT as well.
    assert [step.rule.table for step in found.path] == ["mangle", "filter", "security", "nat"]
    assert found.decided.rule.table == "security"


ROUND = """*raw
:PREROUTING ACCEPT [{early}:0]
:OUTPUT ACCEPT [{out}:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [{out}:0]
[{answers}:0] -A OUTPUT -p icmp -j DROP
[{rejecting}:0] -A OUTPUT -p tcp --dport 2377 -j REJECT
[{taken}:0] -A INPUT -p tcp --dport 2377 -j DROP
[{let}:0] -A INPUT -p tcp --dport 22 -j ACCEPT
COMMIT
"""


def sent_to_itself(*, refused=False, besides="", **counters):
    names = ("early", "out", "answers", "rejecting", "taken", "let")
    moved = {name: counters.get(name, STILL) for name in names}
    taken = [
        (
            RuleSet(
                backend=Backend.IPTABLES_LEGACY,
                family=4,
                sha256="",
                text=(ROUND + besides).format(count=WITH[at], **{name: moved[name][at] for name in names}),
            ),
        )
        for at in range(4)
    ]
    return count(taken, BURSTS, way=way_of(TracePath.OUT, loopback=True, refused=refused), namespace="host")


def test_what_comes_back_by_loopback_is_decided_at_input():
    found = sent_to_itself(out=WITH, early=WITH, taken=WITH)
    assert (found.verdict, found.confidence) == (TraceVerdict.DROP, Confidence.PROVEN)
    assert (found.decided.rule.chain, found.decided.hook) == ("INPUT", "input")
    assert [step.hook for step in found.path] == ["output", "output", "prerouting", "input"]
    found = sent_to_itself(out=WITH, early=WITH, let=WITH)
    assert (found.verdict, found.decided.rule.text) == (TraceVerdict.ACCEPT, "-A INPUT -p tcp --dport 22 -j ACCEPT")


def test_what_takes_the_answers_does_not_take_the_packets_that_came_out():
    found = sent_to_itself(out=BUSY, answers=WITH, let=WITH)
    assert (found.verdict, found.decided.rule.chain) == (TraceVerdict.ACCEPT, "INPUT")


def test_a_sender_that_is_refused_met_output_alone():
    found = sent_to_itself(refused=True, rejecting=WITH, early=WITH)
    assert (found.verdict, found.confidence) == (TraceVerdict.REJECT, Confidence.PROVEN)
    assert found.decided.rule.text == "-A OUTPUT -p tcp --dport 2377 -j REJECT"
    assert [step.hook for step in found.path] == ["output"]


def test_a_reject_beside_its_own_answers_is_likely():
    # What it answers passes raw OUTPUT once more, and the policy of filter OUTPUT.
    mangle = "*mangle\n:POSTROUTING ACCEPT [{count}:0]\nCOMMIT\n"
    found = sent_to_itself(refused=True, rejecting=WITH, out=WITH, besides=mangle)
    assert (found.verdict, found.confidence) == (TraceVerdict.REJECT, Confidence.LIKELY)
    assert "what it answers" in found.reason
    assert found.path[-1].rule.text == "-A OUTPUT -p tcp --dport 2377 -j REJECT"


def test_a_comment_drops_nothing():
    listing = LISTING.replace("reject with tcp reset", 'comment "x drop with y"')
    taken = [
        (RuleSet(backend=Backend.NFT_NATIVE, family=0, sha256="", text=listing.format(still=5, moved=WITH[at])),)
        for at in range(4)
    ]
    found = counted(taken)
    assert (found.verdict, found.path[-1].verdict) == (TraceVerdict.UNKNOWN, "continue")
