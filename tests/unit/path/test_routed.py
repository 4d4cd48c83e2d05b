"""The places of ways through the hosts' own stacks, and which packets are asked of the filters between them."""

import pytest

from netdiag.model.path import Direction, Loss, PathKind, Side, Sight, Stage
from netdiag.model.trace import TracePath
from netdiag.path.ingress import ingress_service
from netdiag.path.questions import into_the_host, questions, standing
from netdiag.path.routed import Leg, attachments, host_way, published_for, publishes, routed_way
from tests.unit.path.facts_of import BRIDGE, FAR, GATEWAY, NEAR, container, facts, host, manager

SHOP = container("shop", ports=("0.0.0.0:8080->80/tcp", "127.0.0.1:9000->90/udp"))
WEB = container("web")
HERE, THERE = facts(WEB), facts(SHOP, own=FAR, name="far")
SOURCE, OTHER = host(HERE), host(THERE, name="far", nic_address=FAR)


def leg(of, whose):
    return Leg.of(of, whose, attachments(of.facts, whose)[0])


def stages(way):
    return [(place.side.value, place.stage.value, place.device) for place in way.places]


def outwards():
    target = Leg(host=OTHER, address=FAR)
    return routed_way(PathKind.ROUTED, leg(SOURCE, WEB), target, protocol="tcp", port=80)


def published():
    begin = Leg(host=SOURCE, address=NEAR)
    behind = leg(OTHER, SHOP)
    return routed_way(PathKind.PUBLISHED, begin, behind, protocol="tcp", port=8080, called=FAR, inner_port=80)


def own_host():
    return routed_way(PathKind.TO_OWN_HOST, leg(SOURCE, WEB), Leg(host=SOURCE, address=NEAR), protocol="tcp", port=22)


def test_the_half_of_a_host_whose_caller_takes_no_part():
    begin = Leg(host=None, address=NEAR)
    way = routed_way(
        PathKind.PUBLISHED, begin, leg(OTHER, SHOP), protocol="tcp", port=8080, called=FAR, inner_port=80, name="x"
    )
    assert stages(way) == stages(published())[1:]
    assert (way.source.host, way.source.address) == ("x", NEAR)
    with pytest.raises(ValueError, match="neither host"):
        routed_way(PathKind.HOST, begin, Leg(host=None, address=FAR), protocol="tcp", port=1)


def test_a_container_hangs_on_its_bridge():
    (found,) = attachments(HERE, WEB)
    assert (found.device, found.address, found.bridge, found.gateway) == ("eth0", BRIDGE, "docker0", GATEWAY)


def test_what_an_engine_publishes():
    assert publishes(THERE, 8080, "tcp", FAR).inner_port == 80
    assert publishes(THERE, 9000, "udp", FAR) is None
    assert publishes(THERE, 9000, "udp", "127.0.0.1").inner_port == 90
    assert publishes(THERE, 8080, "udp") is None
    assert published_for(THERE, SHOP, 80, "tcp").port == 8080
    assert published_for(THERE, SHOP, None, "icmp").port == 8080
    assert published_for(THERE, SHOP, 81, "tcp") is None


def test_what_the_routing_mesh_publishes():
    known = facts(cluster=manager())
    found = ingress_service([HERE, known], 8080, "tcp")
    assert (found.service, found.inner_port) == ("db", 80)
    assert ingress_service([known], 8081, "tcp") is None  # in host mode a container publishes it itself
    assert ingress_service([HERE], 8080, "tcp") is None


def test_a_container_has_its_host_s_address_behind_it():
    way = outwards()
    assert stages(way) == [
        ("source", "end", "eth0"),
        ("source", "port", "veth0"),
        ("source", "nic", "eth0"),
        ("destination", "nic", "eth0"),
    ]
    assert [(place.a, place.origins) for place in way.places] == [
        (BRIDGE, ()),
        (BRIDGE, ()),
        (NEAR, (BRIDGE,)),
        (NEAR, (BRIDGE,)),
    ]


def test_a_published_port_is_another_one_inside():
    way = published()
    assert stages(way)[1:] == [
        ("destination", "nic", "eth0"),
        ("destination", "port", "veth0"),
        ("destination", "end", "eth0"),
    ]
    assert [(place.b, place.port) for place in way.places] == [(FAR, 8080), (FAR, 8080), (BRIDGE, 80), (BRIDGE, 80)]
    assert way.places[-1].proxy == GATEWAY
    assert (way.target, way.end_port, way.called) == (FAR, 80, FAR)


def test_a_container_s_own_host_takes_it_at_the_bridge():
    way = own_host()
    assert stages(way)[-1] == ("destination", "end", "docker0")
    assert way.destination.namespace == "host"


