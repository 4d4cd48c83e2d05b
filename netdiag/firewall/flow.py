"""What an accept matches: one peer, one protocol, one port."""

from __future__ import annotations

import msgspec

from netdiag.model.firewall import Direction, Packet
from netdiag.model.trace import Endpoints, Trace, TracePath

_OUTWARD = ("output", "postrouting", "egress")
_ECHO = {"icmp": 8, "icmpv6": 128}
_ANSWERS = {("icmp", 8): 0, ("icmp", 13): 14, ("icmpv6", 128): 129}
_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
_NUMBERS = {"ipip": "4"}
"""Names that the tools do not share."""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """The packets that a rule is for; empty and None are "any"."""

    family: int
    protocol: str
    source: str = ""
    destination: str = ""
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    outward: bool = False
    """It leaves this host."""
    forwarded: bool = False
    """It passes through this host."""
    opened_by: Endpoints | None = None
    """The addresses with which connection tracking knows the flow, from before any rewriting; None is "not known"."""

    def covers(self) -> str:
        """In words: "tcp from 192.0.2.1 to port 2377"."""
        words = [self.protocol if self.icmp_type is None else f"{self.protocol} type {self.icmp_type}"]
        words += [f"from {self.source}"] if self.source else []
        words += [f"port {self.source_port}"] if self.source_port is not None else []
        words += [f"to {self.destination}"] if self.destination else []
        if self.destination_port is not None:
            words.append(f"port {self.destination_port}" if self.destination else f"to port {self.destination_port}")
        return " ".join(words)


def answers_of(flow: Flow) -> Flow | None:
    """The packets that answer a flow that passes through; None where there are none."""
    icmp_type = _ANSWERS.get((flow.protocol, flow.icmp_type)) if flow.icmp_type is not None else None
    if flow.icmp_type is not None and icmp_type is None:
        return None
    return msgspec.structs.replace(
        flow,
        source=flow.destination,
        destination=flow.source,
        source_port=flow.destination_port,
        destination_port=flow.source_port,
        icmp_type=icmp_type,
        opened_by=None,
    )


def flow_of_packet(packet: Packet) -> Flow:
    """The flow of a packet that was asked about, by its other end's address."""
    inward = packet.direction is Direction.IN
    return Flow(
        family=packet.family,
        protocol=packet.protocol,
        source=packet.source if inward else "",
        destination="" if inward else packet.destination,
        source_port=packet.source_port,
        destination_port=packet.destination_port,
        outward=not inward,
    )


def flow_of_trace(trace: Trace, answers_to: Endpoints | None = None) -> Flow:
    """The flow of a traced packet as the rule that decided saw it, which is behind every rewriting that was seen.

    The source port is left out: the next connection of the peer has another one. Of an answer the other port is.

    Args:
        trace: The trace.
        answers_to: What the packet answers, as connection tracking here knows it; None for one that opens a flow.
    """
    packet = trace.packet
    ends = Endpoints(source=packet.source, destination=packet.destination, destination_port=packet.destination_port)
    if trace.nat:
        ends = trace.nat[-1].after
    hook = trace.path[-1].hook if trace.path else ""
    forwarded = packet.path is TracePath.FORWARD or hook == "forward"
    outward = not forwarded and (hook in _OUTWARD or (not hook and packet.path is TracePath.OUT))
    return Flow(
        family=6 if ":" in ends.source + ends.destination else 4,
        protocol=_NUMBERS.get(packet.protocol, packet.protocol),
        source="" if outward else ends.source,
        destination=ends.destination if outward or forwarded else "",
        source_port=packet.source_port if answers_to is not None and packet.protocol in _PORTS else None,
        destination_port=ends.destination_port if answers_to is None and packet.protocol in _PORTS else None,
        icmp_type=packet.icmp_type if packet.icmp_type is not None else _ECHO.get(packet.protocol),
        outward=outward,
        forwarded=forwarded,
        opened_by=answers_to
        or Endpoints(source=packet.source, destination=packet.destination, destination_port=packet.destination_port),
    )
