"""`netdiag listen`: two hosts that share nothing but a key that somebody carried over.

Either side may listen and either may dial; apart from that one *serves* its participant and the other *asks*. Who
listens makes the key, so it is a full installation; who dials needs the participant's modules alone.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import re
import threading
from collections.abc import Callable, Sequence
from typing import IO, cast

import msgspec

from netdiag.carrier.listener import Listener, Say, is_loopback, own_address_towards
from netdiag.carrier.stream import StreamCarrier
from netdiag.errors import CarrierError, UsageError
from netdiag.participant.channel import Channel, SealedError
from netdiag.participant.guard import Guard
from netdiag.participant.sealed import ASK, SERVE, Key, dial
from netdiag.participant.stream import serve as serve_stream
from netdiag.shell import shell_text

VARIABLE = "NETDIAG_KEY"
CONNECT_S = 10.0
GREET_S = 10.0
LIFETIME_S = 600.0
LIMIT_BYTES = 512 << 20
"""The most that a served host exchanges with its peer: the facts of a large host fit many times."""
_AT_PORT = re.compile(r"(?:\[([^\]]+)\]|([^\[\]]*[^\[\]:])):([0-9]{1,5})")


class Place(msgspec.Struct, frozen=True):
    """Where somebody listens: an address or a name, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Served(msgspec.Struct, frozen=True):
    """What a peer that was let in had from this host."""

    peer: str
    asked: dict[str, int]
    """How often each verb was run."""
    refused: int
    sent_bytes: int
    received_bytes: int
    ended: str
    """Why it ended."""


def place(text: str, option: str) -> Place:
    """``ADDR:PORT``, ``[ADDR]:PORT`` or ``NAME:PORT``. Raises UsageError that names the option."""
    found = _AT_PORT.fullmatch(text)
    if found is None or not 0 < int(found.group(3)) < 65536 or (not found.group(1) and found.group(2).count(":")):
        raise UsageError(f"{option} {text}: give ADDR:PORT, or [ADDR]:PORT for IPv6, as the other host printed it")
    return Place(found.group(1) or found.group(2), int(found.group(3)))


def parse_key(text: str) -> Key:
    """The key as it was pasted. Raises UsageError, which holds nothing of it."""
    try:
        return Key.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def listening_address(*, peer: str | None, bind: str | None, port: int | None, confirm: Callable[[str], bool]) -> str:
    """The address to listen on: nothing listens on one that others reach unless that was asked for.

    Args:
        peer: The other host; the address that leads there is bound unless ``bind`` says otherwise.
        bind: The address that the operator named.
        port: The port that the operator named; naming one is asking, too.
        confirm: Asks the operator a question; False where there is nobody to ask.

    Raises UsageError when it is not known where, or was not asked for.
    """
    if bind is not None:
        try:
            ipaddress.ip_address(bind.partition("%")[0])
        except ValueError:
            raise UsageError(f"--bind {bind}: give an address of this host") from None
        return bind
    if peer is None:
        raise UsageError("nothing listens unless it is said where: give --peer ADDR (the other host) or --bind ADDR")
    address = own_address_towards(peer)
    asked = port is not None or is_loopback(address)
    if asked or confirm(f"Listen on {address}, which other hosts may reach, until the one peer has come?"):
        return address
    raise UsageError(
        f"nothing listens on an address that others reach unless asked: give --bind {address} (it leads to {peer})"
        " or --port N"
    )


def connect(key: Key, where: Place, *, name: str = "") -> StreamCarrier:
    """Dial a host that runs ``netdiag listen``, and ask it. Raises CarrierError."""
    channel = _dialled(key, where, ASK)
    return _carrier(channel, name or where.host)


def await_peer(listener: Listener, seconds: float, *, name: str = "") -> StreamCarrier:
    """Wait for a host that runs ``netdiag listen --dial``, and ask it; the listener has the role ASK.

    Raises CarrierError when nobody comes.
    """
    channel = listener.accept(seconds)
    return _carrier(channel, name or channel.peer)


