"""What one side says of a destination that takes no part."""

import pytest

from netdiag.model.icmp import IcmpError
from netdiag.model.path import End, PathKind, Place, Side, Stage, Way
from netdiag.model.report import Confidence
from netdiag.path.alone import Hop, Survey, of_refusal, of_silence
from netdiag.path.verdict import Attempt

OWN, GATEWAY, FAR, TARGET = "192.0.2.5", "192.0.2.1", "198.51.100.1", "203.0.113.9"


def way(protocol="tcp", port=80):
    nic = Place(
        side=Side.SOURCE,
        stage=Stage.NIC,
        namespace="host",
        device="eth0",
        a=OWN,
        b=TARGET,
        port=port,
        where="eth0 of a",
    )
    return Way(
        kind=PathKind.HOST,
        source=End(host="a", address=OWN, host_address=OWN),
        destination=End(host=TARGET, address=TARGET),
        protocol=protocol,
        port=port,
        places=(nic,),
    )


def hops(*told, answered=None):
    rows = [Hop(ttl=number, router=router) for number, router in enumerate(told, 1)]
    return (*rows, *([Hop(ttl=len(rows) + 1, answered=True)] if answered else []))


def silent(echoes=(), packets=(), further=(), *, own=(OWN,), **flow):
    return of_silence(way(**flow), Survey(echoes=echoes, packets=packets, further=further), own=own)


def segment(said):
    return (said.cause.object["from"], said.cause.object["to"], said.cause.confidence)


def refused(icmp=None, text="connection refused", left=True, **flow):
    attempt = Attempt(answered=False, refused=True, text=text, icmp=icmp)
    return of_refusal(way(**flow), attempt, own=(OWN,), left=left)


def test_the_segment_is_the_one_behind_the_last_router_that_packets_come_to():
    whole = hops(GATEWAY, FAR, answered=True)
    assert segment(silent(whole, hops(GATEWAY, FAR))) == (FAR, TARGET, Confidence.LIKELY)
    assert segment(silent(whole, hops(GATEWAY, ""))) == (GATEWAY, FAR, Confidence.LIKELY)
    assert segment(silent(whole, hops("", ""))) == (OWN, GATEWAY, Confidence.LIKELY)


def test_routers_that_say_nothing_are_passed_over():
    assert segment(silent(hops("", FAR, answered=True), hops("", FAR))) == (FAR, TARGET, Confidence.LIKELY)
    assert segment(silent(hops("", "", answered=True), hops("", ""))) == (OWN, TARGET, Confidence.LIKELY)


def test_a_target_that_passes_packets_on_is_no_network_between():
    said = silent(hops(GATEWAY, answered=True), hops(GATEWAY, TARGET))
    assert (said.cause, f"come to {TARGET} itself" in said.reason) == (None, True)


def test_without_an_echo_it_is_possible_only():
    said = silent(hops(GATEWAY, ""), hops(GATEWAY, ""))
    assert segment(said) == (GATEWAY, TARGET, Confidence.POSSIBLE)
    assert "is down" in said.cause.explanation
    assert segment(silent())[2] is Confidence.POSSIBLE


def test_what_is_answered_now_and_then_has_no_filter():
    said = silent(hops(GATEWAY, answered=True), hops(GATEWAY), further=(False, True, False, False))
    assert said.cause is None
    assert "1 of 4 further attempts" in said.reason


def test_a_refusal_of_this_host_is_no_router_s():
    said = refused(IcmpError(type=3, code=1, sender=OWN))
    assert (said.cause, "this host itself" in said.reason) == (None, True)


def test_a_reset_of_what_was_not_seen_to_leave_may_be_an_own_rule_s():
    said = refused(left=False)
    assert (said.cause, "needs root" in said.reason) == (None, True)


@pytest.mark.parametrize(
    ("icmp", "code", "host"),
    [
        (None, "container.no-listener", TARGET),
        (IcmpError(type=3, code=13, sender=TARGET), "firewall.rule", TARGET),
        (IcmpError(type=3, code=10, sender=FAR), "firewall.rule", FAR),
        # No host says of itself that it cannot be reached.
        (IcmpError(type=3, code=1, sender=TARGET), "firewall.rule", TARGET),
        (IcmpError(type=3, code=1, sender=FAR), "underlay.neighbour", FAR),
        (IcmpError(type=3, code=0, sender=FAR), "underlay.no-route", FAR),
        # For a TCP segment only a REJECT rule says so.
        (IcmpError(type=3, code=3, sender=TARGET), "firewall.rule", TARGET),
    ],
)
def test_who_refuses_is_told_by_what_it_says(icmp, code, host):
    said = refused(icmp)
    assert (said.cause.code, said.cause.host, said.cause.confidence) == (code, host, Confidence.LIKELY)


def test_a_datagram_for_a_port_of_nobody():
    icmp = IcmpError(type=3, code=3, sender=TARGET)
    assert refused(icmp, protocol="udp").cause.code == "container.no-listener"
    # A router has no ports.
    assert refused(IcmpError(type=3, code=3, sender=FAR), protocol="udp").cause.code == "firewall.rule"


def test_another_error_is_told_and_blamed_on_nobody():
    said = refused(IcmpError(type=11, code=1, sender=FAR))
    assert (said.cause, said.reason) == (None, f"{FAR} answers with ICMP type 11, code 1")


def test_the_step_is_for_who_can_tell_more():
    (step,) = silent(hops(GATEWAY, answered=True), hops(GATEWAY)).next
    assert step.host == TARGET
    assert step.command == f"netdiag firewall trace --path in --src {OWN} --proto tcp --dport 80"
