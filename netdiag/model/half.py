"""One side's half of a diagnosis that two hosts make apart: what it sent, what it saw, and what stands there."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.facts import HOST
from netdiag.model.path import Place, Side, Stage
from netdiag.model.report import Cause


class Outcome(enum.Enum):
    """How the source's attempt of one round ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    LOST = "lost"
    """Nothing came back."""
    UNSENT = "unsent"


class HalfFlow(msgspec.Struct, frozen=True, kw_only=True):
    """The flow, by the addresses that this side knows its ends by."""

    source: str
    destination: str
    protocol: str
    port: int | None = None

    def text(self) -> str:
        """In a few words: "10.0.0.1 to 10.0.0.2, tcp/22"."""
        port = f"/{self.port}" if self.port is not None else ""
        return f"{self.source} to {self.destination}, {self.protocol}{port}"


class HalfEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A container of an overlay network as the end of a flow, and where this host's engine puts the other one.

    Attributes:
        container: The container.
        network: The network.
        host_address: Where this host's tunnels end, as its engine tells.
        towards: Where the other container's host has its tunnels end, as this host's engine tells.
        vxlan_port: The UDP port of the tunnels.
    """

    container: str
    network: str
    host_address: str
    towards: str
    vxlan_port: int


class HalfPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where this side watched."""

    stage: Stage
    namespace: str
    device: str

    @classmethod
    def of(cls, place: Place) -> HalfPlace:
        """The same place of a way."""
        return cls(stage=place.stage, namespace=place.namespace, device=place.device)

    def where(self, host: str) -> str:
        """In a few words: "eth0 of worker"."""
        return f"{self.device} of {host}" if self.namespace == HOST else f"{self.device} of {self.namespace} on {host}"


class HalfCount(msgspec.Struct, frozen=True):
    """How many packets of the attempt were seen at one place, as in `netdiag.model.path.Sight`."""

    there: int = 0
    back: int = 0
    refused: int = 0
    watched: bool = True


class HalfRound(msgspec.Struct, frozen=True, kw_only=True):
    """One round as one side saw it.

    Attributes:
        due_s: When the source was to send, in Unix seconds: what both sides know the round by.
        counts: For each place of the half.
        outcome: The attempt's end; None on the side of the destination, which does not know it.
        detail: The same in a few words.
        rtt_us: How long the answer took.
        echo_arrived: Whether the other side's echo came to this one's NIC; None where that was not watched.
        late_ms: How much later than due by this host's clock the other's first packet came; None where none did.
    """

    due_s: int
    counts: tuple[HalfCount, ...]
    outcome: Outcome | None = None
    detail: str = ""
    rtt_us: int | None = None
    echo_arrived: bool | None = None
    late_ms: int | None = None

    def heard(self) -> bool:
        """Whether anything of the other side came here in this round."""
        return self.late_ms is not None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A cause that a side found on itself.

    Attributes:
        cause: The cause.
        ahead: The flow was not lost there, but would be, were it not lost before.
        about: Of which packet, in a few words.
    """

    cause: Cause
    ahead: bool = False
    about: str = ""


class Half(msgspec.Struct, frozen=True, kw_only=True):
    """What one side knows.

    Attributes:
        side: Which.
        host: What it calls itself.
        flow: The flow.
        within_s: How far apart rounds are, which both sides have to agree on.
        places: Where it watched, in the order of the way.
        rounds: What came of each round that it took part in.
        told: What it found on itself.
        more: How many causes were left out because three lines hold no more.
        listens: Who listens at the destination's port; empty for nobody, and on the side of the source.
        hidden: Why packets may pass its NIC unseen, in a few words; empty where they do not.
        end: The container that is its end; None where the end is the host.
        why: Why it names no cause although it may have one; empty where nothing of its own is left open.
    """

    side: Side
    host: str
    flow: HalfFlow
    within_s: int
    places: tuple[HalfPlace, ...]
    rounds: tuple[HalfRound, ...]
    told: tuple[Told, ...] = ()
    more: int = 0
    listens: str = ""
    hidden: str = ""
    end: HalfEnd | None = None
    why: str = ""
