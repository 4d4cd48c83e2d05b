"""Observations from both ends of a path: what became of each probe between this host and a peer."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.facts import Facts
from netdiag.model.icmp import IcmpError
from netdiag.model.trace import Trace


class Way(enum.Enum):
    """Who sent a probe to whom."""

    THERE = "there"
    """This host to the peer."""
    BACK = "back"
    """The peer to this host."""


class Payload(enum.Enum):
    """What a UDP probe carries."""

    TAG = "tag"
    """Bytes that are nothing in particular."""
    VXLAN = "vxlan"
    """A VXLAN header and an inner frame, as an overlay network sends them."""


class Unmet(enum.Enum):
    """Why nothing could be found out together with a peer; what helps depends on it."""

    NO_WAY = "no-way"
    """It was not said how its participant is reached."""
    UNREACHED = "unreached"
    """Its participant could not be reached."""
    UNREAD = "unread"
    """What must be known of it first could not be read."""
    UNNAMED = "unnamed"
    """Where to send to is known from itself only."""
    NO_ROUTE = "no-route"
    """This host has no way to send to it."""
    SAME_HOST = "same-host"
    """It is this host, or one that was asked by another name."""
    GONE = "gone"
    """It answered at first, and then nothing any more."""
    LATE = "late"
    ODD = "odd"
    """It answered something that cannot be understood."""


class Heard(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the sender's socket heard: nothing, connected, reset, icmp or reply."""

    kind: str = "nothing"
    rtt_us: int | None = None
    icmp: IcmpError | None = None


class SidedProbe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One probe, seen from both ends. A count is None where nobody could look.

    Attributes:
        protocol: tcp, udp, esp or icmp; icmp is only a control and a carrier of sizes.
        length_bytes: Of the whole IP packet, where the size is what is asked; sent with DF then.
        again: Sent once more, after the receiver had sent a packet to its very source.
        expected: The destination port, where somebody answers: held by netdiag, or listened to.
        sent: How often the kernel took it.
        resent: How many of these were sent again later, each from another port, because nothing had been seen arriving.
        refused: Why the kernel did not; its own words.
        unsent: Why it was not even tried; empty where it was.
        left: How often it was seen leaving the sender's device.
        arrived: How often it was seen arriving on the receiver's device.
        passed: How often it came to the end of the receiver's own filters; not known for TCP.
        short_of: Where it ended between two devices of one of the hosts, one of which stands on the other: the last one
            that saw it, and the next; None where it did not.
        unseen: Why what one of the two saw could not be read at the end; a count of none is None then.
        alike: How often something else began a connection from its sender to its port, under another number and source
            port: a firewall between may have made that of it.
        answers_left, answers_arrived: The same of what the receiver's kernel answered (SYN-ACK, RST, echo reply).
        left_source: Where it came from when it left the sender's device; empty where that was not seen.
        left_destination: Where it went to when it left the sender's device.
        seen_source: Where it came from, as the receiver sees it; empty where it was not seen.
        seen_destination: Where it was sent to, as the receiver sees it.
        seen_devices: The receiver's devices on which it was seen arriving.
        answer_devices: The receiver's devices by which its answer left.
        left_devices: The sender's devices by which it left.
        back_devices: The sender's devices on which the answer arrived.
    """

    number: int
    way: Way
    protocol: str
    port: int | None = None
    payload: Payload = Payload.TAG
    length_bytes: int | None = None
    again: bool = False
    expected: bool = False
    source: str = ""
    source_port: int | None = None
    destination: str = ""
    sent: int = 0
    resent: int = 0
    refused: str = ""
    unsent: str = ""
    heard: Heard = Heard()
    left: int | None = None
    arrived: int | None = None
    passed: int | None = None
    alike: int = 0
    answers_left: int | None = None
    answers_arrived: int | None = None
    left_source: str = ""
    left_destination: str = ""
    seen_source: str = ""
    seen_source_port: int | None = None
    seen_destination: str = ""
    seen_devices: tuple[str, ...] = ()
    answer_devices: tuple[str, ...] = ()
    left_devices: tuple[str, ...] = ()
    back_devices: tuple[str, ...] = ()
    short_of: tuple[str, str] | None = None
    unseen: str = ""

    @property
    def came_partly(self) -> bool:
        """Whether some arrived and some did not: chance, or a limit of rate."""
        return self.arrived is not None and 0 < self.arrived < max(self.sent, self.left or 0)


class LossTrace(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The trace of a probe that was lost at one of the two hosts, through that host's filters.

    Attributes:
        number: Of the probe.
        at_peer: Whose filters.
        outward: It was traced as a packet that leaves; else as one that arrives.
        answer: It was the answer to the probe (a SYN-ACK) that was traced, made by hand.
        why_not: Why it could not be traced; empty when it was.
    """

    number: int
    at_peer: bool
    outward: bool
    answer: bool = False
    trace: Trace | None = None
    why_not: str = ""


class ClockOffset(msgspec.Struct, frozen=True, kw_only=True):
    """The peer's clock against this host's, from the quickest of several round trips; ahead is positive."""

    offset_s: float
    error_s: float
    round_trips: int


class PeerView(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything that was found out together with one peer.

    Attributes:
        given: The peer as the operator typed it, or its address from the node list.
        address: Where this host sends to.
        own_address: Where the peer sends to.
        device: This host's device toward the peer.
        peer_device: The peer's device toward this host.
        facts: The peer's; some sections only, the filters among them where something was traced there.
        why_not: Why nothing could be found out together; the rest is empty then.
        unmet: The kind of that reason; None where there is none.
        blind_here: Why no packets could be watched here; empty where they were.
        blind_there: The same for the peer.
        unfinished: What could not be asked to its end, with the reason: sizes, and whether a filter keeps state.
        unguarded: Ports (``tcp/2377``) that somebody holds and to which therefore nothing was sent, with their way.
    """

    given: str
    address: str = ""
    own_address: str = ""
    device: str = ""
    peer_device: str = ""
    facts: Facts | None = None
    why_not: str = ""
    unmet: Unmet | None = None
    blind_here: str = ""
    blind_there: str = ""
    probes: tuple[SidedProbe, ...] = ()
    traces: tuple[LossTrace, ...] = ()
    unguarded: tuple[tuple[Way, str], ...] = ()
    unfinished: tuple[tuple[Way, str], ...] = ()
    clock: ClockOffset | None = None
    is_manager: bool = False
