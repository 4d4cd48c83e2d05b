"""``netdiag schema``: the JSON schema of a document that netdiag writes."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import click

from netdiag.errors import UsageError


@click.command()
@click.argument("document", metavar="NAME")
def schema(document: str) -> None:
    """Print the JSON schema of a document that netdiag writes.

    NAME is facts, report, trace, allow, firewall-diff or clean.

    \b
    Example:
      netdiag schema report > report.schema.json
    """
    from netdiag.report.schema import DOCUMENTS
    from netdiag.report.schema import schema as make

    if document not in DOCUMENTS:
        raise UsageError(f"no document is called {document!r}; there are {', '.join(DOCUMENTS)}")
    click.echo(make(document), nl=False)
