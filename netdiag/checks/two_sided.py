"""What became of each probe between this host and a peer: where it ended, and what that rests on."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from netdiag.checks.context import Context
from netdiag.facts.stacked import below
from netdiag.model.engine import SwarmNode
from netdiag.model.facts import HOST
from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import Trace, TraceVerdict
from netdiag.model.two_sided import LossTrace, Payload, PeerView, SidedProbe, Way
from netdiag.swarm.ports import Plane, PortUse, Protocol, ports_of_swarm

_DEFAULT_NAMES = ("localhost", "")
_STOPS = (TraceVerdict.DROP, TraceVerdict.REJECT)


class Where(enum.Enum):
    """Where a probe's way ended."""

    CAME = "came"
    SENDER = "sender"
    """It did not leave its sender."""
    BETWEEN = "between"
    """It left, and did not arrive at the other device, where another probe did."""
    RECEIVER = "receiver"
    """It arrived at the device and did not come through."""
    ANSWER_BETWEEN = "answer-between"
    ANSWER_SENDER = "answer-sender"
    """The answer arrived at the device of who had sent, and did not come through there."""
    PARTLY = "partly"
    """Some came through and some did not."""
    PROXIED = "proxied"
    """Somebody else answered it: the receiver never saw it."""
    UNKNOWN = "unknown"


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One probe and where it ended.

    Attributes:
        use: What of the swarm needs it.
        reason: Why it is not known.
        trace: The trace at the host that lost it, where one was made.
        supposed: The rule that likely took it, where it was not traced.
        stateful: It came through after the receiver had sent something to the very port that it came from, and not
            without, before and after.
        lossy: The path that it is lost on loses packets of other kinds too, not all of them.
    """

    view: PeerView
    probe: SidedProbe
    use: PortUse
    where: Where
    reason: str = ""
    trace: LossTrace | None = None
    supposed: FirewallRule | None = None
    stateful: bool = False
    lossy: bool = False

    @property
    def rule(self) -> FirewallRule | None:
        """The rule or policy that took it, by the kernel's word or else supposed; without the way that led to it."""
        trace = self.stopping
        rule = (trace.rule or trace.policy) if trace is not None else self.supposed
        return msgspec.structs.replace(rule, call_site=None) if rule is not None and rule.text else None

    @property
    def stopping(self) -> Trace | None:
        """The trace, where it ends in a verdict that stops the probe."""
        trace = self.trace.trace if self.trace is not None else None
        return trace if trace is not None and trace.verdict in _STOPS else None

    @property
    def at_peer(self) -> bool | None:
        """Whether it was lost at the peer; None where it was not lost at a host."""
        if self.where in (Where.SENDER, Where.ANSWER_SENDER):
            return self.probe.way is Way.BACK
        return self.probe.way is Way.THERE if self.where is Where.RECEIVER else None

    @property
    def label(self) -> str:
        """The port, as operators write it, and what was in the packet where that matters."""
        text = self.use.label() + (" with a VXLAN header" if self.probe.payload is Payload.VXLAN else "")
        return text if self.probe.length_bytes is None else f"{text} of {self.probe.length_bytes} bytes"

    @property
    def what(self) -> str:
        """The port, and from which size on where shorter packets come."""
        size = self.probe.length_bytes
        return self.use.label() if size is None else f"{self.use.label()} of {size} bytes and more"


def judged_paths(ctx: Context) -> Iterator[Judged]:
    """Every probe of a port, toward and from every peer, with where it ended."""
    for view in peers(ctx):
        for way in Way:
            mine = [each for each in view.probes if each.way is way]
            for probe in mine:
                use = use_of(ctx, probe)
                if use is not None and probe.length_bytes is None and not probe.again:
                    yield _judged(view, probe, use)
            yield from _sizes_lost_at_a_host(ctx, view, mine)


def _sizes_lost_at_a_host(ctx: Context, view: PeerView, probes: Iterable[SidedProbe]) -> Iterator[Judged]:
    """The smallest datagram of the data path that one of the two hosts lost, where shorter ones come."""
    mine = [each for each in probes if each.payload is Payload.VXLAN]
    lost = [
        each
        for each in mine
        if each.length_bytes is not None and ((each.arrived and each.passed == 0) or (each.refused and not each.sent))
    ]
    edge = min(lost, key=lambda each: each.length_bytes or 0, default=None)
    use = use_of(ctx, edge) if edge is not None else None
    if edge is None or use is None or not any(each.arrived and each.passed != 0 for each in mine):
        return
    judged = _judged(view, edge, use)
    # What the kernel refuses to send may be too long for it; only a rule says that it is a filter.
    if judged.where is Where.RECEIVER or judged.rule is not None:
        yield judged


