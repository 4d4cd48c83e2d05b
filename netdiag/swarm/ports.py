"""The ports of a swarm: what listens where, and which question of a preflight depends on it.

Source: moby ``daemon/cluster/cluster.go`` (``defaultAddr``, 2377), ``daemon/libnetwork/networkdb`` with memberlist's
default bind port (7946; not configurable), ``daemon/libnetwork/drivers/overlay`` (4789 and IPsec in transport mode),
and Docker's manual "Swarm mode overlay networks".
"""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.report import Need

CONTROL_PORT = 2377
"""Default of ``--listen-addr``; a manager may have been given another one."""

GOSSIP_PORT = 7946

DEFAULT_DATA_PATH_PORT = 4789

DATA_PATH_PORT_MIN = 1024
DATA_PATH_PORT_MAX = 49151


class Protocol(enum.Enum):
    """The protocol of the outer packet."""

    TCP = "tcp"
    UDP = "udp"
    ESP = "esp"
    """IP protocol 50. "All TCP and UDP ports are open" does not cover it."""


class Listener(enum.Enum):
    """Which nodes must be reachable there."""

    MANAGERS = "managers"
    EVERY_NODE = "every node"


class Plane(enum.Enum):
    """What the packets carry."""

    CONTROL = "control"
    GOSSIP = "gossip"
    DATA = "data"


class PortUse(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that must pass between the hosts of a swarm.

    Attributes:
        port: Destination port; None for ESP, which has none.
        needs: The questions of a preflight that become *no* when it does not pass.
        purpose: What travels there, for people.
    """

    plane: Plane
    protocol: Protocol
    port: int | None
    listener: Listener
    needs: tuple[Need, ...]
    purpose: str

    def label(self) -> str:
        """As operators write it: ``tcp/2377``, ``udp/4789``, ``IP protocol 50 (ESP)``."""
        return "IP protocol 50 (ESP)" if self.port is None else f"{self.protocol.value}/{self.port}"


def ports_of_swarm(
    *,
    control_port: int = CONTROL_PORT,
    data_path_port: int = DEFAULT_DATA_PATH_PORT,
    encrypted: bool = False,
) -> tuple[PortUse, ...]:
    """Everything that must pass in this swarm, in the order in which a joining host needs it.

    Args:
        control_port: Where the managers listen.
        data_path_port: As set at ``swarm init``; 0 is how the API says "the default".
        encrypted: Whether any overlay network has the option ``encrypted``. Its packets leave as ESP instead of UDP;
            plain networks of the same swarm (ingress among them) go on using UDP, so both are listed.
    """
    uses = [
        PortUse(
            plane=Plane.CONTROL,
            protocol=Protocol.TCP,
            port=control_port,
            listener=Listener.MANAGERS,
            needs=(Need.JOIN,),
            purpose="joining, certificates, tasks and raft (gRPC over mutual TLS)",
        ),
        PortUse(
            plane=Plane.GOSSIP,
            protocol=Protocol.TCP,
            port=GOSSIP_PORT,
            listener=Listener.EVERY_NODE,
            # The forwarding entries of an overlay travel by gossip too, so without it no traffic reaches anybody.
            needs=(Need.NAMES, Need.TRAFFIC),
            purpose="gossip: joining the member list and the full synchronisation every 30 s",
        ),
        PortUse(
            plane=Plane.GOSSIP,
            protocol=Protocol.UDP,
            port=GOSSIP_PORT,
            listener=Listener.EVERY_NODE,
            needs=(Need.NAMES,),
            purpose="gossip: liveness and quick updates; without it new names appear up to 30 s late",
        ),
        PortUse(
            plane=Plane.DATA,
            protocol=Protocol.UDP,
            port=data_path_port or DEFAULT_DATA_PATH_PORT,
            listener=Listener.EVERY_NODE,
            needs=(Need.TRAFFIC,),
            purpose="VXLAN: all traffic of overlay networks and of the routing mesh",
        ),
    ]
    if encrypted:
        uses.append(
            PortUse(
                plane=Plane.DATA,
                protocol=Protocol.ESP,
                port=None,
                listener=Listener.EVERY_NODE,
                needs=(Need.TRAFFIC,),
                purpose="IPsec: all traffic of encrypted overlay networks",
            )
        )
    return tuple(uses)


def is_data_path_port(port: int) -> bool:
    """Whether ``swarm init --data-path-port`` takes this port (moby ``daemon/cluster``, 1024 to 49151)."""
    return DATA_PATH_PORT_MIN <= port <= DATA_PATH_PORT_MAX
