"""Where a packet that a rule sends on goes next: into a container of this host, whose own filters decide there."""

from __future__ import annotations

import msgspec

from netdiag.facts.trace_here import Here, bare
from netdiag.facts.trace_wanted import Wanted
from netdiag.model.facts import Facts
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Trace, TracePath, TraceVerdict

_CONTAINER = "container:"
_ORDER = (Confidence.PROVEN, Confidence.LIKELY, Confidence.POSSIBLE)


def sent_on(found: Trace, facts: Facts) -> Endpoints | None:
    """The addresses with which a packet for this namespace leaves it again; None where it ends here, or went no further."""
    if found.verdict is not TraceVerdict.ACCEPT or found.packet.path is not TracePath.IN or not found.nat:
        return None
    after = found.nat[-1].after
    own = {bare(row) for row in Here(facts, found.packet.namespace).addresses}
    return None if after.destination in own or after.destination == found.packet.destination else after


def inside(found: Trace, after: Endpoints, facts: Facts) -> Wanted | None:
    """The same packet as a container meets it that has its new destination; None where no container is known to.

    Args:
        found: What became of it here.
        after: Its addresses when it left.
        facts: With the addresses of all namespaces.
    """
    places = [
        (namespace, row.device)
        for namespace, rows in (facts.addresses.value or {}).items()
        for row in rows
        if namespace.startswith(_CONTAINER) and namespace != found.packet.namespace and bare(row) == after.destination
    ]
    if len(places) != 1:
        return None
    ((namespace, device),) = places
    packet = found.packet
    return Wanted(
        path=TracePath.IN,
        namespace=namespace,
        in_device=device,
        source=after.source,
        destination=after.destination,
        protocol=packet.protocol,
        source_port=after.source_port,
        destination_port=after.destination_port,
        icmp_type=packet.icmp_type,
        tcp_flags=packet.tcp_flags or "",
        length=packet.length,
    )


def joined(outer: Trace, there: Trace) -> Trace:
    """One answer of both ways: what the container's filters say decides, behind all that let it come so far."""
    passed = there.verdict is TraceVerdict.ACCEPT
    # A rule that let it through says more than a policy; the last word is the container's.
    decided = there if not passed or there.rule is not None or outer.rule is None else outer
    where = there.packet.namespace
    times = [each.elapsed_ms for each in (outer, there)]
    return msgspec.structs.replace(
        outer,
        verdict=there.verdict,
        rule=decided.rule,
        policy=decided.policy,
        confidence=max(outer.confidence, there.confidence, key=_ORDER.index),
        path=(*outer.path, *there.path),
        nat=(*outer.nat, *there.nat),
        elapsed_ms=None if None in times else round(sum(each for each in times if each is not None), 2),
        reason=f"in {where}: {there.reason}" if there.reason else "",
    )


def doubted(found: Trace, why: str) -> Trace:
    """The answer where what happens beyond this namespace is not known."""
    return msgspec.structs.replace(
        found,
        confidence=max(found.confidence, Confidence.LIKELY, key=_ORDER.index),
        reason="; ".join(filter(None, (found.reason, why))),
    )