def open_listen(
    where: str,
    *,
    read_key: Callable[[], Key],
    confirm: Callable[[str], bool],
    show: Callable[[str], None],
    say: Say,
    seconds: float = LIFETIME_S,
) -> StreamCarrier:
    """What follows ``--via listen:``. ``ADDR:PORT`` dials; ``ADDR`` alone listens for that host.

    Args:
        where: As above.
        read_key: Gets the key of the listener that is dialled, from wherever secrets come.
        confirm: As for `listening_address`.
        show: Told the line for the other host, which holds the key, where this side listens.
        say: Told what happens meanwhile.
        seconds: How long to wait for the other host.

    Raises:
        UsageError: A place or a key that cannot be one.
        CarrierError: The other host does not come, or is not the one.
    """
    if not where:
        raise UsageError("--via listen: give listen:ADDR:PORT (as netdiag listen printed it) or listen:ADDR to wait")
    if _AT_PORT.fullmatch(where) and (where.startswith("[") or where.count(":") == 1):
        return connect(read_key(), place(where, "--via listen:"))
    peer = where.strip("[]")
    listener = Listener(listening_address(peer=peer, bind=None, port=None, confirm=confirm), 0, ASK, say)
    show(line_to_serve(listener.key, Place(listener.address, listener.port)))
    return await_peer(listener, seconds)


def line_to_serve(key: Key, where: Place) -> str:
    """What the other host runs when the question is here: it dials and serves."""
    return f"{VARIABLE}={key.text()} {shell_text(['netdiag', 'listen', '--dial', str(where)])}"


def line_to_ask(key: Key, where: Place) -> str:
    """What the other host runs when it has the question: it dials and asks."""
    words = ["netdiag", "diagnose", "SOURCE", "DESTINATION", "--via", f"listen:{where}"]
    return f"{VARIABLE}={key.text()} {shell_text(words)}"


def dial_to_serve(key: Key, where: Place) -> Channel:
    """Dial a host that asks, to be given to `serve`. Raises CarrierError."""
    return _dialled(key, where, SERVE)


def serve(channel: Channel, *, reach: Sequence[str], seconds: float) -> Served:
    """Serve this host's participant until the peer ends, or its time or its bytes are spent.

    ``reach`` are addresses and networks that packets may be exchanged with beside this host's and the peer's.
    """
    guard = Guard(channel.peer, reach)
    channel.limit_bytes = LIMIT_BYTES
    timer = threading.Timer(seconds, channel.close)
    timer.daemon = True
    timer.start()
    try:
        serve_stream(channel, guard.answer)
        if channel.received_bytes + channel.sent_bytes > LIMIT_BYTES:
            ended = f"more than {LIMIT_BYTES >> 20} MiB were exchanged"
        else:
            ended = "the peer has ended" if timer.is_alive() else f"{seconds:g} s are over"
    finally:
        timer.cancel()
        channel.close()
    return Served(
        peer=channel.peer,
        asked=dict(guard.asked),
        refused=guard.refused,
        sent_bytes=channel.sent_bytes,
        received_bytes=channel.received_bytes,
        ended=ended,
    )


def checked_reach(values: Sequence[str]) -> tuple[str, ...]:
    """Addresses and networks. Raises UsageError."""
    for text in values:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise UsageError(f"--reach {text}: give an address or a network (10.9.0.5, 10.9.0.0/24)") from None
    return tuple(values)


def _dialled(key: Key, where: Place, role: str) -> Channel:
    try:
        return dial(where.host, where.port, key, role, CONNECT_S)
    except SealedError as error:
        raise CarrierError(f"{where}: {error}") from None


class _Received(io.RawIOBase):
    """A channel's data as a raw stream."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        while True:
            data = self._channel.receive(len(view), 60.0)
            if data is not None:
                view[: len(data)] = data
                return len(data)


class _Sent(io.RawIOBase):
    """What is written goes out at once, whole."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        packed = bytes(cast("bytes", data))
        self._channel.send(packed)
        return len(packed)


def _carrier(channel: Channel, name: str) -> StreamCarrier:
    source = cast("IO[bytes]", io.BufferedReader(_Received(channel), 1 << 16))
    target = cast("IO[bytes]", _Sent(channel))
    try:
        return StreamCarrier(name, source, target, greet_s=GREET_S, close=channel.close)
    except CarrierError:
        with contextlib.suppress(OSError):
            channel.close()
        raise
