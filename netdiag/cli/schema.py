"""``netdiag schema``: the JSON schema of a document that netdiag writes."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import inspect

import click

from netdiag.errors import UsageError


@click.command()
@click.argument("document", metavar="NAME")
@click.option("--markdown", is_flag=True, help="With participant: its page of the reference, verbs included.")
def schema(document: str, markdown: bool) -> None:
    """Print the JSON schema of a document that netdiag writes.

    NAME is facts, report, trace, explain, allow, firewall-diff, firewall-show, firewall-lint, clean or plan; or
    participant, for the lines of its stream.

    \b
    Examples:
      netdiag schema report > report.schema.json
      netdiag schema participant
    """
    from netdiag.report.schema import NAMES, PARTICIPANT
    from netdiag.report.schema import schema as make

    if document not in NAMES:
        raise UsageError(f"no document is called {document!r}; there are {', '.join(NAMES)}")
    if markdown and document != PARTICIPANT:
        raise UsageError(f"--markdown goes with {PARTICIPANT}")
    click.echo(participant_page() if markdown else make(document), nl=False)


def participant_page() -> str:
    """``docs/reference/participant.md``, from the verbs' docstrings and the numbers of both sides."""
    from netdiag.carrier import stream as near
    from netdiag.participant import stream as far
    from netdiag.participant.commands import LEADING, READ_ONLY_COMMANDS
    from netdiag.participant.verbs import DEFAULT_TIMEOUT_S, VERBS
    from netdiag.report.participant_page import Limits, markdown

    limits = Limits(
        idle_s=far.IDLE_S,
        ping_s=near.PING_S,
        request_bytes=far.LIMIT_BYTES,
        at_once=far.MOST_AT_ONCE,
        answer_bytes=near.LIMIT_BYTES,
        answer_values=near.LIMIT_VALUES,
        latency_s=near.LATENCY_S,
        default_timeout_s=DEFAULT_TIMEOUT_S,
    )
    verbs = {name: inspect.getdoc(verb) or "" for name, verb in VERBS.items()}
    commands = [(" ".join(words), exact is LEADING, module) for words, exact, module in READ_ONLY_COMMANDS]
    return markdown(verbs, commands, limits)
