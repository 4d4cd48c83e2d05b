"""The join token: whether it is one, and whether it is of the swarm that the managers belong to."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.model.found import Found
from netdiag.model.probes import CaOutcome
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.swarm.token import Token, TokenProblem, digest_of_ca

_ALL = (Need.JOIN,)


def _fetch(ctx: Context) -> tuple[Remedy, Step]:
    role = "manager" if ctx.options.manager_role else "worker"
    manager = ctx.managers[0].given if ctx.managers else "a manager"
    command = f"docker swarm join-token {role}"
    return (
        Remedy(host=manager, summary="have the manager print its present token", commands=(command,), risk=Risk.NONE),
        Step(host=manager, command=command, why="prints the token that is valid now"),
    )


def _token_cause(ctx: Context, problem: str, explanation: str, confidence: Confidence, *evidence: Evidence) -> Cause:
    remedy, _ = _fetch(ctx)
    return cause(
        "swarm.token",
        host=ctx.host,
        object={"kind": "token", "form": problem},
        confidence=confidence,
        explanation=explanation,
        evidence=evidence,
        remedy=(remedy,),
    )


def _syntax(ctx: Context) -> Iterator[Found]:
    check = "swarm.token.syntax"
    token = ctx.options.token
    if token is None:
        yield ctx.skip(check, "the token was not looked at", "none was given (--token-file, --token or NETDIAG_TOKEN)")
    elif isinstance(token, TokenProblem):
        yield ctx.problem(
            check,
            token.explanation,
            breaks=_ALL,
            evidence=[Evidence("token", token.explanation, {"fault": token.fault.value})],
            cause=_token_cause(ctx, token.fault.value, f"{token.explanation}.", Confidence.PROVEN),
            next_steps=[_fetch(ctx)[1]],
        )
    elif not token.secret_possible:
        text = "the secret part of the token is larger than any that a manager makes: one of its characters is wrong"
        yield ctx.problem(
            check, text, breaks=_ALL, cause=_token_cause(ctx, "secret-too-large", f"{text}.", Confidence.PROVEN)
        )
    elif token.fips:
        yield ctx.problem(
            check,
            "the token is well-formed and demands an engine in FIPS mode; any other is refused",
            evidence=[Evidence("token", "SWMTKN-2-1: the swarm takes FIPS nodes only", {"fips": True})],
        )
    else:
        yield ctx.ok(check, f"the token is well-formed (version {token.version})")


def _authority(ctx: Context) -> Iterator[Found]:
    check = "swarm.token.ca"
    token = ctx.options.token
    if not isinstance(token, Token):
        why = "no token was given" if token is None else "the token cannot be read"
        yield ctx.skip(check, "the token was not compared with the managers' root CA", why)
        return
    for probe in ctx.managers:
        subject = Subject(host=ctx.host, peer=probe.given)
        if probe.ca is None or probe.ca.outcome is not CaOutcome.ANSWERED or not probe.ca.root_pem:
            yield ctx.skip(
                check,
                f"the token was not compared with the root CA of {probe.given}",
                "that manager did not hand out its root CA",
                subject=subject,
            )
            continue
        digest = digest_of_ca(probe.ca.root_pem)
        data = {"token_digest": token.digest, "manager_digest": digest}
        if token.matches(probe.ca.root_pem):
            yield ctx.ok(
                check,
                f"the token is of the swarm that {probe.given} manages",
                subject=subject,
                evidence=[Evidence("probe", f"SHA-256 of its root CA: {digest[:16]}…", data)],
            )
            continue
        seen = Evidence("probe", f"token: {token.digest[:16]}…, root CA of {probe.given}: {digest[:16]}…", data)
        yield ctx.problem(
            check,
            f"the token is of another swarm than the one that {probe.given} manages",
            breaks=_ALL,
            subject=subject,
            evidence=[seen],
            cause=_token_cause(
                ctx,
                "other-swarm",
                f"The token carries the SHA-256 of its swarm's root CA, and {probe.given} has another root CA. It is the"
                " token of another swarm, or this swarm's CA was rotated after the token was printed.",
                Confidence.PROVEN,
                seen,
            ),
            next_steps=[_fetch(ctx)[1]],
        )


def _secret(ctx: Context) -> Iterator[Found]:
    check = "swarm.token.secret"
    if not isinstance(ctx.options.token, Token):
        return
    yield ctx.unknown(
        check,
        "whether the secret part of the token is still valid",
        "testing it would create a node in the swarm; compare it with what the manager prints",
        next_steps=[_fetch(ctx)[1]],
    )


CHECKS = (
    Check(
        id="swarm.token.syntax",
        title="The token is a whole token",
        explains=(
            "A token is SWMTKN-1-<50 digits>-<25 digits>, or SWMTKN-2-<0|1>-… when the swarm knows FIPS mode. A cut one,"
            " a typographic dash or upper case come from copying; the engine says no more than 'invalid join token'."
        ),
        remedy="Copy the token again from 'docker swarm join-token worker' (or manager).",
        evaluate=_syntax,
    ),
    Check(
        id="swarm.token.ca",
        title="The token is of this swarm",
        explains=(
            "The token's digest is the SHA-256 of the swarm's root CA. Any manager hands its root CA out to anybody, so"
            " the two can be compared before joining."
        ),
        remedy="Print the token anew on a manager of the swarm that is meant.",
        evaluate=_authority,
    ),
    Check(
        id="swarm.token.secret",
        title="The token's secret is valid",
        explains="Only a join can tell: a test would create a node record in the swarm. It is listed so that nobody thinks it was tested.",
        remedy="Compare with 'docker swarm join-token' on a manager.",
        evaluate=_secret,
    ),
)
