"""One namespace as a trace sees it: its devices, bridges and addresses, and who is behind which of them."""

from __future__ import annotations

import ipaddress

from netdiag.errors import UsageError
from netdiag.model.facts import HOST, Address, Facts, Link, Namespace
from netdiag.model.trace import TracedPacket


def namespace_of(facts: Facts, name: str) -> Namespace:
    """The namespace of an id. The host's own needs nothing to be known of it."""
    if name == HOST:
        return Namespace(id=HOST, path="", inode=0)
    found = (facts.namespaces.value or {}).get(name)
    if found is None:
        raise UsageError(f"{name} has gone")
    return found


class Here:
    """One namespace's part of the facts."""

    def __init__(self, facts: Facts, namespace: str) -> None:
        self._facts = facts
        self._name = namespace
        self.path = namespace_of(facts, namespace).path
        self.word = "host" if namespace == HOST else f"namespace ({namespace})"
        self.links: tuple[Link, ...] = (facts.links.value or {}).get(namespace, ())
        self.addresses: tuple[Address, ...] = (facts.addresses.value or {}).get(namespace, ())
        self.neighbours = (facts.neighbours.value or {}).get(namespace, ())
        self.fdb = (facts.fdb.value or {}).get(namespace, ())

    def require(self, device: str, option: str) -> None:
        """Raise UsageError for a device that this namespace has not, or that is down."""
        if not device:
            return
        link = self.link(device)
        if link is None:
            names = ", ".join(link.name for link in self.links if not link.loopback)
            raise UsageError(f"{option} {device}: no such device in this {self.word}; it has {names or 'none'}")
        if link.loopback and option == "--in":
            raise UsageError(f"--in {device}: what this {self.word} sends to itself is asked by --path out")
        if not link.up:
            raise UsageError(f"{option} {device}: it is down")

    def link(self, name: str) -> Link | None:
        """A device by its name."""
        return next((link for link in self.links if link.name == name), None)

    def bridge_of(self, device: str) -> Link | None:
        """The bridge whose port a device is."""
        link = self.link(device)
        if link is None or link.master is None:
            return None
        return next((each for each in self.links if each.index == link.master and each.kind == "bridge"), None)

    def ports(self, bridge: Link) -> list[str]:
        """The ports of a bridge that are up."""
        return [link.name for link in self.links if link.master == bridge.index and link.up]

    def port_of(self, mac: str, bridge: Link) -> str:
        """Behind which port of a bridge a link address is, as the bridge knows it; empty when it does not."""
        ports = self.ports(bridge)
        return next((row.device for row in self.fdb if row.mac == mac and row.device in ports), "")

    def station_at(self, device: str) -> str:
        """The link address of the only station that a bridge has learnt at a port; empty where there are several, or none."""
        learnt = {
            row.mac for row in self.fdb if row.device == device and row.on_master and "permanent" not in row.states
        }
        return learnt.pop() if len(learnt) == 1 else ""

    def mac_of(self, address: str) -> str:
        """The link address of an IP address: as this namespace knows it, else of whichever namespace has it."""
        for entry in self.neighbours:
            if entry.address == address and len(entry.mac) == 17:
                return entry.mac
        return next((link.mac for link in self._elsewhere(address)), "")

    def behind(self, bridge: Link, address: str) -> str:
        """Behind which port of a bridge an IP address is; empty when that is not known.

        What the bridge has not learnt yet is told by the pair of a veth: each end has the other's index.
        """
        learnt = self.port_of(self.mac_of(address), bridge)
        pairs = [
            port.name
            for link in self._elsewhere(address)
            for port in self.links
            if port.master == bridge.index and port.index == link.peer_index and port.peer_index == link.index
        ]
        return learnt or next(iter(pairs), "")

    def is_next_to(self, bridge: Link, address: str) -> bool:
        """Whether an address belongs to a network that the bridge itself has an address in."""
        wanted = ipaddress.ip_address(address)
        networks = [ipaddress.ip_interface(row.cidr).network for row in self.addresses if row.device == bridge.name]
        return any(wanted in network for network in networks)

    def _elsewhere(self, address: str) -> list[Link]:
        """The devices of other namespaces that have an address."""
        found: list[Link] = []
        for namespace, rows in (self._facts.addresses.value or {}).items():
            devices = {row.device for row in rows if bare(row) == address and namespace != self._name}
            links = (self._facts.links.value or {}).get(namespace, ())
            found += [link for link in links if link.name in devices]
        return found

    def own_address(self, device: str, address: str, version: int) -> Address | None:
        """The namespace's address that was named, whichever of its devices has it: Linux takes it in by any other.

        Without one the first of the device (of its bridge, for a port; of any, where none is named). A link-local
        address is one of the device itself.
        """
        bridge = self.bridge_of(device)
        device = bridge.name if bridge is not None else device
        up = {link.name: link for link in self.links if link.up}
        for own in self.addresses:
            interface = ipaddress.ip_interface(own.cidr)
            link = up.get(own.device)
            if interface.version != version or link is None or interface.ip.is_loopback:
                continue
            here = not device or own.device == device
            if address:
                if address == str(interface.ip) and (here or not interface.ip.is_link_local):
                    return own
            elif here and own.scope == "global" and not link.loopback:
                return own
        return None

    def link_local_of(self, device: str) -> str:
        """The IPv6 link-local address of a device (of its bridge, for a port); empty where it has none."""
        bridge = self.bridge_of(device)
        device = bridge.name if bridge is not None else device
        own = (bare(row) for row in self.addresses if row.device == device)
        return next((address for address in own if is_link_local(address)), "")

    def is_broadcast(self, address: str) -> bool:
        """Whether an address is for everybody on a network of this namespace's."""
        networks = [ipaddress.ip_interface(row.cidr).network for row in self.addresses]
        return address == "255.255.255.255" or any(
            network.version == 4 and network.num_addresses > 2 and str(network.broadcast_address) == address
            for network in networks
        )


def is_link_local(address: str) -> bool:
    """Whether an address is IPv6 link-local: it says nothing without a device."""
    return ":" in address and ipaddress.ip_address(address).is_link_local


def is_multicast(address: str) -> bool:
    """Whether an address is a group's."""
    return bool(address) and ipaddress.ip_address(address).is_multicast


def bare(own: Address) -> str:
    """An address without its prefix's length."""
    return own.cidr.partition("/")[0]


def comes_back(packet: TracedPacket, facts: Facts) -> bool:
    """Whether it leaves by the loopback device, so that it comes back by it and goes on to INPUT."""
    link = Here(facts, packet.namespace).link(packet.out_device)
    return link is not None and link.loopback
