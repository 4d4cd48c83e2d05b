"""Services, tasks and nodes behind the names that were typed, as one host's engine knows them; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

import msgspec

from netdiag.errors import UsageError
from netdiag.model.engine import Cluster, Container, Network, OverlayTask, SwarmNode
from netdiag.model.facts import Facts
from netdiag.path.entries import host_behind
from netdiag.path.names import Typed, find_container, is_address, is_host
from netdiag.path.routed import networks_of

_TASK_NAME = re.compile(r"(.+)\.[a-z0-9]{25}")
"""SERVICE.NUMBER.ID, or SERVICE.NODE.ID of a global one; ids are 25 digits of base 36 (swarmkit identity)."""
_TASKS = "tasks."
"""The engine's name server answers tasks.SERVICE with the tasks' own addresses."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service on one network.

    Attributes:
        name: What it is called.
        network: The network on which it was looked for.
        virtual_address: Its virtual IP there; empty where it has none, or where the tasks themselves were asked for.
        tasks: What is behind it.
    """

    name: str
    network: Network
    virtual_address: str
    tasks: tuple[OverlayTask, ...]


def networks_for(facts: Facts, container: Container | None) -> tuple[Network, ...]:
    """The networks whose names an end knows: those of a container; of nobody in particular, all."""
    engine = facts.engine.value
    if container is not None:
        return networks_of(facts, container)
    return engine.networks if engine is not None else ()


def tasks_on(facts: Sequence[Facts], network: Network) -> tuple[OverlayTask, ...]:
    """The tasks of a network: as gossip knows them where its engine could be asked, else as a manager lists them.

    Args:
        facts: Of all hosts that were reached: any of them may be a manager.
        network: The network, as one of them sees it.
    """
    if network.tasks:
        return network.tasks
    for one in facts:
        cluster = one.engine.value.cluster if one.engine.value is not None else None
        if cluster is not None:
            return _listed(cluster, network)
    return ()


def _listed(cluster: Cluster, network: Network) -> tuple[OverlayTask, ...]:
    services = {service.id: service.name for service in cluster.services}
    nodes = {node.id: node for node in cluster.nodes}
    found = []
    for task in cluster.tasks:
        address, node = task.addresses.get(network.id, ""), nodes.get(task.node_id)
        if address and task.state == "running" and node is not None:
            service = services.get(task.service, "")
            number = task.slot if task.slot is not None else task.node_id
            found.append(
                OverlayTask(
                    service=service,
                    name=f"{service}.{number}.{task.id}",
                    endpoint_id="",
                    address=address,
                    host_address=node_host(node),
                )
            )
    return tuple(found)


def find_service(facts: Sequence[Facts], container: Container | None, name: str) -> Service | None:
    """A service by its name, by tasks.NAME, or by its virtual IP, as the engine of the first of these hosts knows it.

    Where the engine knows only the virtual IP, it has no tasks.
    """
    bare = name.removeprefix(_TASKS)
    for network in networks_for(facts[0], container):
        every = tasks_on(facts, network)
        for service, address in _virtual_addresses(facts, network).items():
            if service == bare or address == name:
                tasks = tuple(task for task in every if task.service == service)
                virtual = "" if name.startswith(_TASKS) else address
                return Service(name=service, network=network, virtual_address=virtual, tasks=tasks)
        tasks = tuple(task for task in every if task.service == bare) if bare else ()
        if tasks:
            return Service(name=bare, network=network, virtual_address="", tasks=tasks)
    return None


def _virtual_addresses(facts: Sequence[Facts], network: Network) -> dict[str, str]:
    """The virtual IPs of a network, as any of the hosts knows them."""
    found: dict[str, str] = {}
    for one in facts:
        for each in one.engine.value.networks if one.engine.value is not None else ():
            if each.id == network.id:
                found = {**each.virtual_addresses, **found}
    return found


def service_by_name_server(
    facts: Facts, container: Container, name: str, addresses: Sequence[str], tasks: Sequence[str]
) -> Service | None:
    """A service as the engine's name server tells of it; None for a name that is none.

    Args:
        facts: Of the container's host.
        container: Who asked.
        name: Of the service, tasks. before it or not.
        addresses: What the name is.
        tasks: What tasks.NAME is.
    """
    own = facts.engine.value.swarm.node_address if facts.engine.value is not None else ""
    for network in networks_for(facts, container):
        rows = [address for address in tasks if is_in(network, address)]
        if not rows:
            continue
        virtual = next((each for each in addresses if each not in tasks and is_in(network, each)), "")
        return Service(
            name=name.removeprefix(_TASKS),
            network=network,
            virtual_address="" if name.startswith(_TASKS) else virtual,
            tasks=tuple(_task_at(facts, name.removeprefix(_TASKS), address, own) for address in rows),
        )
    return None


def is_in(network: Network, address: str) -> bool:
    """Whether an address belongs to a network's subnets."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(subnet) for subnet in network.subnets)


def _task_at(facts: Facts, service: str, address: str, own: str) -> OverlayTask:
    """A task of which only the address is known: behind which host it is, this host's tables tell."""
    local = find_container(facts, address)
    return OverlayTask(
        service=service,
        name=local.name if local is not None else address,
        endpoint_id="",
        address=address,
        host_address=own if local is not None else host_behind(facts, address),
    )


