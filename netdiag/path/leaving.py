"""Why nothing leaves a host toward an address, or goes to somebody else there: its route, its device, its next hop."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.facts import HOST, Facts, Link, Neighbour, Route
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk
from netdiag.shell import shell_text


class NextHop(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's kernel and its network say of the way to an address.

    Attributes:
        host: The host, as the operator calls it.
        target: The address that is sent to.
        route: The kernel's choice; absent where it has none.
        refusing: The route that refuses the address, where there is one.
        asleep: A device that is switched off and has an address in the target's network.
        link: The route's device.
        entry: The next hop's entry, as it was when the diagnosis began.
        unanswered: The kernel has asked for the next hop, and has had no answer.
        asked: Whether the network could be asked as well, who has the next hop's address.
        macs: Who answered.
    """

    host: str
    target: str
    route: RouteChoice
    refusing: Route | None = None
    asleep: Link | None = None
    link: Link | None = None
    entry: Neighbour | None = None
    unanswered: bool = False
    asked: bool = False
    macs: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Of the next hop."""
        return self.route.gateway or self.target


def leaving_cause(hop: NextHop) -> Cause | None:
    """Why nothing leaves; None where route, device and next hop are as they should be."""
    if hop.route.absent is not None:
        if hop.asleep is not None and hop.refusing is None:
            return _link_down(hop.host, hop.target, hop.asleep, Confidence.LIKELY)
        return _no_route(hop)
    if hop.link is not None and (not hop.link.up or hop.link.operstate in ("down", "lowerlayerdown")):
        return _link_down(hop.host, hop.target, hop.link, Confidence.PROVEN)
    if hop.unanswered and not hop.macs:
        return unanswered_cause(hop)
    return None


def pinned_cause(hop: NextHop, known: Sequence[str]) -> Cause | None:
    """The cause where the next hop's hardware address was set by hand and another one answers for it.

    Args:
        hop: What is known of the next hop.
        known: Hardware addresses of the machine that should have the address; empty where it takes no part.
    """
    entry = hop.entry
    if entry is None or "permanent" not in entry.states or not hop.macs or entry.mac in (*hop.macs, *known):
        return None
    right = next((mac for mac in hop.macs if mac in known), hop.macs[0])
    tool = ["ip", "neigh"]
    return cause(
        "underlay.neighbour",
        host=hop.host,
        object={
            "kind": "neighbour",
            "address": entry.address,
            "device": entry.device,
            "mac": entry.mac,
            "expected": right,
        },
        confidence=Confidence.PROVEN,
        explanation=(
            f"The link address of {entry.address} on {entry.device} of {hop.host} was set by hand to {entry.mac}, and"
            f" {right} answers for that address: what {hop.host} sends there goes to nobody who has it."
        ),
        evidence=(
            Evidence("neighbour", f"{entry.address} dev {entry.device} lladdr {entry.mac} PERMANENT"),
            Evidence("probe", f"asked by ARP who has {entry.address}: {', '.join(hop.macs)}"),
        ),
        remedy=(
            Remedy(
                host=hop.host,
                summary="let the kernel ask for it",
                commands=(shell_text([*tool, "del", entry.address, "dev", entry.device]),),
                undo=(
                    shell_text(
                        [*tool, "replace", entry.address, "lladdr", entry.mac, "dev", entry.device, "nud", "permanent"]
                    ),
                ),
            ),
        ),
    )


def duplicate_cause(
    hop: NextHop, owner: str, known: Sequence[str], *, router_mac: str = "", elsewhere: Sequence[str] = ()
) -> Cause | None:
    """The cause where the address of a host that takes part is answered for by another machine as well.

    Two answers of one machine are no two machines: a host with two cards in one network answers from both. And a router
    with proxy ARP answers for everybody, from the hardware address that this host has for its gateway.

    Args:
        hop: What is known of the next hop, which is the host itself.
        owner: The host that has the address.
        known: All hardware addresses of that host.
        router_mac: Of the asking host's gateway; empty where it has none in this network.
        elsewhere: Others that take part and have the address too.
    """
    foreign = [mac for mac in hop.macs if mac not in known and mac != router_mac]
    own = [mac for mac in hop.macs if mac in known]
    if not foreign or not own or hop.route.gateway:
        return None
    text = (
        f"asked by ARP on {hop.route.device} of {hop.host}, {hop.target} is answered for by {own[0]} ({owner}) and by"
        f" {', '.join(foreign)}"
    )
    return cause(
        "underlay.duplicate-address",
        host=None,
        object={
            "kind": "address",
            "address": hop.target,
            "device": hop.route.device,
            "macs": [own[0], *foreign],
            "owner": owner,
            "others": [*elsewhere] or foreign,
        },
        confidence=Confidence.PROVEN,
        explanation=(
            f"{text[:1].upper()}{text[1:]}, which is no device of {owner}: two machines have the address, and what is sent"
            " to it comes to one or the other."
        ),
        evidence=(Evidence("probe", text, {"macs": list(hop.macs)}),),
    )


def receiver_down_cause(host: str, facts: Facts, device: str) -> Cause | None:
    """The cause where the card by which packets should come to a host is down; None where it is up or not known."""
    link = link_of(facts, device)
    if link is None or (link.up and link.operstate not in ("down", "lowerlayerdown")):
        return None
    return _link_down(host, "the other host", link, Confidence.PROVEN)


def macs_of(facts: Facts) -> tuple[str, ...]:
    """The hardware addresses of all devices of a host, in every namespace."""
    return tuple({link.mac for links in (facts.links.value or {}).values() for link in links if link.mac})


def entry_of(facts: Facts, address: str, device: str) -> Neighbour | None:
    """The host's own entry of a neighbour."""
    rows = (facts.neighbours.value or {}).get(HOST, ())
    return next((row for row in rows if (row.address, row.device) == (address, device)), None)


