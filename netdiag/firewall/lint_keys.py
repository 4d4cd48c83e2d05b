"""Under what a rule of a chain is kept, so that a later one finds it without a look at each."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.firewall.netfilter import header, kernel
from netdiag.firewall.netfilter.rules import Match
from netdiag.firewall.netfilter.sets import SetMatch


def written(match: Match) -> tuple[str, int, int] | None:
    """The side, an address and the mask of a condition on addresses, where one is written."""
    if isinstance(match, header.Network) and not match.negated:
        return match.side, match.network, match.mask
    if isinstance(match, header.Range) and not match.negated:
        return match.side, match.first, -1
    return None


def key_of(match: Match) -> object:
    """Under what a condition is kept: its value where that is one, else its kind."""
    if isinstance(match, header.Network) and not match.negated:
        return "network", match.side, match.mask, match.network
    if isinstance(match, header.Ports) and not match.negated and match.first == match.last:
        return "port", match.side, match.first
    if isinstance(match, header.Protocol) and not match.negated:
        return "protocol", match.number
    if isinstance(match, header.Device) and not match.negated and not match.name.endswith("+"):
        return "device", match.side, match.name
    if isinstance(match, header.Mac | SetMatch):
        return match
    return "kind", field_of(match)


def wider_keys(match: Match) -> Iterator[object]:
    """Where wider conditions on the same field are kept."""
    yield "kind", field_of(match)
    if isinstance(match, kernel.StateFirst):
        yield "kind", field_of(kernel.State(frozenset()))
    if isinstance(match, header.Multiport) and len(match.sides) == 1 and not match.negated:
        for first, last in match.ranges:
            if first == last:
                yield "port", match.sides[0], first


def field_of(match: Match) -> str:
    """The field that a condition is about, and the kind of condition where it is about none that others share."""
    if isinstance(match, header.Network | header.Range):
        return f"address {match.side}"
    if isinstance(match, header.Ports):
        return f"port {match.side}"
    if isinstance(match, header.Multiport):
        return f"port {match.sides[0]}" if len(match.sides) == 1 else "ports"
    if isinstance(match, header.Device):
        return f"device {match.side}"
    return type(match).__name__
