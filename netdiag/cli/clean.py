"""``netdiag clean``: remove what a killed netdiag left."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
import time

import click
import msgspec


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--plan", is_flag=True, help="Only say what would be removed.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def clean(plan: bool, output: str) -> None:
    """Remove what a killed trace left in any network namespace: nft tables of ours, and a logger that it had changed.

    A trace that still runs is left alone. Devices and tables with an owner need no cleaning: the kernel removes them.
    Exit code: 0 also when there was nothing; 3 when a namespace could not be looked at.

    \b
    Example:
      netdiag clean --plan
    """
    from netdiag.cli.output import Progress
    from netdiag.host import LocalHost
    from netdiag.host.clean import clean as run
    from netdiag.host.collect import local_options

    with Progress("looking into network namespaces"):
        found = run(LocalHost(), now_s=time.time(), options=local_options(), only_say=plan)
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    else:
        verb = "would be removed or put back" if plan else "removed or put back"
        said = [f"{each.namespace}: {line}" for each in found.namespaces for line in each.removed]
        click.echo("\n".join([f"{verb}:", *said]) if said else "nothing to clean")
        for each in found.namespaces:
            for name in each.living:
                click.echo(f"{each.namespace}: {name} belongs to a running trace", err=True)
            if each.error:
                click.echo(f"{each.namespace}: {each.error}", err=True)
    sys.exit(3 if any(each.error for each in found.namespaces) else 0)
