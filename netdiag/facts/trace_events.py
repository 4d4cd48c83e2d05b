"""Trace events of nf_tables (NFT_MSG_TRACE), decoded from netlink bytes (linux/netfilter/nf_tables.h, nf_tables_trace.c)."""

from __future__ import annotations

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded
from netdiag.model.trace import TraceEvent, TraceKind

_TRACE = 10 << 8 | 17
_NFGENMSG_BYTES = 4
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _POLICY = 1, 2, 3, 4, 5, 16
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_KINDS = {1: TraceKind.POLICY, 2: TraceKind.RETURN, 3: TraceKind.RULE}
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_VERDICTS = {
    0: "drop",
    1: "accept",
    2: "stolen",
    3: "queue",
    4: "repeat",
    -1: "continue",
    -2: "break",
    -3: "jump",
    -4: "goto",
    -5: "return",
}


def decode_trace(data: bytes) -> Decoded[TraceEvent]:
    """The events in their order; what is no trace event is passed over."""
    events: list[TraceEvent] = []
    try:
        for message in netlink.messages(data):
            if message.kind == _TRACE and message.end - message.start >= _NFGENMSG_BYTES:
                event = _event(data[message.start], netlink.attributes(data, message.start + 4, message.end))
                if event is not None:
                    events.append(event)
    except netlink.Truncated as truncated:
        return Decoded(tuple(events), str(truncated))
    return Decoded(tuple(events), "")


def _event(family: int, found: dict[int, bytes]) -> TraceEvent | None:
    kind = _KINDS.get(int.from_bytes(found.get(_TYPE, b""), "big"))
    if kind is None:
        return None
    verdict = netlink.nested(found.get(_VERDICT))
    code = verdict.get(_VERDICT_CODE) or found.get(_POLICY)
    number = int.from_bytes(code, "big", signed=True) if code else -1
    if number >= 0:
        number &= 0xFF  # the upper half of NF_QUEUE is the queue's number
    handle = found.get(_HANDLE)
    return TraceEvent(
        family=_FAMILIES.get(family, str(family)),
        table=netlink.text(found.get(_TABLE)),
        chain=netlink.text(found.get(_CHAIN)),
        kind=kind,
        handle=int.from_bytes(handle, "big") if handle else None,
        verdict=_VERDICTS.get(number, str(number)),
        target=netlink.text(verdict.get(_VERDICT_CHAIN)),
    )
