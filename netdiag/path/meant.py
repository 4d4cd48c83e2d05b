"""Whose an address is, and which addresses a name should have, on the networks of the container that calls; pure."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.facts.name_lookup import NameLookup
from netdiag.model.engine import Container
from netdiag.model.facts import Facts
from netdiag.path.ends import address_of, tasks_on
from netdiag.path.names import find_container
from netdiag.path.routed import networks_of

_NO_NAMES = "bridge"
"""The engine's default network, the only one on which it resolves no names."""


def attached_at(facts: Facts, begin: Container | None, address: str) -> Container | None:
    """The container of a host that has an address on a network of the caller; without a caller, on any network."""
    if begin is None:
        return find_container(facts, address)
    networks = {each.network_id for each in begin.networks}
    engine = facts.engine.value
    for each in engine.containers if engine is not None else ():
        if each.running and any(row.address == address and row.network_id in networks for row in each.networks):
            return each
    return None


def addresses_called(facts: Sequence[Facts], begin: Container, name: str) -> tuple[str, ...]:
    """The addresses of whatever has exactly this name on a network of the caller, as the engines know it.

    Args:
        facts: Of the hosts that were reached, the caller's own first.
        begin: The caller.
        name: A container's or a task's.
    """
    networks = {each.network_id for each in begin.networks if each.network != _NO_NAMES}
    found: list[str] = []
    for one in facts:
        engine = one.engine.value
        for each in engine.containers if engine is not None else ():
            if each.name == name and each.running:
                found += [row.address for row in each.networks if row.network_id in networks and row.address]
    for network in networks_of(facts[0], begin):
        found += [address_of(task) for task in tasks_on(facts, network) if task.name == name]
    return tuple(dict.fromkeys(found))


def is_held(facts: Facts, begin: Container, lookup: NameLookup) -> bool:
    """Whether a name server gave the address of somebody on the caller's networks: an alias may be any name."""
    if lookup.server == "hosts":
        return False
    tasks = [address_of(task) for network in networks_of(facts, begin) for task in tasks_on([facts], network)]
    return any(each in tasks or attached_at(facts, begin, each) is not None for each in lookup.addresses)


def why_nameless(begin: Container, other: Container) -> str:
    """Why one container has no name for another, where that follows from their networks; empty where it does not."""
    networks = [each.network for each in begin.networks]
    if networks == [_NO_NAMES]:
        return f"{begin.name} is in the default network only, where the engine resolves no names"
    if not {each.network_id for each in begin.networks} & {each.network_id for each in other.networks}:
        return f"{other.name} is in no network of {begin.name}"
    return ""
