"""The run of a preflight: facts and probes side by side, then checks, then one report; live or from a bundle."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import difflib
import ipaddress
import os
import time
from collections.abc import Callable

import msgspec

from netdiag.carrier.via import vias_for
from netdiag.checks.context import Context, host_of
from netdiag.checks.flows import packet_to, to_trace, verdict_of
from netdiag.checks.membership import is_member_of_asked_swarm
from netdiag.checks.registry import CHECKS, PREFLIGHT, VERIFY, run
from netdiag.cli.manager_address import is_address, split_manager
from netdiag.cli.preflight_asked import Asked
from netdiag.cli.two_sides_run import destination_of, run_two_sides, views_from_values
from netdiag.errors import BundleError, UsageError
from netdiag.facts.assemble import replay
from netdiag.facts.bundle import Bundle
from netdiag.facts.context import Context as FactsContext
from netdiag.facts.context import Options as FactsOptions
from netdiag.facts.firewall import gather_host_rules
from netdiag.facts.observations import gather_bursts, gather_observations
from netdiag.facts.probes import gather_resolve
from netdiag.facts.traced_flows import gather_traced
from netdiag.host import Carrier, LocalHost, Recorder, Replay, drive, drive_all
from netdiag.host.collect import collect_bundle, local_options
from netdiag.host.two_sides import ARMED_S, Examined, Sought
from netdiag.model.engine import SwarmState
from netdiag.model.facts import Facts
from netdiag.model.plan import Plan
from netdiag.model.probes import Observations, TlsOutcome
from netdiag.model.report import Answer, Need, Report, Step
from netdiag.model.wire import Gather
from netdiag.report.assemble import build_report
from netdiag.report.plan import two_sided_plan
from netdiag.shell import operand, shell_text

PROBES_DEADLINE_S = 12.0


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A finished preflight, the bundle that repeats it, and how long each part took, in seconds."""

    report: Report
    bundle: Bundle
    timings: tuple[tuple[str, float], ...] = ()


Targets = tuple[tuple[str, str, int], ...]
"""The managers: as typed, address, port."""


def run_preflight(asked: Asked, *, progress: Callable[[str], None] | None = None) -> Done:
    """Run a preflight on this host, and together with the peers that ``--via`` names.

    Raises:
        UsageError: A manager that cannot be understood or resolved, an unknown check to ignore, a malformed address, or
            peers that cannot be understood.
    """
    _validate(asked)
    options = local_options(docker_socket=asked.docker_socket or None)
    asked = msgspec.structs.replace(asked, docker_socket=options.docker_socket or "")
    recorder = Recorder(LocalHost())
    started, start_s = dt.datetime.now(dt.UTC), time.monotonic()
    targets = tuple(_resolved(given, recorder) for given in asked.managers)
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        probing = pool.submit(_probe, asked, targets, recorder)
        facts, bundle = collect_bundle(
            recorder,
            now_s=started.timestamp(),
            purpose="preflight swarm",
            options=options,
        )
        own_s = time.monotonic() - start_s
        known = targets if targets or asked.initialise else _known_managers(facts)
        examined = _with_peers(asked, known, facts, options=options, now_s=started.timestamp(), progress=progress)
        observed = probing.result()
    if known and not targets:
        # A member knows its managers: whoever names none means those.
        targets = known
        observed = _probe(asked, targets, recorder)
    if os.geteuid() == 0:
        observed = drive(_with_verdicts(asked, targets, observed, facts), recorder)
    observed = msgspec.structs.replace(observed, peers=examined.views)
    duration_s = time.monotonic() - start_s
    report = judge(asked, facts, observed, targets, started=started, duration_s=duration_s)
    arguments = {
        "asked": asked.as_values(),
        "targets": targets,
        "started": started.isoformat(),
        "root": os.geteuid() == 0,
        "peers": msgspec.to_builtins(examined.views),
    }
    return Done(
        report=report,
        bundle=msgspec.structs.replace(bundle, arguments=arguments, answers=recorder.answers()),
        timings=(("this host", own_s), *examined.timings, ("all", duration_s)),
    )


