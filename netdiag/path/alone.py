"""What can be said of a destination that takes no part: from refusals, from silence, and from who answers on the way.

Nothing here is more than likely: one side sees what comes back, and not who kept the rest
(docs/decisions/0003-what-one-side-may-claim.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.found import Found
from netdiag.model.icmp import HOST_UNREACHABLE, PORT_UNREACHABLE, PROHIBITED, UNREACHABLE, IcmpError
from netdiag.model.path import Sight, Way
from netdiag.model.report import Cause, Confidence, Evidence, State, Step, Subject, clause
from netdiag.path.verdict import Attempt, sight_evidence
from netdiag.shell import shell_text

HOPS = 16
"""How many routers are asked for at most."""


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a packet that may pass ``ttl`` - 1 routers.

    Attributes:
        router: Who said that it may pass no more; empty where nobody did.
        answered: The destination itself answered, in whatever way.
    """

    ttl: int
    router: str = ""
    answered: bool = False


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What a silent destination was asked besides the attempt.

    Attributes:
        echoes: Echo requests with growing TTL.
        packets: Packets as the flow's own, with growing TTL.
        further: Further attempts, each from a port of its own: which were answered.
    """

    echoes: tuple[Hop, ...] = ()
    packets: tuple[Hop, ...] = ()
    further: tuple[bool, ...] = ()


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A cause, or why there is none, what it rests on, and who could tell more."""

    cause: Cause | None = None
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
    next: tuple[Step, ...] = ()


def of_refusal(way: Way, attempt: Attempt, *, own: Sequence[str], left: bool) -> Said:
    """Why a destination refuses, by what it says.

    Args:
        way: The flow.
        attempt: How it ended.
        own: The addresses of the source's host; what these say, its own filters and routes explain.
        left: It was seen leaving this host, whose own rules can refuse with a reset as well.
    """
    seen = Evidence("probe", f"{_flow(way)} to {way.target}: {attempt.text}", {})
    icmp = attempt.icmp
    if icmp is None and not left:
        reason = "whether it left this host was not seen, which needs root, and a rule of its own can refuse like this"
        return Said(reason=reason, evidence=(seen,), next=_steps(way))
    if icmp is None:
        found = None if attempt.text == "no answer" else _nobody_listens(way, "a RST", seen)
        return Said(cause=found, evidence=(seen,), next=_steps(way))
    if icmp.sender in own:
        return Said(reason=f"this host itself says so ({icmp.said()})", evidence=(seen,))
    at_end = icmp.sender == way.target
    if icmp.key in PORT_UNREACHABLE and way.protocol == "udp" and at_end:
        found = _nobody_listens(way, 'ICMP "port unreachable"', seen)
    elif icmp.key in PROHIBITED or (at_end and icmp.key in UNREACHABLE):
        found = _rejected(way, icmp, seen, at_end=at_end)
    elif icmp.key in UNREACHABLE:
        found = _beyond(way, icmp, seen)
    else:
        return Said(reason=f"{icmp.sender} answers with ICMP type {icmp.type}, code {icmp.code}", evidence=(seen,))
    return Said(cause=found, evidence=(seen,), next=_steps(way) if at_end else ())


def of_silence(way: Way, survey: Survey, *, own: Sequence[str]) -> Said:
    """Where a flow is lost that leaves this host's device and is never answered.

    Args:
        way: The flow.
        survey: What else was asked.
        own: The addresses of the source's host, which is itself the first hop of a container.
    """
    alive = next((hop.ttl for hop in survey.echoes if hop.answered), None)
    evidence = (
        Evidence("probe", _told(f"ICMP echo to {way.target}", survey.echoes), {"answered": alive is not None}),
        Evidence("probe", _told(f"{_flow(way)} to {way.target}", survey.packets), {}),
    )
    if any(survey.further):
        came, tried = sum(survey.further), len(survey.further)
        return Said(
            reason=f"{came} of {tried} further attempts were answered: it is lost now and then, or from some ports only",
            evidence=evidence,
            next=_steps(way),
        )
    last = max((hop.ttl for hop in survey.packets if hop.router), default=0)
    routers = {hop.ttl: hop.router for hop in (*survey.echoes, *survey.packets) if hop.router}
    begin = routers.get(last, way.source.host_address or way.source.address)
    if last and begin == way.target:
        return Said(
            reason=f"packets come to {begin} itself, which passes them on: they are lost there, or behind it",
            evidence=evidence,
            next=_steps(way),
        )
    behind = [ttl for ttl in sorted(routers) if ttl > last]
    end = routers[behind[0]] if behind else way.target
    beyond = [ttl for ttl in behind if routers[ttl] not in own]
    where = f"Packets of {_flow(way)} come as far as {begin}" if last else f"{_flow(way)} was seen leaving this host"
    if alive is None:
        asked = (
            "neither it nor an echo is answered" if not beyond else "an echo comes further, and is not answered either"
        )
        text = f"{where}, and {asked}: a filter drops it, or {way.target} is down or has another address."
    elif end == way.target:
        text = (
            f"{way.target} answers an echo, so it is up and the way there is whole. {where}; what is behind gives no"
            " answer: most often it is that host's own firewall, else a filter right before it."
        )
    else:
        text = f"{way.target} answers an echo, which comes on to {end}. {where}, and not to {end}: one of the two drops it."
    return Said(
        cause=cause(
            "underlay.filtered",
            host=None,
            object={"kind": "segment", "from": begin, "to": end, "protocol": way.protocol, "port": way.port},
            confidence=Confidence.POSSIBLE if alive is None else Confidence.LIKELY,
            explanation=text,
            evidence=evidence,
            affects=_affected(way),
        ),
        evidence=evidence,
        next=_steps(way),
    )


