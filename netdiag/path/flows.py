"""Whether loss goes by the tuple of a flow: some tuples never arrive, however often they are repeated, and others do."""

from __future__ import annotations

import math

import msgspec

from netdiag.causes import cause
from netdiag.model.path import Way
from netdiag.model.report import Cause, Confidence, Evidence
from netdiag.path.bursts import Rate, Series, ends_of, segment

LEAST_REPEATS = 4
"""How often a tuple must have been sent before its silence says anything."""
_CHANCE = 0.001
_MOST_LISTED = 12


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Tuples of one series: those that never arrive, and what is lost of the others."""

    dead: tuple[int, ...]
    tuples: int
    rest: Rate

    def flows(self) -> Rate:
        """The share of the tuples that never arrive."""
        return Rate(sent=self.tuples, lost=len(self.dead))


def split(series: Series) -> Split | None:
    """Dead tuples among living ones; None where chance explains them, or where nothing is split.

    Loss at random takes a whole tuple now and then as well. How many it would take follows from what is lost of the
    tuples that live: more than that is no chance.
    """
    shots = [shot for shot in series.shots if shot.source_port is not None and shot.sent >= LEAST_REPEATS]
    dead = [shot for shot in shots if not shot.arrived]
    alive = [shot for shot in shots if shot.arrived]
    if len(dead) < 2 or not alive:
        return None
    rest = Rate(sent=sum(shot.sent for shot in alive), lost=sum(shot.sent - shot.arrived for shot in alive))
    # One packet of each living tuple must have arrived for it to count as one: it says nothing of the rate.
    by_chance = min(1.0, (rest.lost + 1) / (rest.sent - len(alive) + 2))
    expected = sum(by_chance**shot.sent for shot in shots)
    if _at_least(len(dead), expected) > _CHANCE:
        return None
    ports = tuple(shot.source_port for shot in dead if shot.source_port is not None)
    return Split(dead=ports, tuples=len(shots), rest=rest)


def _at_least(count: int, expected: float) -> float:
    """How likely so many or more are, where so many are expected (Poisson)."""
    below = sum(math.exp(-expected) * expected**number / math.factorial(number) for number in range(count))
    return max(0.0, 1.0 - below)


def flow_cause(way: Way, series: Series, found: Split) -> Cause:
    """The cause: a share of the flows dies, by source port."""
    rate = found.flows()
    low, high = rate.interval
    sender, receiver = ends_of(way, series.direction)
    repeats = min(shot.sent for shot in series.shots if shot.source_port in found.dead)
    ports = sorted(found.dead)[:_MOST_LISTED]
    whose = "destination" if series.answers else "source"
    text = (
        f"{series.label()} from {sender.host} to {receiver.host}: of {found.tuples} {whose} ports {len(found.dead)} never"
        f" arrive, though each was sent {repeats} times; of the others {found.rest.text()}"
    )
    return cause(
        "underlay.flow-hash",
        host=None,
        object=segment(
            way,
            series.direction,
            series.protocol,
            series.port,
            share=round(rate.share, 4),
            low=round(low, 4),
            high=round(high, 4),
            flows=rate.sent,
            dead=rate.lost,
            source_ports=ports,
        ),
        confidence=Confidence.PROVEN,
        explanation=f"{text}. The ports that die: {', '.join(map(str, ports))}.",
        evidence=(Evidence("burst", text, {"dead": ports, "flows": found.tuples}),),
    )
