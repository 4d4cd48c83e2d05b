"""``netdiag firewall``: which rule decides about a packet."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
import time
from typing import Any

import click
import msgspec

from netdiag.cli.firewall_allow import allow, confirm
from netdiag.cli.firewall_diff import diff
from netdiag.cli.firewall_explain import explain
from netdiag.cli.firewall_lint import lint
from netdiag.cli.firewall_show import show
from netdiag.cli.output import Progress, columns
from netdiag.cli.packet_options import named_namespace, packet_options, wanted_of
from netdiag.model.level import Level
from netdiag.model.trace import TraceVerdict

EXIT = {TraceVerdict.ACCEPT: 0, TraceVerdict.DROP: 1, TraceVerdict.REJECT: 1, TraceVerdict.UNKNOWN: 3}

_COLOURS = {
    TraceVerdict.ACCEPT: "green",
    TraceVerdict.DROP: "red",
    TraceVerdict.REJECT: "red",
    TraceVerdict.UNKNOWN: "magenta",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def firewall() -> None:
    """Say which rule of this host's packet filters decides about a packet.

    \b
    Example:
      netdiag firewall trace --src 192.0.2.21 --dport 2377
    """


firewall.add_command(allow)
firewall.add_command(confirm)
firewall.add_command(diff)
firewall.add_command(explain)
firewall.add_command(lint)
firewall.add_command(show)


@firewall.command("trace")
@packet_options
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="Send nothing: follow the first such packet that comes by itself.",
)
@click.option(
    "--level",
    "level",
    type=click.Choice([step.value for step in Level]),
    help="A level below the one that this host allows (netdiag facts level).",
)
@click.option("--load-modules", is_flag=True, help="Go on where this loads a kernel module.")
@click.option(
    "--let-remember", is_flag=True, help="Go on where a rule would remember the packet's addresses (SET, recent)."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def trace(
    wait_s: float | None, level: str | None, load_modules: bool, let_remember: bool, output: str, **options: Any
) -> None:
    """Send one packet through this host's rules and say which of them decides, as the kernel tells it.

    The packet reaches nobody: it is taken away behind the last rule, and nothing is answered to it. No rule is changed.
    Exit code: 0 accepted, 1 dropped or rejected, 3 not known.

    \b
    Examples:
      netdiag firewall trace --src 192.0.2.21 --dport 2377
      netdiag firewall trace --path out --dst 192.0.2.10 --proto udp --dport 4789
      netdiag firewall trace --path forward --in eth0 --dst 172.17.0.2 --dport 80
      netdiag firewall trace --container web --dport 80
      netdiag firewall trace --wait 30 --src 192.0.2.21 --proto tcp --dport 2377
    """
    from netdiag.host import LocalHost
    from netdiag.host.collect import local_options
    from netdiag.host.trace import find_namespace, watch
    from netdiag.host.trace import trace as run
    from netdiag.report.trace_lines import lines

    forced = Level(level) if level is not None else None
    container, netns = named_namespace(options)
    asked, host, now_s = local_options(load_modules=load_modules, let_remember=let_remember), LocalHost(), time.time()
    with Progress("following a packet" if wait_s is None else f"waiting for a packet, at most {wait_s:g} s"):
        namespace = find_namespace(host, container=container, netns=netns, now_s=now_s, options=asked)
        wanted = wanted_of(options, namespace)
        if wait_s is None:
            found = run(host, wanted, now_s=now_s, options=asked, forced=forced)
        else:
            found = watch(host, wanted, now_s=now_s, options=asked, wait_s=wait_s, forced=forced)
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    else:
        first, *rest = lines(found, columns())
        # click strips colours where standard output is no terminal.
        click.secho(first, fg=_COLOURS[found.verdict], bold=True)
        click.echo("\n".join(rest))
    sys.exit(EXIT[found.verdict])
