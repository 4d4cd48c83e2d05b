"""A bridge that does not know behind which port somebody is sends a copy by each: the one that matters decides."""

import json
import re

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.test_firewall_paths import OWNED, answer

PORTS = ("p1", "p2", "p3")
COUNT = """\
table netdev seen {
chain in {
type filter hook ingress device "eth0" priority 0
ip saddr 198.51.100.1 counter
arp saddr ip 198.51.100.1 counter
}
}"""
SRC, DST = "198.51.100.1", "198.51.100.2"


@pytest.fixture(scope="module")
def bridge(pair_lab):
    """A host with a bridge of three ports, behind each of them a namespace."""
    host = pair_lab.host("one")
    lines = ["ip link add br0 address 02:00:00:00:00:b0 type bridge", "ip link set br0 addrgenmode none"]
    lines += ["ip link set br0 up", "ip addr add 198.51.100.254/24 dev br0"]
    for number, port in enumerate(PORTS, start=1):
        lines += [
            f"ip netns add {port}",
            f"ip link add {port} type veth peer name eth0 netns {port}",
            f"ip link set {port} addrgenmode none",
            f"ip -n {port} link set eth0 addrgenmode none",
            f"ip link set {port} master br0 up",
            f"ip -n {port} addr add 198.51.100.{number}/24 dev eth0",
            f"ip -n {port} link set eth0 up",
        ]
    for line in lines:
        host.exec(line.split())
    for port in PORTS:
        host.exec(["ip", "netns", "exec", port, "nft", COUNT])
    yield host
    host.exec(["ip", "link", "del", "br0"])
    for port in PORTS:
        host.exec(["ip", "netns", "del", port])


@pytest.fixture
def forget(bridge):
    """Have the bridge know nobody; what a test's rules leave is gone behind it."""

    def forget():
        for port in PORTS:
            bridge.exec(["ip", "link", "set", port, "type", "bridge_slave", "fdb_flush"])

    yield forget
    bridge.exec(["nft", "flush", "ruleset"])
    bridge.exec(["iptables-legacy", "-F"])
    bridge.exec(["sh", "-c", "test ! -e /proc/sys/net/bridge || sysctl -qw net.bridge.bridge-nf-call-iptables=0"])


def guard(host, *rules, family="bridge"):
    host.exec(
        ["nft", f"table {family} b {{ chain f {{ type filter hook forward priority 0; {'; '.join(rules)}; }}; }}"]
    )


def seen(host):
    """How many frames from the sender came out behind each port."""
    found = [
        host.exec(["ip", "netns", "exec", port, "nft", "list", "table", "netdev", "seen"]).stdout for port in PORTS
    ]
    return [sum(int(each) for each in re.findall(r"counter packets (\d+)", text)) for text in found]


KINDS = [("--proto", "arp"), ("--dport", "80")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("port", "verdict", "code"), [("p2", "drop", 1), ("p3", "accept", 0)])
def test_only_the_copy_for_the_target_decides(bridge, forget, kind, port, verdict, code):
    guard(bridge, f'oifname "{port}" drop')
    forget()
    found = answer(bridge, "--path", "forward", "--in", "p1", "--src", SRC, "--dst", DST, *kind, code=code)
    assert (found["verdict"], found["confidence"], found["packet"]["out_device"]) == (verdict, "proven", "p2")
    assert (found["rule"] or {}).get("text") == ('oifname "p2" drop' if verdict == "drop" else None)
    assert seen(bridge) == [0, 0, 0]
    assert found["elapsed_ms"] < 100


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("port", ["p2", "p3"])
def test_rules_of_ip_that_ask_for_a_port(bridge, forget, port, tool):
    """What br_netfilter takes a bridge's packets to knows the bridge only; the port is told before."""
    bridge.exec(["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"])
    rule = f"-A FORWARD -p tcp -m physdev --physdev-out {port} --physdev-is-bridged -j DROP"
    bridge.exec([tool, *rule.split()])
    forget()
    words = ("--path", "forward", "--in", "p1", "--src", SRC, "--dst", DST, "--dport", "80")
    found = answer(bridge, *words, code=1 if port == "p2" else 0)
    assert ((found["rule"] or {}).get("text"), found["confidence"]) == (rule if port == "p2" else None, "proven")
    assert seen(bridge) == [0, 0, 0]


