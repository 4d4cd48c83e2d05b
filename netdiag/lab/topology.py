"""What a lab consists of, as data: hosts, networks, engines and the part each plays in a swarm.

A topology is a TOML file; those that netdiag ships are in configs/lab and are called by name::

    description = "one sentence"

    [[network]]            # optional; one network "lan" with 10.71.0.0/24 if none is given
    name = "lan"
    subnet = "10.71.0.0/24"
    mtu = 1500

    [[host]]
    name = "manager"       # what the lab calls it
    hostname = "manager"   # what it calls itself; the name if not given
    engine = true
    swarm = "manager"
    images = ["netdiag/busybox:lab"]
    networks = ["lan"]     # eth0, eth1, …; the first network if not given
    addresses = { lan = "10.71.0.9" }
"""

from __future__ import annotations

import enum
import re
import tomllib
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import msgspec

from netdiag.errors import UsageError
from netdiag.lab.root import CHECKOUT, in_checkout

FABRIC = "fabric"
"""Name of the namespace that plays the switch between the hosts; commands and faults can name it like a host."""

BUSYBOX_IMAGE = "netdiag/busybox:lab"
SSHD_IMAGE = "netdiag/sshd:lab"
IMAGES = (BUSYBOX_IMAGE, SSHD_IMAGE)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")


class SwarmRole(enum.Enum):
    """The part that a host plays in the swarm that ``lab up`` forms."""

    MANAGER = "manager"
    WORKER = "worker"


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One broadcast domain of the fabric."""

    name: str = "lan"
    subnet: str = "10.71.0.0/24"
    """IPv4 network; the hosts are numbered from its first address in the order of the file."""
    mtu: int = 1500
    """MTU in bytes of both ends of every cable."""

    @property
    def fabric_address(self) -> IPv4Interface:
        """The fabric's own address, the network's last."""
        subnet = IPv4Network(self.subnet)
        return IPv4Interface(f"{subnet.broadcast_address - 1}/{subnet.prefixlen}")


class HostPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One host as the file describes it."""

    name: str
    hostname: str = ""
    engine: bool = False
    swarm: SwarmRole | None = None
    images: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    addresses: dict[str, str] = {}


class Uplink(msgspec.Struct, frozen=True):
    """One cable of a host."""

    network: Network
    interface: str
    """Name inside the host."""
    port: str
    """Name of the other end, in the fabric."""
    address: IPv4Interface


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole lab, checked: every name that is used exists, every address fits."""

    name: str = ""
    description: str = ""
    network: tuple[Network, ...] = (Network(),)
    host: tuple[HostPlan, ...]

    def plan(self, name: str) -> HostPlan:
        """One host by its name in the lab; UsageError with the nearest names."""
        for host in self.host:
            if host.name == name:
                return host
        raise UsageError(no_such("host", name, [host.name for host in self.host]))

    def uplinks(self, name: str) -> tuple[Uplink, ...]:
        """The cables of a host, eth0 first."""
        position = [host.name for host in self.host].index(name)
        plan = self.host[position]
        networks = {network.name: network for network in self.network}
        names = plan.networks or (self.network[0].name,)
        return tuple(
            Uplink(
                network=networks[each],
                interface=f"eth{number}",
                port=f"p{position + 1}n{number}",
                address=_address(plan, networks[each], position + 1),
            )
            for number, each in enumerate(names)
        )


def no_such(kind: str, name: str, known: list[str]) -> str:
    """The line that says what is not there and what comes nearest."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return (
        f"no {kind} {name!r}: did you mean {' or '.join(near)}?"
        if near
        else f"no {kind} {name!r}: there is {', '.join(known) or 'none'}"
    )


def topology_directory() -> Path:
    """Where the topologies that netdiag ships are."""
    return (CHECKOUT / "configs" if in_checkout() else Path(__file__).resolve().parents[1] / "configs") / "lab"


def topology_names() -> list[str]:
    """The topologies that netdiag ships."""
    return sorted(path.stem for path in topology_directory().glob("*.toml"))


