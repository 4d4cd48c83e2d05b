"""Raft's majority: how many managers a swarm needs, and what adding or losing one does.

Source: swarmkit ``manager/state/raft``; Docker's manual "Administer and maintain a swarm" (fault tolerance).
"""

from __future__ import annotations

import enum

import msgspec


class QuorumRisk(enum.Enum):
    """What is to be said about a number of managers."""

    NONE = "none"
    NO_SPARE = "no-spare"
    """One manager only: its loss loses the swarm's state, as everybody expects."""
    TWO_MANAGERS = "two-managers"
    """Either one lost stops the swarm: worse than one manager, and rarely meant (moby#26381)."""
    EVEN = "even"
    """The last manager adds no tolerance."""
    AT_LIMIT = "at-limit"
    """Enough managers answer, but the next loss stops the swarm."""
    LOST = "lost"
    """Fewer managers answer than raft needs: nothing can be changed, joins hang."""


class Quorum(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a swarm's majority.

    Attributes:
        managers: Members of the raft group, reachable or not.
        reachable: Those that answer.
        needed: How many must answer.
        spare: How many more may fail from here; negative when the quorum is lost.
    """

    managers: int
    reachable: int
    needed: int
    spare: int
    risk: QuorumRisk


def managers_needed(managers: int) -> int:
    """How many of so many managers must answer: more than half."""
    return managers // 2 + 1


def quorum_of(*, managers: int, reachable: int | None = None) -> Quorum:
    """Judge a swarm of so many managers, of which so many answer (all, unless said otherwise).

    Raises:
        ValueError: Fewer than one manager, or more answering than there are.
    """
    answering = managers if reachable is None else reachable
    if managers < 1 or not 0 <= answering <= managers:
        raise ValueError(f"{answering} of {managers} managers is not a state of a swarm")
    needed = managers_needed(managers)
    spare = answering - needed
    return Quorum(
        managers=managers, reachable=answering, needed=needed, spare=spare, risk=_risk(managers, answering, spare)
    )


def after_joining(now: Quorum, *, answers: bool = True) -> Quorum:
    """The swarm after one more manager joined.

    Args:
        now: The swarm before.
        answers: False for a manager that cannot be reached after it was added (a firewall, a small MTU): it counts for
            the majority nevertheless, which is how a second manager costs a swarm its leader.
    """
    return quorum_of(managers=now.managers + 1, reachable=now.reachable + answers)


def _risk(managers: int, reachable: int, spare: int) -> QuorumRisk:
    if spare < 0:
        return QuorumRisk.LOST
    if managers == 1:
        return QuorumRisk.NO_SPARE
    if managers == 2:
        return QuorumRisk.TWO_MANAGERS
    if spare == 0:
        return QuorumRisk.AT_LIMIT
    return QuorumRisk.EVEN if managers % 2 == 0 and reachable == managers else QuorumRisk.NONE
