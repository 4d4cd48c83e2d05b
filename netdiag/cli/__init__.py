"""The command line: wiring and exit codes, nothing else.

Sub-commands are imported when they are called, so that ``netdiag --help`` stays fast: `COMMANDS` holds where each
one lives and its one-line help. A new command is one module in this package and one row here.
"""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import NamedTuple, NoReturn

import click

from netdiag.errors import NetdiagError, NotKnown


class Entry(NamedTuple):
    """Where a sub-command lives (``module:attribute``) and its line in ``netdiag --help``."""

    target: str
    help: str


COMMANDS: dict[str, Entry] = {
    "analyze": Entry("netdiag.cli.analyze:analyze", "Give the findings of bundles, with no host and no network."),
    "ask": Entry("netdiag.cli.ask:ask", "Write the message for the admin of the other host."),
    "clean": Entry("netdiag.cli.clean:clean", "Remove what a killed netdiag left on this host."),
    "collect": Entry("netdiag.cli.bundle:collect", "Write this host's facts into a bundle."),
    "explain": Entry("netdiag.cli.explain:explain", "Say what a cause or a check means and how it is healed."),
    "facts": Entry("netdiag.cli.facts:facts", "Show what is known of this host."),
    "firewall": Entry("netdiag.cli.firewall:firewall", "Say which rule decides about a packet."),
    "lab": Entry("netdiag.cli.lab:lab", "Virtual hosts with real engines on this machine, and faults to inject."),
    "listen": Entry("netdiag.cli.listen:listen", "Let one other host, with a one-time key, ask this one."),
    "diagnose": Entry("netdiag.cli.diagnose:diagnose", "Say where a flow between two ends is lost, and what takes it."),
    "preflight": Entry("netdiag.cli.preflight:preflight", "Say before a node joins whether it will, and if not, why."),
    "schema": Entry("netdiag.cli.schema:schema", "Print the JSON schema of a document that netdiag writes."),
    "script": Entry("netdiag.cli.script:script", "Print a script for a host that is someone else's."),
    "verify": Entry("netdiag.cli.verify:verify", "Check a cluster that this host has joined."),
    "why": Entry("netdiag.cli.diagnose:diagnose", "The same as diagnose."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, without importing anything."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command; None if there is no such name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - COMMANDS is ours, a test holds every row
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest names for a command that there is not."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self.list_commands(ctx))}"
            ctx.fail(f"no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from `COMMANDS`, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="netdiag", prog_name="netdiag")
def cli() -> None:
    """Say what loses the packet between Docker hosts, and the one command that heals it.

    \b
    Example, on a host that is about to join a swarm:
      netdiag preflight swarm --manager 192.0.2.10
    """


def main() -> None:
    """Entry point of ``netdiag``: what goes wrong on purpose becomes one line, and an exit code that says what kind.

    0 and 1 are answers, 2 is wrong usage, 3 is "not known" (a fault of netdiag itself included), 130 an interruption.
    """
    try:
        sys.exit(cli.main(standalone_mode=False))
    except NotKnown as error:
        _end(str(error), 3)
    except NetdiagError as error:
        _end(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "netdiag"
        _end(f"{error.format_message().rstrip('.')} (see {path} --help)", 2)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        _end("interrupted", 130)
    except BrokenPipeError:
        # Whoever read the output (head, less) has seen enough; Python must not complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("NETDIAG_DEBUG"):
            raise
        _end(f"a fault of netdiag itself: {type(error).__name__}: {error} (NETDIAG_DEBUG=1 shows where)", 3)


def _end(line: str, code: int) -> NoReturn:
    click.echo(f"netdiag: {' '.join(line.split())}", err=True)
    sys.exit(code)
