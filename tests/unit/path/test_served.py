"""When a server is slow, when it only waits for its client, and when its queue is full."""

import pytest

from netdiag.facts.sockets import Connection
from netdiag.model.facts import Section, Socket
from netdiag.model.path import End, PathKind, Side, Way
from netdiag.model.report import Confidence
from netdiag.path.served import (
    Followed,
    Lookup,
    Speaks,
    backlog_cause,
    held_by,
    listener_of,
    lookup_found,
    served_found,
    slow_cause,
    speaks,
)
from netdiag.path.stops import Stop
from tests.unit.path.facts_of import FAR, NEAR, facts, listens
from tests.unit.path.test_kernel_drops import SENT, moved, scene


def way(port):
    return Way(
        kind=PathKind.HOST,
        source=End(host="near", address=NEAR),
        destination=End(host="far", address=FAR),
        protocol="tcp",
        port=port,
        places=(),
    )


def server(process, port=80, queue=None):
    return Socket(protocol="tcp", address="0.0.0.0", port=port, process=process, pid=7, queue=queue)


def held(*, accepted=True, state="established"):
    return Connection(
        address=FAR, port=80, peer=NEAR, peer_port=40000, state=state, accepted=accepted, unread_bytes=0
    )  # fmt: skip


def followed(**more):
    return Followed(waited_s=2.5, source_port=40000, **more)


@pytest.mark.parametrize(
    ("port", "process", "who"),
    [
        (22, "sshd", Speaks.SERVER),
        (2222, "sshd", Speaks.SERVER),
        (22, "", Speaks.SERVER),
        (22, "haproxy", Speaks.CLIENT),
        (25, "nginx", Speaks.CLIENT),
        (80, "httpd", Speaks.CLIENT),
        (80, "python3", Speaks.UNKNOWN),
        (9000, "", Speaks.UNKNOWN),
    ],
)
def test_who_begins(port, process, who):
    assert speaks(way(port), server(process, port) if process else None)[0] is who


def test_a_connection_that_is_not_accepted_is_slow_whatever_it_speaks():
    one = slow_cause(way(80), followed(held=held(accepted=False)), server("httpd"))
    assert (one.object["stage"], one.confidence, one.host) == ("accept", Confidence.PROVEN, "far")


@pytest.mark.parametrize("state", ["syn-recv", "close-wait"])
def test_only_an_open_one_waits_to_be_accepted(state):
    """A listener may ask the kernel to wait for data first (TCP_DEFER_ACCEPT): the connection is not even open then."""
    assert slow_cause(way(80), followed(held=held(accepted=False, state=state)), server("httpd")) is None


def test_one_that_answered_was_accepted_meanwhile():
    one = followed(held=held(accepted=False), first_byte_us=900)
    assert slow_cause(way(22), one, server("sshd", 22)) is None


@pytest.mark.parametrize(("process", "port"), [("httpd", 80), ("python3", 9000), ("", 443)])
def test_silence_of_one_that_waits_for_its_client_says_nothing(process, port):
    listener = server(process, port) if process else None
    assert served_found(way(port), followed(held=held()), listener) is None


def test_silence_of_one_that_should_begin():
    one = slow_cause(way(22), followed(held=held()), server("sshd", 22))
    assert (one.object["stage"], one.object["process"], one.confidence) == ("first-byte", "sshd", Confidence.PROVEN)
    found = served_found(way(22), followed(held=held()), server("sshd", 22))
    assert "sshd (pid 7) said nothing within 2.5 s" in found.summary


def test_a_port_alone_does_not_prove_the_protocol():
    assert slow_cause(way(22), followed(), server("python3", 22)).confidence is Confidence.LIKELY


@pytest.mark.parametrize(("first_byte_us", "slow"), [(20_000, False), (999_999, False), (1_200_000, True)])
def test_a_first_byte_that_comes_late(first_byte_us, slow):
    one = slow_cause(way(22), followed(first_byte_us=first_byte_us), server("sshd", 22))
    assert (one is not None) is slow


def test_one_that_closes_is_not_slow():
    assert slow_cause(way(22), followed(closed=True), server("sshd", 22)) is None


def test_the_server_s_side_is_found_by_its_ports():
    rows = [held(), Connection(**{**_fields(held()), "peer_port": 40001})]
    assert held_by(rows, way(80), 40000) == rows[0]
    assert held_by(rows, way(80), 5) is None
    assert held_by([rows[0], rows[0]], way(80), 40000) is None


def _fields(row):
    return {name: getattr(row, name) for name in row.__struct_fields__}


def test_who_listens_where_the_flow_ends():
    one = facts()
    sockets = {"host": (listens(80, "127.0.0.1"), listens(80, FAR, "right"), listens(81, FAR))}
    one = type(one)(**{**_fields(one), "sockets": Section(value=sockets)})
    assert listener_of(one, way(80)).process == "right"
    assert listener_of(one, way(82)) is None


def test_a_log_in_that_will_hang_is_likely():
    lookup = Lookup(address=NEAR, server="192.0.2.53", where="/etc/ssh/sshd_config")
    one = lookup_found(way(22), server("sshd", 22), lookup).cause
    assert (one.code, one.confidence, one.object["stage"]) == (
        "service.slow-answer",
        Confidence.LIKELY,
        "reverse-lookup",
    )


OVERFLOWS, REQUESTS = "TcpExt.ListenOverflows", "TcpExt.TCPReqQFullDrop"
ASKED = Stop(side=Side.DESTINATION, namespace="host", device="eth0", source=NEAR, destination=FAR, asked=True)


class TestAFullQueue:
    def judged(self, counters, queue, stop=ASKED):
        return backlog_cause(scene(counters, stop=stop), server("httpd", 80, queue))

    def test_connections_that_nobody_accepts(self):
        one = self.judged(moved(during={OVERFLOWS: SENT, "TcpExt.ListenDrops": SENT}), 10)
        assert (one.code, one.confidence) == ("container.backlog", Confidence.PROVEN)
        assert (one.object["queue"], one.object["waiting"], one.object["process"]) == ("accept", 10, "httpd")

    def test_connections_that_are_half_open(self):
        assert self.judged(moved(during={REQUESTS: SENT}), 0).object["queue"] == "syn"

    @pytest.mark.parametrize(
        ("counters", "queue"),
        [
            (moved(start={OVERFLOWS: 500}), 10),
            (moved(during={OVERFLOWS: SENT}), 0),
            (moved(during={"TcpExt.ListenDrops": SENT}), 0),
        ],
        ids=["old drops", "of another socket", "dropped for another reason"],
    )
    def test_what_only_looks_alike(self, counters, queue):
        assert self.judged(counters, queue) is None

    def test_before_the_end_of_the_way_no_queue_matters(self):
        stop = Stop(side=Side.DESTINATION, namespace="host", device="eth0", source=NEAR, destination=FAR)
        assert self.judged(moved(during={OVERFLOWS: SENT}), 10, stop) is None
