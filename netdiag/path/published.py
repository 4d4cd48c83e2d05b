"""A port that is published on another address than the one that is called; pure."""

from __future__ import annotations

import ipaddress

from netdiag.causes import cause
from netdiag.model.facts import Facts
from netdiag.model.report import Cause, Confidence, Evidence
from netdiag.path.names import is_loopback
from netdiag.path.routed import Published, published_ports


def published_elsewhere(facts: Facts, port: int | None, protocol: str, address: str) -> Published | None:
    """What a host publishes at a port, though not on the address that is called; None where it does so on that one."""
    found = [each for each in published_ports(facts) if (each.port, each.protocol) == (port, protocol)]
    version = ipaddress.ip_address(address).version
    # Of a port that is published on all addresses, nothing but the family can be missing.
    if any(each.address in ("", address) for each in found):
        return None
    return next((each for each in found if ipaddress.ip_address(each.address).version == version), None)


def elsewhere_cause(host: str, published: Published, called: str, *, confidence: Confidence) -> Cause:
    """Published, and not where it is called.

    Args:
        host: Whose engine publishes it.
        published: The port.
        called: The address that was called, or who called.
        confidence: How sure it is that this is why.
    """
    name, port = published.container.name, f"{published.protocol}/{published.port}"
    local = is_loopback(published.address)
    mapping = f"{published.address}:{published.port}->{published.inner_port}/{published.protocol}"
    reach = f"which {host} alone reaches" if local else f"and {called} was called"
    return cause(
        "container.loopback-listener" if local else "container.no-listener",
        host=host,
        object={
            "kind": "container",
            "name": name,
            "id": published.container.id,
            "address": published.address,
            "port": published.port,
            "protocol": published.protocol,
            "inner_port": published.inner_port,
        },
        confidence=confidence,
        explanation=f"{host} publishes {port} of {name} on {published.address} only, {reach}.",
        evidence=(Evidence("engine", f"{name} on {host}: {mapping}"),),
    )