def alone_found(way: Way, sights: Sequence[Sight], what: str, said: Said, unseen: str) -> Found:
    """The finding of what one side can say.

    Args:
        way: The flow.
        sights: What was seen of it on this host.
        what: What happened, in a clause.
        said: What can be said of it.
        unseen: Why no more can.
    """
    subject = Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None)
    one = said.cause
    return Found(
        check="path.loss",
        state=State.FAIL if one is not None else State.UNKNOWN,
        subject=subject,
        summary=f"{what}: {clause(one.title)}" if one is not None else f"why {what}",
        evidence=(*sight_evidence(way, sights), *said.evidence),
        cause=one,
        reason="; ".join(filter(None, (said.reason, unseen))) if one is None else None,
        next=said.next,
    )


def refusal_text(way: Way, attempt: Attempt) -> str:
    """Who refuses, in a clause."""
    by = attempt.icmp.sender if attempt.icmp is not None else way.target
    return f"{by} refuses {_flow(way)}"


def _told(what: str, hops: Sequence[Hop]) -> str:
    by_router = [f"{hop.router} at hop {hop.ttl}" for hop in hops if hop.router]
    answered = next((hop.ttl for hop in hops if hop.answered), None)
    end = f"answered at hop {answered}" if answered is not None else "no answer"
    return f"{what}: {', '.join([*by_router, end])}"


def _flow(way: Way) -> str:
    return f"{way.protocol}/{way.port}" if way.port is not None else way.protocol


def _affected(way: Way) -> tuple[str, ...]:
    return ("container traffic",) if way.source.container else ("host traffic",)


def _nobody_listens(way: Way, how: str, seen: Evidence) -> Cause:
    return cause(
        "container.no-listener",
        host=way.destination.host,
        object={"kind": "socket", "address": way.target, "port": way.port, "protocol": way.protocol},
        confidence=Confidence.LIKELY,
        explanation=(
            f"{way.target} answers {_flow(way)} with {how}: nobody listens there, as far as can be told from here. (A"
            " filter that rejects like this looks the same.)"
        ),
        evidence=(seen,),
    )


def _rejected(way: Way, icmp: IcmpError, seen: Evidence, *, at_end: bool) -> Cause:
    return cause(
        "firewall.rule",
        host=icmp.sender if not at_end else way.destination.host,
        object={
            "kind": "rule",
            "known": False,
            "hook": "input" if at_end else "forward",
            "reject_with": icmp.said(),
            "protocol": way.protocol,
            "port": way.port,
        },
        confidence=Confidence.LIKELY,
        explanation=(
            f'{icmp.sender} answers with ICMP "{icmp.said()}", which only a packet filter sends'
            f"{'' if at_end else ' (or a router with a route that prohibits)'}: a REJECT rule there stops {_flow(way)}."
            " Which rule it is can be seen there only."
        ),
        evidence=(seen,),
        affects=_affected(way),
    )


def _beyond(way: Way, icmp: IcmpError, seen: Evidence) -> Cause:
    """A router on the way says that it cannot reach the destination."""
    unheard = icmp.key in HOST_UNREACHABLE
    target = {"kind": "neighbour", "address": way.target, "device": ""}
    return cause(
        "underlay.neighbour" if unheard else "underlay.no-route",
        host=icmp.sender,
        object=target if unheard else {"kind": "route", "destination": way.target},
        confidence=Confidence.LIKELY,
        explanation=(
            f"The router {icmp.sender} says of {way.target}: {icmp.said()}."
            + (" It is down or has another address, or a route there says so." if unheard else "")
        ),
        evidence=(seen,),
    )


def _steps(way: Way) -> tuple[Step, ...]:
    """What the other host can tell, where somebody may log in there."""
    source = way.places[-1].a if way.places else way.source.address
    words = ["netdiag", "firewall", "trace", "--path", "in", "--src", source, "--proto", way.protocol]
    port = ["--dport", str(way.end_port)] if way.end_port is not None else []
    return (
        Step(
            host=way.destination.host,
            command=shell_text([*words, *port]),
            why=f"names the rule on that host which stops {_flow(way)} from here, if one does",
        ),
    )
