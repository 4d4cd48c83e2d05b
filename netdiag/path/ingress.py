"""Ports that a swarm publishes on every node: the sandbox of the routing mesh stands for the container."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from netdiag.model.facts import HOST, Facts
from netdiag.model.path import End
from netdiag.path.routed import Attachment
from netdiag.path.ways import pair_of

SANDBOX = "ingress"
"""The namespace of the routing mesh on a host."""


class Ingress(msgspec.Struct, frozen=True, kw_only=True):
    """A port that the routing mesh publishes: ``port`` on every node leads to ``inner_port`` of the service's tasks."""

    service: str
    port: int
    inner_port: int
    protocol: str


def ingress_service(facts: Iterable[Facts], port: int | None, protocol: str) -> Ingress | None:
    """The service whose port the routing mesh publishes, as a manager among these hosts knows it."""
    for one in facts:
        engine = one.engine.value
        for service in engine.cluster.services if engine is not None and engine.cluster is not None else ():
            for text in service.published_ports:
                if text.endswith(" host"):
                    continue
                outside, _, inside = text.partition("->")
                inner, _, kind = inside.partition("/")
                if outside.isdigit() and inner.isdigit() and (int(outside), kind) == (port, protocol):
                    return Ingress(service=service.name, port=int(outside), inner_port=int(inner), protocol=protocol)
    return None


def ingress_attachment(facts: Facts) -> Attachment | None:
    """Where the routing mesh's sandbox hangs on a host's own stack; None where there is none."""
    links = (facts.links.value or {}).get(HOST, ())
    for row in (facts.addresses.value or {}).get(SANDBOX, ()):
        address = row.cidr.partition("/")[0]
        pair = pair_of(facts, End(host="", namespace=SANDBOX, address=address, device=row.device))
        if pair is None or pair[0] != HOST:
            continue
        bridge = next((link.name for link in links if link.index == pair[1].master), "")
        own = (facts.addresses.value or {}).get(HOST, ())
        gateway = next((each.cidr.partition("/")[0] for each in own if each.device == bridge), "")
        return Attachment(device=row.device, address=address, bridge=bridge, gateway=gateway)
    return None
