"""What a device stands on, down to the wire."""

import pytest

from netdiag.facts.stacked import below
from netdiag.model.facts import Link

LINKS = (
    Link(index=1, name="lo", loopback=True),
    Link(index=2, name="eth0", master=4),
    Link(index=3, name="eth1", master=4),
    Link(index=4, name="bond0", kind="bond"),
    Link(index=5, name="bond0.7", kind="vlan", peer_index=4, master=6),
    Link(index=6, name="br0", kind="bridge"),
    Link(index=7, name="eth2", master=8),
    Link(index=8, name="red", kind="vrf"),
    Link(index=9, name="veth1", kind="veth", peer_index=2, master=6),
    Link(index=10, name="mac0", kind="macvlan", peer_index=2, peer_netnsid=3),
    Link(index=11, name="ovs-system", kind="openvswitch"),
    Link(index=12, name="eth3", master=11),
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("br0", {"bond0.7", "veth1", "bond0", "eth0", "eth1"}),
        ("bond0.7", {"bond0", "eth0", "eth1"}),
        ("eth0", set()),
        ("red", set()),
        ("mac0", set()),
        ("ovs-system", set()),
        ("absent", set()),
    ],
)
def test_below(name, found):
    assert set(below(LINKS, name)) == found
