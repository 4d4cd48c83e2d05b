import pytest

from netdiag.model.facts import HOST, Address, Identity, Link
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    MANAGER,
    OTHER,
    OWN,
    context,
    engine,
    found,
    manager_engine,
    member,
    node,
    only,
    probe,
)

J, N, T = Need.JOIN, Need.NAMES, Need.TRAFFIC
LIKELY, POSSIBLE, PROVEN = Confidence.LIKELY, Confidence.POSSIBLE, Confidence.PROVEN
NO, OPEN = Answer.NO, Answer.UNKNOWN
PUBLIC = "8.8.8.8"


@pytest.mark.parametrize(
    ("options", "state", "answers", "confidence"),
    [
        pytest.param({"advertise_address": OWN}, State.OK, {}, None, id="own address"),
        pytest.param({"advertise_address": f"{OWN}:2377"}, State.OK, {}, None, id="with a port"),
        pytest.param({"advertise_address": "eth0"}, State.OK, {}, None, id="device"),
        pytest.param({"advertise_address": "10.9.9.9"}, State.WARN, {N: NO, T: NO}, LIKELY, id="foreign"),
        pytest.param({"advertise_address": "eth9"}, State.WARN, {N: NO, T: NO}, LIKELY, id="no such device"),
        pytest.param({"advertise_address": "10.9.9.9", "manager_role": True}, State.FAIL, {J: NO, N: NO, T: NO}, LIKELY, id="foreign, manager"),
        pytest.param({"data_path_address": "10.9.9.9", "manager_role": True}, State.WARN, {T: NO}, LIKELY, id="data path only"),
        pytest.param({"advertise_address": PUBLIC}, State.WARN, {N: OPEN, T: OPEN}, POSSIBLE, id="public, perhaps mapped"),
        pytest.param({"advertise_address": PUBLIC, "manager_role": True}, State.WARN, {J: OPEN, N: OPEN, T: OPEN}, POSSIBLE, id="public, manager"),
        pytest.param({"advertise_address": "10.1.1.1"}, State.WARN, {T: NO}, LIKELY, id="own, but not the route's source"),
        pytest.param({"advertise_address": "[2001:DB8::20]:2377"}, State.WARN, {T: NO}, LIKELY, id="IPv6 in another spelling"),
    ],
)  # fmt: skip
def test_advertised(options, state, answers, confidence):
    addresses = {
        HOST: (
            Address(device="eth0", cidr=f"{OWN}/24"),
            Address(device="eth0", cidr="2001:db8::20/64"),
            Address(device="eth1", cidr="10.1.1.1/24"),
        )
    }
    one = only("swarm.address.advertise", context(probe(), options=options, addresses=addresses))
    assert (one.state, one.answers) == (state, answers)
    if confidence:
        assert (one.cause.code, one.cause.confidence, one.cause.object["expected"]) == (
            "swarm.advertise-address",
            confidence,
            OWN,
        )
        assert OWN in one.cause.remedy[0].commands[0]


def test_vxlan_follows_the_data_path_address():
    addresses = {HOST: (Address(device="eth0", cidr=f"{OWN}/24"), Address(device="eth1", cidr="10.1.1.1/24"))}
    options = {"advertise_address": "10.1.1.1", "data_path_address": OWN}
    states = [
        one.state for one in found("swarm.address.advertise", context(probe(), options=options, addresses=addresses))
    ]
    assert states == [State.OK, State.OK]


def test_source():
    other = probe(given=OTHER, address=OTHER, route=RouteChoice(source="10.1.1.1", device="eth1"))
    assert only("swarm.address.source", context(probe())).state is State.OK
    two = only("swarm.address.source", context(probe(), other))
    assert (two.state, two.answers, two.cause.confidence) == (State.WARN, {}, POSSIBLE)
    assert two.cause.object["candidates"] == ["10.1.1.1", OWN]
    assert found("swarm.address.source", context(probe(), options={"advertise_address": OWN})) == ()


def links(*rows):
    return {
        HOST: tuple(Link(index=number, name=name, kind=kind, up=True) for number, (name, kind) in enumerate(rows, 1))
    }


