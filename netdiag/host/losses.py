"""A trace of every probe that one of the two hosts lost, through the filters of that host."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from netdiag.checks.context import same_address
from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options
from netdiag.facts.kernel import gather_kernel
from netdiag.facts.rounds import together
from netdiag.facts.sections import SECTIONS
from netdiag.facts.trace_here import namespace_of
from netdiag.facts.trace_wanted import Wanted
from netdiag.facts.traced_flows import gather_traced
from netdiag.host.drive import Carrier, drive, not_understood
from netdiag.host.sided_probes import Sides
from netdiag.host.station import Station
from netdiag.host.trace import trace
from netdiag.model.facts import HOST, Facts
from netdiag.model.firewall import Direction, Packet
from netdiag.model.probes import TracedFlow
from netdiag.model.trace import TracePath, TraceVerdict
from netdiag.model.two_sided import LossTrace, Payload, SidedProbe, Way

_FILTERS = ("firewall", "firewall_saved", "neighbours", "fdb")
_REFUSED = ("sockets",)
"""Read as well where a connection was refused: whether anybody listens on the address that it was for."""
_RULES = ("firewall",)
_UDP_BYTES = 8
_ENCAPSULATED_BYTES = 8 + 14 + 20 + 8 + 8
"""What a probe has behind the outer UDP header: VXLAN, Ethernet, IPv4 and UDP headers, and its tag."""
_ESP_BYTES = 16
"""Index, sequence number and the tag."""


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two hosts, and which of its filters a probe should have come through."""

    probe: SidedProbe
    at_peer: bool
    outward: bool


