"""Probes of another host, from this one: what to ask of the participant, and what its answers mean."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from netdiag.facts import sizes as planner
from netdiag.facts.probe_answers import ca_probe, error_text, hello_probe, path_sizes, size_probes, tcp_probe, tls_probe
from netdiag.facts.rounds import together
from netdiag.facts.route_lookup import Lookup, gather_lookup, gather_neighbour_unanswered, gather_route
from netdiag.model.probes import (
    CaProbe,
    HelloProbe,
    ManagerProbe,
    PathSizes,
    SizeProbe,
    TcpOutcome,
    TcpProbe,
    TlsProbe,
)
from netdiag.model.wire import Gather, Request

__all__ = [
    "gather_manager",
    "gather_resolve",
    "gather_route",
    "gather_sizes",
    "gather_tcp",
]

WAIT_S = 2.0
"""How long a SYN may stay unanswered: one retransmission (RFC 6298: after 1 s) and its answer fit in."""
ECHO_WAIT_S = 1.6
TLS_WAIT_S = 2.0
HELLO_WAIT_S = 1.2
"""Several retransmissions of a segment: one lost packet does not look like a path that swallows a size."""
ECHO_ATTEMPTS = 2
HELLO_LIMIT_BYTES = 15000
_REFINING_ROUNDS = 4


def gather_resolve(name: str, *, timeout_s: float = 2.0) -> Gather[tuple[tuple[str, ...], str]]:
    """The addresses of a name, and why there are none ("" when there are)."""
    (answer,) = yield [Request("resolve", {"name": name}, timeout_s)]
    if answer.data is None:
        return (), error_text(answer)
    return tuple(answer.data["addresses"]), ""


def gather_tcp(address: str, port: int, *, source: str = "", wait_s: float = WAIT_S) -> Gather[TcpProbe | None]:
    """One connection attempt; None when it was not made. Silence that is this host's own ARP or ND is told apart."""
    lookup = yield from gather_lookup(address)
    (answer,) = yield [_tcp_request(address, port, source, wait_s)]
    return (yield from _judged_silence(tcp_probe(address, port, answer, wait_s), lookup))


def gather_sizes(
    peer: str, device: str, device_mtu_bytes: int, *, wait_s: float = ECHO_WAIT_S
) -> Gather[PathSizes | None]:
    """Which packet sizes reach ``peer`` with DF set, to the byte; None when no echo could be sent at all."""
    (answer,) = yield [_echo_request(peer, planner.first_sizes(device_mtu_bytes), wait_s)]
    return (yield from _refined(peer, device, device_mtu_bytes, size_probes(answer), wait_s))


def gather_manager(
    given: str,
    address: str,
    port: int = 2377,
    *,
    ca_request: bytes,
    parse_ca: Callable[[bytes], CaProbe],
    wait_s: float = WAIT_S,
) -> Gather[ManagerProbe]:
    """Everything that is asked of one manager: route, TCP, sizes, TLS with the root-CA call, two hellos.

    TCP and the first sizes are asked at once; the rest only when TCP connected, so that a manager behind a filter that
    drops costs no more than ``wait_s``.

    Args:
        given: As the operator typed it, for the report; resolved when ``address`` is empty.
        address: Where to connect.
        port: The manager's port.
        ca_request: The bytes of the root-CA call, for a TLS connection with ALPN h2.
        parse_ca: Reads the bytes that came back.
        wait_s: How long to wait for the TCP connection.
    """
    if not address:
        addresses, why = yield from gather_resolve(given)
        if not addresses:
            return ManagerProbe(given=given, port=port, unresolved=why)
        address = addresses[0]
    lookup = yield from gather_lookup(address)
    device, mtu_bytes = lookup.route.device, lookup.device_mtu_bytes
    # Nothing is lost for its size on the loopback device: the manager is this host.
    wants_sizes = mtu_bytes > 0 and device != "lo"
    requests = [_tcp_request(address, port, "", wait_s)]
    if wants_sizes:
        requests.append(_echo_request(address, planner.first_sizes(mtu_bytes), min(ECHO_WAIT_S, wait_s)))
    tcp_answer, *echo_answers = yield requests
    tcp = tcp_probe(address, port, tcp_answer, wait_s)
    first = size_probes(echo_answers[0]) if echo_answers else None
    if tcp is None or tcp.outcome is not TcpOutcome.CONNECTED:
        tcp = yield from _judged_silence(tcp, lookup)
        sizes = path_sizes(address, device, mtu_bytes, first) if first else None
        return ManagerProbe(given=given, address=address, port=port, route=lookup.route, tcp=tcp, sizes=sizes)
    (tls, ca, hello), sizes = yield from together(
        [
            _conversation(address, port, ca_request, parse_ca, mtu_bytes if wants_sizes else 0),
            _refined(address, device, mtu_bytes, first, ECHO_WAIT_S),
        ]
    )
    return ManagerProbe(
        given=given,
        address=address,
        port=port,
        route=lookup.route,
        tcp=tcp,
        tls=tls,
        ca=ca,
        sizes=sizes,
        hello=hello,
    )