def peers(ctx: Context) -> tuple[PeerView, ...]:
    """The peers with which something was found out."""
    views = ctx.observed.peers if ctx.observed is not None else ()
    return tuple(view for view in views if not view.why_not)


def nodes_known(ctx: Context) -> tuple[SwarmNode, ...]:
    """The swarm's nodes, as a manager among the peers has them; empty where none is."""
    for view in peers(ctx):
        engine = view.facts.engine.value if view.facts is not None else None
        if engine is not None and engine.cluster is not None:
            return engine.cluster.nodes
    return ()


def use_of(ctx: Context, probe: SidedProbe) -> PortUse | None:
    """What of the swarm a probe stands for; None for controls."""
    if probe.protocol == "icmp":
        return None
    if probe.protocol == "esp":
        return next(use for use in ports_of_swarm(encrypted=True) if use.protocol is Protocol.ESP)
    gossip = [use for use in ports_of_swarm() if use.plane is Plane.GOSSIP]
    for use in gossip:
        if use.protocol.value == probe.protocol and use.port == probe.port:
            return use
    plane = Plane.CONTROL if probe.protocol == "tcp" else Plane.DATA
    if plane is Plane.CONTROL and not _is_control(ctx, probe):
        return None
    use = next(each for each in ports_of_swarm() if each.plane is plane)
    return msgspec.structs.replace(use, port=probe.port)


def _is_control(ctx: Context, probe: SidedProbe) -> bool:
    return probe.port != 22 or any(each.port == 22 for each in ctx.managers)


def label_of(ctx: Context, view: PeerView) -> str:
    """A peer as an operator would type it; with its address where the name says nothing or is another's too."""
    identity = view.facts.identity.value if view.facts is not None else None
    name = identity.hostname if identity is not None else ""
    own = ctx.facts.identity.value
    others = [own.hostname if own is not None else ""]
    for other in peers(ctx):
        facts = other.facts
        if other is not view and facts is not None and facts.identity.value is not None:
            others.append(facts.identity.value.hostname)
    if name.partition(".")[0] in _DEFAULT_NAMES or name in others:
        return f"{name} ({view.address})" if name else view.address or view.given
    return name


def names_of(labels: Iterable[str], most: int = 4) -> str:
    """Several hosts in a line: the first ones by name, the rest by number."""
    found = list(dict.fromkeys(labels))
    if len(found) <= most:
        return ", ".join(found)
    return f"{', '.join(found[: most - 1])} and {len(found) - most + 1} more"


def controls(view: PeerView, way: Way) -> Counter[str]:
    """What did arrive by a way, by its name: the positive control of a negative."""
    names: Counter[str] = Counter()
    for each in view.probes:
        if each.way is way and each.arrived:
            name = "ICMP echo" if each.protocol == "icmp" else "IP protocol 50"
            if each.port is not None:
                name = f"{each.protocol}/{each.port}"
            names[name] += 1
    return names


def loses(view: PeerView, way: Way) -> bool:
    """Whether a way loses packets by chance: of one kind some arrived and some did not."""
    return any(each.way is way and each.came_partly for each in view.probes)


def xdp_of(view: PeerView, ctx: Context, *, at_peer: bool) -> str:
    """The device of a host by which a probe arrives, or one that it stands on, with an XDP program on it; else empty."""
    facts = view.facts if at_peer else ctx.facts
    device = view.peer_device if at_peer else view.device
    links = (facts.links.value or {}).get(HOST, ()) if facts is not None else ()
    passed = (device, *below(links, device))
    return next((link.name for link in links if link.name in passed and link.xdp_mode), "")


