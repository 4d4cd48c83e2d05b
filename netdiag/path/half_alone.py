"""What one side of a diagnosis knows while the other's answer is missing."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.model.found import Found
from netdiag.model.half import Half, HalfRound
from netdiag.model.path import Loss, Side
from netdiag.model.report import Answer, Need, State, Subject
from netdiag.path.half_join import Joined
from netdiag.path.half_way import attempt_of, sights_of, way_of
from netdiag.path.sights import losses
from netdiag.path.verdict import attempt_found, loss_text, sight_evidence


def alone(half: Half, away: str) -> Joined:
    """What one side knows without the other's answer; ``away`` is what the other host is called."""
    one = half.rounds[-1]
    if half.side is Side.SOURCE:
        nobody = Half(side=Side.DESTINATION, host=away, flow=half.flow, within_s=half.within_s, places=(), rounds=())
        way = way_of(half, nobody)
        attempt = attempt_of(one)
        first = [attempt_found(way, attempt)]
        done = attempt.answered
    else:
        nobody = Half(side=Side.SOURCE, host=away, flow=half.flow, within_s=half.within_s, places=(), rounds=())
        way, first, done = way_of(nobody, half), [], False
    sights = tuple(sights_of(half, one, way))
    lost = () if done else losses(sights)[:1]
    found = list(first)
    for told in half.told:
        text = "it would be lost here, were it not lost before" if told.ahead else _lost_text(lost)
        found.append(
            Found(
                check="path.ahead" if told.ahead else "path.loss",
                state=State.FAIL,
                subject=Subject(host=half.host, peer=away),
                summary=f"{told.about}: {text}" if told.about else text,
                evidence=sight_evidence(way, sights),
                cause=told.cause,
            )
        )
    if not done and not any(not told.ahead for told in half.told):
        found.append(
            Found(
                check="path.loss",
                state=State.UNKNOWN,
                subject=Subject(host=way.source.host, peer=way.destination.host),
                summary=_seen_text(half, one, away),
                evidence=sight_evidence(way, sights),
                answers={Need.TRAFFIC: Answer.UNKNOWN},
                reason=f"the answer of {away} is missing: what was seen there tells where it is lost",
            )
        )
    return Joined(way=way, sights=sights, losses=lost, found=tuple(found))


def _lost_text(lost: Sequence[Loss]) -> str:
    return loss_text(lost[0]) if lost else "it is refused here"


def _seen_text(half: Half, one: HalfRound, away: str) -> str:
    if half.side is Side.SOURCE:
        return f"what becomes of the attempt at {away}"
    if not any(count.there for count in one.counts):
        return f"nothing of {away} came to {half.host}"
    if any(count.back for count in one.counts):
        return f"the attempt of {away} came here and was answered: whether the answer arrives"
    return f"the attempt of {away} came here, and nothing answers"
