"""Examines the paths between two lab hosts as preflight and verify do, without ssh, and judges what was seen."""

import time

import msgspec

from netdiag.checks import two_sided_hosts, two_sided_paths
from netdiag.checks.context import Context, Options
from netdiag.checks.registry import run
from netdiag.facts.context import Options as FactsOptions
from netdiag.host.collect import collect
from netdiag.host.meet import Target
from netdiag.host.two_sides import Sought, examine
from netdiag.model.probes import Observations
from netdiag.model.report import Need
from netdiag.report.assemble import build_report
from tests.lab.asking import Answered

CHECKS = (*two_sided_paths.CHECKS, *two_sided_hosts.CHECKS)


def examined(here, targets, **sought):
    """The views and the report over them."""
    facts = collect(here, now_s=time.time(), options=FactsOptions())
    start_s = time.monotonic()
    found = examine(here, facts, targets, Sought(now_s=time.time(), **sought), options=FactsOptions())
    took_s = time.monotonic() - start_s
    ctx = Context(facts=facts, options=Options(need=Need.TRAFFIC), observed=Observations(peers=found.views))
    report = build_report(
        command="test", host=ctx.host, started="", duration_s=took_s, found=run(CHECKS, ctx), question=Need.TRAFFIC
    )
    document = msgspec.json.decode(msgspec.json.encode(report))
    return Answered(document, report.exit_code(), "", ""), found.views, took_s


def target(host, carrier, **more):
    return Target(given=host.address, carrier=carrier, address=host.address, **more)
