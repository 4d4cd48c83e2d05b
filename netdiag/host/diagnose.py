"""A diagnosis of one flow: facts of both hosts, a real attempt that is watched at every place, then what took it."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable

import msgspec

from netdiag.facts.context import Options
from netdiag.host.diagnose_attempt import Watched, try_others, watch_attempt
from netdiag.host.diagnose_causes import Reasons
from netdiag.host.diagnose_layers import end_sizes, full_segments, further_layers, layer_between
from netdiag.host.diagnose_leaving import Leaving
from netdiag.host.diagnose_parties import Open, Planned
from netdiag.host.diagnose_plan import Planner
from netdiag.host.diagnose_service import only_task, survey, tasks_told, try_virtual
from netdiag.host.drive import Carrier
from netdiag.model.found import Found
from netdiag.model.path import Direction, Loss, PathKind, Side, Sight, Way
from netdiag.model.report import State
from netdiag.path.layers import sizes_found
from netdiag.path.listening import who_listens
from netdiag.path.names import Typed
from netdiag.path.sights import later_losses, losses
from netdiag.path.told import addresses_found
from netdiag.path.verdict import Attempt, attempt_found, healthy_found, unsent_found

_ASKED = "--send-payload sends a marked datagram"


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
    send_payload: bool = False,
    at_once: bool = False,
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
        send_payload: Send a datagram also to a port on which somebody listens.
        at_once: Two hosts may be opened at the same time; not where opening one asks the operator something.
        progress: Told what is being done.

    Raises:
        UsageError: An end that means nothing or too much, or that cannot be diagnosed.
        CarrierError: The other host cannot be reached.
    """
    timings_s: dict[str, float] = {}
    start_s = time.monotonic()
    planner = Planner(local, open_peer, now_s, options, progress, at_once=at_once)
    planned = planner.plan(source, destination)
    timings_s["facts"] = time.monotonic() - start_s
    found = list(planned.told)
    if planned.unfit:
        untried = Attempt(answered=False, refused=False, text="not tried", sent=False)
        return Diagnosis(
            way=planned.way, sights=(), losses=(), attempt=untried, found=planned.told, timings_s=timings_s
        )
    run = _Run(now_s, progress, timings_s, send_payload=send_payload)
    only = only_task(planned)
    if only is not None:
        # Its own attempt is the watched one; the virtual IP is another flow, and is tried beside it.
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
            virtual = pool.submit(try_virtual, planned)
            done = run.explain(planned)
        found += tasks_told(planned, [(only, done.attempt)], virtual.result())
    else:
        if planned.service is not None:
            start_s = time.monotonic()
            progress(f"trying the tasks of {planned.service.name}")
            planned, told = survey(planner, planned)
            found += told
            timings_s["tasks"] = time.monotonic() - start_s
        done = run.explain(planned)
    if planned.others and planned.way.port is not None and planned.way.protocol == "tcp":
        found += addresses_found(planned.way, try_others(planned))
    if planned.way.port is not None and _passes(done):
        start_s = time.monotonic()
        told = full_segments(planned, lambda: Leaving(planned, now_s=now_s))
        done = msgspec.structs.replace(done, found=(*done.found, *told))
        timings_s["sizes"] = time.monotonic() - start_s
    if planned.way.port is None and done.attempt.answered and not done.losses:
        start_s = time.monotonic()
        progress("trying ports and sizes")
        broken, told = further_layers(planned)
        swept = end_sizes(planned)
        told.append(sizes_found(planned.way, *swept))
        timings_s["layers"] = time.monotonic() - start_s
        found += [*done.found, *told]
        done = run.explain(broken) if broken is not None else msgspec.structs.replace(done, found=())
        if not any(one.cause is not None for one in done.found):
            start_s = time.monotonic()
            progress("counting packets between the hosts")
            leaving = Leaving(planned, now_s=now_s)
            found += layer_between(broken or planned, swept, leaving)
            timings_s["between"] = time.monotonic() - start_s
    return msgspec.structs.replace(
        done,
        found=(*found, *done.found),
        timings_s={name: round(took_s, 3) for name, took_s in timings_s.items()},
    )


def _passes(done: Diagnosis) -> bool:
    """Whether a connection opens, and nothing is known yet that breaks it."""
    failed = any(one.state is State.FAIL for one in done.found)
    return done.way.protocol == "tcp" and done.attempt.answered and not done.losses and not failed


