"""A swarm that this host has joined, and what its role changes."""

import pytest

from netdiag.model.engine import Cluster, Network, OverlayPeer, Service, SwarmState, Task
from netdiag.model.facts import HOST, Address
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    MANAGER,
    NOW_S,
    OTHER,
    OWN,
    blocked,
    context,
    engine,
    found,
    manager_engine,
    member,
    membership,
    node,
    only,
    probe,
)

J, N, T = Need.JOIN, Need.NAMES, Need.TRAFFIC
NO, OPEN = Answer.NO, Answer.UNKNOWN
HOST_C = node("host-c", OTHER)
OWN_NODE = node("host-b", OWN, id="own0node", role="manager", reachability="reachable", leader=True)


def verified(check, eng, options=None, **sections):
    return found(check, context(options={"need": T, **(options or {})}, engine=eng, **sections))


def states(said):
    return [one.state for one in said]


# --- membership ---


def test_no_member():
    (one,) = verified("swarm.verify.member", engine(swarm=membership(SwarmState.PENDING)))
    assert (one.state, set(one.answers.values())) == (State.FAIL, {NO})


@pytest.mark.parametrize(
    ("address", "state", "answers", "confidence"),
    [
        pytest.param(OWN, None, {}, None, id="own"),
        pytest.param("192.0.2.99", State.FAIL, {N: NO, T: NO}, Confidence.PROVEN, id="foreign"),
        pytest.param("8.8.8.8", State.WARN, {N: OPEN, T: OPEN}, Confidence.POSSIBLE, id="public, perhaps mapped"),
    ],
)
def test_the_address_of_this_node(address, state, answers, confidence):
    said = verified("swarm.verify.member", engine(swarm=member(node_address=address)))
    assert said[0].state is State.OK
    assert len(said) == (2 if state else 1)
    if state:
        assert (said[1].state, said[1].answers, said[1].cause.confidence) == (state, answers, confidence)


def test_an_ipv6_address_in_another_spelling_is_own():
    addresses = {HOST: (Address(device="eth0", cidr="2001:db8::20/64"),)}
    eng = engine(swarm=member(node_address="2001:DB8:0:0::20"))
    assert states(verified("swarm.verify.member", eng, addresses=addresses)) == [State.OK]


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        pytest.param({}, "docker swarm leave", id="worker"),
        pytest.param({"is_manager": True, "managers": 3}, "docker node demote own0node", id="one of several managers"),
        pytest.param(
            {"is_manager": True, "managers": 1}, "docker swarm init --force-new-cluster", id="the only manager"
        ),
    ],
)
def test_joining_anew_depends_on_the_role(fields, first):
    said = verified("swarm.verify.member", engine(swarm=member(node_address="192.0.2.99", **fields)))
    assert said[1].cause.remedy[0].commands[0].startswith(first)


# --- nodes ---


@pytest.mark.parametrize(
    ("dead", "confidence", "commands"),
    [
        pytest.param({"address": OTHER}, Confidence.PROVEN, ("docker node rm dead",), id="same name, same address"),
        pytest.param({"address": ""}, Confidence.POSSIBLE, ("docker node rm dead",), id="same name, address not known"),
        pytest.param({"address": "0.0.0.0"}, Confidence.POSSIBLE, ("docker node rm dead",), id="same name, no address"),
        pytest.param(
            {"address": OTHER, "role": "manager"}, Confidence.PROVEN, ("docker node demote dead", "docker node rm dead"), id="a manager's",
        ),
        pytest.param({"address": "192.0.2.31"}, None, (), id="same name, another machine"),
    ],
)  # fmt: skip
def test_a_dead_record(dead, confidence, commands):
    record = node("host-c", **{"id": "dead", "state": "down", **dead})
    said = verified("swarm.verify.nodes", manager_engine(HOST_C, record))
    assert [(one.state, one.answers) for one in said] == [(State.WARN, {}), (State.OK, {})]
    if confidence:
        assert (said[0].cause.code, said[0].cause.confidence) == ("swarm.stale-node", confidence)
        assert said[0].cause.remedy[0].commands == commands
    else:
        assert said[0].cause is None


def test_a_worker_has_no_list():
    (one,) = verified("swarm.verify.nodes", engine(swarm=member(remote_managers=("[2001:db8::1]:2377",))))
    assert (one.state, one.answers, one.next[0].host) == (State.UNKNOWN, {}, "2001:db8::1")
    assert verified("swarm.verify.nodes", engine()) == ()


def test_names():
    assert states(verified("swarm.verify.names", manager_engine(HOST_C))) == [State.OK]
    (twin,) = verified("swarm.verify.names", manager_engine(HOST_C, node("host-c", "192.0.2.31", id="x")))
    assert (twin.state, twin.answers, twin.cause.confidence) == (State.WARN, {}, Confidence.PROVEN)
    assert twin.cause.object["others"] == [OTHER, "192.0.2.31"]


