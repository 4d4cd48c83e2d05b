"""``netdiag lab``: virtual hosts on this machine."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

from netdiag.errors import UsageError


def say(line: str) -> None:
    """Progress, apart from what a command answers."""
    click.echo(f"… {line}", err=True)


def answer(document: object, output: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print an answer: JSON if asked for, a table on a terminal, lines with tabs between otherwise."""
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*headings, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        Console().print(table, markup=False)
    else:
        for row in rows:
            click.echo("\t".join(row))


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--output table|json``."""
    kinds = click.Choice(["table", "json"])
    return click.option("--output", type=kinds, default="table", show_default=True, help="How to print it.")(command)


@click.group()
def lab() -> None:
    """Virtual hosts with real engines on this machine, and faults to inject.

    \b
    Example, the join that times out:
      netdiag lab install
      netdiag lab up story
      netdiag lab break story drop host=manager proto=tcp dport=2377
      netdiag lab exec story worker -- docker swarm join --token … 10.71.0.1:2377
      netdiag lab down story
    """


@lab.command()
def install() -> None:
    """Unpack the lab's tools (Debian packages) into a directory; nothing is installed or started.

    \b
    Example:
      netdiag lab install
    """
    from netdiag.lab.root import install as make_root

    click.echo(f"the lab's tools are in {make_root(say)}")


@lab.command()
@click.argument("name")
@click.option("--topology", "source", default="swarm2", show_default=True, help="A topology's name, or a TOML file.")
def up(name: str, source: str) -> None:
    """Start the lab NAME; it stays until netdiag lab down NAME.

    \b
    Example:
      netdiag lab up mine --topology swarm3
    """
    from netdiag.lab import Lab, load_topology

    running = Lab.up(load_topology(source), name, detached=True, say=say)
    for host in running.hosts.values():
        click.echo(f"{host.name}\t{', '.join(str(uplink.address) for uplink in host.uplinks)}")


@lab.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every lab of this machine, and what is left of others.")
def down(name: str | None, every: bool) -> None:
    """End the lab NAME, or all; nothing of it is left.

    \b
    Example:
      netdiag lab down mine
    """
    from netdiag.lab.lab import end_labs

    if (name is None) != every:
        raise UsageError("name a lab, or say --all")
    for ended in end_labs(name):
        click.echo(f"{ended} is down")


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name")
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(name: str, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in the host HOST of the lab NAME; its exit code is ours.

    \b
    Example:
      netdiag lab exec mine worker -- docker info
      netdiag lab exec mine fabric -- tcpdump -ni br-lan
    """
    from netdiag.lab import Lab

    if command == ("--",):
        raise UsageError("no command after --")
    where = Lab.attach(name).host(host)
    argv = where.command(command[1:] if command[0] == "--" else command)
    sys.stdout.flush()
    os.execvpe(argv[0], argv, where.environment())  # noqa: S606 - becoming it passes on terminal, signals and exit code


@lab.command("list")
@output_option
def list_labs(output: str) -> None:
    """The labs of this machine.

    \b
    Example:
      netdiag lab list
    """
    from netdiag.lab.overview import summaries

    labs = summaries()
    rows = [(each.name, each.topology, str(each.hosts), each.state, str(each.faults)) for each in labs]
    answer(labs, output, ("lab", "topology", "hosts", "state", "faults"), rows)


@lab.command()
@click.argument("name")
@output_option
def status(name: str, output: str) -> None:
    """The hosts of the lab NAME, their engines, and the faults that are in.

    \b
    Example:
      netdiag lab status mine
    """
    from netdiag.lab import Lab
    from netdiag.lab.overview import status as ask

    now = ask(Lab.attach(name))
    rows = [
        (host.name, host.hostname, ", ".join(host.addresses.values()), host.engine, host.swarm, str(host.pid))
        for host in now.hosts
    ]
    answer(now, output, ("host", "hostname", "addresses", "engine", "swarm", "pid"), rows)
    if output != "json":
        for fault in now.faults:
            click.echo(f"fault {fault.number}: {fault}")


@lab.command("break")
@click.argument("name")
@click.argument("fault")
@click.argument("parameters", nargs=-1)
def break_(name: str, fault: str, parameters: tuple[str, ...]) -> None:
    """Inject FAULT into the lab NAME; PARAMETERS are key=value (see netdiag lab faults).

    \b
    Example:
      netdiag lab break mine drop host=manager chain=INPUT proto=tcp dport=2377
    """
    from netdiag.lab import Lab
    from netdiag.lab.faults import parse_words

    active = Lab.attach(name).break_(fault, **parse_words(parameters))
    click.echo(f"fault {active.number}: {active}")


@lab.command()
@click.argument("name")
@click.argument("number", type=int, required=False)
def heal(name: str, number: int | None) -> None:
    """Undo one fault of the lab NAME by its number, or all of them.

    \b
    Example:
      netdiag lab heal mine 1
    """
    from netdiag.lab import Lab

    running = Lab.attach(name)
    if number is not None:
        running.heal(number)
    else:
        running.heal_all()
    click.echo(f"{len(running.faults())} faults are in")


@lab.command()
@click.argument("fault", required=False)
@output_option
def faults(fault: str | None, output: str) -> None:
    """The faults there are; with FAULT, its parameters.

    \b
    Example:
      netdiag lab faults drop
    """
    from netdiag.lab.faults import describe

    rows = describe(fault)
    headings = ("fault", "what it is") if fault is None else ("parameter", "accepts", "default", "what it is")
    answer([dict(zip(headings, row, strict=True)) for row in rows], output, headings, rows)


@lab.command()
def topologies() -> None:
    """The topologies that netdiag ships.

    \b
    Example:
      netdiag lab topologies
    """
    from netdiag.lab.topology import load_topology, topology_names

    rows = [(name, load_topology(name).description) for name in topology_names()]
    answer(dict(rows), "table", ("topology", "what it is"), rows)


@lab.command()
@click.argument("story", type=click.Choice(["all", "join", "overlay"]), default="all")
def demo(story: str) -> None:
    """Tell two stories on real engines: a join that times out, and an overlay where ping works and ssh hangs.

    \b
    Examples:
      netdiag lab demo
      netdiag lab demo overlay
    """
    from netdiag.cli.output import columns
    from netdiag.lab.demo import tell_story
    from netdiag.lab.demo_overlay import tell_overlay_story

    if story != "overlay":
        tell_story(click.echo, columns=columns())
    if story == "all":
        click.echo()
    if story != "join":
        tell_overlay_story(click.echo, columns=columns())
