"""``netdiag firewall allow`` and ``confirm``: the least rule that lets one packet through, and taking it back."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import secrets
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from netdiag.cli.output import Progress, columns
from netdiag.cli.packet_options import named_namespace, packet_options, wanted_of
from netdiag.errors import NetdiagError, UsageError
from netdiag.model.fix import WITHIN_S, Allow
from netdiag.model.trace import Trace, TraceVerdict

if TYPE_CHECKING:
    from netdiag.facts.context import Options
    from netdiag.facts.trace_wanted import Wanted
    from netdiag.host import LocalHost
    from netdiag.host.change import Change


@click.command("allow")
@packet_options
@click.option("--plan", is_flag=True, help="Say what would be changed, and change nothing  [default]")
@click.option(
    "--apply", "apply_", is_flag=True, help="Put the rule in, trace again, and take it back unless confirmed."
)
@click.option(
    "--confirm-within",
    type=click.IntRange(*WITHIN_S),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help=f"With --apply: for how long it waits to be confirmed, {WITHIN_S[0]} to {WITHIN_S[1]}.",
)
@click.option("--unproven", is_flag=True, help="With --apply: also where what decides is likely only, not proven.")
@click.option(
    "--prove",
    is_flag=True,
    help="Try the rule out in a copy of the rules that nobody uses: this packet, and which others change.",
)
@click.option(
    "--rules",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="For saved rules instead of this host's: iptables-save, ip6tables-save, ipset save; - is standard input.",
)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="For the rules of a bundle's host.")
@click.option("--load-modules", is_flag=True, help="Go on where this loads a kernel module.")
@click.option(
    "--let-remember", is_flag=True, help="Go on where a rule would remember the packet's addresses (SET, recent)."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def allow(
    *,
    plan: bool,
    apply_: bool,
    confirm_within: int,
    unproven: bool,
    prove: bool,
    files: tuple[Path, ...],
    bundle: Path | None,
    load_modules: bool,
    let_remember: bool,
    output: str,
    **options: Any,
) -> None:
    """Propose the least rule that lets one packet through, in the right place, with its undo and how to keep it.

    The packet is traced first, and nothing is sent to anybody. The rule is for the peer's address, the protocol and the
    port. Exit code: 0 the packet is let through now, 1 it is not, 3 not known.

    \b
    With --apply the change is taken back unless you confirm it at the terminal, or with "netdiag firewall confirm" at
    another one: also when this command is killed or its terminal is lost. Nothing is changed where what decides is not
    proven, unless --unproven is given.

    \b
    With --prove the packet and a sample of other flows are sent through two copies of this host's rules, with the rule
    and without it, in network namespaces that nobody uses and that are gone afterwards; --apply then applies it only if
    it does what was meant and changes nothing else.

    \b
    Examples:
      netdiag firewall allow --src 192.0.2.21 --dport 2377 --prove
      netdiag firewall allow --src 192.0.2.21 --dport 2377 --apply
    """
    from netdiag.firewall.allow import unproven as not_proven
    from netdiag.host import LocalHost
    from netdiag.host.collect import local_options
    from netdiag.report.allow_lines import proposal_lines, result_lines

    if plan and apply_:
        raise click.UsageError("--plan changes nothing and --apply does: give one of them")
    if unproven and not apply_:
        raise click.UsageError("--unproven is for --apply: nothing is changed without that")
    if files and bundle is not None:
        raise click.UsageError("--rules and --bundle each name the rules: give one of them")
    if apply_ and (files or bundle is not None):
        raise click.UsageError("--apply changes this host: it does not go with --rules and --bundle")
    host, asked, now_s = LocalHost(), local_options(load_modules=load_modules, let_remember=let_remember), time.time()
    change_id = secrets.token_hex(4)
    # Whoever finds the rule later reads in its comment since when it is there.
    rule_id = time.strftime("%Y%m%d-", time.localtime(now_s)) + change_id
    with Progress("following a packet"):
        ask = _saved_proposal if files or bundle is not None else _live_proposal
        answer, wanted = ask(
            _Asked(host, asked, now_s, rule_id, prove=prove, files=files, bundle=bundle, packet=options)
        )
    as_json = output == "json"
    if not as_json:
        click.echo("\n".join(proposal_lines(answer, columns())))
    if apply_ and answer.fix is not None:
        if as_json:
            click.echo("\n".join(proposal_lines(answer, columns())), err=True)
        doubt = "" if unproven else not_proven(answer.before)
        objection = answer.proof.objection() if answer.proof is not None else ""
        if objection:
            answer = msgspec.structs.replace(answer, reason=f"the rule is not proven: {objection}")
        elif doubt:
            answer = msgspec.structs.replace(answer, reason=f"{doubt}; --unproven applies the rule all the same")
        else:
            answer = _applied(answer, wanted, asked, change_id, confirm_within)
        if not as_json:
            click.echo("\n".join(result_lines(answer, columns())))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    sys.exit(_exit_code(answer))


class _Asked(NamedTuple):
    """What was asked for, and when."""

    host: LocalHost
    options: Options
    now_s: float
    rule_id: str
    prove: bool
    files: tuple[Path, ...]
    bundle: Path | None
    packet: dict[str, Any]


def _live_proposal(asked: _Asked) -> tuple[Allow, Wanted]:
    """The rule for this host's own rules, which are traced."""
    from netdiag.host.allow import propose
    from netdiag.host.trace import find_namespace

    container, netns = named_namespace(asked.packet)
    host, now_s, chosen = asked.host, asked.now_s, asked.options
    namespace = find_namespace(host, container=container, netns=netns, now_s=now_s, options=chosen)
    wanted = wanted_of(asked.packet, namespace)
    return propose(host, wanted, now_s=now_s, options=chosen, rule_id=asked.rule_id, prove=asked.prove), wanted


