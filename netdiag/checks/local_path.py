"""Why nothing leaves this host toward a manager: its device, its neighbour, its routes."""

from __future__ import annotations

import ipaddress

from netdiag.causes import cause
from netdiag.checks.context import Context, same_address
from netdiag.model.facts import HOST, Link, Neighbour, Route
from netdiag.model.probes import ManagerProbe
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk
from netdiag.shell import shell_text

_MAIN_TABLE = 254


def local_path(ctx: Context, probe: ManagerProbe, seen: Evidence) -> tuple[Cause, str]:
    """What keeps a packet from leaving this host, and in one line."""
    route = probe.route
    if route is None:
        return no_route(ctx.host, probe, seen, Confidence.LIKELY), f"this host does not reach {probe.given}"
    if route.absent is not None:
        asleep = device_asleep(ctx, probe.address)
        refusing = refusing_route(ctx, probe.address)
        if refusing is None and asleep is not None:
            return (
                _link_down(ctx, asleep, seen, Confidence.LIKELY),
                f"this host has no route to {probe.given}: {asleep.name}, on whose network it is, is switched off",
            )
        return no_route(
            ctx.host, probe, seen, Confidence.PROVEN, refusing
        ), f"this host has no route to {probe.given}" + (
            f": the route {refusing.type} {refusing.destination} says so" if refusing else ""
        )
    link = next((one for one in ctx.host_links() if one.name == route.device), None)
    if link is not None and (not link.up or link.operstate in ("down", "lowerlayerdown")):
        return (
            _link_down(ctx, link, seen, Confidence.PROVEN),
            f"{probe.given} cannot be reached: {link.name} is down",
        )
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


def _link_down(ctx: Context, link: Link, seen: Evidence, confidence: Confidence) -> Cause:
    state = Evidence("device", f"{link.name}: {'up' if link.up else 'down'}, {link.operstate}", {})
    on = Remedy(
        host=ctx.host,
        summary=f"switch {link.name} on (routes that it lost with its gateway do not come back by that alone)",
        commands=(shell_text(["ip", "link", "set", "dev", link.name, "up"]),),
        undo=(shell_text(["ip", "link", "set", "dev", link.name, "down"]),),
    )
    return cause(
        "underlay.link-down",
        host=ctx.host,
        object={"kind": "device", "name": link.name},
        confidence=confidence,
        evidence=(seen, state),
        affects=("swarm join",),
        remedy=() if link.up else (on,),
    )


def device_asleep(ctx: Context, address: str) -> Link | None:
    """The device that is switched off and has an address in the network of this one; its route went with it."""
    links = {link.name: link for link in ctx.host_links() if not link.up}
    for row in (ctx.facts.addresses.value or {}).get(HOST, ()):
        if row.device in links and _lies_in(address, row.cidr):
            return links[row.device]
    return None


def refusing_route(ctx: Context, address: str) -> Route | None:
    """The route of the main table that refuses an address, where it is the most specific one there."""
    rows = [one for one in (ctx.facts.routes.value or {}).get(HOST, ()) if one.table == _MAIN_TABLE]
    fitting = [one for one in rows if _lies_in(address, one.destination)]
    best = max(fitting, key=lambda one: (int(one.destination.rpartition("/")[2]), -one.metric), default=None)
    return best if best is not None and best.type in ("blackhole", "unreachable", "prohibit") else None


def _lies_in(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def no_route(
    host: str, probe: ManagerProbe, seen: Evidence, confidence: Confidence, refusing: Route | None = None
) -> Cause:
    """A destination without a route, here or on a router; with the route that refuses it, where that is known."""
    route = probe.route
    if refusing is not None:
        words = [refusing.type, refusing.destination, *(("metric", str(refusing.metric)) if refusing.metric else ())]
        text = " ".join(words)
        tool = ["ip", "-6", "route"] if ":" in refusing.destination else ["ip", "route"]
        return cause(
            "underlay.no-route",
            host=host,
            object={"kind": "route", "destination": refusing.destination, "type": refusing.type, "table": "main"},
            confidence=confidence,
            explanation=(
                f"The route {text} of the main table is the most specific one for {probe.address}, and it gives no way:"
                " nothing leaves this host."
            ),
            evidence=(seen, Evidence("route", text, {})),
            affects=("swarm join",),
            remedy=(
                Remedy(
                    host=host,
                    summary="take that route away (look first who set it: a routing daemon sets it again)",
                    commands=(shell_text([*tool, "del", *words]),),
                    undo=(shell_text([*tool, "add", *words]),),
                ),
            ),
        )
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
                commands=(shell_text(["ip", "route", "get", probe.address]), "ip route show table all"),
                risk=Risk.NONE,
            ),
        ),
    )


def pinned_neighbour(ctx: Context, probe: ManagerProbe) -> Neighbour | None:
    """The entry of the next hop, where somebody set its link address by hand: the kernel then never asks for it."""
    if probe.route is None:
        return None
    hop = probe.route.gateway or probe.address
    for entry in (ctx.facts.neighbours.value or {}).get(HOST, ()):
        if same_address(entry.address, hop) and entry.device == probe.route.device and "permanent" in entry.states:
            return entry
    return None


def wrongly_pinned(ctx: Context, entry: Neighbour, seen: Evidence) -> Cause:
    """The cause for a next hop whose link address was set by hand, when nothing comes back from it."""
    pinned = [entry.address, "lladdr", entry.mac, "dev", entry.device, "nud", "permanent"]
    return cause(
        "underlay.neighbour",
        host=ctx.host,
        object={"kind": "neighbour", "address": entry.address, "device": entry.device, "mac": entry.mac},
        confidence=Confidence.POSSIBLE,
        explanation=(
            f"The link address of {entry.address} on {entry.device} was set by hand to {entry.mac}, so this host never asks"
            " who has it. If that is another machine's, everything that is sent there is lost."
        ),
        evidence=(seen, Evidence("neighbour", f"{entry.address} dev {entry.device} lladdr {entry.mac} PERMANENT", {})),
        affects=("swarm join",),
        remedy=(
            Remedy(
                host=ctx.host,
                summary="let the kernel ask for it",
                commands=(shell_text(["ip", "neigh", "del", entry.address, "dev", entry.device]),),
                undo=(shell_text(["ip", "neigh", "replace", *pinned]),),
            ),
        ),
    )
