"""``netdiag explain``: what a cause or a check means and how it is healed."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import click

from netdiag.cli.output import columns
from netdiag.errors import UsageError


@click.command()
@click.argument("name", metavar="[CODE|CHECK]", required=False)
@click.option("--all", "everything", is_flag=True, help="Print the pages of all causes.")
@click.option("--markdown", is_flag=True, help="With --all: as the Markdown page of the reference.")
def explain(name: str | None, everything: bool, markdown: bool) -> None:
    """Say what a cause or a check means, what proves it, what only looks like it, and how it is healed.

    Without a name, list them all.

    \b
    Example:
      netdiag explain firewall.near-miss
    """
    from netdiag.checks.registry import CHECKS
    from netdiag.firewall.lint_registry import LINT_CHECKS
    from netdiag.path.pages import PAGES
    from netdiag.report import pages

    known: dict[str, pages.Explained] = {**CHECKS, **PAGES, **LINT_CHECKS}
    if markdown and not everything:
        raise UsageError("--markdown goes with --all")
    if everything and name:
        raise UsageError(f"give either --all or a name, not both: {name}")
    if everything:
        text = pages.markdown() if markdown else pages.everything(width=columns())
    elif name:
        text = pages.page(name, known, width=columns())
    else:
        text = pages.listing(known)
    click.echo(text, nl=False)
