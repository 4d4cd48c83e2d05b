"""What the operator typed for the two ends, and which host, container or address it means."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable

import msgspec

from netdiag.errors import NetdiagError, NotKnown, UsageError
from netdiag.model.engine import Container
from netdiag.model.facts import HOST, AbsenceKind, Facts

_END = re.compile(
    r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:\[\]\s]+)/)?(?P<name>\[[0-9A-Fa-f:.]+\]|[^/:\[\]\s]+)"
    r"(?::(?P<port>[^/:\s]*)(?:/(?P<protocol>\w*))?)?"
)
_PROTOCOLS = ("tcp", "udp")


class Typed(msgspec.Struct, frozen=True, kw_only=True):
    """An end as typed: ``HOST``, ``HOST/CONTAINER``, a container, service, task or address; a port for the destination."""

    text: str
    name: str
    host: str = ""
    port: int | None = None
    protocol: str = "tcp"


def parse_end(text: str, *, what: str) -> Typed:
    """Read one end. ``what`` names it in errors ("SOURCE", "DESTINATION"). Raises UsageError for what is none."""
    found = _END.fullmatch(text)
    if found is None:
        raise UsageError(f"{what} {text!r}: give NAME, HOST/NAME or an address, with :PORT or :PORT/PROTO behind it")
    port = found["port"]
    if port is not None and not (port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{what} {text!r}: a port is a number from 1 to 65535")
    protocol = (found["protocol"] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise UsageError(f"{what} {text!r}: {protocol} is not {' or '.join(_PROTOCOLS)}")
    return Typed(
        text=text,
        name=found["name"].strip("[]"),
        host=(found["host"] or "").strip("[]"),
        port=int(port) if port else None,
        protocol=protocol,
    )


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_name(facts: Facts) -> str:
    """What a host calls itself; empty when that is not known."""
    identity = facts.identity.value
    return identity.hostname if identity is not None else ""


def is_host(facts: Facts, name: str) -> bool:
    """Whether a name or address means this host."""
    own = host_name(facts)
    if name in (HOST, "localhost", own, own.partition(".")[0]) and name:
        return True
    return any(row.cidr.partition("/")[0] == name for row in (facts.addresses.value or {}).get(HOST, ()))


def is_loopback(name: str) -> bool:
    """Whether a name or address means whoever says it."""
    return name == "localhost" or (is_address(name) and ipaddress.ip_address(name).is_loopback)


def shares_host(container: Container) -> bool:
    """Whether a container runs in the network namespace of its host."""
    return container.network_mode == "host" or any(each.network == "host" for each in container.networks)


def _in_its_namespace(facts: Facts, container: Container) -> Container:
    """A container as others reach it: one that runs in another's namespace has that one's networks and ports."""
    engine = facts.engine.value
    if engine is None or container.networks or not container.running:
        return container
    owners = {each.id: each for each in engine.containers}
    owner = owners.get(container.network_mode.removeprefix("container:"))
    if owner is None and container.pid is not None:
        spaces = (facts.namespaces.value or {}).values()
        ids = [each.owner_id for each in spaces if container.pid in each.pids]
        owner = next((owners[each] for each in ids if each in owners), None)
    if owner is None:
        return container
    return msgspec.structs.replace(owner, name=container.name, pid=container.pid, running=True, state=container.state)


def _by_control_groups(facts: Facts) -> tuple[Container, ...]:
    """What runs in namespaces of its own by a container's id; their names and networks only the engine knows."""
    return tuple(
        Container(id=each.owner_id, name=each.owner, running=True, state="running", pid=each.pids[0])
        for each in (facts.namespaces.value or {}).values()
        if each.id.startswith("container:") and each.owner_id and each.pids
    )


def find_container(facts: Facts, name: str) -> Container | None:
    """A container by its name, by the beginning of its id, by its task ("web.1") or by one of its addresses.

    One that runs in another's namespace comes with that one's id, networks and ports. Where the engine could not be
    asked, an id is found by the control groups of what runs. Raises UsageError when several fit.
    """
    engine = facts.engine.value
    containers = engine.containers if engine is not None else _by_control_groups(facts)
    for fits in (
        [each for each in containers if each.name == name],
        [each for each in containers if any(network.address == name for network in each.networks)],
        [each for each in containers if len(name) >= 6 and each.id.startswith(name)],
        [each for each in containers if each.name.startswith(f"{name}.")],
        [each for each in containers if each.service == name],
    ):
        running = [each for each in fits if each.running] or fits
        if len(running) == 1:
            return _in_its_namespace(facts, running[0])
        if running:
            raise UsageError(f"{name!r} fits {', '.join(sorted(each.name for each in running)[:8])}: name one of them")
    return None


def unknown_name(name: str, what: str, facts: Iterable[Facts]) -> NetdiagError:
    """The error for a name that nobody has, with the nearest ones; NotKnown where an engine that may have it is silent."""
    known: set[str] = set()
    for one in facts:
        silent = one.engine.absent
        # A host without an engine has no containers.
        if silent is not None and silent.kind is not AbsenceKind.MISSING:
            return NotKnown(
                f"{what} {name!r}: whether there is a container of that name is not known, as the engine of"
                f" {host_name(one) or 'this host'} could not be asked: {silent.text}"
            )
        known.add(host_name(one))
        engine = one.engine.value
        if engine is not None:
            known |= {each.name for each in engine.containers}
            known |= {service for network in engine.networks for service in network.virtual_addresses}
    near = difflib.get_close_matches(name, sorted(known - {""}), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "netdiag facts engine lists the containers of a host"
    return UsageError(f"{what} {name!r}: no container, service or host of that name here; {hint}")
