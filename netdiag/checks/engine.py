"""The engine itself: whether it answers, whether its version and its settings go with a swarm."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, host_of
from netdiag.model.engine import Engine
from netdiag.model.facts import Absence, AbsenceKind, FeatureState
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Step
from netdiag.swarm.engine_rules import Condition, Defect, Effect, defects_of
from netdiag.swarm.engine_version import EngineVersion, parse_engine_version
from netdiag.swarm.ports import DEFAULT_DATA_PATH_PORT

_ALL = (Need.JOIN, Need.NAMES, Need.TRAFFIC)


def _reachable(ctx: Context) -> Iterator[Found]:
    check = "swarm.engine.reachable"
    section = ctx.facts.engine
    if section.value is not None:
        yield ctx.ok(check, f"Docker engine {section.value.version} answers")
        return
    absent = section.absent or Absence(kind=AbsenceKind.NOT_PROBED, text="not collected")
    if absent.kind is AbsenceKind.MISSING:
        yield ctx.problem(
            check,
            f"there is no Docker engine to join with: {absent.text}",
            breaks=_ALL,
            next_steps=[
                Step(host=ctx.host, command="systemctl start docker", why="the engine must run before it can join")
            ],
        )
        return
    if absent.kind is AbsenceKind.PERMISSION:
        steps = [
            Step(
                host=ctx.host, command="sudo netdiag preflight swarm …", why="the engine's socket is open to root only"
            )
        ]
    else:
        steps = [
            Step(
                host=ctx.host, command="systemctl status docker", why="shows whether the engine runs, hangs or has died"
            )
        ]
    yield ctx.unknown(check, "the Docker engine could not be asked", absent.text, leaves=_ALL, next_steps=steps)


def _conditions(ctx: Context) -> set[Condition]:
    engine = ctx.facts.engine.value
    saved = ctx.facts.firewall_saved.value
    kernel = ctx.facts.kernel.value
    found: set[Condition] = set()
    if engine is not None:
        if any(network.encrypted for network in engine.networks):
            found.add(Condition.ENCRYPTED_NETWORK)
        if engine.firewall_backend.startswith("nftables"):
            found.add(Condition.NFTABLES_BACKEND)
    if any(service.name == "firewalld" and service.active for service in (saved.services if saved else ())):
        found.add(Condition.FIREWALLD)
    if ctx.data_path_port != DEFAULT_DATA_PATH_PORT:
        found.add(Condition.CUSTOM_DATA_PATH_PORT)
    match = kernel.features.get("xt_u32") if kernel else None
    if match is not None and match.state is FeatureState.MISSING:
        found.add(Condition.WITHOUT_XT_U32)
    return found


# Defects that strike always where their conditions hold; the others strike at some event (a reload, a task that moves),
# so they answer no question.
_ALWAYS = frozenset({"encryption-port", "encryption-needs-u32"})
_NFTABLES_FLAG = "nftables-backend-flag"


def _breaks(defect: Defect) -> tuple[Need, ...]:
    if defect.effect is Effect.REFUSES_SWARM:
        return _ALL
    return (Need.TRAFFIC,) if defect.id in _ALWAYS else ()


def _confidence(defect: Defect) -> Confidence:
    if defect.effect is Effect.REFUSES_SWARM:
        return Confidence.PROVEN
    return Confidence.LIKELY if defect.id in _ALWAYS else Confidence.POSSIBLE


def _version(ctx: Context) -> Iterator[Found]:
    check = "swarm.engine.version"
    engine = ctx.facts.engine.value
    if engine is None:
        return
    version = parse_engine_version(engine.version)
    if version is None:
        yield ctx.unknown(check, f"engine version {engine.version!r} is not understood", "it has no number to compare")
        return
    defects = defects_of(version, _conditions(ctx))
    for defect in defects:
        if defect.id == _NFTABLES_FLAG:
            yield _needs_flag(ctx, check, engine, defect)
            continue
        yield ctx.problem(
            check,
            f"engine {engine.version}: {defect.what}",
            breaks=_breaks(defect),
            evidence=[Evidence("engine", f"version {engine.version}; {', '.join(defect.refs)}", {"defect": defect.id})],
            cause=cause(
                "swarm.engine-version",
                host=ctx.host,
                object={"kind": "engine", "version": engine.version, "defect": defect.id},
                confidence=_confidence(defect),
                explanation=f"{defect.what[:1].upper()}{defect.what[1:]}.",
                remedy=(Remedy(host=ctx.host, summary=defect.advice, commands=(), risk=Risk.DISRUPTIVE),),
            ),
        )
    if not defects:
        yield ctx.ok(check, f"engine {engine.version}: no defect known that would matter here")


def _needs_flag(ctx: Context, check: str, engine: Engine, defect: Defect) -> Found:
    # The engine says which backend it uses, not which feature flags it was given.
    return ctx.unknown(
        check,
        f"engine {engine.version}: {defect.what}; whether it is set",
        "the engine does not say which feature flags it has",
        leaves=_ALL,
        evidence=[
            Evidence(
                "engine",
                f"firewall backend: {engine.firewall_backend}; {', '.join(defect.refs)}",
                {"defect": defect.id},
            )
        ],
        next_steps=[
            Step(
                host=ctx.host,
                command="grep swarm-nftables /etc/docker/daemon.json",
                why=f"if it is not there: {defect.advice}",
            )
        ],
    )


def _live_restore(ctx: Context) -> Iterator[Found]:
    check = "swarm.engine.live-restore"
    engine = ctx.facts.engine.value
    if engine is None:
        return
    if not engine.live_restore:
        yield ctx.ok(check, "live-restore is off")
        return
    off = 'sed -i \'s/"live-restore": *true/"live-restore": false/\' /etc/docker/daemon.json'
    on = 'sed -i \'s/"live-restore": *false/"live-restore": true/\' /etc/docker/daemon.json'
    yield ctx.problem(
        check,
        "live-restore is on; the engine refuses to be part of a swarm with it",
        breaks=_ALL,
        evidence=[Evidence("engine", "docker info: Live Restore Enabled: true", {"live_restore": True})],
        cause=cause(
            "swarm.engine-setting",
            host=ctx.host,
            object={
                "kind": "setting",
                "program": "docker",
                "key": "live-restore",
                "value": True,
                "file": "/etc/docker/daemon.json",
            },
            confidence=Confidence.PROVEN,
            remedy=(
                Remedy(
                    host=ctx.host,
                    summary=(
                        "switch live-restore off; the engine reads it again without a restart (if it is not in that file,"
                        " take --live-restore out of the engine's command line and restart it)"
                    ),
                    commands=(off, "systemctl reload docker"),
                    undo=(on, "systemctl reload docker"),
                ),
            ),
        ),
    )


def _rootless(ctx: Context) -> Iterator[Found]:
    check = "swarm.engine.rootless"
    engine = ctx.facts.engine.value
    if engine is None:
        return
    if not engine.rootless:
        yield ctx.ok(check, "the engine runs as root")
        return
    yield ctx.problem(
        check,
        "the engine is rootless; overlay networks need one that runs as root",
        breaks=(Need.NAMES, Need.TRAFFIC),
        cause=cause(
            "swarm.engine-setting",
            host=ctx.host,
            object={"kind": "setting", "program": "docker", "key": "rootless", "value": True},
            confidence=Confidence.LIKELY,
        ),
    )


_CREDENTIALS = re.compile(r"//[^/@]*@")


def _joins_by_proxy(version: EngineVersion, *, manager: bool) -> bool:
    """Whether this version sends the swarm's gRPC to a proxy of its environment.

    gRPC's client took proxies up in 17.07 (moby#34825). swarmkit #2419 keeps agents from it (in 17.12 for certain),
    #2802 managers that join (moby#36951, 18.09.4).
    """
    return EngineVersion(17, 7) <= version < (EngineVersion(18, 9, 4) if manager else EngineVersion(17, 12))


def _exempt(address: str, no_proxy: str) -> bool:
    """Whether NO_PROXY covers an address: itself, with a port, a network, or everything (golang.org/x/net/http/httpproxy)."""
    for part in (one.strip() for one in no_proxy.split(",")):
        if part == "*" or host_of(part) == address:
            return True
        try:
            if "/" in part and ipaddress.ip_address(address) in ipaddress.ip_network(part, strict=False):
                return True
        except ValueError:
            continue
    return False


def _proxy(ctx: Context) -> Iterator[Found]:
    check = "swarm.engine.proxy"
    engine = ctx.facts.engine.value
    if engine is None:
        return
    key = "HTTPS_PROXY" if engine.https_proxy else "HTTP_PROXY"
    proxy = _CREDENTIALS.sub("//…@", engine.https_proxy or engine.http_proxy)
    if not proxy:
        yield ctx.ok(check, "the engine has no proxy that could carry tcp/2377")
        return
    version = parse_engine_version(engine.version)
    if version is not None and not _joins_by_proxy(version, manager=ctx.options.manager_role):
        yield ctx.ok(check, f"the engine has a proxy, and {engine.version} never joins through it")
        return
    uncovered = [
        probe.address for probe in ctx.managers if probe.address and not _exempt(probe.address, engine.no_proxy)
    ]
    if not uncovered and ctx.managers:
        yield ctx.ok(check, "the engine has a proxy, and its NO_PROXY names every manager")
        return
    yield ctx.problem(
        check,
        f"the engine uses the proxy {proxy}, and its NO_PROXY does not name {', '.join(uncovered) or 'the managers'}",
        evidence=[Evidence("engine", f"NO_PROXY={engine.no_proxy or '(empty)'}", {"proxy": proxy})],
        cause=cause(
            "swarm.proxy",
            host=ctx.host,
            object={
                "kind": "setting",
                "program": "docker",
                "key": key,
                "value": proxy,
                "no_proxy": engine.no_proxy,
            },
            confidence=Confidence.POSSIBLE,
        ),
    )


CHECKS = (
    Check(
        id="swarm.engine.reachable",
        title="The Docker engine answers",
        explains="Without an engine that answers on its socket nothing can join, and nothing of its settings is known.",
        remedy="Start the engine (systemctl start docker), or run netdiag as root so that it may use the socket.",
        evaluate=_reachable,
    ),
    Check(
        id="swarm.engine.version",
        title="The engine's version goes with a swarm",
        explains=(
            "Swarm mode came with 1.12. Some later versions have known defects that matter only together with encrypted"
            " networks, firewalld or nodes of other versions; only those that apply here are told."
        ),
        remedy="Install a version without the defect; keep the versions of one swarm close to each other.",
        evaluate=_version,
        needs=("engine",),
    ),
    Check(
        id="swarm.engine.live-restore",
        title="live-restore is off",
        explains="The engine refuses swarm mode while live-restore is on, on joining and on the next start of a member.",
        remedy='Set "live-restore": false in /etc/docker/daemon.json and reload the engine.',
        evaluate=_live_restore,
        needs=("engine",),
    ),
    Check(
        id="swarm.engine.rootless",
        title="The engine is not rootless",
        explains="A rootless engine cannot make the devices that overlay networks consist of.",
        remedy="Run the engine as root on nodes of a swarm.",
        evaluate=_rootless,
        needs=("engine",),
    ),
    Check(
        id="swarm.engine.proxy",
        title="No proxy carries tcp/2377",
        explains=(
            "From 17.07 on the engine's gRPC client honoured the proxy of its environment (moby#34825): a proxy that does"
            " not know the manager makes the join time out although the path is open. Workers have ignored it since 17.12,"
            " joining managers since 18.09.4 (moby#36951)."
        ),
        remedy="Add the managers' addresses to NO_PROXY of the engine's service and restart it.",
        evaluate=_proxy,
        needs=("engine",),
    ),
)
