"""``netdiag diagnose``: why one end cannot talk to another."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys

import click

from netdiag.cli.output import Progress, emit, output_option


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--via", "via", metavar="ssh[:USER@HOST]", default="", help="How the other host is reached.")
@click.option("--timings", is_flag=True, help="Say on standard error how long each part took.")
@click.option("--load-modules", is_flag=True, help="Go on where this loads a kernel module.")
@output_option
def diagnose(
    source: str, destination: str, via: str, timings: bool, load_modules: bool, output: str, verbose: bool
) -> None:
    """Find out where a flow from SOURCE to DESTINATION is lost, and what takes it there.

    SOURCE is a container, HOST/CONTAINER, or a host; DESTINATION the same, a service, a task or an address, with :PORT
    or :PORT/PROTO behind it. Exit code: 0 it works, 1 it does not, 3 not known.

    \b
    Examples:
      netdiag diagnose web db:5432 --via ssh
      netdiag diagnose host-a/web host-b/db:22 --via ssh:root@host-b
    """
    from netdiag.cli.diagnose_run import run_diagnose

    with Progress("reading both hosts") as progress:
        report, took = run_diagnose(source, destination, via=via, load_modules=load_modules, progress=progress.update)
    if timings:
        click.echo("  ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()), err=True)
    emit(report, output, verbose=verbose)
    sys.exit(report.exit_code())
