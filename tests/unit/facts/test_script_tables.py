"""What ip and bridge print, of several ages, as the facts that their netlink dumps give."""

import json
import random

import pytest

from netdiag.facts import script_links, script_routes
from netdiag.model.facts import Address, FdbEntry, LinkStats, Neighbour, NextHop, PolicyRule, Route, Vxlan

# iproute2 3.10 (CentOS 7), "-o" joining lines by a backslash.
OLD_LINKS = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT \\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00 promiscuity 0 \\    RX: bytes  packets  errors  dropped overrun mcast   \\    640        8        0       0       0       0      \\    TX: bytes  packets  errors  dropped carrier collsns \\    640        8        0       0       0       0
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UP mode DEFAULT qlen 1000\\    link/ether 52:54:00:12:34:56 brd ff:ff:ff:ff:ff:ff promiscuity 0 \\    RX: bytes  packets  errors  dropped overrun mcast   \\    12345      101      1       2       0       0      \\    TX: bytes  packets  errors  dropped carrier collsns \\    54321      202      3       4       0       0
3: br0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP mode DEFAULT \\    link/ether 52:54:00:12:34:57 brd ff:ff:ff:ff:ff:ff promiscuity 0 \\    bridge
4: vxlan0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue master br0 state UNKNOWN mode DEFAULT \\    link/ether 52:54:00:12:34:58 brd ff:ff:ff:ff:ff:ff promiscuity 1 \\    vxlan id 4097 srcport 32768 61000 dstport 4789 nolearning proxy l2miss l3miss ageing 300
5: veth1@if6: <BROADCAST,UP,LOWER_UP> mtu 1450 qdisc pfifo_fast master br0 state UP mode DEFAULT \\    link/ether 52:54:00:12:34:59 brd ff:ff:ff:ff:ff:ff link-netnsid 2 promiscuity 1 \\    veth
6: eth1: <BROADCAST,MULTICAST> mtu 9000 xdp qdisc noop state DOWN mode DEFAULT group default qlen 1000\\    link/ether 52:54:00:12:34:60 brd ff:ff:ff:ff:ff:ff promiscuity 0 \\    prog/xdp id 12 tag 3b185187f1855c4c
"""
BUSYBOX_LINKS = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue qlen 1000\\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: eth0@docker0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue qlen 1000\\    link/ether 52:2a:c8:6c:87:8f brd ff:ff:ff:ff:ff:ff
3: docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue \\    link/ether 02:42:2c:4e:14:87 brd ff:ff:ff:ff:ff:ff
"""


def by_name(decoded):
    assert decoded.error == ""
    return {row.name: row for row in decoded.rows}


def test_links_of_an_old_ip():
    rows = by_name(script_links.links(OLD_LINKS))
    assert list(rows) == ["lo", "eth0", "br0", "vxlan0", "veth1", "eth1"]
    assert rows["lo"].loopback
    eth0 = rows["eth0"]
    assert (eth0.index, eth0.kind, eth0.mtu_bytes, eth0.mac) == (2, "", 1500, "52:54:00:12:34:56")
    assert (eth0.up, eth0.operstate) == (True, "up")
    assert eth0.stats == LinkStats(rx_packets=101, tx_packets=202, rx_errors=1, tx_errors=3, rx_dropped=2, tx_dropped=4)
    assert rows["br0"].kind == "bridge"
    vxlan0 = rows["vxlan0"]
    assert (vxlan0.master, vxlan0.promiscuous) == (3, True)
    assert vxlan0.vxlan == Vxlan(vni=4097, port=4789, proxy=True, l2miss=True, l3miss=True, ageing_s=300)
    veth1 = rows["veth1"]
    assert (veth1.kind, veth1.peer_index, veth1.peer_netnsid, veth1.master) == ("veth", 6, 2, 3)
    assert (rows["eth1"].xdp_mode, rows["eth1"].xdp_program_id, rows["eth1"].up) == ("driver", 12, False)
    assert script_links.has_details(OLD_LINKS)


