"""Whether a foreign VXLAN device has taken an overlay network's number and port, so that the engine has none."""

from __future__ import annotations

from netdiag.causes import cause
from netdiag.model.engine import Network
from netdiag.model.facts import HOST, Facts
from netdiag.model.path import End, Way
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk
from netdiag.path.ways import Host
from netdiag.shell import shell_text


def vni_cause(way: Way, host: Host, end: End, network: Network | None) -> Cause | None:
    """The cause where a host's overlay has no VXLAN device and another namespace has one of its number and port.

    A second device of that number is no conflict as long as the overlay has its own: it was made in another stack.

    Args:
        way: The way.
        host: Where the flow was lost, next to the overlay's VXLAN device.
        end: The container on that host.
        network: The overlay network, as that host's engine knows it.
    """
    if network is None or not network.vnis:
        return None
    own = f"overlay:{network.name}"
    links = host.facts.links.value or {}
    if own not in links or any(link.vxlan is not None and link.vxlan.vni in network.vnis for link in links[own]):
        return None
    for namespace, rows in links.items():
        for link in rows:
            if namespace == own or link.vxlan is None or link.vxlan.port != way.vxlan_port:
                continue
            if link.vxlan.vni in network.vnis:
                vni = link.vxlan.vni
                inside = _inside(host.facts, namespace)
                again = [
                    "ip",
                    "link",
                    "add",
                    link.name,
                    "type",
                    "vxlan",
                    "id",
                    str(vni),
                    "dstport",
                    str(link.vxlan.port),
                ]
                where = "its own namespace" if namespace == HOST else namespace
                return cause(
                    "overlay.vni-conflict",
                    host=host.name,
                    object={
                        "kind": "device",
                        "name": link.name,
                        "namespace": namespace,
                        "vni": vni,
                        "port": link.vxlan.port,
                        "network": network.name,
                    },
                    confidence=Confidence.PROVEN,
                    explanation=(
                        f"{link.name} in {where} of {host.name} has VNI {vni} on udp/{link.vxlan.port}, which is the number"
                        f" of the overlay network {network.name}; {own} has no VXLAN device of its own there."
                    ),
                    evidence=(
                        Evidence("device", f"{link.name} in {namespace}: vxlan id {vni} dstport {link.vxlan.port}"),
                        Evidence("device", f"{own}: no VXLAN device"),
                    ),
                    remedy=(
                        Remedy(
                            host=host.name,
                            summary="delete the foreign device, and let the engine make its own",
                            commands=(
                                shell_text([*inside, "ip", "link", "del", link.name]),
                                shell_text(["docker", "restart", end.container]),
                            ),
                            undo=(shell_text([*inside, *again]),),
                            risk=Risk.DISRUPTIVE,
                        ),
                    ),
                )
    return None


def _inside(facts: Facts, namespace: str) -> list[str]:
    found = (facts.namespaces.value or {}).get(namespace) if namespace != HOST else None
    return ["nsenter", f"--net={found.path}", "--"] if found is not None else []
