"""The run of ``netdiag analyze``: which checks a bundle's purpose asks for."""

from __future__ import annotations

import datetime as dt

from netdiag.checks.context import Context, Options
from netdiag.checks.registry import PREFLIGHT, VERIFY, run
from netdiag.cli.preflight_run import repeat_preflight
from netdiag.facts.assemble import replay
from netdiag.facts.bundle import Bundle
from netdiag.model.engine import SwarmState
from netdiag.model.report import Need, Report
from netdiag.report.assemble import build_report


def analyze_bundle(bundle: Bundle) -> Report:
    """The report of one bundle: a preflight's as it was, else what the facts alone tell.

    Raises:
        BundleError: The bundle lacks what its own purpose needs.
    """
    if bundle.purpose == "preflight swarm":
        return repeat_preflight(bundle)
    facts = replay(bundle)
    engine = facts.engine.value
    member = engine is not None and engine.swarm.state is SwarmState.ACTIVE
    ctx = Context(facts=facts, options=Options(need=Need.TRAFFIC if member else Need.JOIN, probed=False))
    started = dt.datetime.fromtimestamp(bundle.created_s, dt.UTC)
    return build_report(
        command=f"analyze ({bundle.purpose})",
        host=ctx.host,
        started=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        duration_s=round(facts.duration_s, 3),
        found=run(VERIFY if member else PREFLIGHT, ctx),
        answers_for=(Need.JOIN, Need.NAMES) if member else (Need.JOIN,),
    )