def _with_peers(
    asked: Asked,
    targets: Targets,
    facts: Facts,
    *,
    options: FactsOptions,
    now_s: float,
    progress: Callable[[str], None] | None,
) -> Examined:
    if not asked.vias:
        return Examined(views=())
    advertised = host_of(asked.advertise_address)
    sought = Sought(
        own_address=advertised if is_address(advertised) else "",
        data_path_port=asked.data_path_port,
        manager=asked.manager_role or asked.initialise,
        now_s=now_s,
    )
    managers = {_host(given): (address, port) for given, address, port in targets}
    return run_two_sides(
        LocalHost(),
        facts,
        _peers(asked, tuple(managers)),
        asked.vias,
        sought,
        managers=managers,
        options=options,
        progress=progress,
    )


def _host(given: str) -> str:
    """A manager as a peer is called: without its port."""
    return split_manager(given)[0]


def _peers(asked: Asked, managers: tuple[str, ...]) -> tuple[str, ...]:
    """Whom to ask: the managers and those that are named; for init the host that --via leads to."""
    named = tuple(dict.fromkeys([*managers, *asked.peers]))
    return named or destination_of(asked.vias)


def plan_of(asked: Asked) -> Plan:
    """What a preflight with peers would do. Raises UsageError as `run_preflight` does, without asking anybody."""
    _validate(asked)
    if not asked.vias:
        raise UsageError("--plan: of what is done together with peers; --via ssh says how they are reached")
    peers = _peers(asked, tuple(dict.fromkeys(map(_host, asked.managers))))
    vias_for(peers, asked.vias)
    manager = asked.manager_role or asked.initialise
    return two_sided_plan(
        f"netdiag {asked.command()}",
        here="this host",
        peers=peers,
        data_path_port=asked.data_path_port,
        manager=manager,
        lasts_s=ARMED_S,
    )


def repeat_preflight(bundle: Bundle) -> Report:
    """The report of a preflight from its bundle: the same checks over the same answers.

    Raises:
        BundleError: The bundle does not hold what a preflight needs.
    """
    try:
        asked = Asked.from_values(bundle.arguments["asked"])
        targets = msgspec.convert(bundle.arguments["targets"], Targets)
        started = dt.datetime.fromisoformat(bundle.arguments["started"])
        root = bool(bundle.arguments["root"])
        views = views_from_values(bundle.arguments.get("peers", ()))
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise BundleError(f"a bundle of a preflight without its arguments ({error})") from error
    facts, replay_ = replay(bundle), Replay(bundle.answers)
    observed = _probe(asked, targets, replay_)
    if root:
        observed = drive(_with_verdicts(asked, targets, observed, facts), replay_)
    observed = msgspec.structs.replace(observed, peers=views)
    return judge(asked, facts, observed, targets, started=started, duration_s=facts.duration_s)


def _probe(asked: Asked, targets: Targets, carrier: Carrier) -> Observations:
    gather = gather_observations(targets, asked.images, docker_socket=asked.docker_socket)
    return drive_all({"probes": gather}, carrier, PROBES_DEADLINE_S)["probes"].value or Observations()


def _with_verdicts(asked: Asked, targets: Targets, observed: Observations, facts: Facts) -> Gather[Observations]:
    """With what only root finds out: the verdict of this host's own filters by traced packets, then by counters.

    One after the other: a traced packet moves counters too. A connection whose trace names the rule needs no burst.
    """
    flows = yield from gather_traced(to_trace(_context(asked, targets, observed, facts)), facts)
    observed = msgspec.structs.replace(observed, traced=flows)
    ctx = _context(asked, targets, observed, facts)
    unexplained = []
    for probe in observed.managers:
        verdict = verdict_of(ctx, packet_to(probe))
        if verdict.trace is None or not verdict.stops:
            unexplained.append(probe)
    here = FactsContext(namespaces=facts.namespaces.value or {}, kernel=facts.kernel.value)
    moved = yield from gather_bursts(unexplained, lambda reading: gather_host_rules(here, reading))
    return msgspec.structs.replace(observed, moved=moved, moved_known=True)


