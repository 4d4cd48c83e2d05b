"""Names against what the engine knows, virtual IPs, the engine's missing chains, layers without a port."""

import msgspec
import pytest

from netdiag.facts.name_lookup import NameLookup
from netdiag.model.facts import Backend, Feature, FeatureState, Identity, Kernel, RuleSet, Section
from netdiag.model.path import End, PathKind
from netdiag.model.report import Confidence, State
from netdiag.path.another import untranslated_cause
from netdiag.path.docker_chains import missing_cause, missing_for
from netdiag.path.ends import Service
from netdiag.path.layers import open_ports, sizes_asked, sizes_found
from netdiag.path.routed import Leg, attachments, routed_way
from netdiag.path.told import addresses_found, balancer_found, name_found, task_founds, virtual_found
from netdiag.path.verdict import Attempt
from tests.unit.path.facts_of import FAR, NEAR, container, facts, host, listens, overlay, task

END = End(host="near", container="web", address="10.0.1.2")
TASKS = (task("db", 1, "10.0.1.5"), task("db", 2, "10.0.1.6"))
SERVICE = Service(name="db", network=overlay(*TASKS), virtual_address="10.0.1.4", tasks=TASKS)
YES, NO = (Attempt(answered=answered, refused=False, text="text") for answered in (True, False))


@pytest.mark.parametrize(
    ("addresses", "expected", "state"),
    [
        (("10.0.1.4",), ("10.0.1.4",), State.OK),
        (("10.0.1.6", "10.0.1.5"), ("10.0.1.5",), State.OK),
        (("203.0.113.9",), (), State.OK),
        (("10.0.1.99",), ("10.0.1.4",), State.FAIL),
        ((), ("10.0.1.4",), State.FAIL),
    ],
)
def test_a_name_is_right_when_it_is_one_that_the_engine_knows(addresses, expected, state):
    lookup = NameLookup(name="db", server="127.0.0.11", addresses=addresses, rcode=0 if addresses else 3)
    found = name_found(END, lookup, expected)
    assert found.state is state
    if state is State.FAIL:
        assert (found.cause.code, found.cause.object["answer"]) == (
            "container.dns",
            addresses[0] if addresses else "NXDOMAIN",
        )


def test_a_server_that_does_not_answer_is_the_answer():
    found = name_found(
        END, NameLookup(name="db", server="192.0.2.53", error="192.0.2.53 does not answer"), ["10.0.1.4"]
    )
    assert found.cause.object["answer"] == "192.0.2.53 does not answer"
    assert found.cause.confidence is Confidence.PROVEN


def test_a_virtual_ip_is_told_and_is_no_cause():
    found = virtual_found(END, SERVICE, answered_by="lb:app", rows=[(TASKS[0], YES), (TASKS[1], NO)])
    assert (found.state, found.cause) == (State.OK, None)
    assert "2 tasks behind it; 1 of the 2" in found.summary
    assert found.evidence[0].data["code"] == "overlay.address-is-vip"


def test_the_task_that_is_explained_is_not_told_twice():
    found = task_founds(END, SERVICE, [(TASKS[0], NO), (TASKS[1], NO)], TASKS[0])
    assert [one.subject.peer for one in found] == [FAR]
    assert "netdiag diagnose web db.2" in found[0].next[0].command


def kernel(state):
    feature = Feature(name="ip_vs", state=state, evidence="CONFIG_IP_VS")
    known = facts()
    return msgspec.structs.replace(
        known,
        kernel=Section(value=Kernel(features={"ip_vs": feature})),
        identity=Section(value=Identity(hostname="near", kernel_release="6.1")),
    )


@pytest.mark.parametrize(
    ("attempt", "state", "tasks_answer", "confidence"),
    [
        (NO, FeatureState.MISSING, True, Confidence.PROVEN),
        (NO, FeatureState.LOADED, True, Confidence.LIKELY),
        # While no task answers, the virtual IP could not lead to one either.
        (NO, FeatureState.MISSING, False, None),
        (YES, FeatureState.MISSING, True, None),
    ],
)
def test_the_balancer_is_blamed_only_where_tasks_answer_without_it(attempt, state, tasks_answer, confidence):
    found = balancer_found(END, SERVICE, attempt, kernel(state), tasks_answer=tasks_answer)
    assert (found.cause.confidence if found is not None else None) is confidence


# --- what the engine wrote ---