def link_of(facts: Facts, device: str) -> Link | None:
    """A device of the host's own namespace."""
    return next((link for link in (facts.links.value or {}).get(HOST, ()) if link.name == device), None)


def _no_route(hop: NextHop) -> Cause:
    refusing, said = hop.refusing, hop.route.absent.text if hop.route.absent is not None else ""
    seen = Evidence("route", said)
    if refusing is None:
        return cause(
            "underlay.no-route",
            host=hop.host,
            object={"kind": "route", "destination": hop.target},
            confidence=Confidence.PROVEN,
            explanation=f"{hop.host} has no route to {hop.target}: nothing leaves it.",
            evidence=(seen,),
            remedy=(
                Remedy(
                    host=hop.host,
                    summary="see which route (or its lack) decides, then add the right one",
                    commands=(shell_text(["ip", "route", "get", hop.target]), "ip route show table all"),
                    risk=Risk.NONE,
                ),
            ),
        )
    words = [refusing.type, refusing.destination, *(("metric", str(refusing.metric)) if refusing.metric else ())]
    tool = ["ip", "-6", "route"] if ":" in refusing.destination else ["ip", "route"]
    return cause(
        "underlay.no-route",
        host=hop.host,
        object={"kind": "route", "destination": refusing.destination, "type": refusing.type, "table": "main"},
        confidence=Confidence.PROVEN,
        explanation=(
            f"The route {' '.join(words)} of the main table of {hop.host} is the most specific one for {hop.target}, and it"
            " gives no way: nothing leaves."
        ),
        evidence=(seen, Evidence("route", " ".join(words))),
        remedy=(
            Remedy(
                host=hop.host,
                summary="take that route away (look first who set it: a routing daemon sets it again)",
                commands=(shell_text([*tool, "del", *words]),),
                undo=(shell_text([*tool, "add", *words]),),
            ),
        ),
    )


def _link_down(host: str, target: str, link: Link, confidence: Confidence) -> Cause:
    state = f"{link.name}: {'up' if link.up else 'switched off'}, {link.operstate or 'state not known'}"
    on = ["ip", "link", "set", "dev", link.name]
    remedy = Remedy(
        host=host,
        summary=f"switch {link.name} on (routes that it lost with its gateway do not come back by that alone)",
        commands=(shell_text([*on, "up"]),),
        undo=(shell_text([*on, "down"]),),
    )
    return cause(
        "underlay.link-down",
        host=host,
        object={"kind": "device", "name": link.name},
        confidence=confidence,
        explanation=f"{link.name} of {host}, which leads to {target}, is down ({state}).",
        evidence=(Evidence("device", state),),
        remedy=() if link.up else (remedy,),
    )


def unanswered_cause(hop: NextHop) -> Cause:
    """The cause: nobody answers for the next hop's address."""
    asked = f"; asked once more, nobody answers on {hop.route.device}" if hop.asked else ""
    text = f"{hop.host} asks who has {hop.address} and gets no answer{asked}"
    return cause(
        "underlay.neighbour",
        host=hop.host,
        object={"kind": "neighbour", "address": hop.address, "device": hop.route.device},
        confidence=Confidence.PROVEN if hop.asked else Confidence.LIKELY,
        explanation=f"{text}: it is down, on another network, or its link is cut.",
        evidence=(Evidence("neighbour", text),),
    )
