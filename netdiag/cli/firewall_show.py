"""``netdiag firewall show``: a rule set laid out for reading."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from netdiag.cli.output import Progress, columns
from netdiag.cli.rule_sources import read_source, source_options
from netdiag.model.firewall import Owner


@click.command("show")
@source_options
@click.option("--table", metavar="TABLE", help="Only this table: filter, nat, mangle, raw, or one of nft's.")
@click.option("--chain", metavar="CHAIN", help="Only this chain.")
@click.option("--owner", type=click.Choice([owner.value for owner in Owner]), help="Only the rules of this owner.")
@click.option("--port", type=click.IntRange(0, 65535), help="Only rules that name this port.")
@click.option("--proto", metavar="NAME|N", help="Only rules that name this protocol.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(
    files: tuple[Path, ...],
    bundle: Path | None,
    netns: str | None,
    container: str | None,
    load_modules: bool,
    table: str | None,
    chain: str | None,
    owner: str | None,
    port: int | None,
    proto: str | None,
    output: str,
) -> None:
    """Show a rule set: each table's base chains in the packet's order, then its chains by owner, with their callers.

    A line is a rule: its number, its packets and bytes where the rules have counters, its owner where several write,
    and what it says. No rule is changed. Exit code: 0, or 3 where the rules could not be read.

    \b
    Examples:
      netdiag firewall show
      netdiag firewall show --owner operator
      netdiag firewall show --port 2377 --proto tcp
      netdiag firewall show --rules iptables.save --table nat
    """
    from netdiag.firewall.laid_out import Wanted, laid_out
    from netdiag.report.show_lines import lines

    with Progress("reading the rules"):
        source = read_source(files, bundle, netns, container, load_modules=load_modules)
        wanted = Wanted(
            table=table or "",
            chain=chain or "",
            owner=Owner(owner) if owner else None,
            port=port,
            protocol=(proto or "").lower(),
        )
        found = laid_out(source.standing, subject=source.subject, wanted=wanted)
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    else:
        click.echo("\n".join(lines(found, columns())))
    sys.exit(3 if source.standing.unknown else 0)
