"""Why nothing leaves a host, who answers for an address, and by which devices packets come and go."""

import pytest

from netdiag.model.facts import Absence, AbsenceKind, Link, Neighbour, Route
from netdiag.model.path import End, PathKind
from netdiag.model.path import Way as Flow
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Confidence
from netdiag.model.two_sided import SidedProbe, Way
from netdiag.path.leaving import (
    NextHop,
    duplicate_cause,
    leaving_cause,
    pinned_cause,
    receiver_down_cause,
)
from netdiag.path.symmetry import asymmetric_cause
from tests.unit.path.facts_of import facts

FAR, OWN, OTHER, ROUTER = "192.0.2.2", "02:00:00:00:00:02", "02:00:00:00:00:77", "02:00:00:00:00:01"
UP = Link(index=2, name="eth0", up=True, operstate="up")
GONE = RouteChoice(absent=Absence(kind=AbsenceKind.MISSING, text="there is no route to it"))


def hop(**fields):
    base = {"route": RouteChoice(device="eth0", source="192.0.2.1"), "link": UP, "asked": True, "macs": (OWN,)}
    return NextHop(**{"host": "near", "target": FAR, **base, **fields})


def pinned(mac, states=("permanent",)):
    return Neighbour(device="eth0", address=FAR, mac=mac, states=states)


def test_a_way_that_is_as_it_should_be_explains_nothing():
    assert leaving_cause(hop()) is None
    assert leaving_cause(hop(link=Link(index=2, name="tap0", up=True, operstate="unknown"))) is None
    assert leaving_cause(hop(unanswered=True)) is None  # the kernel's entry is old: the network answers now


def test_the_route_that_refuses_is_named_and_taken_away():
    one = leaving_cause(hop(route=GONE, refusing=Route(destination="192.0.2.0/24", type="blackhole", metric=7)))
    assert (one.code, one.host, one.confidence) == ("underlay.no-route", "near", Confidence.PROVEN)
    assert one.object["destination"] == "192.0.2.0/24"
    assert one.remedy[0].commands == ("ip route del blackhole 192.0.2.0/24 metric 7",)


def test_no_route_at_all_and_one_that_went_with_its_device():
    assert leaving_cause(hop(route=GONE)).object == {"kind": "route", "destination": FAR}
    asleep = Link(index=2, name="eth0", up=False, operstate="down")
    one = leaving_cause(hop(route=GONE, asleep=asleep))
    assert (one.code, one.confidence) == ("underlay.link-down", Confidence.LIKELY)
    assert one.remedy[0].commands == ("ip link set dev eth0 up",)


def test_a_card_without_a_carrier_is_no_setting():
    one = leaving_cause(hop(link=Link(index=2, name="eth0", up=True, operstate="lowerlayerdown")))
    assert (one.code, one.confidence, one.remedy) == ("underlay.link-down", Confidence.PROVEN, ())
    assert receiver_down_cause("far", facts(), "no-such-device") is None


@pytest.mark.parametrize(("asked", "sure"), [(True, Confidence.PROVEN), (False, Confidence.LIKELY)])
def test_a_next_hop_that_does_not_answer(asked, sure):
    route = RouteChoice(device="eth0", gateway="192.0.2.254")
    one = leaving_cause(hop(route=route, unanswered=True, asked=asked, macs=()))
    assert (one.code, one.object["address"], one.confidence) == ("underlay.neighbour", "192.0.2.254", sure)


def test_a_wrong_entry_is_one_that_another_address_answers_for():
    one = pinned_cause(hop(entry=pinned(OTHER)), known=(OWN,))
    assert (one.object["mac"], one.object["expected"], one.confidence) == (OTHER, OWN, Confidence.PROVEN)
    assert one.remedy[0].undo == (f"ip neigh replace {FAR} lladdr {OTHER} dev eth0 nud permanent",)


@pytest.mark.parametrize(
    "fields",
    [
        {"entry": pinned(OWN)},
        {"entry": pinned(OTHER, ("stale",))},
        {"entry": pinned(OTHER), "macs": ()},
        {"entry": pinned(OTHER), "macs": (OWN, OTHER)},
        {"entry": None},
    ],
    ids=["right", "not by hand", "nobody answers", "answers too", "none"],
)
def test_entries_that_are_not_proven_wrong(fields):
    assert pinned_cause(hop(**fields), known=(OWN,)) is None


def test_two_machines_with_one_address():
    one = duplicate_cause(hop(macs=(OTHER, OWN)), "far", (OWN,), router_mac=ROUTER)
    assert (one.code, one.object["address"], one.object["macs"]) == ("underlay.duplicate-address", FAR, [OWN, OTHER])


@pytest.mark.parametrize(
    ("macs", "known", "route"),
    [
        ((OWN,), (OWN,), None),
        ((OWN, OTHER), (OWN, OTHER), None),
        ((OWN, ROUTER), (OWN,), None),
        ((OTHER,), (OWN,), None),
        ((OTHER, OWN), (OWN,), RouteChoice(device="eth0", gateway="192.0.2.254")),
        ((), (OWN,), None),
    ],
    ids=["one", "two cards of one host", "proxy ARP of the router", "only another", "behind a router", "nobody"],
)
def test_answers_that_are_no_duplicate(macs, known, route):
    given = hop(macs=macs, **({"route": route} if route else {}))
    assert duplicate_cause(given, "far", known, router_mac=ROUTER) is None


FLOW = Flow(
    kind=PathKind.HOST,
    source=End(host="near", address="192.0.2.1", host_address="192.0.2.1"),
    destination=End(host="far", address=FAR, host_address=FAR),
    protocol="tcp",
    places=(),
)


def echoed(way, left, seen, answer, back):
    return SidedProbe(
        number=1,
        way=way,
        protocol="icmp",
        left_devices=left,
        seen_devices=seen,
        answer_devices=answer,
        back_devices=back,
    )


def test_answers_by_another_device():
    one = asymmetric_cause(FLOW, [echoed(Way.THERE, ("eth0",), ("eth0",), ("eth1",), ("eth1",))])
    assert (one.code, one.host, one.object["from"]) == ("underlay.asymmetric", "far", FAR)
    assert (one.object["in_device"], one.object["out_device"]) == ("eth0", "eth1")


def test_what_the_other_host_sends_tells_as_much_as_its_answers():
    probes = [
        echoed(Way.THERE, ("eth0",), ("eth0",), (), ()),
        echoed(Way.BACK, ("eth1",), ("eth0",), ("eth0",), ()),
    ]
    assert asymmetric_cause(FLOW, probes).host == "far"


@pytest.mark.parametrize(
    "devices",
    [
        (("eth0",), ("eth0",), ("eth0",), ("eth0",)),
        (("eth0",), ("eth0", "vlan5"), ("vlan5",), ("eth0",)),
        (("eth0",), ("eth0",), (), ()),
        (("eth0",), (), (), ()),
    ],
    ids=["one", "a VLAN on the card", "no answer", "never came"],
)
def test_ways_that_do_not_differ(devices):
    assert asymmetric_cause(FLOW, [echoed(Way.THERE, *devices)]) is None


def test_the_direction_of_the_object_is_that_of_the_answers():
    one = asymmetric_cause(FLOW, [echoed(Way.THERE, ("eth0",), ("eth0",), ("eth0",), ("eth1",))])
    assert (one.host, one.object["from"]) == ("near", "192.0.2.1")
