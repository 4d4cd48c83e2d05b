"""What the kernel must offer, and the sysctls that a swarm depends on."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.model.engine import SwarmState
from netdiag.model.facts import HOST, AbsenceKind, Feature, FeatureState
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy
from netdiag.shell import shell_text
from netdiag.swarm.engine_rules import vni_match_module
from netdiag.swarm.engine_version import parse_engine_version


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel feature, what stops working without it, and which questions that makes a no."""

    feature: str
    without: str
    breaks: tuple[Need, ...] = ()
    encrypted_only: bool = False
    virtual_addresses_only: bool = False
    affects: tuple[str, ...] = ("overlay data",)


_NAMES_AND_TRAFFIC = (Need.NAMES, Need.TRAFFIC)

# moby contrib/check-config.sh, "Generally Necessary" and "Network Drivers"; ip_vs stands there as optional, and yet
# virtual IPs and the routing mesh consist of it.
REQUIREMENTS = (
    Requirement(feature="vxlan", without="overlay networks cannot exist", breaks=_NAMES_AND_TRAFFIC),
    Requirement(feature="bridge", without="neither overlay nor local networks can exist", breaks=_NAMES_AND_TRAFFIC),
    Requirement(feature="veth", without="containers cannot be attached to networks", breaks=_NAMES_AND_TRAFFIC),
    Requirement(
        feature="ip_vs",
        without="virtual IPs of services and the routing mesh do not work (tasks.NAME and mode=host do)",
        breaks=(Need.TRAFFIC,),
        virtual_addresses_only=True,
        affects=("virtual IPs", "published ports"),
    ),
    Requirement(
        feature="xt_addrtype",
        without="the engine cannot publish ports",
        breaks=(Need.TRAFFIC,),
        affects=("published ports",),
    ),
    Requirement(feature="xt_conntrack", without="the engine cannot write its rules", breaks=(Need.TRAFFIC,)),
    Requirement(feature="xt_mark", without="the routing mesh and encrypted networks do not work"),
    Requirement(feature="br_netfilter", without="the engine cannot isolate bridges from each other"),
    Requirement(
        feature="esp4", without="encrypted networks carry nothing", breaks=(Need.TRAFFIC,), encrypted_only=True
    ),
    Requirement(feature="gcm", without="encrypted networks carry nothing", breaks=(Need.TRAFFIC,), encrypted_only=True),
    Requirement(
        feature="xfrm_user", without="encrypted networks are refused", breaks=(Need.TRAFFIC,), encrypted_only=True
    ),
)


def _features(ctx: Context) -> Iterator[Found]:
    check = "kernel.features"
    kernel = ctx.facts.kernel.value
    if kernel is None:
        return
    engine = ctx.facts.engine.value
    encrypted = engine is not None and any(network.encrypted for network in engine.networks)
    present, unsure, unused = [], [], []
    for need in (*REQUIREMENTS, *_vni_match(ctx)):
        feature = kernel.features.get(need.feature)
        if feature is None or feature.state is FeatureState.UNKNOWN:
            if encrypted or not need.encrypted_only:
                unsure.append(need)
        elif feature.state is FeatureState.MISSING:
            if need.encrypted_only and not encrypted:
                unused.append(feature)
                continue
            idle = need.virtual_addresses_only and not _uses_virtual_addresses(ctx)
            yield _missing(ctx, check, need, feature, breaks=() if idle else need.breaks)
        else:
            present.append(need.feature)
    if unused:
        yield ctx.problem(
            check,
            f"the kernel has no {', '.join(feature.name for feature in unused)}: encrypted networks would carry nothing"
            " here (none is known)",
            evidence=[Evidence("kernel", feature.evidence, {"feature": feature.name}) for feature in unused],
        )
    if unsure:
        names = ", ".join(need.feature for need in unsure)
        yield ctx.unknown(
            check,
            f"whether the kernel has {names}",
            "it shows no configuration and no list of modules",
            leaves={question for need in unsure for question in need.breaks},
        )
    if present:
        yield ctx.ok(check, f"the kernel has {', '.join(present)}")


def _vni_match(ctx: Context) -> tuple[Requirement, ...]:
    """The netfilter match by which this engine's rules for encrypted networks know a VNI."""
    engine = ctx.facts.engine.value
    version = parse_engine_version(engine.version) if engine is not None else None
    if version is None:
        return ()
    return (
        Requirement(
            feature=vni_match_module(version),
            without="this engine cannot write its rules for encrypted networks",
            breaks=(Need.TRAFFIC,),
            encrypted_only=True,
        ),
    )


def _uses_virtual_addresses(ctx: Context) -> bool:
    """Whether services go through IPVS here: known on a member, assumed of a swarm that is still to be joined."""
    engine = ctx.facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE:
        return True
    if engine.cluster is not None:
        return any(service.endpoint_mode == "vip" or service.published_ports for service in engine.cluster.services)
    return any(network.virtual_addresses for network in engine.networks)


