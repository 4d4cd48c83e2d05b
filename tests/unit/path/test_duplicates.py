"""One address, two containers: as running containers, as records of gossip, and as records that are only old."""

import msgspec
import pytest

from netdiag.model.engine import ContainerNetwork, OverlayTask
from netdiag.model.path import End
from netdiag.model.report import Confidence
from netdiag.path.duplicates import duplicate_cause
from tests.unit.path.facts_of import FAR, NEAR, container, facts, host, overlay

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