def managers(*reachable):
    rows = [
        node(f"m{number}", f"192.0.2.{100 + number}", role="manager", reachability="reachable" if up else "unreachable")
        for number, up in enumerate(reachable)
    ]
    return manager_engine(cluster=Cluster(nodes=tuple(rows)))


@pytest.mark.parametrize(
    ("reachable", "state", "code"),
    [
        pytest.param((True,), State.OK, None, id="one"),
        pytest.param((True, True), State.WARN, "swarm.quorum-risk", id="two"),
        pytest.param((True, True, True), State.OK, None, id="three"),
        pytest.param((True, True, False), State.WARN, "swarm.quorum-risk", id="three, one lost"),
        pytest.param((True, False, False), State.FAIL, "swarm.quorum", id="three, two lost"),
    ],
)
def test_quorum(reachable, state, code):
    (one,) = verified("swarm.verify.quorum", managers(*reachable))
    assert (one.state, one.cause.code if one.cause else None) == (state, code)
    assert one.answers == ({J: NO} if code == "swarm.quorum" else {})


ENCRYPTED = (Network(id="n", name="n", driver="overlay", scope="swarm", encrypted=True),)


@pytest.mark.parametrize(
    ("version", "networks", "state", "answers", "confidence"),
    [
        pytest.param("29.8.1", (), State.OK, {}, None, id="same"),
        pytest.param("28.5.0", (), State.WARN, {}, Confidence.POSSIBLE, id="another major"),
        pytest.param("29.1.0", ENCRYPTED, State.FAIL, {T: NO}, Confidence.LIKELY, id="other IPsec indexes"),
        pytest.param("29.1.0", (), State.OK, {}, None, id="other indexes, nothing encrypted"),
    ],
)
def test_versions(version, networks, state, answers, confidence):
    (one,) = verified(
        "swarm.verify.versions", manager_engine(node("c", OTHER, engine_version=version), networks=networks)
    )
    assert (one.state, one.answers, one.cause.confidence if one.cause else None) == (state, answers, confidence)
    if one.cause:
        assert one.cause.host is None


# --- gossip and the data path ---


def ingress(*addresses):
    peers = tuple(OverlayPeer(name=str(number), address=address) for number, address in enumerate(addresses))
    return (Network(id="i", name="ingress", driver="overlay", scope="swarm", ingress=True, peers=peers),)


LEADER = node("host-a", "0.0.0.0", role="manager", manager_address=f"{MANAGER}:2377", reachability="reachable")


@pytest.mark.parametrize(
    ("eng", "expected"),
    [
        pytest.param(manager_engine(HOST_C), [(State.OK, {})], id="all known"),
        pytest.param(manager_engine(HOST_C, networks=ingress(OWN)), [(State.FAIL, {N: NO, T: NO})], id="one missing"),
        pytest.param(
            manager_engine(HOST_C, networks=ingress(OWN, "10.0.0.9")),
            [(State.UNKNOWN, {N: OPEN})],
            id="known by another address",
        ),
        pytest.param(
            manager_engine(LEADER, networks=ingress(OWN, MANAGER)),
            [(State.OK, {})],
            id="the leader shows no address of its own",
        ),
        pytest.param(manager_engine(HOST_C, networks=()), [(State.UNKNOWN, {N: OPEN})], id="no peers shown"),
        pytest.param(manager_engine(node("c", OTHER, state="down"), networks=ingress(OWN)), [], id="the other is down"),
        pytest.param(manager_engine(), [], id="alone"),
        pytest.param(
            engine(swarm=member(), networks=ingress(OWN, MANAGER)), [(State.OK, {})], id="worker that knows its manager"
        ),
        pytest.param(
            engine(swarm=member(), networks=ingress(OWN)), [(State.FAIL, {N: NO, T: NO})], id="worker that does not"
        ),
    ],
)
def test_gossip(eng, expected):
    said = verified("swarm.verify.peers", eng)
    assert [(one.state, one.answers) for one in said] == expected
    for one in said:
        if one.cause:
            assert (one.cause.code, one.cause.host, one.cause.confidence) == ("swarm.gossip", None, Confidence.LIKELY)
            assert one.next[0].command == f"netdiag verify swarm --peer {OWN}"


def test_the_data_path_is_never_known_from_one_side():
    (one,) = verified("swarm.verify.data", manager_engine(HOST_C))
    assert (one.state, one.answers) == (State.UNKNOWN, {T: OPEN})
    assert [(step.host, step.command) for step in one.next] == [(OTHER, f"netdiag verify swarm --peer {OWN}")]
    assert verified("swarm.verify.data", manager_engine()) == ()
    assert verified("swarm.verify.data", manager_engine(HOST_C), {"peers": (OTHER,)}) == ()


