"""Why a TCP connection to a manager does not come about: from what came back to a cause."""

from __future__ import annotations

from netdiag.causes import cause
from netdiag.checks.context import Context
from netdiag.firewall.plain import Outcome, read_plainly
from netdiag.firewall.remedy import accept_before, persist_commands
from netdiag.model.facts import HOST
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.found import Found
from netdiag.model.probes import IcmpError, ManagerProbe, TcpOutcome, TcpProbe
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Risk, Step, Subject

_JOIN = (Need.JOIN,)

# RFC 792 and RFC 1812 §5.2.7.1, RFC 4443: code -> what it says. Prohibitions come from packet filters only; Linux never
# answers a TCP segment with "port unreachable" except by a REJECT rule (net/ipv4/tcp_ipv4.c sends a RST instead).
_PROHIBITED = {
    (3, 3): "port unreachable",
    (3, 9): "network prohibited",
    (3, 10): "host prohibited",
    (3, 13): "administratively prohibited",
    (1, 1): "administratively prohibited",
    (1, 4): "port unreachable",
    (1, 5): "source address failed policy",
    (1, 6): "reject route",
}
_UNREACHABLE = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (1, 0): "no route",
    (1, 3): "address unreachable",
}


def unreachable(ctx: Context, check: str, probe: ManagerProbe) -> Found:
    """The finding for a connection that failed."""
    tcp = probe.tcp
    assert tcp is not None  # noqa: S101 - called for a failed connection only
    subject = Subject(host=ctx.host, peer=probe.given)
    seen = Evidence("probe", _seen(probe, tcp), {"outcome": tcp.outcome.value, "waited_s": tcp.waited_s})
    found, summary = _explain(ctx, probe, tcp, seen)
    return ctx.problem(
        check,
        summary,
        breaks=_JOIN,
        subject=subject,
        evidence=[seen],
        cause=found,
        next_steps=_next(ctx, probe, found),
    )


def _seen(probe: ManagerProbe, tcp: TcpProbe) -> str:
    where = f"SYN to {probe.address}:{probe.port}"
    match tcp.outcome:
        case TcpOutcome.SILENT:
            return f"{where}: nothing came back within {tcp.waited_s:.1f} s"
        case TcpOutcome.RESET:
            return f"{where}: RST"
        case TcpOutcome.ICMP if tcp.icmp is not None:
            said = _PROHIBITED.get(_key(tcp.icmp)) or _UNREACHABLE.get(_key(tcp.icmp)) or "unreachable"
            return f"{where}: ICMP {said} (type {tcp.icmp.type}, code {tcp.icmp.code}) from {tcp.icmp.sender}"
        case _:
            return f"{where}: {tcp.error or tcp.outcome.value}"


def _key(icmp: IcmpError) -> tuple[int, int]:
    return (icmp.type, icmp.code)


def _explain(ctx: Context, probe: ManagerProbe, tcp: TcpProbe, seen: Evidence) -> tuple[Cause, str]:
    port = f"tcp/{probe.port}"
    local = local_rule(ctx, probe)
    if local is not None:
        return local, f"{port} to {probe.given}: this host's own firewall drops it"
    match tcp.outcome:
        case TcpOutcome.RESET:
            return _refused(probe, seen), f"{probe.given} refuses {port}: nobody listens there"
        case TcpOutcome.ICMP if tcp.icmp is not None and _key(tcp.icmp) in _PROHIBITED:
            by = "it" if tcp.icmp.sender == probe.address else f"{tcp.icmp.sender}, on the way,"
            return _rejected(
                ctx, probe, tcp.icmp, seen
            ), f"{port} to {probe.given} is rejected: {by} answers with a prohibition"
        case TcpOutcome.ICMP if tcp.icmp is not None:
            said = _UNREACHABLE.get(_key(tcp.icmp), "unreachable")
            return _no_route(
                tcp.icmp.sender, probe, seen, Confidence.LIKELY
            ), f"{tcp.icmp.sender} says of {probe.given}: {said}"
        case TcpOutcome.NO_ROUTE:
            return _local_path(ctx, probe, seen)
        case TcpOutcome.LOCAL_DENIED:
            return (
                _no_route(ctx.host, probe, seen, Confidence.LIKELY),
                f"this host's own kernel refuses to send to {probe.given}: {tcp.error}",
            )
        case _:
            return _silent(
                ctx, probe, seen
            ), f"{port} to {probe.given} gets no answer at all: something drops it silently"


