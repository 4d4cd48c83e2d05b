"""Why a TCP connection to a manager does not come about: from what came back to a cause."""

from __future__ import annotations

import msgspec

from netdiag.causes import cause
from netdiag.checks.context import Context, same_address
from netdiag.checks.flows import packet_to, verdict_of
from netdiag.checks.local_path import local_path, no_route, pinned_neighbour, refusing_route, wrongly_pinned
from netdiag.checks.own_rules import is_own, local_rule
from netdiag.checks.two_sided_paths import cause_toward
from netdiag.firewall.plain import Outcome
from netdiag.model.found import Found
from netdiag.model.icmp import HOST_UNREACHABLE, PROHIBITED, UNREACHABLE, IcmpError
from netdiag.model.probes import ManagerProbe, TcpOutcome, TcpProbe, TlsOutcome
from netdiag.model.report import Cause, Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.shell import shell_text

_JOIN = (Need.JOIN,)


def unreachable(ctx: Context, check: str, probe: ManagerProbe) -> Found:
    """The finding for a connection that failed."""
    tcp = probe.tcp
    assert tcp is not None  # noqa: S101 - called for a failed connection only
    subject = Subject(host=ctx.host, peer=probe.given)
    seen = Evidence("probe", _seen(probe, tcp), {"outcome": tcp.outcome.value, "waited_s": tcp.waited_s})
    found, summary = _from_both_sides(ctx, probe) or _explain(ctx, probe, tcp, seen)
    through = _another_answers(ctx, probe)
    if through and found is not None:
        found = msgspec.structs.replace(found, affects=(f"joining through {probe.given}",))
    return ctx.problem(
        check,
        f"{summary}; {through} answers, and one manager is enough to join" if through else summary,
        breaks=() if through else _JOIN,
        subject=subject,
        evidence=[seen],
        cause=found,
        next_steps=[] if found is not None and found.confidence is Confidence.PROVEN else _next(ctx, probe, found),
    )


def _from_both_sides(ctx: Context, probe: ManagerProbe) -> tuple[Cause, str] | None:
    found = cause_toward(ctx, probe.address, probe.port)
    if found is None:
        return None
    where = f"on {found.host}" if found.host else "between the two"
    return found, f"tcp/{probe.port} to {probe.given} does not connect: what stops it is {where}"


def _another_answers(ctx: Context, probe: ManagerProbe) -> str:
    """Another manager that was named and speaks TLS; what is wrong with that one, its own findings say."""
    for other in ctx.managers:
        if other.given != probe.given and other.tls is not None and other.tls.outcome is TlsOutcome.HANDSHAKE:
            return other.given
    return ""


def _seen(probe: ManagerProbe, tcp: TcpProbe) -> str:
    where = f"SYN to {probe.address}:{probe.port}"
    match tcp.outcome:
        case TcpOutcome.SILENT:
            return f"{where}: nothing came back within {tcp.waited_s:.1f} s"
        case TcpOutcome.RESET:
            return f"{where}: RST"
        case TcpOutcome.ICMP if tcp.icmp is not None:
            return (
                f"{where}: ICMP {tcp.icmp.said()} (type {tcp.icmp.type}, code {tcp.icmp.code}) from {tcp.icmp.sender}"
            )
        case _:
            return f"{where}: {tcp.error or tcp.outcome.value}"


def _prohibited(ctx: Context, probe: ManagerProbe, icmp: IcmpError) -> bool:
    # No host says of itself that it cannot be reached; a REJECT rule there does (--reject-with icmp-host-unreachable).
    by_end = same_address(icmp.sender, probe.address) or is_own(ctx, probe, icmp.sender)
    return icmp.key in PROHIBITED or (by_end and icmp.key in UNREACHABLE)


