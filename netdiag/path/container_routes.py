"""The routes of a container's own namespace: which one a flow needs, and that it is not there or leads elsewhere; pure."""

from __future__ import annotations

import ipaddress

import msgspec

from netdiag.causes import cause
from netdiag.model.engine import Container
from netdiag.model.facts import Facts
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Cause, Confidence, Evidence, Remedy
from netdiag.path.routed import attachments
from netdiag.path.ways import Host, namespace_of
from netdiag.shell import shell_text


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A route as the engine makes it: to the subnet of a device, or by default to the gateway of one."""

    destination: str
    device: str
    gateway: str = ""

    def words(self) -> tuple[str, ...]:
        """As ip(8) takes it."""
        via = ("via", self.gateway) if self.gateway else ()
        return (self.destination, *via, "dev", self.device)


def wanted_route(facts: Facts, container: Container, address: str) -> Wanted | None:
    """By which route a container should reach an address; None where its engine tells of none."""
    namespace = namespace_of(facts, container)
    target = ipaddress.ip_address(address)
    for row in (facts.addresses.value or {}).get(namespace, ()):
        own = ipaddress.ip_interface(row.cidr)
        if target in own.network and own.network.prefixlen < own.max_prefixlen and row.device != "lo":
            return Wanted(destination=str(own.network), device=row.device)
    family = [
        each for each in attachments(facts, container) if each.gateway and (":" in each.gateway) == (":" in address)
    ]
    # Of several the engine chooses one, and which it has chosen is not told.
    if len(family) != 1:
        return None
    return Wanted(destination="default", device=family[0].device, gateway=family[0].gateway)


def route_cause(
    host: Host, namespace: str, address: str, route: RouteChoice, *, through: str = "", answers: bool = False
) -> Cause | None:
    """What is wrong with a container's route to an address; None where it is as it should be.

    Args:
        host: The container's.
        namespace: The container's.
        address: Where it should send.
        route: What its kernel says.
        through: The device by which it should go: that of the way, or by which came what is to be answered; empty where
            any will do.
        answers: It is an answer.
    """
    container = _container_of(host.facts, namespace)
    if container is None:
        return None
    wanted = wanted_route(host.facts, container, address)
    if route.absent is not None:
        said, sure = "there is none", Confidence.PROVEN
    elif through and route.device != through:
        by = f" by {route.gateway}" if route.gateway else ""
        said = f"it leads out of {route.device}{by}"
        # Where the engine says nothing, it may be meant so, and be lost on that other way.
        sure = Confidence.PROVEN if wanted is not None and wanted.device == through else Confidence.LIKELY
    else:
        return None
    found = (host.facts.namespaces.value or {}).get(namespace)
    inside = ("nsenter", f"--net={found.path}", "--") if found is not None else ()
    missing = wanted is not None and route.absent is not None
    lost = wanted.words() if wanted is not None else ()
    # One that leads elsewhere may be more exact than the engine's: an exact one is set beside both.
    change = ("add", *lost) if missing else ("replace", address, *lost[1:])
    expected = " ".join(lost) or None
    return cause(
        "container.route",
        host=host.name,
        object={
            "kind": "route",
            "namespace": namespace,
            "destination": wanted.destination if missing and wanted is not None else address,
            "address": address,
            "gateway": route.gateway or None,
            "device": route.device or None,
            "expected": expected,
        },
        confidence=sure,
        explanation=(
            f"In {container.name} on {host.name} the route to {address} is looked up: {said}"
            + (f", where its engine makes {expected}." if expected else ".")
            + (f" What it should answer came in by {through}." if answers else "")
        ),
        evidence=(Evidence("route", f"{namespace} of {host.name}: to {address}: {said}"),),
        remedy=(
            Remedy(
                host=host.name,
                summary=f"give {container.name} the route again",
                commands=(shell_text([*inside, "ip", "route", *change]),),
                undo=(shell_text([*inside, "ip", "route", "del", *change[1:]]),),
            ),
        )
        if wanted is not None and wanted.device == (through or wanted.device) and inside
        else (),
    )


def _container_of(facts: Facts, namespace: str) -> Container | None:
    engine = facts.engine.value
    for each in engine.containers if engine is not None else ():
        if each.running and namespace_of(facts, each) == namespace:
            return each
    return None
