"""``ip link`` and ``ip addr`` into the same links and addresses that their netlink dumps give."""

from __future__ import annotations

import itertools
import re
from typing import Any

from netdiag.facts.netlink import Decoded
from netdiag.facts.script_tables import Values, canonical, decoded, number, options, text_of, with_length
from netdiag.model.facts import Address, Link, LinkStats, Vxlan

_XDP_MODES = {1: "driver", 2: "generic", 3: "offloaded", 4: "multi"}
_XDP_WORDS = {"xdp": "driver", "xdpgeneric": "generic", "xdpoffload": "offloaded", "xdpmulti": "multi"}
_KINDS = frozenset(
    {
        *("bridge", "veth", "vxlan", "vlan", "bond", "team", "dummy", "ifb", "macvlan", "macvtap", "ipvlan", "ipvtap"),
        *("tun", "ipip", "sit", "gre", "gretap", "ip6gre", "ip6tnl", "erspan", "vti", "vti6", "geneve", "vrf"),
        *("wireguard", "xfrm", "nlmon", "macsec", "can", "vcan", "openvswitch", "netkit", "bareudp", "hsr"),
    }
)
_NUMBERED = re.compile(r"^(\d+): +(\S+?)(?:@(\S+))?: +<([^>]*)> *(.*)$")
_HEAD_OPTIONS = frozenset({"mtu", "qdisc", "master", "state", "mode", "group", "qlen"})
_DETAIL_OPTIONS = frozenset({"brd", "link-netnsid", "promiscuity", "peer", "prog/xdp"})
_VXLAN_OPTIONS = frozenset(
    {"id", "group", "remote", "local", "dev", "srcport", "dstport", "port", "ttl", "tos", "df", "ageing", "maxaddr"}
)
_ADDRESS_OPTIONS = frozenset({"peer", "brd", "scope", "metric", "proto", "label", "valid_lft", "preferred_lft"})
_DETAILED = "promiscuity"
"""Only a listing with details says it."""


def has_details(text: str) -> bool:
    """Whether a listing says of what kind each device is: busybox's does not."""
    return _DETAILED in text


def links(text: str) -> Decoded[Link]:
    """The rows of ``ip -j -d -s link show``, of ``ip -o -d -s link show``, or of what busybox has for it."""
    named = decoded("links", text, _from_json, _from_lines)
    indexes = {link.name: link.index for link, _, _ in named.rows}
    rows = tuple(_joined(link, master, peer, indexes) for link, master, peer in named.rows)
    return Decoded(rows, named.error)


_Named = tuple[Link, str, str]
"""A link, its master's name and its peer's: names become indexes when all are known."""


def _joined(link: Link, master: str, peer: str, indexes: dict[str, int]) -> Link:
    fields: dict[str, Any] = {field: getattr(link, field) for field in link.__struct_fields__}
    if master:
        fields["master"] = indexes.get(master)
    if peer and link.peer_index is None:
        # A peer in another namespace is named by its index there: "if12".
        fields["peer_index"] = number(peer.removeprefix("if")) if re.fullmatch(r"if\d+", peer) else indexes.get(peer)
    return Link(**fields)


def _from_json(item: Values) -> list[_Named]:
    flags = item.get("flags") or ()
    info = item.get("linkinfo") or {}
    kind = text_of(info, "info_kind")
    xdp = item.get("xdp") or {}
    program = xdp.get("prog") or {}
    stats = item.get("stats64") or item.get("stats")
    link = Link(
        index=int(item["ifindex"]),
        name=str(item["ifname"]),
        kind=kind,
        mtu_bytes=number(item.get("mtu")) or 0,
        mac=text_of(item, "address"),
        up="UP" in flags,
        operstate=text_of(item, "operstate").lower() or "unknown",
        loopback="LOOPBACK" in flags,
        promiscuous="PROMISC" in flags or bool(number(item.get("promiscuity"))),
        peer_index=number(item.get("link_index")),
        peer_netnsid=number(item.get("link_netnsid")),
        vxlan=_vxlan_json(info.get("info_data") or {}) if kind == "vxlan" else None,
        xdp_mode=_XDP_MODES.get(number(xdp.get("mode")) or 0, ""),
        xdp_program_id=number(program.get("id")),
        stats=_stats_json(stats) if isinstance(stats, dict) else None,
    )
    return [(link, text_of(item, "master"), text_of(item, "link"))]


def _stats_json(stats: Values) -> LinkStats:
    rx, tx = stats.get("rx") or {}, stats.get("tx") or {}
    return LinkStats(
        rx_packets=number(rx.get("packets")) or 0,
        tx_packets=number(tx.get("packets")) or 0,
        rx_errors=number(rx.get("errors")) or 0,
        tx_errors=number(tx.get("errors")) or 0,
        rx_dropped=number(rx.get("dropped")) or 0,
        tx_dropped=number(tx.get("dropped")) or 0,
    )


def _vxlan_json(data: Values) -> Vxlan:
    checksum = data.get("udp_csum")
    return Vxlan(
        vni=number(data.get("id")) or 0,
        port=number(data.get("port")) or 0,
        local=text_of(data, "local") or text_of(data, "local6"),
        group=next((text_of(data, key) for key in ("group", "group6", "remote", "remote6") if data.get(key)), ""),
        learning=bool(data.get("learning")),
        proxy=bool(data.get("proxy")),
        l2miss=bool(data.get("l2miss")),
        l3miss=bool(data.get("l3miss")),
        ageing_s=number(data.get("ageing")),
        udp_checksum=None if checksum is None else bool(checksum),
        external=bool(data.get("external")),
    )


