"""``netdiag verify``: is the swarm that this host has joined in order."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys

import click

from netdiag.cli.output import Progress, emit, output_option


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
@output_option
def swarm(
    peers: tuple[str, ...], ignored: tuple[str, ...], docker_socket: str | None, output: str, verbose: bool
) -> None:
    """Is the swarm in order, as this node sees it? On a manager: nodes, peers, images and tasks as well.

    Reads this host; sends nothing and changes nothing. Exit code: 0 in order, 1 not, 3 not known.

    \b
    Example, on a manager that a new host cannot reach:
      netdiag verify swarm --peer 192.0.2.21
    """
    from netdiag.cli.verify_run import run_verify

    with Progress("asking this host and its engine"):
        report = run_verify(peers=peers, ignored=ignored, docker_socket=docker_socket)
    emit(report, output, verbose=verbose)
    sys.exit(report.exit_code())