def find_task(facts: Sequence[Facts], container: Container | None, name: str) -> OverlayTask | None:
    """A task or a stand-alone container of an overlay network of the first of these hosts, by name or address.

    Raises UsageError when several fit.
    """
    tasks = [task for network in networks_for(facts[0], container) for task in tasks_on(facts, network)]
    for fits in (
        [task for task in tasks if name in (task.name, address_of(task))],
        [task for task in tasks if task.name.startswith(f"{name}.")],
    ):
        found = {(task.name, address_of(task)): task for task in fits if task.host_address}
        if len({key[0] for key in found}) > 1:
            raise UsageError(f"{name!r} fits {', '.join(sorted({key[0] for key in found})[:8])}: name one of them")
        if found:
            return next(iter(found.values()))
    return None


def address_of(task: OverlayTask) -> str:
    """A task's address without its prefix length."""
    return task.address.partition("/")[0]


def task_label(task: OverlayTask) -> str:
    """A task's name without its id: "web.1"; a stand-alone container's as it is."""
    if not task.service or not task.name.startswith(f"{task.service}."):
        return task.name
    return f"{task.service}.{task.name[len(task.service) + 1 :].partition('.')[0]}"


def short_name(container: str) -> str:
    """A task's container without the task's id ("web.1" of "web.1.<25 characters>"); any other as it is."""
    found = _TASK_NAME.fullmatch(container)
    return found[1] if found is not None else container


def task_text(task: OverlayTask) -> str:
    """A task with its address and its host's: "db.1 (10.0.1.4 on 10.71.0.2)"."""
    label, address = task_label(task), address_of(task)
    host = f" on {task.host_address}" if task.host_address else ""
    return f"{address}{host}" if label == address else f"{label} ({address}{host})"


def balancer_address(facts: Facts, network: Network) -> str:
    """The address of a network's load balancer on a host, from which it calls the tasks; empty where there is none."""
    rows = (facts.addresses.value or {}).get(f"lb:{network.name}", ())
    own = [row.cidr for row in rows if row.device != "lo" and not row.cidr.endswith("/32")]
    return own[0].partition("/")[0] if own else ""


def node_address(facts: Iterable[Facts], name: str) -> str:
    """The address of a swarm's node by its host name; empty when no manager's list has it.

    Raises UsageError when several nodes have that name.
    """
    found: set[str] = set()
    for one in facts:
        engine = one.engine.value
        for node in engine.cluster.nodes if engine is not None and engine.cluster is not None else ():
            if node.hostname == name and node.state == "ready":
                found.add(node_host(node))
    found.discard("")
    if len(found) > 1:
        raise UsageError(f"{name!r} is the name of {len(found)} nodes: say {' or '.join(sorted(found))}")
    return next(iter(found), "")


def node_host(node: SwarmNode) -> str:
    """A node's address. A manager of old engines lists itself as 0.0.0.0."""
    if is_address(node.address) and not ipaddress.ip_address(node.address).is_unspecified:
        return node.address
    return node.manager_address.rpartition(":")[0]


def node_name(facts: Iterable[Facts], address: str) -> str:
    """The host name of the node that has an address, where a manager's list has it and no other node is called so."""
    names: list[str] = []
    match = ""
    for one in facts:
        engine = one.engine.value
        for node in engine.cluster.nodes if engine is not None and engine.cluster is not None else ():
            names.append(node.hostname)
            if address == node_host(node):
                match = node.hostname
        if match:
            break
    return match if names.count(match) == 1 else ""


def other_hosts(facts: Facts, source: Typed, destination: Typed) -> tuple[str, ...]:
    """Two other hosts, where one host's facts settle that the two ends are on them: as each of them is asked for.

    Empty where an end may be elsewhere, or is here, or where the two may be one host by two names.
    """
    try:
        names = [name for name in (_other_host(facts, source), _other_host(facts, destination)) if name]
        addresses = {name if is_address(name) else node_address([facts], name) for name in names}
    except UsageError:
        return ()
    return tuple(names) if len(addresses - {""}) == 2 else ()


def _other_host(facts: Facts, typed: Typed) -> str:
    """The other host that an end is on; empty where that is not settled."""
    if typed.host:
        return "" if is_host(facts, typed.host) else typed.host
    if is_host(facts, typed.name) or find_container(facts, typed.name) is not None:
        return ""
    service = find_service([facts], None, typed.name)
    task = find_task([facts], None, typed.name) if service is None else None
    tasks = service.tasks if service is not None else [task] if task is not None else []
    hosts = {each.host_address for each in tasks}
    host = next(iter(hosts)) if len(hosts) == 1 else ""
    return "" if is_host(facts, host) else host


def first_choice(tasks: Sequence[OverlayTask], own_address: str) -> OverlayTask:
    """Which of a service's tasks (there must be one) tells most: one on another host, where there is one."""
    elsewhere = [task for task in tasks if task.host_address and task.host_address != own_address]
    return [*elsewhere, *tasks][0]
