"""``netdiag diagnose``: why one end cannot talk to another."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from netdiag.cli.output import Progress, emit, output_option
from netdiag.cli.via import via_option

if TYPE_CHECKING:
    from netdiag.carrier.via import Via


@click.command()
@click.argument("source")
@click.argument("destination")
@via_option
@click.option("--plan", is_flag=True, help="Say what would be watched, sent and changed, and do nothing.")
@click.option("--send-payload", is_flag=True, help="Send a datagram also to a udp port on which somebody listens.")
@click.option("--timings", is_flag=True, help="Say on standard error how long each part took.")
@click.option("--load-modules", is_flag=True, help="Go on where this loads a kernel module.")
@output_option
def diagnose(
    source: str,
    destination: str,
    vias: tuple[Via, ...],
    plan: bool,
    send_payload: bool,
    timings: bool,
    load_modules: bool,
    output: str,
    verbose: bool,
) -> None:
    """Find out where a flow from SOURCE to DESTINATION is lost, and what takes it there.

    SOURCE is a container, HOST/CONTAINER, or a host; DESTINATION the same, a service, a task or an address, with :PORT
    or :PORT/PROTO behind it. Exit code: 0 it works, 1 it does not, 3 not known.

    \b
    Examples:
      netdiag diagnose web db:5432 --via ssh
      netdiag diagnose host-a/web host-b/db:22 --via ssh:root@host-b
    """
    from netdiag.cli.diagnose_run import Run
    from netdiag.report.way_lines import plan_lines, way_lines

    with Progress("reading both hosts") as progress, Run(vias, load_modules, progress) as run:
        if plan:
            planned = run.plan(source, destination)
        else:
            report, done = run.diagnose(source, destination, send_payload=send_payload)
    if timings:
        click.echo("  ".join(f"{name} {seconds:.2f} s" for name, seconds in run.timings_s.items()), err=True)
    if plan:
        why = [found.summary for found in planned.told] if planned.unfit else []
        click.echo("\n".join([*why, "Nothing would be tried."] if why else plan_lines(planned.way)))
        return
    emit(report, output, verbose=verbose, drawing=way_lines(done.way, done.sights, done.losses))
    sys.exit(report.exit_code())
