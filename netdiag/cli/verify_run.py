"""The run of ``netdiag verify swarm``."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import time
from collections.abc import Callable

import msgspec

from netdiag.carrier.via import Via, vias_for
from netdiag.checks.context import Context, Options
from netdiag.checks.flows import to_trace
from netdiag.checks.registry import VERIFY, run
from netdiag.cli.preflight_run import check_ignored
from netdiag.cli.two_sides_run import destination_of, members, run_two_sides
from netdiag.errors import UsageError
from netdiag.facts.traced_flows import gather_traced
from netdiag.host import LocalHost, drive
from netdiag.host.collect import collect, local_options
from netdiag.host.two_sides import ARMED_S, Examined, Sought
from netdiag.model.plan import Plan
from netdiag.model.probes import Observations
from netdiag.model.report import Need, Report
from netdiag.report.assemble import build_report
from netdiag.report.plan import two_sided_plan
from netdiag.shell import shell_text


class Verify(msgspec.Struct, frozen=True, kw_only=True):
    """A verification as it was asked for."""

    peers: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    docker_socket: str = ""
    vias: tuple[Via, ...] = ()
    named: tuple[str, ...] = ()
    peers_file: str = ""

    def command(self) -> str:
        """The command as typed."""
        given = [("--peer", peer) for peer in self.peers] + [("--via", str(via)) for via in self.vias]
        given += [("--peers", self.peers_file)] if self.peers_file else []
        given += [("--ignore", check) for check in self.ignored]
        return shell_text(["verify", "swarm", *(word for pair in given for word in pair)])


def run_verify(
    asked: Verify, *, progress: Callable[[str], None] | None = None
) -> tuple[Report, tuple[tuple[str, float], ...]]:
    """Verify this node's membership; beside the report how long each part took, in seconds.

    Raises:
        UsageError: A peer that is no address, an unknown check to ignore, or peers that cannot be understood.
    """
    _validate(asked)
    started, start_s = dt.datetime.now(dt.UTC), time.monotonic()
    here, options = LocalHost(), local_options(docker_socket=asked.docker_socket or None)
    facts = collect(here, now_s=started.timestamp(), options=options)
    own_s = time.monotonic() - start_s
    # A member's question is whether containers talk; that presupposes joining and names.
    engine = facts.engine.value
    manager = engine is not None and engine.swarm.is_manager
    ctx = Context(facts=facts, options=Options(need=Need.TRAFFIC, peers=asked.peers))
    examined = Examined(views=())
    if asked.vias:
        sought = Sought(
            own_address=engine.swarm.node_address if engine is not None else "",
            manager=manager,
            now_s=started.timestamp(),
        )
        peers = _peers(asked) or members(facts)
        examined = run_two_sides(
            here, facts, peers, asked.vias, sought, managers={}, options=options, progress=progress
        )
    traced = drive(gather_traced(to_trace(ctx), facts), here) if os.geteuid() == 0 else ()
    if traced or examined.views:
        ctx = msgspec.structs.replace(ctx, observed=Observations(traced=traced, peers=examined.views))
    duration_s = time.monotonic() - start_s
    report = build_report(
        command=asked.command(),
        host=ctx.host,
        started=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        duration_s=round(duration_s, 3),
        found=run(VERIFY, ctx, ignored=asked.ignored),
        # Whether containers talk needs the other side; from this one verify names what is wrong with it as far as it sees.
        answers_for=tuple(Need) if examined.views else (Need.JOIN, Need.NAMES),
    )
    return report, (("this host", own_s), *examined.timings, ("all", duration_s))


def plan_of(asked: Verify) -> Plan:
    """What a verification with peers would do. Raises UsageError as `run_verify` does, without asking anybody."""
    _validate(asked)
    if not asked.vias:
        raise UsageError("--plan: of what is done together with peers; --via ssh says how they are reached")
    peers = _peers(asked)
    if peers:
        vias_for(peers, asked.vias)
    return two_sided_plan(
        f"netdiag {asked.command()}",
        here="this host",
        peers=peers,
        data_path_port=None,
        manager=True,
        lasts_s=ARMED_S,
    )


def _peers(asked: Verify) -> tuple[str, ...]:
    """Whom the operator names; none for every other node."""
    named = tuple(dict.fromkeys([*asked.peers, *asked.named]))
    return named or destination_of(asked.vias)


def _validate(asked: Verify) -> None:
    check_ignored(asked.ignored)
    for peer in asked.peers:
        try:
            ipaddress.ip_address(peer)
        except ValueError as error:
            raise UsageError(f"--peer {peer!r}: no IP address; give the address from which that host sends") from error