def test_links_of_busybox_have_no_kind_and_no_peer_that_it_only_guessed():
    rows = by_name(script_links.links(BUSYBOX_LINKS))
    assert (rows["eth0"].operstate, rows["eth0"].peer_index, rows["eth0"].kind) == ("up", None, "")
    assert rows["docker0"].operstate == "down"
    assert not script_links.has_details(BUSYBOX_LINKS)


def test_addresses_as_text():
    text = """\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0    inet 192.0.2.10/24 brd 192.0.2.255 scope global eth0
2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global secondary eth0:1
2: eth0    inet6 fe80::5054:ff:fe12:3456/64 scope link
3: tun0    inet 10.8.0.1 peer 10.8.0.2/32 scope global tun0
4: eth0@if5: <BROADCAST> mtu 1500 qdisc noqueue
"""
    decoded = script_links.addresses(text)
    assert decoded.error == ""
    assert decoded.rows == (
        Address(device="lo", cidr="127.0.0.1/8", scope="host"),
        Address(device="eth0", cidr="192.0.2.10/24"),
        Address(device="eth0", cidr="192.0.2.11/24", secondary=True),
        Address(device="eth0", cidr="fe80::5054:ff:fe12:3456/64", scope="link"),
        Address(device="tun0", cidr="10.8.0.1/32", peer="10.8.0.2"),
    )


ROUTES = """\
default via 192.0.2.1 dev eth0 proto dhcp src 192.0.2.10 metric 100
10.0.0.0/8 via 192.0.2.9 dev eth0 table vpn mtu lock 1400 onlink
10.99.0.0/16 \\\tnexthop via 192.0.2.7 dev eth0 weight 2 \\\tnexthop via 192.0.2.8 dev eth1 weight 1
blackhole 10.98.0.0/26 proto 12 metric 7
local 192.0.2.10 dev eth0 table local proto kernel scope host src 192.0.2.10
10.77.0.0/16 via inet6 fe80::1 dev eth0 proto bird
"""
WANTED_ROUTES = (
    Route(
        destination="0.0.0.0/0",
        protocol="dhcp",
        scope="global",
        metric=100,
        source="192.0.2.10",
        next_hops=(NextHop(gateway="192.0.2.1", device="eth0"),),
    ),
    Route(
        destination="10.0.0.0/8",
        table=42,
        protocol="boot",
        scope="global",
        mtu_bytes=1400,
        next_hops=(NextHop(gateway="192.0.2.9", device="eth0", onlink=True),),
    ),
    Route(
        destination="10.99.0.0/16",
        protocol="boot",
        scope="global",
        next_hops=(
            NextHop(gateway="192.0.2.7", device="eth0", weight=2),
            NextHop(gateway="192.0.2.8", device="eth1"),
        ),
    ),
    Route(destination="10.98.0.0/26", type="blackhole", protocol="bird", scope="global", metric=7),
    Route(
        destination="192.0.2.10/32",
        table=255,
        type="local",
        protocol="kernel",
        scope="host",
        source="192.0.2.10",
        next_hops=(NextHop(device="eth0"),),
    ),
    Route(
        destination="10.77.0.0/16",
        protocol="bird",
        scope="global",
        next_hops=(NextHop(gateway="fe80::1", device="eth0"),),
    ),
)
TABLES = script_routes.table_names("255\tlocal\n# a comment\n42 vpn\nnonsense\n")


def test_routes_as_text():
    decoded = script_routes.routes(ROUTES, 4, TABLES)
    assert decoded.error == ""
    assert decoded.rows == WANTED_ROUTES


def test_routes_over_several_lines_are_the_same():
    decoded = script_routes.routes(ROUTES.replace("\\", "\n"), 4, TABLES)
    assert decoded.rows == WANTED_ROUTES