def _missing(ctx: Context, check: str, need: Requirement, feature: Feature, breaks: tuple[Need, ...]) -> Found:
    seen = Evidence("kernel", feature.evidence, {"feature": need.feature})
    identity = ctx.facts.identity.value
    release = identity.kernel_release if identity else ""
    return ctx.problem(
        check,
        f"the kernel has no {need.feature}: {need.without}",
        breaks=breaks,
        evidence=[seen],
        cause=cause(
            "kernel.missing-feature",
            host=ctx.host,
            object={"kind": "feature", "name": need.feature, "kernel": release},
            confidence=Confidence.PROVEN,
            explanation=f"The running kernel {release} has no {need.feature}, so {need.without}.",
            evidence=(seen,),
            affects=need.affects,
        )
        if breaks
        else None,
    )


def _forwarding(ctx: Context) -> Iterator[Found]:
    check = "sysctl.ip-forward"
    value = (ctx.facts.sysctls.value or {}).get(HOST, {}).get("net.ipv4.ip_forward")
    if value is None:
        yield ctx.unknown(
            check, "whether this host forwards IPv4", "net.ipv4.ip_forward could not be read", leaves=(Need.TRAFFIC,)
        )
    elif value == "1":
        yield ctx.ok(check, "IPv4 forwarding is on")
    elif ctx.facts.engine.value is None:
        absent = ctx.facts.engine.absent
        if absent is not None and absent.kind is AbsenceKind.MISSING:
            yield ctx.ok(check, "IPv4 forwarding is off; the engine switches it on when it starts")
        else:
            yield ctx.unknown(
                check,
                "IPv4 forwarding is off; whether the engine should have switched it on",
                "the engine could not be asked whether it runs",
                leaves=(Need.TRAFFIC,),
            )
    else:
        yield ctx.problem(
            check,
            "IPv4 forwarding is off although the engine runs: containers reach nothing outside, published ports go nowhere",
            breaks=(Need.TRAFFIC,),
            cause=cause(
                "sysctl.ip-forward",
                host=ctx.host,
                object={"kind": "sysctl", "key": "net.ipv4.ip_forward", "value": value, "wanted": "1"},
                confidence=Confidence.LIKELY,
                remedy=(
                    Remedy(
                        host=ctx.host,
                        summary="switch forwarding on",
                        commands=("sysctl -w net.ipv4.ip_forward=1",),
                        undo=(shell_text(["sysctl", "-w", f"net.ipv4.ip_forward={value}"]),),
                        persist=("echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/90-docker-forward.conf",),
                    ),
                ),
            ),
        )


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0


def _reverse_path(ctx: Context) -> Iterator[Found]:
    check = "sysctl.rp-filter"
    values = (ctx.facts.sysctls.value or {}).get(HOST, {})
    everywhere = values.get("net.ipv4.conf.all.rp_filter")
    uplinks = {probe.route.device for probe in ctx.managers if probe.route is not None and probe.route.device}
    defaults = {
        hop.device
        for route in (ctx.facts.routes.value or {}).get(HOST, ())
        if route.destination == "0.0.0.0/0"
        for hop in route.next_hops
    }
    if everywhere is None or not everywhere.isdigit():
        yield ctx.unknown(
            check, "whether reverse-path filtering is strict", "net.ipv4.conf.all.rp_filter could not be read"
        )
        return
    # The kernel uses the larger of the two (Documentation/networking/ip-sysctl.rst): 1 strict, 2 loose.
    strict = sorted(
        device
        for device in uplinks | defaults
        if device
        and max(int(everywhere), _number(values.get(f"net.ipv4.conf.{device.replace('.', '/')}.rp_filter"))) == 1
    )
    if strict and len(uplinks | defaults) > 1:
        yield ctx.problem(
            check,
            f"strict reverse-path filtering on {', '.join(strict)}, and this host has several uplinks: what comes in by the"
            " other one is dropped",
            evidence=[Evidence("sysctl", f"net.ipv4.conf.all.rp_filter={everywhere}", {"devices": strict})],
        )
    else:
        yield ctx.ok(
            check, "reverse-path filtering cannot hit the swarm's traffic: there is one uplink, or it is not strict"
        )


CHECKS = (
    Check(
        id="kernel.features",
        title="The kernel has what overlay networks need",
        explains=(
            "Read from the kernel's configuration, its list of built-in parts and its modules; nothing is loaded to find"
            " out. Docker calls ip_vs optional, but virtual IPs and the routing mesh consist of it."
        ),
        remedy="Install the package with the kernel's extra modules, or a kernel that has the feature.",
        evaluate=_features,
        needs=("kernel",),
        leaves=_NAMES_AND_TRAFFIC,
    ),
    Check(
        id="sysctl.ip-forward",
        title="IPv4 forwarding is on",
        explains="The engine switches it on when it starts; a later 'sysctl --system' or a hardening script switches it off.",
        remedy="sysctl -w net.ipv4.ip_forward=1, and keep it in /etc/sysctl.d.",
        evaluate=_forwarding,
        needs=("sysctls",),
        leaves=(Need.TRAFFIC,),
    ),
    Check(
        id="sysctl.rp-filter",
        title="Reverse-path filtering fits the uplinks",
        explains="In strict mode the kernel drops packets that come in on another device than the one it would answer by.",
        remedy="Use loose mode (2) on hosts with several uplinks.",
        evaluate=_reverse_path,
        needs=("sysctls", "routes"),
    ),
)
