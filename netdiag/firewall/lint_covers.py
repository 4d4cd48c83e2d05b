"""Whether all packets that one rule takes are taken by another: sound, and silent where it cannot be told.

A condition stands for the packets that meet it. What is said of two conditions holds of every packet that a kernel can
see, fragments included; of a condition whose outcome depends on time, chance or what is not kept of it (limit, recent,
owner and all that is not modelled) nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netdiag.firewall.netfilter import header, kernel
from netdiag.firewall.netfilter.rules import Match, Rule
from netdiag.firewall.netfilter.sets import SetMatch
from netdiag.firewall.netfilter.skb import STATES

_MUTABLE = (
    kernel.Mark,
    kernel.ConnMark,
    kernel.State,
    kernel.StateFirst,
    header.Tos,
    header.Between,
    header.EcnFlag,
    SetMatch,
)
"""Conditions on what a rule in between may change: marks, state (NOTRACK), TTL, length, type of service, sets."""
_WITHIN_ITSELF = (
    header.Protocol,
    header.Network,
    header.Range,
    header.Device,
    header.Ports,
    header.Multiport,
    header.Flags,
    header.Icmp,
    header.Between,
    header.Tos,
    header.EcnFlag,
    header.Mac,
    header.PacketType,
    kernel.State,
    kernel.StateFirst,
    kernel.FlowEnd,
    kernel.OriginalDirection,
    kernel.Mark,
    kernel.ConnMark,
    kernel.AddressType,
    SetMatch,
)
"""Conditions that are kept whole: two that are equal take the same packets at the same moment."""
_Ranges = tuple[tuple[int, int], ...]


def is_trivial(match: Match) -> bool:
    """Whether every packet meets it."""
    if isinstance(match, header.Network):
        return not match.mask and not match.negated
    if isinstance(match, header.Device):
        return match.name == "+" and not match.negated
    return isinstance(match, header.Protocol) and match.number == 0 and not match.negated


def demands(rule: Rule) -> tuple[Match, ...]:
    """The conditions of a rule that not every packet meets."""
    return tuple(match for match in rule.matches if not is_trivial(match))


def is_kept(match: Match) -> bool:
    """Whether it is known whole, so that two that are written alike take the same packets."""
    if isinstance(match, kernel.StateFirst):
        return all(isinstance(option, _WITHIN_ITSELF) for option in match.options)
    return isinstance(match, _WITHIN_ITSELF)


def is_mutable(match: Match) -> bool:
    """Whether a rule that a packet passes may change the answer."""
    return isinstance(match, _MUTABLE)


def takes_all_of(wide: Sequence[Match], narrow: Sequence[Match], family: int) -> bool:
    """Whether every packet that meets all of ``narrow`` meets all of ``wide``."""
    return all(any(implies(one, each, family) for one in narrow) for each in wide)


def exclude(one: Sequence[Match], other: Sequence[Match], family: int) -> bool:
    """Whether no packet meets both: told by the conditions on one field at a time."""
    return any(_apart(mine, theirs, family) for mine in one for theirs in other)


def implies(narrow: Match, wide: Match, family: int) -> bool:
    """Whether every packet that meets the first condition meets the second."""
    if narrow == wide:
        return is_kept(wide)
    if isinstance(narrow, kernel.StateFirst):
        # Of a packet without a flow its state alone is asked, so that it always is.
        return any(isinstance(option, kernel.State) and implies(option, wide, family) for option in narrow.options)
    theirs = _ranges(wide, family)
    if theirs is not None:
        mine = _ranges(narrow, family)
        return mine is not None and mine[0] == theirs[0] and _within(mine[1], theirs[1])
    decide = _IMPLIES.get(type(wide))
    return decide is not None and type(narrow) is type(wide) and decide(narrow, wide, family)


def _apart(one: Match, other: Match, family: int) -> bool:
    mine, theirs = _ranges(one, family), _ranges(other, family)
    if mine is not None and theirs is not None and mine[0] == theirs[0]:
        return not any(first <= end and begin <= last for first, last in mine[1] for begin, end in theirs[1])
    if isinstance(one, header.Device) and isinstance(other, header.Device) and one.side == other.side:
        return not one.negated and not other.negated and not _devices_meet(one.name, other.name)
    return False


# --- fields that are numbers ---


def _ranges(match: Match, family: int) -> tuple[object, _Ranges] | None:
    """The field that a condition asks for, and the values that meet it; None where it is no such condition."""
    found = _values(match, family)
    if found is None:
        return None
    field, ranges, most = found
    return field, _or_not(ranges, most, negated=match.negated)  # type: ignore[attr-defined] # `_values` knows only such


def _values(match: Match, family: int) -> tuple[object, _Ranges, int] | None:
    """The field, the ranges that are written, and the greatest value."""
    widest = (1 << (32 if family == 4 else 128)) - 1
    if isinstance(match, header.Protocol) and match.number:
        return "protocol", ((match.number, match.number),), 255
    if isinstance(match, header.Network):
        host = widest & ~match.mask
        contiguous = not host & (host + 1)
        return (match.side, ((match.network, match.network | host),), widest) if contiguous else None
    if isinstance(match, header.Range):
        return match.side, ((match.first, match.last),), widest
    if isinstance(match, header.Ports):
        return ("port", match.side), ((match.first, match.last),), 65535
    if isinstance(match, header.Multiport) and len(match.sides) == 1:
        return ("port", match.sides[0]), match.ranges, 65535
    if isinstance(match, header.Between):
        # A packet that is not cut into segments yet may be longer than any on a wire.
        return match.field, ((match.first, match.last),), 255 if match.field == "ttl" else 0xFFFFFFFF
    return None


def _or_not(ranges: Sequence[tuple[int, int]], most: int, *, negated: bool) -> _Ranges:
    """Ranges in their order and joined, or all values but them."""
    if len(ranges) == 1 and not negated:
        return tuple(ranges)
    joined: list[tuple[int, int]] = []
    for first, last in sorted((max(0, first), min(most, last)) for first, last in ranges if first <= last):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        elif first <= last:
            joined.append((first, last))
    if not negated:
        return tuple(joined)
    found, at = [], 0
    for first, last in joined:
        if at < first:
            found.append((at, first - 1))
        at = last + 1
    if at <= most:
        found.append((at, most))
    return tuple(found)


def _within(narrow: _Ranges, wide: _Ranges) -> bool:
    return all(any(begin <= first and last <= end for begin, end in wide) for first, last in narrow)


# --- the others ---


def _device(narrow: header.Device, wide: header.Device, _: int) -> bool:
    if narrow.side != wide.side:
        return False
    if narrow.negated:
        return wide.negated and _names_within(wide.name, narrow.name)
    if wide.negated:
        return not _devices_meet(narrow.name, wide.name)
    return _names_within(narrow.name, wide.name)


def _names_within(narrow: str, wide: str) -> bool:
    if wide.endswith("+"):
        return narrow.removesuffix("+").startswith(wide[:-1])
    return narrow == wide


def _devices_meet(one: str, other: str) -> bool:
    """Whether one device may have a name of both."""
    if one.endswith("+") and other.endswith("+"):
        return one.startswith(other[:-1]) or other.startswith(one[:-1])
    return _names_within(one, other) or _names_within(other, one)


def _flags(narrow: header.Flags, wide: header.Flags, _: int) -> bool:
    if narrow.negated:
        return False
    if wide.negated:
        return bool((narrow.wanted ^ wide.wanted) & narrow.mask & wide.mask)
    return wide.mask & ~narrow.mask == 0 and narrow.wanted & wide.mask == wide.wanted


def _is_any_icmp(match: header.Icmp) -> bool:
    return match.kind == 255 and not match.six and not match.negated


def _icmp(narrow: header.Icmp, wide: header.Icmp, _: int) -> bool:
    if narrow.six != wide.six or narrow.negated or wide.negated:
        return False
    if _is_any_icmp(wide):
        return True
    same = narrow.kind == wide.kind and not _is_any_icmp(narrow)
    return same and wide.first <= narrow.first and narrow.last <= wide.last


def _state(narrow: kernel.State, wide: kernel.State, _: int) -> bool:
    mine = (STATES - narrow.wanted) if narrow.negated else narrow.wanted
    if wide.negated:
        # A packet in one of the states may have another address as well (SNAT, DNAT).
        return not (mine | narrow.wanted | wide.wanted) - STATES and not mine & wide.wanted
    return mine <= wide.wanted


def _bits(narrow: Any, wide: Any, _: int) -> bool:  # noqa: ANN401 - Mark, ConnMark or Tos
    if narrow.negated or wide.negated:
        return False
    return bool(wide.mask & ~narrow.mask == 0 and narrow.value & wide.mask == wide.value)


def _type(narrow: kernel.AddressType, wide: kernel.AddressType, family: int) -> bool:
    # Of IPv6 every type that is named must hold.
    same = family == 4 and narrow.side == wide.side and not narrow.negated and not wide.negated
    return same and narrow.wanted <= wide.wanted


_IMPLIES: Mapping[type, Callable[[Any, Any, int], bool]] = {
    header.Device: _device,
    header.Flags: _flags,
    header.Icmp: _icmp,
    kernel.State: _state,
    kernel.Mark: _bits,
    kernel.ConnMark: _bits,
    header.Tos: _bits,
    kernel.AddressType: _type,
}