def test_routes_as_json():
    listed = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "protocol": "dhcp", "prefsrc": "192.0.2.10", "metric": 100},
        {"dst": "10.0.0.0/8", "gateway": "192.0.2.9", "dev": "eth0", "table": "vpn", "metrics": [{"mtu": 1400}], "flags": ["onlink"]},
        {
            "dst": "10.99.0.0/16",
            "nexthops": [
                {"gateway": "192.0.2.7", "dev": "eth0", "weight": 2, "flags": []},
                {"gateway": "192.0.2.8", "dev": "eth1", "weight": 1, "flags": []},
            ],
        },
        {"type": "blackhole", "dst": "10.98.0.0/26", "protocol": "12", "metric": 7},
        {"type": "local", "dst": "192.0.2.10", "dev": "eth0", "table": "local", "protocol": "kernel", "scope": "host", "prefsrc": "192.0.2.10"},
        {"dst": "10.77.0.0/16", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0", "protocol": "bird"},
    ]  # fmt: skip
    assert script_routes.routes(json.dumps(listed), 4, TABLES).rows == WANTED_ROUTES


def test_who_made_a_route_is_not_known_where_the_tool_never_says():
    (route,) = script_routes.routes("192.0.2.0/24 dev eth0 scope link  src 192.0.2.10 \n", 4).rows
    assert (route.protocol, route.scope, route.source) == ("", "link", "192.0.2.10")


RULES = """\
0:\tfrom all lookup local
100:\tnot from 10.1.0.0/16 to 10.2.0.0/16 iif eth0 oif eth1 fwmark 0x7/0xff lookup vpn
200:\tfrom all fwmark 0x10 unreachable
32766:\tfrom all lookup main
"""
WANTED_RULES = (
    PolicyRule(priority=0, family=4, table=255),
    PolicyRule(
        priority=100,
        family=4,
        source="10.1.0.0/16",
        destination="10.2.0.0/16",
        in_device="eth0",
        out_device="eth1",
        mark=7,
        mask=255,
        table=42,
        invert=True,
    ),
    PolicyRule(priority=200, family=4, mark=16, mask=0xFFFFFFFF, action="unreachable"),
    PolicyRule(priority=32766, family=4, table=254),
)


def test_rules_as_text_and_as_json():
    assert script_routes.rules(RULES, 4, TABLES).rows == WANTED_RULES
    listed = [
        {"priority": 0, "src": "all", "table": "local"},
        {
            "priority": 100,
            "not": None,
            "src": "10.1.0.0",
            "srclen": 16,
            "dst": "10.2.0.0",
            "dstlen": 16,
            "iif": "eth0",
            "oif": "eth1",
            "fwmark": "0x7",
            "fwmask": "0xff",
            "table": "vpn",
        },
        {"priority": 200, "src": "all", "fwmark": "0x10", "action": "unreachable"},
        {"priority": 32766, "src": "all", "table": "main"},
    ]
    assert script_routes.rules(json.dumps(listed), 4, TABLES).rows == WANTED_RULES


def test_neighbours_of_ip_and_of_busybox():
    text = """\
192.0.2.1 dev eth0 lladdr 52:54:00:00:00:01 REACHABLE
192.0.2.2 dev eth0  FAILED
fe80::1 dev eth0 lladdr 52:54:00:00:00:01 router STALE
192.0.2.3 dev eth0 lladdr 52:54:00:00:00:03 used 0/0/0 probes 4 PERMANENT
"""
    assert script_routes.neighbours(text).rows == (
        Neighbour(device="eth0", address="192.0.2.1", mac="52:54:00:00:00:01", states=("reachable",)),
        Neighbour(device="eth0", address="192.0.2.2", states=("failed",)),
        Neighbour(device="eth0", address="fe80::1", mac="52:54:00:00:00:01", states=("stale",)),
        Neighbour(device="eth0", address="192.0.2.3", mac="52:54:00:00:00:03", states=("permanent",)),
    )


FDB = """\
02:42:0a:00:01:05 dev vxlan0 dst 192.0.2.20 link-netnsid 0 self permanent
02:42:0a:00:01:05 dev vxlan0 master br0
33:33:00:00:00:01 dev br0 self permanent
02:42:0a:00:01:06 dev veth1 vlan 10 master br0 permanent
02:42:0a:00:01:07 dev veth1 master br0 stale
02:42:0a:00:01:08 dev eth0 self static
"""


