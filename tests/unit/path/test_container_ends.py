"""Routes of a container's own namespace, and ends between which there is no way."""

import pytest

from netdiag.model.facts import Absence, AbsenceKind, Address, Link, Section
from netdiag.model.path import End
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Confidence
from netdiag.path.container_routes import route_cause, wanted_route
from netdiag.path.unfit import detached_cause, no_way, state_cause, unfit_found, wanted_network
from tests.unit.path.facts_of import GATEWAY, container, facts, host, on, overlay

WEB = container("web", on("bridge", "172.17.0.2"))
NONE = RouteChoice(absent=Absence(kind=AbsenceKind.MISSING, text="none"))
PROVEN, LIKELY = Confidence.PROVEN, Confidence.LIKELY


def test_which_route_an_engine_makes():
    one = facts(WEB)
    assert wanted_route(one, WEB, "172.17.0.9").words() == ("172.17.0.0/16", "dev", "eth0")
    assert wanted_route(one, WEB, "192.0.2.9").words() == ("default", "via", GATEWAY, "dev", "eth0")
    assert wanted_route(one, WEB, "2001:db8::1") is None


def judged(route, address="192.0.2.9", **more):
    return route_cause(host(facts(WEB)), "container:web", address, route, **more)


def test_a_default_route_that_is_gone():
    one = judged(NONE, through="eth0", answers=True)
    assert (one.code, one.confidence, one.object["destination"]) == ("container.route", PROVEN, "default")
    command = f"nsenter --net=/run/web -- ip route add default via {GATEWAY} dev eth0"
    assert one.remedy[0].commands == (command,)


def test_a_route_that_leads_elsewhere_than_its_engine_s():
    one = judged(RouteChoice(device="eth1", gateway="10.9.9.9"), "172.17.0.9", through="eth0")
    assert (one.confidence, one.object["device"], one.object["expected"]) == (PROVEN, "eth1", "172.17.0.0/16 dev eth0")
    assert one.remedy[0].commands == ("nsenter --net=/run/web -- ip route replace 172.17.0.9 dev eth0",)


def test_one_that_no_engine_makes_may_be_meant_so():
    one = judged(RouteChoice(device="eth1"), "2001:db8::1", through="eth0", answers=True)
    assert (one.confidence, one.object["expected"], one.remedy) == (LIKELY, None, ())


def test_of_two_bridges_either_may_be_the_way_out():
    """The engine makes the default route lead out of one of them; that it is the other one is no fault of itself."""
    one = facts(WEB)
    place = "container:web"
    links = {
        "host": (*one.links.value["host"], Link(index=90, name="veth9", kind="veth", master=3, peer_index=91)),
        place: (*one.links.value[place], Link(index=91, name="eth1", kind="veth", peer_index=90)),
    }
    rows = {**one.addresses.value, place: (*one.addresses.value[place], Address(device="eth1", cidr="172.18.0.2/16"))}
    fields = {name: getattr(one, name) for name in one.__struct_fields__}
    one = type(one)(**{**fields, "links": Section(value=links), "addresses": Section(value=rows)})
    assert wanted_route(one, WEB, "192.0.2.9") is None
    found = route_cause(host(one), place, "192.0.2.9", RouteChoice(device="eth1"), through="eth0", answers=True)
    assert (found.confidence, found.remedy) == (LIKELY, ())


@pytest.mark.parametrize(
    "more", [{"through": "eth0"}, {}], ids=["by the device of the way", "by whichever, where any will do"]
)
def test_a_route_that_is_right(more):
    assert judged(RouteChoice(device="eth0", gateway=GATEWAY), **more) is None


def test_a_host_s_own_routes_are_somebody_else_s_affair():
    assert route_cause(host(facts(WEB)), "host", "192.0.2.9", NONE) is None


@pytest.mark.parametrize(
    ("state", "command"),
    [("exited", "docker start web"), ("paused", "docker unpause web"), ("restarting", None), ("dead", None)],
)
def test_a_container_that_does_not_run(state, command):
    one = state_cause("near", type(WEB)(id="i", name="web", state=state))
    assert (one.code, one.object["state"]) == ("container.not-running", state)
    assert [each.commands for each in one.remedy] == ([(command,)] if command else [])


def test_a_swarm_starts_its_tasks_itself():
    assert state_cause("near", type(WEB)(id="i", name="web.1", state="exited", task_id="t")).remedy == ()


def test_which_network_is_meant():
    both = container("front", on("bridge", "172.17.0.3"), on("app", "10.0.1.2"))
    assert wanted_network(both, (overlay(),)) == "app"
    assert wanted_network(WEB, (overlay(),)) == ""
    assert wanted_network(container("pod", on("calico", "192.168.0.1")), (overlay(),)) == ""


def test_a_container_that_is_in_another_network():
    one = detached_cause("near", WEB, "app", "front on far")
    assert (one.code, one.object["network"]) == ("container.not-attached", "app")
    assert one.remedy[0].commands == ("docker network connect app web",)
    way = no_way(End(host="far", address=""), End(host="near", container="web", address=""), protocol="tcp", port=80)
    assert unfit_found(way, one).cause is one