def _explain(ctx: Context, probe: ManagerProbe, tcp: TcpProbe, seen: Evidence) -> tuple[Cause | None, str]:
    port = f"tcp/{probe.port}"
    local = local_rule(ctx, probe)
    if local is not None:
        return local, f"{port} to {probe.given}: this host's own firewall stops it"
    match tcp.outcome:
        case TcpOutcome.RESET:
            if any(same_address(probe.address, own) for own in ctx.local_addresses()):
                return _own_address(ctx, probe, seen), f"{probe.given} is this host itself, and no manager runs here"
            return _refused(probe, seen), f"{probe.given} refuses {port}: nobody listens there, as far as can be told"
        case TcpOutcome.ICMP if tcp.icmp is not None and _prohibited(ctx, probe, tcp.icmp):
            by = f"{tcp.icmp.sender}, on the way,"
            if same_address(tcp.icmp.sender, probe.address):
                by = "it"
            elif is_own(ctx, probe, tcp.icmp.sender):
                by = "this host itself"
            return (
                _rejected(ctx, probe, tcp.icmp, seen),
                f"{port} to {probe.given} is rejected: {by} answers with a prohibition",
            )
        case TcpOutcome.ICMP if tcp.icmp is not None:
            return _beyond(probe, tcp.icmp, seen), f"{tcp.icmp.sender} says of {probe.given}: {tcp.icmp.said()}"
        case TcpOutcome.NO_ROUTE:
            return local_path(ctx, probe, seen)
        case TcpOutcome.LOCAL_DENIED:
            # A route of the type "prohibit" does this, or a security module or BPF program, for which no rule is found.
            refused_here = probe.route is not None and probe.route.absent is not None
            return (
                no_route(ctx.host, probe, seen, Confidence.PROVEN, refusing_route(ctx, probe.address))
                if refused_here
                else None,
                f"this host's own kernel refuses to send to {probe.given}: {tcp.error or 'permission denied'}",
            )
        case _:
            found = _silent(ctx, probe, seen)
            why = (
                "its next hop was set by hand" if found.code == "underlay.neighbour" else "something drops it silently"
            )
            return found, f"{port} to {probe.given} gets no answer at all: {why}"


# --- the other side ---


def _beyond(probe: ManagerProbe, icmp: IcmpError, seen: Evidence) -> Cause:
    """A router on the way says that it cannot reach the manager."""
    if icmp.key not in HOST_UNREACHABLE:
        return no_route(icmp.sender, probe, seen, Confidence.LIKELY)
    return cause(
        "underlay.neighbour",
        host=icmp.sender,
        object={"kind": "neighbour", "address": probe.address, "device": ""},
        confidence=Confidence.LIKELY,
        explanation=(
            f"The router {icmp.sender} says that the host {probe.address} is unreachable: it is down or has another address"
            " (the router gets no answer to ARP or neighbour discovery), or a route there says unreachable."
        ),
        evidence=(seen,),
        affects=("swarm join",),
    )


