"""The copies of one packet: a bridge that does not know where somebody is sends one out by each of its ports.

Only the copy for the target's own port tells what becomes of the packet. Each copy goes all its way before the next one
begins, and the first event of each of its chains tells its port; the kernel's ids alone are used again too soon.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from netdiag.firewall.trace import Resolved
from netdiag.model.report import Confidence
from netdiag.model.trace import TraceEvent, TraceVerdict


def without_clones(events: Sequence[TraceEvent], own_table: str, *, outward: bool) -> tuple[TraceEvent, ...]:
    """The packet's own events: without those of what a rule sent elsewhere besides it (TEE, dup).

    Such a clone begins at OUTPUT, where our own first chain tells it; the packet waits meanwhile, so that it never has
    the clone's id.

    Args:
        events: All that carry the packet's marks, in their order.
        own_table: Our table's name.
        outward: The packet itself begins at OUTPUT as well.
    """
    place = ("inet", own_table, "begin" if outward else "answers")
    packet: int | None = None
    clones: set[int] = set()
    kept: list[TraceEvent] = []
    for event in events:
        if (event.family, event.table, event.chain) == place:
            if outward and packet in (None, event.id):
                packet = event.id
            else:
                clones.add(event.id)
        if event.id not in clones:
            kept.append(event)
        elif event.verdict in ("drop", "stolen") or event.chain == "end-postrouting":
            clones.discard(event.id)  # its id is free for another
    return tuple(kept)


class Ways(NamedTuple):
    """A packet's events.

    Attributes:
        before: Those before the bridge made copies of it.
        copies: Those of each copy, by its port (interface index).
        behind: Those of what else became of it behind the copies: the bridge's own host may take one.
    """

    before: tuple[TraceEvent, ...]
    copies: Mapping[int, tuple[TraceEvent, ...]]
    behind: tuple[TraceEvent, ...]


def ways_of(events: Sequence[TraceEvent], ports: Collection[int]) -> Ways:
    """The events of each copy. ``ports`` are the interface indexes of the ports of the namespace's bridges."""
    before: list[TraceEvent] = []
    behind: list[TraceEvent] = []
    copies: dict[int, list[TraceEvent]] = {}
    leaves_by: dict[int, int] = {}
    for event in events:
        if event.out_index in ports:
            leaves_by[event.id] = event.out_index
        elif event.in_index and not event.out_index:
            leaves_by.pop(event.id, None)
        port = leaves_by.get(event.id)
        if port is not None:
            copies.setdefault(port, []).append(event)
        else:
            (behind if copies else before).append(event)
    return Ways(tuple(before), {port: tuple(each) for port, each in copies.items()}, tuple(behind))


def resolve_copies(
    ways: Ways,
    resolve_one: Callable[[Sequence[TraceEvent], int], Resolved],
    names: Mapping[int, str],
    wanted: int,
) -> Resolved:
    """What became of the copy that matters; of all of them, where that is not known and they fare alike.

    Args:
        ways: The packet's events.
        resolve_one: Says what became of one copy, from its events and its port (0 for a packet without copies).
        names: Devices' names, by their index.
        wanted: The port that the target is behind; 0 where that is not known.
    """
    if not ways.copies:
        return resolve_one((*ways.before, *ways.behind), 0)
    if wanted in ways.copies:
        return resolve_one((*ways.before, *ways.copies[wanted]), wanted)
    copies = sorted(ways.copies.items(), key=lambda copy: names.get(copy[0], ""))
    found = {port: resolve_one((*ways.before, *events), port) for port, events in copies}
    first = next(iter(found.values()))
    ports = " and ".join(names.get(port, str(port)) for port in found)
    if len(found) == 1:
        if not wanted:
            return first
        reason = f"the bridge sends it out by {ports}, not by {names.get(wanted, str(wanted))}"
        return _doubted(first, "; ".join(filter(None, (reason, first.reason))))
    if wanted:
        reason = f"the bridge sends it out by {ports}, not by {names.get(wanted, str(wanted))}"
        return _unknown(first, ways, resolve_one, reason)
    if all(_alike(first, each) for each in found.values()):
        return msgspec.structs.replace(first, out_index=0)
    fates = "; ".join(f"by {names.get(port, str(port))}: {_fate(each)}" for port, each in found.items())
    reason = f"the bridge does not know the target's port and sends a copy by each, and they differ ({fates})"
    return _unknown(first, ways, resolve_one, reason)


def _alike(one: Resolved, other: Resolved) -> bool:
    return one.verdict is other.verdict and _rule(one) == _rule(other)


def _rule(found: Resolved) -> object:
    return found.decided.rule if found.decided is not None else None


def _fate(found: Resolved) -> str:
    if found.decided is None or found.verdict is TraceVerdict.ACCEPT:
        return found.verdict.value
    return f"{found.verdict.value}, {found.decided.rule.place()}"


def _doubted(found: Resolved, reason: str) -> Resolved:
    least = found.confidence if found.confidence is Confidence.POSSIBLE else Confidence.LIKELY
    return msgspec.structs.replace(found, confidence=least, reason=reason)


def _unknown(
    found: Resolved, ways: Ways, resolve_one: Callable[[Sequence[TraceEvent], int], Resolved], reason: str
) -> Resolved:
    """Nothing is known of it but its way up to the bridge."""
    common = resolve_one(ways.before, 0)
    return msgspec.structs.replace(
        common,
        verdict=TraceVerdict.UNKNOWN,
        decided=None,
        confidence=Confidence.POSSIBLE,
        last_endpoints=found.last_endpoints,
        reason=reason,
    )
