"""What `netdiag listen` does once its options are read."""

from __future__ import annotations

import ipaddress
import sys
import time

import click

from netdiag.carrier import listen as carrier
from netdiag.carrier.listener import Listener, own_address_towards
from netdiag.cli.key_input import read_key
from netdiag.errors import CarrierError, UsageError
from netdiag.participant.channel import Channel
from netdiag.participant.sealed import SERVE

_REFUSED = 1


def wait_for_peer(*, peer: str | None, bind: str | None, port: int | None, reach: tuple[str, ...], seconds: int) -> int:
    """Listen, print the line for the other host, and serve the one that comes. Returns the exit code."""
    end_s = time.monotonic() + seconds
    reach = carrier.checked_reach(reach)
    address = carrier.listening_address(peer=peer, bind=bind, port=port, confirm=confirm)
    shown = _to_dial(address, peer)
    listener = Listener(address, port or 0, SERVE, say)
    where = carrier.Place(shown, listener.port)
    say(f"listening on {where} for {seconds} s; Ctrl-C ends it. Run this on the other host:")
    show(carrier.line_to_ask(listener.key, where))
    try:
        channel = listener.accept(seconds)
    except CarrierError as error:
        say(f"{error}; if the other host could not connect, this port may be filtered: name an open one with --port")
        return _REFUSED
    return _serve(channel, reach, end_s)


def dial_out(dial: str, *, key_file: str | None, reach: tuple[str, ...], seconds: int) -> int:
    """Connect to a host that asks, and serve it. Returns the exit code."""
    end_s = time.monotonic() + seconds
    reach = carrier.checked_reach(reach)
    where = carrier.place(dial, "--dial")
    key = read_key(key_file)
    try:
        channel = carrier.dial_to_serve(key, where)
    except CarrierError as error:
        say(str(error))
        return _REFUSED
    return _serve(channel, reach, end_s)


def say(text: str) -> None:
    """Tell the operator what happens."""
    click.echo(f"netdiag: {text}", err=True)


def show(line: str) -> None:
    """The line for the other host: the one place where the key is ever written."""
    click.echo(line)


def confirm(question: str) -> bool:
    """Ask at the terminal; no where there is none."""
    return sys.stdin.isatty() and click.confirm(question, default=True, err=True)


def _to_dial(address: str, peer: str | None) -> str:
    """What the other host dials when ``address`` is bound."""
    if not ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        return address
    if peer is None:
        raise UsageError(f"--bind {address}: give --peer ADDR as well, for the address that the other host is to dial")
    return own_address_towards(peer)


def _serve(channel: Channel, reach: tuple[str, ...], end_s: float) -> int:
    say(f"{channel.peer} has proven that it knows the key; it asks from now on, and nobody else is let in")
    served = carrier.serve(channel, reach=reach, seconds=max(1.0, end_s - time.monotonic()))
    count = sum(served.asked.values())
    size = f"{served.sent_bytes / 1024:.0f} KiB sent"
    refused = f", {served.refused} refused" if served.refused else ""
    say(f"ended: {served.ended}; {count} requests answered{refused}, {size}")
    return 0
