"""Which packet sizes to ask a path for: first the sizes that real networks have, then ever closer to the exact byte."""

from __future__ import annotations

from collections.abc import Collection

CONTROL_BYTES = 576
"""The control: every IPv4 host must accept it (RFC 791), so what does not answer it answers no echo at all."""

USUAL_BYTES = (9000, 8950, 8901, 1500, 1492, 1480, 1472, 1454, 1450, 1430, 1420, 1400, 1380, 1350, 1300, 1280)
"""Path MTUs that are met: jumbo frames (less VXLAN, less a cloud's tunnel), Ethernet, PPPoE, IP-in-IP and 6in4, ICMP
headers mistaken, VXLAN and WireGuard and IPsec in their common settings, the least that IPv6 may have."""

PER_ROUND = 24


def first_sizes(device_mtu_bytes: int) -> list[int]:
    """Whole-packet sizes to ask first, largest first: the device's own MTU, the usual ones below it, the control."""
    below = [size for size in USUAL_BYTES if CONTROL_BYTES < size < device_mtu_bytes]
    return [device_mtu_bytes, *below, CONTROL_BYTES] if device_mtu_bytes > CONTROL_BYTES else [CONTROL_BYTES]


def next_sizes(answered_bytes: int, lost_bytes: int, said_bytes: Collection[int] = ()) -> list[int]:
    """Sizes between the largest that was answered and the smallest that was lost; empty when they touch.

    ``said_bytes`` are MTUs that the path itself named: they and their neighbours are asked, for then one round is
    enough.
    """
    if lost_bytes - answered_bytes <= 1:
        return []
    inside = range(answered_bytes + 1, lost_bytes)
    if len(inside) <= PER_ROUND:
        return list(inside)
    # Even steps: each round leaves one part in PER_ROUND + 1.
    step = (lost_bytes - answered_bytes) / (PER_ROUND + 1)
    chosen = {answered_bytes + round(step * index) for index in range(1, PER_ROUND + 1)}
    chosen.update(size for mtu in said_bytes for size in (mtu, mtu + 1))
    return sorted(size for size in chosen if size in inside)
