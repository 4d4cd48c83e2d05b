"""The way of a flow between two ends: where it can be watched, what was seen there, and where it was lost."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.facts import HOST


class PathKind(enum.Enum):
    """What carries the flow from one end to the other."""

    OVERLAY = "overlay"
    """Two hosts, a Swarm overlay network: VXLAN between them."""
    OVERLAY_LOCAL = "overlay-local"
    """An overlay network, both containers on one host."""
    BRIDGE = "bridge"
    """Two containers of one bridge network of one host."""
    PUBLISHED = "published"
    """A port that the engine publishes on a host's address."""
    HOST = "host"
    """Host to host."""
    TO_OWN_HOST = "to-own-host"
    """A container and its own host, either way."""
    ITSELF = "itself"
    """Within one container, by its loopback device."""
    ROUTED = "routed"
    """A container's address that is reached by routes, with no encapsulation (Calico, macvlan, outside)."""


class Side(enum.Enum):
    """Which host."""

    SOURCE = "source"
    DESTINATION = "destination"


class Stage(enum.Enum):
    """What kind of place on the way it is."""

    END = "end"
    """The device of the end itself: a container's eth0, or a host's when it is the end."""
    PORT = "port"
    """The port of a bridge that leads to a container: the host's half of its veth."""
    TUNNEL = "tunnel"
    """The VXLAN device in the overlay's namespace: before encapsulation, behind decapsulation."""
    NIC = "nic"
    """The host's NIC."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """One end of the flow.

    Attributes:
        host: The host, as the operator would type it.
        container: The container's name; empty for a host.
        namespace: Whose stack it is: ``host`` or ``container:NAME``.
        address: Its address on the way in question.
        device: The device in ``namespace`` that has the address.
        host_address: The host's address towards the other host: of its tunnel, or its own.
        network: The Docker network of the way, if there is one.
    """

    host: str
    address: str
    container: str = ""
    namespace: str = HOST
    device: str = ""
    host_address: str = ""
    network: str = ""

    def label(self) -> str:
        """In a few words: "web on host-a"."""
        return f"{self.container} on {self.host}" if self.container else self.host


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One place on the way where the flow can be watched.

    Attributes:
        a: The address from which requests come, as this place sees it.
        b: The address to which they go, as this place sees it.
        port: The destination port, as this place sees it.
        origins: Other addresses from which requests may come here: translation on the way decides which it is.
        proxy: The address of a proxy that may make the request again here, in its own name; empty where there is none.
        vxlan_port: The flow is inside VXLAN to this UDP port here; None where it is plain.
    """

    side: Side
    stage: Stage
    namespace: str
    device: str
    a: str
    b: str
    port: int | None = None
    origins: tuple[str, ...] = ()
    proxy: str = ""
    vxlan_port: int | None = None
    where: str

    def key(self) -> str:
        """What tells it from the other places of the way."""
        return f"{self.side.value}:{self.stage.value}:{self.namespace}:{self.device}"


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A flow, and the places that it passes in the order of its requests.

    Attributes:
        port: The port that the source calls.
        called: The address that the source calls, where it is not the destination's own (a published port).
        inner_port: The port at the destination, where it is another one than the called one.
        balancer: The address from which the same call comes when it is made by way of a virtual IP; empty without one.
    """

    kind: PathKind
    source: End
    destination: End
    protocol: str
    port: int | None = None
    places: tuple[Place, ...]
    called: str = ""
    inner_port: int | None = None
    balancer: str = ""
    vnis: tuple[int, ...] = ()
    vxlan_port: int | None = None

    @property
    def target(self) -> str:
        """The address that the source calls."""
        return self.called or self.destination.address

    def end(self, side: Side) -> End:
        """The end on a side."""
        return self.source if side is Side.SOURCE else self.destination

    def nic(self, side: Side) -> str:
        """The network card that is watched on a side; empty where none is."""
        cards = (place.device for place in self.places if (place.side, place.stage) == (side, Stage.NIC))
        return next(cards, "")

    @property
    def end_port(self) -> int | None:
        """The port at the destination."""
        return self.inner_port or self.port


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at one place: how many frames of either direction, and of what kind.

    Attributes:
        there: Requests.
        back: Answers.
        refused: Resets among the answers, and ICMP errors about the requests.
        there_later: Requests that follow the opening of a TCP connection, resets apart.
        back_later: The same of the answers.
        outer_sources: Where encapsulated requests came from (their outer addresses).
        outer_targets: Where encapsulated requests went.
        back_outer_sources: Where encapsulated answers came from.
        back_outer_targets: Where encapsulated answers went.
        vnis: The VNIs of encapsulated requests.
        there_length: Bytes of the IP packet (the outer one inside VXLAN) of the first request; 0 where there was none.
        back_length: The same of the first answer.
        origin: The address from which the first request came here; empty where there was none.
        there_macs: The hardware addresses to which requests went.
        back_macs: The same of answers.
        watched: Whether the place could be watched; ``error`` says why not.
    """

    place: Place
    there: int = 0
    back: int = 0
    refused: int = 0
    there_later: int = 0
    back_later: int = 0
    outer_sources: tuple[str, ...] = ()
    outer_targets: tuple[str, ...] = ()
    back_outer_sources: tuple[str, ...] = ()
    back_outer_targets: tuple[str, ...] = ()
    vnis: tuple[int, ...] = ()
    there_length: int = 0
    back_length: int = 0
    first_there_us: int | None = None
    first_back_us: int | None = None
    origin: str = ""
    there_macs: tuple[str, ...] = ()
    back_macs: tuple[str, ...] = ()
    error: str = ""

    @property
    def watched(self) -> bool:
        """Whether the place could be watched."""
        return not self.error

    def outer(self, direction: Direction) -> tuple[str, ...]:
        """Where encapsulated packets of a direction came from."""
        return self.outer_sources if direction is Direction.THERE else self.back_outer_sources

    def macs(self, direction: Direction) -> tuple[str, ...]:
        """To which hardware addresses packets of a direction went."""
        return self.there_macs if direction is Direction.THERE else self.back_macs

    def count(self, direction: Direction) -> int:
        """How many packets of a direction were seen."""
        return self.there if direction is Direction.THERE else self.back

    def later(self, direction: Direction) -> int:
        """How many of them follow the opening of a TCP connection."""
        return self.there_later if direction is Direction.THERE else self.back_later


class Direction(enum.Enum):
    """Which half of the exchange."""

    THERE = "there"
    BACK = "back"


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Between which two places a direction was lost.

    Attributes:
        last: Where it was seen last, in the direction's own order; None when it was seen nowhere.
        next: Where it should have been seen next; None when it came to its end.
        later: The connection opened; what follows in it is lost.
    """

    direction: Direction
    last: Place | None
    next: Place | None
    later: bool = False
