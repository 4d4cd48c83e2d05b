"""Two names of one host are told from two hosts that have something in common."""

import pytest

from netdiag.host.meet import same_host
from netdiag.model.facts import HOST, Address, Identity
from tests.unit.checks.factory import absent, facts

A, B, VIRTUAL = "192.0.2.10", "192.0.2.11", "192.0.2.99"
ONE, OTHER = {"machine_id": "m1", "boot_id": "b1"}, {"machine_id": "m2", "boot_id": "b2"}
UNKNOWN = {}


def host(ids, *addresses):
    rows = tuple(Address(device="eth0", cidr=f"{each}/24") for each in addresses)
    return facts(identity=Identity(hostname="localhost", **ids), addresses={HOST: rows})


@pytest.mark.parametrize(
    ("one", "at", "other", "other_at", "same"),
    [
        (host(ONE, A), A, host(ONE, A), A, True),
        (host(ONE, A, B), A, host(ONE, A, B), B, True),
        (host(ONE, A), A, host(ONE, A), VIRTUAL, True),
        (host(UNKNOWN, A), A, host(UNKNOWN, A), VIRTUAL, True),
        (host(ONE, A), A, host(ONE, B), B, False),
        (host(UNKNOWN, A), A, host(UNKNOWN, B), B, False),
        (host(ONE, A, VIRTUAL), VIRTUAL, host(OTHER, B), B, False),
        (host(ONE, A, VIRTUAL), VIRTUAL, host(OTHER, B, VIRTUAL), VIRTUAL, False),
        (host(ONE, A), A, host(OTHER, A), A, False),
        (host({"machine_id": "m1"}, A), A, host({"machine_id": "m1", "boot_id": "b2"}, A), VIRTUAL, True),
    ],
    ids=[
        *("one address", "two addresses", "a translated address", "without ids"),
        *("a clone with its ids", "two without ids", "virtual address", "virtual address moves", "duplicate address"),
        "machine-id alone",
    ],
)
def test_one_host_or_two(one, at, other, other_at, same):
    assert same_host(one, at, other, other_at) is same
    assert same_host(other, other_at, one, at) is same


def test_without_addresses_nobody_is_anybody():
    assert not same_host(facts(addresses=absent()), A, facts(addresses=absent()), B)
