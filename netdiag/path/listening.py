"""Who listens where the flow ends: nobody, somebody on the loopback address only, or one who does not accept."""

from __future__ import annotations

import ipaddress

from netdiag.causes import cause
from netdiag.model.facts import HOST, Facts, Socket
from netdiag.model.path import End, Way
from netdiag.model.report import Cause, Confidence, Evidence
from netdiag.path.published import elsewhere_cause, published_elsewhere


def listeners(facts: Facts, way: Way) -> tuple[Socket, ...] | None:
    """The sockets at the destination's port, any address; None when its sockets could not be read."""
    section = facts.sockets.value
    if section is None or way.destination.namespace not in section:
        return None
    return tuple(
        row for row in section[way.destination.namespace] if row.port == way.end_port and row.protocol == way.protocol
    )


def who_listens(facts: Facts, way: Way) -> str:
    """Who receives what comes for the destination's port, in a few words; empty for nobody, or where it is not known."""
    for row in listeners(facts, way) or ():
        if takes(row.address, way.destination.address):
            return f"{row.process} (pid {row.pid})" if row.process else "a process"
    return ""


def listener_cause(facts: Facts, way: Way, *, refused: bool) -> Cause | None:
    """Why nobody answers on the port; None when somebody listens where the flow comes to, or nothing can be told.

    ``refused``: a refusal by the destination's own stack was seen, which is the proof.
    """
    found = listeners(facts, way)
    if found is None or way.end_port is None:
        return None
    end = way.destination
    fitting = [row for row in found if takes(row.address, end.address)]
    if fitting:
        return None
    confidence = Confidence.PROVEN if refused else Confidence.LIKELY
    published = published_elsewhere(facts, way.end_port, way.protocol, end.address) if end.namespace == HOST else None
    if published is not None:
        return elsewhere_cause(end.host, published, end.address, confidence=confidence)
    port = f"{way.protocol}/{way.end_port}"
    if found:
        row = next((each for each in found if not _is_loopback(each.address)), found[0])
        who = f"{row.process} (pid {row.pid})" if row.process else "a process"
        return cause(
            "container.loopback-listener" if _is_loopback(row.address) else "container.no-listener",
            host=end.host,
            object={
                "kind": "socket",
                "address": row.address,
                "port": row.port,
                "protocol": way.protocol,
                "process": row.process or None,
                "pid": row.pid,
            },
            confidence=confidence,
            explanation=f"In {end.label()} {who} listens for {port} on {row.address} only, not on {end.address}.",
            evidence=(Evidence("socket", f"{end.label()}: {row.address} port {row.port}, {who}"),),
        )
    others = sorted({row.port for row in (facts.sockets.value or {}).get(end.namespace, ()) if _is_open(row, way, end)})
    listening = f"; it listens on {', '.join(map(str, others))}" if others else "; nothing listens there at all"
    return cause(
        "container.no-listener",
        host=end.host,
        object={"kind": "socket", "address": end.address, "port": way.end_port, "protocol": way.protocol},
        confidence=confidence,
        explanation=f"In {end.label()} nobody listens on {port}{listening}.",
        evidence=(Evidence("socket", f"{end.label()}: no socket on {port}{listening}"),),
    )


def takes(bound: str, address: str) -> bool:
    """Whether a socket bound to one address receives what comes for another."""
    try:
        one, other = ipaddress.ip_address(bound.partition("%")[0]), ipaddress.ip_address(address)
    except ValueError:
        return bound in ("", "*")
    if one.is_unspecified:
        # A socket of IPv6 takes IPv4 too, unless it was told not to; never the other way round.
        return one.version == 6 or other.version == 4
    return other in (one, getattr(one, "ipv4_mapped", None))


def _is_loopback(bound: str) -> bool:
    try:
        return ipaddress.ip_address(bound.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_open(row: Socket, way: Way, end: End) -> bool:
    return row.protocol == way.protocol and takes(row.address, end.address)
