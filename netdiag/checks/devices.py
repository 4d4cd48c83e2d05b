"""Devices that may lose packets before or below the firewall: foreign VXLANs, XDP, tc, NIC offloads, hypervisors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.model.facts import HOST
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Step
from netdiag.shell import shell_text
from netdiag.swarm.ports import DEFAULT_DATA_PATH_PORT

_OVERLAY_DEVICE = re.compile(r"vxlan[0-9]+$|vx-[0-9a-f]{6}-")
"""The overlay driver's own devices, in a sandbox that no network was found for (a VNI counts in the host's namespace)."""

FIRST_VNI = 4096
"""The VNI of the ingress network; the next networks get the next numbers (moby ``drivers/overlay/ovmanager``)."""


def _vxlan(ctx: Context) -> Iterator[Found]:
    check = "overlay.vni"
    if ctx.facts.links.value is None:
        return
    port, clean = ctx.data_path_port, True
    for namespace, links in ctx.facts.links.value.items():
        if namespace.startswith("overlay:"):
            continue
        for link in links:
            if (
                link.vxlan is None
                or link.vxlan.port != port
                or (namespace != HOST and _OVERLAY_DEVICE.match(link.name))
            ):
                continue
            clean = False
            # Metadata mode takes every VNI of the port to itself: another device's socket cannot be bound beside it.
            takes_all = link.vxlan.external and namespace == HOST
            collides = takes_all or link.vxlan.vni >= FIRST_VNI
            certain = takes_all or link.vxlan.vni == FIRST_VNI or link.vxlan.vni in _known_vnis(ctx)
            what = "it takes the whole port" if takes_all else f"with VNI {link.vxlan.vni}"
            where = link.name if namespace == HOST else f"{link.name} in {namespace}"
            yield ctx.problem(
                check,
                f"{where} is a VXLAN device on udp/{port} too, {what}"
                + (": an overlay network there cannot be made on this host" if collides else ""),
                breaks=(Need.TRAFFIC,) if certain and namespace == HOST else (),
                evidence=[
                    Evidence("device", f"{where}: vxlan id {link.vxlan.vni} dstport {port}", {"namespace": namespace})
                ],
                cause=cause(
                    "calico.swarm-vxlan" if link.name == "vxlan.calico" else "overlay.vni-conflict",
                    host=ctx.host,
                    object={
                        "kind": "device",
                        "name": link.name,
                        "namespace": namespace,
                        "vni": link.vxlan.vni,
                        "port": port,
                    },
                    confidence=Confidence.LIKELY if certain and namespace == HOST else Confidence.POSSIBLE,
                )
                if collides
                else None,
            )
    if clean:
        yield ctx.ok(check, f"no foreign VXLAN device uses udp/{port}")


def _known_vnis(ctx: Context) -> set[int]:
    engine = ctx.facts.engine.value
    return {vni for network in engine.networks for vni in network.vnis} if engine is not None else set()


def _uplinks(ctx: Context) -> set[str]:
    """The devices that lead to other hosts, with the ports of a bond or bridge among them."""
    found = set(ctx.uplinks())
    masters = {link.index for link in ctx.host_links() if link.name in found}
    return found | {link.name for link in ctx.host_links() if link.master in masters and not link.kind}


def _hooks(ctx: Context) -> Iterator[Found]:
    check = "host.early-drop"
    uplinks, clean = _uplinks(ctx), True
    for link in ctx.host_links():
        if link.name in uplinks and link.xdp_mode:
            clean = False
            yield ctx.problem(
                check,
                f"{link.name} carries an XDP program ({link.xdp_mode}): it can drop what neither the firewall nor tcpdump sees",
                evidence=[Evidence("device", f"{link.name}: xdp program {link.xdp_program_id}", {})],
                next_steps=[
                    Step(host=ctx.host, command="bpftool net show", why=f"names the XDP program on {link.name}")
                ],
            )
    for one in (ctx.facts.tc.value or {}).get(HOST, ()):
        if one.device in uplinks and one.parent == "ingress" and one.kind not in ("", "ingress", "clsact"):
            clean = False
            yield ctx.problem(
                check,
                f"{one.device} has a tc filter on ingress ({one.kind}): it can drop before the firewall",
                evidence=[Evidence("device", f"{one.device}: {one.kind} {one.detail}".strip(), {})],
                next_steps=[
                    Step(
                        host=ctx.host,
                        command=shell_text(["tc", "-s", "filter", "show", "dev", one.device, "ingress"]),
                        why="shows its drops",
                    )
                ],
            )
    if not clean or ctx.facts.links.value is None:
        return
    if not uplinks:
        yield ctx.unknown(
            check, "whether something drops before the firewall", "which device leads to the others is not known"
        )
    elif ctx.facts.tc.value is None:
        absent = ctx.facts.tc.absent
        yield ctx.unknown(
            check,
            "no XDP program is on the uplinks; whether a tc filter is",
            f"tc: {absent.text if absent is not None else 'not collected'}",
        )
    else:
        yield ctx.ok(check, f"nothing on {', '.join(sorted(uplinks))} can drop before the firewall")


def _offload(ctx: Context) -> Iterator[Found]:
    check = "underlay.checksum-offload"
    uplinks = _uplinks(ctx)
    for nic in ctx.facts.nics.value or ():
        if nic.name in uplinks and nic.driver == "vmxnet3" and nic.offloads.get("tx-checksum-ip-generic"):
            setting = ["ethtool", "-K", nic.name, "tx-checksum-ip-generic"]
            yield ctx.problem(
                check,
                f"{nic.name} (vmxnet3) computes checksums itself, which is known to break VXLAN: ping works, TCP hangs",
                evidence=[Evidence("device", f"{nic.name}: tx-checksum-ip-generic: on", {"driver": nic.driver})],
                cause=cause(
                    "underlay.checksum-offload",
                    host=ctx.host,
                    object={"kind": "device", "name": nic.name, "feature": "tx-checksum-ip-generic"},
                    confidence=Confidence.POSSIBLE,
                    remedy=(
                        Remedy(
                            host=ctx.host,
                            summary="have the kernel compute them",
                            commands=(shell_text([*setting, "off"]),),
                            undo=(shell_text([*setting, "on"]),),
                        ),
                    ),
                ),
            )
            return
    if ctx.facts.nics.value is not None:
        yield ctx.ok(check, "no NIC with a known checksum defect")


def _platform(ctx: Context) -> Iterator[Found]:
    check = "host.platform"
    identity = ctx.facts.identity.value
    if identity is None:
        return
    if "vmware" in identity.dmi_vendor.lower() and ctx.data_path_port == DEFAULT_DATA_PATH_PORT:
        yield ctx.problem(
            check,
            "this is a VMware machine and the data path uses udp/4789: NSX takes that port for itself and swallows it",
            evidence=[Evidence("platform", f"{identity.dmi_vendor} {identity.dmi_product}", {})],
            next_steps=[
                Step(
                    host="a manager",
                    command="docker swarm init --data-path-port 7789",
                    why="only if NSX is in use; the port is chosen when a swarm is made",
                )
            ],
        )
    else:
        yield ctx.ok(check, "the platform is not known to take udp/4789 for itself")


CHECKS = (
    Check(
        id="overlay.vni",
        title="No foreign VXLAN device is in the way",
        explains=(
            "Two VXLAN devices of one VNI on one port cannot exist in the same network stack. Swarm counts from 4096;"
            " Calico's VXLAN mode uses 4096 on 4789, too."
        ),
        remedy="Give one of the two another port or VNI (Calico: VXLANPort, VXLANVNI).",
        evaluate=_vxlan,
        needs=("links",),
        leaves=(Need.TRAFFIC,),
    ),
    Check(
        id="host.early-drop",
        title="Nothing drops before the firewall",
        explains="XDP programs act before tcpdump and the firewall see a packet, tc ingress filters after tcpdump.",
        remedy="Look at the program's own counters; detach it to test.",
        evaluate=_hooks,
        needs=("links",),
    ),
    Check(
        id="underlay.checksum-offload",
        title="The NIC's checksums are sound",
        explains="vmxnet3 with tx-checksum-ip-generic sends wrong inner checksums in VXLAN (moby#41775): ping passes, TCP does not.",
        remedy="ethtool -K NIC tx-checksum-ip-generic off, and keep it over a reboot.",
        evaluate=_offload,
        needs=("nics",),
    ),
    Check(
        id="host.platform",
        title="The platform leaves udp/4789 alone",
        explains="VMware NSX uses udp/4789 for its own VXLAN and drops the guests' (moby#33416, moby#38102).",
        remedy="Make the swarm with --data-path-port.",
        evaluate=_platform,
        needs=("identity",),
    ),
)
