"""Who takes part in a diagnosis: hosts are reached when they are first needed, and once."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from netdiag.errors import CarrierError
from netdiag.facts.context import Options
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier
from netdiag.model.engine import Network
from netdiag.model.facts import HOST, Facts
from netdiag.model.found import Found
from netdiag.model.path import End, Side, Way
from netdiag.model.wire import Request
from netdiag.path.ends import Service, node_address, node_name
from netdiag.path.names import host_name, is_address, is_host, is_loopback

SECTIONS = ("identity", "kernel", "engine", "namespaces", "links", "addresses", "neighbours", "fdb", "sockets")

Open = Callable[[str], Carrier]
"""Opens the way to a host, given by its name or address as the operator or the engine calls it."""


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """One host that takes part: its name for the operator, how and with what options it is asked, and its facts.

    ``address`` is the one that the operator typed, or that the name has on this host; empty where that is not known.
    """

    name: str
    address: str = ""
    carrier: Any
    options: Options
    facts: Facts


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """The way, who is at its ends, and its network as each of them knows it.

    Attributes:
        way: The way.
        parties: The hosts that take part; a destination that cannot be asked is not among them.
        networks: The overlay or bridge network of the way.
        service: The service that was named as the destination; the way is to one of its tasks.
        others: More addresses that the destination's name has for the source.
        told: What is to be said of the ends before anything is tried.
        unfit: There is no way, and ``told`` says why: nothing is tried.
    """

    way: Way
    parties: dict[Side, Party]
    networks: dict[Side, Network | None]
    service: Service | None = None
    others: tuple[str, ...] = ()
    told: tuple[Found, ...] = ()
    unfit: bool = False


class Parties:
    """The hosts that take part."""

    def __init__(
        self, local: Carrier, open_peer: Open, now_s: float, options: Options, progress: Callable[[str], None]
    ) -> None:
        self._open, self._progress = open_peer, progress
        self._now_s, self._options = now_s, options
        self._progress("reading this host")
        facts = self._collected(local, "", options)
        self.here = Party(name=host_name(facts) or "this host", carrier=local, options=options, facts=facts)
        self._peers: dict[str, Party] = {}
        self._reached: dict[str, concurrent.futures.Future[tuple[Carrier, Facts]]] = {}

    def reach(self, names: Sequence[str]) -> None:
        """Reach several hosts at the same time; what came of each is told when it is asked for by that name."""
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
            self._reached = {name: pool.submit(self._reach, name) for name in names}

    def facts(self) -> list[Facts]:
        """The facts of all that were reached so far, this host's first."""
        return [party.facts for party in self.reached()]

    def reached(self) -> list[Party]:
        """All that were reached so far, this host first."""
        return [self.here, *self._peers.values()]

    def peer(self, name: str) -> Party:
        """Another host, by its name, its address, or its name in the manager's list of nodes.

        Raises:
            CarrierError: It cannot be reached.
            UsageError: Nothing says how.
        """
        known = self.known(name)
        if known is not None:
            return known
        job = self._reached.pop(name, None)
        carrier, facts = job.result() if job is not None else self._reach(name)
        self._peers[name] = Party(
            name=self._label(name, facts),
            address=self._address(name, facts),
            carrier=carrier,
            options=self._options.elsewhere(),
            facts=facts,
        )
        return self._peers[name]

    def known(self, name: str) -> Party | None:
        """A host that was reached already, this one included: by a name of its own, or by an address that only it has."""
        if name in self._peers:
            return self._peers[name]
        if not is_address(name):
            if is_host(self.here.facts, name):
                return self.here
            return next((party for party in self._peers.values() if party.name == name), None)
        having = [party for party in (self.here, *self._peers.values()) if has_address(party.facts, name)]
        return having[0] if len(having) == 1 else None

    def _reach(self, name: str) -> tuple[Carrier, Facts]:
        self._progress(f"reading {name}")
        try:
            carrier = self._open(name)
        except CarrierError:
            address = node_address(self.facts(), name) if not is_address(name) else ""
            if not address:
                raise
            try:
                carrier = self._open(address)
            except CarrierError as error:
                raise CarrierError(f"{name}: {error}") from None
        return carrier, self._collected(carrier, name, self._options.elsewhere())

    def _collected(self, carrier: Carrier, name: str, options: Options) -> Facts:
        facts = collect(carrier, SECTIONS, now_s=self._now_s, options=options)
        absent = facts.addresses.absent
        if absent is not None:  # nothing could be said of a way that leads there
            raise CarrierError(f"{name or 'this host'}: none of its addresses could be read: {absent.text}")
        return facts

    def _address(self, name: str, facts: Facts) -> str:
        """The host's own address that was typed, or that this host has for the name."""
        if is_address(name):
            return name
        (answer,) = self.here.carrier.ask([Request("resolve", {"name": name}, 2.0)])
        resolved = answer.data["addresses"] if answer.data is not None else ()
        own = [each for each in resolved if has_address(facts, each) and not is_loopback(each)]
        return next(iter(sorted(own, key=lambda each: ":" in each)), "")

    def _label(self, name: str, facts: Facts) -> str:
        """What the operator calls the host: as it was typed; one that only its address named, by its own name."""
        if not is_address(name):
            return name
        own = host_name(facts)
        listed = node_name(self.facts(), name)
        taken = {self.here.name, *(party.name for party in self._peers.values())}
        return next((each for each in (listed, own) if each and each not in taken), name)


def has_address(facts: Facts, address: str) -> bool:
    """Whether a host has an address, in its own namespace."""
    return any(row.cidr.partition("/")[0] == address for row in (facts.addresses.value or {}).get(HOST, ()))


def sender_of(party: Party, end: End) -> dict[str, int]:
    """As whom a packet of an end is sent: the user that was chosen, else that of a container's first process.

    Empty where neither is known: the packet is then netdiag's own.
    """
    if party.options.user is not None:
        return {"as_user": party.options.user[0], "as_group": party.options.user[1]}
    engine = party.facts.engine.value
    rows = engine.containers if engine is not None and end.container else ()
    pid = next((each.pid for each in rows if each.name == end.container and each.running), None)
    return {"as_pid": pid} if pid else {}


def netns_of(facts: Facts, namespace: str) -> str:
    """The path of a namespace; empty for the host's own."""
    if namespace == HOST:
        return ""
    found = (facts.namespaces.value or {}).get(namespace)
    return found.path if found is not None else ""