# --- this host ---


def local_rule(ctx: Context, probe: ManagerProbe) -> Cause | None:
    """The local rule that loses the SYN or its answer: proven by its counter, else likely by a plain reading."""
    for moved in ctx.observed.moved if ctx.observed is not None else ():
        if (moved.address, moved.port) == (probe.address, probe.port):
            return _local_cause(ctx, probe, moved.rule, Confidence.PROVEN, moved.packets)
    rules = (ctx.facts.firewall.value or {}).get(HOST, ())
    reading = read_plainly(rules, packet_to(probe))
    if reading.outcome in (Outcome.DROP, Outcome.REJECT) and reading.rule is not None:
        return _local_cause(ctx, probe, reading.rule, Confidence.LIKELY, None)
    return None


def packet_to(probe: ManagerProbe) -> Packet:
    """The SYN to a manager, as this host's OUTPUT sees it."""
    route = probe.route
    return Packet(
        direction=Direction.OUT,
        protocol="tcp",
        family=6 if ":" in probe.address else 4,
        source=route.source if route else "",
        destination=probe.address,
        destination_port=probe.port,
        device=route.device if route else "",
    )


def _local_cause(
    ctx: Context, probe: ManagerProbe, rule: FirewallRule, confidence: Confidence, packets: int | None
) -> Cause:
    counted = f"; its counter moved by {packets}, once for every SYN that was sent" if packets is not None else ""
    seen = Evidence("rule", f"{rule.place()} ({rule.backend.value}): {rule.text}{counted}", rule.as_object())
    inbound = rule.chain.startswith(("INPUT", "PREROUTING"))
    packet = packet_to(probe)
    if inbound:
        # What is lost is the manager's answer.
        packet = Packet(
            direction=Direction.IN,
            protocol="tcp",
            family=packet.family,
            source=probe.address,
            source_port=probe.port,
            device=packet.device,
        )
    return cause(
        "firewall.policy" if rule.number is None else "firewall.rule",
        host=ctx.host,
        object=rule.as_object(),
        confidence=confidence,
        explanation=(
            f"This host's own {rule.place()} {'loses the answers of' if inbound else 'drops what it sends to'} the manager"
            f" on tcp/{probe.port}."
        ),
        evidence=(seen,),
        affects=("swarm join",),
        remedy=(accept_before(rule, packet, host=ctx.host, persist=persist_commands(ctx.facts.identity.value)),),
    )


def _local_path(ctx: Context, probe: ManagerProbe, seen: Evidence) -> tuple[Cause, str]:
    route = probe.route
    if route is not None and route.absent is None:
        next_hop = route.gateway or probe.address
        found = cause(
            "underlay.neighbour",
            host=ctx.host,
            object={"kind": "neighbour", "address": next_hop, "device": route.device},
            confidence=Confidence.LIKELY,
            explanation=(
                f"{next_hop} does not answer ARP (or neighbour discovery) on {route.device}: it is down, on another"
                " network, or its link is cut."
            ),
            evidence=(seen,),
            affects=("swarm join",),
        )
        return found, f"{probe.given} cannot be reached: {next_hop} does not answer on {route.device}"
    return _no_route(ctx.host, probe, seen, Confidence.PROVEN), f"this host has no route to {probe.given}"


def _no_route(host: str, probe: ManagerProbe, seen: Evidence, confidence: Confidence) -> Cause:
    route = probe.route
    evidence = [seen]
    if route is not None and route.absent is not None:
        evidence.append(Evidence("route", f"ip route get {probe.address}: {route.absent.text}", {}))
    return cause(
        "underlay.no-route",
        host=host,
        object={"kind": "route", "destination": probe.address},
        confidence=confidence,
        evidence=tuple(evidence),
        affects=("swarm join",),
        remedy=(
            Remedy(
                host=host,
                summary="see which route (or its lack) decides, then add the right one",
                commands=(f"ip route get {probe.address}", "ip route show table all"),
                risk=Risk.NONE,
            ),
        ),
    )


# --- the other side ---


