"""``netdiag firewall lint``: what is wrong with a rule set as it is written."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from netdiag.cli.output import Progress, columns
from netdiag.cli.rule_sources import read_source, source_options
from netdiag.model.firewall_lint import LintVerdict

_EXIT = {LintVerdict.CLEAN: 0, LintVerdict.FINDINGS: 1, LintVerdict.UNKNOWN: 3}
_COLOURS = {LintVerdict.CLEAN: "green", LintVerdict.FINDINGS: "yellow", LintVerdict.UNKNOWN: "magenta"}


@click.command("lint")
@source_options
@click.option("--reference", is_flag=True, help="Print the page of all checks instead.")
@click.option("-v", "--verbose", is_flag=True, help="Show what only informs as well.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def lint(
    files: tuple[Path, ...],
    bundle: Path | None,
    netns: str | None,
    container: str | None,
    load_modules: bool,
    reference: bool,
    verbose: bool,
    output: str,
) -> None:
    """Say what is wrong with a rule set: rules that nothing reaches, ports that it drops, jumps that are gone.

    Nothing is sent and no rule is changed. What the engine, Calico, firewalld, ufw and their like write is no finding.
    Exit code: 0 nothing worse than a remark, 1 a warning or an error, 3 nothing was found and not all could be read.

    \b
    Examples:
      netdiag firewall lint
      netdiag firewall lint --rules iptables.save --rules ipset.save
      netdiag explain lint.shadowed
    """
    from netdiag.facts.standing_rules import needs_of
    from netdiag.firewall.lint_registry import LINT_CHECKS
    from netdiag.firewall.lint_registry import lint as check
    from netdiag.report import lint_lines

    if reference:
        severities = {each.id: each.severities for each in LINT_CHECKS.values()}
        click.echo(lint_lines.reference(LINT_CHECKS, severities), nl=False)
        return
    with Progress("reading the rules") as progress:
        source = read_source(files, bundle, netns, container, load_modules=load_modules)
        progress.update("looking at the rules")
        found = check(source.standing, needs_of(source.facts, source.namespace), subject=source.subject)
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    else:
        first, *rest = lint_lines.lines(found, columns(), verbose=verbose)
        click.secho(first, fg=_COLOURS[found.verdict], bold=True)
        click.echo("\n".join(rest))
    sys.exit(_EXIT[found.verdict])
