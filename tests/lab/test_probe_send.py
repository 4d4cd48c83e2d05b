"""Probes arrive with their mark, are answered by whoever holds the port, and are taken away where somebody else does."""

import struct
from subprocess import PIPE

import pytest

from netdiag.model.wire import Request
from netdiag.participant import bound
from tests.lab.participants import ask

MARK = "a1b2c3d4"


@pytest.fixture
def target(pair_lab):
    return pair_lab.host("two").address


def tag(number):
    return MARK + struct.pack(">I", number).hex()


def probe(target, number, **params):
    return {"dst": target, "tag": tag(number), **params}


def test_each_kind_is_answered_by_who_holds_the_port(sides, target, pair_lab):
    one, two = sides
    ports = [{"proto": "tcp", "port": 2377}, {"proto": "udp", "port": 4789}, {"proto": "esp"}]
    held = ask(two, "bind-port", ports=ports, mark=MARK, seconds=20, peers=[pair_lab.host("one").address])
    assert [each["bound"] for each in held["ports"]] == [True, True, True]
    wanted = [
        probe(target, 1, proto="tcp", dport=2377),
        probe(target, 2, proto="udp", dport=4789),
        probe(target, 3, proto="udp", dport=4789, payload="vxlan", length=300),
        probe(target, 4, proto="esp", expects=False),
        probe(target, 5, proto="icmp"),
        probe(target, 6, proto="tcp", dport=2378),
        probe(target, 7, proto="udp", dport=4788),
    ]
    found = ask(one, "send-probe", probes=wanted, wait_ms=1000)["probes"]
    assert [row["heard"]["kind"] for row in found] == [
        "connected", "reply", "reply", "nothing", "reply", "reset", "icmp",
    ]  # fmt: skip
    assert found[-1]["heard"]["icmp"]["offender"] == target
    assert [row["length"] for row in found[1:4]] == [36, 300, 36]
    assert found[0]["sequence"] == 0xA1B20001
    rows = {each["proto"]: each for each in ask(two, "release-port", id=held["id"], settle_ms=50)["ports"]}
    assert [each["number"] for each in rows["udp"]["got"]] == [2, 3]
    assert [each["number"] for each in rows["esp"]["got"]] == [4]
    assert (rows["tcp"]["got"], rows["tcp"]["others"]) == ([], 1)


def test_a_packet_socket_sees_what_has_the_mark_and_nothing_else(sides, target):
    one, two = sides
    points = [{"name": "nic", "device": "eth0", "flow": {"mark": MARK}, "frames": 100}]
    seen = ask(two, "capture-start", points=points, seconds=20)
    wanted = [
        probe(target, 1, proto="tcp", dport=2377),
        probe(target, 2, proto="udp", dport=4789, count=3),
        probe(target, 3, proto="udp", dport=4789, payload="vxlan"),
        probe(target, 4, proto="esp", expects=False),
        probe(target, 5, proto="icmp"),
        {"dst": target, "proto": "udp", "dport": 4789},
        {"dst": target, "proto": "tcp", "dport": 2377},
    ]
    ask(one, "send-probe", probes=wanted, wait_ms=300)
    (read,) = ask(two, "capture-read", id=seen["id"])["points"]
    (again,) = ask(two, "capture-read", id=seen["id"], after={"nic": len(read["frames"])})["points"]
    assert again["frames"] == []
    (point,) = ask(two, "capture-stop", id=seen["id"])["points"]
    kinds = [(frame["out"], frame["data"][23]) for frame in point["frames"]]
    # The SYN and the RST that answers it, three datagrams, VXLAN, protocol 50, and an echo with its reply.
    assert sorted(kinds) == sorted([(False, 6), (True, 6), *[(False, 17)] * 4, (False, 50), (False, 1), (True, 1)])


def test_what_somebody_listens_to_is_taken_away_behind_the_filters(sides, pair_lab, target):
    one, two = sides
    listener = "import socket; s = socket.socket(2, 2); s.bind(('', 7946)); print(1, flush=True); print(s.recv(99))"
    with pair_lab.host("two").popen(["python3", "-u", "-c", listener]) as process:
        process.stdout.readline()
        (port,) = ask(two, "bind-port", ports=[{"proto": "udp", "port": 7946}], mark=MARK, seconds=5)["ports"]
        assert (port["bound"], port["errno"]) == (False, 98)
        caught = ask(two, "catch-start", mark=MARK, level="owned-trace", may_load=True, seconds=20)
        wanted = [
            probe(target, 1, proto="udp", dport=7946, count=2),
            probe(target, 2, proto="udp", dport=7946, payload="vxlan"),
            probe(target, 3, proto="esp", expects=False),
        ]
        found = ask(one, "send-probe", probes=wanted, wait_ms=200)["probes"]
        assert {row["heard"]["kind"] for row in found} == {"nothing"}
        stopped = ask(two, "catch-stop", id=caught["id"], settle_ms=50)
        assert (sorted(stopped["numbers"]), stopped["lost"]) == ([1, 1, 2, 3], False)
        # Only what carries no mark reaches the listener.
        ask(one, "send-probe", dst=target, proto="udp", dport=7946, tag="00" * 7 + "77", wait_ms=1)
        assert process.stdout.readline() == str(bytes(7) + b"w") + "\n"
    assert "netdiag" not in pair_lab.host("two").exec(["nft", "list", "ruleset"]).stdout


