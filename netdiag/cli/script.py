"""``netdiag script``: what can be handed to the admin of another host."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import time

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def script() -> None:
    """Print a script for a host that is someone else's."""


@script.command()
@click.option("--swarm", is_flag=True, help="Ask the Docker engine and its swarm.")
@click.option("--firewall", is_flag=True, help="Ask the firewall, as it runs and as it is saved.")
@click.option("--all", "everything", is_flag=True, help="Both; so it is when nothing is said.")
def collect(swarm: bool, firewall: bool, everything: bool) -> None:
    """Print a read-only shell script that prints what its host knows of its network.

    It needs a POSIX shell and awk, no Python; it writes and loads nothing, and asks for no secrets. Its reader sees
    what every command is for, and may cut it. 'netdiag analyze MINE THEIRS' then diagnoses from what it printed.

    \b
    Example:
      netdiag script collect > collect.sh
    """
    import platform

    import netdiag
    from netdiag.carrier.script import PARTS
    from netdiag.carrier.script import script as script_of

    chosen = [name for name, given in (("swarm", swarm), ("firewall", firewall)) if given or everything]
    text = script_of(
        chosen or PARTS, tool=netdiag.version(), made_s=int(time.time()), made_on=platform.node() or "unknown"
    )
    click.echo(text, nl=False)