def _from_lines(lines: list[str]) -> list[_Named]:
    match = _NUMBERED.match(lines[0].strip())
    if match is None:
        raise ValueError(lines[0])
    index, name, peer, shown, rest = match.groups()
    flags = shown.split(",")
    head = options(rest.split(), _HEAD_OPTIONS)
    parts = [line.split() for line in lines[1:] if line.strip()]
    ether = next((words for words in parts if words[0].startswith("link/")), [])
    detail = options(ether[2:], _DETAIL_OPTIONS)
    kind, words = next(((part[0], part[1:]) for part in parts if part[0] in _KINDS), ("", []))
    state = head.get("state", "").lower() or ("up" if "LOWER_UP" in flags else "down")
    mode = next((_XDP_WORDS[word] for word in (*head, *detail) if word in _XDP_WORDS), "")
    link = Link(
        index=int(index),
        name=name,
        kind=kind,
        mtu_bytes=number(head.get("mtu")) or 0,
        mac=ether[1] if len(ether) > 1 else "",
        up="UP" in flags,
        operstate=state,
        loopback="LOOPBACK" in flags,
        promiscuous="PROMISC" in flags or bool(number(detail.get("promiscuity"))),
        peer_netnsid=number(detail.get("link-netnsid")),
        vxlan=_vxlan_words(words) if kind == "vxlan" else None,
        xdp_mode=mode,
        xdp_program_id=_program(parts),
        stats=_stats_lines(parts),
    )
    # Without details the name after the @ is looked up by its index here, whichever namespace it is in.
    return [
        (link, head.get("master", ""), (peer or "") if _DETAILED in detail or (peer or "").startswith("if") else "")
    ]


def _program(parts: list[list[str]]) -> int | None:
    """The id in a line like "prog/xdp id 12 tag …"."""
    for words in parts:
        if words[:2] == ["prog/xdp", "id"] and len(words) > 2:
            return number(words[2])
    return None


def _stats_lines(parts: list[list[str]]) -> LinkStats | None:
    """The numbers below "RX: bytes packets errors dropped …" and its like for TX."""
    found: dict[str, list[int]] = {}
    for title, values in itertools.pairwise(parts):
        if title[0] in ("RX:", "TX:") and title[1:5] == ["bytes", "packets", "errors", "dropped"]:
            found[title[0]] = [int(value) for value in values[:4]]
    rx, tx = found.get("RX:"), found.get("TX:")
    if rx is None or tx is None:
        return None
    return LinkStats(
        rx_packets=rx[1],
        tx_packets=tx[1],
        rx_errors=rx[2],
        tx_errors=tx[2],
        rx_dropped=rx[3],
        tx_dropped=tx[3],
    )


def _vxlan_words(words: list[str]) -> Vxlan:
    found = options(words, _VXLAN_OPTIONS)
    checksum = True if "udpcsum" in found else (False if "noudpcsum" in found else None)
    return Vxlan(
        vni=number(found.get("id")) or 0,
        port=number(found.get("dstport")) or number(found.get("port")) or 0,
        local=found.get("local", ""),
        group=found.get("group") or found.get("remote", ""),
        # Words stand for what differs from a new device: it learns.
        learning="nolearning" not in found,
        proxy="proxy" in found,
        l2miss="l2miss" in found,
        l3miss="l3miss" in found,
        ageing_s=number(found.get("ageing")),
        udp_checksum=checksum,
        external="external" in found,
    )


# --- addresses -------------------------------------------------------------------------------------------------------


def addresses(text: str) -> Decoded[Address]:
    """The rows of ``ip -j addr show`` or ``ip -o addr show``."""
    return decoded("addresses", text, _addresses_json, _address_lines)


def _addresses_json(item: Values) -> list[Address]:
    rows = []
    for one in item.get("addr_info") or ():
        if one.get("family") not in ("inet", "inet6") or not one.get("local"):
            continue
        peer = text_of(one, "address")
        rows.append(
            Address(
                device=str(item["ifname"]),
                cidr=with_length(str(one["local"]), one["prefixlen"]),
                scope=text_of(one, "scope") or "global",
                secondary=one["family"] == "inet" and bool(one.get("secondary")),
                peer=canonical(peer) if peer else "",
            )
        )
    return rows


def _address_lines(lines: list[str]) -> list[Address]:
    """One address: ``2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0``, then its lifetimes."""
    words = lines[0].split()
    # busybox lists the device itself as well: "2: eth0: <BROADCAST,…> mtu 1500".
    if len(words) < 4 or words[2] not in ("inet", "inet6"):
        return []
    found = options(words[4:], _ADDRESS_OPTIONS)
    local, _, length = words[3].partition("/")
    peer = found.get("peer", "")
    # With a peer the length is the peer's: "inet 10.0.0.1 peer 10.0.0.2/32".
    length = length or peer.partition("/")[2]
    return [
        Address(
            device=words[1].rstrip(":").partition("@")[0],
            cidr=with_length(local, length),
            scope=found.get("scope") or "global",
            secondary=words[2] == "inet" and "secondary" in found,
            peer=canonical(peer.partition("/")[0]) if peer else "",
        )
    ]
