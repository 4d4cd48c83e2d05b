"""Targets that change a packet, or rewrite its addresses.

Sources: net/netfilter/xt_mark.c, xt_connmark.c, xt_CT.c, xt_HL.c, xt_DSCP.c, xt_nat.c, xt_NETMAP.c, xt_REDIRECT.c.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from netdiag.firewall.netfilter.rules import Changing, Translating
from netdiag.firewall.netfilter.skb import WITH_PORTS, Host, Skb

_replace = msgspec.structs.replace
_FULL = 0xFFFFFFFF


class SetMark(Changing, frozen=True):
    """``-j MARK``: the bits under the mask are cleared, then those of the value flipped."""

    value: int
    mask: int

    def change(self, skb: Skb) -> Skb:
        """The packet with its mark."""
        if skb.mark is None:
            return _replace(skb, mark=self.value) if self.mask == _FULL else skb
        return _replace(skb, mark=(skb.mark & ~self.mask & _FULL) ^ self.value)


class ConnMarkTarget(Changing, frozen=True):
    """``-j CONNMARK``: the connection's mark set, saved from the packet's, or restored to it."""

    mode: Literal["set", "save", "restore"]
    value: int
    mask: int
    connection_mask: int = _FULL
    whole: bool = True
    """Whether both masks are whole."""

    def change(self, skb: Skb) -> Skb:
        """The packet behind it; what has no connection keeps its mark."""
        if skb.state in ("INVALID", "UNTRACKED"):
            return skb
        if self.mode == "set":
            if skb.connmark is None:
                return _replace(skb, connmark=self.value) if self.mask == _FULL else skb
            return _replace(skb, connmark=(skb.connmark & ~self.mask & _FULL) ^ self.value)
        if skb.connmark is None or skb.mark is None:
            if self.mode == "save":
                return _replace(skb, connmark=skb.mark if self.whole else None)
            return _replace(skb, mark=skb.connmark if self.whole else None)
        if self.mode == "save":
            saved = (skb.connmark & ~self.connection_mask & _FULL) ^ (skb.mark & self.mask)
            return _replace(skb, connmark=saved)
        restored = (skb.mark & ~self.mask & _FULL) ^ (skb.connmark & self.connection_mask)
        return _replace(skb, mark=restored)


class ForgetMark(Changing, frozen=True):
    """A target that gives the packet or its connection a mark which is not computed here: HMARK, shifted marks, SET."""

    def change(self, skb: Skb) -> Skb:
        """The packet whose marks are not known."""
        return _replace(skb, mark=None, connmark=None)


class ChangeSets(Changing, frozen=True):
    """``-j SET``: whether the packet is in these sets is not known behind it."""

    names: frozenset[str]

    def change(self, skb: Skb) -> Skb:
        """The packet that may be in them now, or not any more."""
        return _replace(skb, changed_sets=skb.changed_sets | self.names)


class ForgetEcn(Changing, frozen=True):
    """``-j ECN``, which clears or sets bits of congestion notification (ipt_ECN.c)."""

    def change(self, skb: Skb) -> Skb:
        """The packet whose flags and type of service are not known."""
        return _replace(skb, tos=None, tcp_flags=None)


class Untrack(Changing, frozen=True):
    """``-j NOTRACK`` and ``-j CT --notrack``: conntrack leaves it alone, if it has not seen it yet."""

    def change(self, skb: Skb) -> Skb:
        """The packet that conntrack will not see."""
        return _replace(skb, state="UNTRACKED") if skb.state == "INVALID" else skb


class Template(Changing, frozen=True):
    """``-j CT`` with anything else: what its state is before conntrack sees it is not modelled."""

    def change(self, skb: Skb) -> Skb:
        """The packet with a template."""
        return _replace(skb, state=None) if skb.state == "INVALID" else skb


class SetTtl(Changing, frozen=True):
    """``-j TTL`` and ``-j HL``."""

    mode: Literal["set", "inc", "dec"]
    value: int

    def change(self, skb: Skb) -> Skb:
        """The packet with its TTL."""
        if self.mode == "set":
            return _replace(skb, ttl=self.value)
        if skb.ttl is None:
            return skb
        return _replace(skb, ttl=min(255, skb.ttl + self.value) if self.mode == "inc" else max(0, skb.ttl - self.value))


class SetTos(Changing, frozen=True):
    """``-j TOS`` and ``-j DSCP``: the bits under the mask are cleared, then those of the value flipped."""

    value: int
    mask: int

    def change(self, skb: Skb) -> Skb:
        """The packet with its type of service."""
        if skb.tos is None:
            return _replace(skb, tos=self.value) if self.mask == 0xFF else skb
        return _replace(skb, tos=(skb.tos & ~self.mask & 0xFF) ^ self.value)


class ForgetLength(Changing, frozen=True):
    """A target that makes a packet longer or shorter, or changes what rules may read of its options."""

    def change(self, skb: Skb) -> Skb:
        """The packet whose length is not known."""
        return _replace(skb, length=None)


def _may_be(wanted: int | None, value: int | None) -> bool:
    return wanted is None or value is None or wanted == value


class ToDestination(Translating, frozen=True):
    """``-j DNAT``; an address or port that the kernel chooses from several is None. A range without one keeps it."""

    address: int | None = None
    keeps_address: bool = False
    port: int | None = None
    keeps_port: bool = True

    def may_lead_to(self, skb: Skb) -> bool:
        """Whether its address and port may be those of the packet."""
        return _may_be(self.address, skb.destination) and _may_be(self.port, skb.destination_port)

    def translate(self, skb: Skb, host: Host) -> Skb:  # noqa: ARG002
        """The packet to its new destination."""
        ported = skb.protocol in WITH_PORTS and not self.keeps_port
        destination = skb.destination if self.keeps_address else self.address
        port = self.port if ported else skb.destination_port
        same = (destination, port) == (skb.destination, skb.destination_port)
        return _replace(
            skb,
            destination=destination,
            destination_port=port,
            dnat=None if destination is None or (ported and port is None) else not same or bool(skb.dnat),
            local=skb.local if destination is not None and destination == skb.destination else None,
        )


class Redirect(Translating, frozen=True):
    """``-j REDIRECT``: to this host itself, at the first address of the device that the packet came in by."""

    port: int | None = None
    keeps_port: bool = True

    def may_lead_to(self, skb: Skb) -> bool:
        """Whether its port may be that of the packet, which is for this host."""
        return skb.local is not False and _may_be(self.port, skb.destination_port)

    def translate(self, skb: Skb, host: Host) -> Skb:
        """The packet to this host (nf_nat_redirect.c); which address is first is known of IPv4 on a host that is."""
        ported = skb.protocol in WITH_PORTS and not self.keeps_port
        port = self.port if ported else skb.destination_port
        if skb.from_here:
            destination: int | None = 0x7F000001 if skb.family == 4 else 1
        else:
            destination = host.first_addresses.get(skb.in_device or "") if skb.family == 4 else None
        known = destination is not None and not (ported and port is None)
        changed = (destination, port) != (skb.destination, skb.destination_port) or bool(skb.dnat)
        return _replace(
            skb, destination=destination, destination_port=port, dnat=changed if known else None, local=True
        )


class MapNetwork(Translating, frozen=True):
    """``-j NETMAP``: the network part of the address replaced, of the destination before routing, else the source."""

    network: int
    mask: int

    def may_lead_to(self, skb: Skb) -> bool:
        """Whether its network may be that of the packet."""
        return skb.destination is None or skb.destination & self.mask == self.network

    def translate(self, skb: Skb, host: Host) -> Skb:  # noqa: ARG002
        """The packet with its address in the other network, whichever hook it is at: see `translate_source`."""
        if skb.destination is None:
            return _replace(skb, dnat=None, local=None)
        mapped = skb.destination & ~self.mask | self.network
        return _replace(
            skb,
            destination=mapped,
            dnat=mapped != skb.destination or skb.dnat,
            local=skb.local if mapped == skb.destination else None,
        )


class ToSource(Translating, frozen=True):
    """``-j SNAT`` and ``-j MASQUERADE``: behind it no rule asks for the source any more but those of later tables."""

    address: int | None = None
    kept: bool = False

    def may_lead_to(self, skb: Skb) -> bool:  # noqa: ARG002
        """It gives another source."""
        return False

    def translate(self, skb: Skb, host: Host) -> Skb:  # noqa: ARG002
        """The packet from its new source; its port is the kernel's choice."""
        return _replace(skb, source=skb.source if self.kept else self.address, source_port=None, snat=None)
