"""An ICMP error, as the socket that provoked it was told, and what its type and code say."""

from __future__ import annotations

import msgspec

PROHIBITED = {
    (3, 3): "port unreachable",
    (3, 9): "network prohibited",
    (3, 10): "host prohibited",
    (3, 13): "administratively prohibited",
    (1, 1): "administratively prohibited",
    (1, 4): "port unreachable",
    (1, 5): "source address failed policy",
    (1, 6): "reject route",
}
"""What a packet filter says of a TCP segment, or a router with a route of the type "prohibit".

RFC 792, RFC 1812 §5.2.7.1, RFC 4443. Linux never answers a TCP segment with "port unreachable" except by a REJECT rule
(net/ipv4/tcp_ipv4.c sends a RST instead).
"""
UNREACHABLE = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (1, 0): "no route",
    (1, 3): "address unreachable",
}
"""What a router says that knows no way, or whose neighbour does not answer. A REJECT rule can say it as well."""
PORT_UNREACHABLE = frozenset({(3, 3), (1, 4)})
"""What a host says of a datagram for a port on which nobody listens."""
HOST_UNREACHABLE = frozenset({(3, 1), (1, 3)})
"""What a router says when its neighbour answers neither ARP nor ND."""


class IcmpError(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An ICMP error that a probe provoked and who sent it."""

    type: int
    code: int
    sender: str
    mtu_bytes: int | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Type and code."""
        return (self.type, self.code)

    @property
    def of_a_hop(self) -> bool:
        """Whether a router says that the packet has passed as many as it may (RFC 792, RFC 4443)."""
        return self.key == ((3, 0) if ":" in self.sender else (11, 0))

    def said(self) -> str:
        """What it says, in a few words."""
        return PROHIBITED.get(self.key) or UNREACHABLE.get(self.key) or "unreachable"
