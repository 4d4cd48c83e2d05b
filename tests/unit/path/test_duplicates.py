"""One address, two containers: as running containers, as records of gossip, and as records that are only old."""

import msgspec
import pytest

from netdiag.model.engine import ContainerNetwork, OverlayTask
from netdiag.model.path import End, PathKind, Side, Sight, Stage, Way
from netdiag.model.report import Confidence
from netdiag.path.duplicates import answering_cause, duplicate_cause
from tests.unit.path.facts_of import FAR, NEAR, container, facts, host, overlay
from tests.unit.path.test_sights import place

ADDRESS, THIRD = "10.0.1.4", "192.0.2.3"
END = End(host="far", container="db", address=ADDRESS, network="app")


def with_address(name, endpoint, address=ADDRESS, *, running=True, network="app-id"):
    at = ContainerNetwork(network="app", network_id=network, endpoint_id=endpoint, address=address)
    return msgspec.structs.replace(container(name, at), running=running)


def record(endpoint, where, address=ADDRESS):
    return OverlayTask(
        service="", name="other", endpoint_id=endpoint, address=f"{address}/24", host_address=where
    )  # fmt: skip


def judged(near, far, *records):
    network = overlay(*records)
    hosts = [
        host(facts(*near, networks=(network,), own=NEAR)),
        host(facts(*far, networks=(network,), own=FAR, name="far"), name="far", nic_address=FAR),
    ]
    return duplicate_cause(END, network, hosts)


def test_two_running_containers():
    one = judged([with_address("web", "e1")], [with_address("db", "e2")])
    assert (one.code, one.host, one.confidence) == ("overlay.duplicate-endpoint", None, Confidence.PROVEN)
    assert one.object["address"] == ADDRESS
    assert one.object["others"] == ["db on far", "web on near"]


def test_one_of_them_is_known_from_gossip_only():
    one = judged([], [with_address("db", "e2")], record("e2", FAR), record("e3", THIRD))
    assert (one.confidence, one.object["others"]) == (Confidence.LIKELY, ["db on far", f"other on {THIRD}"])


@pytest.mark.parametrize(
    ("near", "records"),
    [
        ([], [record("e2", FAR)]),
        ([], [record("e2", FAR), record("old", FAR)]),
        ([with_address("web", "e1", running=False)], []),
        ([with_address("web", "e1", "10.0.1.5")], []),
        ([with_address("web", "e1", network="other-id")], []),
        ([], [record("e3", THIRD, "10.0.1.5")]),
        ([], [record("", THIRD)]),
    ],
    ids=[
        "its own record",
        "a record that its engine has no container for",
        "it has stopped",
        "another address",
        "another network",
        "a record of another address",
        "a record without an endpoint",
    ],
)
def test_an_address_that_is_one_s_alone(near, records):
    assert judged(near, [with_address("db", "e2")], *records) is None


TUNNELLED = Way(
    kind=PathKind.OVERLAY,
    source=End(host="near", container="front", address="10.0.1.2", host_address=NEAR),
    destination=msgspec.structs.replace(END, host="far", container="db", host_address=FAR, network="app"),
    protocol="tcp",
    port=80,
    places=(),
)


def answered(target=THIRD, source=THIRD, there=0, back=2):
    nic = Sight(
        place=place(Stage.NIC, vxlan_port=4789),
        there=2,
        back=back,
        outer_targets=(target,),
        back_outer_sources=(source,),
    )
    return (nic, Sight(place=place(Stage.END, Side.DESTINATION), there=there))


def answering(seen):
    return answering_cause(TUNNELLED, seen, host(facts(own=NEAR)), host(facts(own=FAR), name="far", nic_address=FAR))


def test_an_answer_from_behind_a_third_host():
    one = answering(answered())
    assert (one.code, one.host, one.confidence) == ("overlay.duplicate-endpoint", None, Confidence.PROVEN)
    assert one.object["others"] == ["db on far", f"a container behind {THIRD}"]


@pytest.mark.parametrize(
    "seen",
    [answered(back=0), answered(there=2), answered(target=FAR, source=FAR), answered(target=FAR), answered()[:1]],
    ids=["nobody answers", "it arrives", "behind its own host", "translated on the way", "its end is not watched"],
)
def test_an_answer_that_says_nothing_of_a_second_container(seen):
    assert answering(seen) is None
