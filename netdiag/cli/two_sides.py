"""The options of commands that ask other hosts together with this one, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netdiag.cli.via import via_option

if TYPE_CHECKING:
    from netdiag.model.plan import Plan

F = TypeVar("F", bound=Callable[..., Any])


def two_sided_options(command: F) -> F:
    """Give a command ``--via``, ``--peers``, ``--plan`` and ``--timings``."""
    command = via_option(command)
    for option in (
        click.option("--timings", is_flag=True, help="Say on standard error how long each part took."),
        click.option(
            "--plan", is_flag=True, help="Only say what would be sent, armed and changed, where and for how long."
        ),
        click.option(
            "--peers",
            "peers_file",
            metavar="FILE",
            help="Peers to ask with --via, by name or address, one a line; - for standard input.",
        ),
    ):
        command = option(command)
    return command


def emit_plan(plan: Plan, output: str) -> None:
    """Print a plan on standard output."""
    import msgspec

    from netdiag.report.plan import plan_lines

    if output == "json":
        click.echo(msgspec.json.encode(plan))
    else:
        click.echo("\n".join(plan_lines(plan)))


def emit_timings(took: tuple[tuple[str, float], ...]) -> None:
    """Print on standard error how long each part took."""
    if took:
        click.echo("  ".join(f"{name} {seconds:.2f} s" for name, seconds in took), err=True)