def test_where_the_port_is_not_known_copies_must_agree(bridge, forget):
    words = ("--path", "forward", "--in", "p1", "--src", SRC, "--dst", "198.51.100.77", "--proto", "arp")
    assert answer(bridge, *words, code=0)["confidence"] == "proven"
    guard(bridge, 'oifname "p3" drop')
    forget()
    found = answer(bridge, *words, code=3)
    assert (found["rule"], found["confidence"]) == (None, "possible")
    assert "by p2: accept; by p3: drop, b f rule 1" in found["reason"]
    assert answer(bridge, *words, "--out", "p3", code=1)["rule"]["text"] == 'oifname "p3" drop'
    bridge.exec(["nft", "flush chain bridge b f"])
    bridge.exec(["nft", "add rule bridge b f ether type arp drop"])
    assert answer(bridge, *words, code=1)["rule"]["text"] == "ether type arp drop"
    assert seen(bridge) == [0, 0, 0]


def test_a_port_that_the_bridge_does_not_take(bridge, forget):
    forget()
    speak(bridge, "p2")
    words = ("--path", "forward", "--in", "p1", "--src", SRC, "--dst", DST, "--dport", "80", "--out", "p3")
    found = answer(bridge, *words, code=0)
    assert (found["confidence"], found["reason"]) == ("likely", "the bridge sends it out by p2, not by p3")


