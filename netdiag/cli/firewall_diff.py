"""``netdiag firewall diff``: what the next reload or boot makes of this host's rules."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
import time

import click

_EXIT = {"same": 0, "changes": 1, "unknown": 3}


@click.command("diff")
@click.option("--load-modules", is_flag=True, help="Compare also where this loads a kernel module.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def diff(load_modules: bool, output: str) -> None:
    """Say what the next reload, restart or boot changes in this host's firewall: what is lost, what returns.

    Running rules are compared with what firewalld, iptables.service, netfilter-persistent, nftables.service and ufw
    have saved. Nothing is changed. Exit code: 0 nothing changes, 1 something does, 3 not known.

    \b
    Example:
      netdiag firewall diff --output json
    """
    import msgspec

    from netdiag.cli.output import Progress, columns
    from netdiag.host import LocalHost
    from netdiag.host.collect import local_options
    from netdiag.host.firewall_diff import diff as run
    from netdiag.report.firewall_diff import lines

    with Progress("comparing saved and running rules"):
        found = run(LocalHost(), now_s=time.time(), options=local_options(load_modules=load_modules))
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    else:
        click.echo("\n".join(lines(found, width=columns())))
    sys.exit(_EXIT[found.verdict.value])
