"""Which questions of a preflight a loss between two hosts touches, and which become a no."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from netdiag.checks.context import Context, same_address
from netdiag.checks.mtu import OVERLAY_OUTER_BYTES
from netdiag.checks.two_sided import Judged, Where
from netdiag.model.probes import TlsOutcome
from netdiag.model.report import Need
from netdiag.model.two_sided import Payload
from netdiag.swarm.ports import Plane, Protocol

_AFFECTED = {Need.JOIN: "swarm join", Need.NAMES: "service names", Need.TRAFFIC: "overlay data"}


def affected(touched: Collection[Need]) -> tuple[str, ...]:
    """What the loss breaks, in the words of the catalogue."""
    return tuple(text for need, text in _AFFECTED.items() if need in touched)


def needs_of(ctx: Context, losses: Sequence[Judged], everything: Sequence[Judged]) -> tuple[set[Need], set[Need]]:
    """The questions that the losses touch, and those of them that become a no; ``everything``: all that was judged."""
    another = any(
        probe.tls is not None
        and probe.tls.outcome is TlsOutcome.HANDSHAKE
        and not any(same_address(probe.address, each.view.address) for each in losses)
        for probe in ctx.managers
    )
    touched = {need for each in losses for need in each.use.needs}
    breaks: set[Need] = set()
    for each in losses:
        if each.use.plane is Plane.CONTROL:
            breaks |= set() if another else {Need.JOIN}
        elif _carries_overlays(each):
            breaks.add(Need.TRAFFIC)
        elif each.use.protocol is Protocol.TCP and _lost_both_ways(each, everything):
            # Either side begins the exchange of gossip: it takes both to lose it.
            breaks |= {Need.NAMES, Need.TRAFFIC}
    if another:
        touched.discard(Need.JOIN)
    return touched, breaks


def _carries_overlays(lost: Judged) -> bool:
    """Whether packets of an overlay with the usual MTU, or of encryption, are like the one that is lost."""
    if lost.use.protocol is Protocol.ESP:
        return True
    usual = (lost.probe.length_bytes or 0) <= OVERLAY_OUTER_BYTES
    return lost.use.plane is Plane.DATA and lost.probe.payload is not Payload.TAG and usual


def _lost_both_ways(lost: Judged, everything: Sequence[Judged]) -> bool:
    other = [
        each
        for each in everything
        if each.view is lost.view and each.use == lost.use and each.probe.way is not lost.probe.way
    ]
    return bool(other) and all(each.where not in (Where.CAME, Where.UNKNOWN) for each in other)