@pytest.mark.parametrize("port", ["p2", "p3"])
def test_what_comes_out_of_the_bridge_s_own_device(bridge, forget, port):
    bridge.exec(
        ["nft", f'table bridge b {{ chain f {{ type filter hook output priority 0; oifname "{port}" drop; }}; }}']
    )
    bridge.exec(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    bridge.exec(["ip", "neigh", "replace", DST, "lladdr", mac(bridge, "p2"), "dev", "br0"])
    words = ("--dst", DST, "--proto", "udp", "--dport", "80")
    forget()
    came = ("--path", "forward", "--in", "eth0", "--src", "10.71.0.2")
    found = answer(bridge, *came, *words, code=1 if port == "p2" else 0)
    assert found["confidence"] == "proven"
    assert (found["rule"] or {}).get("text") == ('oifname "p2" drop' if port == "p2" else None)
    # A packet of this host's own is not looked for in other namespaces, and here only those tell the port.
    assert f"by {port}: drop, b f rule 1" in answer(bridge, "--path", "out", *words, code=3)["reason"]
    speak(bridge, "p2")
    assert answer(bridge, "--path", "out", *words, code=1 if port == "p2" else 0)["confidence"] == "proven"


def speak(host, port):
    """Have the bridge learn who is behind a port, whether or not it is answered."""
    host.exec(["ip", "netns", "exec", port, "ping", "-c1", "-W1", "198.51.100.254"], check=False)


def mac(host, port):
    return host.exec(["ip", "netns", "exec", port, "cat", "/sys/class/net/eth0/address"]).stdout.strip()


@pytest.mark.parametrize("ip_too", [0, 1])
def test_waiting_for_what_a_bridge_copies(bridge, forget, ip_too):
    bridge.exec(["sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={ip_too}"])
    guard(bridge, 'oifname "p2" drop')
    words = [
        "--path",
        "forward",
        "--wait",
        "20",
        "--in",
        "p1",
        "--src",
        SRC,
        "--dst",
        DST,
        "--proto",
        "udp",
        "--dport",
        "9",
    ]
    for out, verdict in (("", "unknown"), ("p2", "drop"), ("p3", "accept")):
        more = ["--out", out] if out else []
        with bridge.popen(["netdiag", "firewall", "trace", *words, *more, "-o", "json"]) as waiting:
            try:
                until(lambda: OWNED.search(bridge.exec(["nft", "list", "ruleset"]).stdout), 10, "the trace's table")
                forget()
                inside = ["ip", "netns", "exec", "p1"]
                bridge.exec([*inside, "ip", "neigh", "replace", DST, "lladdr", mac(bridge, "p2"), "dev", "eth0"])
                bridge.exec(
                    [*inside, "python3", "-c", f"import socket; socket.socket(2, 2).sendto(b'x', ('{DST}', 9))"]
                )
                found = json.loads(waiting.communicate(timeout=20)[0])
            finally:
                end_group(waiting)
        assert found["verdict"] == verdict, found


def fdb(host):
    return sorted(line for line in host.exec(["bridge", "fdb"]).stdout.splitlines() if "master br0" in line)


def test_a_bridge_knows_afterwards_what_it_knew_before(bridge, forget):
    forget()
    speak(bridge, "p2")
    speak(bridge, "p3")
    known = fdb(bridge)
    assert f"{mac(bridge, 'p3')} dev p3 master br0" in "\n".join(known)
    words = ("--path", "forward", "--in", "p1", "--dst", DST, "--dport", "80")
    answer(bridge, *words, "--src", "198.51.100.3", "--mac", mac(bridge, "p3"), code=0)
    assert fdb(bridge) == known
    for source in (SRC, "198.51.100.99"):
        answer(bridge, *words, "--src", source, code=0)
        assert fdb(bridge) == known
    bridge.exec(["bridge", "fdb", "add", "02:00:00:00:00:99", "dev", "p3", "master", "static"])
    known = fdb(bridge)
    answer(bridge, *words, "--src", SRC, "--mac", "02:00:00:00:00:99", code=0)
    assert fdb(bridge) == known
    bridge.exec(["bridge", "fdb", "del", "02:00:00:00:00:99", "dev", "p3", "master"])
    # One station at the port: its frames teach the bridge nothing, and are what a rule would see.
    speak(bridge, "p1")
    guard(bridge, f"ether saddr {mac(bridge, 'p1')} drop")
    assert answer(bridge, *words, "--src", "198.51.100.99", code=1)["rule"]["number"] == 1


def test_a_packet_and_what_a_rule_sends_elsewhere_besides_it(pair_lab):
    """A clone (TEE, dup) that came through says nothing of the packet itself."""
    host, peer = pair_lab.host("one"), pair_lab.host("two")
    for tee, way, words in (
        ("PREROUTING", "INPUT", ("--src", peer.address)),
        ("OUTPUT", "OUTPUT", ("--path", "out", "--dst", peer.address)),
    ):
        clone = ["-t", "mangle", "-A", tee, "-p", "tcp", "--dport", "9000", "-j", "TEE", "--gateway", peer.address]
        drop = ["-A", way, "-p", "tcp", "--dport", "9000", "-j", "DROP"]
        host.exec(["iptables", *clone])
        try:
            assert answer(host, *words, "--dport", "9000", code=0)["nat"] == []
            host.exec(["iptables", *drop])
            found = answer(host, *words, "--dport", "9000", code=1)
            assert (found["verdict"], found["rule"]["chain"], found["confidence"]) == ("drop", way, "proven")
            assert {step["hook"] for step in found["path"]} <= {"prerouting", "input", "output"}
        finally:
            host.exec(["nft", "flush", "ruleset"])


def test_chains_of_the_bridge_before_its_own_host(bridge, forget):
    """Whichever way the bridge is named, the packet meets them: at the port that its sender is behind."""
    before = seen(bridge)
    bridge.exec(["nft", "table bridge b { chain i { type filter hook input priority 0; tcp dport 9000 drop; }; }"])
    for words in (("--src", SRC), ("--in", "br0", "--src", SRC), ("--in", "p1", "--src", SRC)):
        found = answer(bridge, *words, "--dport", "9000", code=1)
        assert (found["rule"]["family"], found["packet"]["in_device"]) == ("bridge", "p1")
        assert answer(bridge, *words, "--dport", "9001", code=0)["confidence"] == "proven"
    found = answer(bridge, "--in", "br0", "--src", "198.51.100.77", "--dport", "9000", code=3)
    assert "behind which port 198.51.100.77 is, is not known: --in p1, p2, p3" in found["reason"]
    bridge.exec(["nft", "flush ruleset"])
    guard(bridge, "tcp dport 9000 drop")
    words = ("--path", "forward", "--in", "br0", "--src", SRC, "--dst", DST, "--dport", "9000")
    found = answer(bridge, *words, code=1)
    assert (found["rule"]["family"], found["packet"]["in_device"], found["packet"]["out_device"]) == (
        "bridge",
        "p1",
        "p2",
    )
    assert seen(bridge) == before


def test_any_address_by_any_device(bridge, forget, pair_lab):
    peer = pair_lab.host("two")
    bridge.exec(["ip", "address", "add", "10.55.0.1/32", "dev", "lo"])
    try:
        for words in (
            ("--in", "br0", "--src", SRC, "--dst", "10.71.0.1"),
            ("--in", "p1", "--src", SRC, "--dst", "10.71.0.1"),
            ("--in", "eth0", "--dst", "10.55.0.1"),
            ("--in", "eth0", "--dst", "198.51.100.254"),
            ("--in", "eth0", "--dst", "10.71.0.255", "--proto", "udp"),
        ):
            drop = ["-A", "INPUT", "-d", words[words.index("--dst") + 1], "-j", "DROP"]
            assert answer(bridge, *words, "--dport", "9000", code=0)["confidence"] == "proven"
            bridge.exec(["iptables", *drop])
            assert answer(bridge, *words, "--dport", "9000", code=1)["rule"]["chain"] == "INPUT"
            bridge.exec(["iptables", "-F", "INPUT"])
    finally:
        bridge.exec(["ip", "address", "del", "10.55.0.1/32", "dev", "lo"])
    link_local = [
        re.search(r"inet6 (fe80::[0-9a-f:]+)", host.exec(["ip", "-6", "addr", "show", "dev", "eth0"]).stdout)[1]
        for host in (bridge, peer)
    ]
    bridge.exec(["ip6tables", "-A", "INPUT", "-p", "tcp", "--dport", "9000", "-j", "DROP"])
    bridge.exec(["ip6tables", "-A", "OUTPUT", "-p", "udp", "-j", "DROP"])
    own, other = link_local
    words = ("--src", other, "--dst", own, "--in", "eth0", "--dport")
    assert answer(bridge, *words, "9000", code=1)["rule"]["family"] == "ip6"
    assert answer(bridge, *words, "9001", code=0)["confidence"] == "proven"
    for words in (("--dst", other, "--out", "eth0"), ("--dst", f"{other}%eth0")):
        assert answer(bridge, "--path", "out", *words, "--dport", "9000", code=0)["packet"]["source"] == own
        assert answer(bridge, "--path", "out", *words, "--dport", "9000", "--proto", "udp", code=1)["rule"]


@pytest.mark.parametrize("kind", ["blackhole", "prohibit", "unreachable"])
def test_a_route_that_refuses_is_the_answer(bridge, forget, kind):
    bridge.exec(["ip", "route", "add", kind, "203.0.113.0/24"])
    try:
        found = answer(bridge, "--path", "out", "--dst", "203.0.113.1", "--proto", "udp", "--dport", "9", code=3)
        assert kind in found["reason"]
    finally:
        bridge.exec(["ip", "route", "del", kind, "203.0.113.0/24"])
