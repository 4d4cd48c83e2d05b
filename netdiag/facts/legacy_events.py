"""Decodes what legacy iptables chains report through nfnetlink_log.

Formats: linux/netfilter/nfnetlink_log.h; the prefix "TRACE: TABLE:CHAIN:KIND:NUMBER " is of net/ipv4/netfilter/ip_tables.c.
"""

from __future__ import annotations

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded
from netdiag.firewall.legacy_trace import LegacyEvent

_PACKET = 4 << 8
_NFGENMSG_BYTES = 4
_HEADER, _OUT_PORT, _PREFIX = 1, 7, 10
_BEGIN = "TRACE: "
_FAMILIES = {2: "ip", 10: "ip6"}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


def decode_legacy(data: bytes) -> Decoded[LegacyEvent]:
    """The reports in their order; what is none is passed over."""
    events: list[LegacyEvent] = []
    try:
        for message in netlink.messages(data):
            if message.kind == _PACKET and message.end - message.start >= _NFGENMSG_BYTES:
                found = netlink.attributes(data, message.start + _NFGENMSG_BYTES, message.end)
                event = _event(data[message.start], found)
                if event is not None:
                    events.append(event)
    except netlink.Truncated as truncated:
        return Decoded(tuple(events), str(truncated))
    return Decoded(tuple(events), "")


def _event(family: int, found: dict[int, bytes]) -> LegacyEvent | None:
    header, prefix = found.get(_HEADER, b""), netlink.text(found.get(_PREFIX))
    if family not in _FAMILIES or len(header) < 3 or header[2] >= len(_HOOKS) or not prefix.startswith(_BEGIN):
        return None
    # A chain's name may hold colons.
    table, _, rest = prefix[len(_BEGIN) :].rstrip().partition(":")
    chain, _, last = rest.rpartition(":")
    chain, _, _ = chain.rpartition(":")
    if not (table and chain and last.isdecimal() and last.isascii() and int(last)):
        return None
    return LegacyEvent(
        family=_FAMILIES[family],
        hook=_HOOKS[header[2]],
        table=table,
        chain=chain,
        number=int(last),
        port=int.from_bytes(found.get(_OUT_PORT, b""), "big"),
    )
