"""Meeting a peer: its facts, its clock, and how each of the two hosts reaches the other."""

from __future__ import annotations

import msgspec

from netdiag.checks.context import Context, same_address
from netdiag.checks.context import Options as CheckOptions
from netdiag.facts.context import Context as FactsContext
from netdiag.facts.engine import gather_engine
from netdiag.facts.peer import gather_peer
from netdiag.facts.route_lookup import gather_lookup
from netdiag.facts.swarm_on_disk import gather_joined_on_disk
from netdiag.host.drive import Carrier, drive, drive_all
from netdiag.model.facts import Facts
from netdiag.model.two_sided import ClockOffset, PeerView, Unmet
from netdiag.model.wire import Request

FACTS_S = 4.0
CLOCK_TRIPS = 3


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A peer with the way to its participant.

    Attributes:
        given: As the operator typed it.
        carrier: None where there is none; ``why_not`` says why where one was tried.
        address: Where this host should send to, by the operator's word; empty where that is not known.
        control_port: Where it listens as a manager; None where that is for its engine to say.
        candidates: Managers that were named, address and port: the peer may be one of them.
    """

    given: str
    carrier: Carrier | None
    why_not: str = ""
    address: str = ""
    control_port: int | None = None
    candidates: tuple[tuple[str, int], ...] = ()


class NotMet(msgspec.Struct, frozen=True, kw_only=True):
    """A peer with which nothing can be found out, and why."""

    unmet: Unmet
    why: str

    def view(self, target: Target) -> PeerView:
        """What is told of it."""
        return PeerView(given=target.given, why_not=self.why, unmet=self.unmet)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that answers, and how each of the two reaches the other.

    ``joined_on_disk``: its engine's directory holds the state of a member, or could not be read.
    """

    target: Target
    facts: Facts
    clock: ClockOffset | None
    address: str
    own_address: str
    device: str
    peer_device: str
    mtu_bytes: int
    peer_mtu_bytes: int
    joined_on_disk: bool

    def view(self) -> PeerView:
        """What is known before anything was sent."""
        return PeerView(
            given=self.target.given,
            address=self.address,
            own_address=self.own_address,
            device=self.device,
            peer_device=self.peer_device,
            facts=self.facts,
            clock=self.clock,
        )

    def without(self, not_met: NotMet) -> PeerView:
        """The view of a peer that was met, and with which nothing could be found out all the same."""
        return msgspec.structs.replace(self.view(), why_not=not_met.why, unmet=not_met.unmet)


def meet(target: Target, here: Carrier, own: Facts, *, own_address: str, now_s: float) -> Peer | NotMet:
    """What is to be known of a peer before probes are sent; why not where it cannot be asked.

    Args:
        target: The peer.
        here: This host's participant.
        own: This host's facts.
        own_address: What this host is known by in the swarm; empty for the address that routing uses.
        now_s: Unix time.
    """
    carrier = target.carrier
    if carrier is None:
        if not target.why_not:
            return NotMet(unmet=Unmet.NO_WAY, why="no --via leads to it")
        return NotMet(unmet=Unmet.UNREACHED, why=target.why_not)
    readings = {
        "host": gather_peer(now_s),
        "engine": gather_engine(FactsContext()),
        # Beside the engine, not after it: where the engine does not answer, this is what is left to go by.
        "disk": gather_joined_on_disk(),
    }
    read = drive_all(readings, carrier, FACTS_S)
    facts, engine = read["host"].value, read["engine"].value
    if facts is None or facts.addresses.value is None:
        why = read["host"].error if facts is None else facts.addresses.absent
        return NotMet(unmet=Unmet.UNREAD, why=why.text if why is not None else "it gives no answer")
    if engine is not None:
        facts = msgspec.structs.replace(facts, engine=engine)
    clock = _clock(carrier, here)
    there = Context(facts=facts, options=CheckOptions())
    target = _matched(target, there)
    address = target.address
    if not address:
        # It has addresses of its own to tell: whoever it names would be sent probes.
        return NotMet(unmet=Unmet.UNNAMED, why="no address is known for it here, and what it says itself is not taken")
    mine = Context(facts=own, options=CheckOptions()).own_addresses()
    if any(same_address(address, each) for each in mine) or same_host(facts, address, own, next(iter(mine), "")):
        return NotMet(unmet=Unmet.SAME_HOST, why="it is this host itself")
    out = drive(gather_lookup(address), here)
    own_address = own_address or out.route.source
    if not own_address:
        absent = out.route.absent
        why = f"this host has no way to {address}" + (f": {absent.text}" if absent is not None else "")
        return NotMet(unmet=Unmet.NO_ROUTE, why=why)
    back = drive(gather_lookup(own_address), carrier)
    return Peer(
        target=target,
        facts=facts,
        clock=clock,
        address=address,
        own_address=own_address,
        device=out.route.device,
        peer_device=back.route.device,
        joined_on_disk=read["disk"].value is not False,
        mtu_bytes=out.route.mtu_bytes or out.device_mtu_bytes,
        peer_mtu_bytes=back.route.mtu_bytes or back.device_mtu_bytes,
    )


def same_host(one: Facts, one_address: str, other: Facts, other_address: str) -> bool:
    """Whether two that were met by different names are one host.

    Either has the address that the other was met by, or their addresses are the same, and so is what identifies a boot.
    No one of these says it alone: images are cloned with their ids, and an address may move between hosts.
    """
    left, right = (Context(facts=each, options=CheckOptions()) for each in (one, other))
    ids = [facts.identity.value for facts in (one, other)]
    known = [
        (first, second)
        for name in ("boot_id", "machine_id")
        if (first := getattr(ids[0], name, "")) and (second := getattr(ids[1], name, ""))
    ]
    equal = bool(left.own_addresses()) and set(left.own_addresses()) == set(right.own_addresses())
    crossed = _has(left, other_address) and _has(right, one_address)
    return (equal or crossed) and known[0][0] == known[0][1] if known else equal


def _has(host: Context, address: str) -> bool:
    return any(same_address(address, own) for own in host.local_addresses())


def _matched(target: Target, there: Context) -> Target:
    """The target as the manager that it is, where one of its own addresses is a manager's that was named."""
    for address, port in target.candidates:
        if target.control_port is None and _has(there, address):
            return msgspec.structs.replace(target, address=address, control_port=port)
    return target


def _clock(peer: Carrier, here: Carrier) -> ClockOffset | None:
    """The peer's clock against this host's; the quickest of several round trips bounds the error best."""
    best: ClockOffset | None = None
    request = [Request("clock", {}, 1.0)]
    for _ in range(CLOCK_TRIPS):
        before, there, after = (one.ask(request)[0].data for one in (here, peer, here))
        if before is None or there is None or after is None:
            continue
        # How long it took is taken from the clock that nobody sets.
        trip_s = (after["monotonic_ns"] - before["monotonic_ns"]) / 1e9
        middle_s = before["unix_ns"] / 1e9 + trip_s / 2
        if best is None or trip_s / 2 < best.error_s:
            best = ClockOffset(offset_s=there["unix_ns"] / 1e9 - middle_s, error_s=trip_s / 2, round_trips=CLOCK_TRIPS)
    return best
