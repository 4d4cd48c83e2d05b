"""The counters of wrong checksums at the end of a flow, read around one more attempt."""

from __future__ import annotations

from netdiag.host.collect import collect
from netdiag.host.diagnose_attempt import try_again
from netdiag.host.diagnose_parties import Party, Planned, netns_of
from netdiag.model.path import Direction, Loss, Side
from netdiag.model.report import Cause
from netdiag.model.wire import Request
from netdiag.path.checksums import FILE, checksum_cause, wrong_sums

_AGAIN_S, _ECHO_S = 0.5, 0.4


def wrong_checksums(planned: Planned, loss: Loss, *, now_s: float) -> list[Cause]:
    """The cause where packets come to their end and are dropped there for their checksum."""
    way = planned.way
    receiver = Side.DESTINATION if loss.last is None and loss.direction is Direction.BACK else Side.SOURCE
    ended = loss.direction is Direction.BACK and (loss.last is None or loss.next is None)
    sender = Side.SOURCE if receiver is Side.DESTINATION else Side.DESTINATION
    party, other = planned.parties.get(receiver), planned.parties.get(sender)
    if not ended or way.protocol not in ("tcp", "udp") or party is None or other is None or not way.nic(sender):
        return []
    netns = netns_of(party.facts, way.end(receiver).namespace)
    counts = [_count(party, netns, way.protocol)]
    source = planned.parties[Side.SOURCE]
    inside = netns_of(source.facts, way.source.namespace)
    echo = {"address": way.target, "sizes": [64], "attempts": 1, **({"netns": inside} if inside else {})}
    (answer,) = source.carrier.ask([Request("echo-sizes", echo, _ECHO_S)])
    counts.append(_count(party, netns, way.protocol))
    try_again(planned, wait_s=_AGAIN_S)
    counts.append(_count(party, netns, way.protocol))
    first, before, after = counts
    if first is None or before is None or after is None or after <= before:
        return []
    cards = collect(other.carrier, ("nics",), now_s=now_s, options=other.options).nics.value or ()
    one = checksum_cause(
        way.end(sender),
        way.end(receiver),
        way.protocol,
        (first, before, after),
        nic=way.nic(sender),
        card=next((card for card in cards if card.name == way.nic(sender)), None),
        echoed=answer.data is not None and answer.data["sizes"][0]["outcome"] == "answered",
    )
    return [one] if one is not None else []


def _count(party: Party, netns: str, protocol: str) -> int | None:
    (answer,) = party.carrier.ask([Request("file", {"path": FILE, **({"netns": netns} if netns else {})}, 1.0)])
    return wrong_sums(answer.data["text"]).get(protocol) if answer.data is not None else None