def test_who_takes_no_part_has_no_places():
    way = routed_way(
        PathKind.HOST, Leg(host=SOURCE, address=NEAR), Leg(host=None, address="203.0.113.9"), protocol="tcp", port=443
    )
    assert stages(way) == [("source", "nic", "eth0")]
    assert way.destination.host == "203.0.113.9"


# --- questions ---


def there(way, last, following):
    places = way.places
    return Loss(
        direction=Direction.THERE,
        last=None if last is None else places[last],
        next=None if following is None else places[following],
    )


def back(way, last, following):
    found = there(way, last, following)
    return Loss(direction=Direction.BACK, last=found.last, next=found.next)


def asked(way, loss, sights=()):
    return [
        (one.side, one.wanted.path, one.wanted.source, one.wanted.destination, one.wanted.destination_port, one.answer)
        for one in questions(way, loss, sights)
    ]


def test_what_never_left_is_asked_out_of_its_namespace():
    way = outwards()
    (one,) = questions(way, there(way, None, 0), ())
    assert (one.wanted.path, one.wanted.namespace, one.wanted.destination) == (TracePath.OUT, "container:web", FAR)


def test_a_veth_has_no_filter():
    way = outwards()
    assert questions(way, there(way, 0, 1), ()) == ()


def test_a_host_forwards_what_its_container_sends():
    way = outwards()
    (one,) = questions(way, there(way, 1, 2), ())
    wanted = one.wanted
    assert (wanted.path, wanted.in_device, wanted.out_device) == (TracePath.FORWARD, "veth0", "eth0")
    assert (wanted.source, wanted.destination_port) == (BRIDGE, 80)


def test_nothing_is_asked_between_two_hosts():
    way = outwards()
    assert questions(way, there(way, 2, 3), ()) == ()


def test_what_is_led_on_to_a_container_arrives_for_the_host():
    """Address translation decides: the packet that is asked about is for the address that was called."""
    way = published()
    assert asked(way, there(way, 1, 2)) == [(Side.DESTINATION, TracePath.IN, NEAR, FAR, 8080, False)]
    (one,) = into_the_host(way)
    assert (one.wanted.destination, one.wanted.in_device) == (FAR, "eth0")
    assert into_the_host(outwards()) == ()


def test_where_it_ends_both_the_request_and_the_answer_are_asked():
    way = own_host()
    request, answer = questions(way, back(way, None, 2), ())
    assert (request.wanted.path, request.wanted.in_device, request.answer) == (TracePath.IN, "docker0", False)
    assert (answer.wanted.path, answer.wanted.source_port, answer.answer) == (TracePath.OUT, 22, True)
    assert (answer.opened.source, answer.opened.destination_port) == (BRIDGE, 22)


def test_an_answer_is_known_by_the_flow_that_it_belongs_to():
    way = published()
    (one,) = questions(way, back(way, 2, 1), ())
    assert (one.wanted.source, one.wanted.source_port, one.wanted.destination) == (BRIDGE, 80, NEAR)
    assert (one.opened.destination, one.opened.destination_port) == (FAR, 8080)
    assert not one.made_up  # translation makes of it what no packet of ours could be


def test_an_answer_that_came_to_the_start_is_asked_there():
    way = host_way(SOURCE, OTHER, protocol="tcp", port=22)
    (one,) = questions(way, back(way, 0, None), ())
    assert (one.side, one.wanted.path, one.wanted.source_port, one.answer) == (Side.SOURCE, TracePath.IN, 22, True)


def test_the_address_that_was_seen_is_asked_about():
    way = outwards()
    sights = [Sight(place=place, there=1, origin=BRIDGE) for place in way.places]
    request, _ = questions(way, back(way, None, 3), sights)
    assert request.wanted.source == BRIDGE


def test_a_virtual_ip_calls_from_its_balancer():
    import msgspec

    way = msgspec.structs.replace(published(), balancer="10.0.1.9")
    found = questions(way, back(way, None, 3), ())
    assert [one.wanted.source for one in found if one.wanted.path is TracePath.IN] == [NEAR, "10.0.1.9"]


def test_what_stands_behind_the_loss_is_asked_as_well():
    way = published()
    assert [one.wanted.path for one in standing(way, there(way, None, 0), ())] == [TracePath.IN, TracePath.IN]
    assert standing(way, back(way, None, 3), ()) == ()


@pytest.mark.parametrize("make", [outwards, published, own_host])
def test_every_place_has_a_key_of_its_own(make):
    places = make().places
    assert len({place.key() for place in places}) == len(places)
    assert places[-1].stage in (Stage.END, Stage.NIC)
