"""What is sent once more before it counts as lost, and what became of it then: chance must not look like a filter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from netdiag.model.two_sided import Heard, SidedProbe

TIMES = 5
"""How often, each time from another port: with the first ones, a path that loses a tenth loses all of them once in a
million runs, and one that loses more shows it on other probes."""
OVER_MS = 550
"""Over how long: a pause that a queue or a link makes is over by then."""


def worth_repeating(probe: SidedProbe, *, spoken_came: bool) -> bool:
    """Whether a probe, or the answer to it, left one host and was not seen at the other; chance may have lost it.

    Args:
        probe: With what both sides saw of it.
        spoken_came: It came through after its receiver had sent to its source. Whether that made the difference is
            known only if it is still lost without.
    """
    if probe.unsent or not probe.sent or probe.left == 0 or probe.again:
        return False
    if probe.protocol == "tcp":
        if probe.heard.kind in ("connected", "reset") or (probe.alike and not probe.arrived):
            return False
        return probe.arrived == 0 or (bool(probe.answers_left) and probe.answers_arrived == 0)
    if probe.protocol == "icmp" and probe.length_bytes is None:
        return False  # a control: nothing is concluded from its loss
    return probe.arrived == 0 or (spoken_came and bool(probe.arrived) and probe.passed == 0)


def merged(first: SidedProbe, repeats: Sequence[SidedProbe]) -> SidedProbe:
    """A probe with what became of it when it was sent again."""
    several = (first, *repeats)
    seen = next((each for each in several if each.seen_source), first)
    return msgspec.structs.replace(
        first,
        sent=sum(each.sent for each in several),
        resent=first.resent + sum(each.sent for each in repeats),
        left=_sum(each.left for each in several),
        arrived=_sum(each.arrived for each in several),
        passed=_sum(each.passed for each in several),
        alike=sum(each.alike for each in several),
        answers_left=_sum(each.answers_left for each in several),
        answers_arrived=_sum(each.answers_arrived for each in several),
        heard=next((each.heard for each in several if each.heard.kind != "nothing"), Heard()),
        seen_source=seen.seen_source,
        seen_source_port=seen.seen_source_port,
        seen_destination=seen.seen_destination,
    )


def edge_of(probes: Sequence[SidedProbe]) -> SidedProbe | None:
    """Of sizes of one kind, the smallest that was lost and is larger than all that came; None if it was asked twice."""
    came = max((each.length_bytes or 0 for each in probes if each.arrived and each.passed != 0), default=0)
    lost = [each for each in probes if each.length_bytes is not None and each.length_bytes > came and each.arrived == 0]
    edge = min(lost, key=lambda each: each.length_bytes or 0, default=None)
    return edge if edge is not None and worth_repeating(edge, spoken_came=False) and not edge.resent else None


def _sum(counts: Iterable[int | None]) -> int | None:
    """All together; a nothing with an unknown in it is not known."""
    known = list(counts)
    total = sum(each or 0 for each in known)
    return None if not total and None in known else total