def load_topology(source: str | Path) -> Topology:
    """Read a topology by name (``swarm2``) or from a file (``./mine.toml``).

    Raises:
        UsageError: there is no such topology, or it says something that cannot be; the text names the value.
    """
    path = Path(source)
    if path.suffix != ".toml":
        if str(source) not in topology_names():
            raise UsageError(
                no_such("topology", str(source), topology_names()) + " (or give a file that ends in .toml)"
            )
        path = topology_directory() / f"{source}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return parse_topology(text, name=path.stem)


def parse_topology(text: str, name: str) -> Topology:
    """Read a topology from TOML; ``name`` names it in errors and if it gives no name itself.

    Raises:
        UsageError: see `load_topology`.
    """
    try:
        topology = msgspec.convert(tomllib.loads(text), Topology)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"topology {name}: {error}") from error
    if not topology.name:
        topology = msgspec.structs.replace(topology, name=name)
    problem = _problem(topology)
    if problem:
        raise UsageError(f"topology {name}: {problem}")
    return topology


def _problem(topology: Topology) -> str | None:
    """The first thing that is wrong with a topology that has the right shape."""
    networks = {network.name for network in topology.network}
    if len(networks) != len(topology.network):
        return "two networks have one name"
    for network in topology.network:
        problem = _network_problem(network)
        if problem:
            return problem
    names = [host.name for host in topology.host]
    if not names:
        return "it has no [[host]]"
    for host in topology.host:
        problem = _host_problem(host, names, networks)
        if problem:
            return problem
    if any(host.swarm for host in topology.host) and not any(host.swarm is SwarmRole.MANAGER for host in topology.host):
        return 'a swarm needs a host with swarm = "manager"'
    return _address_problem(topology)


def _network_problem(network: Network) -> str | None:
    if not NAME.fullmatch(network.name):
        return f"network name {network.name!r}: small letters, digits and - only"
    if not 576 <= network.mtu <= 65535:
        return f"network {network.name}: mtu {network.mtu} is not in 576..65535"
    try:
        bits = IPv4Network(network.subnet).prefixlen
    except ValueError as error:
        return f"network {network.name}: subnet {error}"
    return None if bits <= 29 else f"network {network.name}: subnet {network.subnet} has no room, /29 is the least"


def _host_problem(host: HostPlan, names: list[str], networks: set[str]) -> str | None:
    if not NAME.fullmatch(host.name) or host.name == FABRIC:
        return f"host name {host.name!r}: small letters, digits and - only, and not {FABRIC!r}"
    if names.count(host.name) > 1:
        return f"two hosts are called {host.name!r}; give them the same hostname instead"
    if host.hostname and not _HOSTNAME.fullmatch(host.hostname):
        return f"host {host.name}: {host.hostname!r} is not a hostname"
    if (host.swarm or host.images) and not host.engine:
        return f"host {host.name}: swarm and images need engine = true"
    for image in host.images:
        if image not in IMAGES:
            return f"host {host.name}: image {image!r} is unknown, there is {' and '.join(IMAGES)}"
    for network in (*host.networks, *host.addresses):
        if network not in networks:
            return f"host {host.name}: " + no_such("network", network, sorted(networks))
    return None


def _address_problem(topology: Topology) -> str | None:
    seen: dict[IPv4Address, str] = {network.fabric_address.ip: "the fabric" for network in topology.network}
    for host in topology.host:
        try:
            addresses = [uplink.address for uplink in topology.uplinks(host.name)]
        except ValueError as error:
            return f"host {host.name}: {error}"
        for address in addresses:
            if address.ip in seen:
                return f"host {host.name}: {address.ip} is {seen[address.ip]}'s"
            seen[address.ip] = host.name
    return None


def _address(plan: HostPlan, network: Network, number: int) -> IPv4Interface:
    subnet = IPv4Network(network.subnet)
    given = plan.addresses.get(network.name)
    address = IPv4Address(given) if given else subnet.network_address + number
    if address not in subnet or address in {subnet.network_address, subnet.broadcast_address}:
        raise ValueError(f"{address} is no host of {subnet}")
    return IPv4Interface(f"{address}/{subnet.prefixlen}")
