"""``netdiag collect``: this host's facts into a bundle."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

from pathlib import Path

import click

from netdiag.cli.facts import gathered
from netdiag.facts.sections import SECTIONS
from netdiag.host.bundles import write_bundle


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o", "--out", "path", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write."
)
@click.option("--docker-socket", help="The engine's socket  [default: /var/run/docker.sock, or DOCKER_HOST]")
@click.option("--load-modules", is_flag=True, help="Ask also what may load a kernel module.")
def collect(path: Path, docker_socket: str | None, load_modules: bool) -> None:
    """Write this host's facts into one compressed bundle; read-only, and no secrets go into it.

    \b
    Example:
      netdiag collect -o worker-1.bundle
    """
    facts, bundle = gathered((), docker_socket, load_modules=load_modules)
    size = write_bundle(path, bundle)
    absent = [name for name in SECTIONS if getattr(facts, name).absent is not None]
    click.echo(f"{path}: {len(SECTIONS) - len(absent)} sections, {size / 1024:.0f} KiB", err=True)
    for name in absent:
        click.echo(f"  without {name}: {getattr(facts, name).absent.text}", err=True)
