"""Whether this engine is free to join: its state, a join that hangs, and leftovers of an old swarm."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, host_of, same_address
from netdiag.model.engine import Engine, SwarmState
from netdiag.model.found import Found
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Risk, Step
from netdiag.shell import shell_text
from netdiag.swarm.certificate import Certificate, Unreadable, parse_certificates
from netdiag.swarm.join_messages import JoinProblem
from netdiag.swarm.join_stage import StageReport, classify_log, redacted, stage_of

_CHECK = "swarm.member.state"


def is_member_of_asked_swarm(ctx: Context) -> bool | None:
    """Whether this node already belongs to the swarm of the managers that were asked for; None when nothing tells."""
    engine = ctx.facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE:
        return False
    if not ctx.managers:
        return None
    known = [host_of(address) for address in engine.swarm.remote_managers]
    if any(same_address(probe.address, address) for probe in ctx.managers for address in known):
        return True
    clusters = {
        one.organization
        for probe in ctx.managers
        if probe.tls is not None and probe.tls.leaf_der
        for one in _parsed(probe.tls.leaf_der)
    }
    if engine.swarm.cluster_id and clusters:
        return engine.swarm.cluster_id in clusters
    # A manager that this member does not know by that address may be another swarm's, or the same by another address.
    return None


def _parsed(leaf_der: bytes) -> tuple[Certificate, ...]:
    read = parse_certificates(leaf_der)
    return () if isinstance(read, Unreadable) else read


def _state(ctx: Context) -> Iterator[Found]:
    engine = ctx.facts.engine.value
    if engine is None:
        return
    match engine.swarm.state:
        case SwarmState.INACTIVE:
            yield ctx.ok(_CHECK, "this engine is in no swarm")
        case SwarmState.ACTIVE:
            yield _active(ctx, engine)
        case SwarmState.PENDING:
            yield _pending(ctx, engine)
        case SwarmState.LOCKED:
            yield ctx.problem(
                _CHECK,
                "this engine is a manager of a swarm that is locked",
                breaks=(Need.JOIN, Need.NAMES, Need.TRAFFIC),
                evidence=[_evidence(engine)],
                cause=_member(
                    ctx,
                    engine,
                    Remedy(host=ctx.host, summary="unlock it with the swarm's key", commands=("docker swarm unlock",)),
                    msg="The engine is a manager of an auto-locked swarm and waits for the key before it goes on.",
                ),
            )
        case SwarmState.ERROR:
            yield _error(ctx, engine)
        case _:
            yield ctx.unknown(
                _CHECK,
                "the engine does not say whether it is in a swarm",
                "its swarm state is empty",
                leaves=(Need.JOIN,),
            )


def _evidence(engine: Engine) -> Evidence:
    swarm = engine.swarm
    text = f"docker info: Swarm: {swarm.state.value}" + (f", node {swarm.node_id}" if swarm.node_id else "")
    return Evidence(
        "engine", text, {"state": swarm.state.value, "node_id": swarm.node_id, "error": redacted(swarm.error)}
    )


def _member(ctx: Context, engine: Engine, *remedies: Remedy, msg: str | None = None) -> Cause:
    return cause(
        "swarm.already-member",
        host=ctx.host,
        object={"kind": "engine", "state": engine.swarm.state.value, "node_id": engine.swarm.node_id},
        confidence=Confidence.PROVEN,
        explanation=msg,
        evidence=(_evidence(engine),),
        remedy=remedies,
    )


def _leaving(ctx: Context, engine: Engine) -> Remedy:
    swarm, summary = engine.swarm, "leave the swarm that it is in"
    commands: tuple[str, ...] = ("docker swarm leave",)
    if swarm.is_manager and (swarm.managers or 0) > 1:
        summary += " (it is a manager there: that is handed over first)"
        commands = (shell_text(["docker", "node", "demote", swarm.node_id]), *commands)
    elif swarm.is_manager:
        summary += " (this node is a manager: if it is the last one, that swarm and its services end with it)"
        commands = ("docker swarm leave --force",)
    return Remedy(host=ctx.host, summary=summary, commands=commands, risk=Risk.DISRUPTIVE)


def _active(ctx: Context, engine: Engine) -> Found:
    same = is_member_of_asked_swarm(ctx)
    managers = ", ".join(engine.swarm.remote_managers)
    if same:
        return ctx.problem(
            _CHECK,
            f"this engine is already a member of this very swarm (node {engine.swarm.node_id}): there is nothing to join,"
            " its membership is verified instead",
            evidence=[_evidence(engine)],
            cause=_member(
                ctx,
                engine,
                msg="It has joined before; another 'docker swarm join' would be refused, and none is needed.",
            ),
        )
    leave = _leaving(ctx, engine)
    asked = ", ".join(probe.given for probe in ctx.managers)
    if same is None and not asked:
        # No swarm was named: nobody is told to leave the one that may be meant, least of all its only manager.
        return ctx.problem(
            _CHECK,
            "this engine is already a member of a swarm" + (f", managed by {managers}" if managers else ""),
            breaks=(Need.JOIN,),
            evidence=[_evidence(engine)],
            cause=_member(ctx, engine),
            next_steps=[
                Step(
                    host=ctx.host,
                    command="netdiag verify swarm",
                    why="if this is the swarm that is meant: is it in order?",
                )
            ],
        )
    unsure = f"; whether {asked} manages this one cannot be told from here" if same is None and asked else ""
    which = "another swarm" if same is False else "a swarm"
    return ctx.problem(
        _CHECK,
        f"this engine is already a member of {which}" + (f", managed by {managers}" if managers else "") + unsure,
        breaks=(Need.JOIN,),
        evidence=[_evidence(engine)],
        # Nobody is told to leave what may be the very swarm that was meant.
        cause=_member(ctx, engine, *(() if unsure else (leave,))),
        next_steps=[
            Step(
                host=ctx.managers[0].given,
                command="docker node ls",
                why=f"if it lists {engine.swarm.node_id}, this engine is in that swarm already; else leave the old one first",
            )
        ]
        if unsure
        else (),
    )


def _latest_join(ctx: Context) -> tuple[StageReport, tuple[Evidence, ...]]:
    engine, log = ctx.facts.engine.value, ctx.facts.engine_log.value
    assert engine is not None  # noqa: S101 - asked only when there is one
    lines = [(line, found) for line in (log.lines if log else ()) if (found := classify_log(line.text)) is not None]
    stage = stage_of(engine.swarm.state, engine.swarm.node_id, engine.swarm.error, [found for _, found in lines])
    # Only the lines that say so are evidence: the log holds more of swarm than this join.
    evidence = [
        Evidence("log", redacted(line.text)[:300], {"unix_s": line.unix_s, "stage": found.stage.value})
        for line, found in lines
        if found.problem is stage.problem
    ]
    return stage, tuple(evidence[-2:])


def _pending(ctx: Context, engine: Engine) -> Found:
    stage, log = _latest_join(ctx)
    wait = Remedy(
        host=ctx.host,
        summary="heal what it waits for: the join goes on by itself within seconds, no second join is needed",
        commands=(),
        risk=Risk.NONE,
    )
    give_up = Remedy(
        host=ctx.host,
        summary="or give this join up, to join anew",
        commands=("docker swarm leave --force",),
        risk=Risk.LOW,
    )
    return ctx.problem(
        _CHECK,
        f"a join is pending: it stands still at {stage.stage.value} ({stage.explanation})",
        breaks=(Need.JOIN,),
        evidence=[_evidence(engine), *log],
        cause=cause(
            "swarm.join-stage",
            host=ctx.host,
            object={
                "kind": "stage",
                "stage": stage.stage.value,
                "problem": stage.problem.value if stage.problem else None,
                "node_id": engine.swarm.node_id,
                "manager": ", ".join(engine.swarm.remote_managers),
                "message": stage.explanation,
            },
            confidence=Confidence.PROVEN if stage.problem is not None or engine.swarm.node_id else Confidence.LIKELY,
            explanation=(
                "An earlier join did not end and continues in the background. "
                f"{stage.explanation[:1].upper()}{stage.explanation[1:]}."
            ),
            evidence=(_evidence(engine), *log),
            remedy=(wait, give_up),
        ),
    )


def _error(ctx: Context, engine: Engine) -> Found:
    found = classify_log(engine.swarm.error)
    expired = found is not None and found.problem in (JoinProblem.CLOCK, JoinProblem.CERTIFICATE_EXPIRED)
    error = redacted(engine.swarm.error)
    leave = Remedy(
        host=ctx.host,
        summary=("if this host's clock is right: " if expired else "")
        + "leave, which clears the engine's swarm state, then join anew",
        commands=("docker swarm leave --force",),
        risk=Risk.DISRUPTIVE,
    )
    return ctx.problem(
        _CHECK,
        f"this engine's swarm membership failed: {error or 'no reason given'}",
        breaks=(Need.JOIN,),
        evidence=[_evidence(engine)],
        cause=cause(
            "swarm.certificate-clock" if expired else "swarm.already-member",
            host=ctx.host,
            object={
                "kind": "certificate" if expired else "engine",
                "state": "error",
                "error": error,
            },
            confidence=Confidence.LIKELY,
            explanation=found.meaning if found else None,
            evidence=(_evidence(engine),),
            remedy=(leave,),
        ),
        next_steps=[Step(host=ctx.host, command="date -u", why="a clock that is off looks like an expired certificate")]
        if expired
        else (),
    )


def _leftovers(ctx: Context) -> Iterator[Found]:
    check = "swarm.member.leftovers"
    engine = ctx.facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.INACTIVE:
        return
    directory = f"{engine.root_directory or '/var/lib/docker'}/swarm"
    if not engine.swarm_files_known:
        yield ctx.unknown(check, f"{directory} could not be looked at", "it is open to root only; run netdiag as root")
        return
    telling = [name for name in engine.swarm_files if name.endswith((".crt", ".key", ".json", ".db", ".snap", ".wal"))]
    if not telling:
        yield ctx.ok(check, "nothing is left of an older swarm")
        return
    aside = f"{directory}.old"
    yield ctx.problem(
        check,
        f"the engine is in no swarm, and yet {directory} holds {len(telling)} files of one",
        evidence=[Evidence("file", f"{directory}/{name}", {}) for name in telling[:4]],
        cause=cause(
            "swarm.stale-state",
            host=ctx.host,
            object={"kind": "file", "path": directory, "what": telling[:20]},
            confidence=Confidence.POSSIBLE,
            remedy=(
                Remedy(
                    host=ctx.host,
                    summary="move it aside while the engine is stopped",
                    commands=("systemctl stop docker", shell_text(["mv", directory, aside]), "systemctl start docker"),
                    undo=("systemctl stop docker", shell_text(["mv", aside, directory]), "systemctl start docker"),
                    risk=Risk.DISRUPTIVE,
                ),
            ),
        ),
        next_steps=[
            Step(
                host=ctx.host,
                command=shell_text(["ls", "-R", directory]),
                why="to see whose state this was before moving it",
            )
        ],
    )


CHECKS = (
    Check(
        id=_CHECK,
        title="This engine is free to join",
        explains=(
            "An engine is in one swarm or in none. A join that timed out is not over: it continues in the background, and"
            " the next 'docker swarm join' is refused until it ends. Where it stands still is told from the engine's"
            " state, from whether it has a node id (it then has its certificate), and from its log."
        ),
        remedy="Leave the old swarm; heal what a pending join waits for; unlock a locked manager.",
        evaluate=_state,
        needs=("engine",),
    ),
    Check(
        id="swarm.member.leftovers",
        title="Nothing is left of an older swarm",
        explains=(
            "Certificates and state below the engine's swarm directory survive a copied disk or a half-done clean-up; the"
            " engine then trusts another CA than the manager's (moby#30393)."
        ),
        remedy="Stop the engine, move the directory aside, start the engine.",
        evaluate=_leftovers,
        needs=("engine",),
    ),
)
