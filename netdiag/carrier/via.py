"""How a peer is reached, as the operator says it with ``--via``, and the one place where ways are opened.

A new way is one row of `WAYS`: its name, what may follow, and a function that opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from types import TracebackType
from typing import Protocol, Self

import msgspec

from netdiag.errors import CarrierError, UsageError
from netdiag.host.drive import Carrier

AT_ONCE = 32
"""Ways that are opened side by side: each is a process of its own here."""


class PeerCarrier(Carrier, Protocol):
    """A carrier to another host, which must be closed."""

    name: str
    """The host, as the operator called it."""
    is_root: bool
    """Whether rules can be traced and other namespaces seen there."""
    restriction: str
    """What cannot be asked there and why, in one line for the operator; empty when everything can."""

    @property
    def lost(self) -> str:
        """Why nothing more can be asked there; empty as long as it can."""

    def close(self) -> None:
        """End it, and with it whatever runs on the other host for it. Never raises, may be called again."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class Via(msgspec.Struct, frozen=True):
    """One ``--via``: a way, and to whom."""

    way: str
    """A name of `WAYS`."""
    where: str = ""
    """What followed the colon; empty for the peer's own name or address."""
    peer: str = ""
    """The peer that it is for; empty for every peer that has none of its own."""

    def __str__(self) -> str:
        where = self.where if "://" in self.where else f"{self.way}:{self.where}" if self.where else self.way
        return f"{self.peer}={where}" if self.peer else where


class Way(msgspec.Struct, frozen=True):
    """A row of `WAYS`."""

    form: str
    """How it is written."""
    check: Callable[[str], object]
    """Raises UsageError for a text after the colon that cannot be one."""
    open: Callable[[str, str], PeerCarrier]
    """Opens it: where to, and what the host is called. Raises CarrierError or UsageError."""
    host: Callable[[str, str], str]
    """Whom it leads to, as the operator's own configuration has it; empty when that does not say."""


def _check_ssh(where: str) -> None:
    from netdiag.carrier.ssh import parse_destination

    parse_destination(f"{where}host" if where.endswith("@") else where)


def _open_ssh(where: str, peer: str) -> PeerCarrier:
    from netdiag.carrier.ssh import connect

    return connect(_ssh_destination(where, peer), name=peer)


def _ssh_destination(where: str, peer: str) -> str:
    return f"{where}{peer}" if where.endswith("@") or not where else where


def _ssh_host(where: str, peer: str) -> str:
    from netdiag.carrier.ssh import configured_host

    return configured_host(_ssh_destination(where, peer))


def _check_listen(where: str) -> None:
    if where.isspace() or "/" in where:
        raise UsageError(f"--via listen:{where}: give listen:ADDR:PORT (as netdiag listen printed it) or listen:ADDR")


def _open_listen(where: str, peer: str) -> PeerCarrier:
    """It asks for a key and shows a line to carry over by hand: only a command with a terminal opens it."""
    raise UsageError(f"--via listen:{where} for {peer}: only netdiag diagnose takes it")


WAYS: Mapping[str, Way] = {
    "ssh": Way("ssh[:USER@HOST]", _check_ssh, _open_ssh, _ssh_host),
    "listen": Way("listen:ADDR[:PORT]", _check_listen, _open_listen, lambda _where, _peer: ""),
}
"""Every way to another host's participant. ``ssh:USER@`` is that user at the peer's own name or address."""


def parse_via(text: str) -> Via:
    """``WAY[:WHERE]``, ``ssh://[USER@]HOST[:PORT]``, or one of them for one peer: ``PEER=WAY[:WHERE]``.

    Raises UsageError that names the text and says what is accepted.
    """
    peer, equals, rest = text.partition("=")
    if not equals or (peer.partition(":")[0] in WAYS and ":" in peer):
        peer, equals, rest = "", "", text
    way, colon, where = rest.partition(":")
    if way not in WAYS or (equals and not peer) or (colon and not where):
        near = get_close_matches(way, WAYS, n=1)
        hint = f" (did you mean {near[0]}?)" if near and way not in WAYS else ""
        forms = ", ".join(each.form for each in WAYS.values())
        raise UsageError(f"--via {text}{hint}: give {forms}, for one of several peers PEER={forms}")
    if where.startswith("//"):
        where = rest
    if where:
        WAYS[way].check(where)
    return Via(way, where, peer)


def vias_for(peers: Sequence[str], given: Sequence[Via]) -> dict[str, Via]:
    """Which way leads to each peer that has one; a peer that none is given for is left out.

    Raises UsageError for two ways to one peer, a way to a peer that is none, and one destination for several peers.
    """
    own: dict[str, Via] = {}
    for via in given:
        if via.peer and via.peer not in peers:
            near = get_close_matches(via.peer, peers, n=1) or list(peers)
            raise UsageError(f"--via {via}: {via.peer} is no peer here; there is {', '.join(near) or 'none'}")
        if via.peer in own:
            raise UsageError(f"--via {own[via.peer]} and --via {via}: give one for each peer")
        own[via.peer] = via
    common = own.pop("", None)
    rest = [peer for peer in peers if peer not in own]
    if common is not None and common.where and not common.where.endswith("@") and len(rest) > 1:
        raise UsageError(f"--via {common} leads to one host, and there are {', '.join(rest)}: write PEER={common}")
    return {peer: found for peer in peers if (found := own.get(peer, common)) is not None}


def open_carrier(via: Via, peer: str) -> PeerCarrier:
    """The way to one peer, called as the operator calls it. Raises CarrierError or UsageError, each one line."""
    return WAYS[via.way].open(via.where, peer)


def host_of(via: Via, peer: str) -> str:
    """Whom a way leads to, by name or address, without asking anybody; empty when that is not known."""
    return WAYS[via.way].host(via.where, peer)


class Peers:
    """The ways to several peers, opened side by side; all of them are closed at the end of the block."""

    def __init__(self, vias: Mapping[str, Via]) -> None:
        """Open them all; `failed` says which did not come about. Raises UsageError where one cannot be tried at all."""
        self.carriers: dict[str, PeerCarrier] = {}
        """Those that are open, by the peer's name."""
        self.failed: dict[str, CarrierError] = {}
        """Why the others are not."""
        if not vias:
            return
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(vias))) as pool:
            jobs = {peer: pool.submit(open_carrier, via, peer) for peer, via in vias.items()}
        wrong: UsageError | None = None
        for peer, job in jobs.items():
            try:
                self.carriers[peer] = job.result()
            except CarrierError as error:
                self.failed[peer] = error
            except UsageError as error:
                wrong = error
        if wrong is not None:
            self.close()
            raise wrong

    def close(self) -> None:
        """Close all of them, side by side: one that is stuck costs the others nothing."""
        if self.carriers:
            with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(self.carriers))) as pool:
                list(pool.map(lambda carrier: carrier.close(), self.carriers.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