def _judged(view: PeerView, probe: SidedProbe, use: PortUse) -> Judged:
    where, reason = _place(view, probe)
    again = [
        each
        for each in view.probes
        if each.again and each.way is probe.way and each.port == probe.port and each.protocol == probe.protocol
    ]
    came = any(each.passed if each.passed is not None else each.arrived for each in again)
    # Only what is lost without, before and after, shows that it is this that makes the difference.
    stateful = came and bool(probe.resent) and not loses(view, probe.way)
    traces = [each for each in view.traces if each.number == probe.number]
    decisive = [each for each in traces if each.trace is not None and each.trace.verdict in _STOPS]
    if where is Where.SENDER and not decisive and not any(each.left for each in view.probes if each.way is probe.way):
        why = next((each.why_not for each in traces if each.why_not), probe.refused)
        where, reason = Where.UNKNOWN, "nothing at all leaves for it" + (f": {why}" if why else "")
    if probe.protocol == "esp" and where is Where.RECEIVER and not decisive:
        # It has no ports, so whatever the receiver has sent meanwhile is the same flow: the trace meets its state.
        stateful = any(each.trace is not None and each.trace.verdict is TraceVerdict.ACCEPT for each in traces)
    back = Way.BACK if probe.way is Way.THERE else Way.THERE
    return Judged(
        view=view,
        probe=probe,
        use=use,
        where=where,
        reason=reason,
        trace=next(iter(decisive or traces), None),
        stateful=stateful and where in (Where.RECEIVER, Where.BETWEEN),
        lossy=loses(view, back if where is Where.ANSWER_BETWEEN else probe.way),
    )


def _place(view: PeerView, probe: SidedProbe) -> tuple[Where, str]:
    connected = probe.heard.kind == "connected"
    if not probe.sent or (probe.left == 0 and not connected and not probe.arrived):
        return (Where.UNKNOWN, probe.unsent) if probe.unsent else (Where.SENDER, "")
    if probe.resent and (probe.arrived or connected) and (connected or probe.heard.kind == "reply"):
        return Where.PARTLY, ""
    if probe.arrived == 0:
        return _never_arrived(view, probe, connected=connected)
    if connected or (probe.heard.kind == "reply" and probe.passed is None):
        return Where.CAME, ""
    if probe.arrived is None:
        return _unwatched(view, probe)
    return _behind_the_device(probe) if probe.protocol != "tcp" else _connection(view, probe)


def _never_arrived(view: PeerView, probe: SidedProbe, *, connected: bool) -> tuple[Where, str]:
    if connected:
        return Where.CAME if probe.alike else Where.PROXIED, ""
    if probe.alike:
        text = "a connection from there to this port arrived under another number and source port: it may be this one"
        return Where.UNKNOWN, text
    if probe.left is None:
        return Where.UNKNOWN, f"it never arrived, and whether it left could not be watched{_unseen(probe)}"
    if controls(view, probe.way):
        return Where.BETWEEN, ""
    return Where.UNKNOWN, "nothing arrived at all, not even a control: no one kind of packet can be blamed"


def _unwatched(view: PeerView, probe: SidedProbe) -> tuple[Where, str]:
    """What the sender's socket says, where nobody could watch the receiver's device."""
    if probe.heard.kind == "reset" and not probe.expected:
        return Where.CAME, ""
    sides = (view.blind_there, view.blind_here)
    why = next(filter(None, sides if probe.way is Way.THERE else sides[::-1]), "")
    why = why or probe.unseen or "more came than could be kept"
    came = {"reset": "only a RST", "icmp": "only an ICMP error"}.get(probe.heard.kind, "nothing")
    return Where.UNKNOWN, f"{came} came back, and where it was lost could not be watched ({why})"


def _behind_the_device(probe: SidedProbe) -> tuple[Where, str]:
    arrived = probe.arrived or 0
    if probe.short_of is not None and not probe.passed:
        return Where.RECEIVER, ""
    if probe.passed is None:
        text = "it arrived, and whether the filters there let it through could not be watched"
        return Where.UNKNOWN, text + _unseen(probe)
    if probe.passed == 0:
        return (Where.CAME if probe.heard.kind == "reply" else Where.RECEIVER), ""
    return (Where.PARTLY if probe.passed < arrived or arrived < probe.sent else Where.CAME), ""


def _connection(view: PeerView, probe: SidedProbe) -> tuple[Where, str]:
    if probe.heard.kind == "reset" and not probe.expected:
        return Where.CAME, ""
    if probe.heard.kind in ("reset", "icmp") or probe.answers_left == 0:
        return Where.RECEIVER, ""
    if probe.answers_left is None:
        return Where.UNKNOWN, f"it arrived, and whether it was answered could not be watched{_unseen(probe)}"
    if probe.answers_arrived:
        return Where.ANSWER_SENDER, ""
    if probe.answers_arrived is None:
        return Where.UNKNOWN, "it was answered, and the sender's device could not be watched"
    back = Way.BACK if probe.way is Way.THERE else Way.THERE
    if controls(view, back):
        return Where.ANSWER_BETWEEN, ""
    return Where.UNKNOWN, "it was answered, and nothing at all arrives the other way"


def _unseen(probe: SidedProbe) -> str:
    return f" ({probe.unseen})" if probe.unseen else ""
