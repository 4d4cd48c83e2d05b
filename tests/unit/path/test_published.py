"""A port that is published, and not where it is called."""

import pytest

from netdiag.model.report import Confidence
from netdiag.path.published import elsewhere_cause, published_elsewhere
from netdiag.path.routed import published_for
from tests.unit.path.facts_of import container, facts


def publishing(*ports):
    return facts(container("web", ports=ports))


@pytest.mark.parametrize(
    ("ports", "address"),
    [
        (("127.0.0.1:8090->80/tcp",), "127.0.0.1"),
        (("198.51.100.2:8090->80/tcp",), "198.51.100.2"),
        (("0.0.0.0:8090->80/tcp",), None),
        (("[::]:8090->80/tcp", "127.0.0.1:8090->80/tcp"), None),
        (("192.0.2.1:8090->80/tcp",), None),
        (("127.0.0.1:8090->80/udp",), None),
        (("127.0.0.1:8091->80/tcp",), None),
    ],
)
def test_only_where_the_called_address_has_no_such_port(ports, address):
    found = published_elsewhere(publishing(*ports), 8090, "tcp", "192.0.2.1")
    assert (found.address if found is not None else None) == address


def test_the_cause_names_the_container_and_its_port():
    one = published_elsewhere(publishing("198.51.100.2:8090->80/tcp"), 8090, "tcp", "192.0.2.1")
    cause = elsewhere_cause("near", one, "192.0.2.1", confidence=Confidence.LIKELY)
    assert (cause.code, cause.object["name"], cause.object["address"]) == (
        "container.no-listener",
        "web",
        "198.51.100.2",
    )
    assert "198.51.100.2 only" in cause.explanation


def test_loopback_is_the_last_choice():
    one = publishing("127.0.0.1:8080->80/tcp", "0.0.0.0:8081->80/tcp")
    assert published_for(one, one.engine.value.containers[0], 80, "tcp").port == 8081
