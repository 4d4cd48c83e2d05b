"""The run of ``netdiag verify swarm``."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import time

import msgspec

from netdiag.checks.context import Context, Options
from netdiag.checks.flows import to_trace
from netdiag.checks.registry import VERIFY, run
from netdiag.cli.preflight_run import check_ignored
from netdiag.errors import UsageError
from netdiag.facts.traced_flows import gather_traced
from netdiag.host import LocalHost, drive
from netdiag.host.collect import collect, local_options
from netdiag.model.probes import Observations
from netdiag.model.report import Need, Report
from netdiag.report.assemble import build_report
from netdiag.shell import shell_text


def run_verify(*, peers: tuple[str, ...], ignored: tuple[str, ...], docker_socket: str | None) -> Report:
    """Verify this node's membership.

    Raises:
        UsageError: A peer that is no address, or an unknown check to ignore.
    """
    check_ignored(ignored)
    for peer in peers:
        try:
            ipaddress.ip_address(peer)
        except ValueError as error:
            raise UsageError(f"--peer {peer!r}: no IP address; give the address from which that host sends") from error
    started, start_s = dt.datetime.now(dt.UTC), time.monotonic()
    here = LocalHost()
    facts = collect(here, now_s=started.timestamp(), options=local_options(docker_socket=docker_socket))
    # A member's question is whether containers talk; that presupposes joining and names.
    ctx = Context(facts=facts, options=Options(need=Need.TRAFFIC, peers=peers))
    if os.geteuid() == 0:
        traced = drive(gather_traced(to_trace(ctx), facts), here)
        ctx = msgspec.structs.replace(ctx, observed=Observations(traced=traced))
    words = ["verify", "swarm"]
    words += [word for peer in peers for word in ("--peer", peer)]
    words += [word for check in ignored for word in ("--ignore", check)]
    return build_report(
        command=shell_text(words),
        host=ctx.host,
        started=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        duration_s=round(time.monotonic() - start_s, 3),
        found=run(VERIFY, ctx, ignored=ignored),
        # Whether containers talk needs the other side; verify names what is wrong with it as far as this side sees.
        answers_for=(Need.JOIN, Need.NAMES),
    )