def trace_losses(
    lost: Sequence[SidedProbe], sides: Sides, *, now_s: float, options: Options
) -> tuple[tuple[LossTrace, ...], Facts | None]:
    """The traces, and the peer's facts with its filters where something was lost there."""
    places = [_place(each) for each in lost]
    found: list[LossTrace] = []
    facts: list[Facts] = []

    def at(station: Station, mine: Sequence[_Place]) -> None:
        known = station.facts
        if station is sides.there:
            refused = any(place.probe.heard.kind == "reset" for place in mine)
            known = _with_facts(station.carrier, known, (*_FILTERS, *(_REFUSED if refused else ())))
            facts.append(known)
        found.extend(_traced(station, known, mine, now_s, options if station is sides.here else Options()))

    def run(station: Station, mine: Sequence[_Place]) -> None:
        try:
            at(station, mine)
        except Exception as error:  # noqa: BLE001 - an odd answer costs no more than its own traces
            why = not_understood(error)
            found.extend(
                LossTrace(number=each.probe.number, at_peer=each.at_peer, outward=each.outward, why_not=why)
                for each in mine
            )

    threads = [
        threading.Thread(target=run, args=(station, mine), name="netdiag-losses", daemon=True)
        for station, at_peer in ((sides.here, False), (sides.there, True))
        if (mine := [each for each in places if each.at_peer is at_peer])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(found), facts[0] if facts else None


def lost_there(probe: SidedProbe) -> bool:
    """Whether it was the peer that lost a probe."""
    return _place(probe).at_peer


def translated_there(probes: Sequence[SidedProbe]) -> bool:
    """Whether the peer changes the address of what it sends itself: its rules are worth reading then."""
    return any(
        each.way is Way.BACK
        and bool(each.left_source)
        and not (same_address(each.left_source, each.source) and same_address(each.left_destination, each.destination))
        for each in probes
    )


def _place(probe: SidedProbe) -> _Place:
    sender_is_peer = probe.way is Way.BACK
    if probe.left == 0 or not probe.sent:
        return _Place(probe=probe, at_peer=sender_is_peer, outward=True)
    came_back = probe.protocol == "tcp" and bool(probe.answers_arrived) and probe.heard.kind == "nothing"
    return _Place(probe=probe, at_peer=sender_is_peer if came_back else not sender_is_peer, outward=False)


def with_rules(carrier: Carrier, facts: Facts) -> Facts:
    """What is known of a host, with the rules that run there: what is not traced is read."""
    return _with_facts(carrier, facts, _RULES)


def _with_facts(carrier: Carrier, facts: Facts, names: Sequence[str]) -> Facts:
    """What is known of a host, with sections of its own namespace; those of its containers, hundreds maybe, lose nothing."""
    kernel = facts.kernel
    if kernel.value is None:
        kernel = drive(gather_kernel(Context()), carrier)
    context = Context(
        namespaces={HOST: namespace_of(facts, HOST)},
        links={HOST: (facts.links.value or {}).get(HOST, ())},
        kernel=kernel.value,
    )
    found = drive(together([SECTIONS[name].gather(context) for name in names]), carrier)
    return msgspec.structs.replace(facts, kernel=kernel, **dict(zip(names, found, strict=True)))


def _traced(
    station: Station, facts: Facts, places: Sequence[_Place], now_s: float, options: Options
) -> list[LossTrace]:
    answers = [each for each in places if not each.outward and each.at_peer is (each.probe.way is Way.BACK)]
    plain = [each for each in places if each not in answers]
    flows = _flows(station, facts, plain)
    found = [
        LossTrace(
            number=place.probe.number,
            at_peer=place.at_peer,
            outward=place.outward,
            trace=flow.trace,
            why_not=flow.why_not,
        )
        for place, flow in zip(plain, flows, strict=True)
    ]
    # A SYN that came through and was not answered by anything that left: its answer is asked about.
    for place, flow in zip(plain, flows, strict=True):
        passes = flow.trace is not None and flow.trace.verdict is TraceVerdict.ACCEPT
        if place.probe.protocol == "tcp" and not place.outward and passes and place.probe.answers_left == 0:
            found.append(_answer(station, place, outward=True, now_s=now_s, options=options))
    found += [_answer(station, place, outward=False, now_s=now_s, options=options) for place in answers]
    return found


def _flows(station: Station, facts: Facts, places: Sequence[_Place]) -> tuple[TracedFlow, ...]:
    if not places:
        return ()
    packets = [_packet(each) for each in places]
    flows = drive(gather_traced(packets, facts), station.carrier)
    # Where conntrack has the very tuple in use, another source port asks the same.
    busy = [index for index, flow in enumerate(flows) if flow.trace is None and "conntrack has" in flow.why_not]
    if busy:
        anew = [msgspec.structs.replace(packets[index], source_port=None) for index in busy]
        other = iter(drive(gather_traced(anew, facts), station.carrier))
        flows = tuple(next(other) if index in busy else flow for index, flow in enumerate(flows))
    return flows


def _packet(place: _Place) -> Packet:
    """The very probe, as the host where it was lost saw it."""
    probe = place.probe
    return Packet(
        direction=Direction.OUT if place.outward else Direction.IN,
        protocol="50" if probe.protocol == "esp" else probe.protocol,
        family=6 if ":" in probe.destination else 4,
        source=probe.source if place.outward else probe.seen_source or probe.source,
        destination=probe.destination if place.outward else probe.seen_destination or probe.destination,
        source_port=(None if place.outward else probe.seen_source_port or probe.source_port),
        destination_port=probe.port,
        length=_length(probe),
        vxlan=probe.payload is Payload.VXLAN,
    )


def _length(probe: SidedProbe) -> int | None:
    """How long the whole packet was, where it was not as short as it can be."""
    if probe.length_bytes is not None:
        return probe.length_bytes
    head = 40 if ":" in probe.destination else 20
    if probe.payload is Payload.VXLAN:
        return head + _UDP_BYTES + _ENCAPSULATED_BYTES
    return head + _ESP_BYTES if probe.protocol == "esp" else None


def _answer(station: Station, place: _Place, *, outward: bool, now_s: float, options: Options) -> LossTrace:
    """The trace of a SYN-ACK, at the host that should have sent it or at the one that should have taken it."""
    probe = place.probe
    # The one who answers knows the source as it arrived there.
    wanted = Wanted(
        path=TracePath.OUT if outward else TracePath.IN,
        source=probe.seen_destination or probe.destination if outward else probe.destination,
        destination=probe.seen_source or probe.source if outward else probe.source,
        protocol="tcp",
        source_port=probe.port,
        destination_port=(probe.seen_source_port if outward else None) or probe.source_port,
        tcp_flags="syn,ack",
    )
    found = LossTrace(number=probe.number, at_peer=place.at_peer, outward=outward, answer=True)
    try:
        made = trace(station.carrier, wanted, now_s=now_s, options=options)
    except UsageError as error:
        return msgspec.structs.replace(found, why_not=str(error))
    return msgspec.structs.replace(found, trace=made)