def _context(asked: Asked, targets: Targets, observed: Observations, facts: Facts) -> Context:
    return Context(facts=facts, options=asked.options(tuple(given for given, _, _ in targets)), observed=observed)


def _known_managers(facts: Facts) -> Targets:
    engine = facts.engine.value
    if engine is None or engine.swarm.state not in (SwarmState.ACTIVE, SwarmState.PENDING):
        return ()
    own = engine.swarm.node_address
    split = [(address, *split_manager(address)) for address in engine.swarm.remote_managers]
    return tuple((host, host, port) for _, host, port in split if host != own)


def judge(
    asked: Asked,
    facts: Facts,
    observed: Observations,
    targets: Targets,
    *,
    started: dt.datetime,
    duration_s: float,
) -> Report:
    """Checks and report over what was read; the same for a live host and for a bundle."""
    ctx = _context(asked, targets, observed, facts)
    found = run(PREFLIGHT, ctx, ignored=asked.ignored)
    member = is_member_of_asked_swarm(ctx) is True
    if member:
        told = {one.check for one in found}
        found += tuple(one for one in run(VERIFY, ctx, ignored=asked.ignored) if one.check not in told)

    def report(steps: tuple[Step, ...]) -> Report:
        return build_report(
            command=asked.command(),
            host=ctx.host,
            started=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            duration_s=round(duration_s, 3),
            found=found,
            question=asked.need,
            next_steps=steps,
        )

    first = report(())
    joins = first.answers.get(Need.JOIN) is Answer.YES and first.exit_code() != 1
    return report((_join_step(asked, ctx, targets),)) if joins and not member else first


def _join_step(asked: Asked, ctx: Context, targets: Targets) -> Step:
    options: list[str] = []
    if asked.advertise_address:
        options += ["--advertise-addr", asked.advertise_address]
    if asked.data_path_address:
        options += ["--data-path-addr", asked.data_path_address]
    if asked.initialise:
        if asked.data_path_port:
            options += ["--data-path-port", str(asked.data_path_port)]
        return Step(
            host=ctx.host,
            command=shell_text(["docker", "swarm", "init", *options]),
            why="everything that can be tested here holds",
        )
    if asked.token_file not in ("", "-"):
        token = f'"$(cat {shell_text(operand(asked.token_file))})"'
    else:
        # Only what the operator's shell has can be named; a token from --token or standard input is in no variable.
        token = '"$NETDIAG_TOKEN"' if asked.token_in_environment else "TOKEN"
    answering = {
        probe.given for probe in ctx.managers if probe.tls is not None and probe.tls.outcome is TlsOutcome.HANDSHAKE
    }
    _, address, port = next((target for target in targets if target[0] in answering), targets[0])
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    command = f"docker swarm join --token {token} {shell_text([*options, where])}"
    return Step(host=ctx.host, command=command, why="joins; everything that this side can test holds")


def check_ignored(ignored: tuple[str, ...]) -> None:
    """UsageError with the nearest names for an id to ignore that no check has."""
    for check in ignored:
        if check not in CHECKS:
            near = difflib.get_close_matches(check, CHECKS, n=3) or ["netdiag explain lists them"]
            raise UsageError(f"--ignore {check!r}: no such check; {', '.join(near)}")


def _validate(asked: Asked) -> None:
    check_ignored(asked.ignored)
    for option, given in (("--advertise-addr", asked.advertise_address), ("--data-path-addr", asked.data_path_address)):
        looks_numeric = given and given.replace(".", "").replace(":", "").isdigit() and "." in given
        if looks_numeric:
            try:
                ipaddress.ip_address(given.rpartition(":")[0] if given.count(":") == 1 else given)
            except ValueError as error:
                raise UsageError(
                    f"{option} {given!r}: no IP address; give an address or a device of this host"
                ) from error


def _resolved(given: str, carrier: Carrier) -> tuple[str, str, int]:
    host, port = split_manager(given)
    if is_address(host):
        return given, host, port
    addresses, why = drive(gather_resolve(host), carrier)
    if not addresses:
        raise UsageError(
            f"--manager {given!r}: the name {host} does not resolve here ({why}); give an address, or fix the name"
        )
    return given, addresses[0], port
