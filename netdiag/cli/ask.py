"""``netdiag ask``: the message for the admin of another host."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
from pathlib import Path

import click

from netdiag.errors import UsageError


@click.command()
@click.argument("report", metavar="REPORT.json")
@click.option("--host", help="Whom to write to, where the report asks something of several hosts.")
def ask(report: str, host: str | None) -> None:
    """Write the message for the admin of a host that is someone else's, from a report made by --output json.

    It says what we try to do, what we saw, which commands to run there and why, and what to send back. It holds no
    token. Give - to read the report from standard input.

    \b
    Example:
      netdiag preflight swarm --manager 192.0.2.10 --output json | netdiag ask -
    """
    from netdiag.report import document
    from netdiag.report.ask import message

    click.echo(message(document.decode(_read(report)), host), nl=False)


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
