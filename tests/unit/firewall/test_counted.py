"""Which rule decided, from four readings of the counters around two bursts."""

import pytest

from netdiag.firewall.counted import Bursts, count
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
    return count(taken, BURSTS, path=TracePath.IN, namespace="host")


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
    assert count(readings(policy="DROP", rest=WITH), BURSTS, path=TracePath.OUT, namespace="host").verdict is (
        TraceVerdict.UNKNOWN
    )


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


def test_a_comment_drops_nothing():
    listing = LISTING.replace("reject with tcp reset", 'comment "x drop with y"')
    taken = [
        (RuleSet(backend=Backend.NFT_NATIVE, family=0, sha256="", text=listing.format(still=5, moved=WITH[at])),)
        for at in range(4)
    ]
    found = counted(taken)
    assert (found.verdict, found.path[-1].verdict) == (TraceVerdict.UNKNOWN, "continue")
