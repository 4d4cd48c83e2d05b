"""What one end saw of a path: what it could not read is unknown, and what ends between its devices is its own."""

import pytest

from netdiag.model.facts import HOST, Link
from netdiag.model.report import State
from netdiag.model.two_sided import Heard
from tests.unit.checks.factory import found
from tests.unit.checks.two_sides import (
    LOST_AT_RECEIVER,
    LOST_BETWEEN,
    THERE,
    changed,
    healthy,
    peer_facts,
    together,
    view,
)

OUT = "two-sides.outbound"
WHY = "host-a: no answer"
UNREAD = {"arrived": None, "passed": None, "answers_left": None, "seen_source": "", "unseen": WHY, "heard": Heard()}


@pytest.mark.parametrize(
    "fields",
    [UNREAD, {**UNREAD, "arrived": 1}, {**LOST_BETWEEN, "left": None, "unseen": WHY}],
    ids=["receiver's device", "answers", "sender's device"],
)
def test_a_count_that_could_not_be_read_is_unknown_and_says_why(fields):
    probes = changed(healthy(), THERE, "tcp", 7946, **fields)
    (lost,) = [one for one in found(OUT, together(view(probes))) if one.state is not State.OK]
    assert (lost.state, lost.cause) == (State.UNKNOWN, None)
    assert WHY in lost.reason


def test_an_answer_that_was_heard_beats_a_count_of_none():
    probes = changed(healthy(), THERE, "udp", 7946, passed=0, expected=True, heard=Heard(kind="reply", rtt_us=300))
    assert [one.state for one in found(OUT, together(view(probes)))] == [State.OK]


def test_what_ends_between_two_devices_of_a_host_is_that_host_s():
    ended = {**LOST_AT_RECEIVER, "short_of": ("eth0", "br0")}
    (lost,) = [
        one
        for one in found(OUT, together(view(changed(healthy(), THERE, "udp", 7946, **ended))))
        if one.state is not State.OK
    ]
    assert lost.cause is None
    assert "lost at host-a; it is seen on eth0 and not on br0" in lost.summary


def test_a_program_on_a_device_below_is_looked_at_before_the_network_is_blamed():
    links = (
        Link(index=2, name="eth0", kind="bridge"),
        Link(index=3, name="eth7", master=2, xdp_mode="driver"),
        Link(index=4, name="eth9", xdp_mode="driver"),
    )
    probes = changed(healthy(), THERE, "udp", 7946, **LOST_BETWEEN)
    ctx = together(view(probes, facts=peer_facts(links={HOST: links})))
    (lost,) = [one for one in found(OUT, ctx) if one.state is not State.OK]
    assert (lost.cause.code, lost.cause.object["device"]) == ("host.xdp-drop", "eth7")


def test_what_arrived_has_left_whatever_its_sender_saw():
    probes = changed(healthy(), THERE, "udp", 7946, left=0)
    assert [one.state for one in found(OUT, together(view(probes)))] == [State.OK]
