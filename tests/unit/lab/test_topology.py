"""Topologies: what is accepted, and that a mistake is named."""

import pytest

from netdiag.errors import UsageError
from netdiag.lab.topology import SwarmRole, load_topology, parse_topology, topology_names

TWO = '[[host]]\nname = "a"\n[[host]]\nname = "b"\n'


def test_hosts_are_numbered_in_the_order_of_the_file():
    topology = parse_topology(TWO, "x")
    assert [str(topology.uplinks(name)[0].address) for name in "ab"] == ["10.71.0.1/24", "10.71.0.2/24"]
    assert topology.name == "x"


def test_two_networks_give_two_interfaces_and_an_address_may_be_chosen():
    text = (
        '[[network]]\nname = "lan"\n[[network]]\nname = "back"\nsubnet = "192.0.2.0/28"\nmtu = 9000\n'
        '[[host]]\nname = "a"\nnetworks = ["lan", "back"]\naddresses = { back = "192.0.2.9" }\n'
    )
    lan, back = parse_topology(text, "x").uplinks("a")
    assert (lan.interface, str(lan.address)) == ("eth0", "10.71.0.1/24")
    assert (back.interface, str(back.address), back.network.mtu) == ("eth1", "192.0.2.9/28", 9000)


@pytest.mark.parametrize("name", topology_names())
def test_every_shipped_topology_reads_and_says_what_it_is(name):
    topology = load_topology(name)
    assert topology.description
    assert topology.name == name


def test_the_shipped_topologies_are_those_that_tests_rely_on():
    assert set(topology_names()) >= {"pair", "story1", "swarm2", "swarm3"}
    story = load_topology("story1")
    assert [host.hostname for host in story.host] == ["localhost.localdomain"] * 2
    assert story.plan("manager").swarm is SwarmRole.MANAGER
    assert story.plan("worker").swarm is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("host = 1", "host"),
        ("[[host]\n", "topology x"),
        ("description = 'none'", "host"),
        ("host = []", "no [[host]]"),
        ('[[host]]\nname = "a"\nengines = true', "engines"),
        ('[[host]]\nname = "a"\nengine = "yes"', "$.host[0].engine"),
        ('[[host]]\nname = "a"\nengine = true\nswarm = "boss"', "boss"),
        ('[[host]]\nname = "a"\nswarm = "manager"', "engine = true"),
        ('[[host]]\nname = "a"\nengine = true\nswarm = "worker"', 'swarm = "manager"'),
        ('[[host]]\nname = "a"\nengine = true\nimages = ["nginx"]', "nginx"),
        ('[[host]]\nname = "A b"', "A b"),
        ('[[host]]\nname = "fabric"', "fabric"),
        ('[[host]]\nname = "a"\n[[host]]\nname = "a"', "two hosts"),
        ('[[host]]\nname = "a"\nhostname = "-x"', "-x"),
        ('[[host]]\nname = "a"\nnetworks = ["lam"]', "did you mean lan"),
        ('[[host]]\nname = "a"\naddresses = { lan = "10.9.0.1" }', "10.9.0.1"),
        ('[[host]]\nname = "a"\naddresses = { lan = "ten" }', "ten"),
        ('[[host]]\nname = "a"\n[[host]]\nname = "b"\naddresses = { lan = "10.71.0.1" }', "10.71.0.1 is a's"),
        ('[[network]]\nsubnet = "10.71.0.1/24"\n' + TWO, "10.71.0.1/24"),
        ("[[network]]\nmtu = 100\n" + TWO, "mtu 100"),
        ('[[network]]\nname = "x y"\n' + TWO, "x y"),
        ("[[network]]\n[[network]]\n" + TWO, "two networks"),
        ('[[network]]\nsubnet = "192.0.2.0/30"\n' + TWO, "192.0.2.0/30 has no room"),
        ('[[host]]\nname = "a"\naddresses = { lan = "10.71.0.254" }', "10.71.0.254 is the fabric's"),
    ],
)
def test_a_mistake_is_named(text, named):
    with pytest.raises(UsageError) as raised:
        parse_topology(text, "x")
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_topology_gets_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean swarm"):
        load_topology("swarm22")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"mine\.toml: No such file"):
        load_topology(tmp_path / "mine.toml")


def test_a_file_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text(TWO)
    assert load_topology(tmp_path / "mine.toml").name == "mine"
