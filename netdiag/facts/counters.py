"""Counters of one network namespace that tell where its kernel drops packets, and the settings that make it do so."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from netdiag.facts import links, netlink, tc
from netdiag.facts.context import texts
from netdiag.facts.netlink import Truncated
from netdiag.model.wire import Answer, Gather, Request

_NETSTAT, _SNMP, _CONNTRACK = "/proc/net/netstat", "/proc/net/snmp", "/proc/net/stat/nf_conntrack"
_TOTALS = "/proc/sys/net/netfilter/nf_conntrack_"
_CONF = "/proc/sys/net/ipv4/conf/"
_FORWARD = "/proc/sys/net/ipv4/ip_forward"
_SETTINGS = ("forwarding", "arp_ignore", "proxy_arp")
_READ_S = 2.0
_TCMSG = struct.Struct("<BxxxiIII")
_TCA_STATS2, _STATS_QUEUE = 7, 3
_ROOT = 0xFFFFFFFF
_QUEUE = struct.Struct("<III")
"""struct gnet_stats_queue: its length, its backlog, its drops (linux/gen_stats.h)."""


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What one namespace shows at one moment.

    Attributes:
        values: Counters by name: those of /proc/net as "TcpExt.ListenDrops", "conntrack.drop" (also its "count" and
            "maximum"), "link.eth0.rx_packets", and "qdisc.eth0.ingress.drops" (ingress, clsact or root).
        settings: sysctls by their names.
        xdp: Devices that carry an XDP program, with its mode and its id.
    """

    values: Mapping[str, int]
    settings: Mapping[str, str] = {}
    xdp: Mapping[str, tuple[str, int | None]] = {}


def gather_counters(netns: str = "", devices: Sequence[str] = ()) -> Gather[Counters]:
    """The counters of a namespace ("" is the host's own), with the settings of some of its devices."""
    names = ["all", *devices]
    globs = [
        *(_NETSTAT, _SNMP, _CONNTRACK, f"{_TOTALS}count", f"{_TOTALS}max", _FORWARD),
        f"{_CONF}*/rp_filter",  # by which device something comes in is not known before
        *(f"{_CONF}{name}/{setting}" for name in names for setting in _SETTINGS),
    ]
    answers = yield [
        Request("files", _within(netns, {"globs": globs}), _READ_S),
        _dump(netns, netlink.RTM_GETLINK, links.BODY),
        _dump(netns, netlink.RTM_GETQDISC, tc.BODY),
    ]
    found = texts(answers[0])
    rows = links.decode(_messages(answers[1])).rows
    values = {**proc_table(found.get(_NETSTAT, "")), **proc_table(found.get(_SNMP, ""))}
    values.update({f"conntrack.{name}": value for name, value in stat_table(found.get(_CONNTRACK, "")).items()})
    for name, path in (("count", f"{_TOTALS}count"), ("maximum", f"{_TOTALS}max")):
        if found.get(path, "").strip().isdigit():
            values[f"conntrack.{name}"] = int(found[path])
    for link in rows:
        if link.stats is not None:
            values[f"link.{link.name}.rx_packets"] = link.stats.rx_packets
            values[f"link.{link.name}.rx_dropped"] = link.stats.rx_dropped
            values[f"link.{link.name}.rx_otherhost"] = link.stats.rx_otherhost
            values[f"link.{link.name}.tx_packets"] = link.stats.tx_packets
    values.update(qdisc_drops(_messages(answers[2]), {link.index: link.name for link in rows}))
    return Counters(
        values=values,
        settings={
            _sysctl(path): text.strip() for path, text in found.items() if path == _FORWARD or path.startswith(_CONF)
        },
        xdp={link.name: (link.xdp_mode, link.xdp_program_id) for link in rows if link.xdp_mode},
    )


def proc_table(text: str) -> dict[str, int]:
    """The counters of /proc/net/netstat or snmp: a line of names and a line of numbers with one prefix."""
    values: dict[str, int] = {}
    lines = text.splitlines()
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        prefix, _, rest = names.partition(":")
        other, _, row = numbers.partition(":")
        if prefix == other:
            for name, number in zip(rest.split(), row.split(), strict=False):
                if number.lstrip("-").isdigit():
                    values[f"{prefix}.{name}"] = int(number)
    return values


def stat_table(text: str) -> dict[str, int]:
    """Sums over processors of a /proc/net/stat table: a line of names, then a line of hexadecimal numbers for each."""
    names, *rows = [line.split() for line in text.splitlines()] or [[]]
    totals: dict[str, int] = {}
    for row in rows:
        for name, value in zip(names, row, strict=False):
            try:
                totals[name] = totals.get(name, 0) + int(value, 16)
            except ValueError:
                continue
    return totals


def qdisc_drops(data: bytes, devices: Mapping[int, str]) -> dict[str, int]:
    """What the filters of each ingress and clsact discipline dropped, in either direction (net/core/dev.c), and root's."""
    return dict(_drops(data, devices))


def _drops(data: bytes, devices: Mapping[int, str]) -> Iterator[tuple[str, int]]:
    try:
        for message in netlink.messages(data):
            if message.kind != netlink.RTM_NEWQDISC:
                continue
            _, index, _, parent, _ = netlink.fields(_TCMSG, data, message)
            found = netlink.attributes(data, message.start + _TCMSG.size, message.end)
            kind = "root" if parent == _ROOT else netlink.text(found.get(tc.TCA_KIND))
            queue = netlink.nested(found.get(_TCA_STATS2)).get(_STATS_QUEUE, b"")
            if kind in ("ingress", "clsact", "root") and len(queue) >= _QUEUE.size:
                yield f"qdisc.{devices.get(index) or f'if{index}'}.{kind}.drops", _QUEUE.unpack_from(queue)[2]
    except Truncated:
        return


def _sysctl(path: str) -> str:
    return ".".join(part.replace(".", "/") for part in path.removeprefix("/proc/sys/").split("/"))


def _messages(answer: Answer) -> bytes:
    data: bytes = answer.data["messages"] if answer.data is not None else b""
    return data


def _within(netns: str, params: dict[str, Any]) -> dict[str, Any]:
    return {**params, "netns": netns} if netns else params


def _dump(netns: str, kind: int, body: bytes) -> Request:
    params = {"protocol": 0, "type": kind, "body": base64.b64encode(body).decode("ascii")}
    return Request("netlink-dump", _within(netns, params), _READ_S)
