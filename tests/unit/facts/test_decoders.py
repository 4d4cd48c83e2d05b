"""Decoders against pyroute2 on the same bytes, and on damaged bytes."""

from __future__ import annotations

import importlib
import ipaddress
import json
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdiag.facts import addresses, links, neighbours, netlink, routes, rules, tc
from netdiag.facts.bundle import Bundle

DECODERS: dict[str, Callable[[bytes], netlink.Decoded[Any]]] = {
    "links": links.decode,
    "addresses": lambda data: addresses.decode(data, {}),
    "routes": lambda data: routes.decode(data, {}),
    "rules": lambda data: rules.decode(data, {}),
    "neighbours": lambda data: neighbours.decode(data, {}),
    "fdb": lambda data: neighbours.decode_fdb(data, {}),
    "hooks": lambda data: tc.decode_hooks(data, {})[0],
    "filters": lambda data: tc.decode_filters(data, {}),
}
KINDS = {"links": 18, "addresses": 22, "routes": 26, "rules": 34, "neighbours": 30, "hooks": 38}


def dumps(recorded: Bundle, kind: int) -> Iterator[bytes]:
    for key, answer in recorded.answers.items():
        verb, _, params = key.partition(" ")
        if verb == "netlink-dump" and json.loads(params)["type"] == kind and answer.data:
            yield answer.data["messages"]


@pytest.fixture(scope="module")
def oracle() -> Callable[[bytes], list[Any]]:
    """pyroute2's reading of a dump."""
    marshal = importlib.import_module("pyroute2.netlink.rtnl.marshal").MarshalRtnl()
    return lambda data: list(marshal.parse(data))


def test_links_as_pyroute2_reads_them(recorded: Bundle, oracle: Callable[[bytes], list[Any]]) -> None:
    compared = 0
    for data in dumps(recorded, KINDS["links"]):
        ours, theirs = links.decode(data), oracle(data)
        assert ours.error == ""
        assert len(ours.rows) == len(theirs)
        for link, message in zip(ours.rows, theirs, strict=True):
            assert link.index == message["index"]
            assert link.name == message.get_attr("IFLA_IFNAME")
            assert link.mtu_bytes == message.get_attr("IFLA_MTU")
            assert link.mac == message.get_attr("IFLA_ADDRESS")
            assert link.operstate.upper() == message.get_attr("IFLA_OPERSTATE")
            assert link.master == message.get_attr("IFLA_MASTER")
            assert link.peer_index == message.get_attr("IFLA_LINK")
            assert link.peer_netnsid == message.get_attr("IFLA_LINK_NETNSID")
            assert link.up == bool(message["flags"] & 1)
            stats = message.get_attr("IFLA_STATS64")
            assert (link.stats.rx_packets, link.stats.tx_dropped) == (stats["rx_packets"], stats["tx_dropped"])
            info = message.get_attr("IFLA_LINKINFO")
            assert link.kind == ((info and info.get_attr("IFLA_INFO_KIND")) or "")
            if link.vxlan:
                their = info.get_attr("IFLA_INFO_DATA")
                assert link.vxlan.vni == their.get_attr("IFLA_VXLAN_ID")
                assert link.vxlan.port == their.get_attr("IFLA_VXLAN_PORT")
                assert link.vxlan.ageing_s == their.get_attr("IFLA_VXLAN_AGEING")
                assert link.vxlan.udp_checksum == bool(their.get_attr("IFLA_VXLAN_UDP_CSUM"))
            compared += 1
    assert compared > 20


def test_addresses_as_pyroute2_reads_them(recorded: Bundle, oracle: Callable[[bytes], list[Any]]) -> None:
    for data in dumps(recorded, KINDS["addresses"]):
        ours, theirs = addresses.decode(data, {}).rows, oracle(data)
        assert [row.cidr for row in ours] == [
            f"{m.get_attr('IFA_LOCAL') or m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}" for m in theirs
        ]
        assert [row.device for row in ours] == [f"if{m['index']}" for m in theirs]