# --- TCP -------------------------------------------------------------------------------------------------------------


def _tcp_request(address: str, port: int, source: str, wait_s: float) -> Request:
    params: dict[str, Any] = {"address": address, "port": port}
    if source:
        params["source"] = source
    return Request("tcp-connect", params, wait_s)


def _judged_silence(probe: TcpProbe | None, lookup: Lookup) -> Gather[TcpProbe | None]:
    """Tell a peer's silence from a neighbour's: the kernel gives up on ARP only after 3 s, later than we do."""
    if probe is None or probe.outcome is not TcpOutcome.SILENT or not lookup.device_index:
        return probe
    hop = lookup.route.gateway or probe.address
    if not (yield from gather_neighbour_unanswered(hop, lookup.device_index)):
        return probe
    return TcpProbe(
        address=probe.address,
        port=probe.port,
        outcome=TcpOutcome.NO_ROUTE,
        source=probe.source,
        waited_s=probe.waited_s,
        error=f"neighbour {hop} on {lookup.route.device} does not answer {'ND' if ':' in hop else 'ARP'}",
    )


# --- TLS -------------------------------------------------------------------------------------------------------------


def _conversation(
    address: str, port: int, ca_request: bytes, parse_ca: Callable[[bytes], CaProbe], device_mtu_bytes: int
) -> Gather[tuple[TlsProbe | None, CaProbe | None, HelloProbe | None]]:
    """TLS with the root-CA call, and two hellos beside it; no hellos when ``device_mtu_bytes`` is 0."""
    where = {"address": address, "port": port, "alpn": ["h2"]}
    send = base64.b64encode(ca_request).decode("ascii")
    exchange = {**where, "send": send, "until": "h2-end-stream", "limit_bytes": 1 << 20}
    requests = [Request("tls-exchange", exchange, TLS_WAIT_S)]
    if device_mtu_bytes:
        # A record as long as the device's MTU cannot fit into one segment, so the first segment is a full one.
        padded_bytes = min(device_mtu_bytes, HELLO_LIMIT_BYTES)
        requests += [Request("tls-hello", {**where, "pad_bytes": pad}, HELLO_WAIT_S) for pad in (0, padded_bytes)]
    tls_answer, *hello_answers = yield requests
    return tls_probe(tls_answer), ca_probe(tls_answer, parse_ca), hello_probe(hello_answers)


# --- sizes -----------------------------------------------------------------------------------------------------------


def _echo_request(address: str, sizes: list[int], wait_s: float) -> Request:
    return Request("echo-sizes", {"address": address, "sizes": sizes, "attempts": ECHO_ATTEMPTS}, wait_s)


def _refined(
    peer: str, device: str, device_mtu_bytes: int, first: list[SizeProbe] | None, wait_s: float
) -> Gather[PathSizes | None]:
    """Close in on the exact byte from the first sizes' answers."""
    if first is None:
        return None
    probes = list(first)
    for _ in range(_REFINING_ROUNDS):
        path = path_sizes(peer, device, device_mtu_bytes, probes)
        if not path.control_answered or path.largest_answered_bytes is None or path.smallest_lost_bytes is None:
            return path
        said = {probe.mtu_bytes for probe in probes if probe.mtu_bytes is not None}
        asked = planner.next_sizes(path.largest_answered_bytes, path.smallest_lost_bytes, said)
        if not asked:
            return path
        (answer,) = yield [_echo_request(peer, asked, wait_s)]
        more = size_probes(answer)
        if more is None:
            return path
        probes += more
    return path_sizes(peer, device, device_mtu_bytes, probes)
