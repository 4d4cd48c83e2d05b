"""Datagrams: a port of somebody else's is sent nothing unasked, and is judged all the same."""

import contextlib
import json
import sys

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from netdiag.participant.verbs import VERBS

SENDS = pytest.mark.skipif(
    "send-probe" not in VERBS, reason="this participant has no verb that sends a marked datagram"
)

SERVER = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", 5300))
print("ready", flush=True)
while True:
    data, peer = sock.recvfrom(2048)
    open("/tmp/heard", "ab").write(data)
    sock.sendto(b"yes", peer)
"""


@pytest.fixture
def pair(ssh_pair):
    """Two hosts without engines; on the second a server of datagrams."""
    one, two = ssh_pair
    two.path("/tmp/heard").unlink(missing_ok=True)
    with two.popen([sys.executable, "-c", SERVER]) as process:
        assert process.stdout.readline() == "ready\n"
        yield one, two
        end_group(process)


def diagnose(one, destination, *words, code):
    argv = ["netdiag", "diagnose", "one", destination, "--via", "ssh", *words, "--output", "json"]
    result = one.exec(argv, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


@contextlib.contextmanager
def dropped(two, port):
    words = ["INPUT", "-p", "udp", "--dport", str(port), "-j", "DROP"]
    two.exec(["iptables", "-I", *words])
    yield
    two.exec(["iptables", "-D", *words])


def heard(two):
    path = two.path("/tmp/heard")
    return path.read_bytes() if path.exists() else b""


def test_who_listens_is_sent_nothing_and_the_filters_are_asked(pair):
    one, two = pair
    attempt, filters = diagnose(one, "two:5300/udp", code=0)["findings"]
    assert attempt["state"] == "skip"
    assert "--send-payload" in attempt["reason"]
    assert (filters["check"], filters["state"]) == ("path.filters", "ok")
    with dropped(two, 5300):
        (cause,) = diagnose(one, "two:5300/udp", code=1)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "two", "proven")
    assert heard(two) == b""


@SENDS
def test_a_datagram_that_was_asked_for_is_answered(pair):
    one, two = pair
    attempt = diagnose(one, "two:5300/udp", "--send-payload", code=0)["findings"][0]
    assert "answered" in attempt["summary"]
    until(lambda: bool(heard(two)), 5.0, "the datagram")
    with dropped(two, 5300):
        (cause,) = diagnose(one, "two:5300/udp", "--send-payload", code=1)["causes"]
    assert (cause["code"], cause["object"]["chain"]) == ("firewall.rule", "INPUT")


@SENDS
def test_a_free_port_is_tried_for_real(pair):
    one, two = pair
    (cause,) = diagnose(one, "two:5301/udp", code=1)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("container.no-listener", "two", "proven")
    with dropped(two, 5301):
        (cause,) = diagnose(one, "two:5301/udp", code=1)["causes"]
    assert (cause["code"], cause["object"]["chain"]) == ("firewall.rule", "INPUT")