def test_routes_as_pyroute2_reads_them(recorded: Bundle, oracle: Callable[[bytes], list[Any]]) -> None:
    compared = 0
    for data in dumps(recorded, KINDS["routes"]):
        ours, theirs = routes.decode(data, {}), oracle(data)
        assert ours.error == ""
        for route, message in zip(ours.rows, theirs, strict=True):
            default = "0.0.0.0" if message["family"] == 2 else "::"
            assert route.destination == f"{message.get_attr('RTA_DST') or default}/{message['dst_len']}"
            assert route.table == message.get_attr("RTA_TABLE")
            assert route.metric == (message.get_attr("RTA_PRIORITY") or 0)
            assert route.source == (message.get_attr("RTA_PREFSRC") or "")
            ways = message.get_attr("RTA_MULTIPATH")
            if ways:
                assert [(hop.gateway, hop.weight) for hop in route.next_hops] == [
                    (way.get_attr("RTA_GATEWAY"), way["hops"] + 1) for way in ways
                ]
            elif route.next_hops:
                via = message.get_attr("RTA_VIA")
                gateway = message.get_attr("RTA_GATEWAY") or (via["addr"] if via else "")
                assert route.next_hops[0].gateway == gateway
                assert route.next_hops[0].device == f"if{message.get_attr('RTA_OIF')}"
            compared += 1
    assert compared > 50


def test_neighbours_and_rules_as_pyroute2_reads_them(recorded: Bundle, oracle: Callable[[bytes], list[Any]]) -> None:
    for data in dumps(recorded, KINDS["neighbours"]):
        theirs = oracle(data)
        if theirs and theirs[0]["family"] == netlink.AF_BRIDGE:
            ours = neighbours.decode_fdb(data, {}).rows
            assert [(row.mac, row.vtep, row.on_self) for row in ours] == [
                (m.get_attr("NDA_LLADDR"), m.get_attr("NDA_DST") or "", bool(m["flags"] & 2)) for m in theirs
            ]
        else:
            rows = neighbours.decode(data, {}).rows
            assert [(row.address, row.mac) for row in rows] == [
                (m.get_attr("NDA_DST"), m.get_attr("NDA_LLADDR") or "") for m in theirs
            ]
    for data in dumps(recorded, KINDS["rules"]):
        assert [(rule.priority, rule.table, rule.mark) for rule in rules.decode(data, {}).rows] == [
            (m.get_attr("FRA_PRIORITY") or 0, m.get_attr("FRA_TABLE"), m.get_attr("FRA_FWMARK"))
            for m in oracle(data)
            if m["family"] in netlink.FAMILIES  # multicast routing has rules, too
        ]


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=400))
def test_random_bytes_never_raise(name: str, data: bytes) -> None:
    decoded = DECODERS[name](data)
    assert isinstance(decoded.rows, tuple)


@pytest.mark.parametrize("name", KINDS)
def test_every_truncation_gives_what_came_before_it(name: str, recorded: Bundle) -> None:
    data = max(dumps(recorded, KINDS[name]), key=len)
    whole = DECODERS[name](data)
    for cut in range(0, len(data), 7):
        part = DECODERS[name](data[:cut])
        assert part.rows == whole.rows[: len(part.rows)]
        assert len(part.error.splitlines()) <= 1
    assert whole.error == ""


@pytest.mark.parametrize("name", KINDS)
@given(at=st.integers(min_value=0), value=st.integers(min_value=0, max_value=255))
def test_a_flipped_byte_never_raises(name: str, at: int, value: int, recorded: Bundle) -> None:
    data = bytearray(max(dumps(recorded, KINDS[name]), key=len))
    data[at % len(data)] = value
    DECODERS[name](bytes(data))


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("<IHHII", 16 + len(body), kind, 2, 1, 0) + body


