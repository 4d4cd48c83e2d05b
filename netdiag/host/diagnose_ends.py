"""What the two ends mean: a host, a container on whichever host it is, a service, or an address outside."""

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
    tasks_on,
)
from netdiag.path.entries import host_behind
from netdiag.path.names import Typed, find_container, is_address, is_host, unknown_name
from netdiag.path.told import is_wrong, name_found
from netdiag.path.ways import namespace_of


class Meant(msgspec.Struct, frozen=True, kw_only=True):
    """What a destination means.

    Attributes:
        party: Its host; None for one that takes no part.
        container: The container; None for a host.
        address: The address that was typed, or that the name has for the source; empty where neither.
        service: The service that was named.
        told: What is to be said of it.
    """

    party: Party | None = None
    container: Container | None = None
    address: str = ""
    service: Service | None = None
    told: tuple[Found, ...] = ()


class Ends:
    """Finds out what was meant, and reaches the hosts that this needs."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties

    def source(self, typed: Typed) -> tuple[Party, Container | None]:
        """Where the flow begins. Raises UsageError for what is none, CarrierError for a host that cannot be reached."""
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
            named = container is None and is_address(typed.name)
            return Meant(party=party, container=container, address=typed.name if named else "")
        service = find_service(self._views(first), begin, typed.name)
        if service is not None or (begin is not None and self._may_be_service(first, begin, typed.name)):
            found = self._service(first, begin, typed, service)
            if found is not None:
                return found
        own = find_container(first.facts, typed.name)
        if own is not None:
            return Meant(party=first, container=own, told=self._told(first, begin, typed.name, own.name))
        task = self._one_task(first, begin, typed.name, "DESTINATION")
        if task is not None:
            party, container = self._at(task, "DESTINATION")
            return Meant(party=party, container=container, told=self._told(first, begin, typed.name, task.name))
        behind = host_behind(first.facts, typed.name)
        if behind:
            party, container = self._on(behind, typed.name, "DESTINATION")
            return Meant(party=party, container=container)
        if is_host(first.facts, typed.name):
            return Meant(party=first, address=typed.name if is_address(typed.name) else "")
        if is_address(typed.name):
            return self._address(typed.name, typed.name)
        return self._named(first, begin, typed)

    def behind(self, task: OverlayTask) -> tuple[Party, Container]:
        """The host and container of a service's task."""
        return self._at(task, "DESTINATION")

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
            ended = self._ended(service.name)
            if ended is None:
                raise UsageError(f"DESTINATION {typed.text!r}: the service {service.name} has no task that runs")
            return ended
        if not is_address(typed.name):
            addresses = [address_of(task) for task in service.tasks]
            expected = [service.virtual_address] if service.virtual_address else addresses
            told = (name_found(_end(first, begin), lookup, expected),)
        return Meant(service=service, told=told)

    def _ended(self, service: str) -> Meant | None:
        """A container of a service that has ended, on a host that was reached; None where none is known."""
        for party in self._parties.reached():
            engine = party.facts.engine.value
            for each in engine.containers if engine is not None else ():
                if each.service == service and not each.running:
                    return Meant(party=party, container=each)
        return None

    def _may_be_service(self, first: Party, begin: Container, name: str) -> bool:
        """Whether a name that this engine knows no service of may be one: no address, and nobody else's."""
        if is_address(name) or is_host(first.facts, name) or node_address(self._parties.facts(), name):
            return False
        # A task's name, SERVICE.NUMBER, has a dot and a service's has none: the engine would ask resolvers outside.
        if "." in name and find_task(self._views(first), begin, name) is not None:
            return False
        engine = first.facts.engine.value
        return not any(own.name == name for own in (engine.containers if engine is not None else ()))

    def _told(self, first: Party, begin: Container | None, name: str, of: str) -> tuple[Found, ...]:
        """What the source's resolver makes of a name that is one for it: of a container on a network of its own."""
        if begin is None or is_address(name):
            return ()
        tasks = [task for each in begin.networks for task in self._network_tasks(first, each.network_id)]
        expected = [address_of(task) for task in tasks if task.name == of == name]
        if not expected:
            return ()
        lookup = self._lookup(first, begin, name)
        # A right answer to a name that was typed needs no words; a wrong one is why the user's own attempt fails.
        return (name_found(_end(first, begin), lookup, expected),) if is_wrong(lookup, expected) else ()

    def _network_tasks(self, party: Party, network_id: str) -> tuple[OverlayTask, ...]:
        engine = party.facts.engine.value
        networks = engine.networks if engine is not None else ()
        return next((tasks_on(self._views(party), network) for network in networks if network.id == network_id), ())

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

    def _named(self, first: Party, begin: Container | None, typed: Typed) -> Meant:
        """A name that no engine knows: of another host, or of whatever the source's resolver says."""
        facts = self._parties.facts()
        if node_address(facts, typed.name) or self._parties.known(typed.name) is not None:
            return Meant(party=self._parties.peer(typed.name))
        lookup = self._lookup(first, begin, typed.name)
        if not lookup.addresses:
            return Meant(party=self._host(typed, "DESTINATION"))
        address = lookup.addresses[0]
        told = (name_found(_end(first, begin), lookup, ()),) if begin is not None else ()
        behind = host_behind(first.facts, address) if begin is not None else ""
        if behind:
            party, container = self._on(behind, address, "DESTINATION")
            return Meant(party=party, container=container, told=told)
        meant = self._address(typed.name, address)
        return msgspec.structs.replace(meant, told=(*meant.told, *told))

    def _address(self, name: str, address: str) -> Meant:
        """A host by its address. One that cannot be asked is seen from this side only."""
        try:
            return Meant(party=self._parties.peer(name), address=address)
        except (CarrierError, UsageError) as error:
            told = Found(
                check="path.ends",
                state=State.SKIP,
                subject=Subject(peer=name),
                summary=f"{name} takes no part: what happens there is not seen",
                reason=str(error),
            )
            return Meant(address=address, told=(told,))

    def _lookup(self, first: Party, begin: Container | None, name: str) -> NameLookup:
        if begin is not None:
            return self._lookups(first, begin, [name])[0]
        (answer,) = first.carrier.ask([Request("resolve", {"name": name}, 2.0)])
        found = tuple(answer.data["addresses"]) if answer.data is not None else ()
        four = tuple(sorted(found, key=lambda each: ":" in each))
        return NameLookup(name=name, addresses=four, error=answer.error.text if answer.error is not None else "")

    def _lookups(self, first: Party, begin: Container, names: Sequence[str]) -> list[NameLookup]:
        """Several names at once, as a container resolves them."""
        if begin.pid is None:
            return [NameLookup(name=name, error=f"{begin.name} does not run") for name in names]
        netns = netns_of(first.facts, namespace_of(first.facts, begin))
        gathers = [gather_name(name, pid=begin.pid, netns=netns) for name in names]
        return drive(together(gathers), first.carrier)


def _end(party: Party, container: Container | None) -> End:
    return End(host=party.name, container=container.name if container is not None else "", address="")
