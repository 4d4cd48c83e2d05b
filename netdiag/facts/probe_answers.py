"""What a participant's answers to probes mean: raw values in, `netdiag.model.probes` out."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from netdiag.model.facts import AbsenceKind
from netdiag.model.icmp import IcmpError
from netdiag.model.probes import (
    CaOutcome,
    CaProbe,
    HelloProbe,
    PathSizes,
    SizeOutcome,
    SizeProbe,
    TcpOutcome,
    TcpProbe,
    TlsOutcome,
    TlsProbe,
)
from netdiag.model.wire import Answer

_TOO_BIG = {(3, 4), (2, 0)}
"""ICMP "fragmentation needed" (RFC 792) and ICMPv6 "packet too big" (RFC 4443)."""
_NEIGHBOUR_GONE = {("icmp", 3, 1), ("icmp6", 1, 3)}
"""What a kernel sends itself when ARP or ND had no answer: "host unreachable", "address unreachable"."""


def tcp_probe(address: str, port: int, answer: Answer, wait_s: float) -> TcpProbe | None:
    """A connection attempt from ``tcp-connect``; None when it was not made. ``wait_s`` is how long it was to wait."""
    data = answer.data
    if data is None:
        outcome = _OUTCOME_OF_ERROR.get(answer.error.kind) if answer.error else None
        if outcome is None:
            return None
        return TcpProbe(address=address, port=port, outcome=outcome, waited_s=wait_s, error=error_text(answer))
    outcome, icmp = _tcp_outcome(data, address)
    decided = not data["timed_out"]
    return TcpProbe(
        address=address,
        port=port,
        outcome=outcome,
        source=data["source"],
        icmp=icmp,
        connect_us=data["elapsed_us"] if decided else None,
        waited_s=data["elapsed_us"] / 1e6,
        error=data["error"],
    )


_OUTCOME_OF_ERROR = {AbsenceKind.TIMEOUT: TcpOutcome.SILENT, AbsenceKind.PERMISSION: TcpOutcome.LOCAL_DENIED}


def _tcp_outcome(data: dict[str, Any], address: str) -> tuple[TcpOutcome, IcmpError | None]:
    if data["connected"]:
        return TcpOutcome.CONNECTED, None
    for row in data["icmp"]:
        if row["origin"] == "local":
            continue
        mine = row["offender"] == data["source"] != address
        if mine and (row["origin"], row["type"], row["code"]) in _NEIGHBOUR_GONE:
            return TcpOutcome.NO_ROUTE, None
        return TcpOutcome.ICMP, _icmp_error(row)
    if data["timed_out"] or data["errno"] == errno.ETIMEDOUT:
        return TcpOutcome.SILENT, None
    if data["errno"] in {errno.ECONNREFUSED, errno.ECONNRESET}:
        return TcpOutcome.RESET, None
    if data["errno"] in {errno.EPERM, errno.EACCES}:
        return TcpOutcome.LOCAL_DENIED, None
    return TcpOutcome.NO_ROUTE, None


def _icmp_error(row: dict[str, Any]) -> IcmpError:
    too_big = (row["type"], row["code"]) in _TOO_BIG
    return IcmpError(
        type=row["type"], code=row["code"], sender=row["offender"], mtu_bytes=row["info"] if too_big else None
    )


_TLS_OUTCOMES = {
    "not-tls": TlsOutcome.NOT_TLS,
    "alert": TlsOutcome.ALERT,
    "tls": TlsOutcome.ALERT,
    "timeout": TlsOutcome.SILENT,
    "closed": TlsOutcome.CLOSED,
    "refused": TlsOutcome.CLOSED,
}


def tls_probe(answer: Answer) -> TlsProbe | None:
    """The handshake in an answer of ``tls-exchange``; None when it was not made."""
    data = answer.data
    if data is None:
        timed_out = answer.error is not None and answer.error.kind is AbsenceKind.TIMEOUT
        return TlsProbe(outcome=TlsOutcome.SILENT, error=error_text(answer)) if timed_out else None
    if data["stage"] in {"read", "done"}:
        return TlsProbe(
            outcome=TlsOutcome.HANDSHAKE,
            version=data["version"],
            alpn=data["alpn"],
            leaf_der=data["leaf_der"],
            handshake_us=data["handshake_us"],
        )
    outcome = _TLS_OUTCOMES[data["reason"]]
    first_bytes = data["first_bytes"] if outcome is TlsOutcome.NOT_TLS else b""
    return TlsProbe(outcome=outcome, first_bytes=first_bytes, error=data["error"])


def ca_probe(answer: Answer, parse_ca: Callable[[bytes], CaProbe]) -> CaProbe | None:
    """What came of the call; None when the handshake did not get there."""
    data = answer.data
    if data is None or data["stage"] not in {"read", "done"}:
        return None
    if data["read"] and data["alpn"] == "h2":
        return parse_ca(data["read"])
    if data["reason"] == "timeout":
        return CaProbe(outcome=CaOutcome.SILENT)
    return CaProbe(outcome=CaOutcome.NOT_GRPC, message=data["error"])


def hello_probe(answers: list[Answer]) -> HelloProbe | None:
    """Two answers of ``tls-hello``, the small one first; None when either was not made."""
    if len(answers) != 2 or answers[0].data is None or answers[1].data is None:
        return None
    small, padded = answers[0].data, answers[1].data
    return HelloProbe(
        small_answered=small["answered"],
        padded_answered=padded["answered"],
        padded_bytes=padded["hello_bytes"],
        largest_segment_bytes=padded["maxseg_bytes"],
    )


_SIZE_OUTCOMES = {"answered": SizeOutcome.ANSWERED, "silent": SizeOutcome.SILENT, "local": SizeOutcome.LOCAL}


def size_probes(answer: Answer) -> list[SizeProbe] | None:
    """One probe per size; None when no echo was sent."""
    if answer.data is None:
        return None
    return [_size_probe(row) for row in answer.data["sizes"]]


def _size_probe(row: dict[str, Any]) -> SizeProbe:
    icmp = _icmp_error(row["icmp"]) if row["icmp"] else None
    outcome = _SIZE_OUTCOMES.get(row["outcome"], SizeOutcome.SILENT)
    if icmp is not None and icmp.mtu_bytes is not None:
        outcome = SizeOutcome.TOO_BIG
    return SizeProbe(
        size_bytes=row["size"],
        outcome=outcome,
        attempts=row["attempts"],
        mtu_bytes=icmp.mtu_bytes if icmp else None,
        sender=icmp.sender if icmp else "",
        rtt_us=row["rtt_us"],
    )


def path_sizes(peer: str, device: str, device_mtu_bytes: int, probes: list[SizeProbe]) -> PathSizes:
    """All sizes asked of one peer: the largest that passed, the smallest above it that did not, and the control."""
    answered = [probe.size_bytes for probe in probes if probe.outcome is SizeOutcome.ANSWERED]
    largest = max(answered, default=None)
    # What was lost below a size that passed was lost by chance.
    lost = [
        probe.size_bytes
        for probe in probes
        if probe.outcome is not SizeOutcome.ANSWERED and (largest is None or probe.size_bytes > largest)
    ]
    control = min(probes, key=lambda probe: probe.size_bytes, default=None)
    return PathSizes(
        peer=peer,
        device=device,
        device_mtu_bytes=device_mtu_bytes,
        control_answered=control is not None and control.outcome is SizeOutcome.ANSWERED,
        sizes=tuple(sorted(probes, key=lambda probe: probe.size_bytes)),
        largest_answered_bytes=largest,
        smallest_lost_bytes=min(lost, default=None),
        icmp_came=any(probe.outcome is SizeOutcome.TOO_BIG for probe in probes),
    )


def error_text(answer: Answer) -> str:
    """Why an answer has no data; "" when it has."""
    return answer.error.text if answer.error is not None else ""
