"""``netdiag listen``: let one peer, who was given a key, ask this host's participant."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import click

from netdiag.carrier.listen import LIFETIME_S
from netdiag.errors import UsageError

_MOST_S = 24 * 3600


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--peer", metavar="ADDR", help="The other host; the address of this host that leads to it is bound.")
@click.option("--bind", metavar="ADDR", help="Listen on this address of this host.")
@click.option("--port", type=click.IntRange(1, 65535), help="Listen on this port  [default: any that is free]")
@click.option("--dial", metavar="ADDR:PORT", help="Do not listen: connect to the host that does.")
@click.option("--key-file", metavar="FILE", help="With --dial: where the key is (- for standard input).")
@click.option("--reach", metavar="ADDR", multiple=True, help="Packets may go to this address or network, too.")
@click.option(
    "--for",
    "seconds",
    type=click.IntRange(1, _MOST_S),
    default=int(LIFETIME_S),
    show_default=True,
    help="End after so many seconds.",
)
def listen(
    peer: str | None,
    bind: str | None,
    port: int | None,
    dial: str | None,
    key_file: str | None,
    reach: tuple[str, ...],
    seconds: int,
) -> None:
    """Let one other host, which is given a one-time key, ask this one; with no ssh between them.

    It prints the line to run on the other host. Exactly one peer that knows the key is let in; it may read what
    netdiag reads and have probes sent, but only to itself, to this host and inside its containers' networks. Ctrl-C
    ends it.

    The question may be on this host, too: then run netdiag diagnose … --via listen:ADDR here, and the line that it
    prints (netdiag listen --dial …) on the other.

    \b
    Examples:
      netdiag listen --peer 192.0.2.10
      netdiag listen --bind 192.0.2.11 --port 4444
      netdiag listen --dial 192.0.2.11:4444       (asks for the key)
    """
    from netdiag.cli import listen_run

    if dial is not None:
        given = [name for name, value in (("--peer", peer), ("--bind", bind), ("--port", port)) if value is not None]
        if given:
            raise UsageError(f"--dial and {given[0]} were both given: this host either dials or listens")
        code = listen_run.dial_out(dial, key_file=key_file, reach=reach, seconds=seconds)
    else:
        if key_file is not None:
            raise UsageError("--key-file goes with --dial: who listens makes the key")
        code = listen_run.wait_for_peer(peer=peer, bind=bind, port=port, reach=reach, seconds=seconds)
    click.get_current_context().exit(code)
