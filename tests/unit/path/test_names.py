"""What an operator types for an end, and what it means."""

import msgspec
import pytest

from netdiag.errors import NotKnown, UsageError
from netdiag.model.engine import Container, ContainerNetwork, Engine, SwarmMembership, SwarmState
from netdiag.model.facts import Absence, AbsenceKind, Address, Facts, Identity, Namespace, Section
from netdiag.path.names import find_container, is_host, parse_end, unknown_name


def container(name, identity="a" * 64, running=True, address="10.0.1.2", service=""):
    attached = ContainerNetwork(network="app", network_id="n1", address=address)
    return Container(id=identity, name=name, running=running, networks=(attached,), service=service)


def facts(*containers):
    swarm = SwarmMembership(state=SwarmState.ACTIVE)
    return Facts(
        collected_s=1.0,
        identity=Section(value=Identity(hostname="node-a.example.org", kernel_release="6.8", is_root=True)),
        addresses=Section(value={"host": (Address(device="eth0", cidr="192.0.2.1/24"),)}),
        engine=Section(value=Engine(version="28.0.0", swarm=swarm, containers=containers)),
    )


@pytest.mark.parametrize(
    ("text", "host", "name", "port", "protocol"),
    [
        ("web", "", "web", None, "tcp"),
        ("web:80", "", "web", 80, "tcp"),
        ("web:53/udp", "", "web", 53, "udp"),
        ("host-b/web:80", "host-b", "web", 80, "tcp"),
        ("host-b/web:53/UDP", "host-b", "web", 53, "udp"),
        ("192.0.2.7:22", "", "192.0.2.7", 22, "tcp"),
        ("[fd00::1]:22", "", "fd00::1", 22, "tcp"),
        ("[fd00::1]/web.1.abc:22", "fd00::1", "web.1.abc", 22, "tcp"),
    ],
)
def test_an_end(text, host, name, port, protocol):
    typed = parse_end(text, what="DESTINATION")
    assert (typed.host, typed.name, typed.port, typed.protocol) == (host, name, port, protocol)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web:0", "1 to 65535"),
        ("web:99999", "1 to 65535"),
        ("web:http", "1 to 65535"),
        ("web:80/sctp", "sctp is not tcp or udp"),
        ("", "give NAME"),
        ("a/b/c", "give NAME"),
        ("web web", "give NAME"),
    ],
)
def test_what_is_no_end(text, said):
    with pytest.raises(UsageError, match=said):
        parse_end(text, what="DESTINATION")


@pytest.mark.parametrize("name", ["web", "aaaaaa", "10.0.1.2", "shop"])
def test_a_container_by_any_of_its_names(name):
    assert find_container(facts(container("web", service="shop")), name).name == "web"


def test_a_task_by_its_short_name_and_the_one_that_runs():
    old = container("web.1.old", "b" * 64, running=False, address="")
    assert find_container(facts(old, container("web.1.new", address="")), "web.1").name == "web.1.new"


def test_several_are_named():
    both = facts(container("web.1.x", service="web"), container("web.2.y", "b" * 64, address="", service="web"))
    with pytest.raises(UsageError, match=r"fits web\.1\.x, web\.2\.y"):
        find_container(both, "web")


def test_a_host_by_its_names():
    here = facts()
    for name in ("localhost", "node-a.example.org", "node-a", "192.0.2.1"):
        assert is_host(here, name)
    assert not is_host(here, "node-b")
    assert not is_host(here, "")


def test_the_nearest_names():
    assert "did you mean web?" in str(unknown_name("wbe", "SOURCE", [facts(container("web"))]))


def silent(kind):
    """A host whose engine could not be asked, and on which a container runs all the same."""
    space = Namespace(id="container:0123456789ab", path="/proc/7/ns/net", inode=9, owner="0123456789ab", pids=(7,))
    space = msgspec.structs.replace(space, owner_id="0123456789ab" + "c" * 52)
    return msgspec.structs.replace(
        facts(),
        engine=Section(absent=Absence(kind=kind, text="/run/docker.sock: no answer within 3 s")),
        namespaces=Section(value={space.id: space}),
    )


@pytest.mark.parametrize("kind", [AbsenceKind.TIMEOUT, AbsenceKind.PERMISSION, AbsenceKind.FAILED])
def test_a_name_is_not_unknown_where_the_engine_is_silent(kind):
    error = unknown_name("web", "SOURCE", [silent(kind)])
    assert isinstance(error, NotKnown)
    assert "could not be asked: /run/docker.sock" in str(error)


def test_a_host_without_an_engine_has_no_containers():
    assert isinstance(unknown_name("web", "SOURCE", [silent(AbsenceKind.MISSING)]), UsageError)


def test_without_its_engine_a_container_is_found_by_its_id():
    found = find_container(silent(AbsenceKind.TIMEOUT), "0123456789ab")
    assert (found.id[:12], found.pid, found.running) == ("0123456789ab", 7, True)
    assert find_container(silent(AbsenceKind.TIMEOUT), "web") is None
