"""A flow is seen where it passes, and nothing else is."""

import json
import sys

import pytest

from netdiag.lab.process import until

START = """
import sys, time
from netdiag.participant import run
from netdiag.participant.wire import to_wire
import json
points = json.loads(sys.argv[1])
found = run({"verb": "capture-start", "params": {"points": points, "seconds": 20}})
print(json.dumps(to_wire(found)), flush=True)
sys.stdin.readline()
print(json.dumps(to_wire(run({"verb": "capture-stop", "params": {"id": found["data"]["id"], "settle_ms": 50}}))), flush=True)
"""


@pytest.fixture
def watch(pair_lab):
    """Watch flows on host one while a function runs; gives what was seen at each point."""
    one = pair_lab.host("one")

    def run(points, meanwhile):
        with one.popen([sys.executable, "-c", START, json.dumps(points)], stdin=-1) as process:
            started = json.loads(process.stdout.readline())
            assert "data" in started, started
            meanwhile()
            process.stdin.write("\n")
            process.stdin.flush()
            return {point["name"]: point for point in json.loads(process.stdout.readline())["data"]["points"]}

    return run


def udp(source, target, port, sport=0):
    program = f"import socket; s = socket.socket(2, 2); s.bind(('', {sport})); s.sendto(b'x', ('{target}', {port}))"
    source.exec(["python3", "-c", program])


def test_only_the_flow_is_seen_both_ways(watch, pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    flow = {"a": one.address, "b": two.address, "proto": 17, "port": 5000}

    def meanwhile():
        udp(one, two.address, 5000)
        udp(two, one.address, 9, sport=5000)
        udp(one, two.address, 5001)
        one.exec(["ping", "-c1", two.address])

    points = [{"name": "nic", "device": "eth0", "flow": flow}, {"name": "lo", "device": "lo", "flow": flow}]
    seen = watch(points, meanwhile)
    assert [frame["out"] for frame in seen["nic"]["frames"]] == [True, False]
    assert all(0 < frame["t_us"] < 20_000_000 for frame in seen["nic"]["frames"])
    assert seen["lo"]["frames"] == []
    assert (seen["nic"]["dropped"], seen["nic"]["more"]) == (0, 0)


def test_a_flow_that_may_come_from_several_addresses(watch, pair_lab):
    """Behind translation it is one of them, and which is not known before."""
    one, two = pair_lab.host("one"), pair_lab.host("two")
    flow = {"a": "192.0.2.7", "others": ["192.0.2.8", one.address], "b": two.address, "proto": 17, "port": 5000}

    def meanwhile():
        udp(one, two.address, 5000)
        udp(two, one.address, 9, sport=5000)
        udp(one, two.address, 5001)

    without = {**flow, "others": ["192.0.2.8"]}
    points = [
        {"name": "all", "device": "eth0", "flow": flow},
        {"name": "not this one", "device": "eth0", "flow": without},
    ]
    seen = watch(points, meanwhile)
    assert [frame["out"] for frame in seen["all"]["frames"]] == [True, False]
    assert seen["not this one"]["frames"] == []


def test_a_flow_inside_vxlan(watch, pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    for host, peer, own in ((one, two, "10.9.0.1/24"), (two, one, "10.9.0.2/24")):
        host.exec(["ip", "link", "add", "vx", "type", "vxlan", "id", "7", "remote", peer.address, "dstport", "4789"])
        host.exec(["ip", "addr", "add", own, "dev", "vx"])
        host.exec(["ip", "link", "set", "vx", "up"])
    try:
        until(lambda: one.exec(["ping", "-c1", "-W1", "10.9.0.2"], check=False).returncode == 0, 10, "the tunnel")
        flow = {"a": "10.9.0.1", "b": "10.9.0.2", "proto": 1, "vxlan_port": 4789}
        other = {**flow, "b": "10.9.0.3"}
        inner = {key: value for key, value in flow.items() if key != "vxlan_port"}
        points = [
            {"name": "outer", "device": "eth0", "flow": flow},
            {"name": "another", "device": "eth0", "flow": other},
            {"name": "inner", "device": "vx", "flow": inner},
            {"name": "not inside", "device": "eth0", "flow": inner},
        ]
        seen = watch(points, lambda: one.exec(["ping", "-c1", "10.9.0.2"]))
        assert [frame["out"] for frame in seen["outer"]["frames"]] == [True, False]
        assert [frame["out"] for frame in seen["inner"]["frames"]] == [True, False]
        assert seen["another"]["frames"] == seen["not inside"]["frames"] == []
    finally:
        for host in (one, two):
            host.exec(["ip", "link", "del", "vx"])


def test_ipv6_and_a_device_that_is_not_there(watch, pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    for host, own in ((one, "fd00:9::1/64"), (two, "fd00:9::2/64")):
        host.exec(["ip", "-6", "addr", "add", own, "dev", "eth0", "nodad"])
    try:
        flow = {"a": "fd00:9::1", "b": "fd00:9::2", "proto": 58}
        points = [{"name": "nic", "device": "eth0", "flow": flow}, {"name": "none", "device": "nope", "flow": flow}]
        seen = watch(points, lambda: one.exec(["ping", "-6", "-c1", "fd00:9::2"]))
        assert len(seen["nic"]["frames"]) >= 2
        assert "nope" in seen["none"]["error"]
    finally:
        for host, own in ((one, "fd00:9::1/64"), (two, "fd00:9::2/64")):
            host.exec(["ip", "-6", "addr", "del", own, "dev", "eth0"])
