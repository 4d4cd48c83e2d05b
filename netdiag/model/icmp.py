"""An ICMP error, as the socket that provoked it was told."""

from __future__ import annotations

import msgspec


class IcmpError(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An ICMP error that a probe provoked and who sent it."""

    type: int
    code: int
    sender: str
    mtu_bytes: int | None = None
