"""``netdiag facts``: what is known of this host."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from netdiag.errors import UsageError
from netdiag.facts.bundle import Bundle
from netdiag.facts.level import LevelReport, judge
from netdiag.facts.sections import SECTIONS, with_needed
from netdiag.host import LocalHost
from netdiag.host.collect import collect_bundle, local_options
from netdiag.model.facts import Facts, Section
from netdiag.model.level import Level

QUIET_S = 1.0
"""How long collecting goes on in silence."""
LEVEL = "level"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("section", required=False)
@click.option("--netns", help="Only this namespace: host, container:NAME, overlay:NETWORK, lb:NETWORK, ingress.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--docker-socket", help="The engine's socket  [default: /var/run/docker.sock, or DOCKER_HOST]")
@click.option("--load-modules", is_flag=True, help="Ask also what may load a kernel module.")
@click.option(
    "--force",
    type=click.Choice([level.value for level in Level]),
    help="With level: as if the host allowed no more than this.",
)
def facts(
    section: str | None,
    netns: str | None,
    output: str,
    docker_socket: str | None,
    load_modules: bool,
    force: str | None,
) -> None:
    """Show what is known of this host; read-only.

    SECTION is one of the names in the overview, or "level": how much netdiag can prove here.

    \b
    Examples:
      netdiag facts
      netdiag facts routes --netns container:web
      netdiag facts level --output json
    """
    if section == LEVEL:
        found, _ = gathered(("identity", "kernel"), docker_socket, load_modules=load_modules)
        _show_level(judge(found, Level(force) if force else None), output)
        return
    if force is not None:
        raise UsageError(f"--force {force} goes with: netdiag facts level")
    names = (section,) if section else ()
    with_needed(list(names))
    found, _ = gathered(names, docker_socket, load_modules=load_modules)
    if netns is not None:
        found = _only(found, netns, names)
    if output == "json":
        _print_json(found, section)
    else:
        _print_table(found, section)


def gathered(
    names: Sequence[str], docker_socket: str | None, *, load_modules: bool, purpose: str = "collect"
) -> tuple[Facts, Bundle]:
    """This host's facts and their answers; says on stderr what it waits for when that takes over a second."""
    ended: set[str] = set()
    wanted = with_needed(list(names))

    def say() -> None:
        missing = [name for name in wanted if name not in ended]
        click.echo(f"collecting facts; waiting for {', '.join(missing)}", err=True)

    timer = threading.Timer(QUIET_S, say)
    timer.daemon = True
    timer.start()
    try:
        return collect_bundle(
            LocalHost(),
            names,
            now_s=time.time(),
            purpose=purpose,
            options=local_options(docker_socket=docker_socket, load_modules=load_modules),
            progress=ended.add,
        )
    finally:
        timer.cancel()


def _only(found: Facts, netns: str, names: Sequence[str]) -> Facts:
    """The facts with one namespace's values alone. Raises UsageError when no section has that namespace."""
    changed: dict[str, Section[Any]] = {}
    known: set[str] = set()
    for name in names or SECTIONS:
        section: Section[Any] = getattr(found, name)
        if not isinstance(section.value, dict) or "namespaces" not in (name, *SECTIONS[name].after):
            continue
        known.update(section.value)
        kept = {where: value for where, value in section.value.items() if where == netns}
        partial = {where: reason for where, reason in section.partial.items() if where == netns}
        changed[name] = msgspec.structs.replace(section, value=kept, partial=partial)
    if not changed:
        raise UsageError(f"--netns {netns}: {names[0]} is about the whole host, not about namespaces")
    if netns not in known:
        raise UsageError(f"--netns {netns}: no such namespace; there are {', '.join(sorted(known)) or 'none'}")
    return msgspec.structs.replace(found, **changed)


def _print_json(found: Facts, section: str | None) -> None:
    if section is None:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        return
    document = {"schema": found.schema, "collected_s": found.collected_s, section: getattr(found, section)}
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")


def _print_table(found: Facts, section: str | None) -> None:
    from rich.console import Console

    from netdiag.cli import facts_tables as tables

    console = Console(highlight=False, markup=False, emoji=False)  # ":cd:" in a MAC address is no picture
    if section is None:
        console.print(tables.overview(found, console.width))
    else:
        console.print(tables.section_table(section, getattr(found, section), console.width))


def _show_level(report: LevelReport, output: str) -> None:
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        return
    click.echo(f"{report.level.value}: {report.why}")
    for step, cost in report.ladder.items():
        click.echo(f"{'→' if step == report.level.value else ' '} {step:<12} {cost}")