def route_message(destination: bytes, gateway: bytes, *, length: int = 24, kind: int = 1, flags: int = 0) -> bytes:
    body = struct.pack("<BBBBBBBBI", 2, length, 0, 0, 254, 12, 0, kind, flags)
    body += attribute(15, struct.pack("<I", 254)) + attribute(1, destination) + attribute(6, struct.pack("<I", 32))
    return message(24, body + attribute(5, gateway) + attribute(4, struct.pack("<I", 2)))


def test_routes_that_differ_in_anything_but_their_destination_are_told_apart() -> None:
    near = [
        route_message(b"\x0a\x01\x00\x00", b"\xc0\x00\x02\x01"),
        route_message(b"\x0a\x01\x01\x00", b"\xc0\x00\x02\x01"),
        route_message(b"\x0a\x01\x02\x00", b"\xc0\x00\x02\x02"),
        route_message(b"\x0a\x01\x03\x00", b"\xc0\x00\x02\x01", length=26),
        route_message(b"\x0a\x01\x04\x00", b"\xc0\x00\x02\x01", kind=6),
        route_message(b"\x0a\x01\x05\x00", b"\xc0\x00\x02\x01", flags=0x200),
        route_message(b"\x0a\x01\x06\x00", b"\xc0\x00\x02\x01"),
    ]
    rows = routes.decode(b"".join(near), {2: "eth0"}).rows
    assert [(row.destination, row.type, row.next_hops[0].gateway if row.next_hops else "") for row in rows] == [
        ("10.1.0.0/24", "unicast", "192.0.2.1"),
        ("10.1.1.0/24", "unicast", "192.0.2.1"),
        ("10.1.2.0/24", "unicast", "192.0.2.2"),
        ("10.1.3.0/26", "unicast", "192.0.2.1"),
        ("10.1.4.0/24", "blackhole", ""),
        ("10.1.6.0/24", "unicast", "192.0.2.1"),
    ]


def test_a_hundred_thousand_routes() -> None:
    count = 100_000
    data = b"".join(
        route_message(struct.pack(">I", 0x0A000000 + number * 256), bytes([192, 0, 2, 1 + number % 200]))
        for number in range(count)
    )
    best_s = 9.0
    for _ in range(3):
        start_s = time.process_time()
        decoded = routes.decode(data, {2: "eth0"})
        best_s = min(best_s, time.process_time() - start_s)
    assert len(decoded.rows) == count
    assert decoded.rows[777].destination == "10.3.9.0/24"
    assert decoded.rows[-1].next_hops[0].gateway == f"192.0.2.{1 + (count - 1) % 200}"
    # 0.12 s when nothing else runs: the budget is 1.5 times "ip -j route show", held by the benchmark.
    assert best_s < 3


def test_a_filter_that_may_drop() -> None:
    head = struct.pack("<BxxxiIII", 0, 3, 1, 0xFFFFFFF2, 7 << 16 | 0x0008)
    options = attribute(2, attribute(7, b"drop.o\0") + attribute(11, struct.pack("<I", 42)))
    (row,) = tc.decode_filters(message(44, head + attribute(1, b"bpf\0") + options), {3: "eth0"}).rows
    assert (row.device, row.parent, row.kind, row.priority, row.protocol) == ("eth0", "ingress", "bpf", 7, "ip")
    assert row.detail == "drop.o id 42"


def test_hooks_to_ask_for() -> None:
    head = struct.pack("<BxxxiIII", 0, 3, 0xFFFF0000, 0xFFFFFFF1, 1)
    decoded, hooks = tc.decode_hooks(message(36, head + attribute(1, b"clsact\0")), {3: "eth0"})
    assert hooks == ((3, 0xFFFFFFF2), (3, 0xFFFFFFF3))
    assert decoded.rows[0].device == "eth0"


@given(st.binary(min_size=16, max_size=16))
def test_ipv6_addresses_are_canonical(raw: bytes) -> None:
    ours = netlink.address(raw)
    assert ipaddress.IPv6Address(ours).packed == raw
    if not raw.startswith(b"\0" * 10):  # the standard library writes ::ffff:1.2.3.4, the kernel's tools vary
        assert ours == str(ipaddress.IPv6Address(raw))
