"""``netdiag diagnose``: why one end cannot talk to another."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from netdiag.cli.output import Progress, emit, output_option
from netdiag.cli.via import via_option

if TYPE_CHECKING:
    from netdiag.carrier.via import Via


@click.command()
@click.argument("source")
@click.argument("destination")
@via_option
@click.option(
    "--code",
    metavar="CODE",
    help="The other host cannot be reached: run the same there, and carry three lines over by hand (new makes a code).",
)
@click.option(
    "--within",
    "within_s",
    type=click.IntRange(6, 60),
    default=60,
    show_default=True,
    help="With --code: both sides start within so many seconds of each other.",
)
@click.option(
    "--pasted",
    multiple=True,
    metavar="TEXT|FILE|-",
    help="With --code: the other side's answer, where it is not pasted at a terminal.",
)
@click.option("--watch", is_flag=True, help="Go on, with a line for each change, until Ctrl-C or SIGTERM.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(1, 3600),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: from the beginning of a round to that of the next.",
)
@click.option("--plan", is_flag=True, help="Say what would be watched, sent and changed, and do nothing.")
@click.option("--send-payload", is_flag=True, help="Send a datagram also to a udp port on which somebody listens.")
@click.option("--user", metavar="UID[:GID]", help="Try it as this user of the source's host; numbers only.")
@click.option("--timings", is_flag=True, help="Say on standard error how long each part took.")
@click.option("--load-modules", is_flag=True, help="Go on where this loads a kernel module.")
@output_option
def diagnose(
    source: str,
    destination: str,
    vias: tuple[Via, ...],
    code: str | None,
    within_s: int,
    pasted: tuple[str, ...],
    watch: bool,
    interval_s: float,
    plan: bool,
    send_payload: bool,
    user: str | None,
    timings: bool,
    load_modules: bool,
    output: str,
    verbose: bool,
) -> None:
    """Find out where a flow from SOURCE to DESTINATION is lost, and what takes it there.

    SOURCE is a container, HOST/CONTAINER, or a host; DESTINATION the same, a service, a task or an address, with :PORT
    or :PORT/PROTO behind it. Exit code: 0 it works, 1 it does not, 3 not known; with --watch that of the last state.

    \b
    Examples:
      netdiag diagnose web db:5432 --via ssh
      netdiag diagnose host-a/web host-b/db:22 --via ssh:root@host-b
      netdiag diagnose web db:5432 --via ssh --watch
      netdiag diagnose 192.0.2.1 192.0.2.2:2377 --code new
    """
    if watch and (plan or code is not None or output not in ("table", "json")):
        raise click.UsageError("--watch goes with --output table or json, and neither with --plan nor with --code")
    as_user = read_user(user)
    if code is not None:
        if as_user is not None:
            raise click.UsageError("--user does not go with --code")
        if vias:
            raise click.UsageError("--code is for a host that --via does not reach: give one of the two")
        _by_hand(source, destination, code, within_s, pasted, plan, send_payload, load_modules, output, verbose)
    if pasted:
        raise click.UsageError("--pasted: give the --code as well with which the answer was made")
    from netdiag.cli.diagnose_run import Run
    from netdiag.report.way_lines import plan_lines, way_lines

    if watch:
        from netdiag.cli.diagnose_watch import Watch

        with Run(vias, load_modules, Progress(""), user=as_user) as run:
            lines = output == "json"
            sys.exit(
                Watch(run, source, destination, interval_s=interval_s, send_payload=send_payload, lines=lines).go()
            )
    with Progress("reading both hosts") as progress, Run(vias, load_modules, progress, user=as_user) as run:
        if plan:
            planned = run.plan(source, destination)
        else:
            report, done = run.diagnose(source, destination, send_payload=send_payload)
    if timings:
        click.echo("  ".join(f"{name} {seconds:.2f} s" for name, seconds in run.timings_s.items()), err=True)
    if plan:
        why = [found.summary for found in planned.told] if planned.unfit else []
        click.echo("\n".join([*why, "Nothing would be tried."] if why else plan_lines(planned.way)))
        return
    emit(report, output, verbose=verbose, drawing=way_lines(done.way, done.sights, done.losses))
    sys.exit(report.exit_code())


def read_user(text: str | None) -> tuple[int, int] | None:
    """A user and a group as numbers; the group is the user's number where it is not said. Raises click.UsageError."""
    if text is None:
        return None
    user, colon, group = text.partition(":")
    if not all(part.isascii() and part.isdigit() and int(part) < 1 << 32 for part in (user, group if colon else user)):
        raise click.UsageError(f"--user {text}: UID or UID:GID, in numbers (id NAME tells them)")
    return int(user), int(group if colon else user)


def _by_hand(
    source: str,
    destination: str,
    code: str,
    within_s: int,
    pasted: tuple[str, ...],
    plan: bool,
    send_payload: bool,
    load_modules: bool,
    output: str,
    verbose: bool,
) -> NoReturn:
    """Both sides at once, each on its own host; never returns."""
    from netdiag.cli.pasted_run import PastedRun
    from netdiag.report.way_lines import half_plan_lines, way_lines

    with Progress("reading this host") as progress:
        run = PastedRun(source, destination, code=code, within_s=within_s, load_modules=load_modules, progress=progress)
        if plan:
            planned = run.plan()
        else:
            report, done = run.diagnose(pasted, send_payload=send_payload)
    if plan:
        click.echo("\n".join(half_plan_lines(planned.planned.way, planned.flow, planned.side, within_s)))
        sys.exit(0)
    emit(report, output, verbose=verbose, drawing=way_lines(done.way, done.sights, done.losses))
    sys.exit(report.exit_code())
