"""A diagnosis of one flow: facts of both hosts, a real attempt that is watched at every place, then what took it."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from netdiag.facts.context import Options
from netdiag.host.diagnose_attempt import watch_attempt
from netdiag.host.diagnose_causes import Reasons
from netdiag.host.diagnose_parties import Open, Planner
from netdiag.host.drive import Carrier
from netdiag.model.found import Found
from netdiag.model.path import Loss, Sight, Way
from netdiag.path.names import Typed
from netdiag.path.sights import losses
from netdiag.path.verdict import Attempt, attempt_found, healthy_found


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    way: Way
    sights: tuple[Sight, ...]
    losses: tuple[Loss, ...]
    attempt: Attempt
    found: tuple[Found, ...]
    timings_s: dict[str, float]


def diagnose(
    local: Carrier,
    source: Typed,
    destination: Typed,
    *,
    open_peer: Open,
    now_s: float,
    options: Options,
    progress: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """Diagnose one flow.

    Args:
        local: This host.
        source: Where the flow begins, as typed.
        destination: Where it should end.
        open_peer: How to reach another host.
        now_s: Unix time.
        options: What the operator chose.
        progress: Told what is being done.

    Raises:
        UsageError: An end that means nothing or too much, or that cannot be diagnosed.
        CarrierError: The other host cannot be reached.
    """
    timings_s: dict[str, float] = {}
    start_s = time.monotonic()
    planned = Planner(local, open_peer, now_s, options, progress).plan(source, destination)
    timings_s["facts"] = time.monotonic() - start_s
    start_s = time.monotonic()
    progress("watching an attempt")
    watched = watch_attempt(planned)
    timings_s["attempt"] = time.monotonic() - start_s
    reasons = Reasons(planned, watched, now_s=now_s, options=options)
    found = [attempt_found(planned.way, watched.attempt)]
    lost: tuple[Loss, ...] = ()
    if watched.attempt.answered:
        found += [healthy_found(planned.way, watched.sights), *reasons.unnoticed()]
    else:
        start_s = time.monotonic()
        progress("finding what took it")
        lost = losses(watched.sights)
        for loss in lost:
            found += reasons.of_loss(loss)
        if not lost:
            found += reasons.of_refusal()
        timings_s["cause"] = time.monotonic() - start_s
    return Diagnosis(
        way=planned.way,
        sights=watched.sights,
        losses=lost,
        attempt=watched.attempt,
        found=tuple(found),
        timings_s={name: round(took_s, 3) for name, took_s in timings_s.items()},
    )