def test_from_a_port_that_somebody_holds(sides, pair_lab, target):
    one, two = sides
    source = pair_lab.host("one").address
    ports = [{"proto": "udp", "port": 7946}]
    held = ask(two, "bind-port", ports=ports, mark=MARK, seconds=20, address=target, peers=[source])
    own = ask(one, "bind-port", ports=ports, mark=MARK, seconds=20, address=source)
    row = ask(one, "send-probe", **probe(target, 9, proto="udp", src=source, sport=7946, dport=7946, by_hand=True))
    assert row["sport"] == 7946
    (port,) = ask(two, "release-port", id=held["id"], settle_ms=50)["ports"]
    assert [(each["number"], each["source"], each["sport"]) for each in port["got"]] == [(9, source, 7946)]
    # What came back is an answer, to the port that it was sent from, and that one is not answered.
    (port,) = ask(one, "release-port", id=own["id"], settle_ms=50)["ports"]
    assert [each["number"] for each in port["got"]] == [9 | 1 << 31]


def test_too_large_for_the_device_is_said(sides, target):
    one, _ = sides
    row = ask(one, "send-probe", **probe(target, 1, proto="udp", dport=9, length=1501, df=True, wait_ms=100))
    assert (row["errno"], row["sent_us"]) == (90, [])


@pytest.mark.parametrize("binds_to_any", [0, 1])
@pytest.mark.parametrize(("other", "far"), [("10.71.0.77", ""), ("fd00:7::77", "fd00:7::2")])
def test_only_from_an_address_of_this_host(sides, pair_lab, target, other, far, binds_to_any):
    """Whatever a socket may bind to: a host with a virtual address often lets it bind to any."""
    one, far = sides[0], far or target
    setting = f"net.ipv{6 if ':' in other else 4}.ip_nonlocal_bind"
    host = pair_lab.host("one")
    host.exec(["ip", "addr", "add", "fd00:7::1/64", "dev", "eth0", "nodad"])
    host.exec(["sysctl", "-qw", f"{setting}={binds_to_any}"])
    try:
        (answer,) = one.ask([Request("send-probe", {"dst": far, "src": other, "proto": "udp", "dport": 9})])
        assert "no address here" in answer.error.text
        own = "fd00:7::1" if ":" in other else host.address
        (answer,) = one.ask([Request("send-probe", {"dst": far, "src": own, "proto": "udp", "dport": 9, "wait_ms": 1})])
        assert answer.error is None
    finally:
        host.exec(["sysctl", "-qw", f"{setting}=0"])
        host.exec(["ip", "addr", "del", "fd00:7::1/64", "dev", "eth0"])


# --- a stranger at a held port ---


FLOOD = """
import socket, sys
target, mark = sys.argv[1], bytes.fromhex(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[3], 0))
s.settimeout(0.3)
for number in range(1, 20001):
    s.sendto(mark + number.to_bytes(4, "big"), (target, 7946))
try:
    print("answered", s.recv(99))
except socket.timeout:
    print("nothing")
"""
SLOW = """
import socket, sys
kept = [socket.create_connection((sys.argv[1], 2377)) for _ in range(300)]
for each in kept:
    each.settimeout(5)
    assert each.recv(1) == b""
print("closed", len(kept))
"""


@pytest.fixture
def held(sides, target):
    """Ports of host two, held for a peer that is not host one."""
    ports = [{"proto": "udp", "port": 7946}, {"proto": "tcp", "port": 2377}]
    found = ask(sides[1], "bind-port", ports=ports, mark=MARK, seconds=60, address=target, peers=["10.71.0.77"])
    yield found["id"]
    ask(sides[1], "release-port", id=found["id"])


def came(sides, held):
    return {row["proto"]: row for row in ask(sides[1], "release-port", id=held, keep=True)["ports"]}


@pytest.mark.parametrize("mark", [MARK, "a1b2c3d5"], ids=["the run's mark", "another mark"])
def test_a_stranger_is_answered_by_nobody_and_fills_no_memory(sides, pair_lab, target, held, mark):
    one = pair_lab.host("one")
    done = one.exec(["python3", "-c", FLOOD, target, mark, one.address])
    assert done.stdout == "nothing\n"
    row = came(sides, held)["udp"]
    assert len(row["got"]) <= bound.MOST_GOT
    assert bool(row["got"]) == (mark == MARK)
    assert bool(row["others"]) == (mark != MARK)


def test_a_probe_from_an_address_that_is_not_named_is_counted_and_not_answered(sides, target, held):
    """Its source may be forged: whoever it belongs to would get the answer."""
    row = ask(sides[0], "send-probe", **probe(target, 5, proto="udp", dport=7946, wait_ms=200))
    assert row["heard"]["kind"] == "nothing"
    assert [each["number"] for each in came(sides, held)["udp"]["got"]] == [5]


def test_connections_that_say_nothing_are_closed_at_once_and_only_counted(sides, pair_lab, target, held):
    assert pair_lab.host("one").exec(["python3", "-c", SLOW, target]).stdout == "closed 300\n"
    row = came(sides, held)["tcp"]
    assert (row["got"], row["others"]) == ([], 300)


def test_a_port_is_held_on_the_address_that_probes_are_for_and_no_other(pair_lab, held):
    said = pair_lab.host("two").exec(["ss", "-Hlntu"]).stdout.split()
    held_on = {word for word in said if word.endswith((":7946", ":2377"))}
    assert held_on == {f"{pair_lab.host('two').address}:{port}" for port in (7946, 2377)}


def test_a_port_that_is_somebody_s_on_another_address_is_left_to_him(sides, pair_lab, target):
    listener = (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 2377)); s.listen(); print(1, flush=True); input()"
    )
    with pair_lab.host("two").popen(["python3", "-u", "-c", listener], stdin=PIPE) as process:
        process.stdout.readline()
        found = ask(sides[1], "bind-port", ports=[{"proto": "tcp", "port": 2377}], mark=MARK, seconds=5, address=target)
        assert [(row["bound"], row["errno"]) for row in found["ports"]] == [(False, 98)]
        process.stdin.close()
    ask(sides[1], "release-port", id=found["id"])
