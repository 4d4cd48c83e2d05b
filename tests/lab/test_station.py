"""One armed side of an examination, and what its host can still do meanwhile."""

import contextlib
import json
from subprocess import PIPE

import pytest

from netdiag.host.station import Station
from netdiag.model.engine import SwarmMembership, SwarmState
from netdiag.model.facts import AbsenceKind
from tests.lab.participants import carrier_into
from tests.unit.checks.factory import absent, engine, facts

MARK = "a1b2c3d4"
PORTS = [("tcp", 2377), ("tcp", 7946), ("udp", 7946), ("udp", 4789), ("esp", None)]
LISTEN = """
import socket, sys
kind, port = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.bind(("0.0.0.0", int(port)))
kind == "tcp" and s.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def two(pair_lab):
    with carrier_into(pair_lab.host("two")) as carrier:
        yield carrier


@contextlib.contextmanager
def armed(carrier, known):
    station = Station("two", carrier, known, MARK)
    station.arm(ports=PORTS, devices=["eth0"], addresses=["10.71.0.2"], peers=["10.71.0.1"], seconds=20, frames=100)
    try:
        yield station
    finally:
        station.disarm()


def begins(host):
    """What of a node's engine can begin on a host: its listeners, and its first overlay network."""
    script = ["ip link add vx0 type vxlan id 4097 dstport 4789 dev eth0 && ip link set vx0 up; r=$?; ip link del vx0"]
    found = [host.exec(["sh", "-c", f"{script[0]}; exit $r"], check=False).returncode == 0]
    for protocol, port in (("tcp", "2377"), ("tcp", "7946"), ("udp", "7946")):
        done = host.exec(["python3", "-c", LISTEN, protocol, port], check=False, stdin="")
        found.append(done.stdout == "ready\n")
    return found


def member(state=SwarmState.ACTIVE):
    return facts(engine=engine(swarm=SwarmMembership(state=state)), kernel=absent())


@pytest.mark.parametrize(
    "known",
    [
        member(),
        member(SwarmState.PENDING),
        facts(engine=absent("no answer within 1.5 s", AbsenceKind.TIMEOUT)),
    ],
    ids=["member", "joining", "an engine that hangs"],
)
def test_a_member_s_engine_gets_every_port_that_it_wants(pair_lab, two, known):
    with armed(two, known) as station:
        assert station.held == set()
        assert all(begins(pair_lab.host("two")))


def test_an_engine_that_restarts_is_known_by_what_is_on_disk(pair_lab, two):
    """Its socket is gone, and the directory of its swarm is there."""
    host, stopped = pair_lab.host("two"), facts(engine=absent("no socket", AbsenceKind.MISSING))
    state = "/run/engine/swarm/docker-state.json"
    host.exec(["sh", "-c", f"mkdir -p {state.rpartition('/')[0]} /etc/docker; echo '{{}}' > {state}"])
    host.exec(["sh", "-c", "cat > /etc/docker/daemon.json"], stdin=json.dumps({"data-root": "/run/engine"}))
    try:
        with armed(two, stopped) as station:
            assert station.held == set()
        host.exec(["rm", state])
        with armed(two, stopped) as station:
            assert station.held == set(PORTS)
    finally:
        host.exec(["rm", "-r", "/etc/docker/daemon.json", "/run/engine"])


def test_before_a_host_joins_its_ports_are_held(pair_lab, two):
    with armed(two, facts()) as station:
        assert station.held == set(PORTS)
        assert not any(begins(pair_lab.host("two")))
    assert all(begins(pair_lab.host("two")))


def test_who_holds_a_port_of_a_member_is_read_and_not_tried(pair_lab, two):
    with pair_lab.host("two").popen(["python3", "-u", "-c", LISTEN, "tcp", "7946"], stdin=PIPE) as process:
        process.stdout.readline()
        with armed(two, member()) as station:
            assert (station.taken, station.guarded) == ({("tcp", 7946)}, True)
            assert [station.answers("tcp", port) for port in (7946, 2377)] == [True, False]
        process.stdin.close()
