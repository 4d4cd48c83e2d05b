"""``netdiag analyze``: the findings of bundles, on any machine, without Docker, root or network."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
from pathlib import Path

import click

from netdiag.cli.output import emit, output_option


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@output_option
def analyze(files: tuple[Path, ...], output: str, verbose: bool) -> None:
    """Give the findings of bundles that 'netdiag collect' or 'preflight --save' wrote.

    The same checks run over the recorded answers; nothing is asked of any host. What only a probe can tell is skipped
    unless the bundle was made by a preflight. Exit code: the worst of the bundles.

    \b
    Example:
      netdiag analyze worker-1.netdiag
    """
    from netdiag.cli.analyze_run import analyze_bundle
    from netdiag.errors import UsageError
    from netdiag.host.bundles import read_bundle

    if len(files) > 1 and output != "table":
        raise UsageError(f"--output {output} holds one report; give one bundle at a time, not {len(files)}")
    reports = [analyze_bundle(read_bundle(file)) for file in files]
    for number, report in enumerate(reports):
        if number:
            click.echo("\n")
        emit(report, output, verbose=verbose)
    codes = {report.exit_code() for report in reports}
    sys.exit(1 if 1 in codes else max(codes))