def test_many_nodes_are_asked_for_by_five():
    nodes = [node(f"n{number}", f"10.1.0.{number}") for number in range(9)]
    (one,) = verified("swarm.verify.data", manager_engine(*nodes))
    assert len(one.next) == 5
    assert "and 4 more" in one.summary


# --- what it runs ---


def with_tasks(*tasks, services=()):
    return manager_engine(HOST_C, cluster=Cluster(nodes=(OWN_NODE, HOST_C), tasks=tasks, services=services))


def task(state="rejected", error="No such image: web:1", image="web:1", **fields):
    return Task(
        **{
            "id": "t",
            "service": "web",
            "node_id": HOST_C.id,
            "desired": "running",
            "state": state,
            "error": error,
            "image": image,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        pytest.param((), [State.OK], id="no tasks"),
        pytest.param((task(), task(id="u")), [State.WARN], id="rejected twice"),
        pytest.param((task(desired="shutdown"), task("running", "")), [State.OK], id="rejected long ago"),
        pytest.param((task(error="exited with 1"),), [State.OK], id="failed for another reason"),
    ],
)
def test_tasks(tasks, expected):
    said = verified("swarm.verify.tasks", with_tasks(*tasks))
    assert states(said) == expected
    for one in said:
        if one.cause:
            assert (one.cause.code, one.cause.confidence, one.cause.object["name"]) == (
                "swarm.image-missing",
                Confidence.PROVEN,
                "web:1",
            )
            assert one.cause.remedy[0].commands == (f"docker save web:1 | ssh {OTHER} docker load",)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param("web:1", [State.UNKNOWN], id="tag"),
        pytest.param("web:1@sha256:" + "0" * 64, [State.OK], id="digest"),
    ],
)
def test_tags(image, expected):
    said = verified("swarm.verify.images", with_tasks(services=(Service(id="s", name="web", image=image, replicas=2),)))
    assert states(said) == expected
    assert said[0].answers == {}


def test_a_node_without_tasks_is_told_and_is_no_cause():
    running = task("running", "", node_id="own0node")
    (one,) = verified(
        "swarm.verify.balance", with_tasks(running, services=(Service(id="s", name="web", image="w", replicas=2),))
    )
    assert (one.state, one.evidence[0].data["code"], one.cause) == (State.OK, "swarm.not-rebalanced", None)


# --- roles ---


@pytest.mark.parametrize(
    ("eng", "state", "code"),
    [
        pytest.param(engine(), State.UNKNOWN, None, id="no list here"),
        pytest.param(managers(True), State.WARN, "swarm.quorum-risk", id="second of two"),
        pytest.param(managers(True, True), State.OK, None, id="third"),
        pytest.param(managers(True, True, True), State.OK, None, id="fourth"),
        pytest.param(managers(True, False, False), State.FAIL, "swarm.quorum", id="quorum lost"),
    ],
)
def test_one_manager_more(eng, state, code):
    one = only("swarm.quorum", context(probe(), options={"manager_role": True}, engine=eng))
    assert (one.state, one.cause.code if one.cause else None) == (state, code)


def test_workers_do_not_touch_the_quorum():
    assert found("swarm.quorum", context(probe())) == ()


@pytest.mark.parametrize(
    ("port", "state"),
    [
        pytest.param(None, State.OK, id="default"),
        pytest.param(80, State.FAIL, id="too low"),
        pytest.param(49152, State.FAIL, id="too high"),
    ],
)
def test_init(port, state):
    assert only("swarm.init.final", context(options={"initialise": True, "data_path_port": port})).state is state


@pytest.mark.parametrize(
    "one", [probe(), blocked(), blocked(route=None, tcp=None)], ids=["connected", "blocked", "not tried"]
)
def test_what_the_peers_let_in_is_asked_of_them(one):
    said = only("swarm.peer.inbound", context(one))
    assert (said.state, said.answers) == (State.UNKNOWN, {N: OPEN, T: OPEN})
    assert said.next[0].host == MANAGER
    assert said.next[0].command.startswith("netdiag verify swarm --peer ")
    assert "udp/4789" in said.summary


def test_a_node_that_joined_just_now_is_given_time():
    fresh = node("host-c", OTHER, created_s=NOW_S - 5)
    (one,) = verified("swarm.verify.peers", manager_engine(fresh, networks=ingress(OWN)))
    assert (one.state, one.answers, one.cause) == (State.UNKNOWN, {N: OPEN}, None)
    old = node("host-c", OTHER, created_s=NOW_S - 600)
    assert states(verified("swarm.verify.peers", manager_engine(old, networks=ingress(OWN)))) == [State.FAIL]


def test_of_two_hosts_of_one_name_the_worker_is_renamed():
    # The manager is listed last.
    twins = Cluster(nodes=(node("host-b", OTHER), node("host-b", OWN, id="own0node", role="manager")))
    one = only("swarm.verify.names", context(engine=manager_engine(cluster=twins)))
    assert [remedy.host for remedy in one.cause.remedy] == [OTHER]