def _refused(probe: ManagerProbe, seen: Evidence) -> Cause:
    return cause(
        "swarm.not-manager",
        host=probe.given,
        object={"kind": "socket", "address": probe.address, "port": probe.port, "protocol": "tcp"},
        confidence=Confidence.LIKELY,
        explanation=(
            f"{probe.address} answers tcp/{probe.port} with a RST: nobody listens there. It is a worker, the managers use"
            " another port or listen on another address, or its engine is down. (A filter that rejects with tcp-reset"
            " looks the same from here.)"
        ),
        evidence=(seen,),
        remedy=(
            Remedy(
                host=probe.given,
                summary="see where the managers of this swarm are, and name one of those",
                commands=("docker info --format '{{json .Swarm.RemoteManagers}}'",),
                risk=Risk.NONE,
            ),
        ),
    )


def _source(ctx: Context, probe: ManagerProbe) -> str:
    if probe.tcp is not None and probe.tcp.source:
        return probe.tcp.source
    return probe.route.source if probe.route is not None and probe.route.source else next(iter(ctx.own_addresses()), "")


def _opening(ctx: Context, probe: ManagerProbe, host: str) -> Remedy:
    source, tool = _source(ctx, probe), "ip6tables" if ":" in probe.address else "iptables"
    match = f"INPUT {'-s ' + source + ' ' if source else ''}-p tcp --dport {probe.port} -j ACCEPT"
    return Remedy(
        host=host,
        summary="let this host in, before the rule that stops it ('netdiag verify swarm' there names that rule)",
        commands=(f"{tool} -I {match}",),
        undo=(f"{tool} -D {match}",),
    )


def _rejected(ctx: Context, probe: ManagerProbe, icmp: IcmpError, seen: Evidence) -> Cause:
    host = probe.given if icmp.sender == probe.address else icmp.sender
    return cause(
        "firewall.rule",
        host=host,
        object={
            "kind": "rule",
            "known": False,
            "hook": "input" if icmp.sender == probe.address else "forward",
            "reject_with": _PROHIBITED[_key(icmp)],
            "protocol": "tcp",
            "port": probe.port,
        },
        confidence=Confidence.LIKELY,
        explanation=(
            f'{icmp.sender} answers with ICMP "{_PROHIBITED[_key(icmp)]}", which for a TCP connection only a packet filter'
            f" sends: a REJECT rule there stops tcp/{probe.port}. Which rule it is can be seen on that host only."
        ),
        evidence=(seen,),
        affects=("swarm join",),
        remedy=(_opening(ctx, probe, host),) if icmp.sender == probe.address else (),
    )


def _silent(ctx: Context, probe: ManagerProbe, seen: Evidence) -> Cause:
    alive = probe.sizes is not None and probe.sizes.control_answered
    echo = Evidence(
        "probe", f"ICMP echo to {probe.address}: {'answered' if alive else 'no answer'}", {"answered": alive}
    )
    explanation = (
        f"{probe.address} answers ping, so it is up and the path works; only tcp/{probe.port} gets no answer. A filter"
        " drops it silently: most often the firewall of the manager itself, else a security group or a firewall between."
        if alive
        else f"Nothing comes back from {probe.address}, neither to tcp/{probe.port} nor to ping: a filter drops both, or the"
        " host is down or has another address."
    )
    return cause(
        "underlay.filtered",
        host=None,
        object={
            "kind": "segment",
            "from": ctx.host,
            "to": probe.given,
            "protocol": "tcp",
            "port": probe.port,
        },
        confidence=Confidence.LIKELY if alive else Confidence.POSSIBLE,
        explanation=explanation,
        evidence=(seen, echo),
        affects=("swarm join",),
        remedy=(_opening(ctx, probe, probe.given),) if alive else (),
    )


def _next(ctx: Context, probe: ManagerProbe, found: Cause) -> list[Step]:
    if found.code not in ("firewall.rule", "underlay.filtered", "swarm.not-manager") or found.host == ctx.host:
        return []
    source = _source(ctx, probe)
    return [
        Step(
            host=probe.given,
            command=f"netdiag verify swarm --peer {source}" if source else "netdiag verify swarm",
            why=f"names the rule on that host which stops tcp/{probe.port} from here",
        )
    ]
