"""Datagrams: a port of somebody else's is sent nothing unasked, and is judged all the same."""

import contextlib
import json
import sys

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

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


def test_who_may_listen_on_a_host_that_takes_no_part_is_sent_nothing_either(pair):
    one, two = pair
    result = one.exec(["netdiag", "diagnose", "one", f"{two.address}:5300/udp", "--output", "json"], check=False)
    attempt = tried(json.loads(result.stdout))
    assert (attempt["state"], result.returncode) == ("unknown", 3), result.stdout
    assert "not known" in attempt["reason"]
    assert heard(two) == b""


def test_what_could_not_be_sent_was_not_lost(pair):
    """Without root and without a group that may ping, there is no echo: no rule and no host is blamed for it."""
    one, two = pair
    one.exec(["sysctl", "-qw", "net.ipv4.ping_group_range=1 0"])
    try:
        words = ["setpriv", "--reuid", "65534", "--clear-groups", "netdiag", "diagnose", "one", two.address]
        result = one.exec([*words, "--output", "json"], check=False)
    finally:
        one.exec(["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"])
    document = json.loads(result.stdout)
    attempt = tried(document)
    assert (attempt["state"], result.returncode) == ("unknown", 3), result.stdout
    assert "could not be made" in attempt["reason"]
    assert document["causes"] == []
    assert "lost" not in result.stdout


def tried(document):
    """The finding of the attempt itself."""
    (found,) = [one for one in document["findings"] if one["check"] == "path.attempt"]
    return found


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


def test_a_datagram_that_was_asked_for_is_answered(pair):
    one, two = pair
    attempt = diagnose(one, "two:5300/udp", "--send-payload", code=0)["findings"][0]
    assert "answered" in attempt["summary"]
    until(lambda: bool(heard(two)), 5.0, "the datagram")
    with dropped(two, 5300):
        (cause,) = diagnose(one, "two:5300/udp", "--send-payload", code=1)["causes"]
    assert (cause["code"], cause["object"]["chain"]) == ("firewall.rule", "INPUT")


def test_a_free_port_is_tried_for_real(pair):
    one, two = pair
    (cause,) = diagnose(one, "two:5301/udp", code=1)["causes"]
    assert (cause["code"], cause["host"], cause["confidence"]) == ("container.no-listener", "two", "proven")
    with dropped(two, 5301):
        (cause,) = diagnose(one, "two:5301/udp", code=1)["causes"]
    assert (cause["code"], cause["object"]["chain"]) == ("firewall.rule", "INPUT")