SHOP = container("shop", ports=("0.0.0.0:8080->80/tcp",))
THERE = facts(SHOP, own=FAR, name="far")
WHOLE = """*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
-A FORWARD -o docker0 -j DOCKER
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
"""
NEWER = WHOLE.replace(
    "-A FORWARD -o docker0 -j DOCKER\n", "-A FORWARD -j DOCKER-FORWARD\n-A DOCKER-BRIDGE -o docker0 -j DOCKER\n"
).replace(":FORWARD DROP [0:0]\n", ":FORWARD DROP [0:0]\n:DOCKER-FORWARD - [0:0]\n:DOCKER-BRIDGE - [0:0]\n")


def into_shop():
    far = host(THERE, name="far", nic_address=FAR)
    behind = Leg.of(far, SHOP, attachments(THERE, SHOP)[0])
    begin = Leg(host=host(facts()), address=NEAR)
    return routed_way(PathKind.PUBLISHED, begin, behind, protocol="tcp", port=8080, called=FAR, inner_port=80)


def missing(text):
    rules = RuleSet(backend=Backend.IPTABLES_NFT, family=4, text=text, sha256="")
    found = missing_for(into_shop(), [rules], "docker0")
    return None if found is None else (found.table, found.chain, found.all_gone)


@pytest.mark.parametrize("text", [WHOLE, NEWER])
def test_nothing_of_the_engine_s_is_missing(text):
    assert missing(text) is None


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n", ("nat", "PREROUTING", False)),
        (
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n",
            ("nat", "DOCKER", False),
        ),
        ("-A FORWARD -o docker0 -j DOCKER\n", ("filter", "FORWARD", False)),
        (
            "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT\n",
            ("filter", "DOCKER", False),
        ),
    ],
)
def test_what_is_missing_is_named(lost, named):
    assert lost in WHOLE
    assert missing(WHOLE.replace(lost, "")) == named


def test_an_engine_that_wrote_nothing_is_no_proof():
    """It may have been told to leave the firewall alone."""
    found = missing("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n")
    assert found == ("nat", "DOCKER", True)
    assert missing_for(into_shop(), [], "docker0") is None


def test_the_remedy_of_missing_chains_is_the_engine_itself():
    rules = RuleSet(
        backend=Backend.IPTABLES_NFT, family=4, text=WHOLE.replace("-A FORWARD -o docker0 -j DOCKER\n", ""), sha256=""
    )
    gap = missing_for(into_shop(), [rules], "docker0")
    found = missing_cause(into_shop(), "far", gap, confidence=Confidence.PROVEN)
    assert (found.code, found.object["chain"]) == ("firewall.docker-chains-missing", "FORWARD")
    assert found.remedy[0].commands == ("systemctl restart docker",)
    assert untranslated_cause(into_shop(), THERE, [rules], host="far").code == "firewall.docker-chains-missing"


# --- without a port ---


def test_ports_are_those_that_take_the_address():
    known = facts(
        SHOP,
        sockets={"container:shop": (listens(80), listens(81, "127.0.0.1"), listens(22, "172.17.0.2"), listens(80))},
    )
    far = host(known, name="far", nic_address=FAR)
    way = routed_way(
        PathKind.TO_OWN_HOST,
        Leg(host=far, address=FAR),
        Leg.of(far, SHOP, attachments(known, SHOP)[0]),
        protocol="icmp",
        port=None,
    )
    assert open_ports(known, way) == [22, 80]
    assert sizes_asked(known, way.destination)[-1] == 1500
    small = [{"size": 576, "outcome": "answered"}, {"size": 1500, "outcome": "silent"}]
    assert sizes_found(way, small, None).state is State.WARN
    assert "there: up to 576 bytes, not 1500, back: not tried" in sizes_found(way, small, None).summary
    assert sizes_found(way, small[:1], small[:1]).state is State.OK


def test_only_an_address_that_was_tried_in_vain_is_told():
    way = routed_way(
        PathKind.HOST, Leg(host=host(facts()), address=NEAR), Leg(host=None, address=FAR), protocol="tcp", port=80
    )
    unsent = Attempt(answered=False, refused=False, text="no route", sent=False)
    (found,) = addresses_found(way, [("192.0.2.8", YES), ("192.0.2.9", NO), ("2001:db8::1", unsent)])
    assert (found.state, found.subject.peer) == (State.WARN, "192.0.2.9")
