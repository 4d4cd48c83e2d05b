"""Two containers of an overlay network with one address, as the engines of all hosts that take part know them; pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.engine import Network
from netdiag.model.facts import HOST
from netdiag.model.found import Found
from netdiag.model.path import End, PathKind, Side, Sight, Stage, Way
from netdiag.model.report import Cause, Confidence, Evidence, State, Subject
from netdiag.path.ends import address_of
from netdiag.path.entries import mac_from_address
from netdiag.path.verdict import sight_evidence
from netdiag.path.vteps import own_addresses
from netdiag.path.ways import Host


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who has the address: ``seen`` where its engine says that a container of this endpoint runs."""

    endpoint: str
    name: str
    where: str
    seen: bool


def duplicate_cause(end: End, network: Network, hosts: Sequence[Host]) -> Cause | None:
    """The cause where an end's address is that of several containers of its network; None where it is one's alone.

    A record of gossip counts only where its host takes no part: of one that does, its own engine says who runs.

    Args:
        end: The end.
        network: Its network, as one of the hosts knows it.
        hosts: All hosts that take part.
    """
    claims: dict[str, _Claim] = {}
    for host in hosts:
        for each in _running(host, end.address, network):
            claims.setdefault(each.endpoint, each)
    own = {row.cidr.partition("/")[0] for host in hosts for row in (host.facts.addresses.value or {}).get(HOST, ())}
    for host in hosts:
        engine = host.facts.engine.value
        known = next(
            (each for each in (engine.networks if engine is not None else ()) if each.id == network.id), network
        )
        for task in known.tasks:
            if address_of(task) == end.address and task.endpoint_id and task.host_address not in own:
                one = _Claim(endpoint=task.endpoint_id, name=task.name, where=task.host_address, seen=False)
                claims.setdefault(task.endpoint_id, one)
    if len(claims) < 2:
        return None
    rows = sorted(claims.values(), key=lambda each: (not each.seen, each.where, each.name))
    names = [f"{each.name} on {each.where}" for each in rows]
    return cause(
        "overlay.duplicate-endpoint",
        host=None,
        object={"kind": "address", "address": end.address, "network": network.name, "others": names},
        confidence=Confidence.PROVEN if all(each.seen for each in rows) else Confidence.LIKELY,
        explanation=(
            f"{end.address} of the network {network.name} is the address of {' and of '.join(names)}: what is sent to it"
            " ends in one or the other."
        ),
        evidence=tuple(
            Evidence("engine", f"{each.name} on {each.where}: {end.address}, endpoint {each.endpoint[:12]}")
            for each in rows
        ),
    )


def answering_cause(way: Way, sights: Sequence[Sight], source: Host, destination: Host) -> Cause | None:
    """The cause where what was sent into an overlay was answered, and not by the container that has the address.

    That it was answered from behind another host, which the request went to, is what tells a second container from an
    entry that is only wrong: nobody would answer there. An endpoint's link address is made from its IP address, so that
    the tables of two of them look alike.

    Args:
        way: The way in an overlay.
        sights: What was seen of the attempt.
        source: The host where it begins.
        destination: The host of the container that was meant.
    """
    seen = [sight for sight in sights if sight.watched]
    if way.kind not in (PathKind.OVERLAY, PathKind.OVERLAY_LOCAL) or not seen or seen[-1].there or seen[-1].back:
        return None
    if seen[-1].place.stage is not Stage.END or not any(sight.back for sight in seen):
        return None
    behind = _answering(way, seen, source)
    if not behind or behind in own_addresses(destination.facts):
        return None
    end = way.destination
    meant, other = end.label(), f"a container behind {behind}"
    return cause(
        "overlay.duplicate-endpoint",
        host=None,
        object={"kind": "address", "address": end.address, "network": end.network, "others": [meant, other]},
        confidence=Confidence.PROVEN,
        explanation=(
            f"{end.address} of the network {end.network} is the address of {meant} and of {other}, which answered: nothing"
            f" of it came to {seen[-1].place.where}."
        ),
        evidence=(Evidence("capture", f"went to {behind} and was answered; {seen[-1].place.where} saw nothing"),),
    )


def _answering(way: Way, seen: Sequence[Sight], source: Host) -> str:
    """The host behind which the answer came from: by the outer packets, else by the table that the request met."""
    nics = [sight for sight in seen if (sight.place.side, sight.place.stage) == (Side.SOURCE, Stage.NIC)]
    if nics:
        both = [each for each in nics[0].outer_targets if each in nics[0].back_outer_sources]
        return both[0] if both else ""
    rows = (source.facts.fdb.value or {}).get(f"overlay:{way.destination.network}", ())
    mac = mac_from_address(way.destination.address)
    return next((row.vtep for row in rows if row.mac == mac and row.vtep), "")


def another_endpoint_found(way: Way, one: Cause, sights: Sequence[Sight]) -> Found:
    """An answer that is another container's."""
    return Found(
        check="path.another",
        state=State.FAIL,
        subject=Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None),
        summary=f"somebody else answers on {way.target}: {one.explanation}",
        evidence=sight_evidence(way, sights),
        cause=one,
    )


def twice_found(way: Way, one: Cause) -> Found:
    """An address that two containers have, although this flow was answered by one of them."""
    return Found(
        check="path.entries",
        state=State.WARN,
        subject=Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None),
        summary=f"it works now, and may reach another container: {one.explanation}",
        evidence=one.evidence,
        cause=one,
    )


def _running(host: Host, address: str, network: Network) -> list[_Claim]:
    engine = host.facts.engine.value
    return [
        _Claim(endpoint=attached.endpoint_id, name=container.name, where=host.name, seen=True)
        for container in (engine.containers if engine is not None else ())
        if container.running
        for attached in container.networks
        if attached.network_id == network.id and attached.endpoint_id and attached.address.partition("/")[0] == address
    ]
