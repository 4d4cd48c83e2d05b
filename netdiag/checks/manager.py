"""Whether the managers can be reached, and whether what answers there is a manager of a swarm."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.checks.reach import unreachable
from netdiag.model.found import Found
from netdiag.model.probes import CaOutcome, ManagerProbe, TcpOutcome, TlsOutcome
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.swarm.certificate import (
    Certificate,
    Unreadable,
    is_swarm_manager,
    manager_clock_lower_bound_s,
    parse_certificates,
    window_problem,
)

_JOIN = (Need.JOIN,)


def _subject(ctx: Context, probe: ManagerProbe) -> Subject:
    return Subject(host=ctx.host, peer=probe.given)


def _given(ctx: Context) -> Iterator[Found]:
    check = "swarm.manager.given"
    if ctx.options.initialise:
        yield ctx.skip(check, "no manager is needed", "a swarm is to be initialised here, not joined")
    elif not ctx.options.probed:
        yield ctx.skip(check, "nothing was asked of a manager", "not probed: the bundle holds this host's facts only")
    elif not ctx.options.managers and not ctx.managers:
        yield ctx.unknown(
            check,
            "no manager was named, so nothing was asked of the network",
            "name one with --manager ADDRESS",
            leaves=_JOIN,
            next_steps=[
                Step(
                    host=ctx.host,
                    command="netdiag preflight swarm --manager ADDRESS",
                    why="only then the path to the manager is tested",
                )
            ],
        )
    else:
        probed = {probe.given for probe in ctx.managers}
        for given in ctx.options.managers:
            if given not in probed:
                yield ctx.unknown(
                    check,
                    f"nothing was asked of {given}",
                    "its probes were not sent, or did not end in time",
                    leaves=_JOIN,
                    subject=Subject(host=ctx.host, peer=given),
                )


def _tcp(ctx: Context) -> Iterator[Found]:
    check = "swarm.manager.tcp"
    for probe in ctx.managers:
        subject = _subject(ctx, probe)
        if probe.unresolved:
            yield ctx.problem(
                check,
                f"the name {probe.given} does not resolve here: {probe.unresolved}",
                breaks=_JOIN,
                subject=subject,
            )
        elif probe.tcp is None:
            yield ctx.unknown(
                check,
                f"whether tcp/{probe.port} to {probe.given} connects",
                "no connection was tried",
                leaves=_JOIN,
                subject=subject,
            )
        elif probe.tcp.outcome is TcpOutcome.CONNECTED:
            took = f" in {probe.tcp.connect_us / 1000:.1f} ms" if probe.tcp.connect_us is not None else ""
            yield ctx.ok(check, f"tcp/{probe.port} to {probe.given} connects{took}", subject=subject)
        else:
            yield unreachable(ctx, check, probe)


def _not_manager(probe: ManagerProbe, what: str, confidence: Confidence, evidence: Evidence) -> Cause:
    remedy = Remedy(
        host=probe.given,
        summary="ask a node of the swarm where its managers are, and name one of those",
        commands=("docker info --format '{{json .Swarm.RemoteManagers}}'",),
        risk=Risk.NONE,
    )
    return cause(
        "swarm.not-manager",
        host=probe.given,
        object={"kind": "socket", "address": probe.address, "port": probe.port, "protocol": "tcp"},
        confidence=confidence,
        explanation=f"{what}. A manager of a swarm would speak TLS with a manager's certificate there.",
        evidence=(evidence,),
        remedy=(remedy,),
    )


def _tls(ctx: Context) -> Iterator[Found]:
    check = "swarm.manager.tls"
    for probe in ctx.managers:
        subject = _subject(ctx, probe)
        if probe.tls is None:
            if probe.tcp is not None and probe.tcp.outcome is TcpOutcome.CONNECTED:
                yield ctx.unknown(
                    check,
                    f"whether {probe.given} speaks TLS",
                    "it connects, and the handshake was not made",
                    leaves=_JOIN,
                    subject=subject,
                )
            elif probe.tcp is not None:
                yield ctx.skip(
                    check, f"TLS with {probe.given} was not tried", "there was no connection", subject=subject
                )
            continue
        said = repr(probe.tls.first_bytes[:24])[2:-1] or probe.tls.error
        seen = Evidence(
            "probe", f"{probe.address}:{probe.port} {probe.tls.outcome.value}: {said}", {"error": probe.tls.error}
        )
        match probe.tls.outcome:
            case TlsOutcome.HANDSHAKE:
                yield ctx.ok(check, f"{probe.given} speaks {probe.tls.version or 'TLS'}", subject=subject)
            case TlsOutcome.SILENT if (
                probe.hello is not None and not probe.hello.padded_answered and probe.hello.small_answered
            ):
                yield ctx.skip(
                    check, f"TLS with {probe.given} hangs", "large segments are lost on the way", subject=subject
                )
            case TlsOutcome.SILENT:
                yield ctx.unknown(
                    check,
                    f"{probe.given} accepts the connection and then says nothing",
                    "the process behind the port is stuck, or a device on the path passes the handshake only",
                    leaves=_JOIN,
                    subject=subject,
                    evidence=[seen],
                )
            case TlsOutcome.NOT_TLS:
                what = f"What listens on {probe.address} tcp/{probe.port} does not speak TLS"
                yield ctx.problem(
                    check,
                    f"what answers at {probe.given} tcp/{probe.port} is no manager: it does not speak TLS",
                    breaks=_JOIN,
                    subject=subject,
                    evidence=[seen],
                    cause=_not_manager(probe, what, Confidence.PROVEN, seen),
                )
            case TlsOutcome.ALERT | TlsOutcome.CLOSED:
                what = f"What listens on {probe.address} tcp/{probe.port} ends the TLS handshake"
                yield ctx.problem(
                    check,
                    f"what answers at {probe.given} tcp/{probe.port} ends the TLS handshake",
                    breaks=_JOIN,
                    subject=subject,
                    evidence=[seen],
                    # A device on the path may cut a connection, too; an alert is spoken by the server.
                    cause=_not_manager(
                        probe,
                        what,
                        Confidence.LIKELY if probe.tls.outcome is TlsOutcome.ALERT else Confidence.POSSIBLE,
                        seen,
                    ),
                )


def _identity(ctx: Context) -> Iterator[Found]:
    check = "swarm.manager.identity"
    for probe in ctx.managers:
        if probe.tls is None or probe.tls.outcome is not TlsOutcome.HANDSHAKE:
            continue
        subject = _subject(ctx, probe)
        leaf = _first(probe.tls.leaf_der)
        answered = probe.ca is not None and probe.ca.outcome is CaOutcome.ANSWERED
        if leaf is not None and is_swarm_manager(leaf):
            evidence = [
                Evidence(
                    "certificate",
                    f"node {leaf.common_name} of cluster {leaf.organization}, role {leaf.role}",
                    {"node_id": leaf.common_name, "cluster_id": leaf.organization, "role": leaf.role},
                )
            ]
            if answered:
                yield ctx.ok(
                    check,
                    f"{probe.given} is a manager of cluster {leaf.organization}",
                    subject=subject,
                    evidence=evidence,
                )
            else:
                reason = probe.ca.message if probe.ca is not None and probe.ca.message else "the call got no answer"
                yield ctx.unknown(
                    check,
                    f"{probe.given} is a manager, but does not hand out its root CA",
                    f"{reason}; a manager without quorum does this",
                    leaves=_JOIN,
                    subject=subject,
                    evidence=evidence,
                    next_steps=[
                        Step(host=probe.given, command="docker node ls", why="shows whether the managers have a quorum")
                    ],
                )
            continue
        if leaf is None:
            if answered:
                yield ctx.ok(check, f"{probe.given} hands out a swarm's root CA, as managers do", subject=subject)
            else:
                yield ctx.unknown(
                    check,
                    f"whether {probe.given} is a manager",
                    "it speaks TLS, and its certificate could not be read",
                    leaves=_JOIN,
                    subject=subject,
                )
            continue
        name = f"{leaf.common_name or 'no name'} ({leaf.role or leaf.organization or 'no role'})"
        seen = Evidence("certificate", f"its certificate: {name}", {})
        yield ctx.problem(
            check,
            f"what answers at {probe.given} tcp/{probe.port} speaks TLS and is no manager of a swarm",
            breaks=_JOIN,
            subject=subject,
            evidence=[seen],
            cause=_not_manager(
                probe,
                f"{probe.address} tcp/{probe.port} shows a certificate that no swarm issued to a manager"
                + (" (2376 is the port of the Docker API, not of the swarm)" if probe.port == 2376 else ""),
                Confidence.PROVEN,
                seen,
            ),
        )


def _utc(unix_s: float) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _first(der: bytes) -> Certificate | None:
    read = parse_certificates(der) if der else ()
    return None if isinstance(read, Unreadable) or not read else read[0]


def _certificates(ctx: Context) -> Iterator[Found]:
    check = "swarm.manager.certificate"
    for probe in ctx.managers:
        leaf = _first(probe.tls.leaf_der) if probe.tls is not None else None
        if leaf is None or not is_swarm_manager(leaf):
            continue
        subject = _subject(ctx, probe)
        root = parse_certificates(probe.ca.root_pem) if probe.ca is not None and probe.ca.root_pem else ()
        named = [("its certificate", leaf)]
        if not isinstance(root, Unreadable):
            named += [("its root CA", one) for one in root]
        bad = [(name, one, found) for name, one in named if (found := window_problem(one, ctx.now_s)) is not None]
        behind_s = manager_clock_lower_bound_s(leaf) - ctx.now_s
        for name, one, found in bad:
            seen = Evidence(
                "certificate",
                f"{name} is valid from {_utc(one.not_before_s)} to {_utc(one.not_after_s)};"
                f" this clock shows {_utc(ctx.now_s)}",
                {"not_before_s": one.not_before_s, "not_after_s": one.not_after_s, "now_s": ctx.now_s},
            )
            yield ctx.problem(
                check,
                f"{name} ({probe.given}) is {found.text()} by this host's clock",
                breaks=_JOIN,
                subject=subject,
                evidence=[seen],
                cause=cause(
                    "swarm.certificate-clock",
                    host=ctx.host,
                    object={
                        "kind": "certificate",
                        "of": probe.given,
                        "fault": found.fault.value,
                        "by_s": round(found.by_s),
                    },
                    confidence=Confidence.PROVEN,
                    evidence=(seen,),
                    remedy=(
                        Remedy(
                            host=ctx.host,
                            summary="set this host's clock (compare both hosts' clocks first)",
                            commands=("timedatectl set-ntp true",),
                            undo=("timedatectl set-ntp false",),
                        ),
                    ),
                ),
                next_steps=[Step(host=probe.given, command="date -u", why="to see which of the two clocks is off")],
            )
        if not bad and behind_s > 0:
            yield ctx.problem(
                check,
                f"this host's clock is at least {behind_s:.0f} s behind the moment at which {probe.given} got its certificate",
                subject=subject,
                cause=cause(
                    "host.clock",
                    host=ctx.host,
                    object={"kind": "clock", "peer": probe.given, "behind_s_at_least": round(behind_s)},
                    confidence=Confidence.LIKELY,
                ),
            )
        elif not bad:
            yield ctx.ok(check, f"the certificates of {probe.given} are valid by this host's clock", subject=subject)


CHECKS = (
    Check(
        id="swarm.manager.given",
        title="A manager was named",
        explains="Without a manager's address the path to it cannot be tested, and whether the join works stays open.",
        remedy="Give --manager ADDRESS[:PORT]; several are taken.",
        evaluate=_given,
    ),
    Check(
        id="swarm.manager.tcp",
        title="tcp/2377 of the manager can be reached",
        explains=(
            "A real connection is opened. What came back tells the cases apart: nothing at all (a filter drops, or the"
            " host is down), a RST (nobody listens), an ICMP error and its sender (a filter rejects, or a router has no"
            " route), or this host's own kernel refusing. Where nothing comes back, this host's own rules are read with"
            " their counters before and after, so that a local rule is told from a remote one."
        ),
        remedy="Depends on what came back; the cause names it.",
        evaluate=_tcp,
    ),
    Check(
        id="swarm.manager.tls",
        title="The manager speaks TLS",
        explains="A manager speaks gRPC over TLS on its port. Anything else there is another program, or another port.",
        remedy="Name a manager and its port; 'docker info' on any node lists them.",
        evaluate=_tls,
    ),
    Check(
        id="swarm.manager.identity",
        title="What answers is a manager",
        explains=(
            "The certificate of a manager names its node, its cluster and the role swarm-manager. A worker has no port"
            " 2377 at all; 2376 is the Docker API."
        ),
        remedy="Name a manager; 'docker info' on any node lists them.",
        evaluate=_identity,
    ),
    Check(
        id="swarm.manager.certificate",
        title="Certificates are valid by this clock",
        explains=(
            "A clock that is behind makes the manager's certificates 'not yet valid'. Swarm backdates a node's by an hour"
            " and the root by five minutes, so that is all that a clock may be behind."
        ),
        remedy="Set the clock that is off.",
        evaluate=_certificates,
    ),
)
