"""``netdiag preflight``: will this host join, and if not, why."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from netdiag.cli.output import Progress, emit, output_option
from netdiag.cli.two_sides import emit_plan, emit_timings, two_sided_options
from netdiag.model.report import Need

if TYPE_CHECKING:
    from netdiag.carrier.via import Via


@click.group()
def preflight() -> None:
    """Say before a node joins whether it will, and if not, why."""


@preflight.command("swarm")
@click.option(
    "-m",
    "--manager",
    "managers",
    multiple=True,
    metavar="ADDR[:PORT]",
    help="A manager of the swarm to join; may be repeated.",
)
@click.option("--token", metavar="TOKEN", help="The join token (better: --token-file, or the variable NETDIAG_TOKEN).")
@click.option("--token-file", metavar="FILE", help="A file that holds the join token; - for standard input.")
@click.option(
    "--role",
    type=click.Choice(["worker", "manager"]),
    default="worker",
    show_default=True,
    help="As what this host will join.",
)
@click.option(
    "--advertise-addr",
    metavar="ADDR",
    default="",
    help="As for docker swarm join: an address or a device of this host.",
)
@click.option("--data-path-addr", metavar="ADDR", default="", help="As for docker swarm join.")
@click.option(
    "--data-path-port", type=click.IntRange(1024, 49151), help="The swarm's data-path port, where it is not 4789."
)
@click.option(
    "--image", "images", multiple=True, metavar="NAME", help="An image that services will need here; may be repeated."
)
@click.option(
    "--need",
    type=click.Choice([need.value for need in Need]),
    default="join",
    show_default=True,
    help="What must work for a yes.",
)
@click.option("--init", "initialise", is_flag=True, help="Ask about docker swarm init on this host instead of a join.")
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="CHECK",
    help="Lower this check's failure to a warning; may be repeated.",
)
@click.option("--docker-socket", help="The engine's socket  [default: /var/run/docker.sock, or DOCKER_HOST]")
@click.option("--save", metavar="FILE", help="Keep all raw answers in a bundle, for netdiag analyze.")
@two_sided_options
@output_option
def swarm(
    managers: tuple[str, ...],
    token: str | None,
    token_file: str | None,
    role: str,
    advertise_addr: str,
    data_path_addr: str,
    data_path_port: int | None,
    images: tuple[str, ...],
    need: str,
    initialise: bool,
    ignored: tuple[str, ...],
    docker_socket: str | None,
    save: str | None,
    vias: tuple[Via, ...],
    peers_file: str | None,
    plan: bool,
    timings: bool,
    output: str,
    verbose: bool,
) -> None:
    """Will docker swarm join (or init) work on this host? If not: why, and what to do.

    Sends a few packets to the managers and reads this host; changes nothing. With --via both sides send to each other,
    and a loss is traced on the side where it happens. Exit code: 0 yes, 1 no, 3 not known.

    \b
    Examples:
      netdiag preflight swarm --manager 192.0.2.10 --token-file worker.token
      netdiag preflight swarm --manager 192.0.2.10 --via ssh
    """
    from netdiag.cli.preflight_asked import Asked
    from netdiag.cli.preflight_run import plan_of, run_preflight
    from netdiag.cli.token_input import VARIABLE, read_token
    from netdiag.cli.two_sides_run import named_peers

    asked = Asked(
        managers=managers,
        token=read_token(token, token_file),
        token_file=token_file or "",
        token_in_environment=token is None and token_file is None and bool(os.environ.get(VARIABLE)),
        manager_role=role == "manager",
        initialise=initialise,
        advertise_address=advertise_addr,
        data_path_address=data_path_addr,
        data_path_port=data_path_port,
        images=images,
        need=Need(need),
        ignored=ignored,
        docker_socket=docker_socket or "",
        vias=vias,
        peers=named_peers(vias, peers_file),
        peers_file=peers_file or "",
    )
    if plan:
        emit_plan(plan_of(asked), output)
        return
    with Progress("asking this host and the managers") as progress:
        done = run_preflight(asked, progress=progress.update)
    if timings:
        emit_timings(done.timings)
    if save is not None:
        from pathlib import Path

        from netdiag.host.bundles import write_bundle

        write_bundle(Path(save), done.bundle)
    emit(done.report, output, verbose=verbose)
    sys.exit(done.report.exit_code())
