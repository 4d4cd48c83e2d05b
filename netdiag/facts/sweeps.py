"""Sizes of one kind of packet, one way: which of them were seen arriving at the other side's device; pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.model.report import Confidence
from netdiag.model.two_sided import Payload, SidedProbe

_SMALL_BYTES = 64


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of one kind of packet, one way.

    Attributes:
        largest: The largest that arrived; 0 where not even a small one did.
        lost: The smallest above it that did not; None where all did, and where it arrives and one of the hosts loses it:
            that is told with the ports, and its rule.
        said: An ICMP error said that one was too big.
        said_by: The router that said so: what lies behind it carries less. Empty where none did.
        tried: All sizes, growing.
        sure: How sure it is that it was not chance: the smallest that is lost was sent again, and nothing else is lost.
    """

    protocol: str
    largest: int
    lost: int | None
    said: bool
    said_by: str = ""
    tried: tuple[int, ...]
    sure: Confidence = Confidence.LIKELY
    port: int | None = None
    payload: Payload = Payload.TAG

    def label(self) -> str:
        """What was sent, in a few words."""
        if self.protocol == "icmp":
            return "ICMP echo"
        return f"{self.protocol}/{self.port}" + (" with a VXLAN header" if self.payload is Payload.VXLAN else "")


def sweep_of(probes: Sequence[SidedProbe], protocol: str, *, lossy: bool = False) -> Sweep | None:
    """None where this kind of packet was not asked for sizes, or its sender or receiver could not be watched.

    Args:
        probes: Those of one way.
        protocol: icmp or udp.
        lossy: The path loses packets now and then, whatever their size.
    """
    mine = [each for each in probes if each.protocol == protocol and each.arrived is not None and not each.again]
    sized = [each for each in mine if each.length_bytes is not None]
    if not sized:
        return None
    port, payload = sized[0].port, sized[0].payload
    came = [
        each.length_bytes or _SMALL_BYTES
        for each in mine
        if each.arrived and each.passed != 0 and (each.port, each.payload) == (port, payload)
    ]
    lost = [each for each in sized if each.arrived == 0 and each.sent]
    behind = [each for each in sized if each.arrived and each.passed == 0]
    told = [
        each.heard.icmp
        for each in lost
        if each.heard.icmp is not None and each.heard.icmp.type in (3, 2) and each.heard.icmp.mtu_bytes
    ]
    largest = max(came, default=0)
    beyond = [each for each in (*lost, *behind) if (each.length_bytes or 0) > largest]
    edge = min(beyond, key=lambda each: each.length_bytes or 0, default=None)
    return Sweep(
        protocol=protocol,
        largest=largest,
        lost=edge.length_bytes if edge is not None and edge.arrived == 0 else None,
        sure=_sure(edge, lossy=lossy),
        said=bool(told),
        said_by=told[0].sender if told else "",
        tried=tuple(sorted(each.length_bytes for each in sized if each.length_bytes is not None)),
        port=port,
        payload=payload,
    )


def _sure(edge: SidedProbe | None, *, lossy: bool) -> Confidence:
    """How sure it is that chance did not lose the smallest size that did not arrive."""
    if lossy:
        return Confidence.POSSIBLE
    return Confidence.PROVEN if edge is not None and edge.resent else Confidence.LIKELY
