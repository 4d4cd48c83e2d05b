"""What the two ends mean: a host, a container on whichever host it is, a service, or an address outside.

What a container calls by a name is what the name is for it: its own resolver is asked first, and then whose the address
is. Names that only an engine knows point at an end as well; that no program in the source could use them is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.errors import CarrierError, NoSuchHost, NoWay, UsageError
from netdiag.facts.name_lookup import NameLookup, gather_name
from netdiag.facts.rounds import together
from netdiag.host.diagnose_parties import Parties, Party, has_address, netns_of
from netdiag.host.drive import drive
from netdiag.model.engine import Container, OverlayTask
from netdiag.model.facts import Facts
from netdiag.model.found import Found
from netdiag.model.path import End
from netdiag.model.report import State, Subject
from netdiag.model.wire import Request
from netdiag.path.ends import (
    Service,
    address_of,
    find_service,
    find_task,
    node_address,
    service_by_name_server,
)
from netdiag.path.entries import host_behind
from netdiag.path.idle_services import idle_cause, idle_found
from netdiag.path.meant import addresses_called, attached_at, is_held, why_nameless
from netdiag.path.names import Typed, find_container, is_address, is_host, is_loopback, shares_host, unknown_name
from netdiag.path.told import is_wrong, name_found, shares_host_found
from netdiag.path.ways import namespace_of


class Meant(msgspec.Struct, frozen=True, kw_only=True):
    """What a destination means; nobody at all where it has neither party nor address nor service, as ``told`` says.

    Attributes:
        party: Its host; None for one that takes no part.
        container: The container; None for a host.
        address: The address that was typed, or that the name has for the source; empty where neither.
        others: More addresses that the name has.
        service: The service that was named.
        nameless: It was found by a name that no program in the source can use.
        itself: It is the source, by its loopback device.
        told: What is to be said of it.
    """

    party: Party | None = None
    container: Container | None = None
    address: str = ""
    others: tuple[str, ...] = ()
    service: Service | None = None
    nameless: bool = False
    itself: bool = False
    told: tuple[Found, ...] = ()


class Ends:
    """Finds out what was meant, and reaches the hosts that this needs."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        self._answers: dict[tuple[str, str], NameLookup] = {}
        """What names were for containers, by the container's id: a server that does not answer is waited for once."""

    def source(self, typed: Typed) -> tuple[Party, Container | None, tuple[Found, ...]]:
        """Where the flow begins, and what is to be said of it.

        Raises UsageError for what is none, CarrierError for a host that cannot be reached.
        """
        party, container = self._source(typed)
        if container is not None and shares_host(container):
            return party, None, (shares_host_found(party.name, container),)
        return party, container, ()

    def _source(self, typed: Typed) -> tuple[Party, Container | None]:
        here = self._parties.here
        if typed.host:
            party = here if is_host(here.facts, typed.host) else self._parties.peer(typed.host)
            return party, self._container(party, typed, "SOURCE")
        if is_host(here.facts, typed.name):
            return here, None
        own = find_container(here.facts, typed.name)
        if own is not None:
            return here, own
        task = self._one_task(here, None, typed.name, "SOURCE")
        if task is not None:
            return self._at(task, "SOURCE")
        behind = host_behind(here.facts, typed.name)
        if behind:
            return self._on(behind, typed.name, "SOURCE")
        return self._host(typed, "SOURCE"), None

    def destination(self, first: Party, begin: Container | None, typed: Typed) -> Meant:
        """Where it should end, as the source knows it."""
        if typed.host:
            party = first if is_host(first.facts, typed.host) else self._parties.peer(typed.host)
            container = self._container(party, typed, "DESTINATION")
            return _meant(party, container, typed.name if is_address(typed.name) else "")
        if begin is not None and is_loopback(typed.name):
            return Meant(party=first, container=begin, address=typed.name, itself=True)
        if is_address(typed.name):
            return self._at_address(first, begin, typed, typed.name)
        if begin is not None:
            return self._by_name(first, begin, typed)
        return self._by_name_of_host(first, typed)

    def behind(self, task: OverlayTask) -> tuple[Party, Container]:
        """The host and container of a service's task."""
        return self._at(task, "DESTINATION")

    # --- from an address to an end ---

    def _at_address(self, first: Party, begin: Container | None, typed: Typed, address: str) -> Meant:
        """Whose an address is for the source: its own networks' first, then hosts', then behind another host."""
        own = attached_at(first.facts, begin, address)
        if own is not None:
            return _meant(first, own, address)
        service = find_service(self._views(first), begin, address)
        if service is not None:
            found = self._service(first, begin, msgspec.structs.replace(typed, name=address), service)
            if found is not None:
                return found
        task = self._one_task(first, begin, address, "DESTINATION")
        if task is not None:
            return _meant(*self._at(task, "DESTINATION"), address)
        if is_host(first.facts, address):
            return Meant(party=first, address=address)
        own = find_container(first.facts, address)
        if own is not None:
            return _meant(first, own, address)
        for party in self._parties.reached():
            there = attached_at(party.facts, begin, address) if begin is not None and party is not first else None
            if there is not None:
                return _meant(party, there, address)
        behind = host_behind(first.facts, address)
        if behind:
            return _meant(*self._on(behind, address, "DESTINATION"), address)
        # A name that a container has for somebody is no name of a host, unless it is a whole one.
        known = typed.name if begin is None or "." in typed.name else address
        return self._address(typed.name, known, address)

    def _by_name(self, first: Party, begin: Container, typed: Typed) -> Meant:
        """What a name is for a container: its resolver is asked, and what an engine knows stands in for a wrong answer."""
        name, end = typed.name, _end(first, begin)
        service = find_service(self._views(first), begin, name)
        if service is not None or self._may_be_service(first, begin, name):
            found = self._service(first, begin, typed, service)
            if found is not None:
                return found
        lookup = self._lookup(first, begin, name)
        known = addresses_called(self._views(first), begin, name)
        wrong = is_wrong(lookup, known) and not is_held(first.facts, begin, lookup)
        if lookup.addresses and not wrong:
            address = next((each for each in lookup.addresses if each in known), lookup.addresses[0])
            meant = self._at_address(first, begin, typed, address)
            # A right answer to a name that an engine knows needs no words; of another it is news.
            told = () if known else (name_found(end, lookup, ()),)
            others = tuple(each for each in lookup.addresses if each != address)
            return msgspec.structs.replace(meant, others=others, told=(*meant.told, *told))
        if known:
            meant = self._at_address(first, begin, typed, known[0])
            told = () if lookup.unasked else (name_found(end, lookup, known),)
            return msgspec.structs.replace(meant, told=(*meant.told, *told))
        return self._pointed_at(first, begin, typed, lookup)

    def _pointed_at(self, first: Party, begin: Container, typed: Typed, lookup: NameLookup) -> Meant:
        """An end of whose name the source's resolver knows nothing: an idle service, a container elsewhere, or a host."""
        name, end = typed.name, _end(first, begin)
        idle = self._idle(name)
        if idle is not None:
            return idle
        own = find_container(first.facts, name)
        task = self._one_task(first, begin, name, "DESTINATION") if own is None else None
        if own is not None or task is not None:
            party, container = (first, own) if task is None else self._at(task, "DESTINATION")
            meant = _meant(party, container, address_of(task) if task is not None else "")
            # An id, or the beginning of a task's name, is nothing that a program would call.
            exact = container is not None and container.name == name and meant.container is not None
            if not exact or container is None or lookup.unasked:
                return meant
            has = [each.address for each in container.networks if each.address]
            found = name_found(end, lookup, has, why=why_nameless(begin, container))
            return msgspec.structs.replace(meant, nameless=True, told=(*meant.told, found))
        if is_host(first.facts, name):
            return Meant(party=first)
        if node_address(self._parties.facts(), name) or self._parties.known(name) is not None:
            return Meant(party=self._parties.peer(name))
        # A whole name is what a program calls; a short one may be a host's that the operator alone has a way to.
        if not lookup.unasked and "." in name:
            return Meant(told=(name_found(end, lookup, ()),))
        return Meant(party=self._host(typed, "DESTINATION"))

    def _by_name_of_host(self, first: Party, typed: Typed) -> Meant:
        """What a name means where a host is the source: an engine's names, hosts, and whatever the host's resolver says."""
        name = typed.name
        self._one_task(first, None, name, "DESTINATION")  # raises for a service
        own = find_container(first.facts, name)
        if own is not None:
            return _meant(first, own, "")
        task = self._one_task(first, None, name, "DESTINATION")
        if task is not None:
            return _meant(*self._at(task, "DESTINATION"), "")
        if is_host(first.facts, name):
            return Meant(party=first)
        if node_address(self._parties.facts(), name) or self._parties.known(name) is not None:
            return Meant(party=self._parties.peer(name))
        lookup = self._resolved(first, name)
        if not lookup.addresses:
            return Meant(party=self._host(typed, "DESTINATION"))
        meant = self._at_address(first, None, typed, lookup.addresses[0])
        return msgspec.structs.replace(meant, others=lookup.addresses[1:])

    # --- containers, tasks and services ---

    def _container(self, party: Party, typed: Typed, what: str) -> Container | None:
        if is_host(party.facts, typed.name) or typed.host == typed.name:
            return None
        found = find_container(party.facts, typed.name)
        if found is None:
            raise unknown_name(typed.name, what, [party.facts])
        return found

    def _one_task(self, party: Party, begin: Container | None, name: str, what: str) -> OverlayTask | None:
        service = find_service(self._views(party), None, name) if begin is None else None
        if service is None:
            return find_task(self._views(party), begin, name)
        if what == "DESTINATION" or not service.tasks:
            raise UsageError(
                f"{what} {name!r} is a service: a host does not reach it by that name; name its published port"
                " (HOST:PORT), one of its tasks, or begin at a container of its network"
            )
        if len(service.tasks) > 1:
            names = ", ".join(sorted(each.name for each in service.tasks)[:8])
            raise UsageError(f"{what} {name!r} fits {names}: name one of them")
        return service.tasks[0]

    def _at(self, task: OverlayTask, what: str) -> tuple[Party, Container]:
        return self._on(task.host_address, address_of(task), what)

    def _on(self, host_address: str, container_address: str, what: str) -> tuple[Party, Container]:
        here = self._parties.here
        party = here if has_address(here.facts, host_address) else self._parties.peer(host_address)
        found = find_container(party.facts, container_address)
        if found is None:
            raise unknown_name(container_address, what, [party.facts])
        return party, found

    def _service(self, first: Party, begin: Container | None, typed: Typed, service: Service | None) -> Meant | None:
        """A service as the source sees it; None for a name that is none.

        A host that is no manager, with an engine that must not be asked for more, knows a service's tasks only by the
        engine's name server.
        """
        if begin is None:
            self._one_task(first, None, typed.name, "DESTINATION")
            return None
        if is_address(typed.name) and service is not None and service.tasks:
            return Meant(service=service)
        bare = typed.name.removeprefix("tasks.")
        if service is not None:
            bare = service.name
        lookup, tasks = self._lookups(first, begin, [typed.name, f"tasks.{bare}"])
        told: tuple[Found, ...] = ()
        heard = service_by_name_server(first.facts, begin, typed.name, lookup.addresses, tasks.addresses)
        if service is None:
            service = heard
        elif heard is not None:
            service = msgspec.structs.replace(
                service,
                tasks=service.tasks or heard.tasks,
                virtual_address=service.virtual_address or heard.virtual_address,
            )
        if service is None:
            return None
        if not service.tasks:
            ended = self._idle(service.name) or self._ended(service.name)
            if ended is None:
                raise UsageError(f"DESTINATION {typed.text!r}: the service {service.name} has no task that runs")
            return ended
        if not is_address(typed.name):
            addresses = [address_of(task) for task in service.tasks]
            expected = [service.virtual_address] if service.virtual_address else addresses
            told = (name_found(_end(first, begin), lookup, expected),)
        return Meant(service=service, told=told)

    def _idle(self, service: str) -> Meant | None:
        """A service of which a manager among the hosts that were reached says that no task runs."""
        for party in self._parties.reached():
            one = idle_cause(party.facts, party.name, service)
            if one is not None:
                return Meant(told=(idle_found(one),))
        return None

    def _ended(self, service: str) -> Meant | None:
        """A container of a service that has ended, on a host that was reached; None where none is known."""
        for party in self._parties.reached():
            engine = party.facts.engine.value
            for each in engine.containers if engine is not None else ():
                if each.service == service and not each.running:
                    return Meant(party=party, container=each)
        return None

    def _may_be_service(self, first: Party, begin: Container, name: str) -> bool:
        """Whether a name that this engine knows no service of may be one: nobody else's on the source's networks."""
        if is_host(first.facts, name) or node_address(self._parties.facts(), name):
            return False
        # A task's name, SERVICE.NUMBER, has a dot and a service's has none: the engine would ask resolvers outside.
        if "." in name and find_task(self._views(first), begin, name) is not None:
            return False
        return not addresses_called([first.facts], begin, name)

    def _views(self, party: Party) -> list[Facts]:
        """What all hosts know that were reached, one host's first."""
        return [party.facts, *(facts for facts in self._parties.facts() if facts is not party.facts)]

    # --- hosts and addresses ---

    def _host(self, typed: Typed, what: str) -> Party:
        facts = self._parties.facts()
        if not (is_address(typed.name) or "." in typed.name or node_address(facts, typed.name)):
            try:
                return self._parties.peer(typed.name)
            except (NoSuchHost, NoWay):
                raise unknown_name(typed.name, what, facts) from None
        return self._parties.peer(typed.name)

    def _address(self, label: str, known: str, address: str) -> Meant:
        """A host by its address. One that cannot be asked is seen from this side only."""
        try:
            return Meant(party=self._parties.peer(known), address=address)
        except (CarrierError, UsageError) as error:
            told = Found(
                check="path.ends",
                state=State.SKIP,
                subject=Subject(peer=label),
                summary=f"{label} takes no part: what happens there is not seen",
                reason=str(error),
            )
            return Meant(address=address, told=(told,))

    def _resolved(self, first: Party, name: str) -> NameLookup:
        """What a host itself makes of a name."""
        (answer,) = first.carrier.ask([Request("resolve", {"name": name}, 2.0)])
        found = tuple(answer.data["addresses"]) if answer.data is not None else ()
        four = tuple(sorted(found, key=lambda each: ":" in each))
        return NameLookup(name=name, addresses=four, error=answer.error.text if answer.error is not None else "")

    def _lookup(self, first: Party, begin: Container, name: str) -> NameLookup:
        return self._lookups(first, begin, [name])[0]

    def _lookups(self, first: Party, begin: Container, names: Sequence[str]) -> list[NameLookup]:
        """Several names at once, as a container resolves them."""
        if begin.pid is None:
            return [NameLookup(name=name, error=f"{begin.name} does not run", unasked=True) for name in names]
        netns = netns_of(first.facts, namespace_of(first.facts, begin))
        new = [name for name in names if (begin.id, name) not in self._answers]
        gathers = [gather_name(name, pid=begin.pid, netns=netns) for name in new]
        for name, lookup in zip(new, drive(together(gathers), first.carrier) if new else (), strict=True):
            self._answers[begin.id, name] = lookup
        return [self._answers[begin.id, name] for name in names]


def _meant(party: Party, container: Container | None, address: str) -> Meant:
    """A container of a host; one that runs in its host's own namespace is the host."""
    if container is not None and shares_host(container):
        return Meant(party=party, told=(shares_host_found(party.name, container),))
    return Meant(party=party, container=container, address=address)


def _end(party: Party, container: Container) -> End:
    return End(host=party.name, container=container.name, address="")