def addresses(*rows):
    return {HOST: tuple(Address(device=device, cidr=cidr) for device, cidr in rows)}


@pytest.mark.parametrize(
    ("devices", "rows", "state", "told"),
    [
        pytest.param([("eth0", "")], [("eth0", "192.0.2.20/24")], State.OK, "192.0.2.20", id="one"),
        pytest.param([("eth0", "")], [("eth0", "192.0.2.20/24"), ("eth0", "2001:db8::2/64")], State.OK, "192.0.2.20", id="both families"),
        pytest.param([("eth0", "")], [("eth0", "2001:db8::2/64")], State.OK, "2001:db8::2", id="IPv6 only"),
        pytest.param([("eth0", ""), ("eth1", "")], [("eth0", "192.0.2.20/24"), ("eth1", "10.0.0.2/24")], State.FAIL, "several", id="two"),
        pytest.param([("eth0", ""), ("docker0", "bridge")], [("eth0", "192.0.2.20/24"), ("docker0", "172.17.0.1/16")], State.OK, "192.0.2.20", id="docker0"),
        pytest.param([("eth0", ""), ("virbr0", "bridge")], [("eth0", "192.0.2.20/24"), ("virbr0", "192.168.122.1/24")], State.OK, "192.0.2.20", id="a plain device first"),
        pytest.param([("br0", "bridge"), ("br-0123456789ab", "bridge")], [("br0", "192.0.2.20/24"), ("br-0123456789ab", "172.18.0.1/16")], State.OK, "192.0.2.20", id="a bridge as uplink"),
        pytest.param([("eth0", "veth")], [("eth0", "192.0.2.20/24")], State.OK, "192.0.2.20", id="a veth as uplink"),
        pytest.param([("eth0", "")], [], State.FAIL, "no address", id="none"),
    ],
)  # fmt: skip
def test_init_chooses_like_the_engine(devices, rows, state, told):
    ctx = context(options={"initialise": True}, links=links(*devices), addresses=addresses(*rows))
    one = only("swarm.address.source", ctx)
    assert one.state is state
    assert told in one.summary


@pytest.mark.parametrize(
    ("name", "eng", "state", "confidence"),
    [
        pytest.param("host-b", engine(), State.OK, None, id="a name of its own"),
        pytest.param("localhost.localdomain", engine(), State.WARN, POSSIBLE, id="an installer's"),
        pytest.param("", engine(), State.WARN, POSSIBLE, id="none"),
        pytest.param("host-c", manager_engine(node("host-c", OTHER)), State.WARN, PROVEN, id="a live node has it"),
        pytest.param(
            "host-c", manager_engine(node("host-c", OTHER, state="down")), State.OK, None, id="a dead record has it"
        ),
        pytest.param("host-b", manager_engine(), State.OK, None, id="its own record"),
    ],
)
def test_name(name, eng, state, confidence):
    one = only("host.name", context(probe(), identity=Identity(hostname=name), engine=eng))
    assert (one.state, one.answers, one.cause.confidence if one.cause else None) == (state, {}, confidence)
    if one.cause:
        assert one.cause.code == "host.name-duplicate"
        assert one.cause.remedy[0].commands[0] == "hostnamectl set-hostname node-20"


def test_a_name_made_of_an_ipv6_address_is_a_name():
    v6 = probe(route=RouteChoice(source="2001:db8::20", device="eth0"))
    one = only("host.name", context(v6, identity=Identity(hostname="localhost")))
    assert one.cause.remedy[0].commands[0] == "hostnamectl set-hostname node-20"


def test_whether_the_name_is_known_to_the_swarm_is_open():
    one = only("host.name.known", context(probe()))
    assert (one.state, one.answers, one.next[0].host) == (State.UNKNOWN, {}, MANAGER)
    assert found("host.name.known", context(probe(), engine=manager_engine())) == ()
    assert found("host.name.known", context(probe(), options={"initialise": True})) == ()
    assert only("host.name.known", context(probe(), engine=engine(swarm=member()))).state is State.UNKNOWN