def _saved_proposal(asked: _Asked) -> tuple[Allow, Wanted]:
    """The rule for saved rules, or those of a bundle, which are computed."""
    from netdiag.cli.saved_rules import of_bundle, of_files
    from netdiag.host.allow_saved import propose_saved
    from netdiag.report.explain_lines import problem_lines

    saved, namespace, problems = (
        of_files(asked.files, asked.packet) if asked.bundle is None else of_bundle(asked.bundle, asked.packet)
    )
    for line in problem_lines(problems):
        click.echo(line, err=True)
    wanted = wanted_of(asked.packet, namespace)
    answer = propose_saved(
        asked.host,
        saved,
        wanted,
        now_s=asked.now_s,
        options=asked.options,
        rule_id=asked.rule_id,
        prove=asked.prove,
    )
    return answer, wanted


@click.command("confirm")
@click.argument("change_id", metavar="[ID]", required=False)
def confirm(change_id: str | None) -> None:
    """Keep a rule that "netdiag firewall allow --apply" has put in and that waits to be confirmed.

    \b
    Example, at another terminal:
      netdiag firewall confirm
    """
    from netdiag.host.change import confirm as keep
    from netdiag.host.change import pending
    from netdiag.report.allow_lines import kept_lines

    waiting = pending()
    if change_id is None and len(waiting) != 1:
        raise UsageError(
            f"several changes wait to be confirmed, name one: {', '.join(waiting)}"
            if waiting
            else "no change waits to be confirmed"
        )
    problems = keep(change_id or waiting[0])
    click.echo("\n".join(kept_lines(change_id or waiting[0], problems)))
    sys.exit(1 if problems else 0)


def _applied(answer: Allow, wanted: Wanted, options: Options, change_id: str, within_s: int) -> Allow:
    """Put the rule in, trace again, and have it confirmed or taken back."""
    from netdiag.host import LocalHost
    from netdiag.host.allow import again
    from netdiag.host.change import Change, State
    from netdiag.report.allow_lines import after_lines, same_place

    assert answer.fix is not None  # noqa: S101 - the caller has seen it
    after: Trace | None = None
    applied = False
    try:
        with Change(answer.fix, change_id=change_id, within_s=within_s) as change:
            change.apply()
            applied = True
            with Progress("following the packet again"):
                after = again(LocalHost(), wanted, answer.before, now_s=time.time(), options=options)
            for line in after_lines(answer.before, after, columns()):
                click.echo(line, err=True)
            if same_place(answer.before, after):
                change.undo()
            else:
                _decide(change, change_id)
    except NetdiagError as error:
        # What was done before is taken back by now.
        return msgspec.structs.replace(answer, reason=str(error), applied=applied, after=after)
    kept = change.state is State.KEPT
    reason = "; ".join(change.problems)
    if not reason and after.verdict is TraceVerdict.UNKNOWN:
        reason = after.reason
    return msgspec.structs.replace(answer, applied=True, after=after, kept=kept, reason=reason)


def _decide(change: Change, change_id: str) -> None:
    """Wait for a yes or a no at the terminal, for a confirmation elsewhere, or for the time to pass."""
    from netdiag.host.change import State

    terminal = sys.stdin.isatty()
    if not terminal:
        text = f"taken back in {change.left_s():.0f} s, unless confirmed: netdiag firewall confirm {change_id}"
        click.echo(text, err=True)
        change.settled()
        return
    click.echo(f"(or at another terminal: netdiag firewall confirm {change_id})", err=True)
    while change.state is State.APPLIED:
        click.echo(f"\r\x1b[Kkeep it? [y/N] ({change.left_s():.0f} s left) ", nl=False, err=True)
        ready, _, _ = select.select([sys.stdin, change], [], [], 1.0)
        if change in ready:
            change.settled()
            click.echo("", err=True)
        elif sys.stdin in ready:
            if sys.stdin.readline().strip().lower() in ("y", "yes"):
                change.keep()
            else:
                change.undo()


def _exit_code(answer: Allow) -> int:
    """0 the packet is let through now, 1 it is not, 3 not known, or the proof that was asked for is not."""
    if answer.proof is not None and not answer.proof.known() and not answer.kept:
        return 3
    last = answer.after if answer.kept and answer.after is not None else answer.before
    if last.verdict is TraceVerdict.UNKNOWN:
        return 3
    return 0 if last.verdict is TraceVerdict.ACCEPT else 1