def test_forwarding_entries_as_text_and_as_json():
    wanted = (
        FdbEntry(device="vxlan0", mac="02:42:0a:00:01:05", vtep="192.0.2.20", states=("permanent",), on_self=True),
        FdbEntry(device="vxlan0", mac="02:42:0a:00:01:05", states=("reachable",), on_master=True),
        FdbEntry(device="br0", mac="33:33:00:00:00:01", states=("permanent",), on_self=True),
        FdbEntry(device="veth1", mac="02:42:0a:00:01:06", vlan=10, states=("permanent",), on_master=True),
        FdbEntry(device="veth1", mac="02:42:0a:00:01:07", states=("stale",), on_master=True),
        FdbEntry(device="eth0", mac="02:42:0a:00:01:08", states=("noarp",), on_self=True),
    )
    assert script_routes.fdb(FDB).rows == wanted
    listed = [
        {"mac": "02:42:0a:00:01:05", "ifname": "vxlan0", "dst": "192.0.2.20", "flags": ["self"], "state": "permanent"},
        {"mac": "02:42:0a:00:01:05", "ifname": "vxlan0", "flags": [], "master": "br0", "state": ""},
        {"mac": "33:33:00:00:00:01", "ifname": "br0", "flags": ["self"], "state": "permanent"},
        {
            "mac": "02:42:0a:00:01:06",
            "ifname": "veth1",
            "vlan": 10,
            "flags": [],
            "master": "br0",
            "state": "permanent",
        },
        {"mac": "02:42:0a:00:01:07", "ifname": "veth1", "flags": [], "master": "br0", "state": "stale"},
        {"mac": "02:42:0a:00:01:08", "ifname": "eth0", "flags": ["self"], "state": "static"},
    ]
    assert script_routes.fdb(json.dumps(listed)).rows == wanted


DECODERS = {
    "links": (script_links.links, OLD_LINKS),
    "addresses": (script_links.addresses, "2: eth0    inet 192.0.2.10/24 scope global eth0\n"),
    "routes": (lambda text: script_routes.routes(text, 4, TABLES), ROUTES),
    "rules": (lambda text: script_routes.rules(text, 4, TABLES), RULES),
    "neighbours": (script_routes.neighbours, "192.0.2.1 dev eth0 lladdr 52:54:00:00:00:01 REACHABLE\n"),
    "fdb": (script_routes.fdb, FDB),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_line_that_is_not_understood_is_named_and_costs_no_other(name):
    decode, text = DECODERS[name]
    whole = decode(text)
    strange = decode(text + 'Object "x" is unknown, try "ip help".\n')
    assert strange.rows == whole.rows
    # "ip addr" lists devices in other lines, which are passed over.
    assert name == "addresses" or "not understood: Object" in strange.error


@pytest.mark.parametrize("name", DECODERS)
def test_damage_never_raises(name):
    decode, text = DECODERS[name]
    seeded = random.Random(name)
    for _ in range(400):
        damaged = list(text)
        for _ in range(seeded.randrange(1, 6)):
            damaged[seeded.randrange(len(damaged))] = seeded.choice(' \n\\0a:/{["\0é')
        decode("".join(damaged)[: seeded.randrange(len(text) + 1)])


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[1, null, [], {}, true]",
        '[{"ifindex": "x", "ifname": 3, "dst": 5, "mac": null, "priority": [], "addr_info": [{"family": "inet", "local": "x", "prefixlen": {}}]}]',
        '[{"ifindex": 1, "ifname": "a", "linkinfo": 7, "stats64": 3, "dst": "::x", "dev": {}}]',
        "[" * 100000,
    ],
)
def test_json_of_another_shape_never_raises(name, text):
    decoded = DECODERS[name][0](text)
    assert decoded.rows == () or decoded.error
