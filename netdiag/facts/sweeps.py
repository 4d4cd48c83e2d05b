"""Sizes of one kind of packet, one way: which of them were seen arriving at the other side's device; pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.model.two_sided import Payload, SidedProbe

_SMALL_BYTES = 64


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of one kind of packet, one way.

    Attributes:
        largest: The largest that arrived; 0 where not even a small one did.
        lost: The smallest above it that did not; None where all did.
        said: An ICMP error said that one was too big.
        tried: All sizes, growing.
    """

    protocol: str
    largest: int
    lost: int | None
    said: bool
    tried: tuple[int, ...]
    port: int | None = None
    payload: Payload = Payload.TAG

    def label(self) -> str:
        """What was sent, in a few words."""
        if self.protocol == "icmp":
            return "ICMP echo"
        return f"{self.protocol}/{self.port}" + (" with a VXLAN header" if self.payload is Payload.VXLAN else "")


def sweep_of(probes: Sequence[SidedProbe], protocol: str) -> Sweep | None:
    """None where this kind of packet was not asked for sizes, or its sender or receiver could not be watched.

    Args:
        probes: Those of one way.
        protocol: icmp or udp.
    """
    mine = [each for each in probes if each.protocol == protocol and each.arrived is not None and not each.again]
    sized = [each for each in mine if each.length_bytes is not None]
    if not sized:
        return None
    port, payload = sized[0].port, sized[0].payload
    came = [
        each.length_bytes or _SMALL_BYTES
        for each in mine
        if each.arrived and (each.port, each.payload) == (port, payload)
    ]
    lost = [each for each in sized if each.arrived == 0 and each.sent and each.length_bytes is not None]
    said = any(
        each.heard.icmp is not None and each.heard.icmp.type in (3, 2) and each.heard.icmp.mtu_bytes for each in lost
    )
    largest = max(came, default=0)
    sizes = [each.length_bytes for each in lost if each.length_bytes is not None]
    return Sweep(
        protocol=protocol,
        largest=largest,
        lost=min((size for size in sizes if size > largest), default=None),
        said=said,
        tried=tuple(sorted(each.length_bytes for each in sized if each.length_bytes is not None)),
        port=port,
        payload=payload,
    )
