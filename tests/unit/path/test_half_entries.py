"""The overlay's tables against what one host alone knows: never a blame where another reading is left."""

import msgspec
import pytest

from netdiag.model.engine import OverlayTask
from netdiag.model.facts import FdbEntry, Link, Neighbour, Section, Vxlan
from netdiag.model.path import Direction, End, Loss, PathKind, Place, Side, Sight, Stage, Way
from netdiag.model.report import Confidence
from netdiag.path.half_entries import as_it_came, came_from_elsewhere, own_entry_causes, went_elsewhere
from netdiag.path.ways import Host
from tests.unit.path.facts_of import facts, overlay

HERE, THERE, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
NAMESPACE, ADDRESS = "overlay:app", "10.0.1.6"
MADE, CHOSEN, BALANCER = "02:42:0a:00:01:06", "02:11:22:33:44:55", "02:42:0a:00:01:07"
NETWORK = msgspec.structs.replace(overlay(), vnis=(4097,), tasks=())
WAY = Way(
    kind=PathKind.OVERLAY,
    source=End(host="near", container="web", address="10.0.1.3", host_address=HERE),
    destination=End(host="far", container="db", address=ADDRESS, host_address=THERE),
    protocol="tcp",
    port=22,
    places=(),
    vxlan_port=4789,
)


def host(neighbour, *fdb):
    """A host whose tables know the container by a link address (None: not at all), and those behind which hosts."""
    one = facts()
    links = {
        **one.links.value,
        NAMESPACE: (Link(index=9, name="vxlan0", kind="vxlan", vxlan=Vxlan(vni=4097, port=4789)),),
    }
    rows = (Neighbour(device="vxlan0", address=ADDRESS, mac=neighbour),) if neighbour else ()
    entries = tuple(FdbEntry(device="vxlan0", mac=mac, vtep=vtep) for mac, vtep in fdb)
    known = msgspec.structs.replace(
        one,
        links=Section(value=links),
        neighbours=Section(value={NAMESPACE: rows}),
        fdb=Section(value={NAMESPACE: entries}),
    )
    return Host(name="near", facts=known)


def said(one, *, heard=True, network=NETWORK):
    return [(each.code, each.confidence) for each in own_entry_causes(WAY, one, Side.SOURCE, network, heard=heard)]


AT_BALANCER = (BALANCER, THERE)
"""Every node has a load balancer in the network: so it is known that the other host's tunnels end there."""


@pytest.mark.parametrize(
    "one",
    [
        host(MADE, (MADE, THERE), AT_BALANCER),
        host(CHOSEN, (CHOSEN, THERE), AT_BALANCER),
        host(MADE, (MADE, "198.51.100.2"), (BALANCER, "198.51.100.2")),
    ],
    ids=["as it should be", "an address that somebody chose", "a data path of its own"],
)
def test_entries_that_lead_there(one):
    assert said(one) == []


def test_an_entry_that_leads_to_another_host_is_likely_until_the_other_side_says_so():
    one = host(MADE, (MADE, OTHER), AT_BALANCER)
    assert said(one) == [("overlay.fdb-stale", Confidence.LIKELY)]
    listed = OverlayTask(service="", name="db", endpoint_id="", address=f"{ADDRESS}/24", host_address=THERE)
    network = msgspec.structs.replace(NETWORK, tasks=(listed,))
    assert said(one, network=network) == [("overlay.fdb-stale", Confidence.PROVEN)]
    (found,) = own_entry_causes(WAY, one, Side.SOURCE, network, heard=True)
    assert (found.object["vtep"], found.object["expected"]) == (OTHER, THERE)
    assert THERE in found.remedy[0].commands[0]


def test_an_entry_that_is_missing():
    assert said(host(MADE, AT_BALANCER)) == [("overlay.fdb-missing", Confidence.PROVEN)]
    assert said(host(None, AT_BALANCER)) == [("overlay.neighbour", Confidence.LIKELY)]
    assert said(host(CHOSEN, (MADE, THERE), AT_BALANCER)) == [("overlay.neighbour", Confidence.LIKELY)]


def test_of_a_container_that_the_engine_has_not_heard_of_no_entry_is_missing():
    assert said(host(None, AT_BALANCER), heard=False) == []
    assert said(host(MADE, AT_BALANCER), heard=False) == []


def test_tables_that_could_not_be_read_say_nothing():
    one = host(None)
    unread = msgspec.structs.replace(one.facts, fdb=facts().fdb)
    assert said(msgspec.structs.replace(one, facts=unread)) == []


@pytest.mark.parametrize(
    ("side", "targets", "elsewhere"),
    [
        (Side.SOURCE, {"outer_targets": (OTHER,)}, True),
        (Side.SOURCE, {"outer_targets": (THERE,)}, False),
        (Side.SOURCE, {}, False),
        (Side.DESTINATION, {"back_outer_targets": (OTHER,)}, True),
        (Side.DESTINATION, {"outer_targets": (THERE,), "back_outer_targets": (HERE,)}, False),
    ],
)
def test_whether_packets_left_for_another_host(side, targets, elsewhere):
    nic = Place(side=side, stage=Stage.NIC, namespace="host", device="eth0", a="", b="", vxlan_port=4789, where="eth0")
    assert went_elsewhere(WAY, side, (Sight(place=nic, there=1, **targets),)) is elsewhere


def card(side, **seen):
    place = Place(
        side=side, stage=Stage.NIC, namespace="host", device="eth0", a="", b="", vxlan_port=4789, where="eth0"
    )
    return Sight(place=place, there=1, **seen)


def test_an_entry_is_stale_for_certain_where_packets_come_from_the_host_that_it_should_lead_to():
    (found,) = own_entry_causes(WAY, host(MADE, (MADE, OTHER), AT_BALANCER), Side.SOURCE, NETWORK, heard=True)
    seen = card(Side.SOURCE, back_outer_sources=(THERE,))
    assert as_it_came(WAY, Side.SOURCE, (seen,), found).confidence is Confidence.PROVEN
    seen = card(Side.SOURCE, back_outer_sources=("192.0.2.9",))
    assert as_it_came(WAY, Side.SOURCE, (seen,), found).confidence is Confidence.LIKELY


@pytest.mark.parametrize(
    ("source", "said"), [(HERE, ""), ("192.0.2.9", f"from 192.0.2.9, and this host knows it behind {HERE}")]
)
def test_what_comes_from_another_host_than_is_known_here_is_said_and_blamed_on_nobody(source, said):
    seen = card(Side.DESTINATION, outer_sources=(source,))
    loss = Loss(direction=Direction.THERE, last=seen.place, next=None)
    assert came_from_elsewhere(WAY, Side.DESTINATION, loss, (seen,)).endswith(said)
    assert bool(came_from_elsewhere(WAY, Side.DESTINATION, loss, (seen,))) is bool(said)
