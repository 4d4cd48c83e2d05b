"""The engine's isolation is no rule to be opened: a network in common is what is missing."""

import msgspec
import pytest

from netdiag.causes import cause
from netdiag.model.path import End, PathKind, Way
from netdiag.model.report import Confidence, Remedy
from netdiag.path.isolation import joined_instead
from tests.unit.path.facts_of import container, facts, on

LONE = container("lone", on("bridge", "172.17.0.9"), on("aside", "172.20.0.2"))
OPENING = Remedy(host="near", summary="accept it", commands=("iptables -I DOCKER-USER -j ACCEPT",))


def dropped_in(chain):
    return cause(
        "firewall.rule",
        host="near",
        object={"kind": "rule", "chain": chain},
        confidence=Confidence.PROVEN,
        explanation="It is taken.",
        remedy=(OPENING,),
    )


def way(source="client"):
    begin = End(host="near", address="172.17.0.2", container=source)
    end = End(host="near", address="172.20.0.2", container="lone")
    return Way(kind=PathKind.ROUTED, source=begin, destination=end, protocol="tcp", port=80, places=())


def test_the_network_of_the_called_address():
    one = joined_instead(dropped_in("DOCKER-ISOLATION-STAGE-2"), way(), facts(LONE), "near")
    assert [each.commands for each in one.remedy] == [("docker network connect aside client",)]
    assert one.remedy[0].undo == ("docker network disconnect aside client",)
    assert one.remedy[0].persist == ()


@pytest.mark.parametrize(
    ("chain", "source", "known"),
    [
        ("DOCKER-USER", "client", LONE),
        ("DOCKER-ISOLATION-STAGE-2", "", LONE),
        ("DOCKER-ISOLATION-STAGE-2", "client", None),
    ],
    ids=["a rule of the operator's", "a host", "a container of no network that is known"],
)
def test_any_other_is_left_as_it_is(chain, source, known):
    one = dropped_in(chain)
    known = known or msgspec.structs.replace(LONE, networks=())
    assert joined_instead(one, way(source), facts(known), "near") is one
