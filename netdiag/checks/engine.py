"""The engine itself: whether it answers, whether its version and its settings go with a swarm."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.model.facts import AbsenceKind, FeatureState
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Step
from netdiag.swarm.engine_rules import Condition, Effect, defects_of
from netdiag.swarm.engine_version import parse_engine_version
from netdiag.swarm.ports import DEFAULT_DATA_PATH_PORT

_ALL = (Need.JOIN, Need.NAMES, Need.TRAFFIC)


def _reachable(ctx: Context) -> Iterator[Found]:
    check = "swarm.engine.reachable"
    section = ctx.facts.engine
    if section.value is not None:
        yield ctx.ok(check, f"Docker engine {section.value.version} answers")
        return
    absent = section.absent
    assert absent is not None  # noqa: S101 - a section has a value or the reason why not
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
    steps = []
    if absent.kind is AbsenceKind.PERMISSION:
        steps = [
            Step(
                host=ctx.host, command="sudo netdiag preflight swarm …", why="the engine's socket is open to root only"
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


_BREAKS = {Effect.REFUSES_SWARM: _ALL, Effect.LOSES_TRAFFIC: (Need.TRAFFIC,), Effect.CRASHES: ()}


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
        yield ctx.problem(
            check,
            f"engine {engine.version}: {defect.what}",
            breaks=_BREAKS[defect.effect],
            evidence=[Evidence("engine", f"version {engine.version}; {', '.join(defect.refs)}", {"defect": defect.id})],
            cause=cause(
                "swarm.engine-version",
                host=ctx.host,
                object={"kind": "engine", "version": engine.version, "defect": defect.id},
                confidence=Confidence.PROVEN if defect.effect is Effect.REFUSES_SWARM else Confidence.POSSIBLE,
                explanation=f"{defect.what[:1].upper()}{defect.what[1:]}.",
                remedy=(Remedy(host=ctx.host, summary=defect.advice, commands=(), risk=Risk.DISRUPTIVE),),
            ),
        )
    if not defects:
        yield ctx.ok(check, f"engine {engine.version}: no defect known that would matter here")


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
                    summary="switch live-restore off; the engine reads it again without a restart",
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


def _proxy(ctx: Context) -> Iterator[Found]:
    check = "swarm.engine.proxy"
    engine = ctx.facts.engine.value
    if engine is None:
        return
    proxy = engine.https_proxy or engine.http_proxy
    if not proxy:
        yield ctx.ok(check, "the engine has no proxy that could carry tcp/2377")
        return
    exempt = {part.strip() for part in engine.no_proxy.split(",")}
    uncovered = [
        probe.address for probe in ctx.managers if probe.address and probe.address not in exempt and "*" not in exempt
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
                "key": "HTTPS_PROXY",
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
            "The engine's gRPC client honours HTTPS_PROXY of its environment (moby#34825): a proxy that does not know the"
            " manager makes the join time out although the path is open."
        ),
        remedy="Add the managers' addresses to NO_PROXY of the engine's service and restart it.",
        evaluate=_proxy,
        needs=("engine",),
    ),
)
