"""``netdiag verify``: is the swarm that this host has joined in order."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from netdiag.cli.output import Progress, emit, output_option
from netdiag.cli.two_sides import emit_plan, emit_timings, two_sided_options

if TYPE_CHECKING:
    from netdiag.carrier.via import Via


@click.group()
def verify() -> None:
    """Check a cluster that this host has joined."""


@verify.command("swarm")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="ADDR",
    help="A host that joins or has joined: are its packets let in? May be repeated.",
)
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="CHECK",
    help="Lower this check's failure to a warning; may be repeated.",
)
@click.option("--docker-socket", help="The engine's socket  [default: /var/run/docker.sock, or DOCKER_HOST]")
@two_sided_options
@output_option
def swarm(
    peers: tuple[str, ...],
    ignored: tuple[str, ...],
    docker_socket: str | None,
    vias: tuple[Via, ...],
    peers_file: str | None,
    plan: bool,
    timings: bool,
    output: str,
    verbose: bool,
) -> None:
    """Is the swarm in order, as this node sees it? On a manager: nodes, peers, images and tasks as well.

    Reads this host; sends nothing and changes nothing. With --via this host and its peers send to each other (with --via
    ssh alone: every other node that is Ready), and a loss is traced on the side where it happens. Exit code: 0 in order,
    1 not, 3 not known.

    \b
    Examples, on a manager:
      netdiag verify swarm --peer 192.0.2.21
      netdiag verify swarm --via ssh
    """
    from netdiag.cli.two_sides_run import named_peers
    from netdiag.cli.verify_run import Verify, plan_of, run_verify

    asked = Verify(
        peers=peers,
        ignored=ignored,
        docker_socket=docker_socket or "",
        vias=vias,
        named=named_peers(vias, peers_file),
        peers_file=peers_file or "",
    )
    if plan:
        emit_plan(plan_of(asked), output)
        return
    with Progress("asking this host and its engine") as progress:
        report, took = run_verify(asked, progress=progress.update)
    if timings:
        emit_timings(took)
    emit(report, output, verbose=verbose)
    sys.exit(report.exit_code())
