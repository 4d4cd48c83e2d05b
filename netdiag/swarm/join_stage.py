"""At which stage a join stands still, and why: from the engine's state, its error text and its log.

A join passes these stages (swarmkit ``node/node.go``, ``ca/config.go``, ``agent/session.go``): a TCP connection to the
manager's port, TLS, the root CA and its digest, a certificate for the new node, then the agent's session with a
manager; a manager also enters raft, for which the leader dials back. The engine waits 20 s for all of it (moby
``daemon/cluster``, ``swarmConnectTimeout``) and asks for the root CA five times, 2 s apart, so a port that answers with
an error is reported after 10 s and one that swallows packets as a mere time-out.

The engine has a node id exactly when it has a certificate, which tells a join that never got so far from one that is
stuck in its session.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from netdiag.model.engine import SwarmState
from netdiag.swarm.join_messages import MESSAGE_RULES, JoinProblem, JoinStage, LogClass


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where a join stands. ``problem`` is None when nothing says why, or nothing is wrong."""

    stage: JoinStage
    problem: JoinProblem | None
    explanation: str


_S, _P = JoinStage, JoinProblem

_SESSION_CONTEXT: Final = ("agent: session failed", "module=node/agent")
_TRANSPORT: Final = frozenset({_S.TCP, _S.TLS})
_OTHER_CLIENT: Final = re.compile(r"\b(?:Get|Head|Post|Put) [\\\"]*https?://")
"""An HTTP request of the engine, to a registry most of all: it has the same TLS troubles and is no join."""

_STAMP: Final = re.compile(r'\btime"?[=:]"?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))')
_GOSSIP_KEYS: Final = re.compile(r"Keys:\[(?!…)(?:\[[\d ]*\] ?)*\]?")
_SECRETS: Final = re.compile(r"\bSWM(?:TKN|KEY)-[0-9A-Za-z-]+")


def classify_log(line: str) -> LogClass | None:
    """What a line says about joining or gossip; None for all others.

    Takes logfmt and JSON as dockerd writes them, with or without what journald puts before, and bare error texts.
    """
    if _OTHER_CLIENT.search(line):
        return None
    for rule in MESSAGE_RULES:
        found = rule.pattern.search(line)
        if found is None:
            continue
        stage = rule.stage
        if stage in _TRANSPORT and any(context in line for context in _SESSION_CONTEXT):
            stage = JoinStage.SESSION
        peer = (found.groupdict().get("peer") or "").rstrip(":")
        return LogClass(stage=stage, problem=rule.problem, meaning=rule.meaning, peer=peer)
    return None


def redacted(line: str) -> str:
    """The line without secrets: 20.10 logs the keys of gossip when it joins, and commands carry tokens.

    A line that was redacted stays as it is, so that a bundle's log reads like the live one.
    """
    return _SECRETS.sub("SWM…", _GOSSIP_KEYS.sub("Keys:[…]", line))


def stage_of(state: SwarmState, node_id: str, error: str, log: Sequence[LogClass]) -> StageReport:
    """Where the latest join of this engine stands.

    Args:
        state: The engine's ``LocalNodeState``.
        node_id: Its ``NodeID``; empty until it has a certificate.
        error: Its ``Swarm.Error``, or what ``docker swarm join`` printed; may be empty.
        log: Classes of the log's lines since that join began, oldest first.
    """
    match state:
        case SwarmState.ACTIVE:
            gossip = _latest(log, {_S.JOINED, _S.SESSION})
            text = gossip.meaning if gossip else "the engine is a member of its swarm"
            return StageReport(stage=_S.JOINED, problem=gossip.problem if gossip else None, explanation=text)
        case SwarmState.LOCKED:
            return StageReport(stage=_S.UNKNOWN, problem=_P.LOCKED, explanation="the swarm is locked: unlock it first")
        case SwarmState.PENDING if node_id:
            return _stuck_in_session(classify_log(error) or _latest(log, {_S.SESSION, _S.RAFT}))
        case SwarmState.PENDING:
            why = classify_log(error) or _latest(log, {_S.TCP, _S.TLS, _S.ROOT_CA, _S.CERTIFICATE})
            return _ended(why, "a join is pending and never got a certificate; the log does not say where it hangs")
        case _:
            return _ended(classify_log(error) or (log[-1] if log else None), "nothing tells of a join that failed")


def _latest(log: Sequence[LogClass], stages: set[JoinStage]) -> LogClass | None:
    return next((one for one in reversed(log) if one.stage in stages), None)


def _ended(why: LogClass | None, otherwise: str) -> StageReport:
    if why is None:
        return StageReport(stage=_S.UNKNOWN, problem=None, explanation=otherwise)
    return StageReport(stage=why.stage, problem=why.problem, explanation=why.meaning)


def _stuck_in_session(why: LogClass | None) -> StageReport:
    if why is None:
        text = "the node has its certificate but no session with a manager; a path with a smaller MTU does this"
        return StageReport(stage=_S.SESSION, problem=None, explanation=text)
    stage = why.stage if why.stage is _S.RAFT else _S.SESSION
    return StageReport(stage=stage, problem=why.problem, explanation=why.meaning)