class _Run:
    """Explains one flow after the other, and adds up how long each part takes."""

    def __init__(
        self,
        now_s: float,
        progress: Callable[[str], None],
        timings_s: dict[str, float],
        *,
        send_payload: bool,
    ) -> None:
        self._now_s, self._progress = now_s, progress
        self._timings_s, self._send_payload = timings_s, send_payload

    def explain(self, planned: Planned) -> Diagnosis:
        """Watch an attempt, and find out why it fails."""
        kept_back = self._kept_back(planned)
        if kept_back:
            attempt = Attempt(answered=False, refused=False, text="not tried", sent=False)
            state = State.SKIP if Side.DESTINATION in planned.parties else State.UNKNOWN
            return self._untried(planned, attempt, unsent_found(planned.way, state, kept_back))
        start_s = time.monotonic()
        self._progress("watching an attempt")
        watched = _as_the_end_says(watch_attempt(planned))
        self._took("attempt", start_s)
        if not watched.attempt.sent:
            # Nothing is lost that was never sent.
            reason = f"the attempt could not be made: {watched.attempt.text}"
            return self._untried(planned, watched.attempt, unsent_found(planned.way, State.UNKNOWN, reason))
        reasons = Reasons(planned, watched, now_s=self._now_s)
        found, lost = self._judged(planned, watched, reasons)
        return Diagnosis(
            way=planned.way,
            sights=watched.sights,
            losses=lost,
            attempt=watched.attempt,
            found=tuple(found),
            timings_s={},
        )

    def _judged(self, planned: Planned, watched: Watched, reasons: Reasons) -> tuple[list[Found], tuple[Loss, ...]]:
        """What is to be said of an attempt, and where it was lost."""
        way, attempt = planned.way, watched.attempt
        start_s = time.monotonic()
        odd = (
            reasons.of_another(in_place=_by_another(watched, way))
            if attempt.answered and _unseen_at_end(watched)
            else []
        )
        stuck = self._stuck(planned, watched) if attempt.answered and not odd else ()
        if stuck:
            self._progress("finding what takes the rest of the connection")
            found = [one for loss in stuck for one in reasons.of_later(loss)]
            self._took("cause", start_s)
            return [attempt_found(way, attempt), *found], stuck
        if attempt.answered and not odd:
            late = reasons.of_second_try() if attempt.tries > 1 else []
            passed = [healthy_found(way, watched.sights), *reasons.unnoticed(), *late, *reasons.of_users()]
            return [attempt_found(way, attempt), *passed], ()
        self._progress("finding what took it")
        lost = losses_of(watched)
        at_the_end = bool(lost) and lost[0].direction is Direction.BACK and lost[0].last is None
        who = self._listening(planned) if way.protocol == "udp" and at_the_end and not attempt.refused else ""
        if odd:
            found = odd
        elif who:
            found = reasons.of_silence(lost[0], who)
        elif not lost or (attempt.refused and at_the_end):
            found = reasons.of_refusal()
        else:
            found = [one for loss in lost for one in reasons.of_loss(loss)]
        self._took("cause", start_s)
        passes = bool(found) and all(one.state in (State.OK, State.WARN) for one in found)
        first = attempt_found(way, attempt, state=(State.OK if who else State.WARN) if passes else State.FAIL)
        refused_elsewhere = attempt.refused and Side.DESTINATION not in planned.parties
        return [first, *found], () if passes or refused_elsewhere else lost

    @staticmethod
    def _stuck(planned: Planned, watched: Watched) -> tuple[Loss, ...]:
        """Where a connection that opens loses what follows, the same twice over: once may be chance."""
        found = later_losses(watched.sights)
        if not found:
            return ()
        again = watch_attempt(planned)
        return found if again.attempt.answered and later_losses(again.sights) == found else ()

    @staticmethod
    def _listening(planned: Planned) -> str:
        party = planned.parties.get(Side.DESTINATION)
        return who_listens(party.facts, planned.way) if party is not None else ""

    def _kept_back(self, planned: Planned) -> str:
        """Why the destination is sent no datagram unasked; empty where it is sent one."""
        if planned.way.protocol != "udp" or self._send_payload:
            return ""
        if Side.DESTINATION not in planned.parties:
            return f"who listens there is not known, and might not like what it does not expect: {_ASKED}"
        who = self._listening(planned)
        return f"{who} listens there and might not like what it does not expect: {_ASKED}" if who else ""

    def _untried(self, planned: Planned, attempt: Attempt, first: Found) -> Diagnosis:
        """Nothing is sent: what the filters would do is asked."""
        start_s = time.monotonic()
        self._progress("asking the filters on the way")
        way = planned.way
        sights = tuple(Sight(place=place, error="not tried") for place in way.places)
        watched = Watched(attempt=attempt, sights=sights)
        reasons = Reasons(planned, watched, now_s=self._now_s)
        found = (first, *reasons.of_what_stands())
        self._took("cause", start_s)
        return Diagnosis(way=way, sights=sights, losses=(), attempt=attempt, found=found, timings_s={})

    def _took(self, name: str, start_s: float) -> None:
        self._timings_s[name] = self._timings_s.get(name, 0.0) + time.monotonic() - start_s


def _as_the_end_says(watched: Watched) -> Watched:
    """A connection that a proxy accepted (docker-proxy does so first) and the destination itself refused is a refusal."""
    last = watched.sights[-1] if watched.sights else None
    if not watched.attempt.answered or last is None or not last.there or not 0 < last.back == last.refused:
        return watched
    text = f"{watched.attempt.text} to a proxy in front, and the end refuses"
    attempt = msgspec.structs.replace(watched.attempt, answered=False, refused=True, text=text)
    return msgspec.structs.replace(watched, attempt=attempt)


def _unseen_at_end(watched: Watched) -> bool:
    """Whether what was sent was not seen at its last place."""
    last = watched.sights[-1] if watched.sights else None
    return last is not None and last.watched and not last.there


def _by_another(watched: Watched, way: Way) -> bool:
    """Whether somebody answered who is not the destination: what was sent came to the place before its last, and no further.

    That is a matter of translation. Where none is, a packet that is not known again may have had another address.
    """
    seen = [sight for sight in watched.sights if sight.watched]
    if way.kind is not PathKind.PUBLISHED or not seen or seen[-1].there:
        return False
    return len(seen) < 2 or bool(seen[-2].there)


def losses_of(watched: Watched) -> tuple[Loss, ...]:
    """Where it was lost; what was answered everywhere and is not known at its start was lost on its last step."""
    found = losses(watched.sights)
    first = next((sight for sight in watched.sights if sight.watched), None)
    if found or first is None or watched.attempt.answered or watched.attempt.refused:
        return found
    return (Loss(direction=Direction.BACK, last=first.place, next=None),)
