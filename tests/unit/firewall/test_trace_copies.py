"""Copies of one packet: told apart by their ports, and the one that matters decides."""

import msgspec
import pytest

from netdiag.firewall.trace import Resolved
from netdiag.firewall.trace_copies import resolve_copies, ways_of, without_clones
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.report import Confidence
from netdiag.model.trace import TraceEvent, TraceKind, TraceStep, TraceVerdict

P1, P2, P3, BRIDGE = 1, 2, 3, 9
NAMES = {P1: "p1", P2: "p2", P3: "p3"}


def event(identity, chain, in_index=0, out_index=0, verdict="continue"):
    return TraceEvent(
        family="bridge",
        table="t",
        chain=chain,
        kind=TraceKind.RULE,
        id=identity,
        in_index=in_index,
        out_index=out_index,
        verdict=verdict,
    )


BEFORE = [event(7, "ingress", P1), event(7, "pre", P1), event(7, "rule")]
# The first copy's id is used again for the second one, and the packet itself is the last.
FIRST = [event(8, "copy", P1, P2), event(8, "ip", P1, BRIDGE), event(8, "dropped by the first", verdict="drop")]
SECOND = [event(8, "copy", P1, P3), event(8, "ip", P1, BRIDGE), event(8, "passed by the second")]
OWN = [event(7, "in", P1), event(7, "own", verdict="drop")]


def test_an_id_that_is_used_again_is_another_copy():
    ways = ways_of([*BEFORE, *FIRST, *SECOND, *OWN], NAMES)
    assert (list(ways.before), list(ways.behind)) == (BEFORE, OWN)
    assert {port: list(events) for port, events in ways.copies.items()} == {P2: FIRST, P3: SECOND}


def test_without_a_port_it_is_one_packet():
    ways = ways_of([event(7, "pre", BRIDGE), event(7, "post", BRIDGE, 5)], NAMES)
    assert (len(ways.before), ways.copies, ways.behind) == (2, {}, ())


def fate(events, port):
    """A stand-in that tells what it was asked about."""
    dropped = any(each.verdict == "drop" for each in events)
    rule = FirewallRule(backend=Backend.NFT_NATIVE, family="bridge", table="t", chain="f", text="drop", number=1)
    step = TraceStep(hook="forward", rule=rule, verdict="drop")
    return Resolved(
        verdict=TraceVerdict.DROP if dropped else TraceVerdict.ACCEPT,
        decided=step if dropped else None,
        path=tuple(step for each in events if each in BEFORE),
        out_index=port,
    )


def resolved(events, wanted):
    return resolve_copies(ways_of(events, NAMES), fate, NAMES, wanted)


def test_the_copy_for_the_target_decides():
    assert resolved([*BEFORE, *FIRST, *SECOND, *OWN], P2).verdict is TraceVerdict.DROP
    assert resolved([*BEFORE, *FIRST, *SECOND, *OWN], P3).verdict is TraceVerdict.ACCEPT


def test_copies_that_differ_say_nothing_where_the_port_is_not_known():
    found = resolved([*BEFORE, *FIRST, *SECOND], 0)
    assert (found.verdict, found.decided, found.confidence) == (TraceVerdict.UNKNOWN, None, Confidence.POSSIBLE)
    assert "(by p2: drop, t f rule 1; by p3: accept)" in found.reason
    assert len(found.path) == len(BEFORE)


def test_copies_that_fare_alike_are_one_answer():
    other = [event(8, "copy", P1, P3), event(8, "dropped too", verdict="drop")]
    found = resolved([*BEFORE, *FIRST, *other], 0)
    assert (found.verdict, found.confidence, found.out_index) == (TraceVerdict.DROP, Confidence.PROVEN, 0)


@pytest.mark.parametrize(
    ("events", "wanted", "verdict", "confidence", "said"),
    [
        (FIRST, 0, TraceVerdict.DROP, Confidence.PROVEN, ""),
        (FIRST, P3, TraceVerdict.DROP, Confidence.LIKELY, "sends it out by p2, not by p3"),
        ([*FIRST, *SECOND], P1, TraceVerdict.UNKNOWN, Confidence.POSSIBLE, "sends it out by p2 and p3, not by p1"),
    ],
)
def test_copies_by_other_ports(events, wanted, verdict, confidence, said):
    found = resolved([*BEFORE, *events], wanted)
    assert (found.verdict, found.confidence) == (verdict, confidence)
    assert said in found.reason


def test_a_clone_begins_at_output_and_its_end_is_not_the_packets():
    def ours(identity, chain, verdict="accept"):
        return msgspec.structs.replace(event(identity, chain, verdict=verdict), family="inet", table="netdiag-0")

    clone = [ours(2, "answers"), event(2, "OUTPUT"), ours(2, "end-postrouting", "drop")]
    packet = [event(1, "PREROUTING"), event(1, "INPUT", verdict="drop")]
    later = [event(2, "PREROUTING")]
    events = [packet[0], *clone, packet[1], *later]
    assert list(without_clones(events, "netdiag-0", outward=False)) == [*packet, *later]
    begin, clone = ours(1, "begin"), [ours(2, "begin"), ours(2, "end-postrouting", "drop")]
    assert list(without_clones([begin, *clone, packet[1]], "netdiag-0", outward=True)) == [begin, packet[1]]