def _refused(probe: ManagerProbe, seen: Evidence) -> Cause:
    return cause(
        "swarm.not-manager",
        host=probe.given,
        object={"kind": "socket", "address": probe.address, "port": probe.port, "protocol": "tcp"},
        confidence=Confidence.LIKELY,
        explanation=(
            f"{probe.address} answers tcp/{probe.port} with a RST: nobody listens there. It is a worker, the managers use"
            " another port or listen on another address, or its engine is down or waits to be unlocked. (A filter that rejects with tcp-reset"
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


def _own_address(ctx: Context, probe: ManagerProbe, seen: Evidence) -> Cause:
    return cause(
        "swarm.not-manager",
        host=ctx.host,
        object={"kind": "socket", "address": probe.address, "port": probe.port, "protocol": "tcp"},
        confidence=Confidence.PROVEN,
        explanation=(
            f"{probe.address} is an address of this host, and nobody listens on tcp/{probe.port} here. A node joins through"
            " another host, one that is a manager already: give that one's address."
        ),
        evidence=(seen, Evidence("address", f"{probe.address} on {_device_of(ctx, probe.address)}", {})),
    )


def _device_of(ctx: Context, address: str) -> str:
    return next(device for own, device in ctx.local_addresses().items() if same_address(own, address))


def _source(ctx: Context, probe: ManagerProbe) -> str:
    if probe.tcp is not None and probe.tcp.source:
        return probe.tcp.source
    return probe.route.source if probe.route is not None and probe.route.source else next(iter(ctx.own_addresses()), "")


def _opening(ctx: Context, probe: ManagerProbe, host: str) -> Remedy:
    source, tool = _source(ctx, probe), "ip6tables" if ":" in probe.address else "iptables"
    scope = ["-s", source] if source else []
    match = ["INPUT", *scope, "-p", "tcp", "--dport", str(probe.port), "-j", "ACCEPT"]
    return Remedy(
        host=host,
        summary="let this host in, before the rule that stops it ('netdiag verify swarm' there names that rule)",
        commands=(shell_text([tool, "-I", *match]),),
        undo=(shell_text([tool, "-D", *match]),),
    )


def _rejected(ctx: Context, probe: ManagerProbe, icmp: IcmpError, seen: Evidence) -> Cause:
    at_end, own = same_address(icmp.sender, probe.address), is_own(ctx, probe, icmp.sender)
    host = probe.given if at_end else (ctx.host if own else icmp.sender)
    where = "on that host" if at_end or not own else "here, as root"
    return cause(
        "firewall.rule",
        host=host,
        object={
            "kind": "rule",
            "known": False,
            "hook": "input" if at_end else ("output" if own else "forward"),
            "reject_with": icmp.said(),
            "protocol": "tcp",
            "port": probe.port,
        },
        confidence=Confidence.LIKELY,
        explanation=(
            f'{icmp.sender} answers with ICMP "{icmp.said()}", which for a TCP connection only a packet filter sends'
            f"{'' if at_end or own else ' (or a router with a route that prohibits)'}: a REJECT rule there stops"
            f" tcp/{probe.port}. Which rule it is can be seen {where} only."
        ),
        evidence=(seen,),
        affects=("swarm join",),
        remedy=_openings(ctx, probe, icmp, host) if at_end else (),
    )


def _openings(ctx: Context, probe: ManagerProbe, icmp: IcmpError, host: str) -> tuple[Remedy, ...]:
    opening = _opening(ctx, probe, host)
    if icmp.said() not in ("administratively prohibited", "host prohibited"):
        return (opening,)
    # firewalld rejects like this (admin-prohibited over nftables, host-prohibited over iptables), from a table of its own
    # or in front of rules that its next reload throws away: no iptables rule opens what it rejects.
    source, version = _source(ctx, probe), "ipv6" if ":" in probe.address else "ipv4"
    scope = f' source address="{source}"' if source else ""
    rule = f'rule family="{version}"{scope} port port="{probe.port}" protocol="tcp" accept'
    return (
        Remedy(
            host=host,
            summary="if firewalld runs there ('firewall-cmd --state'): let this host in through it",
            commands=(shell_text(["firewall-cmd", f"--add-rich-rule={rule}"]),),
            undo=(shell_text(["firewall-cmd", f"--remove-rich-rule={rule}"]),),
            persist=(shell_text(["firewall-cmd", "--permanent", f"--add-rich-rule={rule}"]),),
        ),
        msgspec.structs.replace(opening, summary=f"if no firewalld runs there: {opening.summary}"),
    )


def _silent(ctx: Context, probe: ManagerProbe, seen: Evidence) -> Cause:
    pinned = pinned_neighbour(ctx, probe)
    if pinned is not None and not (probe.sizes is not None and probe.sizes.control_answered):
        return wrongly_pinned(ctx, pinned, seen)
    asked = probe.sizes is not None
    alive = probe.sizes is not None and probe.sizes.control_answered
    said = ("answered" if alive else "no answer") if asked else "not tried"
    echo = Evidence("probe", f"ICMP echo to {probe.address}: {said}", {"answered": alive} if asked else {})
    if alive:
        explanation = (
            f"{probe.address} answers ping, so it is up and the path works; only tcp/{probe.port} gets no answer. A filter"
            " drops it silently: most often the firewall of the manager itself, else a security group or a firewall between."
        )
    else:
        neither = f", neither to tcp/{probe.port} nor to ping" if asked else f" to tcp/{probe.port}"
        explanation = f"Nothing comes back from {probe.address}{neither}: a filter drops it, or the host is down or has another address."
    verdict = verdict_of(ctx, packet_to(probe))
    if verdict.outcome is Outcome.ACCEPT and verdict.trace is not None:
        explanation += " This host's own filters let it out (a packet was traced)."
    elif verdict.outcome is Outcome.UNKNOWN or ctx.facts.firewall.value is None:
        explanation += " This host's own rules could not be read to the end, so they are not ruled out."
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


def _next(ctx: Context, probe: ManagerProbe, found: Cause | None) -> list[Step]:
    if found is None:
        return [Step(host=ctx.host, command="bpftool cgroup tree", why="shows programs that may refuse to connect")]
    if found.code not in ("firewall.rule", "underlay.filtered", "swarm.not-manager") or found.host == ctx.host:
        return []
    source = _source(ctx, probe)
    why = f"names the rule on that host which stops tcp/{probe.port} from here, if one does"
    if found.code == "swarm.not-manager":
        why = (
            f"says whether an engine and a manager run on that host, and whether a rule there refuses tcp/{probe.port}"
        )
    return [
        Step(
            host=probe.given,
            command=shell_text(["netdiag", "verify", "swarm", *(("--peer", source) if source else ())]),
            why=why,
        )
    ]
