"""The verb that waits for a packet of somebody else's and returns what the kernel said of its way.

The packet is only looked at: nothing takes it away. One packet is followed, so that a busy flow costs no more than a
rare one.
"""

import contextlib
import socket
import struct
import time
from typing import Any, Dict, List, Optional

from netdiag.participant import life, nftables, sweep
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, UNSUPPORTED, WITHHELD, VerbError
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.nftables import NETWORK, TRANSPORT, Chain
from netdiag.participant.packets import PROTOCOLS
from netdiag.participant.same_packet import Follower
from netdiag.participant.trace_chains import copy_mark
from netdiag.participant.trace_events import (
    CHAIN,
    HANDLE,
    NETWORK_HEADER,
    TABLE,
    TYPE,
    TYPE_POLICY,
    Clones,
    Reader,
    taken_away,
    word,
)

_TCP_FLAGS_AT, _TCP_SYN, _TCP_RST = 13, 2, 4


def firewall_watch(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Wait for the first packet that matches, and follow it through the filters.

    Parameters: ``path`` ("out": one that this host sends; else one that arrives), ``devices`` (where it may arrive),
    ``bridges`` (this namespace has bridges), and what it must be, as far as it is said: ``src``, ``dst``, ``proto``,
    ``sport``, ``dport``, ``icmp_type``, ``later`` (a TCP packet behind the handshake's first two, and no reset); ``netns``, ``level`` (as for ``firewall-trace``), ``wait_ms``, ``may_load``.
    Data: ``messages``, ``table``, ``seen_us`` (from the start to the event that ended the trace; None when none came),
    ``foreign``, ``lost``. Errors: withheld, permission, missing, unsupported, timeout, failed.
    """
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "wait for a packet: it could load nf_tables")
    return in_netns(namespace_of(params), lambda: _Watch(params, deadline).run(), deadline)


class _Watch:
    def __init__(self, params: Dict[str, Any], deadline: Deadline) -> None:
        self._params = params
        self._deadline = deadline
        self._outward = params["path"] == "out"
        self._wait_s = float(params["wait_ms"]) / 1000.0
        self._table = life.new_table_name()
        self._packet = Follower()

    def run(self) -> Dict[str, Any]:
        sweep.sweep(self._deadline)
        with contextlib.ExitStack() as stack:
            reader = Reader(self.claims, self.ends, Clones(self._table, self._outward))
            stack.callback(reader.close)
            self._make_table(stack)
            start_s = time.monotonic()
            reader.listen(start_s, self._wait_s, self._deadline)
            # Chains at an egress hook stand behind our last one, and so do a bridge's other copies.
            reader.listen_behind(self._deadline)
        return {
            "messages": b"".join(reader.messages),
            "table": self._table,
            "seen_us": reader.seen_us,
            "foreign": reader.foreign,
            "lost": reader.lost,
        }

    def claims(self, found: Dict[int, bytes]) -> Optional[bool]:
        """Whether an event is of the one packet that is followed: the first that a rule of our first chain matched.

        What somebody else traces passes that chain as well, and has an event there that is of no rule.
        """
        if NETWORK_HEADER not in found:
            return None
        first = word(found.get(TABLE)) == self._table and word(found.get(CHAIN)).startswith("begin")
        if self._packet.first is None and first and HANDLE in found:
            self._packet.follow(found)
            return True
        return self._packet.is_it(found)

    def ends(self, found: Dict[int, bytes]) -> bool:
        """Whether the packet came to a chain of ours behind all others, or no further than this."""
        if word(found.get(TABLE)) == self._table and word(found.get(CHAIN)).startswith("end-"):
            return found.get(TYPE) == struct.pack(">I", TYPE_POLICY)
        return taken_away(found)

    def _make_table(self, stack: contextlib.ExitStack) -> None:
        # Without ingress hooks of devices (they are optional) a packet is met behind them.
        for ingress in (True, False):
            try:
                table = nftables.make_table(
                    str(self._params.get("level") or ""), self._table, self._chains(ingress), self._deadline
                )
            except VerbError as error:
                if ingress and error.kind in ("unsupported", "missing"):
                    continue
                raise
            stack.callback(table.close)
            return
        raise VerbError(FAILED, "make an nft table of our own")

    def _chains(self, ingress: bool) -> List[Chain]:
        inet, bridge = nftables.NFPROTO_INET, nftables.NFPROTO_BRIDGE
        rules = tuple(match + nftables.only_once() + nftables.set_trace() for match in self._matches())
        ends = [
            Chain(inet, "end-input", nftables.INPUT, nftables.LAST, "", ()),
            Chain(inet, "end-postrouting", nftables.POSTROUTING, nftables.LAST, "", ()),
        ]
        if self._outward:
            return [Chain(inet, "begin", nftables.OUTPUT, nftables.FIRST, "", rules, True), *ends]
        # It does nothing but have what a rule sends elsewhere besides the packet begin with an event of its own.
        ends.append(Chain(inet, "answers", nftables.OUTPUT, nftables.FIRST, "", ()))
        if self._params.get("bridges"):
            ends.append(Chain(bridge, "end-bridge", nftables.POSTROUTING, nftables.LAST, "", ()))
            ends += [copy_mark("forward"), copy_mark("output")]
        devices = [str(device) for device in self._params.get("devices") or ()]
        if ingress and devices:
            netdev = nftables.NFPROTO_NETDEV
            begin = [
                Chain(netdev, "begin-{}".format(number), nftables.INGRESS, nftables.FIRST, device, rules, True)
                for number, device in enumerate(devices)
            ]
            return begin + ends
        return [Chain(inet, "begin", nftables.PREROUTING, nftables.FIRST, "", rules, True), *ends]

    def _matches(self) -> List[bytes]:
        """The packet in nft's expressions: once for each family that what was said leaves possible."""
        addresses = [str(self._params[key]) for key in ("src", "dst") if self._params.get(key)]
        proto = str(self._params.get("proto") or "")
        if addresses:
            families = [":" in addresses[0]]
        elif proto in ("icmp", "icmpv6"):
            families = [proto == "icmpv6"]
        else:
            families = [False, True]
        return [self._match(six, proto) for six in families]

    def _match(self, six: bool, proto: str) -> bytes:
        kind = 0x0806 if proto == "arp" else 0x86DD if six else 0x0800
        match = nftables.meta_is(nftables.META_PROTOCOL, struct.pack(">H", kind))
        size, start = (16, 8) if six else (4, 12)
        places = (("src", start), ("dst", start + size)) if proto != "arp" else (("src", 14), ("dst", 24))
        for key, at in places:
            if self._params.get(key):
                family = socket.AF_INET6 if six else socket.AF_INET
                match += nftables.payload_is(NETWORK, at, socket.inet_pton(family, str(self._params[key])))
        number = _number(proto)
        if number is not None:
            match += nftables.meta_is(nftables.META_L4PROTO, bytes([number]))
        for key, at in (("sport", 0), ("dport", 2)):
            if self._params.get(key):
                match += nftables.payload_is(TRANSPORT, at, struct.pack(">H", int(self._params[key])))
        if self._params.get("later"):
            match += nftables.payload_lacks(TRANSPORT, _TCP_FLAGS_AT, _TCP_SYN | _TCP_RST)
        if self._params.get("icmp_type") is not None:
            match += nftables.payload_is(TRANSPORT, 0, bytes([int(self._params["icmp_type"])]))
        return match


def _number(proto: str) -> Optional[int]:
    if proto in ("", "arp"):
        return None
    if proto in PROTOCOLS:
        return PROTOCOLS[proto]
    if proto.isdigit() and int(proto) < 256:
        return int(proto)
    raise VerbError(UNSUPPORTED, "wait for protocol {}: not known".format(proto))
