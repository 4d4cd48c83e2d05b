"""By which of its addresses a host is reached, where nobody typed one."""

import msgspec
import pytest

from netdiag.model.facts import Address, Link, Section
from netdiag.path.outward import outward_address
from tests.unit.path.facts_of import facts


def addressed(*rows):
    """A host with these devices: name, address and link kind."""
    links = tuple(
        Link(index=number, name=name, kind=kind, loopback=name == "lo") for number, (name, _, kind) in enumerate(rows)
    )
    addresses = tuple(Address(device=name, cidr=cidr) for name, cidr, _ in rows)
    return msgspec.structs.replace(
        facts(), links=Section(value={"host": links}), addresses=Section(value={"host": addresses})
    )


CARD = ("eth0", "192.0.2.7/24", "")


@pytest.mark.parametrize(
    "other",
    [
        ("lo", "10.99.0.1/32", ""),
        ("docker0", "172.17.0.1/16", "bridge"),
        ("br-0123456789ab", "172.18.0.1/16", "bridge"),
        ("virbr0", "192.168.122.1/24", "bridge"),
        ("cni0", "10.244.0.1/24", "bridge"),
        ("dummy0", "10.98.0.1/32", "dummy"),
    ],
)
def test_a_network_card_before_what_leads_inside(other):
    assert outward_address(addressed(other, CARD)) == "192.0.2.7"
    assert outward_address(addressed(other)) == ""


def test_the_card_of_a_host_that_is_a_container_itself():
    assert outward_address(addressed(("eth0", "192.0.2.7/24", "veth"))) == "192.0.2.7"


def test_a_bridge_that_holds_the_card():
    assert outward_address(addressed(("br0", "192.0.2.7/24", "bridge"))) == "192.0.2.7"


def test_of_several_the_one_on_a_network_of_the_other():
    own = addressed(("eth0", "198.51.100.7/24", ""), ("eth1", "192.0.2.7/24", ""))
    assert outward_address(own) == "198.51.100.7"
    assert outward_address(own, addressed(("eth0", "192.0.2.1/24", ""))) == "192.0.2.7"
