"""The engine's networks, containers and services as a firewall rule names them: by device, address and port."""

from __future__ import annotations

import ipaddress
import re

from netdiag.firewall.clues import plain_address
from netdiag.model.engine import Container, Engine, Network

_BRIDGE = re.compile(r"^br-([0-9a-f]{12})$")
_STOCK = {"docker0": "bridge", "docker_gwbridge": "docker_gwbridge"}


class EngineView:
    """Names what an engine has; without an engine, what the names of its devices alone say."""

    def __init__(self, engine: Engine | None) -> None:
        self._engine = engine

    def networks(self) -> tuple[Network, ...]:
        """Its networks; none where the engine is not known."""
        return self._engine.networks if self._engine else ()

    def is_bridge(self, device: str) -> bool:
        """Whether a device is the bridge of one of its networks, or has the name that the engine gives to one."""
        named = any(network.bridge == device for network in self.networks() if network.bridge)
        return bool(device) and (named or device in _STOCK or bool(_BRIDGE.match(device)))

    def network_of_device(self, device: str) -> str:
        """The network of a bridge; the id's beginning where the engine does not know it; empty for no bridge."""
        for network in self.networks():
            if device and (
                network.bridge == device or (network.driver == "bridge" and device == f"br-{network.id[:12]}")
            ):
                return network.name
        found = _BRIDGE.match(device)
        if found is None:
            return _STOCK.get(device, "")
        return f"{found[1]}, which the engine does not have" if self.networks() else found[1]

    def network_of_address(self, value: str) -> Network | None:
        """The network whose subnet is this prefix, or holds this address."""
        try:
            asked = ipaddress.ip_network(value, strict=False)
        except ValueError:
            return None
        for network in self.networks():
            for subnet in network.subnets:
                try:
                    whole = ipaddress.ip_network(subnet, strict=False)
                except ValueError:
                    continue
                if whole == asked or (
                    whole.version == asked.version and asked.num_addresses == 1 and asked[0] in whole
                ):
                    return network
        return None

    def network_of_vni(self, vni: int) -> Network | None:
        """The overlay network with this VNI."""
        return next((network for network in self.networks() if vni in network.vnis), None)

    def container_at(self, address: str) -> Container | None:
        """The container with this address, one that runs before one that does not."""
        wanted = plain_address(address)
        having = [
            one
            for one in (self._engine.containers if self._engine else ())
            if wanted and any(end.address == wanted for end in one.networks)
        ]
        return min(having, key=lambda one: not one.running) if having else None

    def container_publishing(self, port: str, protocol: str) -> Container | None:
        """The running container that publishes this port of the host."""
        for one in self._engine.containers if self._engine else ():
            if any(_published(text)[1:4:2] == (port, protocol) for text in one.ports):
                return one
        return None

    def service_at(self, address: str) -> str:
        """The service with this virtual address, or whose task has this address."""
        wanted = plain_address(address)
        for network in self.networks():
            for service, virtual in network.virtual_addresses.items():
                if virtual == wanted:
                    return service
        container = self.container_at(wanted)
        return container.service if container else ""

    def service_publishing(self, port: str, protocol: str) -> str:
        """The service that publishes this port in the routing mesh; empty on a host that is no manager."""
        cluster = self._engine.cluster if self._engine else None
        for service in cluster.services if cluster else ():
            for text in service.published_ports:
                outer, _, inner = text.partition("->")
                if outer == port and inner.partition("/")[2] == protocol:
                    return service.name
        return ""


def published_as(container: Container, port: str, protocol: str) -> str:
    """The port of the host under which a container's port is published; empty for none."""
    for text in container.ports:
        host, outer, inner, kind = _published(text)
        if (inner, kind) == (port, protocol):
            # Zeros alone are every address, of either family.
            return f"{host}:{outer}" if host.strip("0.:[]") else outer
    return ""


def _published(text: str) -> tuple[str, str, str, str]:
    """Address, host port, container port and protocol of "0.0.0.0:8080->80/tcp"."""
    outside, _, inside = text.partition("->")
    host, _, outer = outside.rpartition(":")
    inner, _, protocol = inside.partition("/")
    return host, outer, inner, protocol
