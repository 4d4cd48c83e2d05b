"""``netdiag analyze``: the findings of bundles, on any machine, without Docker, root or network."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from netdiag.cli.output import emit, output_option

_PAIR = 2


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--each", is_flag=True, help="Of two files: the findings of each, not of the pair.")
@output_option
def analyze(files: tuple[Path, ...], each: bool, output: str, verbose: bool) -> None:
    """Give the findings of what was recorded of hosts, or of a pair of hosts; nothing is asked of any host.

    A FILE is a bundle that 'netdiag collect' or 'preflight --save' wrote, or what the script of 'netdiag script collect'
    printed. One file: the same checks run over the recorded answers; what only a probe can tell is skipped unless the
    bundle was made by a preflight. Two files, MINE and THEIRS: what of the two hosts stands against their swarm's
    traffic, which rule of which host among it; never more than likely. More files: each by itself. Exit code: the worst.

    \b
    Examples:
      netdiag analyze worker-1.netdiag
      netdiag analyze mine.netdiag theirs.txt
    """
    from netdiag.cli.analyze_run import analyze_bundle, analyze_pair
    from netdiag.errors import UsageError
    from netdiag.host.bundles import read_bundle

    if len(files) == _PAIR and not each:
        mine, theirs = (read_bundle(file) for file in files)
        report = analyze_pair(mine, theirs, names=(str(files[0]), str(files[1])), now_s=time.time())
        emit(report, output, verbose=verbose)
        sys.exit(report.exit_code())
    if len(files) > 1 and output != "table":
        raise UsageError(f"--output {output} holds one report; give one file or a pair, not {len(files)} by themselves")
    reports = [analyze_bundle(read_bundle(file)) for file in files]
    for number, report in enumerate(reports):
        if number:
            click.echo("\n")
        emit(report, output, verbose=verbose)
    codes = {report.exit_code() for report in reports}
    sys.exit(1 if 1 in codes else max(codes))
