"""A foreign VXLAN device of an overlay's number, and overlay packets that come from another address."""

import msgspec
import pytest

from netdiag.model.facts import Link, Section, Vxlan
from netdiag.model.path import Direction, End, Loss, Side, Sight, Stage
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Confidence
from netdiag.path.entries import received_causes, source_remedy
from netdiag.path.vni import vni_cause
from netdiag.path.ways import Host
from tests.unit.path.facts_of import facts, overlay
from tests.unit.path.test_between import OVERLAY, A

END = End(host="near", container="web", address="10.0.1.2")
APP = msgspec.structs.replace(overlay(), vnis=(4097,))


def device(name, vni=4097, port=4789):
    return Link(index=9, name=name, kind="vxlan", vxlan=Vxlan(vni=vni, port=port))


def near(**namespaces):
    one = facts()
    links = {**one.links.value, **{key.replace("_", ":"): tuple(rows) for key, rows in namespaces.items()}}
    return Host(name="near", facts=msgspec.structs.replace(one, links=Section(value=links)), nic="eth0")


@pytest.mark.parametrize("namespace", ["host", "netns_other", "overlay_gone"])
def test_the_number_is_taken_and_the_overlay_has_no_device(namespace):
    one = vni_cause(OVERLAY, near(overlay_app=[], **{namespace: [device("foreign0")]}), END, APP)
    assert (one.code, one.host, one.confidence) == ("overlay.vni-conflict", "near", Confidence.PROVEN)
    assert (one.object["name"], one.object["namespace"], one.object["vni"]) == (
        "foreign0",
        namespace.replace("_", ":"),
        4097,
    )
    assert one.remedy[0].commands[1] == "docker restart web"


@pytest.mark.parametrize(
    "namespaces",
    [
        {"overlay_app": [device("vxlan0")], "netns_other": [device("foreign0")]},
        {"overlay_app": [], "host": [device("foreign0", port=4790)]},
        {"overlay_app": [], "host": [device("foreign0", vni=4098)]},
        {"overlay_app": []},
        {"host": [device("foreign0")]},
    ],
    ids=["the overlay has its own", "another port", "another number", "none", "the overlay is not here"],
)
def test_what_is_no_conflict(namespaces):
    assert vni_cause(OVERLAY, near(**namespaces), END, APP) is None


def test_an_unknown_number_is_nobody_s():
    assert vni_cause(OVERLAY, near(overlay_app=[], host=[device("x")]), END, overlay()) is None
    assert vni_cause(OVERLAY, near(overlay_app=[], host=[device("x")]), END, None) is None


def judged(left, came, direction=Direction.THERE):
    cards = {place.side: place for place in OVERLAY.places}
    field = "outer_sources" if direction is Direction.THERE else "back_outer_sources"
    sender, receiver = (Side.SOURCE, Side.DESTINATION)
    if direction is Direction.BACK:
        sender, receiver = receiver, sender
    sights = (
        Sight(place=cards[sender], **{field: left}),
        Sight(place=cards[receiver], **{field: came}),
    )
    loss = Loss(direction=direction, last=cards[receiver], next=None)
    assert cards[receiver].stage is Stage.NIC
    return list(received_causes(OVERLAY, loss, near(), near(), APP, sights))


@pytest.mark.parametrize("direction", Direction)
def test_a_source_that_is_expected_explains_nothing(direction):
    own = A if direction is Direction.THERE else OVERLAY.destination.host_address
    assert judged((own,), (own,), direction) == []
    assert judged((own,), (), direction) == []


@pytest.mark.parametrize("direction", Direction)
def test_another_source_that_leaves_so_and_one_that_is_made_on_the_way(direction):
    own = A if direction is Direction.THERE else OVERLAY.destination.host_address
    (one,) = judged(("192.0.2.7",), ("192.0.2.7",), direction)
    assert (one.code, one.object["address"], one.object["expected"]) == ("overlay.vtep-source", "192.0.2.7", own)
    assert one.confidence is Confidence.PROVEN
    (one,) = judged((own,), ("192.0.2.7",), direction)
    assert (one.code, one.object["before"], one.object["after"]) == ("underlay.nat", own, "192.0.2.7")
    (one,) = judged((), ("192.0.2.7",), direction)
    assert (one.code, one.confidence) == ("overlay.vtep-source", Confidence.LIKELY)


def test_the_remedy_is_a_route_with_the_source():
    (one,) = judged(("192.0.2.7",), ("192.0.2.7",))
    (remedy,) = source_remedy(one, "192.0.2.2", RouteChoice(device="eth0", gateway="192.0.2.254"), host="near")
    assert remedy.commands == ("ip route add 192.0.2.2 via 192.0.2.254 dev eth0 src 192.0.2.1",)
    assert source_remedy(one, "192.0.2.2", RouteChoice(), host="near") == ()
