"""Trace events of nf_tables (NFT_MSG_TRACE), decoded from netlink bytes (linux/netfilter/nf_tables.h, nf_tables_trace.c)."""

from __future__ import annotations

import struct

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded
from netdiag.facts.nft_dump import FAMILIES
from netdiag.model.trace import Endpoints, TraceEvent, TraceKind

_TRACE = 10 << 8 | 17
_NFGENMSG_BYTES = 4
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID, _POLICY = 1, 2, 3, 4, 5, 6, 16
_NETWORK_HEADER, _TRANSPORT_HEADER, _IIF, _OIF = 8, 9, 10, 12
_WITH_PORTS = (6, 17, 132)
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_KINDS = {1: TraceKind.POLICY, 2: TraceKind.RETURN, 3: TraceKind.RULE}
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
    endpoints, protocol = _endpoints(found.get(_NETWORK_HEADER, b""), found.get(_TRANSPORT_HEADER, b""))
    return TraceEvent(
        family=FAMILIES.get(family, str(family)),
        table=netlink.text(found.get(_TABLE)),
        chain=netlink.text(found.get(_CHAIN)),
        kind=kind,
        handle=int.from_bytes(handle, "big") if handle else None,
        verdict=_VERDICTS.get(number, str(number)),
        target=netlink.text(verdict.get(_VERDICT_CHAIN)),
        endpoints=endpoints,
        protocol=protocol,
        in_index=int.from_bytes(found.get(_IIF, b""), "big"),
        out_index=int.from_bytes(found.get(_OIF, b""), "big"),
        id=int.from_bytes(found.get(_ID, b""), "big"),
    )


def _endpoints(network: bytes, transport: bytes) -> tuple[Endpoints | None, int | None]:
    """Addresses and ports of the headers in an event (RFC 791, 8200, 826); an extension header hides the ports."""
    if len(network) >= 20 and network[0] >> 4 == 4:
        source, target, protocol = network[12:16], network[16:20], network[9]
    elif len(network) >= 40 and network[0] >> 4 == 6:
        source, target, protocol = network[8:24], network[24:40], network[6]
    elif len(network) >= 28 and network[:4] == b"\0\1\x08\0":
        return Endpoints(source=netlink.address(network[14:18]), destination=netlink.address(network[24:28])), None
    else:
        return None, None
    ports: tuple[int | None, int | None] = (None, None)
    if protocol in _WITH_PORTS and len(transport) >= 4:
        ports = struct.unpack_from(">HH", transport)
    return (
        Endpoints(
            source=netlink.address(source),
            destination=netlink.address(target),
            source_port=ports[0],
            destination_port=ports[1],
        ),
        protocol,
    )
