"""Whether packets are lost at random between two network cards, how many, and of what kind."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.causes import cause
from netdiag.model.path import Way
from netdiag.model.report import Cause, Confidence, Evidence
from netdiag.path.bursts import Rate, Series, ends_of, segment

LEAST_LOST = 3
LEAST_SHARE = 0.005
"""What an interval must lie above: less than that nobody notices, and it may be chance."""
_SURE = 0.01


def is_lossy(rate: Rate) -> bool:
    """Whether a count shows loss that is more than chance."""
    return rate.lost >= LEAST_LOST and rate.interval[0] >= LEAST_SHARE


def spares(rate: Rate, other: Rate) -> bool:
    """Whether another kind of packet is not lost like this one: none of it was, and that is no chance."""
    return not other.lost and (1 - rate.share) ** other.sent < _SURE


def loss_cause(way: Way, series: Series, others: Sequence[Series]) -> Cause:
    """The cause: a share of the packets of one direction is lost at random.

    Args:
        way: The way.
        series: What was lost.
        others: What else was sent in the same direction.
    """
    rate = series.rate()
    low, high = rate.interval
    sender, receiver = ends_of(way, series.direction)
    spared = [each for each in others if spares(rate, each.rate())]
    only = bool(spared)
    text = f"{series.label()} from {sender.host} to {receiver.host}: {rate.text()}"
    explanation = f"{text}. The same tuples are lost one time and arrive another."
    if only:
        explanation += f" {', '.join(each.label() for each in spared)} arrived whole."
    return cause(
        "underlay.loss",
        host=None,
        object=segment(
            way,
            series.direction,
            series.protocol if only else None,
            series.port if only else None,
            rate=round(rate.share, 4),
            low=round(low, 4),
            high=round(high, 4),
            sent=rate.sent,
            lost=rate.lost,
        ),
        confidence=Confidence.PROVEN,
        explanation=explanation,
        evidence=tuple(
            Evidence(
                "burst",
                f"{each.label()} from {sender.host} to {receiver.host}: {each.rate().text()}",
                {"sent": each.rate().sent, "lost": each.rate().lost, "rate": round(each.rate().share, 4)},
            )
            for each in (series, *others)
        ),
    )
